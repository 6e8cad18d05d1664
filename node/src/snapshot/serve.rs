//! Snapshots for members that join: one for each at a time, two in all, each from one consistent view.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use assent_ledger::hash::sha256;
use assent_ledger::Hash;
use prost::Message;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::lie::{self, Tongue};
use super::{Ask, Manifest, CHUNK_BYTES, CHUNK_DEADLINE, MAX_ASK_BYTES};
use crate::chain::snapshot::{WriteError, SNAPSHOT_FORMAT};
use crate::chain::Store;
use crate::order::Fatal;
use crate::peers::PeerStream;

/// Snapshots that are sent at once.
pub const MAX_AT_ONCE: usize = 2;

/// Serves snapshots of a store. Cheap to clone.
#[derive(Clone)]
pub struct SnapshotServer {
    store: Store,
    genesis_hash: Hash,
    served: Peers,
}

/// Who is being served.
type Peers = Arc<Mutex<BTreeSet<String>>>;

/// Being served, until dropped.
struct Served(Peers, String);

impl Served {
    /// One place for each peer, and two in all; none when there is none left.
    fn admit(all: &Peers, peer: &str) -> Option<Self> {
        let mut served = all.lock().unwrap_or_else(PoisonError::into_inner);
        let is_free = served.len() < MAX_AT_ONCE && served.insert(peer.to_owned());
        is_free.then(|| Self(all.clone(), peer.to_owned()))
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.1);
    }
}

/// What the thread that reads the store hands over: the manifest first.
enum Part {
    Manifest(Manifest),
    Chunk(Vec<u8>),
}

impl SnapshotServer {
    /// Of this store.
    pub fn new(store: Store, genesis_hash: Hash) -> Self {
        Self { store, genesis_hash, served: Arc::default() }
    }

    /// Answers one stream of a peer.
    pub async fn serve(self, peer: String, mut stream: PeerStream) {
        stream.set_idle_timeout(CHUNK_DEADLINE);
        let Ok(Ok(Some(frame))) = timeout(CHUNK_DEADLINE, stream.recv(MAX_ASK_BYTES)).await else { return };
        let Ok(ask) = Ask::decode(frame.as_slice()) else { return };
        let refused = |why: &str| Manifest { refusal: why.to_owned(), ..Manifest::default() };
        if ask.genesis_hash != self.genesis_hash {
            let _ = stream.send(&refused("another chain").encode_to_vec()).await;
        } else if !ask.send {
            match tokio::task::block_in_place(|| self.offer()) {
                Ok(offer) => drop(stream.send(&offer.encode_to_vec()).await),
                Err(error) => tracing::error!(%error, "no snapshot can be offered"),
            }
        } else if let Some(served) = Served::admit(&self.served, &peer) {
            match self.send(&peer, &mut stream).await {
                Ok(chunks) => tracing::info!(%peer, chunks, "a snapshot was sent"),
                Err(why) => return tracing::info!(%peer, why, "a snapshot was not sent to its end"),
            }
            drop(served);
        } else {
            let _ = stream.send(&refused("too many at once").encode_to_vec()).await;
        }
        // The other side may have hung up first.
        let _ = stream.close().await;
    }

    fn offer(&self) -> Result<Manifest, Fatal> {
        let view = self.store.view()?;
        Ok(lie::offer(Manifest {
            format: SNAPSHOT_FORMAT,
            genesis_hash: self.genesis_hash.to_vec(),
            height: view.tip.height,
            whole_from: view.whole_from()?,
            ..Manifest::default()
        }))
    }

    async fn send(&self, peer: &str, stream: &mut PeerStream) -> Result<u64, &'static str> {
        let (parts, mut made) = mpsc::channel(2);
        let (server, asker) = (self.clone(), peer.to_owned());
        let reader = tokio::task::spawn_blocking(move || server.read(&asker, &parts));
        let mut chunks = 0;
        while let Some(part) = made.recv().await {
            let frame = match part {
                Part::Manifest(manifest) => manifest.encode_to_vec(),
                Part::Chunk(chunk) => {
                    chunks += 1;
                    chunk
                }
            };
            match timeout(CHUNK_DEADLINE, stream.send(&frame)).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err("the peer hung up"),
                Err(_) => return Err("the peer takes it too slowly"),
            }
        }
        match reader.await {
            Ok(Ok(())) => Ok(chunks),
            Ok(Err(error)) => {
                tracing::error!(?error, "a snapshot can't be read");
                Err("the store can't be read")
            }
            Err(_) => Err("its reader ended"),
        }
    }

    /// Reads the same view twice: for the hashes, then for the chunks.
    fn read(&self, asker: &str, parts: &mpsc::Sender<Part>) -> Result<(), WriteError> {
        let view = self.store.view()?;
        let mut manifest = Manifest { height: view.tip.height, ..self.offer()? };
        manifest.whole_from = view.whole_from()?;
        let mut tongue = Tongue::of_this_node();
        view.write_snapshot(asker, CHUNK_BYTES, |chunk| {
            manifest.bytes += chunk.len() as u64;
            manifest.hashes.extend(sha256(&chunk));
            tongue.reads(chunk);
            !parts.is_closed()
        })?;
        let sent = |part| parts.blocking_send(part).is_ok();
        if !sent(Part::Manifest(tongue.manifest(manifest))) {
            return Err(WriteError::Stopped);
        }
        view.write_snapshot(asker, CHUNK_BYTES, |chunk| {
            tongue.sends(chunk).is_none_or(|chunk| sent(Part::Chunk(chunk)))
        })
    }
}

/// Answers one stream of a peer while this node joins itself: it has nothing.
pub async fn serve_nothing(mut stream: PeerStream) {
    if let Ok(Ok(Some(_))) = timeout(CHUNK_DEADLINE, stream.recv(MAX_ASK_BYTES)).await {
        let nothing = Manifest { refusal: "it joins itself".into(), ..Manifest::default() };
        let _ = stream.send(&nothing.encode_to_vec()).await;
        let _ = stream.close().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time_for_each_peer_and_two_in_all() {
        let all = Peers::default();
        let birch = Served::admit(&all, "birch").unwrap();
        assert!(Served::admit(&all, "birch").is_none());
        let _cedar = Served::admit(&all, "cedar").unwrap();
        assert!(Served::admit(&all, "dogwood").is_none());
        drop(birch);
        assert!(Served::admit(&all, "dogwood").is_some());
    }
}
