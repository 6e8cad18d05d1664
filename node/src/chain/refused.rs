//! Why a snapshot is not taken.

use assent_ledger::headers::HeadersError;
use assent_ledger::voters::StepError;

/// A fixed word, and a sentence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {sentence}")]
pub struct Refused {
    /// The word.
    pub reason: &'static str,
    /// What was wrong.
    pub sentence: String,
}

impl Refused {
    /// A word with its sentence.
    pub fn new(reason: &'static str, sentence: impl Into<String>) -> Self {
        Self { reason, sentence: sentence.into() }
    }
}

impl From<HeadersError> for Refused {
    fn from(error: HeadersError) -> Self {
        let reason = match &error {
            HeadersError::Protocol { .. } => "newer-format",
            HeadersError::OtherChain(_) => "other-chain",
            HeadersError::LogRoot(_) => "log-root",
            HeadersError::Certificate { .. } => "certificate",
            HeadersError::Step(StepError::NoSet(_)) => "validator-set",
            HeadersError::Step(StepError::NotAccepted(recovered)) => {
                let sentence = format!(
                    "it went through {recovered}: compare that hash with the operators who published it, add it to \
                     accept_recoveries in assentd.toml, and start this node again"
                );
                return Self::new("recovery", sentence);
            }
            HeadersError::Step(StepError::Plan(_)) => "recovery",
            HeadersError::Header { .. } | HeadersError::Step(_) => "header",
        };
        Self::new(reason, error.to_string())
    }
}
