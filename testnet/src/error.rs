//! What went wrong, for the person at the terminal.

use std::fmt::Display;

/// Why a command stopped. The text says what was seen and, where there is something, what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    Failed(String),
    #[error("interrupted: everything that was started is stopped")]
    Interrupted,
}

impl Error {
    /// Exit status; see INTERFACES.md. Usage errors (2) are clap's.
    pub fn exit_code(&self) -> u8 {
        1
    }
}

/// A failure that says so.
pub fn failed<T>(text: impl Into<String>) -> Result<T, Error> {
    Err(Error::Failed(text.into()))
}

/// Says what was being done when an error came.
pub trait While<T> {
    /// Puts `doing` before the error's own text.
    fn during(self, doing: impl FnOnce() -> String) -> Result<T, Error>;
}

impl<T, E: Display> While<T> for Result<T, E> {
    fn during(self, doing: impl FnOnce() -> String) -> Result<T, Error> {
        self.map_err(|error| Error::Failed(format!("{}: {error}", doing())))
    }
}
