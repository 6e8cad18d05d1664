//! The way from a checkpoint that a reader pinned, to a header in its log or behind it.
//!
//! ```text
//! checkpoint ─inclusion─▶ header at `from` ─(changes of validators)─▶ set of a later header ─certificate─▶ that header
//!            └─inclusion─▶ headers of accesses up to there
//! ```
//! `from` is the newest header in the checkpoint, unless keys count that are older: those that an access was asked for with are of the
//! moment of its decision. So nothing but headers and sets of validators is needed, which every node has from genesis on.

use assent_ledger::genesis::CheckedGenesis;
use assent_ledger::late::verify_late;
use assent_ledger::log::{inclusion_proof, root_at};
use assent_ledger::receipts::{behind_checkpoint, from_checkpoint, Trust};
use assent_ledger::Hash;
use assent_proto::ledger::v1::{
    receipt, AccessEvent, Anchor, Header, InCheckpoint, LateAccess, LateProof, Receipt,
};
use prost::Message;

use super::receipts::{unavailable, unproven, StartAt};
use super::view::View;
use crate::order::Fatal;
use crate::refusal::{Kind, Refusal};

/// A checkpoint, and where in its log the validator sets go on from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pin {
    /// Leaves in the checkpoint.
    pub size: u64,
    /// Height of the header.
    pub from: u64,
}

/// Two heights of an access.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heights {
    /// Of the block that holds it.
    pub recorded: u64,
    /// Of the block that it was decided after.
    pub decided: u64,
}

fn broken() -> Refusal {
    unavailable("the stored access does not decode: tell the node's operator")
}

fn other_checkpoint(message: String) -> Refusal {
    Refusal::new(Kind::FailedPrecondition, "OTHER_CHECKPOINT", message)
}

impl View<'_> {
    /// The header in a checkpoint from which on headers up to `tip`, and the keys that accesses were asked for with, can be shown.
    pub fn pin(
        &self,
        genesis: &CheckedGenesis,
        size: u64,
        tip: u64,
        accesses: &[Heights],
    ) -> Result<Pin, Refusal> {
        let mut from = self.newest_in(size)?.min(tip);
        let mut shown = Vec::with_capacity(accesses.len());
        for Heights { recorded, decided } in accesses {
            let keys = decided.saturating_add(1);
            let changed = keys < *recorded
                && self.set_at(genesis, keys)?.members_root != self.set_at(genesis, *recorded)?.members_root;
            shown.push((*recorded, keys, changed));
        }
        // Each access that is certified, because it came later or for its keys, may need an earlier header; and so may others then.
        loop {
            let needed = |(recorded, keys, changed): &&(u64, u64, bool)| {
                *keys < from && (*recorded > from || *changed)
            };
            match shown.iter().filter(needed).map(|(_, keys, _)| *keys).min() {
                Some(earlier) => from = earlier,
                None => return Ok(Pin { size, from }),
            }
        }
    }

    /// Height of the newest header in the log of so many leaves.
    fn newest_in(&self, size: u64) -> Result<u64, Refusal> {
        let leaves = self.tip.log.size();
        if size > leaves {
            let message = format!("this node's log has {leaves} leaves, the checkpoint {size}: retry in a moment, or ask another");
            return Err(other_checkpoint(message));
        }
        // Headers of ascending height are leaves of ascending place.
        let (mut in_log, mut behind) = (0, self.tip.height.saturating_add(1));
        while behind - in_log > 1 {
            let height = in_log + (behind - in_log) / 2;
            let missing = || Fatal::Corrupt(format!("block {height} is missing"));
            match self.sealed(height)?.ok_or_else(missing)?.header.log_size < size {
                true => in_log = height,
                false => behind = height,
            }
        }
        match in_log {
            0 => Err(other_checkpoint(format!(
                "a checkpoint of {size} leaves holds no block: take a later one"
            ))),
            height => Ok(height),
        }
    }

    /// Refuses a checkpoint that nothing can start at. One that is taken stays so.
    pub fn must_hold(&self, start: StartAt) -> Result<(), Refusal> {
        match start {
            StartAt::Genesis => Ok(()),
            StartAt::Checkpoint(size) => self.newest_in(size).map(|_| ()),
        }
    }

    /// A receipt of an access that was made from genesis, from where its reader asks for it.
    pub fn receipt_from(
        &self,
        genesis: &CheckedGenesis,
        receipt: Receipt,
        start: StartAt,
    ) -> Result<Receipt, Refusal> {
        let StartAt::Checkpoint(size) = start else { return Ok(receipt) };
        let Some(receipt::Claim::Access(claim)) = &receipt.claim else { return Err(broken()) };
        let anchor = self.moved(genesis, size, receipt.anchor.as_ref(), &claim.event, 0)?;
        Ok(Receipt { anchor: Some(anchor), claim: receipt.claim })
    }

    /// The same of a custodian's word for a late release. Verified as its reader will.
    pub fn late_from(
        &self,
        genesis: &CheckedGenesis,
        proof: LateProof,
        start: StartAt,
    ) -> Result<LateProof, Refusal> {
        let StartAt::Checkpoint(size) = start else { return Ok(proof) };
        let signed = proof.late_access.as_ref().ok_or_else(broken)?;
        let late = LateAccess::decode(signed.body.as_slice()).map_err(|_| broken())?;
        let anchor = self.moved(genesis, size, proof.anchor.as_ref(), &late.event, 1)?;
        let proof = LateProof { anchor: Some(anchor), ..proof };
        verify_late(&self.checkpoint_trust(size)?, &proof).map_err(unproven)?;
        Ok(proof)
    }

    fn moved(
        &self,
        genesis: &CheckedGenesis,
        size: u64,
        anchor: Option<&Anchor>,
        event: &[u8],
        ahead: u64,
    ) -> Result<Anchor, Refusal> {
        let header = anchor.map_or(&[][..], |anchor| &anchor.header);
        let recorded = Header::decode(header).map_err(|_| broken())?.height;
        let decided = AccessEvent::decode(event).map_err(|_| broken())?.height;
        let pin = self.pin(genesis, size, recorded, &[Heights { recorded, decided }])?;
        self.pinned_anchor(genesis, pin, recorded, ahead)
    }

    fn place(&self, log_size: u64, size: u64) -> Result<Vec<Hash>, Fatal> {
        let missing = || Fatal::Corrupt(format!("log nodes for leaf {log_size} of {size} are missing"));
        inclusion_proof(self, log_size, size).ok_or_else(missing)
    }

    /// The way to the header at a height, or to the set `ahead` heights after it.
    pub(super) fn pinned_anchor(
        &self,
        genesis: &CheckedGenesis,
        Pin { size, from }: Pin,
        height: u64,
        ahead: u64,
    ) -> Result<Anchor, Refusal> {
        let first = self.sealed_or_refuse(from)?;
        let path = self.place(first.header.log_size, size)?;
        let anchor = from_checkpoint(size, &path, self.set_at(genesis, from)?, first.header_bytes);
        let changes = self.set_changes(from..height.saturating_add(ahead))?;
        if from == height && changes.is_empty() {
            return Ok(anchor);
        }
        let last = self.sealed_or_refuse(height)?;
        Ok(behind_checkpoint(anchor, &changes, last.header_bytes, &last.certificate)
            .map_err(|e| Fatal::Corrupt(e.to_string()))?)
    }

    /// Shows the header at a height in the log of a checkpoint; none where it is certified.
    pub(super) fn in_checkpoint(
        &self,
        genesis: &CheckedGenesis,
        Pin { size, from }: Pin,
        height: u64,
    ) -> Result<Option<InCheckpoint>, Refusal> {
        if height > from {
            return Ok(None);
        }
        let path = self.place(self.sealed_or_refuse(height)?.header.log_size, size)?;
        let voters = self.set_at(genesis, height)?;
        let validators = (voters != self.set_at(genesis, from)?).then_some(voters);
        Ok(Some(InCheckpoint { path: path.iter().map(|hash| hash.to_vec()).collect(), validators }))
    }

    /// What who pinned a checkpoint of this log trusts, who accepts the recoveries that this node's operators agreed to.
    pub(super) fn checkpoint_trust(&self, size: u64) -> Result<Trust, Refusal> {
        let root = root_at(self, size);
        let root = root.ok_or_else(|| Fatal::Corrupt(format!("log nodes for {size} leaves are missing")))?;
        let (origin, accepted) =
            (assent_ledger::checkpoint::origin(&self.tip.chain_id), self.accepted_recoveries()?);
        Ok(Trust::Checkpoint { origin, size, root, accepted })
    }
}
