//! Peers tell each other where their tip is: the ground for freshness after a start.

use std::time::Duration;

use prost::Message;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::chain::replica::TipInfo;
use crate::freshness::Freshness;
use crate::peers::{PeerStream, Peers, PeersError, Protocol};
use crate::reports::Reports;

const MAX_FRAME_BYTES: usize = 1024;
const ANSWER_WAIT: Duration = Duration::from_secs(2);

/// A node's tip.
#[derive(Clone, PartialEq, prost::Message)]
struct TipSays {
    #[prost(uint64, tag = "1")]
    height: u64,
    #[prost(bytes = "vec", tag = "2")]
    header_hash: Vec<u8>,
}

/// Asks the connected validators until the tip is confirmed, then now and then.
pub async fn confirm(
    peers: Peers,
    organizations: Vec<String>,
    freshness: Freshness,
    reports: Reports,
    shutdown: CancellationToken,
) {
    loop {
        for organization in &organizations {
            if !peers.connected().contains(organization) {
                continue;
            }
            match ask(&peers, organization).await {
                Ok(tip) => {
                    reports.note(organization, tip.height);
                    freshness.confirm(organization, tip.height);
                }
                Err(error) => tracing::debug!(%organization, %error, "peer did not tell its tip"),
            }
        }
        let pause = if freshness.is_settled() { 10_000 } else { 250 };
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(Duration::from_millis(pause)) => {}
        }
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

/// Tells a peer this node's tip.
pub async fn serve(mut stream: PeerStream, tips: watch::Receiver<TipInfo>) {
    if let Ok(Some(_)) = stream.recv(MAX_FRAME_BYTES).await {
        let says = {
            let info = tips.borrow();
            TipSays { height: info.tip.height, header_hash: info.tip.header_hash.to_vec() }
        };
        let _ = stream.send(&says.encode_to_vec()).await;
    }
    // The other side may have hung up first.
    let _ = stream.close().await;
}
