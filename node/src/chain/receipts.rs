//! Receipts out of the ledger: the way from genesis or a checkpoint to a header, members' keys, and what stands under it.
//!
//! A set of validators names its members' keys by a root only. The list behind each root is kept when a block makes it, so that
//! an old access has a receipt too after keys or members changed. A node that joined later lacks the lists from before.

use std::collections::BTreeMap;

use assent_ledger::block::Applied;
use assent_ledger::genesis::CheckedGenesis;
use assent_ledger::log::inclusion_proof;
use assent_ledger::membership::{member, members_root, membership, membership_key};
use assent_ledger::receipts::{from_checkpoint, from_genesis, prove_member, verify, Trust, MAX_BYTES};
use assent_ledger::sets::set_after;
use assent_proto::ledger::v1::{
    receipt, AccessClaim, AccessEvent, AccessReceipt, Anchor, DataRequest, Header, Member, MemberProof,
    Membership, Receipt, SetChange, Signed, ValidatorSet,
};
use prost::Message;
use rocksdb::{IteratorMode, WriteBatch};

use super::prune::Sealed;
use super::store::Store;
use super::view::View;
use crate::order::Fatal;
use crate::refusal::{Kind, Refusal};

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

fn unavailable(message: &str) -> Refusal {
    Refusal::unavailable("RECEIPT_UNAVAILABLE", message)
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
    /// Changes of validators before a height, and recoveries, each with this node's certificate.
    fn set_changes(&self, height: u64) -> Result<Vec<SetChange>, Fatal> {
        let mut found: BTreeMap<u64, SetChange> = BTreeMap::new();
        for item in self.iterate("sets", IteratorMode::Start)? {
            let (key, value) = item.map_err(|e| self.failed(e))?;
            let at = key.as_ref().try_into().map(u64::from_be_bytes);
            let at = at.map_err(|_| Fatal::Corrupt("a validator set has no height".into()))?;
            if at >= height {
                break;
            }
            let missing = || Fatal::Corrupt(format!("the validator set after block {at} is missing"));
            let set = self.get("validators", &value)?.ok_or_else(missing)?;
            found.entry(at).or_default().next = Some(self.decode("a validator set", &set)?);
        }
        // One before block 1 has no link: what verifies a receipt says so.
        for plan in self.recoveries()?.into_iter().filter(|plan| (1..height).contains(&plan.height)) {
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

    /// The way to the header at a height, and the keys of a member whose signature the claim needs.
    pub fn anchor(
        &self,
        genesis: &CheckedGenesis,
        height: u64,
        start: StartAt,
        signer: Option<&str>,
    ) -> Result<(Anchor, Option<MemberProof>), Refusal> {
        let Some(Sealed { header_bytes, certificate, header }) = self.sealed(height)? else {
            return Err(unavailable("this node does not have that block yet: retry in a moment"));
        };
        let changes = self.set_changes(height)?;
        let voters = changes.last().map_or_else(|| Some(genesis.validators.clone()), set_after);
        let voters =
            voters.ok_or_else(|| Fatal::Corrupt("the plan of a recovery has no validators".into()))?;
        let proof = match signer {
            None => None,
            Some(id) => {
                let members = self.members(genesis, &voters)?.ok_or_else(|| {
                    unavailable(
                        "this node joined later, and lacks the members' keys of that time: ask another",
                    )
                })?;
                let none = || unavailable("the organization that signed was no member at that height");
                Some(prove_member(&members, id).ok_or_else(none)?)
            }
        };
        let anchor = match start {
            StartAt::Genesis => from_genesis(genesis, &changes, header_bytes, &certificate)
                .map_err(|e| Fatal::Corrupt(e.to_string()))?,
            StartAt::Checkpoint(size) => {
                let path =
                    (size <= self.tip.log.size()).then(|| inclusion_proof(self, header.log_size, size));
                let path = path.flatten().ok_or_else(|| {
                    let message = format!(
                        "the block at height {height} is leaf {}, which is not in a checkpoint of {size} leaves: take another",
                        header.log_size
                    );
                    Refusal::new(Kind::FailedPrecondition, "OTHER_CHECKPOINT", message)
                })?;
                from_checkpoint(size, &path, voters, header_bytes)
            }
        };
        Ok((anchor, proof))
    }

    /// The small receipt of an access, out of what a release carries.
    pub fn access_receipt(
        &self,
        genesis: &CheckedGenesis,
        receipt: AccessReceipt,
        start: StartAt,
    ) -> Result<Vec<u8>, Refusal> {
        let broken = |_| unavailable("the stored access does not decode: tell the node's operator");
        let event = AccessEvent::decode(receipt.event.as_slice()).map_err(broken)?;
        let signed = Signed::decode(event.request.as_slice()).map_err(broken)?;
        let request = DataRequest::decode(signed.body.as_slice()).map_err(broken)?;
        let header = Header::decode(receipt.header.as_slice()).map_err(broken)?;
        let (anchor, recipient) = self.anchor(genesis, header.height, start, Some(&request.recipient))?;
        let AccessReceipt { event, salt, entry, operation, inclusion, .. } = receipt;
        let claim = AccessClaim { event, salt, entry, operation, inclusion, recipient };
        self.checked(genesis, anchor, receipt::Claim::Access(claim))
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
            _ => Trust::Genesis { hash: genesis.hash, accepted: self.accepted_recoveries()? },
        };
        let bytes = Receipt { anchor: Some(anchor), claim: Some(claim) }.encode_to_vec();
        match bytes.len() > MAX_BYTES {
            true => Err(unavailable("the receipt would be longer than 64 KiB: ask for less to be opened")),
            false => match verify(&trust, &bytes) {
                Ok(_) => Ok(bytes),
                Err(fault) => {
                    tracing::warn!(%fault, "a receipt that this node made does not hold");
                    Err(unavailable("what is to be shown can't be proven with the keys of that height"))
                }
            },
        }
    }

    fn checkpoint_trust(&self, size: u64) -> Result<Trust, Refusal> {
        let root = assent_ledger::log::root_at(self, size);
        let root = root.ok_or_else(|| Fatal::Corrupt(format!("log nodes for {size} leaves are missing")))?;
        Ok(Trust::Checkpoint { origin: assent_ledger::checkpoint::origin(&self.tip.chain_id), size, root })
    }
}
