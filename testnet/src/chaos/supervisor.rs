//! Runs the nodes as `node/docs/assentd.service` does: a node that ends by a signal or any exit code but 0, 2 and 9 starts again
//! after a pause. Only processes that it started are ever ended, by id.

use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::signal::{kill, Signal};
use nix::unistd::Pid;
use tokio::task::JoinHandle;

use super::observed::ExitSeen;
use crate::error::{failed, Error, While};
use crate::net::process::{Care, Running, STOP_LIMIT_SECONDS};

/// Pause before a restart: the unit file's.
const RESTART_PAUSE: Duration = Duration::from_secs(5);
/// A node that ended more often than this is left alone: the case has failed.
const MAX_RESTARTS: usize = 30;
const POLL: Duration = Duration::from_millis(50);

/// What is needed to start a node.
#[derive(Debug, Clone)]
pub struct Launch {
    /// Id of its organization.
    pub organization: String,
    /// The program.
    pub assentd: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Its log.
    pub log: PathBuf,
}

struct Slot {
    launch: Launch,
    /// For the next start only.
    once: Vec<String>,
    running: Option<Running>,
    /// It is down on purpose, or for good.
    held: bool,
    /// How it is expected to end: what the case injected.
    injected: Vec<i32>,
    exits: Vec<ExitSeen>,
    restarts: usize,
    restart_at: Option<Instant>,
}

impl Slot {
    fn new(launch: Launch) -> Self {
        Self {
            launch,
            once: Vec::new(),
            running: None,
            held: true,
            injected: Vec::new(),
            exits: Vec::new(),
            restarts: 0,
            restart_at: None,
        }
    }

    fn start(&mut self) -> Result<(), Error> {
        let words: Vec<String> = self.launch.arguments.iter().cloned().chain(self.once.drain(..)).collect();
        let words: Vec<&std::path::Path> = words.iter().map(std::path::Path::new).collect();
        let started = Running::start(&self.launch.assentd, &words, &self.launch.log, Care::Supervised)?;
        (self.running, self.held, self.restart_at) = (Some(started), false, None);
        Ok(())
    }

    fn ended(&mut self, status: ExitStatus) {
        let code = code_of(status);
        let injected = self.injected.contains(&code);
        self.exits.push(ExitSeen { organization: self.launch.organization.clone(), code, injected });
        self.running = None;
        let again = !self.held && restarts(code) && self.restarts < MAX_RESTARTS;
        self.restart_at = again.then(|| Instant::now() + RESTART_PAUSE);
        self.held = !again;
    }

    fn tick(&mut self) {
        if let Some(status) = self.running.as_mut().and_then(Running::ended) {
            self.ended(status);
        }
        if self.restart_at.is_some_and(|at| Instant::now() >= at) {
            self.restarts += 1;
            if self.start().is_err() {
                self.restart_at = Some(Instant::now() + RESTART_PAUSE);
            }
        }
    }
}

/// `Restart=on-failure` with `RestartPreventExitStatus=2 9`.
fn restarts(code: i32) -> bool {
    !matches!(code, 0 | 2 | 9)
}

/// The exit code, or the negated signal.
fn code_of(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| -status.signal().unwrap_or(0))
}

/// All nodes of a network. Dropping it ends them.
pub struct Supervisor {
    slots: Arc<Mutex<Vec<Slot>>>,
    task: JoinHandle<()>,
}

impl Supervisor {
    /// Over nodes that are not started yet.
    pub fn new(launches: Vec<Launch>) -> Self {
        let slots = Arc::new(Mutex::new(launches.into_iter().map(Slot::new).collect::<Vec<_>>()));
        let watched = slots.clone();
        let task = tokio::spawn(async move {
            loop {
                tokio::time::sleep(POLL).await;
                lock(&watched).iter_mut().for_each(Slot::tick);
            }
        });
        Self { slots, task }
    }

    /// One node more, that is not started yet.
    pub fn add(&self, launch: Launch) {
        lock(&self.slots).push(Slot::new(launch));
    }

    fn with<T>(&self, organization: &str, act: impl FnOnce(&mut Slot) -> T) -> Result<T, Error> {
        let mut slots = lock(&self.slots);
        match slots.iter_mut().find(|slot| slot.launch.organization == organization) {
            Some(slot) => Ok(act(slot)),
            None => failed(format!("there is no node of {organization}")),
        }
    }

    /// Starts a node that is down, now.
    pub fn start(&self, organization: &str) -> Result<(), Error> {
        self.start_once(organization, &[])
    }

    /// The same with further arguments for this start only.
    pub fn start_once(&self, organization: &str, further: &[String]) -> Result<(), Error> {
        self.with(organization, |slot| match slot.running {
            Some(_) => failed(format!("the node of {organization} runs already")),
            None => {
                slot.once = further.to_vec();
                slot.start()
            }
        })?
    }

    /// SIGKILL; it stays down until it is started.
    pub fn kill(&self, organization: &str) -> Result<(), Error> {
        self.with(organization, |slot| {
            slot.injected.push(-(Signal::SIGKILL as i32));
            slot.held = true;
            match slot.running.take() {
                Some(mut running) => {
                    let status = running.kill()?;
                    slot.ended(status);
                    Ok(())
                }
                None => failed(format!("the node of {organization} does not run")),
            }
        })?
    }

    /// Tells that a node may end like this in this case: an exit code, or a negated signal.
    pub fn expect(&self, organization: &str, code: i32) -> Result<(), Error> {
        self.with(organization, |slot| slot.injected.push(code))
    }

    /// Sends a signal that does not end it.
    pub fn signal(&self, organization: &str, signal: Signal) -> Result<(), Error> {
        match self.pid(organization).and_then(|pid| i32::try_from(pid).ok()) {
            Some(pid) => kill(Pid::from_raw(pid), signal).during(|| format!("{signal} to {organization}")),
            None => failed(format!("the node of {organization} does not run")),
        }
    }

    /// True while its process exists.
    pub fn runs(&self, organization: &str) -> bool {
        self.with(organization, |slot| slot.running.is_some()).unwrap_or(false)
    }

    /// Its process id, while it runs.
    pub fn pid(&self, organization: &str) -> Option<u32> {
        self.with(organization, |slot| slot.running.as_ref().map(Running::pid)).ok().flatten()
    }

    /// How a node's processes ended so far.
    pub fn exits_of(&self, organization: &str) -> Vec<i32> {
        self.with(organization, |slot| slot.exits.iter().map(|exit| exit.code).collect()).unwrap_or_default()
    }

    /// All ends so far.
    pub fn exits(&self) -> Vec<ExitSeen> {
        lock(&self.slots).iter().flat_map(|slot| slot.exits.iter().cloned()).collect()
    }

    /// SIGTERM to a node, which must be gone within the limit; seconds that it took.
    pub async fn stop(&self, organization: &str) -> Result<f64, Error> {
        let begin = Instant::now();
        let taken = self.with(organization, |slot| {
            (slot.held, slot.restart_at) = (true, None);
            slot.running.take()
        })?;
        let Some(mut running) = taken else { return Ok(0.0) };
        running.terminate();
        // Longer than the limit: how long it took is judged by who asks.
        let deadline = begin + Duration::from_secs(2 * STOP_LIMIT_SECONDS);
        let status = running.wait_until(deadline).await;
        let seconds = begin.elapsed().as_secs_f64();
        if let Some(status) = status {
            self.with(organization, |slot| slot.ended(status))?;
        }
        Ok(seconds)
    }

    /// SIGTERM to all at once; the longest time that one took.
    pub async fn stop_all(&self) -> Result<f64, Error> {
        let names: Vec<String> = lock(&self.slots).iter().map(|s| s.launch.organization.clone()).collect();
        let stops = names.iter().map(|name| self.stop(name));
        let seconds = futures::future::try_join_all(stops).await?;
        Ok(seconds.into_iter().fold(0.0, f64::max))
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        self.task.abort();
        for slot in lock(&self.slots).iter_mut() {
            slot.restart_at = None;
            if let Some(mut running) = slot.running.take() {
                let _ = running.kill(); // gone already: what is wanted
            }
        }
    }
}

fn lock(slots: &Mutex<Vec<Slot>>) -> MutexGuard<'_, Vec<Slot>> {
    slots.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends_with(script: &str) -> Supervisor {
        let dir = std::env::temp_dir();
        Supervisor::new(vec![Launch {
            organization: "cedar".into(),
            assentd: "/bin/sh".into(),
            arguments: vec!["-c".into(), script.into()],
            log: dir.join(format!("assent-supervisor-{:08x}", rand::random::<u32>())),
        }])
    }

    #[tokio::test]
    async fn corruption_configuration_and_success_are_never_restarted() {
        for code in [0, 2, 9] {
            let supervisor = ends_with(&format!("exit {code}"));
            supervisor.start("cedar").unwrap();
            while supervisor.runs("cedar") {
                tokio::time::sleep(POLL).await;
            }
            assert_eq!(supervisor.exits_of("cedar"), [code]);
            let held = supervisor.with("cedar", |slot| (slot.held, slot.restart_at.is_some())).unwrap();
            assert_eq!(held, (true, false), "{code}");
        }
    }

    #[tokio::test]
    async fn a_failure_and_a_signal_are_restarted_after_the_pause() {
        for (script, code) in [("exit 7", 7), ("kill -ABRT $$", -6), ("exit 1", 1)] {
            let supervisor = ends_with(script);
            supervisor.start("cedar").unwrap();
            while supervisor.runs("cedar") {
                tokio::time::sleep(POLL).await;
            }
            let again = supervisor.with("cedar", |slot| slot.restart_at.is_some()).unwrap();
            assert!(again && supervisor.exits_of("cedar") == [code], "{script}");
            assert!(!supervisor.exits()[0].injected);
        }
    }

    #[tokio::test]
    async fn a_killed_node_stays_down_and_counts_as_injected() {
        let supervisor = ends_with("sleep 60");
        supervisor.start("cedar").unwrap();
        assert!(supervisor.start("cedar").is_err(), "it runs already");
        supervisor.kill("cedar").unwrap();
        assert!(!supervisor.runs("cedar") && supervisor.exits()[0].injected);
        assert!(supervisor.with("cedar", |slot| slot.restart_at.is_none()).unwrap());
        assert!(supervisor.kill("cedar").is_err() && supervisor.start("birch").is_err());
    }
}
