//! How a consent's state changes (CONSENT.md, "States"): which steps there are, and what of it still stands after one.
//! Each step is judged on states alone: "a change of mind is one atomic supersede, never a comparison of timestamps".

use super::model::{Base, Consent, ConsentState, Effect};

/// What may be done to a consent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The patient agrees to what was proposed.
    Activate,
    /// The patient does not.
    Reject,
    /// The patient withdraws what it permits.
    Revoke,
    /// Another consent takes its place, in the same entry.
    Supersede,
    /// It should never have been recorded.
    MarkError,
}

/// A step that a consent in this state doesn't take: FAILED_PRECONDITION at the border.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a consent that is {from:?} can't {step:?}")]
pub struct StepFault {
    /// The state that it is in.
    pub from: ConsentState,
    /// What was asked.
    pub step: Step,
}

impl ConsentState {
    /// The state after a step. "Revoking what isn't active is FAILED_PRECONDITION, revoking twice is fine."
    pub fn after(self, step: Step) -> Result<Self, StepFault> {
        match (self, step) {
            (Self::Proposed, Step::Activate) => Ok(Self::Active),
            (Self::Proposed, Step::Reject) => Ok(Self::Rejected),
            (Self::Active | Self::Revoked, Step::Revoke) => Ok(Self::Revoked),
            // A revoked consent's denies are lifted by a supersede too.
            (Self::Active | Self::Revoked, Step::Supersede) => Ok(Self::Superseded),
            (_, Step::MarkError) => Ok(Self::EnteredInError),
            (from, step) => Err(StepFault { from, step }),
        }
    }
}

impl Consent {
    /// Whether anything of it would outlive a revocation: its DENY rules, and a base DENY or LIMIT ("Revoking never
    /// widens"). The preview says so.
    pub fn stands_after_revocation(&self) -> bool {
        let denies = self.rules.iter().chain(&self.root_rule).any(|rule| rule.clause.effect == Effect::Deny);
        denies || matches!(self.base, Base::Deny | Base::Limit)
    }

    /// Whether its period, or its grantor's authority, is over.
    pub fn is_over(&self, at_ms: i64) -> bool {
        let ends = [self.context.valid.end_ms, self.authority_ends_ms];
        ends.into_iter().flatten().any(|end| end <= at_ms)
    }

    /// Whether anything of it counts in a decision now, or will when its period begins.
    pub fn something_stands(&self, at_ms: i64) -> bool {
        let permits = match self.state {
            ConsentState::Active => self.authority_ends_ms.is_none_or(|end| at_ms < end),
            ConsentState::Revoked => false,
            _ => return false,
        };
        let ended = self.context.valid.end_ms.is_some_and(|end| end <= at_ms);
        !ended && (permits || self.unresolved || self.stands_after_revocation())
    }

    /// What stands for an active consent of a feed that import refused: "kept as unresolved, and the subject's releases
    /// are withheld as INDETERMINATE until an officer resolves it".
    pub fn unresolved(id: &str, subject: &str) -> Self {
        Self {
            id: id.to_owned(),
            revision: 0,
            subject: subject.to_owned(),
            state: ConsentState::Active,
            context: super::model::Context::default(),
            base: Base::None,
            root_rule: None,
            rules: Vec::new(),
            legal_basis: None,
            authority_ends_ms: None,
            unresolved: true,
            obligations: Vec::new(),
        }
    }
}
