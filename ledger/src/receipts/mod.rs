//! Receipts that stand without a node: one small file, verified with the genesis hash or a pinned checkpoint alone.
//!
//! ```text
//! genesis hash ─▶ genesis ─────────────┐
//! checkpoint ─inclusion─▶ a header ────┴─(chain of sets)─▶ validators ─certificate─▶ Header      checkpoint ─inclusion─▶ Header
//!
//! Header ─state root─▶ slot, or none ─salt─▶ consents, or that one is not among them
//!        ─state root─▶ slot of the sequence that a signed decision names
//!        ─log root──▶ entry ─▶ commitment ─salt─▶ access ─▶ request, signed
//!        ─validator set─▶ members' keys ─▶ signatures of recipient and custodian
//! ```
//! Behind a recovery of a lost quorum ([`crate::recovery`]) a chain of sets counts only for a reader who accepts its plan. What
//! stands in the log of the reader's checkpoint needs no such word.
//!
//! Every byte is covered: a changed or surplus one is refused, signatures beyond a quorum too. A certified header shows what that
//! chain of sets signed; that the same validators signed no second chain only a checkpoint shows that others saw and it stands in.

mod access;
mod anchor;
mod bundle;
mod claim;
mod history;
mod keys;
mod make;
mod path;

use std::collections::BTreeSet;

use assent_proto::ledger::v1::{receipt, ConsentBody, DataRequest, Decision, Receipt, Slot};

use crate::commitment::ConsentLeaf;
use crate::encoding::{decode, EncodingError};
use crate::genesis::GenesisError;
use crate::hash::Hash;
use crate::receipt::ReceiptError;
use crate::sets::SetError;

pub use access::VerifiedAccess;
pub use anchor::{genesis_hash_in, genesis_hash_of};
pub(crate) use anchor::{limit_changes, SetChain};
pub(crate) use bundle::limit_parts;
pub use bundle::{
    check_bundle, decode_bundle, verify_bundle, BUNDLE_MAGIC, MAX_BUNDLE_BYTES, MAX_PARTS, MAX_PROOF_BYTES,
};
pub use history::{decode_history, verify_history, VerifiedHistory, HISTORY_MAGIC, MAX_HISTORY_BYTES};
pub use keys::{AnchoredAt, Start, MAX_KEY_AGE_MS};
pub use make::{
    behind_checkpoint, from_checkpoint, from_genesis, one_consent, prove_member, shortened, MakeError,
};
pub use path::tree_path;

/// First bytes of a receipt file.
pub const RECEIPT_MAGIC: &[u8; 8] = b"ASSENTR1";
/// Longest receipt without its magic.
pub const MAX_BYTES: usize = 64 << 10;

/// What the reader trusts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trust {
    /// A genesis.
    Genesis {
        /// Its hash.
        hash: Hash,
        /// Hashes of the plans of recoveries that the reader accepts.
        accepted: BTreeSet<Hash>,
    },
    /// A checkpoint that a known key signed.
    Checkpoint {
        /// Names the log.
        origin: String,
        /// Leaves in it.
        size: u64,
        /// Its root.
        root: Hash,
        /// Hashes of the plans of recoveries behind it that the reader accepts.
        accepted: BTreeSet<Hash>,
    },
}

impl Trust {
    /// A genesis hash, and no recovery.
    pub fn genesis(hash: Hash) -> Self {
        Self::Genesis { hash, accepted: BTreeSet::new() }
    }
}

/// Why a receipt shows nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReceiptFault {
    /// It starts elsewhere than at what the reader trusts: neither right nor wrong.
    #[error("{0}")]
    OtherAnchor(String),
    #[error(transparent)]
    Genesis(#[from] GenesisError),
    #[error(transparent)]
    Sets(#[from] SetError),
    #[error(transparent)]
    Proof(#[from] ReceiptError),
    #[error("{0}")]
    Rule(&'static str),
}

impl From<EncodingError> for ReceiptFault {
    fn from(error: EncodingError) -> Self {
        Self::Proof(error.into())
    }
}

fn rule<T>(why: &'static str) -> Result<T, ReceiptFault> {
    Err(ReceiptFault::Rule(why))
}

/// What a verified receipt shows.
#[derive(Debug, Clone, PartialEq)]
pub struct Verified {
    /// The header that everything stands under.
    pub at: AnchoredAt,
    /// What stands there.
    pub claim: Claim,
}

/// What a receipt is about.
#[derive(Debug, Clone, PartialEq)]
pub enum Claim {
    /// A subject's slot, or that there is none.
    Slot(Box<VerifiedSlot>),
    /// A permit.
    Decision(Box<VerifiedDecision>),
    /// An access.
    Access(Box<VerifiedAccess>),
}

/// A slot after a block.
#[derive(Debug, Clone, PartialEq)]
pub struct VerifiedSlot {
    /// Organization that holds the records.
    pub custodian: String,
    /// The subject's handle.
    pub handle: Hash,
    /// The slot; none when it is shown that there is none.
    pub slot: Option<Slot>,
    /// What its commitment stands for, if it is opened.
    pub consents: Option<Consents>,
}

/// What a slot's commitment stands for.
#[derive(Debug, Clone, PartialEq)]
pub enum Consents {
    /// One of `count` consents.
    One {
        /// The consent.
        leaf: ConsentLeaf,
        /// How many there are.
        count: u64,
        /// Its latest revision, if that is opened.
        body: Option<Box<ConsentBody>>,
    },
    /// All of them, in ascending order of id.
    All(Vec<ConsentLeaf>),
}

/// A permit, and the state that it still stood in.
#[derive(Debug, Clone, PartialEq)]
pub struct VerifiedDecision {
    /// The question.
    pub request: DataRequest,
    /// The answer.
    pub decision: Decision,
    /// The slot after the header's block: its consent sequence is the decision's.
    pub slot: Slot,
    /// Whether the policy sequence is shown too; otherwise it is the custodian's word.
    pub policy_shown: bool,
}

fn read(bytes: &[u8]) -> Result<Receipt, ReceiptFault> {
    Ok(decode("Receipt", bytes, MAX_BYTES)?)
}

/// Verifies a receipt (without its magic).
pub fn verify(trust: &Trust, bytes: &[u8]) -> Result<Verified, ReceiptFault> {
    verify_receipt(trust, &read(bytes)?)
}

/// The same of one that came inside something else.
pub fn verify_receipt(trust: &Trust, receipt: &Receipt) -> Result<Verified, ReceiptFault> {
    let (Some(anchor), Some(claim)) = (&receipt.anchor, &receipt.claim) else {
        return rule("the receipt has no anchor or no claim");
    };
    let (_, at) = SetChain::verify(trust, anchor, 0)?;
    let claim = match claim {
        receipt::Claim::Slot(slot) => Claim::Slot(Box::new(claim::slot(&at, slot)?)),
        receipt::Claim::Decision(decision) => Claim::Decision(Box::new(claim::decision(&at, decision)?)),
        receipt::Claim::Access(access) => Claim::Access(Box::new(access::access(&at, access)?)),
    };
    Ok(Verified { at, claim })
}
