//! The ledger on disk: RocksDB, one synced write batch per committed block. What lies where: [`super::layout`].

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use assent_ledger::block::{apply_genesis, Applied, Tip};
use assent_ledger::certificate::validator_set_hash;
use assent_ledger::commitment::next_access_head;
use assent_ledger::genesis::CheckedGenesis;
use assent_ledger::membership::{membership, membership_key};
use assent_ledger::state::slot_key;
use assent_ledger::Hash;
use assent_proto::ledger::v1::{operation::Kind, Certificate, Header, Membership, ValidatorSet};
use prost::Message;
use rocksdb::checkpoint::Checkpoint;
use rocksdb::{Cache, InfoLogger, LogLevel, Options, WriteBatch, DB};

use super::layout::{
    access_key, built_key, candidate_key, height_key, layout, log_key, synced, Layout, WRITE_BUFFER_BYTES,
};
use super::stored::{AccessPlace, EntryPlace, StoredCandidate, StoredTip};
use super::view::View;
use super::{changes, receipts};
use crate::fault;
use crate::health::Health;
use crate::members::Members;
use crate::memory_use::MemoryUse;
use crate::order::{Candidate, Fatal};

/// What this program reads and writes. A folder of a later one is refused.
pub const FORMAT: u64 = 1;

/// A tip's stored form, and the tip.
type Decoded = (Vec<u8>, Arc<Tip>);

/// A store that is about to be closed.
pub struct Closing(Weak<DB>);

impl Closing {
    /// True while somebody has it open.
    pub fn is_open(&self) -> bool {
        self.0.strong_count() > 0
    }
}

/// The ledger's database. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    pub(super) db: Arc<DB>,
    options: Arc<Options>,
    /// Kept for its figures.
    cache: Cache,
    /// The newest tip that was read, with its stored form: most views are of the same one.
    decoded: Arc<Mutex<Option<Decoded>>>,
    /// Told of corruption, whoever reads: a call's own error would reach its client alone.
    health: Health,
    members: Members,
}

pub(super) fn storage(error: rocksdb::Error) -> Fatal {
    match error.kind() {
        rocksdb::ErrorKind::Corruption => Fatal::Corrupt(error.to_string()),
        _ => Fatal::Storage(error.to_string()),
    }
}

/// Why what a folder's metadata says is not for this node.
fn contradicts(
    path: &Path,
    stored_genesis: &[u8],
    format: Option<&[u8]>,
    genesis_file: &[u8],
    genesis: &CheckedGenesis,
) -> Option<String> {
    // Folders from before the number was written are of format 1.
    let found = format.map_or(Some(1), |bytes| bytes.try_into().ok().map(u64::from_be_bytes));
    let path = path.display();
    match found {
        Some(found) if found > FORMAT => Some(format!(
            "{path} is of format {found}, this assentd knows up to {FORMAT}: use the version that wrote it"
        )),
        None => Some(format!("{path} has a format that is no number")),
        Some(_) if stored_genesis != genesis_file => Some(format!(
            "{path} holds another chain than the configured genesis {}: name its own data_dir for each",
            hex::encode(genesis.hash)
        )),
        Some(_) => None,
    }
}

impl Store {
    /// Opens the database, creating it for this genesis; a database of another genesis is refused.
    pub fn open(path: &Path, genesis_file: &[u8], genesis: &CheckedGenesis) -> Result<Self, Fatal> {
        Self::open_sized(path, genesis_file, genesis, WRITE_BUFFER_BYTES)
    }

    /// The same with write buffers of another size: small ones open faster, for a process that opens thousands.
    pub fn open_sized(
        path: &Path,
        genesis_file: &[u8],
        genesis: &CheckedGenesis,
        write_buffer_bytes: usize,
    ) -> Result<Self, Fatal> {
        let store = Self::database(path, write_buffer_bytes)?;
        match store.get("meta", b"genesis")? {
            None => store.write_genesis(genesis_file, genesis)?,
            Some(stored) => {
                let format = store.get("meta", b"format")?;
                if let Some(why) = contradicts(path, &stored, format.as_deref(), genesis_file, genesis) {
                    return Err(Fatal::Storage(why));
                }
            }
        }
        store.read_members()?;
        Ok(store)
    }

    /// Why a folder must be left alone: it holds another chain, or was made by a later version. Nothing in it is touched; none
    /// when that can't be told, which [`Self::open`] then does.
    pub fn refuses(path: &Path, genesis_file: &[u8], genesis: &CheckedGenesis) -> Option<String> {
        if !path.join("CURRENT").exists() {
            return None;
        }
        let mut options = Options::default();
        // No LOG file.
        options.set_info_logger(InfoLogger::new_callback_logger(LogLevel::Fatal, |_, _| {}));
        let db = DB::open_cf_for_read_only(&options, path, ["default", "meta"], false).ok()?;
        let meta = db.cf_handle("meta")?;
        let stored = db.get_cf(meta, b"genesis").ok()??;
        let format = db.get_cf(meta, b"format").ok()?;
        contradicts(path, &stored, format.as_deref(), genesis_file, genesis)
    }

    /// The database as it is: without genesis if it is new.
    pub(super) fn database(path: &Path, write_buffer_bytes: usize) -> Result<Self, Fatal> {
        let Layout { options, families, cache } = layout(write_buffer_bytes);
        let db = DB::open_cf_descriptors(&options, path, families).map_err(|error| match storage(error) {
            Fatal::Storage(text) if text.contains("LOCK") => Fatal::Storage(format!(
                "{}: another process has it open; stop the assentd that runs on this folder first",
                path.display()
            )),
            other => other,
        })?;
        let (options, members) = (Arc::new(options), Members::new(Membership::default(), 0));
        let health = Health::default();
        Ok(Self { db: Arc::new(db), options, cache, decoded: Arc::default(), health, members })
    }

    /// Opens a copy that nobody writes to, without changing a byte of it; a copy of another genesis is refused.
    pub fn open_copy(path: &Path, genesis_file: &[u8]) -> Result<Self, Fatal> {
        let Layout { options, families, cache } = layout(WRITE_BUFFER_BYTES);
        let db = DB::open_cf_descriptors_read_only(&options, path, families, false).map_err(storage)?;
        let store = Self {
            db: Arc::new(db),
            options: Arc::new(options),
            cache,
            decoded: Arc::default(),
            health: Health::default(),
            members: Members::new(Membership::default(), 0),
        };
        match store.get("meta", b"genesis")?.as_deref() == Some(genesis_file) {
            true => Ok(store),
            false => Err(Fatal::Corrupt(format!("{} holds another chain", path.display()))),
        }
    }

    /// Everything that is committed now, as files in a new folder: links to those that never change, copies of the others.
    pub fn checkpoint(&self, into: &Path) -> Result<(), Fatal> {
        Checkpoint::new(&self.db).and_then(|now| now.create_checkpoint(into)).map_err(storage)
    }

    /// Tells whether anybody still has it open, without keeping it open.
    pub fn watch_closing(&self) -> Closing {
        Closing(Arc::downgrade(&self.db))
    }

    /// Reports to this node's health from here on.
    pub fn reporting_to(mut self, health: Health) -> Self {
        self.health = health;
        self
    }

    /// What was read contradicts itself: the node is not ready from now on, and ends with 9.
    pub(super) fn corrupt(&self, what: impl Into<String>) -> Fatal {
        let fatal = Fatal::Corrupt(what.into());
        self.health.fail(fatal.clone());
        fatal
    }

    /// The database's own error, of a read or a write.
    pub(super) fn failed(&self, error: rocksdb::Error) -> Fatal {
        match storage(error) {
            Fatal::Corrupt(what) => self.corrupt(what),
            other => other,
        }
    }

    /// Decodes a stored value.
    pub(super) fn decode<M: Message + Default>(&self, what: &str, bytes: &[u8]) -> Result<M, Fatal> {
        M::decode(bytes).map_err(|e| self.corrupt(format!("{what} does not decode: {e}")))
    }

    /// Who is a member after the newest block: replaced by the commit of a block that changes it.
    pub fn members(&self) -> Members {
        self.members.clone()
    }

    /// Tells these members' readers from now on, first of all what the state has.
    pub fn with_members(mut self, members: Members) -> Result<Self, Fatal> {
        self.members = members;
        self.read_members()?;
        Ok(self)
    }

    /// Takes the members from the state: after opening, or when a state was put in place as a whole.
    pub fn read_members(&self) -> Result<(), Fatal> {
        let view = self.view()?;
        let found = membership(&view, &view.tip.chain_id).map_err(|e| Fatal::Corrupt(e.to_string()))?;
        self.members.replace(found, view.tip.height);
        Ok(())
    }

    fn write_genesis(&self, genesis_file: &[u8], genesis: &CheckedGenesis) -> Result<(), Fatal> {
        let (tip, changes, update) = apply_genesis(genesis).map_err(|e| Fatal::Storage(e.to_string()))?;
        let mut batch = WriteBatch::default();
        batch.put_cf(self.family("meta")?, b"genesis", genesis_file);
        batch.put_cf(self.family("meta")?, b"format", FORMAT.to_be_bytes());
        batch.put_cf(self.family("meta")?, b"tip", StoredTip::from(&tip).encode_to_vec());
        self.put_validators(&mut batch, &tip.chain_id, &tip.validators)?;
        for (key, value) in changes {
            batch.put_cf(self.family("state")?, key, value);
        }
        for (key, node) in update.nodes {
            batch.put_cf(self.family("nodes")?, key, node);
        }
        self.db.write_opt(batch, &synced()).map_err(storage)
    }

    /// A header names another set for the next height.
    pub(super) fn put_set_change(&self, batch: &mut WriteBatch, header: &Header) -> Result<(), Fatal> {
        batch.put_cf(self.family("sets")?, height_key(header.height), &header.next_validator_set_hash);
        Ok(())
    }

    /// So that a node that joins can follow the validator sets from genesis on.
    pub(super) fn put_validators(
        &self,
        batch: &mut WriteBatch,
        chain_id: &str,
        set: &ValidatorSet,
    ) -> Result<(), Fatal> {
        batch.put_cf(self.family("validators")?, validator_set_hash(chain_id, set), set.encode_to_vec());
        Ok(())
    }

    pub(super) fn write(&self, batch: WriteBatch) -> Result<(), Fatal> {
        fault::error("ledger-write").map_err(|e| Fatal::Storage(e.to_string()))?;
        self.db.write_opt(batch, &synced()).map_err(|e| self.failed(e))
    }

    pub(super) fn family(&self, name: &'static str) -> Result<&rocksdb::ColumnFamily, Fatal> {
        self.db.cf_handle(name).ok_or_else(|| Fatal::Corrupt(format!("column family {name} is missing")))
    }

    pub(super) fn get(&self, family: &'static str, key: &[u8]) -> Result<Option<Vec<u8>>, Fatal> {
        self.db.get_cf(self.family(family)?, key).map_err(|e| self.failed(e))
    }

    /// A consistent view of everything committed.
    pub fn view(&self) -> Result<View<'_>, Fatal> {
        View::new(self)
    }

    /// The end of the chain as stored.
    pub fn tip(&self) -> Result<Tip, Fatal> {
        let bytes = self.get("meta", b"tip")?.ok_or_else(|| self.corrupt("no tip"))?;
        self.decode_tip(bytes).map(|tip| (*tip).clone())
    }

    pub(super) fn decode_tip(&self, bytes: Vec<u8>) -> Result<Arc<Tip>, Fatal> {
        let mut decoded = self.decoded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, tip)) = decoded.as_ref().filter(|(known, _)| *known == bytes) {
            return Ok(tip.clone());
        }
        let tip = StoredTip::decode(bytes.as_slice())
            .ok()
            .and_then(StoredTip::into_tip)
            .ok_or_else(|| self.corrupt("the stored tip does not decode"))?;
        let tip = Arc::new(tip);
        *decoded = Some((bytes, tip.clone()));
        Ok(tip)
    }

    /// Encoded certificate that this node holds for a height.
    pub fn certificate(&self, height: u64) -> Result<Option<Vec<u8>>, Fatal> {
        self.get("certificates", &height_key(height))
    }

    /// Encoded validator set that votes on the height after a header, when it is not the one that voted on it.
    pub fn validators_after(&self, header: &[u8]) -> Result<Option<Vec<u8>>, Fatal> {
        let header: Header = self.decode("a header", header)?;
        match header.next_validator_set_hash == header.validator_set_hash {
            true => Ok(None),
            false => self.get("validators", &header.next_validator_set_hash),
        }
    }

    /// Encoded block of a height.
    pub fn block(&self, height: u64) -> Result<Option<Vec<u8>>, Fatal> {
        self.get("blocks", &height_key(height))
    }

    /// True when an entry is in the ledger, and where.
    pub fn entry_place(&self, hash: &Hash) -> Result<Option<EntryPlace>, Fatal> {
        let bytes = self.get("entries", hash)?;
        bytes.map(|b| self.decode("the place of an entry", &b)).transpose()
    }

    /// Stores an undecided block; `built` marks it as this node's own proposal for (height, round). Synced: after a crash the
    /// same value must come back.
    pub fn put_undecided(&self, candidate: &Candidate, built: bool) -> Result<(), Fatal> {
        let mut batch = WriteBatch::default();
        let key = candidate_key(candidate.height, candidate.round, &candidate.hash);
        batch.put_cf(self.family("undecided")?, key, StoredCandidate::from(candidate).encode_to_vec());
        if built {
            batch.put_cf(self.family("built")?, built_key(candidate.height, candidate.round), candidate.hash);
        }
        self.write(batch)
    }

    /// Hash of the block that this node built for (height, round).
    pub fn built(&self, height: u64, round: u32) -> Result<Option<Hash>, Fatal> {
        let bytes = self.get("built", &built_key(height, round))?;
        Ok(bytes.and_then(|b| b.try_into().ok()))
    }

    /// Undecided blocks of a height.
    pub fn undecided(&self, height: u64) -> Result<Vec<Candidate>, Fatal> {
        let prefix = height_key(height);
        let mode = rocksdb::IteratorMode::From(&prefix, rocksdb::Direction::Forward);
        let mut found = Vec::new();
        for item in self.db.iterator_cf(self.family("undecided")?, mode) {
            let (key, value) = item.map_err(|e| self.failed(e))?;
            if !key.starts_with(&prefix) {
                break;
            }
            let stored: StoredCandidate = self.decode("an undecided block", &value)?;
            let broken = || self.corrupt("an undecided block lacks a part");
            found.push(stored.into_candidate().ok_or_else(broken)?);
        }
        Ok(found)
    }

    /// Puts a recovery that the operator agreed to beside the tip: `tip` is the present one with the new validators, `entry` what this
    /// node proposes with. What the old set left undecided goes.
    pub fn agree_to_recovery(&self, tip: &Tip, entry: Option<&[u8]>) -> Result<(), Fatal> {
        let mut batch = WriteBatch::default();
        let prefix = height_key(tip.height + 1);
        for family in ["undecided", "built"] {
            let mode = rocksdb::IteratorMode::From(&prefix, rocksdb::Direction::Forward);
            for item in self.db.iterator_cf(self.family(family)?, mode) {
                let (key, _) = item.map_err(|e| self.failed(e))?;
                batch.delete_cf(self.family(family)?, key);
            }
        }
        self.put_validators(&mut batch, &tip.chain_id, &tip.validators)?;
        batch.put_cf(self.family("meta")?, b"tip", StoredTip::from(tip).encode_to_vec());
        if let Some(entry) = entry {
            batch.put_cf(self.family("meta")?, b"recovery-entry", entry);
        }
        self.write(batch)
    }

    /// What this node proposes first while a recovery is agreed to.
    pub fn recovery_entry(&self) -> Result<Option<Vec<u8>>, Fatal> {
        self.get("meta", b"recovery-entry")
    }

    /// Commits a block: entries, header, certificate, state, tree, log and indexes in one synced batch. There is no
    /// half-committed height to repair. `undecided` are the candidates of the height that are stored: they go. `own` is this
    /// node's organization.
    pub fn commit(
        &self,
        applied: &Applied,
        block: &[u8],
        certificate: &Certificate,
        undecided: &[Candidate],
        own: &str,
    ) -> Result<(), Fatal> {
        let mut batch = WriteBatch::default();
        let height = applied.tip.height;
        batch.put_cf(self.family("blocks")?, height_key(height), block);
        batch.put_cf(self.family("certificates")?, height_key(height), certificate.encode_to_vec());
        if applied.header.next_validator_set_hash != applied.header.validator_set_hash {
            self.put_validators(&mut batch, &applied.tip.chain_id, &applied.tip.validators)?;
            self.put_set_change(&mut batch, &applied.header)?;
            receipts::keep_members(self, &mut batch, applied)?;
        }
        if let Some(plan) = applied.entries.first().and_then(|entry| entry.recovery()) {
            self.put_recovery(&mut batch, plan)?;
        }
        let first_leaf = applied.header.log_size - applied.entries.len() as u64;
        for (leaf, entry) in (first_leaf..).zip(&applied.entries) {
            let place = EntryPlace { height, leaf };
            batch.put_cf(self.family("entries")?, entry.hash, place.encode_to_vec());
        }
        self.index_accesses(&mut batch, applied, first_leaf)?;
        changes::index(self, &mut batch, applied, own)?;
        for (key, value) in &applied.changes {
            batch.put_cf(self.family("state")?, key, value);
        }
        for (level, index, hash) in &applied.log_nodes {
            batch.put_cf(self.family("log")?, log_key(*level, *index), hash);
        }
        if let Some(tree) = &applied.tree {
            for (key, node) in &tree.nodes {
                batch.put_cf(self.family("nodes")?, key, node);
            }
            for key in &tree.stale {
                batch.delete_cf(self.family("nodes")?, key);
            }
        }
        batch.put_cf(self.family("meta")?, b"tip", StoredTip::from(&applied.tip).encode_to_vec());
        // One by one: a range would leave a tombstone behind that every later read has to look at.
        for c in undecided {
            batch.delete_cf(self.family("undecided")?, candidate_key(c.height, c.round, &c.hash));
            batch.delete_cf(self.family("built")?, built_key(c.height, c.round));
        }
        let changed = applied.changes.get(&membership_key(&applied.tip.chain_id));
        let changed = changed.map(|bytes| Membership::decode(bytes.as_slice())).transpose();
        let changed = changed.map_err(|e| Fatal::Corrupt(format!("the membership: {e}")))?;
        self.write(batch)?;
        if let Some(membership) = changed {
            tracing::info!(height, "the membership has changed");
            self.members.replace(membership, height);
        }
        Ok(())
    }

    /// Access number n of a slot -> where it stands, so that receipts and histories need no scan.
    fn index_accesses(
        &self,
        batch: &mut WriteBatch,
        applied: &Applied,
        first_leaf: u64,
    ) -> Result<(), Fatal> {
        let mut heads: std::collections::BTreeMap<Hash, (u64, Vec<u8>)> = Default::default();
        let chain_id = &applied.tip.chain_id;
        let view = self.view()?;
        for (leaf, entry) in (first_leaf..).zip(&applied.entries) {
            for (operation, kind) in
                (0u32..).zip(entry.body.operations.iter().filter_map(|o| o.kind.as_ref()))
            {
                let Kind::RecordAccess(op) = kind else { continue };
                let key = slot_key(chain_id, &op.custodian, &op.handle);
                let (seq, head) = match heads.remove(&key) {
                    Some(known) => known,
                    None => {
                        let slot = view.slot(&op.custodian, &op.handle)?.unwrap_or_default();
                        (slot.access_seq, slot.access_head.unwrap_or_default())
                    }
                };
                let before = (!head.is_empty()).then_some(head.as_slice());
                let next = next_access_head(chain_id, before, seq + 1, &op.commitment);
                let place = AccessPlace {
                    height: applied.tip.height,
                    leaf,
                    operation,
                    commitment: op.commitment.clone(),
                    previous_head: head,
                };
                batch.put_cf(self.family("accesses")?, access_key(&key, seq + 1), place.encode_to_vec());
                heads.insert(key, (seq + 1, next.to_vec()));
            }
        }
        Ok(())
    }

    /// Number of write-ahead-log syncs since open (RocksDB's own ticker).
    pub fn syncs(&self) -> u64 {
        self.options.get_ticker_count(rocksdb::statistics::Ticker::WalFileSynced)
    }

    /// What it holds in memory.
    pub fn memory_use(&self) -> MemoryUse {
        MemoryUse::of(&self.db, &self.cache)
    }
}
