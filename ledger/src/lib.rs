//! What is true: values, rules, proofs and decisions of the Assent ledger.
//!
//! Everything here is a pure function of its arguments: no clock, no file, no network, no random source and no
//! unordered map. Validator, commit path, replay, simulation and auditor call the same [`block::apply_block`].
//!
//! ```text
//! hash, keys        domain-separated hashing; Ed25519 by the ZIP-215 rule; peer_id: libp2p's names of keys
//! encoding          exactly one accepted encoding per message
//! genesis           the auditor's anchor
//! entry             what organizations sign; admission of its form
//! state, execute    slots, policy slots, organizations; what an operation does to them
//! membership        who is a member, who votes, and what changes at which height
//! governance        what steps of governance and evidence do to it
//! recovery          a quorum lost for ever: those that remain go on, visibly; recovered: as readers of a chain meet it
//! replacement       a control key that waits to take the place of the present one
//! tree, log         authenticated map (jmt) and RFC 6962 log, with proofs
//! certificate       votes, and more than 2/3 of the power
//! bench             whose turn it is to propose
//! checkpoint        C2SP signed notes of the log, for tools that others wrote
//! tiles             C2SP tlog-tiles: the log as files of 256 hashes or leaves each
//! block             build_block and apply_block
//! commitment        salted commitments, the Merkle map of consents, the access head
//! audit             offline verification of a whole chain
//! receipt           what all proofs are checked with: signed messages, digests, and what can be wrong
//! pack              all consents and all accesses of one patient at one custodian, in one file
//! receipts          files that stand without a node: receipts of a slot, a decision, an access; bundles, histories
//! voters            who votes on which header: changes of the set, and recoveries that the reader accepts
//! headers           all headers without their entries, as a node that joins gets them from a peer
//! sets              from genesis' validators to later ones, each set certified by the one before
//! evidence          equivocation, judged by itself; conviction: a file of it that names whose key it is
//! split             two signed checkpoints that can't be of one log, in one file
//! decisions         past decisions made again from opened bodies and an export
//! late              what is released under break-glass before its access stands in the ledger
//! consent           CDA-1: the decision function and FHIR import
//! ```

pub mod audit;
pub mod bench;
pub mod block;
pub mod certificate;
pub mod checkpoint;
pub mod commitment;
pub mod consent;
pub mod conviction;
pub mod decisions;
pub mod encoding;
pub mod entry;
pub mod evidence;
pub mod execute;
pub mod genesis;
pub mod governance;
pub mod hash;
pub mod headers;
pub mod keyfile;
pub mod keys;
pub mod late;
pub mod log;
pub mod membership;
pub mod pack;
pub mod peer_id;
pub mod receipt;
pub mod receipts;
pub mod recovered;
pub mod recovery;
pub mod replacement;
pub mod sets;
pub mod split;
pub mod state;
pub mod tiles;
pub mod tree;
pub mod voters;

pub use hash::Hash;

/// Version of the rules that headers and genesis name.
pub const PROTOCOL_VERSION: u32 = 1;
