//! What keeps this node from giving permits: named conditions, from whoever finds them, for whoever asks.
//!
//! ```text
//! bft, watchdog, space, stores ──report──▶ Health ◀──reasons── Freshness (adds what it computes) ◀── /readyz, metrics,
//!                              ──fail────▶        ──failed──▶ node: stops in order, exit 7 or 9       gRPC health, checks
//! ```
//! A condition's word is fixed: scripts and alarms go by it. Its sentence is for people and may change.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio_util::sync::CancellationToken;

use crate::order::Fatal;

/// Why a node isn't ready. The order is that of importance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Condition {
    /// A store holds what nobody wrote: the process ends, and a restart can't help.
    Corrupt,
    /// A write or a sync failed: the process ends.
    WriteFailed,
    /// A write found no room, or less than `min_free_mib` is left.
    DiskFull,
    /// The consensus engine has ended or stands still.
    EngineHung,
    /// All peers that answer have pruned the next block: only a snapshot helps, at the next start.
    PeersPruned,
    /// The ledger names another key of this node than the files hold, or its entry key is suspended.
    NoKey,
    /// The ledger of others, who are ahead of this node, names another key of this node than the files hold.
    OtherKey,
    /// The organization is no member, as of this node's newest block.
    NotAMember,
    /// The memory of what this validator signed is lost: it follows, and signs nothing where it may have signed before.
    MayHaveVoted,
    /// It follows the others up to where they were when it started.
    CatchingUp,
    /// Too few have confirmed since the start that the newest block here is the newest.
    Unconfirmed,
    /// No new certificate for longer than `max_staleness_seconds`.
    NoHeight,
    /// Block time and this machine's clock are too far apart.
    ClockApart,
}

impl Condition {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::Corrupt,
        Self::WriteFailed,
        Self::DiskFull,
        Self::EngineHung,
        Self::PeersPruned,
        Self::NoKey,
        Self::OtherKey,
        Self::NotAMember,
        Self::MayHaveVoted,
        Self::CatchingUp,
        Self::Unconfirmed,
        Self::NoHeight,
        Self::ClockApart,
    ];

    /// The word that scripts and alarms go by.
    pub fn word(self) -> &'static str {
        match self {
            Self::Corrupt => "corrupt",
            Self::WriteFailed => "write-failed",
            Self::DiskFull => "disk-full",
            Self::EngineHung => "engine-hung",
            Self::PeersPruned => "peers-pruned",
            Self::NoKey => "no-key",
            Self::OtherKey => "other-key",
            Self::NotAMember => "not-a-member",
            Self::MayHaveVoted => "waiting-may-have-voted",
            Self::CatchingUp => "catching-up",
            Self::Unconfirmed => "unconfirmed",
            Self::NoHeight => "no-height",
            Self::ClockApart => "clock-apart",
        }
    }
}

/// A condition that holds, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// Which.
    pub condition: Condition,
    /// What is the matter, for people.
    pub sentence: String,
}

impl Reason {
    /// A condition with its sentence.
    pub fn new(condition: Condition, sentence: impl Into<String>) -> Self {
        Self { condition, sentence: sentence.into() }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.condition.word(), self.sentence)
    }
}

/// How far a snapshot is, of a node that joins from one: before anything else of it runs.
#[derive(Debug, Default)]
pub struct Joining(Mutex<(String, u64, u64)>);

impl Joining {
    /// Sentence, height checked so far, height of the snapshot.
    pub fn says(&self, sentence: String, height: u64, target: u64) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = (sentence, height, target);
    }

    /// What it said last.
    pub fn said(&self) -> (String, u64, u64) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[derive(Default)]
struct Inner {
    /// Height that is caught up to; 0 when there is none.
    target: AtomicU64,
    held: Mutex<BTreeMap<Condition, String>>,
    /// So that a healthy node's checks take no lock.
    any: AtomicBool,
    fatal: Mutex<Option<Fatal>>,
    failed: CancellationToken,
}

/// Where conditions are reported and read. Cheap to clone.
#[derive(Clone, Default)]
pub struct Health(Arc<Inner>);

impl Health {
    /// This condition holds; the sentence replaces an earlier one.
    pub fn report(&self, condition: Condition, sentence: impl Into<String>) {
        let sentence = sentence.into();
        let mut held = self.0.held.lock().unwrap_or_else(PoisonError::into_inner);
        if !held.contains_key(&condition) {
            tracing::warn!(condition = condition.word(), "not ready: {sentence}");
        }
        held.insert(condition, sentence);
        self.0.any.store(true, Ordering::Release);
    }

    /// This condition holds no longer; of a node that has failed, all stay.
    pub fn clear(&self, condition: Condition) {
        if self.0.failed.is_cancelled() {
            return;
        }
        let mut held = self.0.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.remove(&condition).is_some() {
            tracing::info!(condition = condition.word(), "no longer");
        }
        self.0.any.store(!held.is_empty(), Ordering::Release);
    }

    /// Blocks are caught up to this height; 0 when they no longer are.
    pub fn catches_up_to(&self, height: u64) {
        self.0.target.store(height, Ordering::Relaxed);
    }

    /// The height that is caught up to; 0 when there is none.
    pub fn catch_up_target(&self) -> u64 {
        self.0.target.load(Ordering::Relaxed)
    }

    /// What holds, the most important first.
    pub fn reasons(&self) -> Vec<Reason> {
        if !self.0.any.load(Ordering::Acquire) {
            return Vec::new();
        }
        let held = self.0.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.iter().map(|(condition, sentence)| Reason::new(*condition, sentence)).collect()
    }

    /// The process can't heal itself: it isn't ready from now on, and ends with the failure's exit code. The first one counts.
    pub fn fail(&self, fatal: Fatal) {
        self.report(condition_of(&fatal), fatal.to_string());
        self.0.fatal.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(fatal);
        self.0.failed.cancel();
    }

    /// Waits for the first failure.
    pub async fn failed(&self) -> Fatal {
        self.0.failed.cancelled().await;
        let fatal = self.0.fatal.lock().unwrap_or_else(PoisonError::into_inner).clone();
        fatal.unwrap_or_else(|| Fatal::Engine("it failed and did not say why".into()))
    }
}

/// What the operating system says when a write finds no room, as stores pass it on in their own sentences.
const NO_SPACE: [&str; 2] = ["No space left on device", "Disk quota exceeded"];

fn condition_of(fatal: &Fatal) -> Condition {
    match fatal {
        Fatal::Engine(_) => Condition::EngineHung,
        Fatal::Behind(_) => Condition::PeersPruned,
        Fatal::Storage(text) if NO_SPACE.iter().any(|says| text.contains(says)) => Condition::DiskFull,
        Fatal::Storage(text) if text.starts_with(Condition::DiskFull.word()) => Condition::DiskFull,
        Fatal::Storage(_) => Condition::WriteFailed,
        Fatal::Corrupt(_) => Condition::Corrupt,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_have_words_of_their_own_and_come_by_importance() {
        let words: std::collections::BTreeSet<_> = Condition::ALL.iter().map(|c| c.word()).collect();
        assert_eq!(words.len(), Condition::ALL.len());
        assert!(Condition::ALL.is_sorted());
        let health = Health::default();
        assert!(health.reasons().is_empty());
        health.report(Condition::CatchingUp, "block 1 of 9");
        health.report(Condition::DiskFull, "3 MiB are left");
        health.report(Condition::CatchingUp, "block 2 of 9");
        let said: Vec<_> = health.reasons().iter().map(ToString::to_string).collect();
        assert_eq!(said, ["disk-full: 3 MiB are left", "catching-up: block 2 of 9"]);
        health.clear(Condition::DiskFull);
        health.clear(Condition::CatchingUp);
        assert!(health.reasons().is_empty());
    }

    #[tokio::test]
    async fn the_first_failure_counts_and_says_what_it_is() {
        for (fatal, word) in [
            (Fatal::Storage("write: IO error: No space left on device: data".into()), "disk-full"),
            (Fatal::Storage("sync: IO error: Input/output error".into()), "write-failed"),
            (Fatal::Engine("its channel closed".into()), "engine-hung"),
            (Fatal::Behind("at block 5".into()), "peers-pruned"),
            (Fatal::Corrupt("block checksum mismatch".into()), "corrupt"),
        ] {
            let health = Health::default();
            health.fail(fatal.clone());
            health.fail(Fatal::Engine("later".into()));
            assert_eq!(health.failed().await.to_string(), fatal.to_string());
            assert!(health.reasons().iter().any(|r| r.condition.word() == word));
        }
    }
}
