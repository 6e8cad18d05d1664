//! Receipts out of the ledger: the way from genesis or a checkpoint to a header, members' keys, and what stands under it.
//!
//! A set of validators names its members' keys by a root only. The list behind each root is kept when a block makes it: who signs
//! now may do so by the keys of the block before. The keys that an old access was asked for with lie with the access itself, as
//! they were shown when it was recorded, so that no node needs a list of before it joined.

use std::collections::BTreeMap;
use std::ops::Range;

use assent_ledger::block::Applied;
use assent_ledger::genesis::CheckedGenesis;
use assent_ledger::late::verify_late;
use assent_ledger::membership::{member, members_root, membership, membership_key};
use assent_ledger::receipts::{
    from_genesis, prove_member, shortened, verify, verify_receipt, ReceiptFault, Trust, MAX_BYTES,
};
use assent_ledger::recovery::new_set;
use assent_ledger::Hash;
use assent_proto::ledger::v1::{
    receipt, Anchor, HistoryAccess, LateProof, Member, MemberProof, Membership, Receipt, SetChange, Signed,
    ValidatorSet,
};
use prost::Message;
use rocksdb::{Direction, IteratorMode, WriteBatch};

use super::pinned::Pin;
use super::prune::Sealed;
use super::store::Store;
use super::stored::AccessPlace;
use super::view::View;
use crate::order::Fatal;
use crate::refusal::Refusal;
use crate::vault::Access;

/// The members behind a root.
#[derive(Clone, PartialEq, prost::Message)]
struct KeptMembers {
    #[prost(message, repeated, tag = "1")]
    members: Vec<Member>,
}

fn members_key(root: &[u8]) -> Vec<u8> {
    [b"members/".as_slice(), root].concat()
}

/// Puts the list of members that a block leads to into the batch that commits it.
pub(super) fn keep_members(store: &Store, batch: &mut WriteBatch, applied: &Applied) -> Result<(), Fatal> {
    let Some(changed) = applied.changes.get(&membership_key(&applied.tip.chain_id)) else {
        return Ok(());
    };
    let membership: Membership = store.decode("the membership", changed)?;
    let root = members_root(&membership.organizations);
    let kept = KeptMembers { members: membership.organizations.iter().map(member).collect() };
    batch.put_cf(store.family("meta")?, members_key(&root), kept.encode_to_vec());
    Ok(())
}

pub(super) fn unavailable(message: &str) -> Refusal {
    Refusal::unavailable("RECEIPT_UNAVAILABLE", message)
}

pub(super) fn unproven(fault: ReceiptFault) -> Refusal {
    tracing::warn!(%fault, "a receipt that this node made does not hold");
    unavailable("what is to be shown can't be proven with the keys of that height")
}

/// Where a receipt starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartAt {
    /// At genesis.
    Genesis,
    /// At the checkpoint of this many leaves.
    Checkpoint(u64),
}

impl StartAt {
    /// As clients say it: 0 is genesis.
    pub fn of(checkpoint_size: u64) -> Self {
        match checkpoint_size {
            0 => Self::Genesis,
            size => Self::Checkpoint(size),
        }
    }
}

impl View<'_> {
    /// Changes of validators at these heights, and recoveries behind them, each with this node's certificate.
    pub(super) fn set_changes(&self, heights: Range<u64>) -> Result<Vec<SetChange>, Fatal> {
        let mut found: BTreeMap<u64, SetChange> = BTreeMap::new();
        for item in
            self.iterate("sets", IteratorMode::From(&heights.start.to_be_bytes(), Direction::Forward))?
        {
            let (key, value) = item.map_err(|e| self.failed(e))?;
            let at = key.as_ref().try_into().map(u64::from_be_bytes);
            let at = at.map_err(|_| Fatal::Corrupt("a validator set has no height".into()))?;
            if at >= heights.end {
                break;
            }
            let missing = || Fatal::Corrupt(format!("the validator set after block {at} is missing"));
            let set = self.get("validators", &value)?.ok_or_else(missing)?;
            found.entry(at).or_default().next = Some(self.decode("a validator set", &set)?);
        }
        // One before block 1 has no link: what verifies a receipt says so.
        let heights = heights.start.max(1)..heights.end;
        for plan in self.recoveries()?.into_iter().filter(|plan| heights.contains(&plan.height)) {
            let change = found.entry(plan.height).or_default();
            change.recovery = Some(plan);
        }
        for (at, change) in &mut found {
            let missing = || Fatal::Corrupt(format!("block {at} is missing"));
            let sealed = self.sealed(*at)?.ok_or_else(missing)?;
            (change.header, change.certificate) = (sealed.header_bytes, Some(sealed.certificate));
        }
        Ok(found.into_values().collect())
    }

    /// The set that votes at a height.
    pub(super) fn set_at(&self, genesis: &CheckedGenesis, height: u64) -> Result<ValidatorSet, Fatal> {
        let last = height.saturating_sub(1);
        let plan = self.recoveries()?.into_iter().rfind(|plan| plan.height <= last);
        let mut changes =
            self.iterate("sets", IteratorMode::From(&last.to_be_bytes(), Direction::Reverse))?;
        let change = changes.next().transpose().map_err(|e| self.failed(e))?;
        let missing = || Fatal::Corrupt(format!("the validator set of height {height} is missing"));
        match (plan, change) {
            (None, None) => Ok(genesis.validators.clone()),
            // Behind one header those who remain vote, not those whom it names.
            (Some(plan), change)
                if change.as_ref().is_none_or(|(at, _)| **at <= plan.height.to_be_bytes()[..]) =>
            {
                new_set(&plan).map_err(|e| Fatal::Corrupt(format!("the plan of a recovery: {e}")))
            }
            (_, Some((_, hash))) => {
                self.decode("a validator set", &self.get("validators", &hash)?.ok_or_else(missing)?)
            }
            (Some(_), None) => Err(missing()),
        }
    }

    /// What this node trusts: its genesis, and the recoveries that its operators agreed to.
    pub fn trust(&self, genesis: &CheckedGenesis) -> Result<Trust, Fatal> {
        Ok(Trust::Genesis { hash: genesis.hash, accepted: self.accepted_recoveries()? })
    }

    fn members(&self, genesis: &CheckedGenesis, set: &ValidatorSet) -> Result<Option<Vec<Member>>, Refusal> {
        let known = |organizations: &[_]| {
            (members_root(organizations).as_slice() == set.members_root)
                .then(|| organizations.iter().map(member).collect())
        };
        if let Some(members) = known(&genesis.organizations) {
            return Ok(Some(members));
        }
        if let Some(bytes) = self.get("meta", &members_key(&set.members_root))? {
            return Ok(Some(self.decode::<KeptMembers>("a list of members", &bytes)?.members));
        }
        let present = membership(self, &self.tip.chain_id).map_err(|e| Fatal::Corrupt(e.to_string()))?;
        Ok(known(&present.organizations))
    }

    /// Shows an organization's keys that count at a height; the newest is that after the tip.
    pub fn member_proof(
        &self,
        genesis: &CheckedGenesis,
        height: u64,
        id: &str,
    ) -> Result<MemberProof, Refusal> {
        let members = self.members(genesis, &self.set_at(genesis, height)?)?.ok_or_else(|| {
            unavailable("this node just joined, and lacks the members' keys of that block: retry in a moment")
        })?;
        let none = || unavailable("the organization that signed was no member at that height");
        prove_member(&members, id).ok_or_else(none)
    }

    pub(super) fn sealed_or_refuse(&self, height: u64) -> Result<Sealed, Refusal> {
        let message = "this node does not have that block yet: retry in a moment";
        self.sealed(height)?.ok_or_else(|| unavailable(message))
    }

    /// The way to the header at a height.
    pub fn anchor(&self, genesis: &CheckedGenesis, height: u64, start: StartAt) -> Result<Anchor, Refusal> {
        let pin = match start {
            StartAt::Genesis => None,
            StartAt::Checkpoint(size) => Some(self.pin(genesis, size, height, &[])?),
        };
        self.anchor_from(genesis, height, pin)
    }

    /// The same from a header that was chosen.
    pub fn anchor_from(
        &self,
        genesis: &CheckedGenesis,
        height: u64,
        pin: Option<Pin>,
    ) -> Result<Anchor, Refusal> {
        match pin {
            None => self.genesis_anchor(genesis, height, 0),
            Some(pin) => self.pinned_anchor(genesis, pin, height, 0),
        }
    }

    /// The way from genesis to the header at a height, or to the set `ahead` heights after it.
    fn genesis_anchor(&self, genesis: &CheckedGenesis, height: u64, ahead: u64) -> Result<Anchor, Refusal> {
        let Sealed { header_bytes, certificate, .. } = self.sealed_or_refuse(height)?;
        let changes = self.set_changes(0..height.saturating_add(ahead))?;
        Ok(from_genesis(genesis, &changes, header_bytes, &certificate)
            .map_err(|e| Fatal::Corrupt(e.to_string()))?)
    }

    /// One access of a history, from genesis or from a checkpoint.
    pub fn history_access(
        &self,
        genesis: &CheckedGenesis,
        place: &AccessPlace,
        access: Access,
        pin: Option<Pin>,
    ) -> Result<HistoryAccess, Refusal> {
        let claim = Some(self.access_claim(place, access)?);
        let sealed = self.sealed_or_refuse(place.height)?;
        let in_checkpoint =
            pin.map(|pin| self.in_checkpoint(genesis, pin, place.height)).transpose()?.flatten();
        let certificate = match in_checkpoint {
            Some(_) => None,
            None => Some(shortened(&self.set_at(genesis, place.height)?, &sealed.certificate)),
        };
        Ok(HistoryAccess { header: sealed.header_bytes, certificate, access: claim, in_checkpoint })
    }

    /// The receipt of an access, verified as its reader will, and the hash of its block's header.
    pub fn prove_access(
        &self,
        genesis: &CheckedGenesis,
        place: &AccessPlace,
        access: Access,
    ) -> Result<(Receipt, Hash), Refusal> {
        let claim = receipt::Claim::Access(self.access_claim(place, access)?);
        let anchor = Some(self.anchor(genesis, place.height, StartAt::Genesis)?);
        let receipt = Receipt { anchor, claim: Some(claim) };
        let verified = verify_receipt(&self.trust(genesis)?, &receipt).map_err(unproven)?;
        Ok((receipt, verified.at.hash))
    }

    /// A custodian's word for a late release with what proves the keys of both sides, and the name of the word. Verified too.
    pub fn prove_late(
        &self,
        genesis: &CheckedGenesis,
        late_access: Signed,
        recipient: &[u8],
    ) -> Result<(LateProof, Hash), Refusal> {
        let next = self.tip.height.saturating_add(1);
        let proof = LateProof {
            anchor: Some(self.genesis_anchor(genesis, self.tip.height, 1)?),
            custodian: Some(self.member_proof(genesis, next, &late_access.organization)?),
            recipient: Some(self.decode("the proof of a recipient's keys", recipient)?),
            late_access: Some(late_access),
        };
        let verified = verify_late(&self.trust(genesis)?, &proof).map_err(unproven)?;
        Ok((proof, verified.hash))
    }

    /// Encoded small receipt of an access, out of one that starts at genesis.
    pub fn access_receipt(
        &self,
        genesis: &CheckedGenesis,
        receipt: Receipt,
        start: StartAt,
    ) -> Result<Vec<u8>, Refusal> {
        let broken = || unavailable("the stored access does not decode: tell the node's operator");
        let receipt = self.receipt_from(genesis, receipt, start)?;
        let (Some(anchor), Some(claim @ receipt::Claim::Access(_))) = (receipt.anchor, receipt.claim) else {
            return Err(broken());
        };
        self.checked(genesis, anchor, claim)
    }

    /// Encodes a receipt, which is verified as its reader will: none goes out that does not hold.
    pub fn checked(
        &self,
        genesis: &CheckedGenesis,
        anchor: Anchor,
        claim: receipt::Claim,
    ) -> Result<Vec<u8>, Refusal> {
        let trust = match &anchor.start {
            Some(assent_proto::ledger::v1::anchor::Start::Checkpoint(start)) => {
                self.checkpoint_trust(start.size)?
            }
            _ => self.trust(genesis)?,
        };
        let bytes = Receipt { anchor: Some(anchor), claim: Some(claim) }.encode_to_vec();
        match bytes.len() > MAX_BYTES {
            true => Err(unavailable("the receipt would be longer than 64 KiB: ask for less to be opened")),
            false => match verify(&trust, &bytes) {
                Ok(_) => Ok(bytes),
                Err(fault) => Err(unproven(fault)),
            },
        }
    }
}
