//! Why a call is refused: one kind, one machine-readable reason, one sentence that says what was wrong and what to do.
//!
//! gRPC codes are made of it in one place, [`crate::grpc::error`]; internal error text never reaches a caller.

use std::collections::BTreeMap;
use std::time::Duration;

use assent_ledger::execute::ExecuteError;
use assent_proto::ledger::v1::Signed;

use crate::chain::SubmitError;
use crate::order::Fatal;

/// Kind of a refusal: maps one to one to a gRPC code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Kind {
    InvalidArgument,
    NotFound,
    AlreadyExists,
    PermissionDenied,
    Unauthenticated,
    FailedPrecondition,
    Aborted,
    ResourceExhausted,
    Unavailable,
    DeadlineExceeded,
    Internal,
}

/// A refusal.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message} [{reason}]")]
pub struct Refusal {
    /// Kind.
    pub kind: Kind,
    /// Machine-readable reason, `UPPER_SNAKE_CASE`.
    pub reason: &'static str,
    /// What was wrong and what to do.
    pub message: String,
    /// Further facts for programs.
    pub metadata: BTreeMap<String, String>,
    /// When a retry may succeed, where that is known.
    pub retry_after: Option<Duration>,
    /// The signed `NotReleased`, for that reason only.
    pub not_released: Option<Box<Signed>>,
}

impl Refusal {
    /// A refusal without metadata.
    pub fn new(kind: Kind, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            kind,
            reason,
            message: message.into(),
            metadata: BTreeMap::new(),
            retry_after: None,
            not_released: None,
        }
    }

    /// The same with one more fact.
    pub fn with(mut self, key: &str, value: impl ToString) -> Self {
        self.metadata.insert(key.to_owned(), value.to_string());
        self
    }

    /// The same with the time after which a retry may succeed.
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// A malformed argument, by field name.
    pub fn invalid(reason: &'static str, field: &str, message: impl Into<String>) -> Self {
        Self::new(Kind::InvalidArgument, reason, message).with("field", field)
    }

    /// The one answer for everything that is not a permit.
    pub fn not_released(signed: Signed) -> Self {
        let mut refusal = Self::new(Kind::PermissionDenied, "NOT_RELEASED", "not released");
        refusal.not_released = Some(Box::new(signed));
        refusal
    }

    /// One request id, two requests.
    pub fn request_id_reused() -> Self {
        let message = "this request_id was used for another request: choose a new one";
        Self::new(Kind::AlreadyExists, "REQUEST_ID_REUSED", message)
    }

    /// A block's entries were forgotten here: `keep_blocks`, or this node joined from a snapshot.
    pub fn pruned(height: u64, whole_from: u64) -> Self {
        let message = format!(
            "this node has no entries of block {height} any more, only from block {whole_from} on: ask a member whose \
             keep_blocks is 0, or name a later block"
        );
        Self::new(Kind::FailedPrecondition, "PRUNED", message).with("whole_from", whole_from)
    }

    /// This node can't answer now.
    pub fn unavailable(reason: &'static str, message: impl Into<String>) -> Self {
        Self::new(Kind::Unavailable, reason, message)
    }
}

impl From<Fatal> for Refusal {
    fn from(error: Fatal) -> Self {
        tracing::error!(%error, "request failed");
        Self::unavailable(
            "NODE_FAILING",
            "the node's store failed; its operator finds the cause in the log; retry later",
        )
    }
}

impl From<SubmitError> for Refusal {
    fn from(error: SubmitError) -> Self {
        match error {
            // The mempool gives it up at the block that names the new key, and its request id is free again.
            SubmitError::Refused(ExecuteError::AuthorSignature(organization)) => Self::unavailable(
                "ENTRY_KEY_CHANGED",
                format!(
                    "the entry key of {organization} was replaced while the entry waited, and nothing of it is recorded: retry with the \
                     same request_id, and it is signed with the new key"
                ),
            ),
            SubmitError::Refused(error) => {
                let reason = error.reason();
                let kind = match reason {
                    "STALE_CONSENT_SEQUENCE"
                    | "STALE_POLICY_SEQUENCE"
                    | "STALE_WITHDRAW_SEQUENCE"
                    | "STALE_REPLACEMENT" => Kind::Aborted,
                    "ENTRY_EXPIRED" | "SEQUENCE_USED_OR_OUT_OF_WINDOW" | "STATE_UNREADABLE" => {
                        Kind::Unavailable
                    }
                    "MALFORMED_ENTRY" | "BAD_CONTROL_KEY" | "BAD_KEY" | "BAD_HANDOVER_SIGNATURE" => Kind::InvalidArgument,
                    "BAD_CONTROL_SIGNATURE" | "NOT_THE_CUSTODIAN" | "NOT_A_VOTER" => Kind::PermissionDenied,
                    _ => Kind::FailedPrecondition,
                };
                Self::new(kind, reason, format!("the ledger refuses the entry: {error}"))
            }
            SubmitError::NoKey(message) => Self::unavailable("NO_ENTRY_KEY", &message),
            SubmitError::Busy(message) => Self::new(Kind::ResourceExhausted, "MEMPOOL_FULL", message),
            SubmitError::Unknown(_) => Self::unavailable(
                "COMMIT_UNKNOWN",
                "not committed in time, it may still be: retry with the same request_id (more than 2/3 of the validators must be connected)",
            ),
            SubmitError::Fatal(error) => error.into(),
        }
    }
}
