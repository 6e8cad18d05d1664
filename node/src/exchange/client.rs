//! The recipient's end of an exchange.

use std::time::Duration;

use assent_ledger::block::header_hash;
use assent_ledger::hash::Context;
use assent_ledger::late::{verify_late, VerifiedLate};
use assent_ledger::receipt::{sign_message, verify_digests, verify_message};
use assent_ledger::receipts::{verify_receipt, AnchoredAt, Claim, VerifiedAccess};
use assent_ledger::Hash;
use assent_proto::ledger::v1::{Acknowledgement, Decision, LateProof, NotReleased, Receipt, Signed};
use prost::Message;

use super::{sealed, Frame, Proof, Say, Why, MAX_CHUNKS, MAX_FRAME_BYTES, MAX_RELEASE_BYTES};
use crate::app::Parts;
use crate::peers::{PeerStream, Peers, PeersError, Protocol};
use crate::refusal::Refusal;

/// Records and 16 bytes of tag a chunk.
const MAX_SEALED_BYTES: usize = MAX_RELEASE_BYTES + 16 * MAX_CHUNKS;
/// Longest wait for the custodian's next frame: a commit is among them.
const CUSTODIAN_WAIT: Duration = Duration::from_secs(30);

/// What the custodian answered.
pub enum Answered {
    /// A signed permit (checks only).
    Permit(Signed),
    /// Receipt and records, every digest checked.
    Released(Box<Receipt>, Vec<Vec<u8>>),
    /// The custodian's promise with its keys, and records, every digest checked: break-glass without quorum.
    ReleasedLate(Box<LateProof>, Vec<Vec<u8>>),
    /// The signed refusal.
    NotReleased(Signed),
}

pub(super) fn unreachable_custodian(custodian: &str, error: impl std::fmt::Display) -> Refusal {
    Refusal::unavailable(
        "CUSTODIAN_UNREACHABLE",
        format!("the node of {custodian} can't be reached: {error}; retry later"),
    )
    .with("custodian", custodian)
}

pub(crate) fn misbehaves(custodian: &str, what: &str) -> Refusal {
    tracing::warn!(%custodian, what, "custodian's answer refused");
    Refusal::unavailable("BAD_ANSWER", format!("the answer of {custodian} was refused: {what}"))
        .with("custodian", custodian)
}

/// Asks a custodian; whatever comes back is checked before anybody sees it.
pub async fn ask(
    parts: &Parts,
    peers: &Peers,
    custodian: &str,
    hash: &Hash,
    request: &Signed,
) -> Result<Answered, Refusal> {
    let mut stream =
        peers.open(custodian, Protocol::Exchange).await.map_err(|e| unreachable_custodian(custodian, e))?;
    let answered = conversation(parts, custodian, hash, request, &mut stream).await;
    // What was refused is cut off: the other side may still be sending, and an orderly end would wait for that.
    if answered.is_ok() {
        // The other side may have hung up first.
        let _ = stream.close().await;
    }
    answered
}

async fn conversation(
    parts: &Parts,
    custodian: &str,
    hash: &Hash,
    request: &Signed,
    stream: &mut PeerStream,
) -> Result<Answered, Refusal> {
    let lost = |e: PeersError| unreachable_custodian(custodian, e);
    stream.send(&Frame { say: Some(Say::Request(request.clone())) }.encode_to_vec()).await.map_err(lost)?;
    let mut proof = None;
    let (mut chunks, mut bytes) = (Vec::new(), 0usize);
    loop {
        match hear(custodian, stream).await? {
            Say::Decision(signed) => {
                check_decision(parts, custodian, hash, &signed)?;
                return Ok(Answered::Permit(signed));
            }
            Say::NotReleased(signed) => {
                check_not_released(parts, custodian, hash, &signed)?;
                return Ok(Answered::NotReleased(signed));
            }
            Say::Unavailable(why) => return Err(custodian_unavailable(custodian, why)),
            Say::Receipt(received) if proof.is_none() => proof = Some(Proof::Receipt(received)),
            Say::Late(received) if proof.is_none() => proof = Some(Proof::Late(received)),
            Say::Chunk(chunk) if proof.is_some() => {
                bytes += chunk.len();
                // Counted too: chunks of no bytes would go on for ever.
                if bytes > MAX_SEALED_BYTES || chunks.len() >= MAX_CHUNKS {
                    return Err(misbehaves(custodian, "more bytes than a release may have"));
                }
                chunks.push(chunk);
            }
            Say::End(_) => {
                let Some(proof) = proof else {
                    return Err(misbehaves(custodian, "records without a receipt"));
                };
                return finish(parts, custodian, hash, request, stream, proof, &chunks).await;
            }
            _ => return Err(misbehaves(custodian, "a frame out of order")),
        }
    }
}

pub(super) fn custodian_unavailable(custodian: &str, why: Why) -> Refusal {
    Refusal::unavailable("CUSTODIAN_UNAVAILABLE", format!("{custodian} can't answer now; retry later"))
        .with("custodian", custodian)
        .with("custodian_reason", reason_word(why.reason))
}

/// A stranger's word goes to clients only when it has the form of a reason.
pub(super) fn reason_word(reason: String) -> String {
    let fits = reason.bytes().all(|b| b.is_ascii_uppercase() || b == b'_');
    match fits && (1..=64).contains(&reason.len()) {
        true => reason,
        false => "UNKNOWN".to_owned(),
    }
}

pub(super) async fn hear(custodian: &str, stream: &mut PeerStream) -> Result<Say, Refusal> {
    let received = tokio::time::timeout(CUSTODIAN_WAIT, stream.recv(MAX_FRAME_BYTES))
        .await
        .map_err(|_| unreachable_custodian(custodian, "no answer in time"))?
        .map_err(|e| unreachable_custodian(custodian, e))?
        .ok_or_else(|| unreachable_custodian(custodian, "it hung up"))?;
    let frame = Frame::decode(received.as_slice()).ok().and_then(|f| f.say);
    frame.ok_or_else(|| misbehaves(custodian, "an undecodable frame"))
}

pub(super) fn entry_key(parts: &Parts, organization: &str) -> Result<[u8; 32], Refusal> {
    let key = parts.entry_key_of(organization);
    key.ok_or_else(|| misbehaves(organization, "it is no member, or its entry key is suspended"))
}

/// A decision counts when the custodian signed it for this very request.
pub fn check_decision(
    parts: &Parts,
    custodian: &str,
    hash: &Hash,
    signed: &Signed,
) -> Result<Decision, Refusal> {
    let key = entry_key(parts, custodian)?;
    let decision = Decision::decode(signed.body.as_slice())
        .map_err(|_| misbehaves(custodian, "undecodable decision"))?;
    let genuine =
        signed.organization == custodian && verify_message(Context::Decision, parts.chain_id(), &key, signed);
    if !genuine || decision.request_hash != hash || decision.custodian != custodian {
        return Err(misbehaves(custodian, "a decision that is not for this request"));
    }
    Ok(decision)
}

fn check_not_released(parts: &Parts, custodian: &str, hash: &Hash, signed: &Signed) -> Result<(), Refusal> {
    let key = entry_key(parts, custodian)?;
    let answer = NotReleased::decode(signed.body.as_slice())
        .map_err(|_| misbehaves(custodian, "undecodable answer"))?;
    let genuine = signed.organization == custodian
        && verify_message(Context::NotReleased, parts.chain_id(), &key, signed);
    if !genuine || answer.request_hash != hash {
        return Err(misbehaves(custodian, "a refusal that is not for this request"));
    }
    Ok(())
}

/// Asks for the receipt of a late release by its signed request. None: the custodian released nothing by that name.
pub async fn ask_receipt(
    parts: &Parts,
    peers: &Peers,
    custodian: &str,
    hash: &Hash,
    request: &Signed,
) -> Result<Option<Receipt>, Refusal> {
    let lost = |e: PeersError| unreachable_custodian(custodian, e);
    let mut stream = peers.open(custodian, Protocol::Exchange).await.map_err(lost)?;
    stream.send(&Frame { say: Some(Say::ReceiptOf(request.clone())) }.encode_to_vec()).await.map_err(lost)?;
    let heard = hear(custodian, &mut stream).await;
    // The other side may have hung up first.
    let _ = stream.close().await;
    match heard? {
        Say::Receipt(receipt) => {
            check_receipt(parts, custodian, request, &receipt)?;
            Ok(Some(*receipt))
        }
        Say::NotReleased(signed) => {
            check_not_released(parts, custodian, hash, &signed)?;
            Ok(None)
        }
        Say::Unavailable(why) => Err(cannot_answer(custodian, why)),
        _ => Err(misbehaves(custodian, "a frame out of order")),
    }
}

fn cannot_answer(custodian: &str, why: Why) -> Refusal {
    let message = format!("{custodian} can't answer now; retry later");
    Refusal::unavailable("CUSTODIAN_UNAVAILABLE", message)
        .with("custodian", custodian)
        .with("custodian_reason", reason_word(why.reason))
}

/// Refuses a header that is not the one of this node's own ledger. What is ahead of it follows from the chain of sets alone.
fn check_own_ledger(parts: &Parts, custodian: &str, at: &AnchoredAt) -> Result<(), Refusal> {
    let own = parts.store.view()?.sealed(at.header.height)?;
    if own.is_some_and(|own| header_hash(parts.chain_id(), &own.header_bytes) != at.hash) {
        tracing::error!(height = at.header.height, "a certified block contradicts this node's ledger");
        return Err(misbehaves(custodian, "a block that is not the one in this node's ledger"));
    }
    Ok(())
}

/// Checks that a receipt proves an access for this very request.
pub fn check_receipt(
    parts: &Parts,
    custodian: &str,
    request: &Signed,
    receipt: &Receipt,
) -> Result<VerifiedAccess, Refusal> {
    let verified = verify_receipt(&parts.store.view()?.trust(&parts.genesis)?, receipt)
        .map_err(|e| misbehaves(custodian, &e.to_string()))?;
    let Claim::Access(access) = verified.claim else {
        return Err(misbehaves(custodian, "a receipt of something else than an access"));
    };
    if access.event.request != request.encode_to_vec() {
        return Err(misbehaves(custodian, "a receipt for another request"));
    }
    check_own_ledger(parts, custodian, &verified.at)?;
    Ok(*access)
}

/// Checks that a promise is the custodian's, about this very request.
pub fn check_late(
    parts: &Parts,
    custodian: &str,
    request: &Signed,
    proof: &LateProof,
) -> Result<VerifiedLate, Refusal> {
    let late = verify_late(&parts.store.view()?.trust(&parts.genesis)?, proof)
        .map_err(|e| misbehaves(custodian, &e.to_string()))?;
    if late.event.custodian != custodian || late.event.request != request.encode_to_vec() {
        return Err(misbehaves(custodian, "a late access for another request"));
    }
    check_own_ledger(parts, custodian, &late.at)?;
    Ok(late)
}

async fn finish(
    parts: &Parts,
    custodian: &str,
    hash: &Hash,
    request: &Signed,
    stream: &mut PeerStream,
    proof: Proof,
    chunks: &[Vec<u8>],
) -> Result<Answered, Refusal> {
    // Before anything is signed: an acknowledgement of another release is worth something to a dishonest custodian.
    let (event, named) = match &proof {
        Proof::Receipt(receipt) => {
            let access = check_receipt(parts, custodian, request, receipt)?;
            (access.event, access.header_hash)
        }
        Proof::Late(proof) => {
            let late = check_late(parts, custodian, request, proof)?;
            (late.event, late.hash)
        }
    };
    let acknowledgement = Acknowledgement {
        request_hash: hash.to_vec(),
        header_hash: named.to_vec(),
        ciphertext_sha256: sealed::digest(chunks).to_vec(),
    };
    let signed = sign_message(
        Context::Acknowledgement,
        parts.chain_id(),
        &parts.organization,
        &parts.entry_key(),
        acknowledgement.encode_to_vec(),
    );
    let frame = Frame { say: Some(Say::Acknowledgement(signed)) }.encode_to_vec();
    stream.send(&frame).await.map_err(|e| unreachable_custodian(custodian, e))?;
    let key = match hear(custodian, stream).await? {
        Say::Key(key) => key,
        Say::NotReleased(signed) => {
            check_not_released(parts, custodian, hash, &signed)?;
            return Ok(Answered::NotReleased(signed));
        }
        _ => return Err(misbehaves(custodian, "no key after the acknowledgement")),
    };
    let key: [u8; 32] = key.try_into().map_err(|_| misbehaves(custodian, "a key that is not 32 bytes"))?;
    let resources = sealed::open(&key, chunks).map_err(|e| misbehaves(custodian, &e.to_string()))?;
    verify_digests(&event, &resources).map_err(|e| misbehaves(custodian, &e.to_string()))?;
    Ok(match proof {
        Proof::Receipt(receipt) => Answered::Released(receipt, resources),
        Proof::Late(proof) => Answered::ReleasedLate(proof, resources),
    })
}
