//! Domain-separated hashing.
//!
//! Every hash and every signed message starts with its [`Context`] and the chain id, both with their length, and every
//! further part carries its length: no two different lists of parts give the same bytes. (The RFC 6962 tree and jmt keep
//! their own prefixes.)

use sha2::{Digest, Sha256};

/// A SHA-256 digest.
pub type Hash = [u8; 32];

/// What a hash or a signature is for. The text goes into the bytes; changing one changes the format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Context {
    Entry,
    Header,
    Genesis,
    Organizations,
    ValidatorSet,
    Certificate,
    Vote,
    Proposal,
    StateSlot,
    StatePolicy,
    StateOrganization,
    StateMembership,
    StateEvidence,
    ConsentCommitment,
    ConsentMap,
    SlotCommitment,
    PolicyCommitment,
    AccessCommitment,
    ReasonsCommitment,
    AccessHead,
    Control,
    Withdraw,
    CancelReplacement,
    Request,
    Decision,
    NotReleased,
    Acknowledgement,
    Ask,
    AskState,
    PatientRequest,
    Handle,
    PeerAnswer,
    LateAccess,
    KeyHandover,
    ValidatorReady,
    Recovery,
}

impl Context {
    /// The text that stands in the bytes.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Entry => "assent/1/entry",
            Self::Header => "assent/1/header",
            Self::Genesis => "assent/1/genesis",
            Self::Organizations => "assent/1/organizations",
            Self::ValidatorSet => "assent/1/validator-set",
            Self::Certificate => "assent/1/certificate",
            Self::Vote => "assent/1/vote",
            Self::Proposal => "assent/1/proposal",
            Self::StateSlot => "assent/1/state/slot",
            Self::StatePolicy => "assent/1/state/policy",
            Self::StateOrganization => "assent/1/state/organization",
            Self::StateMembership => "assent/1/state/membership",
            Self::StateEvidence => "assent/1/state/evidence",
            Self::ConsentCommitment => "assent/1/commitment/consent",
            Self::ConsentMap => "assent/1/consent-map",
            Self::SlotCommitment => "assent/1/commitment/slot",
            Self::PolicyCommitment => "assent/1/commitment/policy",
            Self::AccessCommitment => "assent/1/commitment/access",
            Self::ReasonsCommitment => "assent/1/commitment/reasons",
            Self::AccessHead => "assent/1/access-head",
            Self::Control => "assent/1/control",
            Self::Withdraw => "assent/1/withdraw",
            Self::CancelReplacement => "assent/1/cancel-replacement",
            Self::Request => "assent/1/request",
            Self::Decision => "assent/1/decision",
            Self::NotReleased => "assent/1/not-released",
            Self::Acknowledgement => "assent/1/acknowledgement",
            Self::Ask => "assent/1/ask",
            Self::AskState => "assent/1/ask-state",
            Self::PatientRequest => "assent/1/patient-request",
            Self::Handle => "assent/1/handle",
            Self::PeerAnswer => "assent/1/peer-answer",
            Self::LateAccess => "assent/1/late-access",
            Self::KeyHandover => "assent/1/key-handover",
            Self::ValidatorReady => "assent/1/validator-ready",
            Self::Recovery => "assent/1/recovery",
        }
    }
}

/// The bytes that are hashed or signed for `parts` in a context.
pub fn framed(context: Context, chain_id: &str, parts: &[&[u8]]) -> Vec<u8> {
    let text = context.text().as_bytes();
    let total = parts.iter().map(|p| p.len() + 8).sum::<usize>();
    let mut out = Vec::with_capacity(2 + text.len() + chain_id.len() + total);
    // Both are shorter than 256 bytes: texts are constants, chain ids at most 32 bytes.
    out.push(text.len() as u8);
    out.extend_from_slice(text);
    out.push(chain_id.len() as u8);
    out.extend_from_slice(chain_id.as_bytes());
    for part in parts {
        out.extend_from_slice(&(part.len() as u64).to_be_bytes());
        out.extend_from_slice(part);
    }
    out
}

/// SHA-256 of [`framed`].
pub fn hash(context: Context, chain_id: &str, parts: &[&[u8]]) -> Hash {
    Sha256::digest(framed(context, chain_id, parts)).into()
}

/// Plain SHA-256, for what others hash too: record digests, file digests.
pub fn sha256(bytes: &[u8]) -> Hash {
    Sha256::digest(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cannot_be_shifted() {
        let a = hash(Context::Entry, "c", &[b"ab", b"c"]);
        let b = hash(Context::Entry, "c", &[b"a", b"bc"]);
        let c = hash(Context::Entry, "c", &[b"abc"]);
        assert!(a != b && b != c && a != c);
    }

    #[test]
    fn golden_frame() {
        assert_eq!(
            hex::encode(framed(Context::Vote, "net", &[&[1, 2]])),
            "0d617373656e742f312f766f7465036e657400000000000000020102"
        );
    }
}
