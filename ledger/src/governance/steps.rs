//! Steps, as they are executed in an entry.

use assent_proto::ledger::v1::govern::Step;
use assent_proto::ledger::v1::propose_change::Change;
use assent_proto::ledger::v1::scheduled_change::Kind;
use assent_proto::ledger::v1::{
    ApproveChange, Govern, KeyPurpose, Membership, OpenProposal, ProposeChange, ReplaceKey, RotateKey,
    ScheduledAddresses, SetAddresses, SuspendEntryKey, Suspension, ValidatorReady,
};

use super::change::{check_change, check_replacement};
use super::error::GovernanceError;
use super::handover::{handover_sign_bytes, member, present_key, ready_sign_bytes};
use super::power::{can_approve_without, count_votes, power_of, schedule};
use super::{MAX_LEAD_HEIGHTS, MAX_OWN_PROPOSALS, MAX_PROPOSALS, MAX_READY_LAG, MIN_LEAD_HEIGHTS};
use crate::encoding::array;
use crate::execute::{ExecuteError, Moment, Signatures};
use crate::keys::Check;
use crate::membership::{membership, membership_key};
use crate::state::{Overlay, StateRead};

/// Executes a step of governance: it changes what is proposed, decided and scheduled, nothing else.
pub(crate) fn govern<R: StateRead>(
    state: &mut Overlay<'_, R>,
    at: Moment<'_>,
    author: &str,
    op: &Govern,
    signatures: &mut Signatures,
) -> Result<(), ExecuteError> {
    let mut members = membership(state, at.chain_id)?;
    match op.step.as_ref() {
        Some(Step::Propose(op)) => propose(state, at, author, op, &mut members, signatures)?,
        Some(Step::Approve(op)) => approve(at, author, op, &mut members)?,
        Some(Step::RotateKey(op)) => rotate(at, author, op, &mut members, signatures)?,
        Some(Step::SuspendEntryKey(op)) => suspend(at, author, op, &mut members)?,
        Some(Step::SetAddresses(op)) => set_addresses(at, author, op, &mut members),
        Some(Step::ValidatorReady(op)) => ready(at, author, op, &mut members, signatures)?,
        // check_entry refuses it before: there is no such step.
        None => {}
    }
    state.put(membership_key(at.chain_id), &members);
    Ok(())
}

fn only_voters(membership: &Membership, author: &str) -> Result<(), GovernanceError> {
    match power_of(membership, author) {
        0 => Err(GovernanceError::NotAVoter(author.to_owned())),
        _ => Ok(()),
    }
}

fn check_effective(at: Moment<'_>, found: u64) -> Result<(), GovernanceError> {
    let earliest = at.height.saturating_add(MIN_LEAD_HEIGHTS);
    let latest = at.height.saturating_add(MAX_LEAD_HEIGHTS);
    if found < earliest {
        return Err(GovernanceError::EffectiveTooLow { found, earliest });
    }
    if found > latest {
        return Err(GovernanceError::EffectiveTooHigh { found, latest });
    }
    Ok(())
}

fn propose(
    state: &impl StateRead,
    at: Moment<'_>,
    author: &str,
    op: &ProposeChange,
    membership: &mut Membership,
    signatures: &mut Signatures,
) -> Result<(), ExecuteError> {
    only_voters(membership, author)?;
    check_effective(at, op.effective_height)?;
    let open = membership.proposals.len();
    if open >= MAX_PROPOSALS {
        return Err(GovernanceError::TooManyProposals(open).into());
    }
    let own = membership.proposals.iter().filter(|p| p.proposer == author).count();
    if own >= MAX_OWN_PROPOSALS {
        return Err(
            GovernanceError::TooManyOwnProposals { organization: author.to_owned(), open: own }.into()
        );
    }
    let scheduled = membership.scheduled.iter().filter_map(|change| match &change.kind {
        Some(Kind::Proposal(proposal)) => Some(proposal),
        _ => None,
    });
    let same = |p: &&OpenProposal| p.change.as_ref().is_some_and(|c| c.change == op.change);
    if let Some(other) = membership.proposals.iter().chain(scheduled).find(same) {
        return Err(GovernanceError::SameChange(other.number).into());
    }
    if let Some(change) = &op.change {
        check_change(state, at.chain_id, membership, change)?;
        if let Change::ReplaceKey(op) = change {
            check_possession(at, op, membership, signatures)?;
        }
    }
    membership.last_proposal = membership.last_proposal.saturating_add(1);
    membership.proposals.push(OpenProposal {
        number: membership.last_proposal,
        proposer: author.to_owned(),
        change: Some(op.clone()),
        approvals: vec![author.to_owned()],
    });
    count_votes(membership, at.height.saturating_add(1));
    Ok(())
}

/// The new key signs that somebody holds it: what nobody holds would lock the member out.
fn check_possession(
    at: Moment<'_>,
    op: &ReplaceKey,
    membership: &Membership,
    signatures: &mut Signatures,
) -> Result<(), ExecuteError> {
    if op.purpose() == KeyPurpose::CertificateAuthority {
        return Ok(());
    }
    let old = present_key(membership, &op.organization, op.purpose()).unwrap_or_default();
    let message = handover_sign_bytes(at.chain_id, &op.organization, op.purpose(), &old, &op.new_key, 0);
    let check = Check {
        public_key: array("ReplaceKey", "new_key", &op.new_key)?,
        message,
        signature: array("ReplaceKey", "new_signature", &op.new_signature)?,
    };
    signatures.check(check, GovernanceError::HandoverSignature("new").into())
}

fn approve(
    at: Moment<'_>,
    author: &str,
    op: &ApproveChange,
    membership: &mut Membership,
) -> Result<(), GovernanceError> {
    only_voters(membership, author)?;
    let proposal = membership.proposals.iter_mut().find(|p| p.number == op.proposal);
    let approvals = &mut proposal.ok_or(GovernanceError::NoProposal(op.proposal))?.approvals;
    let Err(place) = approvals.binary_search_by(|id| id.as_str().cmp(author)) else {
        return Err(GovernanceError::ApprovedAlready {
            organization: author.to_owned(),
            number: op.proposal,
        });
    };
    approvals.insert(place, author.to_owned());
    count_votes(membership, at.height.saturating_add(1));
    Ok(())
}

fn rotate(
    at: Moment<'_>,
    author: &str,
    op: &RotateKey,
    membership: &mut Membership,
    signatures: &mut Signatures,
) -> Result<(), ExecuteError> {
    let purpose = op.purpose();
    member(membership, author)?;
    check_effective(at, op.effective_height)?;
    let waits =
        |kind: &Kind| matches!(kind, Kind::Key(k) if k.organization == author && k.purpose == op.purpose);
    if membership.scheduled.iter().filter_map(|c| c.kind.as_ref()).any(waits) {
        return Err(GovernanceError::KeyUnderWay(author.to_owned()).into());
    }
    check_replacement(membership, author, purpose, &op.new_key)?;
    if purpose != KeyPurpose::CertificateAuthority {
        let old = present_key(membership, author, purpose).unwrap_or_default();
        let message =
            handover_sign_bytes(at.chain_id, author, purpose, &old, &op.new_key, op.effective_height);
        let both = [("old", &old, &op.old_signature), ("new", &op.new_key, &op.new_signature)];
        for (which, key, signature) in both {
            let check = Check {
                public_key: array("RotateKey", "key", key)?,
                message: message.clone(),
                signature: array("RotateKey", "signature", signature)?,
            };
            signatures.check(check, GovernanceError::HandoverSignature(which).into())?;
        }
    }
    let key = ReplaceKey {
        organization: author.to_owned(),
        purpose: op.purpose,
        new_key: op.new_key.clone(),
        new_signature: op.new_signature.clone(),
    };
    schedule(membership, op.effective_height, Kind::Key(key));
    Ok(())
}

fn suspend(
    at: Moment<'_>,
    author: &str,
    op: &SuspendEntryKey,
    membership: &mut Membership,
) -> Result<(), GovernanceError> {
    only_voters(membership, author)?;
    let target = &op.organization;
    let stopped = member(membership, target)?.entry_key.is_empty();
    let scheduled = |kind: &Kind| matches!(kind, Kind::Suspended(id) if id == target);
    if stopped || membership.scheduled.iter().filter_map(|c| c.kind.as_ref()).any(scheduled) {
        return Err(GovernanceError::SuspendedAlready(target.clone()));
    }
    if power_of(membership, target) > 0 && !can_approve_without(membership, target, true) {
        return Err(GovernanceError::NobodyLeftToApprove(target.clone()));
    }
    let at_id = |s: &Suspension| s.organization.as_str().cmp(target);
    let place = membership.suspensions.binary_search_by(at_id).unwrap_or_else(|place| {
        let new = Suspension { organization: target.clone(), votes: Vec::new() };
        membership.suspensions.insert(place, new);
        place
    });
    let votes = &mut membership.suspensions[place].votes;
    let Err(place) = votes.binary_search_by(|id| id.as_str().cmp(author)) else {
        return Err(GovernanceError::VotedAlready { voter: author.to_owned(), organization: target.clone() });
    };
    votes.insert(place, author.to_owned());
    count_votes(membership, at.height.saturating_add(1));
    Ok(())
}

/// The later of two takes the place of the earlier: one author's can't fill the list.
fn set_addresses(at: Moment<'_>, author: &str, op: &SetAddresses, membership: &mut Membership) {
    membership
        .scheduled
        .retain(|c| !matches!(&c.kind, Some(Kind::Addresses(other)) if other.organization == author));
    let addresses = ScheduledAddresses { organization: author.to_owned(), addresses: Some(op.clone()) };
    schedule(membership, at.height.saturating_add(MIN_LEAD_HEIGHTS), Kind::Addresses(addresses));
}

fn ready(
    at: Moment<'_>,
    author: &str,
    op: &ValidatorReady,
    membership: &mut Membership,
    signatures: &mut Signatures,
) -> Result<(), ExecuteError> {
    let place = membership.joining.iter().position(|v| v.organization == author);
    let place = place.ok_or_else(|| GovernanceError::NotJoining(author.to_owned()))?;
    let (lowest, highest) = (at.height.saturating_sub(MAX_READY_LAG), at.height.saturating_sub(1));
    if op.height < lowest || op.height > highest {
        return Err(GovernanceError::ReadyHeight { found: op.height, lowest, highest }.into());
    }
    let validator = membership.joining.remove(place);
    let check = Check {
        public_key: array("Validator", "vote_key", &validator.vote_key)?,
        message: ready_sign_bytes(at.chain_id, author, &validator.vote_key, op.height),
        signature: array("ValidatorReady", "vote_signature", &op.vote_signature)?,
    };
    signatures.check(check, GovernanceError::ReadySignature.into())?;
    schedule(membership, at.height.saturating_add(MIN_LEAD_HEIGHTS), Kind::Validator(validator));
    Ok(())
}
