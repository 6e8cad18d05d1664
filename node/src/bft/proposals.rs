//! Blocks that are not decided: built, put together from parts, judged.

use std::time::Instant;

use assent_ledger::Hash;
use bytes::Bytes;
use malachite_app_channel::app::types::core::{Round, Validity};
use malachite_app_channel::app::types::{LocallyProposedValue, ProposedValue};
use malachite_app_channel::Reply;
use tokio::task::block_in_place;

use super::app_loop::{answer, value, App};
use super::assembly::{Added, Assembled, HEIGHTS_AHEAD};
use super::course::Course;
use super::types::{BftContext, BlockHash, Height, ProposalPart};
use super::BftStatus;
use crate::order::{Candidate, Fatal, Replica, Verdict};

impl<R: Replica> App<R> {
    /// A round starts: what we have for it.
    pub(super) fn started(
        &mut self,
        height: u64,
        round: u32,
    ) -> Result<Vec<ProposedValue<BftContext>>, Fatal> {
        (self.height, self.round) = (height, round);
        let now = Instant::now();
        // Who is no validator at this height has nothing to say.
        let votes =
            self.watch.course == Course::Vote && self.validators()?.contains(&self.engine.signer.address());
        self.status.send_modify(|s| {
            *s = BftStatus {
                height,
                round,
                idle: false,
                last_message: now,
                last_progress: if round == 0 { now } else { s.last_progress },
                votes,
            };
        });
        let stored = block_in_place(|| self.replica.undecided(height, round))?;
        let mut values: Vec<_> = stored.iter().map(|c| value(c, Validity::Valid)).collect();
        self.validated.extend(stored.iter().map(|c| (c.round, c.hash)));
        for block in self.assembly.take(height, round) {
            values.extend(self.judge(block)?);
        }
        Ok(values)
    }

    /// It's our turn: the block is on disk before the engine, and then the network, sees it.
    pub(super) async fn propose(
        &mut self,
        height: u64,
        round: u32,
        reply: Reply<LocallyProposedValue<BftContext>>,
    ) -> Result<(), Fatal> {
        let block = block_in_place(|| self.replica.build(height, round))?;
        if (block.height, block.round) != (height, round) {
            return Err(Fatal::Corrupt(format!(
                "built a block for {}/{} instead of {height}/{round}",
                block.height, block.round
            )));
        }
        self.validated.insert((round, block.hash));
        answer(reply, LocallyProposedValue::new(Height(height), Round::new(round), BlockHash(block.hash)))?;
        self.publish(height, round, block.pol_round, block.hash, &block.bytes).await
    }

    /// A part came. A block that it completes is judged at once if the engine works on its height.
    pub(super) fn receive(&mut self, part: ProposalPart) -> Result<Option<ProposedValue<BftContext>>, Fatal> {
        let (tip, height, publisher) = (self.replica.tip(), part.header.height, part.header.publisher);
        // Late, or this node is far behind and will get the block by catching up.
        if height <= tip || height - tip > HEIGHTS_AHEAD {
            return Ok(None);
        }
        match self.assembly.add(part, tip, &self.validators()?) {
            Added::Refused(reason) => {
                tracing::warn!(height, publisher = %publisher, reason, "refused a part of a block");
                return Ok(None);
            }
            Added::Taken | Added::Complete => self.saw(height, tip),
        }
        // A block for a later height waits in the assembly until its height starts, and one of a later round until that does.
        if height != self.height {
            return Ok(None);
        }
        // At most one: what came earlier was taken when the round started.
        let mut values = Vec::new();
        for block in self.assembly.take(height, self.round) {
            values.extend(self.judge(block)?);
        }
        Ok(values.pop())
    }

    /// Validates a complete block. `None` if there is nothing to say about it.
    fn judge(&mut self, block: Assembled) -> Result<Option<ProposedValue<BftContext>>, Fatal> {
        let h = block.header;
        let validators = self.validators()?;
        let proposer = validators.proposer(h.height, h.round);
        if self.validated.contains(&(h.round, h.hash.0)) {
            return Ok(None);
        }
        let known = self.known(h.height, &h.hash.0)?;
        // Round and proof of lock are the publisher's word; only what was found out here counts as one.
        let polka = |round| self.engine.prevotes.polka(h.height, round, h.hash, &validators);
        let again = h.pol_round.is_some_and(|pol| known.is_some() || polka(pol));
        let candidate = Candidate {
            height: h.height,
            round: h.round,
            pol_round: h.pol_round,
            proposer: proposer.0,
            hash: h.hash.0,
            bytes: known.unwrap_or(block.bytes),
        };
        match block_in_place(|| self.replica.validate(&candidate, !again))? {
            Verdict::Valid(hash) if hash == candidate.hash => {
                self.validated.insert((h.round, hash));
                Ok(Some(value(&candidate, Validity::Valid)))
            }
            Verdict::Valid(_) => Err(Fatal::Corrupt("a block was validated under another hash".into())),
            Verdict::Invalid(reason) => {
                let (height, round, pol_round, publisher) = (h.height, h.round, h.pol_round, h.publisher);
                tracing::warn!(height, round, ?pol_round, %publisher, reason, "block is invalid");
                // Only its proposer can spoil a proposal: another's bytes may differ behind the same header.
                Ok((h.publisher == proposer).then(|| value(&candidate, Validity::Invalid)))
            }
        }
    }

    /// Bytes that were found valid behind a header hash. A peer's may differ: the header binds them only through their effect.
    pub(super) fn known(&self, height: u64, hash: &Hash) -> Result<Option<Bytes>, Fatal> {
        Ok(block_in_place(|| self.replica.undecided_by_hash(height, hash))?.map(|c| c.bytes))
    }
}
