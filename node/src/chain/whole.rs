//! Whether a copy of a ledger hangs together, from its own bytes and genesis alone: what `assentd backup` asks before it trusts one.
//!
//! ```text
//! genesis ─▶ header 1 ─▶ … ─▶ header of the tip ◀─ certificate of those who voted
//!               │ entries and headers ─▶ leaves ─▶ log root      state: every value ─▶ state root
//! ```
//! Signatures of entries and of the certificates below the tip are not checked: the tip's certificate covers every byte through
//! the hashes. `assent audit verify` checks them all.

use assent_ledger::block::header_hash;
use assent_ledger::genesis::CheckedGenesis;
use assent_ledger::log::{tagged_leaf_hash, Frontier, LEAF_ENTRY, LEAF_HEADER};
use assent_ledger::state::organization_key;
use assent_ledger::tree::{self, MemoryNodes};
use assent_ledger::voters::{FirstSet, StepError, Voters};
use assent_ledger::Hash;
use assent_proto::ledger::v1::{Block, Header, Recover, ValidatorSet};
use prost::Message;
use rocksdb::IteratorMode;

use super::{Store, View};
use crate::order::Fatal;

/// A ledger that hangs together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Whole {
    /// Height of its newest block.
    pub height: u64,
    /// Entries that were hashed.
    pub entries: u64,
    /// Values of the state.
    pub values: u64,
}

fn corrupt(what: impl Into<String>) -> Fatal {
    Fatal::Corrupt(what.into())
}

/// Checks everything that a ledger holds of its blocks, log and state, against its tip, and the tip against genesis.
pub fn check(store: &Store, genesis: &CheckedGenesis) -> Result<Whole, Fatal> {
    let view = store.view()?;
    let entries = check_blocks(&view, genesis)?;
    let values = check_state(&view, genesis)?;
    Ok(Whole { height: view.tip.height, entries, values })
}

/// The log's leaf hashes as stored, in order.
struct Leaves<I>(I, u64);

impl<I: Iterator<Item = Result<(Box<[u8]>, Box<[u8]>), rocksdb::Error>>> Leaves<I> {
    fn expect(&mut self, hash: &Hash) -> Result<(), Fatal> {
        let missing = || corrupt(format!("leaf {} of the log is not stored", self.1));
        let (key, stored) = self.0.next().ok_or_else(missing)?.map_err(|e| Fatal::Storage(e.to_string()))?;
        let place = super::layout::log_key(0, self.1);
        if *key != place || *stored != hash[..] {
            return Err(corrupt(format!("leaf {} of the log is not the block's", self.1)));
        }
        self.1 += 1;
        Ok(())
    }
}

/// Every block from the first: its header follows the one before, its entries and header are the log's leaves.
fn check_blocks(view: &View<'_>, genesis: &CheckedGenesis) -> Result<u64, Fatal> {
    let (tip, chain_id) = (&view.tip, genesis.chain_id.as_str());
    let (mut height, mut entries) = (0, 0);
    let (mut log, mut last) = (Frontier::default(), None);
    let (plans, accepted) = (view.recoveries()?, view.accepted_recoveries()?);
    let mut voters = Voters::new(&FirstSet::of(genesis, &accepted));
    let mut leaves = Leaves(view.iterate("log", IteratorMode::Start)?, 0);
    while height < tip.height {
        height += 1;
        let wrong = |what: &str| corrupt(format!("block {height} {what}"));
        let (header_bytes, hashes) = outline(view, height)?;
        let header = Header::decode(header_bytes.as_slice()).map_err(|_| wrong("has no header"))?;
        if header.height != height || header.chain_id != chain_id {
            return Err(wrong("is missing, or another lies in its place"));
        }
        if header.previous_header_hash != voters.header_hash() {
            return Err(wrong("does not follow the one before"));
        }
        for leaf in &hashes {
            leaves.expect(leaf)?;
            log.append(*leaf, |_, _, _| {});
        }
        if (header.log_size, header.log_root.as_slice()) != (log.size(), &log.root()[..]) {
            return Err(wrong("holds other entries than its header says"));
        }
        let leaf = tagged_leaf_hash(LEAF_HEADER, &header_bytes);
        leaves.expect(&leaf)?;
        log.append(leaf, |_, _, _| {});
        follow(view, &mut voters, &plans, (&header, header_hash(chain_id, &header_bytes)))?;
        entries += hashes.len() as u64;
        last = Some(header);
    }
    if (height, voters.header_hash()) != (tip.height, tip.header_hash) || log != tip.log {
        return Err(corrupt(format!("the blocks end at {height}, the tip is at {}", tip.height)));
    }
    match last {
        None => Ok(0),
        Some(header) => check_tip(view, &header, &voters).map(|()| entries),
    }
}

/// Goes on to a header, over a recovery before it: whoever opened this ledger agreed to those that are in it.
fn follow(
    view: &View<'_>,
    voters: &mut Voters,
    plans: &[Recover],
    (header, hash): (&Header, Hash),
) -> Result<(), Fatal> {
    let wrong = |error: StepError| corrupt(format!("the validators of block {}: {error}", header.height));
    let behind = voters.height();
    for plan in plans.iter().filter(|plan| plan.height == behind) {
        voters.recover(plan).map_err(wrong)?;
    }
    let named = match header.next_validator_set_hash == header.validator_set_hash {
        true => None,
        false => view.get("validators", &header.next_validator_set_hash)?,
    };
    let named = named.and_then(|bytes| ValidatorSet::decode(bytes.as_slice()).ok());
    voters.header(header, hash, named.as_ref()).map_err(wrong)
}

/// Header and leaf hashes of a block: of its entries, or of what is left of it when they were pruned.
fn outline(view: &View<'_>, height: u64) -> Result<(Vec<u8>, Vec<Hash>), Fatal> {
    let wrong = |what: &str| corrupt(format!("block {height} {what}"));
    if let Some(bytes) = view.get("blocks", &super::layout::height_key(height))? {
        let block = Block::decode(bytes.as_slice()).map_err(|_| wrong("does not decode"))?;
        let hashes = block.entries.iter().map(|entry| tagged_leaf_hash(LEAF_ENTRY, entry));
        return Ok((block.header, hashes.collect()));
    }
    let pruned = view.pruned(height)?.ok_or_else(|| wrong("is missing, or another lies in its place"))?;
    let hashes = pruned.leaf_hashes.iter().map(|leaf| Hash::try_from(leaf.as_slice()));
    let hashes = hashes.collect::<Result<_, _>>().map_err(|_| wrong("has leaf hashes that are none"))?;
    Ok((pruned.header, hashes))
}

fn check_tip(view: &View<'_>, header: &Header, voters: &Voters) -> Result<(), Fatal> {
    let tip = &view.tip;
    if (header.time_ms, header.state_root.as_slice()) != (tip.time_ms, &tip.state_root[..]) {
        return Err(corrupt("time or state root of the tip are not those of its header"));
    }
    // Those of a recovery that the operator agreed to follow from no header yet.
    let next = if tip.recovery.is_some() { &tip.validators } else { voters.next() };
    if (&tip.voters, &tip.validators) != (voters.present(), next) {
        return Err(corrupt("the validators of the tip are not those that the headers lead to"));
    }
    let sealed = view.sealed(tip.height)?.ok_or_else(|| corrupt("the newest block is missing"))?;
    voters
        .verify(&sealed.certificate)
        .map_err(|e| corrupt(format!("the certificate of block {}: {e}", tip.height)))
}

/// The root of all values, made anew; and the stored tree, along the organizations' paths.
fn check_state(view: &View<'_>, genesis: &CheckedGenesis) -> Result<u64, Fatal> {
    let tip = &view.tip;
    let mut values = std::collections::BTreeMap::new();
    for item in view.iterate("state", IteratorMode::Start)? {
        let (key, value) = item.map_err(|e| Fatal::Storage(e.to_string()))?;
        let key: Hash = (*key).try_into().map_err(|_| corrupt("a key of the state is not 32 bytes"))?;
        values.insert(key, value.into_vec());
    }
    let made = tree::update(&MemoryNodes::default(), 0, &values).map_err(|e| corrupt(e.to_string()))?;
    if made.root != tip.state_root {
        return Err(corrupt("the state is not the one that the tip's header names"));
    }
    for organization in &genesis.organizations {
        let key = organization_key(&genesis.chain_id, &organization.id);
        let value = values.get(&key).map(Vec::as_slice);
        let proof = tree::prove(view, tip.state_version, &key, value).map_err(|e| corrupt(e.to_string()))?;
        if !tree::verify(&tip.state_root, &key, value, &proof) {
            return Err(corrupt("the stored tree of the state does not lead to its root"));
        }
    }
    Ok(values.len() as u64)
}
