//! What the fuzz targets call. The laws alone are shared with `ledger/tests/suite/fuzzed.rs`, which replays the kept corpus.

pub mod laws;
