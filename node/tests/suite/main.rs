//! Integration tests of the node: one binary, so that the engine is linked once.

mod accesses;
mod asks;
mod bad_input;
mod batch;
mod bft;
mod bulk;
mod cohort;
mod consents;
mod crowd;
mod decisions;
mod exchange;
mod explain;
mod grpc;
mod hiding;
mod kill;
mod ledger;
mod mempool;
mod net;
mod outreach;
mod patient;
mod peers;
mod single;
mod story;
mod submit;
mod vault;
mod watch;
