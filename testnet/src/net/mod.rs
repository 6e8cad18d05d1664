//! A network in a folder.
//!
//! ```text
//! D/network.json             what runs where: written once all nodes are ready
//! D/genesis.bin
//! D/<organization>/          made by `assent init`: assentd.toml, keys, tls, clients, data
//! D/<organization>/assentd.log
//! ```

pub mod cluster;
pub mod create;
pub mod description;
pub mod ports;
pub mod process;
pub mod single;
pub mod up;
