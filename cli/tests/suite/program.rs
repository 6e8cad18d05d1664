//! Runs the built program.

use std::ffi::OsStr;
use std::process::{Command, Stdio};

/// What a run left behind.
#[derive(Debug)]
pub struct Run {
    /// Exit code.
    pub exit: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Run {
    /// Standard output as the one JSON object that it must be.
    pub fn json(&self) -> serde_json::Value {
        let value: serde_json::Value =
            serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{e}: {self:?}"));
        assert!(value.is_object() && self.out.trim_end().lines().count() == 1, "{self:?}");
        value
    }

    /// Fails the test unless the exit code is this one.
    #[track_caller]
    pub fn exits(self, exit: i32) -> Self {
        assert_eq!(self.exit, exit, "{self:?}");
        self
    }
}

/// Runs `assent` without any setting from this process's environment.
pub fn assent<S: AsRef<OsStr>>(arguments: &[S]) -> Run {
    assent_with(&[], arguments)
}

/// The same with these variables.
pub fn assent_with<S: AsRef<OsStr>>(environment: &[(&str, &str)], arguments: &[S]) -> Run {
    let mut command = Command::new(env!("CARGO_BIN_EXE_assent"));
    for name in
        ["ASSENT_NODE", "ASSENT_CERT", "ASSENT_KEY", "ASSENT_CA", "ASSENT_GENESIS_HASH", "ASSENT_CHAIN_ID"]
    {
        command.env_remove(name);
    }
    let output = command
        .envs(environment.iter().copied())
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .expect("assent was built");
    Run {
        exit: output.status.code().expect("assent was not killed"),
        out: String::from_utf8(output.stdout).expect("UTF-8"),
        err: String::from_utf8(output.stderr).expect("UTF-8"),
    }
}
