//! What steps of governance and evidence do to the membership (ARCHITECTURE.md, "Governance").
//!
//! ```text
//! ProposeChange, ApproveChange ─▶ proposals ─ more than 2/3 of the power ─▶ scheduled ─┐
//! RotateKey, SetAddresses (author alone) ──────────────────────────────────▶ scheduled ─┤ at its height
//! SuspendEntryKey ─▶ suspensions ─ more than 1/3 of the power ─▶ scheduled, next height ┤ (activate)
//! ValidatorReady (of `joining`) ───────────────────────────────────────────▶ scheduled ─┴─▶ members, validators, keys
//! ```
//! A step changes nothing but these lists. What is scheduled for a height holds when the block before it ends, so that block's
//! header names the set that follows. Where time has made a scheduled change impossible it is void: the rules are asked again.
//!
//! - One organization, one vote: that of its validator's power. Only organizations with a validator vote.
//! - At most one scheduled change touches the validators at one height; the next one moves to the next free height.
//! - A change moves less than 1/3 of the power: it adds or removes one validator, and none is removed that has 1/3 or more. A
//!   network of fewer than four could never grow by that rule, so adding is free below four.
//! - A validator comes or goes only while those of the resulting set that take their turns have a quorum; else 32 heights later.

mod activate;
mod apply;
mod change;
mod error;
mod evidence;
mod form;
mod handover;
mod power;
mod steps;

pub use error::GovernanceError;
pub use evidence::evidence_key;
pub use handover::{handover_sign_bytes, present_key, ready_sign_bytes};

pub(crate) use activate::activate;
pub(crate) use apply::remove_validator;
pub(crate) use evidence::report_evidence;
pub(crate) use form::check_govern;
pub(crate) use steps::govern;

/// Heights between the block of a step and the first at which it may hold.
pub const MIN_LEAD_HEIGHTS: u64 = 2;
/// Furthest that a change may lie ahead, in heights.
pub const MAX_LEAD_HEIGHTS: u64 = 1_000_000;
/// Most open proposals.
pub const MAX_PROPOSALS: usize = 32;
/// Most open proposals of one organization.
pub const MAX_OWN_PROPOSALS: usize = 4;
/// Most members that proposals may lead to.
pub const MAX_ORGANIZATIONS: usize = 512;
/// Furthest that the newest block of a validator that says it is ready may lie behind, in heights.
pub const MAX_READY_LAG: u64 = 256;
/// Heights by which a change is put off that would leave the quorum offline.
pub const POSTPONED_HEIGHTS: u64 = 32;
/// Vote keys of before that are remembered.
pub const MAX_FORMER_VOTE_KEYS: usize = 64;
/// Voting power of every validator that is added.
pub const POWER: u64 = 1;
