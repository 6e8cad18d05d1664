//! One binary for all integration tests of the ledger; one file per theme.

mod attacks;
mod audit;
mod bad_input;
mod chain;
mod checkpoint;
mod consent;
mod encoding;
mod evidence;
mod flips;
mod golden;
mod governance;
mod late;
mod log;
mod pack;
mod properties;
mod purity;
mod receipt_files;
mod receipts;
mod records;
mod recovery;
mod replacement;
mod rules;
mod sets;
mod signatures;
mod tiles;
mod tree;
