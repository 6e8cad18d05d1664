//! Fetching a snapshot from one peer: bounded in size and time, each chunk held against the manifest, all of it against genesis.

use std::collections::BTreeMap;

use assent_ledger::hash::sha256;
use assent_ledger::Hash;
use prost::Message;
use tokio::task::block_in_place;
use tokio::time::timeout;

use super::{
    Ask, Manifest, Refused, CHUNK_BYTES, CHUNK_DEADLINE, MANIFEST_DEADLINE, MAX_ASK_BYTES,
    MAX_MANIFEST_BYTES, OFFER_DEADLINE,
};
use crate::chain::import::{Import, ImportError};
use crate::chain::snapshot::SNAPSHOT_FORMAT;
use crate::peers::{PeerStream, Peers, PeersError, Protocol};

fn ask(genesis_hash: &Hash, send: bool) -> Vec<u8> {
    Ask { format: SNAPSHOT_FORMAT, genesis_hash: genesis_hash.to_vec(), send }.encode_to_vec()
}

/// Asks a peer what it could send; checked for chain, form and height.
async fn offer(peers: &Peers, peer: &str, genesis_hash: &Hash, above: u64) -> Result<Manifest, Refused> {
    let talk = async {
        let mut stream = peers.open(peer, Protocol::Snapshot).await?;
        stream.send(&ask(genesis_hash, false)).await?;
        let answer = stream.recv(MAX_ASK_BYTES).await?.ok_or(PeersError::Closed)?;
        // The other side may have hung up first.
        let _ = stream.close().await;
        Ok::<_, PeersError>(answer)
    };
    let answer = match timeout(OFFER_DEADLINE, talk).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => return Err(Refused::new("unreachable", error.to_string())),
        Err(_) => return Err(Refused::new("slow", "no offer came in time")),
    };
    let offer = decode(&answer)?;
    offer.check(genesis_hash, above)?;
    Ok(offer)
}

/// What these peers offer above a height; who is not there, refuses, or has nothing above it is left out.
pub async fn offers(
    peers: &Peers,
    of: &[String],
    genesis_hash: &Hash,
    above: u64,
) -> BTreeMap<String, Manifest> {
    let answers = of.iter().map(|peer| offer(peers, peer, genesis_hash, above));
    let mut offers = BTreeMap::new();
    for (peer, answer) in of.iter().zip(futures::future::join_all(answers).await) {
        match answer {
            Ok(offer) => drop(offers.insert(peer.clone(), offer)),
            Err(refused) => tracing::debug!(%peer, %refused, "no offer"),
        }
    }
    offers
}

fn decode(frame: &[u8]) -> Result<Manifest, Refused> {
    Manifest::decode(frame).map_err(|_| Refused::new("malformed", "its manifest does not decode"))
}

/// Opens a stream on which a peer sends its snapshot.
pub async fn request(peers: &Peers, peer: &str, genesis_hash: &Hash) -> Result<PeerStream, Refused> {
    let unreachable = |error: PeersError| Refused::new("unreachable", error.to_string());
    let mut stream = peers.open(peer, Protocol::Snapshot).await.map_err(unreachable)?;
    stream.send(&ask(genesis_hash, true)).await.map_err(unreachable)?;
    stream.set_idle_timeout(CHUNK_DEADLINE);
    Ok(stream)
}

/// The manifest that a requested snapshot begins with, and the hashes in it.
pub async fn manifest(
    stream: &mut PeerStream,
    genesis_hash: &Hash,
    above: u64,
    room_bytes: u64,
) -> Result<(Manifest, Vec<Hash>), Refused> {
    // Its sender reads its whole ledger first.
    stream.set_idle_timeout(MANIFEST_DEADLINE);
    let frame = received(timeout(MANIFEST_DEADLINE, stream.recv(MAX_MANIFEST_BYTES)).await, "the manifest")?;
    stream.set_idle_timeout(CHUNK_DEADLINE);
    let manifest = decode(&frame)?;
    manifest.check(genesis_hash, above)?;
    let hashes = manifest.chunks(room_bytes)?;
    Ok((manifest, hashes))
}

/// Receives all chunks into an import; `progress` is told the bytes so far and the height of the newest checked header.
pub async fn chunks(
    stream: &mut PeerStream,
    manifest: &Manifest,
    hashes: &[Hash],
    import: &mut Import<'_>,
    mut progress: impl FnMut(u64, u64),
) -> Result<(), ImportError> {
    let mut left = manifest.bytes;
    for (n, hash) in hashes.iter().enumerate() {
        let what = format!("chunk {n} of {}", hashes.len());
        let chunk = received(timeout(CHUNK_DEADLINE, stream.recv(CHUNK_BYTES)).await, &what)?;
        if chunk.len() as u64 != left.min(CHUNK_BYTES as u64) {
            let sentence = format!("{what} has {} bytes", chunk.len());
            return Err(Refused::new("short", sentence).into());
        }
        block_in_place(|| {
            if sha256(&chunk) != *hash {
                return Err(
                    Refused::new("chunk-hash", format!("{what} is not the one in the manifest")).into()
                );
            }
            import.bytes(&chunk)
        })?;
        left -= chunk.len() as u64;
        progress(manifest.bytes - left, import.height());
    }
    // What comes behind the last chunk is not looked at.
    match timeout(CHUNK_DEADLINE, stream.recv(CHUNK_BYTES)).await {
        Ok(Ok(None) | Err(PeersError::Closed)) => Ok(()),
        _ => Err(Refused::new("endless", "it goes on behind its last chunk").into()),
    }
}

/// One frame, or why there is none.
fn received<E>(
    frame: Result<Result<Option<Vec<u8>>, PeersError>, E>,
    what: &str,
) -> Result<Vec<u8>, Refused> {
    match frame {
        Ok(Ok(Some(frame))) => Ok(frame),
        Ok(Ok(None) | Err(PeersError::Closed)) => {
            Err(Refused::new("short", format!("it ends before {what}")))
        }
        Ok(Err(PeersError::Timeout)) | Err(_) => {
            Err(Refused::new("slow", format!("{what} did not come in time")))
        }
        Ok(Err(PeersError::FrameTooLong { len, max })) => {
            Err(Refused::new("oversized", format!("{what} has {len} bytes, at most {max} may be")))
        }
        Ok(Err(error)) => Err(Refused::new("unreachable", error.to_string())),
    }
}
