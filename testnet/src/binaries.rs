//! The binaries beside this one. A testnet runs what was built, not what it links.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::Command;

use crate::error::{failed, Error, While};

/// Settings in the environment would reach past the flags: what is run here gets none of ours.
pub fn own_settings() -> impl Iterator<Item = OsString> {
    std::env::vars_os().map(|(name, _)| name).filter(|name| name.to_string_lossy().starts_with("ASSENT"))
}

/// Paths of the node and the CLI.
#[derive(Debug, Clone)]
pub struct Binaries {
    /// The node.
    pub assentd: PathBuf,
    /// The CLI.
    pub assent: PathBuf,
}

/// What a run of the CLI gave.
#[derive(Debug, Clone)]
pub struct Ran {
    /// Exit status; -1 when a signal ended it.
    pub exit: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Binaries {
    /// The binaries in the folder that this program was started from.
    pub fn beside_this() -> Result<Self, Error> {
        let own = std::env::current_exe().during(|| "looking for this program's folder".into())?;
        Self::in_folder(own.parent().unwrap_or(Path::new("/")))
    }

    fn in_folder(folder: &Path) -> Result<Self, Error> {
        let found = Self { assentd: folder.join("assentd"), assent: folder.join("assent") };
        for path in [&found.assentd, &found.assent] {
            if !path.is_file() {
                return failed(format!(
                    "{} is missing: build it with `cargo build --release --workspace --bins`",
                    path.display()
                ));
            }
        }
        Ok(found)
    }

    /// Runs the CLI and waits for it. It has no terminal and no node but the one that the arguments name.
    pub async fn assent<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Result<Ran, Error> {
        let mut command = Command::new(&self.assent);
        own_settings().for_each(|name| {
            command.env_remove(name);
        });
        let output = command
            .args(arguments)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await
            .during(|| format!("running {}", self.assent.display()))?;
        Ok(Ran {
            exit: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// Runs the CLI where anything but exit 0 is a failure.
    pub async fn assent_ok<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Result<Ran, Error> {
        let ran = self.assent(arguments).await?;
        if ran.exit == 0 {
            return Ok(ran);
        }
        let words: Vec<_> = arguments.iter().map(|a| a.as_ref().to_string_lossy()).collect();
        failed(format!("`assent {}` exited with {}: {}", words.join(" "), ran.exit, ran.stderr.trim()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_binaries_are_named_with_the_command_that_builds_them() {
        let error = Binaries::in_folder(Path::new("/nonexistent")).unwrap_err().to_string();
        assert!(error.contains("/nonexistent/assentd is missing"), "{error}");
        assert!(error.contains("cargo build"), "{error}");
    }
}
