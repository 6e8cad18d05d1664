//! The double-sign guard: when the engine may vote, and when it only follows.
//!
//! ```text
//! never voted ───────────────────────────────────────────────▶ votes
//! knows its votes ─▶ asks the others ─▶ not behind ──────────▶ votes
//!                                    ╲▶ behind ─▶ follows up to where they were ─▶ votes
//! lost them, or its own signature turns up where it knows of none
//!                  ─▶ follows until two blocks above what was decided when it asked ─▶ votes
//! ```
//! Who has no seat in a height's set signs nothing there on any course, and keeps its never-voted marker until it has one.
//!
//! Why two: whoever helped to decide block t with this node's vote knows block t-1 ever since, and is among any more than 2/3 of
//! the power. If all of those say, after this process started, that they have at most X, then t-1 ≤ X. This node signed for t + 1
//! at most, so nothing above X + 2.

use std::path::PathBuf;
use std::time::Duration;

use assent_ledger::keys::SigningKey;
use assent_ledger::Hash;
use assent_proto::ledger::v1::ValidatorSet;
use tokio::time::{sleep, Instant};
use tokio_util::sync::CancellationToken;

use super::memory::{Files, Memory};
use super::BftConfig;
use crate::health::{Condition, Health};
use crate::order::{Fatal, Replica};
use crate::progress::Progress;
use crate::reports::Reports;

/// The others have this long to say where they are: none may be up.
const ASK: Duration = Duration::from_secs(3);
/// When enough have spoken, the rest gets this long.
const ASK_MORE: Duration = Duration::from_millis(500);
const ASK_POLL: Duration = Duration::from_millis(25);

/// What the guard needs of the node.
#[derive(Clone)]
pub struct Guard {
    /// The never-voted file.
    pub marker: PathBuf,
    /// What the others say their newest blocks are.
    pub reports: Reports,
    /// Where it says that it waits.
    pub health: Health,
}

impl std::fmt::Debug for Guard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Guard").field("marker", &self.marker).finish_non_exhaustive()
    }
}

/// How the engine runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Course {
    /// Not known yet: the others are asked first.
    Ask,
    /// It votes.
    Vote,
    /// It follows up to a height that was decided when this process started.
    CatchUp(u64),
    /// It may have voted and does not know where; why.
    MayHaveVoted(String),
}

fn seated(set: &ValidatorSet, own: &Hash) -> bool {
    set.validators.iter().any(|v| v.vote_key == own)
}

/// The guard at work.
pub struct Watch {
    guard: Option<Guard>,
    files: Files,
    own: Hash,
    /// What the engine does now.
    pub course: Course,
    /// Votes above this height are known to this process, or aren't this node's own.
    known_until: u64,
    /// The first vote is yet to come.
    first: bool,
    /// How fast it catches up.
    progress: Option<Progress>,
}

impl Watch {
    /// Looks at what this validator knows of its votes. Damage is an error, and so is a loss that nobody could make up for.
    pub fn new(config: &BftConfig, replica: &impl Replica) -> Result<Self, Fatal> {
        let own = config.vote_key.verifying_key().to_bytes();
        let marker = config.guard.as_ref().map_or_else(PathBuf::new, |guard| guard.marker.clone());
        let files = Files::new(marker, config.home.clone());
        let tip = replica.tip();
        let seated = seated(&replica.validators(), &own);
        let recall = |_| files.recall(tip, seated);
        let course = match (&config.guard, config.guard.as_ref().map(recall).transpose()?) {
            (None, _) | (_, None | Some(Memory::Never)) => Course::Vote,
            (Some(_), Some(Memory::Kept)) => Course::Ask,
            (Some(_), Some(Memory::Lost(why))) => Course::MayHaveVoted(why),
        };
        if let (Course::MayHaveVoted(why), true, 1) = (&course, seated, replica.validators().validators.len())
        {
            return Err(nobody_to_ask(why));
        }
        Ok(Self {
            guard: config.guard.clone(),
            files,
            own,
            course,
            known_until: tip + 1,
            first: true,
            progress: None,
        })
    }

    /// The engine's log for this course.
    pub fn log(&self) -> PathBuf {
        match self.course {
            Course::Vote => self.files.log(),
            _ => self.files.following_log(),
        }
    }

    /// Hears where the others are, and decides between voting and catching up.
    pub async fn ask(&mut self, set: ValidatorSet, tip: u64, shutdown: &CancellationToken) {
        let Some(guard) = self.guard.clone() else { return };
        let alone = set.validators.iter().all(|v| v.vote_key == self.own);
        let begin = Instant::now();
        let mut enough_since = None;
        let decided = loop {
            let said = guard.reports.of(&set, &self.own);
            if said.enough_to_decide() {
                enough_since.get_or_insert_with(Instant::now);
            }
            let over =
                enough_since.is_some_and(|since| since.elapsed() >= ASK_MORE) || begin.elapsed() >= ASK;
            if alone || over || said.all_spoke() || shutdown.is_cancelled() {
                break said.decided();
            }
            sleep(ASK_POLL).await;
        };
        self.course = match decided > tip {
            true => Course::CatchUp(decided),
            false => Course::Vote,
        };
        self.progress = (decided > tip).then(|| Progress::new(tip, decided));
        tracing::info!(tip, decided, votes = self.course == Course::Vote, "heard the others");
    }

    /// Before an engine starts on this course: what must be on disk for it.
    pub fn begin(&mut self, tip: u64) -> Result<(), Fatal> {
        match &self.course {
            Course::Ask | Course::Vote => {
                self.known_until = tip + 1;
                self.first = true;
                Ok(())
            }
            Course::CatchUp(_) => self.files.follows(self.known_until),
            Course::MayHaveVoted(why) => {
                tracing::warn!("this validator may have voted: {why}");
                self.files.lost()
            }
        }
    }

    /// True when the engine votes at the height of this set.
    pub fn votes(&self, set: &ValidatorSet) -> bool {
        self.course == Course::Vote && seated(set, &self.own)
    }

    /// From here on it votes with this key, if the ledger has it among the validators.
    pub fn votes_with(&mut self, key: &SigningKey) {
        self.own = key.verifying_key().to_bytes();
    }

    /// A round starts: the engine votes only after this has returned. Without a seat in the set it does not.
    pub fn round_starts(&mut self, set: &ValidatorSet) -> Result<(), Fatal> {
        if self.votes(set) && std::mem::take(&mut self.first) && self.guard.is_some() {
            self.files.will_vote()?;
        }
        Ok(())
    }

    /// A block was committed. `signed` is the highest height that this engine has signed for: its own signature on a later one
    /// was made in a past that this folder does not know, or by another process.
    pub fn committed(&mut self, height: u64, by: Vec<Vec<u8>>, signed: u64) -> Option<Course> {
        let unknown = height > self.known_until && height > signed && !self.waits();
        if self.guard.is_none() || !unknown || !by.iter().any(|address| *address == self.own) {
            return None;
        }
        let why = format!(
            "block {height} bears its signature, and it knows of none above block {}",
            signed.max(self.known_until)
        );
        tracing::error!("another process signs with this vote key, or data/ is an old copy: {why}");
        Some(Course::MayHaveVoted(why))
    }

    /// The engine has failed: not ready from now on, while it is being stopped.
    pub fn fails(&self, fatal: &Fatal) {
        if let Some(guard) = &self.guard {
            guard.health.fail(fatal.clone());
        }
    }

    fn waits(&self) -> bool {
        matches!(self.course, Course::MayHaveVoted(_))
    }

    /// Says what it waits for, and returns the next course when that is there.
    pub fn next(&self, replica: &impl Replica) -> Option<Course> {
        let guard = self.guard.as_ref()?;
        let tip = replica.tip();
        match &self.course {
            Course::Ask | Course::Vote => None,
            Course::CatchUp(target) if tip >= *target => {
                guard.health.clear(Condition::CatchingUp);
                guard.health.catches_up_to(0);
                Some(Course::Vote)
            }
            Course::CatchUp(target) => {
                let says = self.progress.as_ref().map_or_else(String::new, |p| p.says(tip, "blocks"));
                let sentence = format!("at block {tip} of {target}, {says}; it votes from there on");
                if self.progress.as_ref().is_some_and(Progress::is_log_due) {
                    tracing::info!("catching up: {sentence}");
                }
                guard.health.catches_up_to(*target);
                guard.health.report(Condition::CatchingUp, sentence);
                None
            }
            Course::MayHaveVoted(why) => {
                guard.health.clear(Condition::CatchingUp);
                let settled = guard.reports.of(&replica.validators(), &self.own).settled();
                let until = settled.map(|settled| settled.saturating_add(2));
                if until.is_some_and(|until| tip >= until) {
                    guard.health.clear(Condition::MayHaveVoted);
                    tracing::info!(
                        tip,
                        "nothing that this validator may have signed lies ahead: it votes again"
                    );
                    return Some(Course::Vote);
                }
                let wait = match until {
                    None => {
                        "until others with more than 2/3 of the power have said where they are".to_owned()
                    }
                    Some(until) => format!("until block {until}"),
                };
                let sentence = format!("{why}; at block {tip}, it follows without voting {wait}");
                guard.health.report(Condition::MayHaveVoted, sentence);
                None
            }
        }
    }
}

/// The only validator that has lost its memory.
pub fn nobody_to_ask(why: &str) -> Fatal {
    Fatal::Corrupt(format!(
        "{why}; this validator may have voted, and it is the only one: nobody can say where. Put data/ back as it was, or make \
         another folder with `assent init` for a new chain"
    ))
}
