//! Evidence: a validator's signatures under two statements that contradict each other.

use assent_proto::ledger::v1::report_evidence::Kind;
use assent_proto::ledger::v1::{EvidenceState, Membership, ReportEvidence, SignedProposal, Vote, VoteType};

use super::error::GovernanceError;
use super::form;
use super::power::validators;
use crate::certificate::{proposal_sign_bytes, vote_sign_bytes};
use crate::encoding::{array, EncodingError};
use crate::execute::{ExecuteError, Moment, Signatures};
use crate::hash::{hash, Context, Hash};
use crate::keys::Check;
use crate::membership::membership;
use crate::state::{organization, organization_key, read, Overlay, ReadError, StateRead};

/// Number of proposals among the kinds of evidence; votes have their type's.
const PROPOSALS: u32 = 3;

/// State key of one piece of evidence. `kind` is the vote type (1, 2), or 3 for proposals.
pub fn evidence_key(chain_id: &str, address: &Hash, height: u64, round: u32, kind: u32) -> Hash {
    let parts: [&[u8]; 4] = [address, &height.to_be_bytes(), &round.to_be_bytes(), &kind.to_be_bytes()];
    hash(Context::StateEvidence, chain_id, &parts)
}

/// One statement: who, where, for what, and the check of its signature.
struct Statement {
    address: Hash,
    height: u64,
    round: u32,
    kind: u32,
    header_hash: Option<Vec<u8>>,
    check: Check,
}

/// Records evidence against a validator, present or former: once for each address, height, round and kind.
pub(crate) fn report_evidence<R: StateRead>(
    state: &mut Overlay<'_, R>,
    at: Moment<'_>,
    op: &ReportEvidence,
    signatures: &mut Signatures,
) -> Result<(), ExecuteError> {
    let missing = || GovernanceError::NotConflicting("one of the two is missing");
    let [first, second] = match op.kind.as_ref() {
        Some(Kind::Votes(op)) => [
            voted(at.chain_id, &op.first, &op.first_signature)?,
            voted(at.chain_id, &op.second, &op.second_signature)?,
        ],
        Some(Kind::Proposals(op)) => [
            proposed(at.chain_id, op.first.as_ref().ok_or_else(missing)?)?,
            proposed(at.chain_id, op.second.as_ref().ok_or_else(missing)?)?,
        ],
        None => return Err(missing().into()),
    };
    check_conflict(&first, &second)?;
    if first.height == 0 || first.height > at.height {
        return Err(GovernanceError::EvidenceHeight { found: first.height, height: at.height }.into());
    }
    let offender = offender(&membership(state, at.chain_id)?, &first.address, first.height)
        .ok_or_else(|| GovernanceError::NotAValidatorKey(hex::encode(first.address)))?;
    let key = evidence_key(at.chain_id, &first.address, first.height, first.round, first.kind);
    if let Some(EvidenceState { height }) = read(state, &key)? {
        return Err(GovernanceError::EvidenceKnown(height).into());
    }
    signatures.check(first.check, GovernanceError::EvidenceSignature("first").into())?;
    signatures.check(second.check, GovernanceError::EvidenceSignature("second").into())?;
    state.put(key, &EvidenceState { height: at.height });
    let missing = || ReadError(format!("organization {offender} was a member without a state"));
    let mut stored = organization(state, at.chain_id, &offender)?.ok_or_else(missing)?;
    stored.evidence = stored.evidence.saturating_add(1);
    state.put(organization_key(at.chain_id, &offender), &stored);
    Ok(())
}

fn check_conflict(first: &Statement, second: &Statement) -> Result<(), GovernanceError> {
    let differ = |what| Err(GovernanceError::NotConflicting(what));
    if first.address != second.address {
        return differ("they are of different validators");
    }
    if (first.height, first.round) != (second.height, second.round) {
        return differ("they are for different heights or rounds");
    }
    if first.kind != second.kind {
        return differ("they are of different types");
    }
    if first.header_hash == second.header_hash {
        return differ("they are for the same block");
    }
    Ok(())
}

fn voted(chain_id: &str, bytes: &[u8], signature: &[u8]) -> Result<Statement, EncodingError> {
    let vote = form::vote(bytes)?;
    let address = array("Vote", "address", &vote.address)?;
    let check = Check {
        public_key: address,
        message: vote_sign_bytes(chain_id, &vote),
        signature: array("ConflictingVotes", "signature", signature)?,
    };
    let kind = match vote.r#type() {
        VoteType::Prevote => 1,
        VoteType::Precommit => 2,
        VoteType::Unspecified => 0,
    };
    let Vote { height, round, header_hash, .. } = vote;
    Ok(Statement { address, height, round, kind, header_hash, check })
}

fn proposed(chain_id: &str, op: &SignedProposal) -> Result<Statement, EncodingError> {
    let address = array("SignedProposal", "address", &op.address)?;
    let header_hash: Hash = array("SignedProposal", "header_hash", &op.header_hash)?;
    let (height, round) = (op.height, op.round);
    let check = Check {
        public_key: address,
        message: proposal_sign_bytes(chain_id, height, round, op.pol_round, &header_hash, &address),
        signature: array("SignedProposal", "signature", &op.signature)?,
    };
    Ok(Statement { address, height, round, kind: PROPOSALS, header_hash: Some(header_hash.to_vec()), check })
}

/// Organization whose validator has, or had at that height, this address.
fn offender(membership: &Membership, address: &Hash, height: u64) -> Option<String> {
    let present = validators(membership).iter().find(|v| v.vote_key == address).map(|v| &v.organization);
    let former = || {
        let found = membership.former_vote_keys.iter().find(|f| f.vote_key == address);
        found.filter(|f| height <= f.last_height).map(|f| &f.organization)
    };
    present.or_else(former).cloned()
}
