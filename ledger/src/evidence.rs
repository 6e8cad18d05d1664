//! Equivocation: two signatures of one validator that an honest one never makes, judged by themselves.
//!
//! ```text
//! vote ─┬─ same type, height, round, address ─┬─ other header hash        both signed by the address
//! vote ─┘                                     └─ (nil is one, too)
//! proposal ─┬─ same height, round, address ───┬─ other header hash        both signed by the address
//! proposal ─┘                                 └─ (the round of a lock may differ or not)
//! ```
//! [`verify_evidence`] needs no state: whose key it is, the ledger's rule tells (`governance`), and offline an evidence file
//! ([`crate::conviction`]).
//!
//! One height is no offence's: the first after a recovery of a lost quorum ([`crate::recovery`]). Those who remain may have voted
//! there in the old set, and vote again in the new one. A vote names a header by its hash alone, or nothing, and so does not say in
//! which set it was cast: two votes of this height can't be told from an honest validator's, and convict nobody.

use assent_proto::ledger::v1::report_evidence::Kind;
use assent_proto::ledger::v1::{
    Certificate, ConflictingProposals, ConflictingVotes, ReportEvidence, SignedProposal, Vote, VoteType,
};
use prost::Message;

use crate::certificate::{precommit, proposal_sign_bytes, vote_sign_bytes};
use crate::encoding::{array, decode, EncodingError};
use crate::hash::Hash;
use crate::keys::{screen, verify, Check};

/// The two, as errors name them.
pub(crate) const WHICH: [&str; 2] = ["first", "second"];
/// Longest encoded vote.
pub const MAX_VOTE_BYTES: usize = 128;

/// What a validator did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum OffenceKind {
    /// Two prevotes in one round.
    Prevotes,
    /// Two precommits in one round.
    Precommits,
    /// Two proposals in one round.
    Proposals,
}

impl OffenceKind {
    /// Its number: a vote's is that of its type.
    pub(crate) fn number(self) -> u32 {
        match self {
            Self::Prevotes => 1,
            Self::Precommits => 2,
            Self::Proposals => 3,
        }
    }

    /// One word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Prevotes => "prevotes",
            Self::Precommits => "precommits",
            Self::Proposals => "proposals",
        }
    }
}

/// Who did what, where: shown by two signatures.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Offence {
    /// The validator's address: its vote key.
    pub validator: Hash,
    /// What it did.
    pub kind: OffenceKind,
    /// Height.
    pub height: u64,
    /// Round.
    pub round: u32,
    /// Header that it signed first, as the evidence lists them; none is a vote for nil.
    pub first: Option<Hash>,
    /// The other one.
    pub second: Option<Hash>,
}

/// Why evidence shows nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EvidenceError {
    #[error(transparent)]
    Encoding(#[from] EncodingError),
    #[error("the two differ in {0}: they do not contradict each other")]
    Apart(&'static str),
    #[error("both are for the same block: they do not contradict each other")]
    Same,
    #[error("address {address} is no key: {why}")]
    Address { address: String, why: &'static str },
    #[error("the {which} signature is not by {address}")]
    Signature { which: &'static str, address: String },
}

impl EvidenceError {
    /// One machine-readable reason.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Encoding(_) => "MALFORMED_EVIDENCE",
            Self::Apart(_) | Self::Same => "NO_CONTRADICTION",
            Self::Address { .. } => "BAD_EVIDENCE_ADDRESS",
            Self::Signature { .. } => "BAD_EVIDENCE_SIGNATURE",
        }
    }
}

/// One of the two, taken apart.
struct Part {
    kind: OffenceKind,
    height: u64,
    round: u32,
    hash: Option<Hash>,
    check: Check,
}

/// What two messages contradict each other about, and the signatures that have to hold: canonical, one validator, type, height and
/// round, two headers.
pub(crate) fn contradiction(
    chain_id: &str,
    evidence: &ReportEvidence,
) -> Result<(Offence, [Check; 2]), EvidenceError> {
    let (first, second) = parts(chain_id, evidence)?;
    for (field, same) in [
        ("type", first.kind == second.kind),
        ("height", first.height == second.height),
        ("round", first.round == second.round),
        ("address", first.check.public_key == second.check.public_key),
    ] {
        if !same {
            return Err(EvidenceError::Apart(field));
        }
    }
    if first.hash == second.hash {
        return Err(EvidenceError::Same);
    }
    let Part { kind, height, round, hash, check } = first;
    let offence =
        Offence { validator: check.public_key, kind, height, round, first: hash, second: second.hash };
    Ok((offence, [check, second.check]))
}

/// Checks evidence by itself: what contradicts, and both signatures.
pub fn verify_evidence(chain_id: &str, evidence: &ReportEvidence) -> Result<Offence, EvidenceError> {
    let (offence, checks) = contradiction(chain_id, evidence)?;
    let address = || hex::encode(offence.validator);
    screen(&offence.validator).map_err(|why| EvidenceError::Address { address: address(), why })?;
    for (which, Check { public_key, message, signature }) in WHICH.into_iter().zip(&checks) {
        if !verify(public_key, message, signature) {
            return Err(EvidenceError::Signature { which, address: address() });
        }
    }
    Ok(offence)
}

/// Checks the form of evidence: variants, lengths, each vote in its one encoding.
pub(crate) fn check_evidence(evidence: &ReportEvidence) -> Result<(), EncodingError> {
    // The chain id is in what is signed, and no signature is looked at.
    parts("", evidence).map(|_| ())
}

fn parts(chain_id: &str, evidence: &ReportEvidence) -> Result<(Part, Part), EncodingError> {
    match &evidence.kind {
        None => Err(EncodingError::Field {
            message: "ReportEvidence",
            field: "kind",
            reason: "no variant".into(),
        }),
        Some(Kind::Votes(votes)) => Ok((
            vote(chain_id, &votes.first, &votes.first_signature)?,
            vote(chain_id, &votes.second, &votes.second_signature)?,
        )),
        Some(Kind::Proposals(proposals)) => {
            let missing = |field| EncodingError::Field {
                message: "ConflictingProposals",
                field,
                reason: "missing".into(),
            };
            let first = proposals.first.as_ref().ok_or_else(|| missing("first"))?;
            let second = proposals.second.as_ref().ok_or_else(|| missing("second"))?;
            Ok((proposal(chain_id, first)?, proposal(chain_id, second)?))
        }
    }
}

fn vote(chain_id: &str, encoded: &[u8], signature: &[u8]) -> Result<Part, EncodingError> {
    let vote: Vote = decode("Vote", encoded, MAX_VOTE_BYTES)?;
    let kind = match vote.r#type() {
        VoteType::Prevote => OffenceKind::Prevotes,
        VoteType::Precommit => OffenceKind::Precommits,
        VoteType::Unspecified => {
            let reason = format!("{}, neither prevote nor precommit", vote.r#type);
            return Err(EncodingError::Field { message: "Vote", field: "type", reason });
        }
    };
    Ok(Part {
        kind,
        height: vote.height,
        round: vote.round,
        hash: vote.header_hash.as_ref().map(|hash| array("Vote", "header_hash", hash)).transpose()?,
        check: Check {
            public_key: array("Vote", "address", &vote.address)?,
            message: vote_sign_bytes(chain_id, &vote),
            signature: array("ConflictingVotes", "signature", signature)?,
        },
    })
}

fn proposal(chain_id: &str, proposal: &SignedProposal) -> Result<Part, EncodingError> {
    let SignedProposal { height, round, pol_round, .. } = *proposal;
    let hash = array("SignedProposal", "header_hash", &proposal.header_hash)?;
    let address = array("SignedProposal", "address", &proposal.address)?;
    Ok(Part {
        kind: OffenceKind::Proposals,
        height,
        round,
        hash: Some(hash),
        check: Check {
            public_key: address,
            message: proposal_sign_bytes(chain_id, height, round, pol_round, &hash, &address),
            signature: array("SignedProposal", "signature", &proposal.signature)?,
        },
    })
}

/// Evidence of two signed votes; which comes first follows from their bytes, so that all who saw them report alike.
pub fn conflicting_votes(one: (&Vote, &[u8]), other: (&Vote, &[u8])) -> ReportEvidence {
    let mut votes = [one, other].map(|(vote, signature)| (vote.encode_to_vec(), signature.to_vec()));
    votes.sort();
    let [(first, first_signature), (second, second_signature)] = votes;
    let votes = ConflictingVotes { first, first_signature, second, second_signature };
    ReportEvidence { kind: Some(Kind::Votes(votes)) }
}

/// Evidence of two signed proposals, in the order of their header hashes.
pub fn conflicting_proposals(one: SignedProposal, other: SignedProposal) -> ReportEvidence {
    let swapped = one.header_hash > other.header_hash;
    let (first, second) = if swapped { (other, one) } else { (one, other) };
    let proposals = ConflictingProposals { first: Some(first), second: Some(second) };
    ReportEvidence { kind: Some(Kind::Proposals(proposals)) }
}

/// A validator that signed the certificates of two blocks of one height.
#[derive(Debug, Clone, PartialEq)]
pub struct SignedBoth {
    /// Its address.
    pub validator: Hash,
    /// Evidence by itself, when both certificates are of one round. Precommits of two rounds may be an honest validator's, for all
    /// that they show by themselves.
    pub evidence: Option<ReportEvidence>,
}

/// Who signed two certificates, which were verified, over different headers of one height: ascending addresses.
pub fn signed_both(one: &Certificate, other: &Certificate) -> Result<Vec<SignedBoth>, EncodingError> {
    let hash = |c: &Certificate| array::<32>("Certificate", "header_hash", &c.header_hash);
    let (one_hash, other_hash) = (hash(one)?, hash(other)?);
    let mut found = Vec::new();
    for signature in &one.signatures {
        let Some(second) = other.signatures.iter().find(|s| s.address == signature.address) else {
            continue;
        };
        let validator = array("CommitSignature", "address", &signature.address)?;
        let evidence = (one.round == other.round).then(|| {
            let first = precommit(one.height, one.round, &one_hash, &validator);
            let vote = precommit(other.height, other.round, &other_hash, &validator);
            conflicting_votes((&first, &signature.signature), (&vote, &second.signature))
        });
        found.push(SignedBoth { validator, evidence });
    }
    Ok(found)
}
