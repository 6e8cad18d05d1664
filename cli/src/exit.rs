//! Exit codes, and the one form that every failure has: what, why in one word, what to do.

use std::fmt::Display;
use std::process::ExitCode;

use serde_json::{json, Value};
use tonic::{Code, Status};
use tonic_types::StatusExt;

/// Exit codes, as INTERFACES.md fixes them for all three programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done, permitted, holds.
    Ok = 0,
    /// Something failed that none of the others names.
    Error = 1,
    /// Usage, or malformed input.
    Usage = 2,
    /// Verification failed.
    Verification = 3,
    /// Can't decide: nothing to anchor to.
    Undecided = 4,
    /// Not permitted or not released.
    NotReleased = 5,
    /// An object of one's own is not there.
    NotFound = 6,
    /// Unavailable: retry.
    Unavailable = 7,
    /// Not allowed.
    NotAllowed = 8,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit as u8)
    }
}

/// Why a command did not do what it was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Exit code.
    pub exit: Exit,
    /// What was seen.
    pub what: String,
    /// Machine-readable reason.
    pub reason: String,
    /// What to do; empty when there is nothing to say.
    pub help: String,
}

impl Failure {
    /// A failure without advice.
    pub fn new(exit: Exit, reason: &str, what: impl Display) -> Self {
        Self { exit, what: what.to_string(), reason: reason.to_owned(), help: String::new() }
    }

    /// Wrong flags, or input that can't be read.
    pub fn usage(reason: &str, what: impl Display) -> Self {
        Self::new(Exit::Usage, reason, what)
    }

    /// A proof that does not hold.
    pub fn verification(reason: &str, what: impl Display) -> Self {
        Self::new(Exit::Verification, reason, what)
    }

    /// Anything that no other code names.
    pub fn error(reason: &str, what: impl Display) -> Self {
        Self::new(Exit::Error, reason, what)
    }

    /// Adds what to do.
    pub fn help(mut self, help: impl Display) -> Self {
        self.help = help.to_string();
        self
    }

    /// As it stands in JSON output.
    pub fn to_json(&self) -> Value {
        json!({
            "ok": false,
            "error": { "exit": self.exit as u8, "reason": self.reason, "message": self.what, "help": self.help },
        })
    }
}

/// Turns a refused or failed call into a failure: `google.rpc.ErrorInfo` says the reason, the gRPC code the exit.
impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        let info = status.get_details_error_info().filter(|info| info.domain == "assent");
        let reason = info.map_or_else(|| code_name(status.code()).to_owned(), |info| info.reason);
        let exit = exit_of(status.code(), &reason);
        let what = match status.message() {
            "" => status.code().description().to_owned(),
            message => printable(message),
        };
        Self::new(exit, &printable(&reason), what).help(advice(exit, &reason))
    }
}

fn exit_of(code: Code, reason: &str) -> Exit {
    match code {
        Code::Ok => Exit::Ok,
        Code::InvalidArgument | Code::OutOfRange => Exit::Usage,
        Code::NotFound => Exit::NotFound,
        Code::PermissionDenied if reason == "NOT_RELEASED" => Exit::NotReleased,
        Code::PermissionDenied | Code::Unauthenticated => Exit::NotAllowed,
        // Aborted lost a race, and cancelled is how a transport says that it ran out of time: both may be tried again.
        Code::Unavailable
        | Code::DeadlineExceeded
        | Code::ResourceExhausted
        | Code::Aborted
        | Code::Cancelled => Exit::Unavailable,
        Code::AlreadyExists
        | Code::FailedPrecondition
        | Code::Unimplemented
        | Code::Internal
        | Code::DataLoss
        | Code::Unknown => Exit::Error,
    }
}

fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

fn advice(exit: Exit, reason: &str) -> &'static str {
    match (exit, reason) {
        (Exit::NotReleased, _) => {
            "an unknown patient, a missing consent and a refusal all look like this; ask the patient or the custodian"
        }
        (Exit::Unavailable, "DEADLINE_EXCEEDED" | "CANCELLED") => {
            "the outcome is unknown, not \"no\": try again, perhaps with a longer --timeout"
        }
        (Exit::Unavailable, _) => "try again soon; `assent status` shows whether the node is fresh and connected",
        (Exit::NotAllowed, _) => {
            "use a client certificate of this node's organization with the role that this command needs (`assent keys issue`)"
        }
        (Exit::NotFound, _) => "check custodian, identifier and birth date, or the handle in the wallet",
        (Exit::Usage, _) => "correct the input and try again",
        _ => "the node's log says more",
    }
}

/// All that an error and its causes say, without repeats.
pub fn error_chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut parts: Vec<String> = vec![printable(&error.to_string())];
    let mut next = error.source();
    while let Some(cause) = next {
        let text = printable(&cause.to_string());
        if parts.last().is_none_or(|last| !last.contains(&text)) {
            parts.push(text);
        }
        next = cause.source();
    }
    parts.join(": ")
}

/// One line without control characters: what a node says must not move a terminal's cursor.
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
