//! A patient's grant through any node: that node relays it, the custodian checks the proof again and does the work.
//!
//! ```text
//! patient ── PrepareGrant, CommitGrant ─▶ any node ── PatientCall ──▶ custodian
//!         ◀─ answer, or the refusal ─────          ◀─ PatientAnswer ─
//! ```
//! The relaying node passes on reasons that it knows and sentences without control characters: neither is its own.

use std::collections::BTreeMap;
use std::time::Duration;

use assent_proto::v1::{CommitGrantRequest, PrepareGrantRequest};
use prost::Message;

use super::client::{hear, misbehaves, reason_word, unreachable_custodian};
use super::{Frame, Say};
use crate::app::Parts;
use crate::custodian::Custodian;
use crate::grpc::border;
use crate::peers::Protocol;
use crate::refusal::{Kind, Refusal};

/// The methods that are relayed.
pub const PREPARE_GRANT: &str = "PrepareGrant";
/// See [`PREPARE_GRANT`].
pub const COMMIT_GRANT: &str = "CommitGrant";

/// Longest wait of a custodian until its ledger is where the relaying node's was.
const TIP_WAIT: Duration = Duration::from_secs(5);
/// Longest sentence of another custodian that is passed on, in bytes.
const MAX_MESSAGE_BYTES: usize = 2048;
/// Facts of a refusal that are passed on.
const FACTS: [&str; 5] = ["field", "issues", "expected", "found", "reason"];
/// Kinds by their number on the wire, from 1.
const KINDS: [Kind; 11] = [
    Kind::InvalidArgument,
    Kind::NotFound,
    Kind::AlreadyExists,
    Kind::PermissionDenied,
    Kind::Unauthenticated,
    Kind::FailedPrecondition,
    Kind::Aborted,
    Kind::ResourceExhausted,
    Kind::Unavailable,
    Kind::DeadlineExceeded,
    Kind::Internal,
];
/// Reasons that a custodian may give; any other is CUSTODIAN_REFUSED, with the word beside it.
const REASONS: [&str; 22] = [
    "BAD_CONTROL_KEY",
    "BAD_CONTROL_SIGNATURE",
    "COMMIT_UNKNOWN",
    "CONSENT_FOR_OTHER_SUBJECT",
    "CONSENT_NOT_FOUND",
    "CONSENT_REFUSED",
    "CONSENT_STATE",
    "CONSENT_UNRESOLVED",
    "GRANT_NOT_PREPARED",
    "MALFORMED_REQUEST",
    "MEMPOOL_FULL",
    "NODE_FAILING",
    "NONCE_USED",
    "NOTHING_TO_GRANT",
    "NOT_FRESH",
    "PROOF_OUT_OF_TIME",
    "RATE_LIMITED",
    "REQUEST_ID_REUSED",
    "SLOT_NOT_FOUND",
    "STALE_CONSENT_SEQUENCE",
    "TOO_LARGE",
    "VAULT_MISMATCH",
];

/// A call of PatientService.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PatientCall {
    /// Its name.
    #[prost(string, tag = "1")]
    pub method: String,
    /// Its encoded request.
    #[prost(bytes = "vec", tag = "2")]
    pub body: Vec<u8>,
    /// Height of the relaying node's ledger: what the patient saw there, the custodian must see too.
    #[prost(uint64, tag = "3")]
    pub height: u64,
}

/// What came of it: a response, or a refusal.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PatientAnswer {
    /// The encoded response.
    #[prost(bytes = "vec", optional, tag = "1")]
    pub response: Option<Vec<u8>>,
    /// Why there is none.
    #[prost(message, optional, tag = "2")]
    pub refusal: Option<Refused>,
}

/// A refusal on its way to the patient.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Refused {
    /// Number of its kind.
    #[prost(uint32, tag = "1")]
    pub kind: u32,
    /// Its reason.
    #[prost(string, tag = "2")]
    pub reason: String,
    /// Its sentence.
    #[prost(string, tag = "3")]
    pub message: String,
    /// Further facts.
    #[prost(btree_map = "string, string", tag = "4")]
    pub metadata: BTreeMap<String, String>,
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        let number = KINDS.iter().position(|kind| *kind == refusal.kind).map_or(0, |at| at as u32 + 1);
        let Refusal { reason, message, metadata, .. } = refusal;
        Self { kind: number, reason: reason.to_owned(), message, metadata }
    }
}

/// The refusal as the relaying node passes it on.
fn passed_on(custodian: &str, refused: Refused) -> Refusal {
    let Refused { kind, reason, message, metadata } = refused;
    let kind = KINDS.get((kind as usize).wrapping_sub(1)).copied().unwrap_or(Kind::Unavailable);
    let known = REASONS.into_iter().find(|known| *known == reason);
    let message: String = message.chars().filter(|c| !c.is_control()).take(MAX_MESSAGE_BYTES / 4).collect();
    let mut refusal = Refusal::new(kind, known.unwrap_or("CUSTODIAN_REFUSED"), message);
    if known.is_none() {
        refusal = refusal.with("custodian_reason", reason_word(reason));
    }
    for fact in FACTS {
        if let Some(value) = metadata.get(fact).filter(|value| value.len() <= MAX_MESSAGE_BYTES) {
            let value: String = value.chars().filter(|c| !c.is_control()).collect();
            refusal = refusal.with(fact, value);
        }
    }
    refusal.with("custodian", custodian)
}

/// The custodian's end: does what the patient asks, whoever relays it.
pub async fn answer(custodian: &Custodian, call: PatientCall) -> PatientAnswer {
    let mut tips = custodian.parts.tips.clone();
    // A custodian that stays behind answers from what it has: the ledger judges in the end.
    let _ = tokio::time::timeout(TIP_WAIT, tips.wait_for(|info| info.tip.height >= call.height)).await;
    match work(custodian, &call).await {
        Ok(response) => PatientAnswer { response: Some(response), refusal: None },
        Err(refusal) => {
            tracing::info!(reason = refusal.reason, "a relayed call is refused");
            PatientAnswer { response: None, refusal: Some(refusal.into()) }
        }
    }
}

async fn work(custodian: &Custodian, call: &PatientCall) -> Result<Vec<u8>, Refusal> {
    let undecodable = || border::malformed("body", "does not decode");
    match call.method.as_str() {
        PREPARE_GRANT => {
            let body = PrepareGrantRequest::decode(call.body.as_slice()).map_err(|_| undecodable())?;
            Ok(custodian.prepare_grant(body).await?.encode_to_vec())
        }
        COMMIT_GRANT => {
            // No proof of its own, so the gate's rate is asked for here.
            custodian.gate.admit_read()?;
            let body = CommitGrantRequest::decode(call.body.as_slice()).map_err(|_| undecodable())?;
            Ok(custodian.commit_grant(body).await?.encode_to_vec())
        }
        _ => Err(border::malformed("method", "not one that is relayed")),
    }
}

/// The relaying end: the custodian's response, or its refusal. UNAVAILABLE when its node can't be reached.
pub async fn relay<T: Message + Default>(
    parts: &Parts,
    custodian: &str,
    method: &str,
    body: &impl Message,
) -> Result<T, Refusal> {
    let Some(peers) = &parts.peers else {
        return Err(unreachable_custodian(custodian, "this node runs alone and has no peers"));
    };
    let lost = |error| unreachable_custodian(custodian, error);
    let mut stream = peers.open(custodian, Protocol::Exchange).await.map_err(lost)?;
    let height = parts.tip().height;
    let call = PatientCall { method: method.to_owned(), body: body.encode_to_vec(), height };
    stream.send(&Frame { say: Some(Say::PatientCall(call)) }.encode_to_vec()).await.map_err(lost)?;
    let heard = hear(custodian, &mut stream).await;
    // The other side may have hung up first.
    let _ = stream.close().await;
    match heard? {
        Say::PatientAnswer(PatientAnswer { response: Some(response), refusal: None }) => {
            T::decode(response.as_slice()).map_err(|_| misbehaves(custodian, "an undecodable response"))
        }
        Say::PatientAnswer(PatientAnswer { response: None, refusal: Some(refused) }) => {
            Err(passed_on(custodian, refused))
        }
        _ => Err(misbehaves(custodian, "no answer to a patient's call")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_passed_on_as_it_was() {
        let refusal =
            Refusal::invalid("CONSENT_REFUSED", "consent", "not without loss").with("issues", "a,b");
        let passed = passed_on("cedar", refusal.into());
        assert_eq!((passed.kind, passed.reason), (Kind::InvalidArgument, "CONSENT_REFUSED"));
        assert_eq!(passed.message, "not without loss");
        let facts = ["field", "issues", "custodian"].map(|fact| passed.metadata[fact].as_str());
        assert_eq!(facts, ["consent", "a,b", "cedar"]);
        for (n, kind) in KINDS.into_iter().enumerate() {
            let refused = Refused::from(Refusal::new(kind, "TOO_LARGE", ""));
            assert_eq!((refused.kind as usize, passed_on("cedar", refused).kind), (n + 1, kind));
        }
    }

    /// What a stranger says goes no further than a known word, and moves no terminal's cursor.
    #[test]
    fn a_strangers_words_are_tamed() {
        let metadata = [("field", "a\u{1b}[2J"), ("secret", "x")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        let refused = Refused {
            kind: 77,
            reason: "<script>".into(),
            message: "\u{1b}[2J".to_owned() + &"x".repeat(9000),
            metadata: metadata.into(),
        };
        let passed = passed_on("cedar", refused);
        assert_eq!((passed.kind, passed.reason), (Kind::Unavailable, "CUSTODIAN_REFUSED"));
        assert_eq!(passed.metadata["custodian_reason"], "UNKNOWN");
        assert!(passed.message.len() <= MAX_MESSAGE_BYTES && !passed.message.contains('\u{1b}'));
        assert_eq!(passed.metadata["field"], "a[2J");
        assert!(!passed.metadata.contains_key("secret"));
        assert!(REASONS.is_sorted());
    }
}
