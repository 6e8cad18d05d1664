//! One node's process: started, recognized, stopped. Nothing is ever stopped by its name.

use std::fs::OpenOptions;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{kill, Signal};
use nix::unistd::Pid;

use crate::binaries::own_settings;
use crate::error::{Error, While};

/// How long a node may take to shut down in order, in seconds.
pub const STOP_LIMIT_SECONDS: u64 = 10;
const POLL: Duration = Duration::from_millis(50);

/// Who looks after a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Care {
    /// It shares our process group, so that what is sent to the group (Ctrl-C, `timeout`) reaches it too.
    Supervised,
    /// It has a group of its own and outlives us.
    Detached,
}

/// A node that we started.
#[derive(Debug)]
pub struct Running {
    child: Child,
    /// Its log file.
    pub log: PathBuf,
}

impl Running {
    /// Starts a node with its configuration; output goes to the end of the log.
    pub fn start(assentd: &Path, arguments: &[&Path], log: &Path, care: Care) -> Result<Self, Error> {
        let open = || OpenOptions::new().create(true).append(true).open(log);
        let out = open().during(|| format!("opening {}", log.display()))?;
        let err = open().during(|| format!("opening {}", log.display()))?;
        let mut command = Command::new(assentd);
        own_settings().for_each(|name| {
            command.env_remove(name);
        });
        command.env("MALLOC_ARENA_MAX", "2"); // as node/docs/assentd.service has it
        command.args(arguments).stdin(Stdio::null()).stdout(out).stderr(err);
        if care == Care::Detached {
            command.process_group(0);
        }
        let child = command.spawn().during(|| format!("starting {}", assentd.display()))?;
        Ok(Self { child, log: log.to_owned() })
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its exit status, when it has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// SIGKILL, as a crash would have it; waits for the end.
    pub fn kill(&mut self) -> Result<ExitStatus, Error> {
        self.child.kill().during(|| format!("killing {}", self.child.id()))?;
        self.child.wait().during(|| format!("waiting for {}", self.child.id()))
    }

    /// Asks it to stop.
    pub fn terminate(&mut self) {
        if self.ended().is_none() {
            signal(self.pid(), Signal::SIGTERM);
        }
    }

    /// Waits until it has ended; kills it at the deadline.
    pub async fn wait_until(&mut self, deadline: Instant) -> Option<ExitStatus> {
        loop {
            if let Some(status) = self.ended() {
                return Some(status);
            }
            if Instant::now() >= deadline {
                return self.kill().ok();
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// The last lines of the log, for an error message.
    pub fn log_tail(&self) -> String {
        let text = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(8)..].iter().map(|line| format!("\n    {line}")).collect()
    }
}

/// True when a process has this program name and this argument: our node, not another that got its process id since.
pub fn is_ours(pid: u32, argument: &Path) -> bool {
    // A process that has ended but was not waited for has an empty command line.
    let Ok(line) = std::fs::read(format!("/proc/{pid}/cmdline")) else {
        return false;
    };
    let mut words = line.split(|byte| *byte == 0).map(String::from_utf8_lossy);
    let program = words.next().unwrap_or_default();
    Path::new(program.as_ref()).file_name().is_some_and(|name| name == "assentd")
        && words.any(|word| Path::new(word.as_ref()) == argument)
}

/// Stops processes that somebody else started, each recognized by its argument: SIGTERM, and SIGKILL after the limit.
/// Returns the ids of those that had to be killed.
pub async fn stop_others(nodes: &[(u32, PathBuf)]) -> Vec<u32> {
    let mut left: Vec<&(u32, PathBuf)> =
        nodes.iter().filter(|(pid, argument)| is_ours(*pid, argument)).collect();
    for (pid, _) in &left {
        signal(*pid, Signal::SIGTERM);
    }
    let deadline = Instant::now() + Duration::from_secs(STOP_LIMIT_SECONDS);
    while !left.is_empty() && Instant::now() < deadline {
        tokio::time::sleep(POLL).await;
        left.retain(|(pid, argument)| is_ours(*pid, argument));
    }
    for (pid, _) in &left {
        signal(*pid, Signal::SIGKILL);
    }
    let killed = left.iter().map(|(pid, _)| *pid).collect();
    let deadline = Instant::now() + Duration::from_secs(STOP_LIMIT_SECONDS);
    while left.iter().any(|(pid, argument)| is_ours(*pid, argument)) && Instant::now() < deadline {
        tokio::time::sleep(POLL).await;
    }
    killed
}

fn signal(pid: u32, signal: Signal) {
    // Id 0 and negative ids name whole groups.
    if let Some(pid) = i32::try_from(pid).ok().filter(|pid| *pid > 1) {
        let _ = kill(Pid::from_raw(pid), signal); // gone in between: what was wanted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_recognized_by_program_and_argument() {
        let own = std::process::id();
        assert!(!is_ours(own, Path::new("/some/assentd.toml")), "this test is no assentd");
        assert!(!is_ours(u32::MAX, Path::new("/some/assentd.toml")), "there is no such process");
    }
}
