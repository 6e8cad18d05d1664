//! What two nodes say to each other about one request.
//!
//! ```text
//! recipient ── Request ────────────────▶ custodian
//!           ◀─ Decision | NotReleased ──            a check ends here
//!           ◀─ Receipt ─────────────────            after the access is committed
//!           ◀─ Chunk, Chunk, ... End ───            resources, encrypted under a key of this release
//!           ── Acknowledgement ────────▶            signed: the digest of what the recipient holds
//!           ◀─ Key ─────────────────────            then the key goes
//!
//! recipient ── Ask ────────────────────▶ custodian  for the patient; told once more each time somebody asks where it stands
//!           ◀─ AskState ────────────────            signed; the same for declined and unknown
//! recipient ── Request ────────────────▶ custodian   without quorum, under break-glass only:
//!           ◀─ Late ────────────────────            its signed promise in place of the receipt; the rest as above
//! recipient ── ReceiptOf ──────────────▶ custodian   later, by the same signed request
//!           ◀─ Receipt | NotReleased ───            no records go out again
//! any node  ── PatientCall ────────────▶ custodian
//!           ◀─ PatientAnswer ───────────            a grant, relayed (patient)
//! ```

pub mod asks;
pub mod client;
pub mod entries;
pub mod patient;
pub mod sealed;
pub mod server;
pub mod status;

use assent_proto::ledger::v1::{LateProof, Receipt, Signed};

/// Longest frame of an exchange.
pub const MAX_FRAME_BYTES: usize = 2 << 20;
/// Resource bytes per chunk.
pub const CHUNK_BYTES: usize = 256 << 10;
/// Most bytes of one release: with its receipt it fits a bundle, which ends at 256 MiB.
pub const MAX_RELEASE_BYTES: usize = 240 << 20;
/// Most chunks of one release. A custodian fills all but the last.
pub const MAX_CHUNKS: usize = MAX_RELEASE_BYTES / CHUNK_BYTES + 1;

/// One frame.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Frame {
    /// What it says.
    #[prost(oneof = "Say", tags = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 20, 21, 30, 31")]
    pub say: Option<Say>,
}

/// What a frame says.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Say {
    /// A signed DataRequest.
    #[prost(message, tag = "1")]
    Request(Signed),
    /// A signed Decision: a permit.
    #[prost(message, tag = "2")]
    Decision(Signed),
    /// A signed NotReleased.
    #[prost(message, tag = "3")]
    NotReleased(Signed),
    /// The custodian can't answer now: reason and sentence.
    #[prost(message, tag = "4")]
    Unavailable(Why),
    /// Receipt of the committed access.
    #[prost(message, boxed, tag = "5")]
    Receipt(Box<Receipt>),
    /// Encrypted bytes.
    #[prost(bytes, tag = "6")]
    Chunk(Vec<u8>),
    /// No more chunks.
    #[prost(bool, tag = "7")]
    End(bool),
    /// A signed Acknowledgement.
    #[prost(message, tag = "8")]
    Acknowledgement(Signed),
    /// Key of the chunks.
    #[prost(bytes, tag = "9")]
    Key(Vec<u8>),
    /// A patient's call, relayed by the node that the patient asked.
    #[prost(message, tag = "10")]
    PatientCall(patient::PatientCall),
    /// Its answer.
    #[prost(message, tag = "11")]
    PatientAnswer(patient::PatientAnswer),
    /// A signed ConsentAsk.
    #[prost(message, tag = "20")]
    Ask(Signed),
    /// A signed ConsentAskState.
    #[prost(message, tag = "21")]
    AskState(Signed),
    /// A signed LateAccess with its keys: released without quorum.
    #[prost(message, boxed, tag = "30")]
    Late(Box<LateProof>),
    /// The signed DataRequest of a late release whose records the recipient holds: asks for the receipt.
    #[prost(message, tag = "31")]
    ReceiptOf(Signed),
}

/// What records are released under.
#[derive(Debug, Clone)]
pub enum Proof {
    /// The receipt of the committed access.
    Receipt(Box<Receipt>),
    /// A signed LateAccess with its keys: break-glass without quorum.
    Late(Box<LateProof>),
}

/// A reason with a sentence.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Why {
    /// Machine-readable reason.
    #[prost(string, tag = "1")]
    pub reason: String,
    /// What was wrong.
    #[prost(string, tag = "2")]
    pub message: String,
}
