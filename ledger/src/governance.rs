//! What steps of governance and evidence do to the membership.

use assent_proto::ledger::v1::{Govern, Membership, ReportEvidence};

use crate::block::Tip;
use crate::encoding::EncodingError;
use crate::execute::{ExecuteError, Moment, Signatures};
use crate::state::{Overlay, ReadError, StateRead};

/// Why a step of governance has no effect.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GovernanceError {
    #[error("this version does not execute steps of governance")]
    NotYet,
}

impl GovernanceError {
    /// One machine-readable reason.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NotYet => "GOVERNANCE_NOT_EXECUTED",
        }
    }
}

/// Checks the form of a step: variants and lengths.
pub(crate) fn check_govern(op: &Govern) -> Result<(), EncodingError> {
    match op.step {
        None => Err(EncodingError::Field { message: "Govern", field: "step", reason: "no variant".into() }),
        Some(_) => Ok(()),
    }
}

/// Checks the form of evidence: variants and lengths.
pub(crate) fn check_evidence(op: &ReportEvidence) -> Result<(), EncodingError> {
    match op.kind {
        None => Err(EncodingError::Field {
            message: "ReportEvidence",
            field: "kind",
            reason: "no variant".into(),
        }),
        Some(_) => Ok(()),
    }
}

/// Executes a step of governance.
pub(crate) fn govern<R: StateRead>(
    _state: &mut Overlay<'_, R>,
    _at: Moment<'_>,
    _author: &str,
    _op: &Govern,
    _signatures: &mut Signatures,
) -> Result<(), ExecuteError> {
    Err(GovernanceError::NotYet.into())
}

/// Records evidence against a validator.
pub(crate) fn report_evidence<R: StateRead>(
    _state: &mut Overlay<'_, R>,
    _at: Moment<'_>,
    _op: &ReportEvidence,
    _signatures: &mut Signatures,
) -> Result<(), ExecuteError> {
    Err(GovernanceError::NotYet.into())
}

/// Carries out what is scheduled up to height `next`; false when nothing changed.
pub(crate) fn activate<R: StateRead>(
    _state: &mut Overlay<'_, R>,
    _membership: &mut Membership,
    _tip: &Tip,
    _next: u64,
) -> Result<bool, ReadError> {
    Ok(false)
}
