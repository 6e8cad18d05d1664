//! The custodian's end of an exchange.

use std::time::{Duration, Instant};

use assent_proto::ledger::v1::{Acknowledgement, Signed};
use prost::Message;

use super::{patient, sealed, Frame, Proof, Say, Why, MAX_FRAME_BYTES};
use crate::custodian::{blocking, fresh_bytes, Custodian, Released};
use crate::peers::{PeerStream, PeersError};
use crate::refusal::{Kind, Refusal};

/// Longest wait for the recipient's next frame.
const PEER_WAIT: Duration = Duration::from_secs(30);

/// Longest exchange: a peer that takes its bytes one by one holds a release in memory that long. No client waits longer.
const LONGEST: Duration = Duration::from_secs(600);

/// Why an exchange ended early.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("peer: {0}")]
    Peer(#[from] PeersError),
    #[error("{0}")]
    Refused(#[from] Refusal),
    #[error("peer said something else than expected")]
    Unexpected,
}

async fn say(stream: &mut PeerStream, say: Say) -> Result<(), Ended> {
    Ok(stream.send(&Frame { say: Some(say) }.encode_to_vec()).await?)
}

async fn hear(stream: &mut PeerStream) -> Result<Say, Ended> {
    let frame = tokio::time::timeout(PEER_WAIT, stream.recv(MAX_FRAME_BYTES))
        .await
        .map_err(|_| Ended::Unexpected)??;
    let frame = frame.and_then(|bytes| Frame::decode(bytes.as_slice()).ok());
    frame.and_then(|f| f.say).ok_or(Ended::Unexpected)
}

/// Serves one exchange of a peer whose organization the transport has established.
pub async fn serve(custodian: Custodian, peer: String, mut stream: PeerStream) {
    // The peer's words and the patient stay out of the log.
    match tokio::time::timeout(LONGEST, conversation(&custodian, &peer, &mut stream)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%peer, %error, "exchange ended early"),
        Err(_) => {
            tracing::warn!(%peer, "exchange took too long");
            return;
        }
    }
    // The other side may have hung up first.
    let _ = stream.close().await;
}

async fn conversation(custodian: &Custodian, peer: &str, stream: &mut PeerStream) -> Result<(), Ended> {
    let outcome = match hear(stream).await? {
        Say::Request(signed) => answer(custodian, peer, stream, signed).await,
        Say::Ask(signed) => answer_ask(custodian, peer, stream, signed).await,
        Say::ReceiptOf(signed) => answer_receipt(custodian, peer, stream, signed).await,
        Say::PatientCall(call) => {
            return say(stream, Say::PatientAnswer(patient::answer(custodian, call).await)).await;
        }
        _ => return Err(Ended::Unexpected),
    };
    match outcome {
        Err(Ended::Refused(refusal)) => {
            let reason = match refusal.reason {
                _ if refusal.kind == Kind::InvalidArgument => "MALFORMED_REQUEST",
                // It concerns one patient, so it would say that there is one.
                "VAULT_MISMATCH" => "NODE_FAILING",
                reason => reason,
            };
            // The sentence may speak of the patient's state: it stays here.
            let message = String::new();
            say(stream, Say::Unavailable(Why { reason: reason.into(), message })).await?;
            Err(refusal.into())
        }
        other => other,
    }
}

/// The receipt of a late release: it shows nothing that the recipient was not told when it got the records.
async fn answer_receipt(
    custodian: &Custodian,
    peer: &str,
    stream: &mut PeerStream,
    signed: Signed,
) -> Result<(), Ended> {
    let checked = custodian.check_form(peer, signed)?;
    let reply = match blocking(|| custodian.late_receipt(&checked))? {
        Some(receipt) => Say::Receipt(Box::new(receipt)),
        None => Say::NotReleased(custodian.not_released(&checked.hash)),
    };
    say(stream, reply).await
}

async fn answer(
    custodian: &Custodian,
    peer: &str,
    stream: &mut PeerStream,
    signed: Signed,
) -> Result<(), Ended> {
    let started = Instant::now();
    let checked = custodian.check_request(peer, signed)?;
    if checked.request.check_only {
        let reply = match custodian.decide(&checked).await? {
            Some(decision) => Say::Decision(decision),
            None => Say::NotReleased(custodian.not_released_since(started, &checked.hash).await),
        };
        return say(stream, reply).await;
    }
    let Some(released) = custodian.release(&checked).await? else {
        let answer = custodian.not_released_since(started, &checked.hash).await;
        return say(stream, Say::NotReleased(answer)).await;
    };
    let key = fresh_bytes();
    let chunks = sealed::seal(&key, &released.resources)
        .map_err(|e| Refusal::unavailable("SEAL_FAILED", e.to_string()))?;
    if !send_while_it_stands(custodian, stream, &released, &chunks).await? {
        return say(stream, Say::NotReleased(custodian.not_released(&checked.hash))).await;
    }
    let expected = Acknowledgement {
        request_hash: checked.hash.to_vec(),
        header_hash: released.header_hash.to_vec(),
        ciphertext_sha256: sealed::digest(&chunks).to_vec(),
    };
    let Say::Acknowledgement(signed) = hear(stream).await? else {
        return Err(Ended::Unexpected);
    };
    custodian.acknowledge(&checked, &expected.encode_to_vec(), &signed)?;
    if !custodian.still_stands(&released)? {
        return say(stream, Say::NotReleased(custodian.not_released(&checked.hash))).await;
    }
    say(stream, Say::Key(key.to_vec())).await
}

async fn answer_ask(
    custodian: &Custodian,
    peer: &str,
    stream: &mut PeerStream,
    signed: Signed,
) -> Result<(), Ended> {
    let state = custodian.take_ask(peer, signed).await?;
    say(stream, Say::AskState(state)).await
}

/// Sends receipt and chunks; looks at slot and policy before the first byte and whenever a block has come. False: aborted.
async fn send_while_it_stands(
    custodian: &Custodian,
    stream: &mut PeerStream,
    released: &Released,
    chunks: &[Vec<u8>],
) -> Result<bool, Ended> {
    let mut tips = custodian.parts.tips.clone();
    tips.mark_unchanged();
    if !custodian.still_stands(released)? {
        return Ok(false);
    }
    let proof = match released.proof.clone() {
        Proof::Receipt(receipt) => Say::Receipt(receipt),
        Proof::Late(proof) => Say::Late(proof),
    };
    say(stream, proof).await?;
    for chunk in chunks {
        if tips.has_changed().unwrap_or(false) {
            tips.mark_unchanged();
            if !custodian.still_stands(released)? {
                return Ok(false);
            }
        }
        say(stream, Say::Chunk(chunk.clone())).await?;
    }
    say(stream, Say::End(true)).await?;
    Ok(true)
}
