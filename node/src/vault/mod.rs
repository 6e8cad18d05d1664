//! The custodian's private store: subjects, records, consent bodies, salts, access events, clients' requests.
//!
//! ```text
//! put_pending([ConsentSet, NewRequest]) ──► Staging (reads see what was staged) ──► one WriteBatch ──► synced ──► Ok
//!                                            every value sealed, every key hashed
//! consent_set(handle, commitment) ◄── the ledger's slot says which commitment is current; nothing is "activated" here
//! ```
//!
//! Bodies and salts are durable before the entry that commits to them is submitted (ARCHITECTURE.md, Decisions), so every
//! write here is synced before it returns, or before [`Vault::durable`] does ([`Vault::stage_pending`]). A value that does
//! not open under this vault's key, in its own place, is
//! [`VaultError::Corrupt`]. What encryption can't show: that a value was deleted or set back to an older one; for
//! consents and policies the ledger's commitment shows it, for records a restored backup does not.
//!
//! Calls block on the disk: from async code go through `spawn_blocking`.

mod asks;
mod bodies;
mod error;
mod grants;
mod late;
mod own_accesses;
mod pages;
mod records;
mod requests;
mod reviews;
mod seal;
mod staging;
mod subjects;
mod sync;
mod tokens;

use std::fmt;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use prost::Message;
use rocksdb::checkpoint::Checkpoint;
use rocksdb::statistics::Ticker;
use rocksdb::{
    BlockBasedOptions, Cache, DBCompressionType, DBRecoveryMode, Direction, IteratorMode, Options, DB,
};

pub use asks::{Answered, Ask, AskPlace, AskWrite, OwnAsk, MAX_OPEN_ASKS};
pub use bodies::{Access, ConsentRecord, ConsentSet, ContactRecord};
pub use error::VaultError;
pub use grants::PendingGrant;
pub use late::LateAccess;
pub use own_accesses::{Cursor, OwnAccess};
pub use records::Record;
pub use requests::RequestRecord;
pub use reviews::{Closed, Review, ReviewList};
pub use staging::Pending;
pub use subjects::Subject;

use seal::{Sealer, Table};
use staging::Staging;
use sync::Syncer;

use crate::memory_use::MemoryUse;

/// Result of the vault's calls.
pub type Result<T, E = VaultError> = std::result::Result<T, E>;

/// The largest value the vault takes, before encryption.
pub const MAX_VALUE_BYTES: usize = 256 * 1024 * 1024;

/// The most bytes one synced batch takes.
pub const MAX_BATCH_BYTES: usize = 1024 * 1024 * 1024;

/// Blocks of its files in memory.
const CACHE_BYTES: usize = 32 << 20;
/// Newest writes in memory. With RocksDB's 64 MiB a node that writes little would go on growing for half an hour.
const WRITE_BUFFER_BYTES: usize = 8 << 20;

/// Subjects share these: a change of one's records counts for its whole bucket.
const RECORD_BUCKETS: usize = 16_384;

/// The text that opening a vault with the right key must find.
const CHECK: &[u8] = b"assent/1/vault";

/// A handle to the one open vault of this process; cheap to clone.
#[derive(Clone)]
pub struct Vault {
    inner: Arc<Inner>,
}

struct Inner {
    /// Before the database: its thread ends first.
    syncer: Syncer,
    db: Arc<DB>,
    /// Kept for their figures.
    options: Options,
    cache: Cache,
    sealer: Sealer,
    /// One writer at a time: most writes look before they write.
    writing: Mutex<()>,
    /// Where the decoy subject is: it never moves.
    decoy: OnceLock<Vec<u8>>,
    /// How often records of the subjects in a bucket were written since the vault was opened.
    record_changes: Box<[AtomicU64]>,
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vault").field("path", &self.inner.db.path()).finish_non_exhaustive()
    }
}

impl Vault {
    /// Opens the vault in `dir`, made (mode 0700) when absent. The secret must be the one it was made with.
    pub fn open(dir: &Path, secret: &[u8; 32]) -> Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|error| VaultError::Storage {
            what: format!("can't make the folder {}: {error}", dir.display()),
        })?;
        let (options, cache) = options();
        let db = DB::open(&options, dir).map_err(|error| VaultError::from_store("open", error))?;
        Self::over(db, options, cache, secret)
    }

    /// Opens a copy that nobody writes to, without changing a byte of it.
    pub fn open_copy(dir: &Path, secret: &[u8; 32]) -> Result<Self> {
        let (mut options, cache) = options();
        options.create_if_missing(false);
        let db = DB::open_cf_for_read_only(&options, dir, ["default"], false)
            .map_err(|error| VaultError::from_store("open", error))?;
        Self::over(db, options, cache, secret)
    }

    fn over(db: DB, options: Options, cache: Cache, secret: &[u8; 32]) -> Result<Self> {
        let db = Arc::new(db);
        let (sealer, syncer) = (Sealer::new(secret), Syncer::start(db.clone())?);
        let vault = Self {
            inner: Arc::new(Inner {
                syncer,
                db,
                options,
                cache,
                sealer,
                writing: Mutex::new(()),
                decoy: OnceLock::new(),
                record_changes: (0..RECORD_BUCKETS).map(|_| AtomicU64::new(0)).collect(),
            }),
        };
        vault.check_key()?;
        Ok(vault)
    }

    /// Everything that was written so far, as files in a new folder: links to those that never change, copies of the others.
    pub fn checkpoint(&self, into: &Path) -> Result<()> {
        Checkpoint::new(&self.inner.db)
            .and_then(|now| now.create_checkpoint(into))
            .map_err(|error| VaultError::from_store("checkpoint", error))
    }

    /// How often the store has synced its write-ahead log since it was opened.
    pub fn log_syncs(&self) -> u64 {
        self.inner.options.get_ticker_count(Ticker::WalFileSynced)
    }

    /// What it holds in memory.
    pub fn memory_use(&self) -> MemoryUse {
        MemoryUse::of(&self.inner.db, &self.inner.cache)
    }

    /// Waits until everything that was written so far is on disk, whoever wrote it.
    pub async fn durable(&self) -> Result<()> {
        let syncer = &self.inner.syncer;
        syncer.durable(syncer.newest()).await
    }

    /// Waits until a write or a sync has failed, or a value did not open: nothing further is durable then.
    pub async fn failed(&self) -> VaultError {
        self.inner.syncer.failure().await
    }

    /// Tells a new vault from one that was made with another key.
    fn check_key(&self) -> Result<()> {
        let key = self.key(Table::Check, &[]);
        let wrong = || {
            VaultError::Corrupt {
            what: "its check value does not open: keys/vault.pem is not the key it was made with, or it is damaged".into(),
        }
        };
        match self.get(&key) {
            Ok(Some(found)) if found == CHECK => Ok(()),
            Ok(Some(_)) | Err(VaultError::Corrupt { .. }) => Err(wrong()),
            Err(other) => Err(other),
            // The check value's place does not depend on the key, so absent means never written.
            Ok(None) => match self.inner.db.iterator(IteratorMode::Start).next() {
                Some(Ok(_)) => Err(wrong()),
                Some(Err(error)) => Err(VaultError::from_store("read", error)),
                None => {
                    let mut staging = self.stage();
                    staging.put(key, CHECK)?;
                    staging.decoy()?;
                    self.wait_durable(staging.commit()?)
                }
            },
        }
    }

    fn wait_durable(&self, ticket: u64) -> Result<()> {
        futures::executor::block_on(self.inner.syncer.durable(ticket))
    }

    fn key(&self, table: Table, parts: &[&[u8]]) -> Vec<u8> {
        self.inner.sealer.key(table, parts)
    }

    fn stage(&self) -> Staging<'_> {
        Staging::new(&self.inner, self.writer())
    }

    /// The lock guards no data, only the order of writers; after a panic elsewhere it is as good as before.
    fn writer(&self) -> MutexGuard<'_, ()> {
        self.inner.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        self.inner.get(key)
    }

    fn get_message<M: Message + Default>(&self, key: &[u8]) -> Result<Option<M>> {
        self.get(key)?.map(|plain| decode(&plain)).transpose()
    }
}

impl Inner {
    /// A row's value. One that doesn't open is damage, whoever asked for it: the vault has failed then.
    fn open(&self, key: &[u8], sealed: &[u8]) -> Result<Vec<u8>> {
        self.sealer.open(key, sealed).map_err(|error| self.syncer.failed(error))
    }

    /// The same of what the store itself says to a read.
    fn unread(&self, error: rocksdb::Error) -> VaultError {
        match VaultError::from_store("read", error) {
            corrupt @ VaultError::Corrupt { .. } => self.syncer.failed(corrupt),
            other => other,
        }
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        match self.db.get_pinned(key).map_err(|error| self.unread(error))? {
            Some(sealed) => self.open(key, &sealed).map(Some),
            None => Ok(None),
        }
    }

    /// Every key that starts with `prefix`, from `from` on, with its opened value, in key order, until `each` says stop.
    fn scan(&self, prefix: &[u8], mut each: impl FnMut(&[u8], Vec<u8>) -> Result<bool>) -> Result<()> {
        for item in self.db.iterator(IteratorMode::From(prefix, Direction::Forward)) {
            let (key, sealed) = item.map_err(|error| self.unread(error))?;
            if !key.starts_with(prefix) || !each(&key, self.open(&key, &sealed)?)? {
                break;
            }
        }
        Ok(())
    }
}

fn options() -> (Options, Cache) {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.set_paranoid_checks(true);
    let mut table = BlockBasedOptions::default();
    // Keys are hashes, so that a look reads one file and not one of every level.
    table.set_bloom_filter(10.0, false);
    let cache = Cache::new_lru_cache(CACHE_BYTES);
    table.set_block_cache(&cache);
    options.set_block_based_table_factory(&table);
    options.set_write_buffer_size(WRITE_BUFFER_BYTES);
    // Sealed values don't compress.
    options.set_compression_type(DBCompressionType::None);
    // Only a torn last record is a crash; anything else in the log is damage, and must not silently end the replay.
    options.set_wal_recovery_mode(DBRecoveryMode::TolerateCorruptedTailRecords);
    options.set_max_open_files(256);
    options.set_keep_log_file_num(4);
    options.enable_statistics();
    options.set_stats_dump_period_sec(0);
    (options, cache)
}

fn decode<M: Message + Default>(plain: &[u8]) -> Result<M> {
    M::decode(plain)
        .map_err(|error| VaultError::Corrupt { what: format!("a value does not decode: {error}") })
}

/// 32 bytes out of a stored value.
fn array(bytes: &[u8], what: &str) -> Result<[u8; 32]> {
    bytes
        .try_into()
        .map_err(|_| VaultError::Corrupt { what: format!("{what} has {} bytes, not 32", bytes.len()) })
}
