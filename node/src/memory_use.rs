//! What the stores hold in memory, for `/metrics`: an operator who sees a node grow can tell what of it is a store's.

use rocksdb::perf::get_memory_usage_stats;
use rocksdb::{Cache, DB};

/// Bytes in memory of one database, by RocksDB's own estimate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryUse {
    /// Newest writes, not yet in files.
    pub write_buffers: u64,
    /// Indexes and filters of open files.
    pub tables: u64,
    /// Blocks of files.
    pub cache: u64,
}

impl MemoryUse {
    /// Of a database and its cache. RocksDB gives no error for ones that are open.
    pub fn of(db: &DB, cache: &Cache) -> Self {
        let cache = cache.get_usage() as u64;
        match get_memory_usage_stats(Some(&[db]), None) {
            Ok(now) => {
                Self { write_buffers: now.mem_table_total, tables: now.mem_table_readers_total, cache }
            }
            Err(_) => Self { write_buffers: 0, tables: 0, cache },
        }
    }

    /// Each with its name.
    pub fn parts(&self) -> [(&'static str, u64); 3] {
        [("write-buffers", self.write_buffers), ("tables", self.tables), ("cache", self.cache)]
    }
}
