//! Evidence ([`crate::evidence`]) as a rule of the ledger: whose key it is, and that it counts once.

use assent_proto::ledger::v1::{EvidenceState, Membership, ReportEvidence};

use super::error::GovernanceError;
use super::power::validators;
use crate::evidence::{contradiction, EvidenceError, Offence, WHICH};
use crate::execute::{ExecuteError, Moment, Signatures};
use crate::hash::{hash, Context, Hash};
use crate::membership::membership;
use crate::state::{organization, organization_key, read, Overlay, ReadError, StateRead};

/// State key of one piece of evidence. `kind` is the vote type (1, 2), or 3 for proposals.
pub fn evidence_key(chain_id: &str, address: &Hash, height: u64, round: u32, kind: u32) -> Hash {
    let parts: [&[u8]; 4] = [address, &height.to_be_bytes(), &round.to_be_bytes(), &kind.to_be_bytes()];
    hash(Context::StateEvidence, chain_id, &parts)
}

/// Records evidence against a validator, present or former: once for each address, height, round and kind.
pub(crate) fn report_evidence<R: StateRead>(
    state: &mut Overlay<'_, R>,
    at: Moment<'_>,
    op: &ReportEvidence,
    signatures: &mut Signatures,
) -> Result<(), ExecuteError> {
    let (offence, checks) = contradiction(at.chain_id, op).map_err(GovernanceError::Evidence)?;
    let Offence { validator, kind, height, round, .. } = offence;
    if height == 0 || height > at.height {
        return Err(GovernanceError::EvidenceHeight { found: height, height: at.height }.into());
    }
    let members = membership(state, at.chain_id)?;
    let offender = offender(&members, &validator, height)
        .ok_or_else(|| GovernanceError::NotAValidatorKey(hex::encode(validator)))?;
    if members.recovered_heights.contains(&height) {
        return Err(GovernanceError::EvidenceRecovered(height).into());
    }
    let key = evidence_key(at.chain_id, &validator, height, round, kind.number());
    if let Some(EvidenceState { height }) = read(state, &key)? {
        return Err(GovernanceError::EvidenceKnown(height).into());
    }
    for (which, check) in WHICH.into_iter().zip(checks) {
        let address = hex::encode(validator);
        let forged = GovernanceError::Evidence(EvidenceError::Signature { which, address });
        signatures.check(check, forged.into())?;
    }
    state.put(key, &EvidenceState { height: at.height });
    let missing = || ReadError(format!("organization {offender} was a member without a state"));
    let mut stored = organization(state, at.chain_id, &offender)?.ok_or_else(missing)?;
    stored.evidence = stored.evidence.saturating_add(1);
    state.put(organization_key(at.chain_id, &offender), &stored);
    Ok(())
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
