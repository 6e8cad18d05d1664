//! A patient's proof that the holder of a slot's control key asks.
//!
//! ```text
//! proof ─▶ rate ─▶ form ─▶ time ±5 min ─▶ slot's control key signed it? ─▶ nonce unused ─▶ answer
//! ```
//! Whoever can't sign learns nothing: an unknown slot, one without a control key and a bad signature are one answer. Nonces
//! are kept only of proofs that hold, so that nobody else can fill their set.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use assent_ledger::hash::{framed, Context};
use assent_ledger::keys;
use assent_ledger::replacement::{control_key_at, settled};
use assent_proto::ledger::v1::Slot;
use assent_proto::v1::{Answer, ControlProof};

use super::quota::{Bucket, Rate};
use super::{answer, border};
use crate::app::Parts;
use crate::chain::now_ms;
use crate::refusal::{Kind, Refusal};

/// Furthest that a proof's time may be from this node's clock.
const MAX_PROOF_DISTANCE_MS: u64 = 5 * 60 * 1000;
/// How long a nonce is remembered: as long as its proof can count, from the earliest clock to the latest.
const NONCE_LIFE: Duration = Duration::from_secs(11 * 60);
/// Most nonces remembered for each call a second: more than the rate lets through in their life.
const NONCES_PER_CALL_A_SECOND: usize = 800;

/// Nonces of proofs that counted. In memory: a restart forgets them.
struct Nonces {
    most: usize,
    used: BTreeSet<[u8; 48]>,
    order: VecDeque<(Instant, [u8; 48])>,
}

/// What became of a nonce.
#[derive(Debug, PartialEq, Eq)]
enum Nonce {
    New,
    Used,
    Full,
}

impl Nonces {
    fn new(most: usize) -> Self {
        Self { most, used: BTreeSet::new(), order: VecDeque::new() }
    }

    fn take(&mut self, now: Instant, handle: &[u8; 32], nonce: &[u8; 16]) -> Nonce {
        while let Some((_, old)) =
            self.order.front().filter(|(at, _)| now.saturating_duration_since(*at) > NONCE_LIFE)
        {
            self.used.remove(old);
            self.order.pop_front();
        }
        let mut key = [0; 48];
        key[..32].copy_from_slice(handle);
        key[32..].copy_from_slice(nonce);
        if self.used.contains(&key) {
            return Nonce::Used;
        }
        if self.used.len() >= self.most {
            return Nonce::Full;
        }
        self.used.insert(key);
        self.order.push_back((now, key));
        Nonce::New
    }
}

/// What stands between callers without a certificate and this node, asked directly or through another node. Withdrawals have
/// their own bucket: no flood of questions holds up a patient's "no".
pub struct Gate {
    rate: Rate,
    reads: Mutex<Bucket>,
    withdrawals: Mutex<Bucket>,
    nonces: Mutex<Nonces>,
}

impl Gate {
    /// Calls without a certificate that this process takes; reads and withdrawals have as much each.
    pub fn new(rate: Rate) -> Self {
        let now = Instant::now();
        Self {
            rate,
            reads: Mutex::new(Bucket::new(rate, now)),
            withdrawals: Mutex::new(Bucket::new(rate, now)),
            nonces: Mutex::new(Nonces::new(NONCES_PER_CALL_A_SECOND * rate.per_second as usize)),
        }
    }

    fn admit(&self, bucket: &Mutex<Bucket>) -> Result<(), Refusal> {
        lock(bucket).take(self.rate, Instant::now()).map_err(|_| rate_limited(self.rate))
    }

    /// Takes one call's place among the reads and grants.
    pub fn admit_read(&self) -> Result<(), Refusal> {
        self.admit(&self.reads)
    }

    /// Takes one call's place among the withdrawals and cancellations.
    pub fn admit_withdrawal(&self) -> Result<(), Refusal> {
        self.admit(&self.withdrawals)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn rate_limited(rate: Rate) -> Refusal {
    let calls = rate.per_second;
    let message = format!("this node takes {calls} such calls a second: retry in a second");
    Refusal::new(Kind::ResourceExhausted, "RATE_LIMITED", message)
}

/// The one answer to whoever can't sign.
pub fn slot_not_found() -> Refusal {
    Refusal::new(Kind::NotFound, "SLOT_NOT_FOUND", "no such slot, or not yours")
}

/// True when the slot's control key at a block time signed. Costs the same when there is no slot: then nobody's key is tried.
pub fn signed_by_control_key(
    parts: &Parts,
    slot: Option<&Slot>,
    time_ms: u64,
    message: &[u8],
    signature: &[u8; 64],
) -> bool {
    signed_by(slot, time_ms, message, signature, &parts.entry_key().verifying_key().to_bytes())
}

fn signed_by(
    slot: Option<&Slot>,
    time_ms: u64,
    message: &[u8],
    signature: &[u8; 64],
    decoy: &[u8; 32],
) -> bool {
    let key = slot.and_then(|slot| control_key_at(slot, time_ms)).and_then(|key| key.try_into().ok());
    let holds = keys::verify(key.as_ref().unwrap_or(decoy), message, signature);
    holds && key.is_some()
}

/// A patient whose proof holds.
pub struct Proven {
    /// Organization that holds the records.
    pub custodian: String,
    /// The subject's handle there.
    pub handle: [u8; 32],
    /// The slot as it counts at the answer's block time.
    pub slot: Slot,
    /// State of the ledger that the proof was checked against.
    pub answer: Answer,
}

/// Checks a proof for a method against this node's own ledger, and uses up its nonce.
pub fn prove(
    parts: &Parts,
    gate: &Gate,
    method: &str,
    proof: Option<ControlProof>,
) -> Result<Proven, Refusal> {
    gate.admit_read()?;
    let proof = proof.ok_or_else(|| border::malformed("proof", "missing"))?;
    border::organization("proof.custodian", &proof.custodian)?;
    let handle = border::bytes::<32>("proof.handle", &proof.handle)?;
    let nonce = border::bytes::<16>("proof.nonce", &proof.nonce)?;
    let signature = border::bytes::<64>("proof.signature", &proof.signature)?;
    let distance_ms = now_ms().abs_diff(proof.time_ms);
    if distance_ms > MAX_PROOF_DISTANCE_MS {
        let seconds = distance_ms / 1000;
        let message = format!("proof.time_ms is {seconds} s from this node's clock, at most 300 s: set the clock and sign again");
        return Err(
            Refusal::new(Kind::Unauthenticated, "PROOF_OUT_OF_TIME", message).with("field", "proof.time_ms")
        );
    }
    let time = proof.time_ms.to_be_bytes();
    let message = framed(
        Context::PatientRequest,
        parts.chain_id(),
        &[method.as_bytes(), proof.custodian.as_bytes(), &handle, &nonce, &time],
    );
    let view = parts.store.view()?;
    let slot = view.slot(&proof.custodian, &handle)?;
    if !signed_by_control_key(parts, slot.as_ref(), view.tip.time_ms, &message, &signature) {
        return Err(slot_not_found());
    }
    match lock(&gate.nonces).take(Instant::now(), &handle, &nonce) {
        Nonce::New => {}
        Nonce::Used => {
            let message = "this proof was used before: sign again with a fresh nonce";
            return Err(
                Refusal::new(Kind::Unauthenticated, "NONCE_USED", message).with("field", "proof.nonce")
            );
        }
        Nonce::Full => return Err(rate_limited(gate.rate)),
    }
    let slot = settled(slot.ok_or_else(slot_not_found)?, view.tip.time_ms);
    Ok(Proven { custodian: proof.custodian, handle, slot, answer: answer::at(&view.tip) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use assent_ledger::keys::{sign, SigningKey};
    use assent_proto::ledger::v1::KeyReplacement;

    #[test]
    fn a_nonce_counts_once_and_is_forgotten_when_its_proof_is_void() {
        let start = Instant::now();
        let mut nonces = Nonces::new(40_000);
        assert_eq!(nonces.take(start, &[1; 32], &[2; 16]), Nonce::New);
        assert_eq!(nonces.take(start, &[1; 32], &[2; 16]), Nonce::Used);
        assert_eq!(nonces.take(start, &[3; 32], &[2; 16]), Nonce::New);
        let twice = Duration::from_millis(2 * MAX_PROOF_DISTANCE_MS);
        assert_eq!(nonces.take(start + twice, &[1; 32], &[2; 16]), Nonce::Used);
        assert_eq!(nonces.take(start + NONCE_LIFE * 2, &[1; 32], &[2; 16]), Nonce::New);
        assert_eq!((nonces.used.len(), nonces.order.len()), (1, 1));
    }

    #[test]
    fn the_set_of_nonces_is_bounded() {
        let start = Instant::now();
        let mut nonces = Nonces::new(1_000);
        for n in 0..1_000u128 {
            assert_eq!(nonces.take(start, &[0; 32], &n.to_be_bytes()), Nonce::New);
        }
        assert_eq!(nonces.take(start, &[0; 32], &[0xff; 16]), Nonce::Full);
        // What the rate lets through in a nonce's life always fits.
        assert!(NONCES_PER_CALL_A_SECOND as u64 > NONCE_LIFE.as_secs());
    }

    #[test]
    fn only_the_slots_own_key_counts() {
        let (patient, decoy) = (SigningKey::from_bytes(&[1; 32]), SigningKey::from_bytes(&[2; 32]));
        let decoy_key = decoy.verifying_key().to_bytes();
        let slot =
            Slot { control_key: Some(patient.verifying_key().to_bytes().to_vec()), ..Default::default() };
        let (by_patient, by_decoy) = (sign(&patient, b"m"), sign(&decoy, b"m"));
        assert!(signed_by(Some(&slot), 0, b"m", &by_patient, &decoy_key));
        assert!(!signed_by(Some(&slot), 0, b"n", &by_patient, &decoy_key));
        assert!(!signed_by(Some(&slot), 0, b"m", &by_decoy, &decoy_key));
        // Not even the decoy's owner gets at a slot that isn't there, or that has no key.
        assert!(!signed_by(None, 0, b"m", &by_decoy, &decoy_key));
        // A key that waits counts from the block time at which its wait is over, and the one before it until then.
        let waiting = KeyReplacement { control_key: decoy_key.to_vec(), effective_ms: 5, consent_seq: 1 };
        let replaced = Slot { replacement: Some(waiting), ..slot.clone() };
        for (time_ms, old_counts) in [(4, true), (5, false)] {
            let counts = |signature| signed_by(Some(&replaced), time_ms, b"m", signature, &decoy_key);
            assert_eq!((counts(&by_patient), counts(&by_decoy)), (old_counts, !old_counts));
        }
        assert!(!signed_by(Some(&Slot::default()), 0, b"m", &by_decoy, &decoy_key));
    }
}
