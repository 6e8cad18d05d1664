//! Signatures checked on the other cores, in large batches, while the chain is read on.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{sync_channel, SyncSender, TrySendError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{available_parallelism, JoinHandle};

use assent_ledger::keys::{verify_batch, Check};

/// Signatures in a batch: the more, the less each one adds to the sum over all points.
const BATCH: usize = 4096;
/// Batches that wait.
const WAITING: usize = 2;

/// Takes signatures to check; says at the end whether all hold.
pub struct Signatures {
    batch: Vec<Check>,
    queue: SyncSender<Vec<Check>>,
    bad: Arc<AtomicBool>,
    workers: Vec<JoinHandle<()>>,
}

impl Signatures {
    /// One thread for each core but the one that reads; at least one.
    pub fn start() -> Self {
        let (queue, batches) = sync_channel::<Vec<Check>>(WAITING);
        let batches = Arc::new(Mutex::new(batches));
        let bad = Arc::new(AtomicBool::new(false));
        let cores = available_parallelism().map_or(1, usize::from);
        let work = |_| {
            let (batches, bad) = (batches.clone(), bad.clone());
            std::thread::spawn(move || loop {
                let next = batches.lock().unwrap_or_else(PoisonError::into_inner).recv();
                match next {
                    Ok(batch) if !verify_batch(&batch) => bad.store(true, Ordering::Relaxed),
                    Ok(_) => {}
                    Err(_) => return,
                }
            })
        };
        let workers = (1..cores.max(2)).map(work).collect();
        Self { batch: Vec::with_capacity(BATCH), queue, bad, workers }
    }

    /// Takes some. False when one that came before was found not to hold.
    pub fn take(&mut self, checks: &[Check]) -> bool {
        self.batch.extend_from_slice(checks);
        if self.batch.len() >= BATCH {
            self.send();
        }
        !self.bad.load(Ordering::Relaxed)
    }

    fn send(&mut self) {
        let batch = std::mem::replace(&mut self.batch, Vec::with_capacity(BATCH));
        match self.queue.try_send(batch) {
            Ok(()) => {}
            // The workers are behind: this core helps.
            Err(TrySendError::Full(batch)) if verify_batch(&batch) => {}
            // One that does not hold, or no worker is left to say that they hold.
            Err(_) => self.bad.store(true, Ordering::Relaxed),
        }
    }

    /// True when all hold.
    pub fn finish(mut self) -> bool {
        self.send();
        drop(self.queue);
        let ended = self.workers.into_iter().all(|worker| worker.join().is_ok());
        ended && !self.bad.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use assent_ledger::keys::{sign, SigningKey};

    use super::*;

    #[test]
    fn one_bad_signature_among_thousands_is_found() {
        let key = SigningKey::from_bytes(&[7; 32]);
        let public_key = key.verifying_key().to_bytes();
        let check = |n: usize| {
            let message = n.to_be_bytes().to_vec();
            Check { public_key, signature: sign(&key, &message), message }
        };
        for bad in [None, Some(0), Some(BATCH - 1), Some(BATCH), Some(2 * BATCH + 99)] {
            let mut signatures = Signatures::start();
            for n in 0..2 * BATCH + 100 {
                let mut one = check(n);
                one.signature[0] ^= u8::from(bad == Some(n));
                signatures.take(&[one]);
            }
            assert_eq!(signatures.finish(), bad.is_none(), "{bad:?}");
        }
    }
}
