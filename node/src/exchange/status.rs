//! Peers tell each other where their tip is: the ground for freshness after a start.

use std::time::Duration;

use prost::Message;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::chain::replica::TipInfo;
use crate::freshness::Freshness;
use crate::members::Members;
use crate::peers::{PeerStream, Peers, PeersError, Protocol};
use crate::reports::Reports;
use crate::told::{Names, Told};

const MAX_FRAME_BYTES: usize = 1024;
const ANSWER_WAIT: Duration = Duration::from_secs(2);

/// A node's tip.
#[derive(Clone, PartialEq, prost::Message)]
struct TipSays {
    #[prost(uint64, tag = "1")]
    height: u64,
    #[prost(bytes = "vec", tag = "2")]
    header_hash: Vec<u8>,
    /// The asker's keys, as this ledger has them.
    #[prost(message, optional, tag = "3")]
    names: Option<Names>,
}

/// How often a peer is asked while something waits for what it says.
const SOON: Duration = Duration::from_millis(250);
/// And otherwise.
const NOW_AND_THEN: Duration = Duration::from_secs(10);

/// Asks the connected validators, each for itself, until the tip is confirmed; then now and then, and whenever one connects.
pub async fn confirm(
    peers: Peers,
    members: Members,
    own: String,
    freshness: Freshness,
    reports: Reports,
    told: Told,
    shutdown: CancellationToken,
) {
    let (peers, freshness, reports, told) = (&peers, &freshness, &reports, &told);
    let asked = |organization: String| async move {
        let organization = &organization;
        let mut connected = peers.subscribe_connected();
        loop {
            let doubted = freshness.doubted();
            if connected.borrow_and_update().contains(organization) {
                match ask(peers, organization).await {
                    Ok(tip) => {
                        reports.note(organization, tip.height);
                        freshness.confirm(organization, tip.height);
                        told.note(organization, tip.height, tip.names.unwrap_or_default());
                    }
                    Err(error) => tracing::debug!(%organization, %error, "peer did not tell its tip"),
                }
            }
            tokio::select! {
                () = tokio::time::sleep(if freshness.is_settled() { NOW_AND_THEN } else { SOON }) => {}
                () = doubted => {}
                Ok(()) = connected.changed() => {}
            }
        }
    };
    let ask_all = async {
        let mut changes = members.subscribe();
        loop {
            let validators = changes.borrow_and_update().other_validators(&own);
            tokio::select! {
                _ = futures::future::join_all(validators.into_iter().map(asked)) => {}
                Ok(()) = changes.changed() => continue,
            }
            // Nobody to ask: until there is.
            if changes.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    };
    let follow = async {
        let mut connected = peers.subscribe_connected();
        loop {
            freshness.connected(&connected.borrow_and_update());
            if connected.changed().await.is_err() {
                std::future::pending::<()>().await; // the swarm has stopped, and shutdown comes
            }
        }
    };
    tokio::select! {
        () = shutdown.cancelled() => {}
        ((), ()) = async { tokio::join!(follow, ask_all) } => {}
    }
}

async fn ask(peers: &Peers, organization: &str) -> Result<TipSays, PeersError> {
    let talk = async {
        let mut stream = peers.open(organization, Protocol::Status).await?;
        stream.send(&[]).await?;
        let answer = stream.recv(MAX_FRAME_BYTES).await?.ok_or(PeersError::Closed)?;
        // The other side may have hung up first.
        let _ = stream.close().await;
        TipSays::decode(answer.as_slice()).map_err(|_| PeersError::Closed)
    };
    tokio::time::timeout(ANSWER_WAIT, talk).await.map_err(|_| PeersError::Timeout)?
}

/// Tells a peer this node's tip, and what its ledger names the peer by.
pub async fn serve(mut stream: PeerStream, tips: watch::Receiver<TipInfo>, members: Members, peer: String) {
    if let Ok(Some(_)) = stream.recv(MAX_FRAME_BYTES).await {
        let says = {
            // Members are replaced before the tip is told: the names are not older than the height.
            let tip = tips.borrow().tip.clone();
            let names = Some(Names::of(&members.present(), &peer));
            TipSays { height: tip.height, header_hash: tip.header_hash.to_vec(), names }
        };
        let _ = stream.send(&says.encode_to_vec()).await;
    }
    // The other side may have hung up first.
    let _ = stream.close().await;
}
