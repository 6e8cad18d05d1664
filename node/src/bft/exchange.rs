//! Blocks given to peers and taken from them: publishing parts, and catching up.

use assent_ledger::block::MAX_BLOCK_BYTES;
use bytes::Bytes;
use malachite_app_channel::app::engine::host::SyncedValueOutcome;
use malachite_app_channel::app::streaming::StreamContent;
use malachite_app_channel::app::types::core::Validity;
use malachite_app_channel::app::types::streaming::{StreamId, StreamMessage};
use malachite_app_channel::app::types::sync::RawDecidedValue;
use malachite_app_channel::NetworkMsg;
use tokio::task::block_in_place;

use super::app_loop::{value, App};
use super::types::{Address, BftContext, BlockHash};
use super::{assembly, certificate, header_of, SYNC_BATCH};
use crate::order::{Candidate, Fatal, Replica, Verdict};

/// Most bytes of blocks in one answer.
const MAX_ANSWER_BYTES: usize = 20 * 1024 * 1024;

impl<R: Replica> App<R> {
    /// Publishes a block, cut into parts.
    pub(super) async fn publish(
        &mut self,
        height: u64,
        round: u32,
        pol_round: Option<u32>,
        hash: [u8; 32],
        bytes: &Bytes,
    ) -> Result<(), Fatal> {
        let stream = [&height.to_be_bytes()[..], &round.to_be_bytes(), &hash].concat();
        let stream = StreamId::new(stream.into());
        for part in assembly::cut(&self.engine.signer, height, round, pol_round, hash, bytes) {
            let sequence = part.index.into();
            let message = StreamMessage::new(stream.clone(), sequence, StreamContent::Data(part));
            self.engine
                .channels
                .network
                .send(NetworkMsg::PublishProposalPart(message))
                .await
                .map_err(|_| Fatal::Engine("its network stopped".into()))?;
        }
        Ok(())
    }

    /// Publishes an undecided block once more: as its new proposer, or to make a lock known.
    pub(super) async fn restream(
        &mut self,
        height: u64,
        round: u32,
        pol_round: Option<u32>,
        hash: BlockHash,
    ) -> Result<(), Fatal> {
        match block_in_place(|| self.replica.undecided_by_hash(height, &hash.0))? {
            Some(block) => self.publish(height, round, pol_round, hash.0, &block.bytes).await,
            None => {
                tracing::warn!(height, round, hash = %hash, "asked to publish a block that is not here");
                Ok(())
            }
        }
    }

    /// Committed blocks for a peer, whose range may be absurd.
    pub(super) fn serve_decided(
        &self,
        from: u64,
        to: u64,
    ) -> Result<Vec<RawDecidedValue<BftContext>>, Fatal> {
        let from = from.max(self.replica.history_min()).max(1);
        let to = to.min(self.replica.tip()).min(from.saturating_add(SYNC_BATCH as u64 - 1));
        if from > to {
            return Ok(Vec::new());
        }
        let blocks = block_in_place(|| self.replica.decided(from, to, MAX_ANSWER_BYTES))?;
        blocks
            .into_iter()
            .take(SYNC_BATCH)
            .map(|(c, bytes)| {
                let height = c.height;
                let certificate = certificate::from_proto(&c).ok_or_else(|| {
                    Fatal::Corrupt(format!("the stored certificate of height {height} is malformed"))
                })?;
                Ok(RawDecidedValue::new(bytes, certificate))
            })
            .collect()
    }

    /// A block from a peer, whose certificate the engine has verified; it compares the hash that we answer with it.
    pub(super) fn synced(
        &mut self,
        height: u64,
        round: u32,
        proposer: Address,
        bytes: Bytes,
    ) -> Result<SyncedValueOutcome<BftContext>, Fatal> {
        if height != self.replica.tip() + 1 {
            return Ok(SyncedValueOutcome::LocalTransientError);
        }
        let header = (bytes.len() <= MAX_BLOCK_BYTES).then(|| header_of(&self.chain_id, &bytes)).flatten();
        let Some((hash, built)) = header else {
            return Ok(SyncedValueOutcome::PeerFault);
        };
        let bytes = self.known(height, &hash)?.unwrap_or(bytes);
        // Decided in a later round than it was built for: it was proposed again.
        let pol_round = (built < round).then_some(built);
        let candidate = Candidate { height, round, pol_round, proposer: proposer.0, hash, bytes };
        Ok(match block_in_place(|| self.replica.validate(&candidate, false))? {
            Verdict::Valid(same) if same == hash => {
                self.synced = height;
                SyncedValueOutcome::Verdict(value(&candidate, Validity::Valid))
            }
            Verdict::Valid(_) => {
                return Err(Fatal::Corrupt("a block was validated under another hash".into()))
            }
            // More than 2/3 found this header valid, so the peer changed what stands behind it. (Or we are wrong: then
            // every peer is at fault, and this line repeats.)
            Verdict::Invalid(reason) => {
                tracing::error!(height, reason, "a decided block is invalid: asking another peer");
                SyncedValueOutcome::PeerFault
            }
        })
    }
}
