//! What was seen at each step, as plain values: gathered by [`super::observe`], judged by [`super::claims`].

use std::collections::BTreeSet;

/// SHA-256 in hex, or another text that stands for bytes.
pub type Digest = String;

/// Step 1: Cedar loads the records.
#[derive(Debug, Clone)]
pub struct LoadObserved {
    /// What the committed manifest says of the records.
    pub listed: Counts,
    /// What was found in them.
    pub found: Counts,
    /// Size of the committed, compressed file in bytes.
    pub compressed_bytes: u64,
    /// Resources without exactly one v3-Confidentiality coding, N or R.
    pub uncoded: u64,
    /// Resources with R but no sensitivity, or with N and one.
    pub mislabelled: u64,
    /// Resources labelled PSY.
    pub psy: u64,
    /// Resources labelled SUD.
    pub sud: u64,
    /// Distinct handles that Cedar's node gave for the patients.
    pub handles: u64,
    /// Resources that Cedar's node says it stored.
    pub stored_resources: u64,
    /// Patients that Cedar's node says they are about.
    pub stored_patients: u64,
}

/// Counts of records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counts {
    /// Patients.
    pub patients: u64,
    /// Resources.
    pub resources: u64,
    /// Types.
    pub types: u64,
    /// SHA-256 of the uncompressed records.
    pub sha256: Digest,
}

/// Step 2: the consent is committed.
#[derive(Debug, Clone)]
pub struct ConsentObserved {
    /// Consent sequence that the import answered with.
    pub consent_seq: u64,
    /// Consent sequence before it.
    pub consent_seq_before: u64,
    /// The consent's rules in words, as the node read them.
    pub rules: u64,
    /// Root of the state before the block that holds the consent.
    pub state_root_before: Digest,
    /// Organizations of the network.
    pub organizations: BTreeSet<String>,
    /// The height that holds the consent, as each organization's own node shows it to its auditor.
    pub nodes: Vec<NodeAtHeight>,
}

/// One node's block at a height.
#[derive(Debug, Clone)]
pub struct NodeAtHeight {
    /// Organization that runs the node.
    pub organization: String,
    /// Height.
    pub height: u64,
    /// Hash of its header there.
    pub header_hash: Digest,
    /// Root of its state there.
    pub state_root: Digest,
    /// The block holds the consent's operation.
    pub holds_consent: bool,
    /// Its certificate over that header holds.
    pub certified: bool,
}

/// Step 3: Birch's CRM asks.
#[derive(Debug, Clone)]
pub struct CheckObserved {
    /// The outcome for treatment; the refusal's code when there was none.
    pub treatment: String,
    /// The permit says that what is released may be incomplete.
    pub may_be_incomplete: bool,
    /// The decision bears Cedar's signature.
    pub decision_signed: bool,
    /// The answer for marketing.
    pub marketing: Refusal,
    /// The answer for a patient that does not exist.
    pub unknown: Refusal,
}

/// All that a refusal shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// gRPC code.
    pub code: String,
    /// Text.
    pub message: String,
    /// Domain and reason of each `google.rpc.ErrorInfo`.
    pub reasons: Vec<(String, String)>,
    /// Type and size of each detail.
    pub details: Vec<(String, usize)>,
    /// Names of the response's metadata.
    pub metadata: Vec<String>,
    /// It carries `not released` with Cedar's signature.
    pub signed: bool,
}

/// Step 4: Birch's CRM gets the records.
#[derive(Debug, Clone)]
pub struct ReleaseObserved {
    /// Digests of the patient's resources that the consent permits, by the committed records.
    pub permitted: BTreeSet<Digest>,
    /// Digests of the patient's other resources.
    pub withheld: BTreeSet<Digest>,
    /// Digests of what came.
    pub received: Vec<Digest>,
    /// Resources that came and bear the label PSY.
    pub received_psy: u64,
    /// Ids of withheld resources in anything that came beside the resources.
    pub hints: u64,
    /// Number of resources that the receipt names.
    pub receipt_resources: u64,
    /// The receipt holds, from the genesis hash.
    pub receipt_holds: bool,
    /// Height of the block that holds the access.
    pub access_height: u64,
    /// Height of Birch's ledger when the first message came.
    pub first_message_height: u64,
    /// Elm's node, which has no part in it, showed the access in its certified block at that height.
    pub committed_elsewhere: bool,
    /// `VerifyRecords` says that the bundle holds.
    pub verified: bool,
    /// `VerifyRecords` says so too of a bundle with one byte changed.
    pub altered_verified: bool,
    /// A request for conditions only: resources that should come.
    pub narrow_permitted: BTreeSet<Digest>,
    /// A request for conditions only: resources that came.
    pub narrow_received: BTreeSet<Digest>,
}

/// Step 5: `assent verify`, without a node.
#[derive(Debug, Clone)]
pub struct OfflineObserved {
    /// Exit for the bundle as it is.
    pub exit: i32,
    /// Exit for the bundle against another genesis hash.
    pub other_genesis_exit: i32,
    /// Position of each changed byte, and the exit.
    pub flips: Vec<(u64, i32)>,
}

/// Step 6: the patient withdraws.
#[derive(Debug, Clone)]
pub struct WithdrawObserved {
    /// Exit of `assent withdraw`.
    pub exit: i32,
    /// Birch's CRM was permitted until then.
    pub permitted_before: bool,
    /// Organizations of the network.
    pub organizations: BTreeSet<String>,
    /// Organization, and milliseconds from the start of `assent withdraw` until its node showed the slot frozen.
    pub frozen_ms: Vec<(String, u64)>,
    /// Milliseconds until Birch's node refused a check.
    pub refused_ms: Option<u64>,
    /// Permits that Birch's node gave after its first refusal.
    pub permits_after: u64,
    /// Checks that Birch's node answered after its first refusal.
    pub checks_after: u64,
    /// Reason given for a new request for records.
    pub request_reason: String,
    /// Bytes of records and receipts that came for it.
    pub request_bytes: u64,
}

/// Step 7: one node is killed.
#[derive(Debug, Clone)]
pub struct CrashObserved {
    /// Seconds that each rate must be taken over.
    pub required_seconds: f64,
    /// With four nodes.
    pub four: Rate,
    /// With three.
    pub three: Rate,
    /// Signal that ended Elm's node.
    pub signal: Option<i32>,
    /// Height of the others when Elm was started again.
    pub restart_height: u64,
    /// Height that Elm reached by itself while it caught up.
    pub caught_up_height: u64,
    /// Seconds that took.
    pub caught_up_seconds: f64,
    /// A certificate of a later height that Elm signed.
    pub vote: Option<VoteSeen>,
}

/// Writes committed over a time.
#[derive(Debug, Clone)]
pub struct Rate {
    /// Seconds.
    pub seconds: f64,
    /// Entries committed in them, by Cedar's ledger.
    pub entries: u64,
    /// Writes answered in them.
    pub answered: u64,
    /// Heights decided in them.
    pub heights: u64,
}

impl Rate {
    /// Entries a second.
    pub fn per_second(&self) -> f64 {
        if self.seconds > 0.0 {
            self.entries as f64 / self.seconds
        } else {
            0.0
        }
    }
}

/// A precommit of Elm.
#[derive(Debug, Clone)]
pub struct VoteSeen {
    /// Height of the certificate.
    pub height: u64,
    /// Organization whose node showed it.
    pub shown_by: String,
    /// The certificate holds: more than 2/3 of the power, every signature.
    pub certificate_holds: bool,
    /// Elm's signature in it verifies against the vote key in genesis.
    pub signature_holds: bool,
}

/// Step 8: the auditor.
#[derive(Debug, Clone)]
pub struct AuditObserved {
    /// Exit of `audit verify`.
    pub exit: i32,
    /// What it reported.
    pub reported: ChainCounts,
    /// What the file holds, counted by walking it.
    pub walked: ChainCounts,
    /// Height of the node's ledger before the export.
    pub height_before: u64,
    /// Changed bytes.
    pub flips: Vec<FlipSeen>,
    /// Exit for the other chain's export against its own genesis hash.
    pub other_own_exit: i32,
    /// Exit for it against this chain's genesis hash.
    pub other_exit: i32,
}

/// Counts of a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainCounts {
    /// Last height.
    pub height: u64,
    /// Entries.
    pub entries: u64,
    /// Operations.
    pub operations: u64,
    /// Signatures of authors, patients and validators.
    pub signatures: u64,
}

/// One changed byte of an export.
#[derive(Debug, Clone)]
pub struct FlipSeen {
    /// Position.
    pub position: u64,
    /// Height of the record that holds it.
    pub height: u64,
    /// Exit of `audit verify`.
    pub exit: i32,
    /// First bad height that it reported.
    pub reported: Option<u64>,
}

/// Step 9: the patient sees who looked.
#[derive(Debug, Clone)]
pub struct HistoryObserved {
    /// Exit of `assent history`.
    pub exit: i32,
    /// Exit of `assent verify` on the file that it wrote.
    pub verify_exit: i32,
    /// The file holds, checked by the ledger's own rules: all n of n.
    pub proven: bool,
    /// Accesses that the slot in the state counts.
    pub counted: u64,
    /// Accesses that the file proves, in order.
    pub proven_accesses: Vec<AccessSeen>,
    /// Accesses that `assent history` told the patient, in order.
    pub told: Vec<AccessSeen>,
    /// The releases of this story, in order.
    pub expected: Vec<AccessSeen>,
    /// Every access has a time between start of the story and now.
    pub times_plausible: bool,
}

/// One access: who looked, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessSeen {
    /// Organization that got the records.
    pub organization: String,
    /// Purpose.
    pub purpose: String,
    /// Person, as the client asserted.
    pub actor: String,
}
