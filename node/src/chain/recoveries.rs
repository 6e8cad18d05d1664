//! Recoveries of a lost quorum that this ledger went through: their plans, for whoever follows the validators from genesis on.
//!
//! An operator agreed to each: with `assentd recover apply`, or by its hash in `accept_recoveries` when the ledger came as a snapshot.

use std::collections::BTreeSet;

use assent_ledger::recovered::without_signatures;
use assent_ledger::recovery::plan_hash;
use assent_ledger::Hash;
use assent_proto::ledger::v1::Recover;
use prost::Message;
use rocksdb::{Direction, IteratorMode, WriteBatch};

use super::layout::height_key;
use super::store::Store;
use super::view::View;
use crate::order::Fatal;

const PREFIX: &[u8] = b"recovery/";

impl Store {
    /// Keeps the plan that a block carries out, with that block.
    pub(super) fn put_recovery(&self, batch: &mut WriteBatch, plan: &Recover) -> Result<(), Fatal> {
        let key = [PREFIX, &height_key(plan.height)].concat();
        batch.put_cf(self.family("meta")?, key, without_signatures(plan).encode_to_vec());
        Ok(())
    }
}

impl View<'_> {
    /// The plan that follows a height, without signatures.
    pub(super) fn recovery_behind(&self, height: u64) -> Result<Option<Recover>, Fatal> {
        let found = self.get("meta", &[PREFIX, &height_key(height)].concat())?;
        found.map(|plan| self.decode("the plan of a recovery", &plan)).transpose()
    }

    /// Their plans without signatures, in the order of their heights.
    pub fn recoveries(&self) -> Result<Vec<Recover>, Fatal> {
        let mut found = Vec::new();
        for item in self.iterate("meta", IteratorMode::From(PREFIX, Direction::Forward))? {
            let (key, value) = item.map_err(|e| self.failed(e))?;
            if !key.starts_with(PREFIX) {
                break;
            }
            found.push(self.decode("the plan of a recovery", &value)?);
        }
        Ok(found)
    }

    /// Hashes of their plans.
    pub fn accepted_recoveries(&self) -> Result<BTreeSet<Hash>, Fatal> {
        Ok(self.recoveries()?.iter().map(|plan| plan_hash(&self.tip.chain_id, plan)).collect())
    }
}
