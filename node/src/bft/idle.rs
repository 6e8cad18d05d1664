//! When the next height starts: an idle network makes no blocks.

use std::time::{Duration, Instant};

use malachite_app_channel::app::consensus::SignedConsensusMsg;
use malachite_app_channel::app::engine::host::Next;

use super::app_loop::{answer, App};
use super::types::{BftContext, Height};
use crate::order::{Fatal, Replica};

/// An idle node starts a height because a peer reports a higher tip, but at most once in this time: it's anybody's word.
const REPORTED_TIP_PAUSE: Duration = Duration::from_secs(1);

impl<R: Replica> App<R> {
    /// Answers `Finalized` with the next height when there is a reason to have one.
    pub(super) fn start_next(&mut self) -> Result<(), Fatal> {
        let Some((_, since)) = &self.held else {
            return Ok(());
        };
        let tip = self.replica.tip();
        let now = Instant::now();
        self.reported = self.reported.max(self.engine.codec.take_reported_tip());
        let paused = since.elapsed() >= REPORTED_TIP_PAUSE;
        // Whoever is catching up goes on at once: the certificates prove that there was something to catch up with.
        let behind = self.reported > tip && (self.synced == tip || paused);
        if behind || self.seen > tip || self.replica.has_work() {
            if paused {
                self.reported = 0;
            }
            let params = self.params()?;
            self.status.send_modify(|s| (s.idle, s.last_progress) = (false, now));
            if let Some((reply, _)) = self.held.take() {
                return answer(reply, Next::Start(Height(tip + 1), params));
            }
        }
        self.status.send_modify(|s| (s.idle, s.last_progress, s.last_message) = (true, now, now));
        Ok(())
    }

    /// The engine shows every message before it checks it: a validator's vote for a next height means work.
    pub(super) fn see(&mut self, message: &SignedConsensusMsg<BftContext>) -> Result<(), Fatal> {
        let (tip, height) = (self.replica.tip(), message.height().0);
        if height <= tip || height <= self.seen {
            return Ok(());
        }
        let validators = self.validators()?;
        if let SignedConsensusMsg::Vote(vote) = message {
            if validators.contains(&vote.message.address)
                && self.verifier.vote_holds(&vote.message, &vote.signature)
            {
                self.saw(height, tip);
            }
        }
        Ok(())
    }

    /// Bounded, so that one validator's absurd height can't start heights for ever.
    pub(super) fn saw(&mut self, height: u64, tip: u64) {
        self.seen = self.seen.max(height.min(tip + 2));
    }
}
