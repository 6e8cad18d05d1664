//! Where what lies in the ledger's database, and how much memory it may take.
//!
//! | column family | key | value |
//! |---|---|---|
//! | meta | "genesis", "tip", "format" | GenesisFile, StoredTip, number |
//! | meta | "whole-from", "own-gap" | see [`super::prune`] |
//! | meta | "recovery/" height | Recover without signatures: the plan that the block above that height carried out |
//! | meta | "recovery-entry" | Entry: first of the next block while the tip says that a recovery is agreed to |
//! | sets | height | hash of the validator set of the next height, where it is another |
//! | validators | validator-set hash | ValidatorSet: each that ever was |
//! | blocks, certificates | height | Block, Certificate |
//! | pruned | height | StoredPruned, in place of the block |
//! | entries | entry hash | height, leaf index |
//! | state | state key | Slot, PolicySlot, OrganizationState |
//! | nodes | jmt node key | jmt node |
//! | log | level, index | hash of a complete subtree |
//! | accesses | slot key, access sequence | AccessPlace |
//! | changes | own slot key or policy key, sequence | Change |
//! | undecided | height, round, hash | StoredCandidate |
//! | built | height, round | hash |

use assent_ledger::Hash;
use rocksdb::{BlockBasedOptions, Cache, ColumnFamilyDescriptor, DBCompressionType, Options, WriteOptions};

/// Blocks of its files in memory, over all families. With 48 MiB, indexes and filters included, and 16 for the vault, a node among
/// 100,000 patients answered half as many checks.
const CACHE_BYTES: usize = 64 << 20;
/// Newest writes in memory, over all families: then the fullest is written to a file. At least those of four families.
const ALL_WRITE_BUFFERS_BYTES: usize = 48 << 20;
/// Newest writes of one family in memory. Each family takes a fifth of it from the start.
pub(super) const WRITE_BUFFER_BYTES: usize = 8 << 20;

pub(super) const FAMILIES: [&str; 14] = [
    "meta",
    "validators",
    "sets",
    "blocks",
    "pruned",
    "certificates",
    "entries",
    "state",
    "nodes",
    "log",
    "accesses",
    "changes",
    "undecided",
    "built",
];

/// How the database is opened.
pub(super) struct Layout {
    pub options: Options,
    pub families: Vec<ColumnFamilyDescriptor>,
    /// Of all families.
    pub cache: Cache,
}

/// With write buffers of this size, in bytes for one family.
pub(super) fn layout(write_buffer_bytes: usize) -> Layout {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    options.set_paranoid_checks(true);
    options.set_compression_type(DBCompressionType::Lz4);
    options.enable_statistics();
    options.set_keep_log_file_num(2);
    options.set_max_total_wal_size(64 << 20);
    options.set_db_write_buffer_size(ALL_WRITE_BUFFERS_BYTES.max(4 * write_buffer_bytes));
    // Statistics are served as metrics; dumps of them would be most of what an idle node writes.
    options.set_stats_dump_period_sec(0);
    let cache = Cache::new_lru_cache(CACHE_BYTES);
    // RocksDB's own family is empty; with its default buffer of 64 MiB as much would be preallocated for each log file.
    let families = FAMILIES.iter().chain(&["default"]).map(|name| {
        let mut options = Options::default();
        options.set_compression_type(DBCompressionType::Lz4);
        options.set_write_buffer_size(write_buffer_bytes);
        // Most looks are for what is not there: a new entry, a new slot.
        let mut table = BlockBasedOptions::default();
        table.set_bloom_filter(10.0, false);
        table.set_block_cache(&cache);
        options.set_block_based_table_factory(&table);
        options.set_memtable_whole_key_filtering(true);
        options.set_memtable_prefix_bloom_ratio(0.1);
        ColumnFamilyDescriptor::new(*name, options)
    });
    let families = families.collect();
    Layout { options, families, cache }
}

pub(super) fn synced() -> WriteOptions {
    let mut options = WriteOptions::default();
    options.set_sync(true);
    options
}

pub(super) fn height_key(height: u64) -> [u8; 8] {
    height.to_be_bytes()
}

pub(super) fn log_key(level: u8, index: u64) -> [u8; 9] {
    let mut key = [level; 9];
    key[1..].copy_from_slice(&index.to_be_bytes());
    key
}

pub(super) fn access_key(slot: &Hash, access_seq: u64) -> [u8; 40] {
    let mut key = [0; 40];
    key[..32].copy_from_slice(slot);
    key[32..].copy_from_slice(&access_seq.to_be_bytes());
    key
}

pub(super) fn built_key(height: u64, round: u32) -> Vec<u8> {
    [&height.to_be_bytes()[..], &round.to_be_bytes()].concat()
}

pub(super) fn candidate_key(height: u64, round: u32, hash: &Hash) -> Vec<u8> {
    [&height.to_be_bytes()[..], &round.to_be_bytes(), hash].concat()
}
