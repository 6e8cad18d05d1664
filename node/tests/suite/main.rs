//! Integration tests of the node: one binary, so that the engine is linked once.

mod bft;
mod grpc;
mod kill;
mod net;
mod patient;
mod peers;
mod single;
mod story;
mod vault;
