//! Gossip of entries: the author forwards each of its entries to every validator and resends until it is committed.
//!
//! One task and one bounded queue per peer, so that a slow peer holds up nobody else.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use assent_ledger::Hash;
use prost::Message;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::chain::mempool::{AdmitError, Admitted};
use crate::chain::{Mempool, Store};
use crate::members::Members;
use crate::peers::{PeerStream, Peers, PeersError, Protocol};

/// Entries that wait for one peer's task.
pub const QUEUE_ENTRIES: usize = 4096;
/// Longest frame of entries.
const MAX_FRAME_BYTES: usize = 1 << 20;
/// A frame is full at this size; one more entry of 64 KiB always fits.
const FULL_FRAME_BYTES: usize = MAX_FRAME_BYTES - (80 << 10);
/// A longer frame takes milliseconds to judge: not on an async worker.
const LONG_FRAME_BYTES: usize = 16 << 10;
/// After a peer took an entry, it gets it again after this long, should it have restarted since.
const RESEND_TAKEN: Duration = Duration::from_secs(3);
/// After a peer refused an entry (its state may lag), or could not be reached.
const RESEND_REFUSED: Duration = Duration::from_millis(300);
const ANSWER_WAIT: Duration = Duration::from_secs(5);

#[derive(Clone, PartialEq, prost::Message)]
struct Batch {
    #[prost(bytes = "vec", repeated, tag = "1")]
    entries: Vec<Vec<u8>>,
}

/// One byte per entry of the batch: 1 when it waits or is committed, 0 when it was refused.
#[derive(Clone, PartialEq, prost::Message)]
struct Taken {
    #[prost(bytes = "vec", tag = "1")]
    taken: Vec<u8>,
}

/// Hands every entry to the tasks of all validators but `own`; a full queue drops it there, and the author's client retries.
/// A validator that is added gets the entries from then on: the others have those before.
pub fn fan_out(
    peers: &Peers,
    members: Members,
    own: String,
    mempool: Mempool,
    mut entries: mpsc::Receiver<(Hash, Vec<u8>)>,
    shutdown: CancellationToken,
) {
    let peers = peers.clone();
    tokio::spawn(async move {
        let mut queues: BTreeMap<String, mpsc::Sender<(Hash, Vec<u8>)>> = BTreeMap::new();
        while let Some((hash, bytes)) = entries.recv().await {
            let validators = members.present().other_validators(&own);
            queues.retain(|organization, _| validators.contains(organization));
            for organization in validators {
                let queue = queues.entry(organization).or_insert_with_key(|organization| {
                    let (tx, rx) = mpsc::channel(QUEUE_ENTRIES);
                    let (peers, mempool) = (peers.clone(), mempool.clone());
                    tokio::spawn(forward(peers, organization.clone(), mempool, rx, shutdown.clone()));
                    tx
                });
                if queue.try_send((hash, bytes.clone())).is_err() {
                    tracing::warn!("a peer's entry queue is full");
                }
            }
        }
    });
}

struct Pending {
    bytes: Vec<u8>,
    due: Instant,
}

async fn forward(
    peers: Peers,
    organization: String,
    mempool: Mempool,
    mut queue: mpsc::Receiver<(Hash, Vec<u8>)>,
    shutdown: CancellationToken,
) {
    let mut pending: BTreeMap<Hash, Pending> = BTreeMap::new();
    let mut stream: Option<PeerStream> = None;
    let mut tick = tokio::time::interval(Duration::from_millis(100));
    loop {
        let first = tokio::select! {
            () = shutdown.cancelled() => return,
            first = queue.recv() => match first { Some(first) => Some(first), None => return },
            _ = tick.tick() => None,
        };
        let mut arrived: Vec<_> = first.into_iter().collect();
        while let Ok(more) = queue.try_recv() {
            arrived.push(more);
        }
        for (hash, bytes) in arrived {
            pending.insert(hash, Pending { bytes, due: Instant::now() });
        }
        pending.retain(|hash, _| mempool.contains(hash));
        while let Some(hashes) = due(&pending) {
            let entries = hashes.iter().filter_map(|h| pending.get(h)).map(|p| p.bytes.clone()).collect();
            let sent = send(&peers, &organization, &mut stream, Batch { entries }).await;
            let taken = sent.unwrap_or_else(|error| {
                tracing::debug!(%organization, %error, "entries not forwarded");
                stream = None;
                Vec::new()
            });
            let reached = !taken.is_empty();
            for (n, hash) in hashes.iter().enumerate() {
                if let Some(entry) = pending.get_mut(hash) {
                    let wait = if taken.get(n) == Some(&1) { RESEND_TAKEN } else { RESEND_REFUSED };
                    entry.due = Instant::now() + wait;
                }
            }
            if !reached {
                break;
            }
        }
    }
}

/// The next frame's worth of entries whose time has come.
fn due(pending: &BTreeMap<Hash, Pending>) -> Option<Vec<Hash>> {
    let now = Instant::now();
    let mut bytes = 0;
    let mut hashes = Vec::new();
    for (hash, entry) in pending.iter().filter(|(_, p)| p.due <= now) {
        bytes += entry.bytes.len() + 8;
        hashes.push(*hash);
        if bytes > FULL_FRAME_BYTES {
            break;
        }
    }
    (!hashes.is_empty()).then_some(hashes)
}

async fn send(
    peers: &Peers,
    organization: &str,
    stream: &mut Option<PeerStream>,
    batch: Batch,
) -> Result<Vec<u8>, PeersError> {
    if stream.is_none() {
        *stream = Some(peers.open(organization, Protocol::Entries).await?);
    }
    let Some(open) = stream.as_mut() else {
        return Ok(Vec::new());
    };
    open.send(&batch.encode_to_vec()).await?;
    let answer = tokio::time::timeout(ANSWER_WAIT, open.recv(MAX_FRAME_BYTES))
        .await
        .map_err(|_| PeersError::Timeout)??;
    let answer = answer.ok_or(PeersError::Closed)?;
    Ok(Taken::decode(answer.as_slice()).unwrap_or_default().taken)
}

/// Takes a peer's entries until it hangs up.
pub async fn serve(mut stream: PeerStream, store: Store, mempool: Mempool, chain_id: String, peer: String) {
    // A quiet author is no dead one: dead links are found by the transport's ping.
    stream.set_idle_timeout(Duration::from_secs(24 * 3600));
    while let Ok(Some(frame)) = stream.recv(MAX_FRAME_BYTES).await {
        let Ok(batch) = Batch::decode(frame.as_slice()) else {
            break;
        };
        let work = || take(&store, &mempool, &chain_id, &peer, &batch.entries);
        let taken = if frame.len() > LONG_FRAME_BYTES { tokio::task::block_in_place(work) } else { work() };
        if stream.send(&Taken { taken }.encode_to_vec()).await.is_err() {
            break;
        }
    }
}

/// One byte per entry.
fn take(store: &Store, mempool: &Mempool, chain_id: &str, peer: &str, entries: &[Vec<u8>]) -> Vec<u8> {
    let entries: Vec<&[u8]> = entries.iter().map(Vec::as_slice).collect();
    let admitted = mempool.admit_all(store, chain_id, &entries);
    let taken = admitted.into_iter().map(|outcome| match outcome {
        Ok((_, Admitted::Waiting | Admitted::Committed)) => 1,
        Err(AdmitError::Fatal(error)) => {
            tracing::error!(%error, "entry not judged");
            0
        }
        Err(error) => {
            tracing::debug!(%peer, %error, "peer's entry refused");
            0
        }
    });
    taken.collect()
}
