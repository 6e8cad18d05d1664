//! Why a step of governance, or evidence, has no effect.

use crate::evidence::EvidenceError;

/// Why a step of governance, or evidence, has no effect.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GovernanceError {
    #[error("{0} has no validator: only organizations with a validator vote")]
    NotAVoter(String),
    #[error("effective height is {found}, at least {earliest} needed")]
    EffectiveTooLow { found: u64, earliest: u64 },
    #[error("effective height is {found}, at most {latest} allowed")]
    EffectiveTooHigh { found: u64, latest: u64 },
    #[error("{0} proposals are open already: approve some, or wait until their heights have come")]
    TooManyProposals(usize),
    #[error("{organization} has {open} open proposals already")]
    TooManyOwnProposals { organization: String, open: usize },
    #[error("proposal {0} is the same change: approve that one")]
    SameChange(u64),
    #[error("no proposal {0} is open")]
    NoProposal(u64),
    #[error("{organization} approved proposal {number} already")]
    ApprovedAlready { organization: String, number: u64 },
    #[error("{0} is not a member")]
    UnknownOrganization(String),
    #[error("{0} is or was a member: choose another id")]
    OrganizationExists(String),
    #[error("there are {0} members already")]
    TooManyOrganizations(usize),
    #[error("{0} has a validator, or one that waits to be ready")]
    ValidatorExists(String),
    #[error("{0} has no validator")]
    NoValidator(String),
    #[error("there are {0} validators already")]
    TooManyValidators(usize),
    #[error("{organization} has {power} of {total} power: a change must move less than 1/3")]
    TooMuchPower { organization: String, power: u64, total: u64 },
    #[error("without {0} the organizations that can still sign entries have no more than 2/3 of the power: nothing could be approved any more")]
    NobodyLeftToApprove(String),
    #[error("{0} can't succeed: the successor must be another member")]
    Successor(String),
    #[error("{what} is refused: {why}")]
    Key { what: &'static str, why: &'static str },
    #[error("{0} is in use already: a key serves one organization and one purpose")]
    KeyInUse(&'static str),
    #[error("{0} has no such key")]
    NoSuchKey(String),
    #[error("a new key of {0} for this purpose is scheduled already")]
    KeyUnderWay(String),
    #[error("the {0} key's signature of the handover does not verify")]
    HandoverSignature(&'static str),
    #[error("the entry key of {0} is suspended, or will be at the next height")]
    SuspendedAlready(String),
    #[error("{voter} voted already to suspend the entry key of {organization}")]
    VotedAlready { voter: String, organization: String },
    #[error("no validator of {0} waits to be ready")]
    NotJoining(String),
    #[error("newest block is {found}, {lowest} to {highest} expected: is the node in sync?")]
    ReadyHeight { found: u64, lowest: u64, highest: u64 },
    #[error("the vote key's signature does not verify")]
    ReadySignature,
    #[error(transparent)]
    Evidence(EvidenceError),
    #[error("{0} was no validator's address at that height")]
    NotAValidatorKey(String),
    #[error("height {found} is not reached yet, this block is {height}")]
    EvidenceHeight { found: u64, height: u64 },
    #[error("this evidence stands on the ledger already, at height {0}")]
    EvidenceKnown(u64),
    #[error(
        "height {0} is the first after a recovery: an honest validator may have voted there in both sets"
    )]
    EvidenceRecovered(u64),
}

impl GovernanceError {
    /// True when no later block can make it go away: heights and evidence only grow. Approvals don't: a suspension drops them.
    pub fn is_final(&self) -> bool {
        matches!(
            self,
            Self::EffectiveTooLow { .. }
                | Self::OrganizationExists(_)
                | Self::Evidence(_)
                | Self::EvidenceKnown(_)
                | Self::EvidenceRecovered(_)
        )
    }

    /// One machine-readable reason.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NotAVoter(_) => "NOT_A_VOTER",
            Self::EffectiveTooLow { .. } => "EFFECTIVE_HEIGHT_TOO_LOW",
            Self::EffectiveTooHigh { .. } => "EFFECTIVE_HEIGHT_TOO_HIGH",
            Self::TooManyProposals(_) => "TOO_MANY_PROPOSALS",
            Self::TooManyOwnProposals { .. } => "TOO_MANY_OWN_PROPOSALS",
            Self::SameChange(_) => "PROPOSAL_EXISTS",
            Self::NoProposal(_) => "NO_PROPOSAL",
            Self::ApprovedAlready { .. } => "ALREADY_APPROVED",
            Self::UnknownOrganization(_) => "NO_MEMBER",
            Self::OrganizationExists(_) => "MEMBER_EXISTS",
            Self::TooManyOrganizations(_) => "TOO_MANY_MEMBERS",
            Self::ValidatorExists(_) => "VALIDATOR_EXISTS",
            Self::NoValidator(_) => "NO_VALIDATOR",
            Self::TooManyValidators(_) => "TOO_MANY_VALIDATORS",
            Self::TooMuchPower { .. } => "TOO_MUCH_POWER",
            Self::NobodyLeftToApprove(_) => "NOBODY_LEFT_TO_APPROVE",
            Self::Successor(_) => "BAD_SUCCESSOR",
            Self::Key { .. } => "BAD_KEY",
            Self::KeyInUse(_) => "KEY_IN_USE",
            Self::NoSuchKey(_) => "NO_SUCH_KEY",
            Self::KeyUnderWay(_) => "KEY_CHANGE_UNDER_WAY",
            Self::HandoverSignature(_) => "BAD_HANDOVER_SIGNATURE",
            Self::SuspendedAlready(_) => "ALREADY_SUSPENDED",
            Self::VotedAlready { .. } => "ALREADY_VOTED",
            Self::NotJoining(_) => "NOT_JOINING",
            Self::ReadyHeight { .. } => "READY_HEIGHT_OUT_OF_RANGE",
            Self::ReadySignature => "BAD_READY_SIGNATURE",
            Self::Evidence(error) => error.reason(),
            Self::NotAValidatorKey(_) => "NOT_A_VALIDATOR_KEY",
            Self::EvidenceHeight { .. } => "EVIDENCE_HEIGHT_NOT_REACHED",
            Self::EvidenceKnown(_) => "EVIDENCE_KNOWN",
            Self::EvidenceRecovered(_) => "EVIDENCE_AT_RECOVERY",
        }
    }
}
