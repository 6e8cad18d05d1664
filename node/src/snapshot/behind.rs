//! A running node that all others have pruned past: no block can come any more, only a snapshot, and that only at a start.
//!
//! ```text
//! not settled, newest block 20 s old and unmoved ─▶ asks each connected peer how much it has
//!   ─▶ all that answer have pruned the next block, and hold more than 1/3 of the power ─▶ not ready: `peers-pruned`
//!   ─▶ 5 s later still so ─▶ the process ends with 7; its supervisor starts it, and [`super::join`] joins
//! ```
//! More than 1/3: somebody honest is among them, so that one that lies can't make a node start again and again.

use std::collections::BTreeMap;
use std::time::Duration;

use assent_ledger::block::Tip;
use assent_ledger::Hash;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::fetch::offers;
use super::join::{all_pruned, AWAY_MS};
use super::Manifest;
use crate::chain::now_ms;
use crate::chain::replica::TipInfo;
use crate::freshness::{is_over_a_third, Freshness};
use crate::health::{Condition, Health};
use crate::order::Fatal;
use crate::peers::Peers;

/// Looked at this often.
const LOOK: Duration = Duration::from_secs(2);
/// From not ready to the end.
const LAST_CHANCE: Duration = Duration::from_secs(5);
/// And when this process has just asked all of them for a snapshot, and none held: each try makes a peer read its whole ledger.
const LAST_CHANCE_AGAIN: Duration = Duration::from_secs(300);

/// What it takes to notice.
pub struct Behind {
    /// Whom to ask.
    pub peers: Peers,
    /// Genesis hash of the chain.
    pub genesis_hash: Hash,
    /// This node's newest block.
    pub tips: watch::Receiver<TipInfo>,
    /// A node that others confirm has nothing to ask.
    pub freshness: Freshness,
    /// Where it says so.
    pub health: Health,
    /// 0: this node never joins from a snapshot.
    pub lag_heights: u64,
    /// No peer's snapshot held at this start.
    pub refused: bool,
}

/// Whether blocks can't come any more, given what the peers that answer offer.
fn is_stranded(tip: &Tip, offers: &BTreeMap<String, Manifest>) -> bool {
    all_pruned(tip.height, offers) && is_over_a_third(&tip.validators, |o| offers.contains_key(o))
}

impl Behind {
    /// Looks until the node stops.
    pub async fn watch(self, shutdown: CancellationToken) {
        let mut ticks = tokio::time::interval(LOOK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut seen, mut since) = (None, None);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                _ = ticks.tick() => {}
            }
            let tip = self.tips.borrow().tip.clone();
            let unmoved = seen.replace(tip.height) == Some(tip.height);
            let away = now_ms().saturating_sub(tip.time_ms) >= AWAY_MS;
            let offers = match unmoved && away && !self.freshness.is_settled() {
                true => offers(&self.peers, &self.peers.connected(), &self.genesis_hash, tip.height).await,
                false => BTreeMap::new(),
            };
            // A block may have come meanwhile.
            if !is_stranded(&tip, &offers) || self.tips.borrow().tip.height != tip.height {
                since = None;
                self.health.clear(Condition::PeersPruned);
                continue;
            }
            let sentence = self.sentence(tip.height, &offers);
            let since = *since.get_or_insert_with(Instant::now);
            let chance = if self.refused { LAST_CHANCE_AGAIN } else { LAST_CHANCE };
            if self.lag_heights > 0 && since.elapsed() >= chance {
                return self.health.fail(Fatal::Behind(sentence));
            }
            self.health.report(Condition::PeersPruned, sentence);
        }
    }

    fn sentence(&self, tip: u64, offers: &BTreeMap<String, Manifest>) -> String {
        let who: Vec<&str> = offers.keys().map(String::as_str).collect();
        let what_next = match self.lag_heights {
            0 => "set snapshot_lag_heights above 0 and start it again, to join from a snapshot",
            _ => "it ends with 7, and joins from a snapshot when it is started again",
        };
        format!(
            "at block {tip}, and all that answer ({}) have pruned the next one; {what_next}",
            who.join(", ")
        )
    }
}

#[cfg(test)]
mod tests {
    use assent_ledger::bench::Bench;
    use assent_ledger::log::Frontier;
    use assent_proto::ledger::v1::{Validator, ValidatorSet};

    use super::*;

    #[test]
    fn all_that_answer_and_more_than_a_third_must_have_pruned_the_next_block() {
        let seat = |o: &str| Validator { organization: o.into(), vote_key: vec![], power: 1 };
        let validators =
            ValidatorSet { validators: ["a", "b", "c", "d"].map(seat).to_vec(), ..Default::default() };
        let tip = Tip {
            chain_id: "c".into(),
            height: 50,
            header_hash: [0; 32],
            time_ms: 0,
            state_root: [0; 32],
            state_version: 0,
            log: Frontier::default(),
            voters: ValidatorSet::default(),
            validators,
            change_height: 0,
            bench: Bench::default(),
            recovery: None,
        };
        let stranded = |offers: &[(&str, u64)]| {
            let offer = |(o, whole_from): &(&str, u64)| {
                ((*o).to_owned(), Manifest { height: 200, whole_from: *whole_from, ..Manifest::default() })
            };
            is_stranded(&tip, &offers.iter().map(offer).collect())
        };
        assert!(stranded(&[("b", 52), ("c", 101)]));
        assert!(stranded(&[("b", 52), ("c", 101), ("an observer", 90)]));
        assert!(!stranded(&[("b", 51), ("c", 101)]), "b has block 51");
        assert!(!stranded(&[("b", 52), ("an observer", 90)]), "b may lie");
        assert!(!stranded(&[]), "nobody answers");
    }
}
