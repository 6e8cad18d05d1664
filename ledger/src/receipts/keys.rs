//! A header that follows from what the reader trusts, and the members' keys that count there, or counted before.

use std::sync::Arc;

use assent_proto::ledger::v1::{Header, MemberProof};
use prost::Message;

use super::path::root_from;
use crate::encoding::array;
use crate::hash::Hash;
use crate::keys::PublicKey;
use crate::log::leaf_hash;
use crate::receipt::{same, same_text, ReceiptError};
use crate::recovered::Recovered;

/// How long a key that counted when something was decided may have been replaced when that is recorded, in milliseconds of
/// block time: requests are good for so long. Whoever has an old key can't pass it off as older.
pub const MAX_KEY_AGE_MS: u64 = 3_600_000;

/// Where a receipt starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// At genesis.
    Genesis {
        /// Its hash.
        hash: Hash,
        /// Changes of validators on the way to the header.
        set_changes: usize,
        /// Recoveries among them: the reader accepted each.
        recoveries: Vec<Recovered>,
    },
    /// At a checkpoint.
    Checkpoint {
        /// Leaves in its log.
        size: u64,
        /// The header stands in that log: others saw it. Otherwise validators certified it, from a header in the log on.
        within: bool,
        /// Changes of validators from there to the header.
        set_changes: usize,
        /// Recoveries among them: the reader accepted each.
        recoveries: Vec<Recovered>,
    },
}

/// Whose keys count from a height on.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Members {
    pub from: u64,
    /// Root of the tree of members.
    pub root: Vec<u8>,
    /// Block time of the last header before this, in milliseconds since the Unix epoch; 0 of the first.
    pub since_ms: u64,
}

/// A header that follows from what the reader trusts.
#[derive(Debug, Clone, PartialEq)]
pub struct AnchoredAt {
    /// The header.
    pub header: Header,
    /// Its hash.
    pub hash: Hash,
    /// Where it was come from.
    pub start: Start,
    /// In ascending order of height; of a header in the log of a checkpoint only its own.
    pub(super) members: Arc<[Members]>,
}

impl AnchoredAt {
    fn members_at(&self, height: u64) -> Result<usize, ReceiptError> {
        let found = self.members.iter().rposition(|members| members.from <= height);
        found.ok_or(ReceiptError::Rule("keys count that are older than the header which the sets go on from"))
    }

    fn key_in(
        &self,
        members: usize,
        id: &str,
        proof: Option<&MemberProof>,
    ) -> Result<PublicKey, ReceiptError> {
        let missing = || ReceiptError::Rule("the proof of a member's keys is missing");
        let proof = proof.ok_or_else(missing)?;
        let (member, path) = (proof.member.as_ref().ok_or_else(missing)?, proof.path.as_ref());
        same_text("member whose keys are shown", id, &member.id)?;
        let root = root_from(&leaf_hash(&member.encode_to_vec()), path.ok_or_else(missing)?)?;
        same("root of the members", &self.members[members].root, &root)?;
        if member.entry_key.is_empty() {
            return Err(ReceiptError::Rule("the member's entry key was suspended at that height"));
        }
        Ok(array("Member", "entry_key", &member.entry_key)?)
    }

    /// The entry key of an organization that a proof shows to be a member at the header.
    pub(crate) fn entry_key(&self, id: &str, proof: Option<&MemberProof>) -> Result<PublicKey, ReceiptError> {
        self.key_in(self.members_at(self.header.height)?, id, proof)
    }

    /// The same after the header's block.
    pub(crate) fn next_entry_key(
        &self,
        id: &str,
        proof: Option<&MemberProof>,
    ) -> Result<PublicKey, ReceiptError> {
        self.key_in(self.members_at(self.header.height.saturating_add(1))?, id, proof)
    }

    /// The same after the block that somebody decided on, which is not after the header's. A header in the log of a checkpoint
    /// shows only the keys of its own height. `late`: it may be recorded whenever there is a quorum again.
    pub(crate) fn entry_key_when(
        &self,
        decided: u64,
        late: bool,
        id: &str,
        proof: Option<&MemberProof>,
    ) -> Result<PublicKey, ReceiptError> {
        let then = self.members_at(decided.saturating_add(1))?;
        let ended = self.members.get(then + 1).filter(|next| next.from <= self.header.height);
        let old =
            ended.is_some_and(|next| self.header.time_ms.saturating_sub(next.since_ms) > MAX_KEY_AGE_MS);
        if old && !late {
            return Err(ReceiptError::Rule(
                "it was recorded more than an hour after the keys of its decision were replaced",
            ));
        }
        self.key_in(then, id, proof)
    }
}
