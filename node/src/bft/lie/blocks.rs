//! Lies about blocks. Parts are held until a block of its own is complete; then come the parts of what the others are to be shown.

use assent_ledger::block::{header_hash, MAX_BLOCK_BYTES};
use assent_proto::ledger::v1::{Block, Header};
use bytes::Bytes;
use malachite_app_channel::app::engine::network::Msg;
use malachite_app_channel::app::streaming::StreamContent;
use malachite_app_channel::app::types::streaming::StreamMessage;
use malachite_app_channel::app::types::SignedConsensusMsg;
use prost::Message;

use super::super::types::{BlockHash, PartHeader, ProposalPart};
use super::super::PART_BYTES;
use super::{Bad, Liar, Lie, Parts, Said};
use crate::fault;

/// Pieces of a block whose parts are lied about, so that there are some.
const PIECES: usize = 8;
/// How far a time of the future is ahead: entries are still valid then.
const AHEAD_MS: u64 = 30_000;
/// How many rounds later a false round is.
const ROUNDS_LATER: u32 = 4;

/// What the others are shown.
struct Shown {
    /// As it stands in the parts.
    header: PartHeader,
    bytes: Bytes,
    /// The other block besides.
    second: Option<(BlockHash, Bytes)>,
    /// What is wrong with it.
    lie: Lie,
}

impl Liar {
    /// A part on its way out.
    pub(super) fn part(&self, message: &StreamMessage<ProposalPart>) -> Said<StreamMessage<ProposalPart>> {
        let Some(part) = message.content.as_data() else {
            return Said::Truth;
        };
        match self.lie {
            Lie::Silent => return self.unless_silent(),
            Lie::ProposeTwice | Lie::BadBlock(_) | Lie::Parts(_) | Lie::IgnoreLocks => {}
            Lie::VoteTwice | Lie::Sync(_) | Lie::Snapshot(_) => return Said::Truth,
        }
        let key = (part.header.height, part.header.round);
        let complete = {
            let mut memory = self.memory();
            memory.at(key.0);
            if memory.made.contains_key(&part.signature) {
                return Said::Truth;
            }
            let pieces = memory.pieces.entry(key).or_default();
            if pieces.values().any(|p| p.content.as_data().is_none_or(|p| p.header != part.header)) {
                pieces.clear();
            }
            pieces.insert(part.index, message.clone());
            match pieces.len() == part.header.total as usize {
                true => memory.pieces.remove(&key),
                false => None,
            }
        };
        if let Some(pieces) = complete {
            self.complete(pieces.into_values().collect());
        }
        Said::Nothing
    }

    fn complete(&self, pieces: Vec<StreamMessage<ProposalPart>>) {
        let parts: Vec<&ProposalPart> = pieces.iter().filter_map(|p| p.content.as_data()).collect();
        let Some(first) = parts.first() else { return };
        let header = first.header.clone();
        let bytes = Bytes::from(parts.iter().flat_map(|p| p.data.iter().copied()).collect::<Vec<u8>>());
        let shown = self.shown(&header, &bytes);
        self.release(&header, shown.as_ref().map_or(header.hash, |shown| shown.header.hash));
        let Some(shown) = shown else {
            // Another's block, or one of which there is nothing to lie about.
            for (part, piece) in parts.iter().zip(&pieces) {
                self.memory().made.insert(part.signature, header.height);
                self.add(Msg::PublishProposalPart(piece.clone()));
            }
            return;
        };
        self.count_one(header.height, shown.lie);
        let mut out = self.cut(&shown.header, &shown.bytes);
        match self.lie {
            Lie::Parts(Parts::Withhold) => drop(out.pop()),
            Lie::Parts(Parts::Reorder) => out.reverse(),
            Lie::Parts(Parts::Duplicate) => out = self.duplicated(out),
            _ => {}
        }
        if let Some((hash, bytes)) = shown.second {
            out.extend(self.cut(&PartHeader { hash, ..header.clone() }, &bytes));
            let second = self.signed_proposal(header.height, header.round, hash);
            second.into_iter().for_each(|second| self.add(Msg::PublishConsensusMsg(second)));
        }
        let stream = pieces[0].stream_id.clone();
        for (sequence, part) in out.into_iter().enumerate() {
            let content = StreamContent::Data(part);
            self.add(Msg::PublishProposalPart(StreamMessage::new(stream.clone(), sequence as u64, content)));
        }
    }

    /// From now on the others are told of this block, in proposals that waited too.
    fn release(&self, header: &PartHeader, told: BlockHash) {
        let key = (header.height, header.round);
        let held = {
            let mut memory = self.memory();
            memory.blocks.insert(key, (header.hash, told));
            std::mem::take(&mut memory.held)
        };
        for message in held {
            let SignedConsensusMsg::Proposal(proposal) = &message else { continue };
            let p = &proposal.message;
            if (p.height.0, p.round.as_u32()) != (key.0, Some(key.1)) || p.value != header.hash {
                continue;
            }
            let other = (told != header.hash).then(|| self.signed_proposal(key.0, key.1, told)).flatten();
            let said = other.unwrap_or_else(|| {
                self.memory().made.insert(proposal.signature, key.0);
                message.clone()
            });
            self.add(Msg::PublishConsensusMsg(said));
        }
    }

    /// What is shown instead of a complete block; none when the truth is told.
    fn shown(&self, header: &PartHeader, bytes: &Bytes) -> Option<Shown> {
        let block = Block::decode(bytes.clone()).ok()?;
        let own = Header::decode(block.header.as_slice()).ok()?;
        let mine = own.proposer == self.signer.address().0;
        let fresh = header.pol_round.is_none();
        if self.lie == Lie::IgnoreLocks {
            // Instead of proposing again what it is locked on.
            let anew = Header {
                round: header.round,
                proposer: self.signer.address().0.to_vec(),
                time_ms: own.time_ms + 1,
                ..own
            };
            return (!fresh)
                .then(|| self.with(PartHeader { pol_round: None, ..header.clone() }, block, anew));
        }
        if !mine || !fresh {
            return None;
        }
        let round = header.round;
        let lied = match self.lie {
            Lie::BadBlock(bad) => bad.at(fault::turn())?,
            Lie::Parts(_) => return Some(self.as_it_is(header, bytes)),
            Lie::ProposeTwice => {
                let sibling = self.with(header.clone(), block, Header { time_ms: own.time_ms + 1, ..own });
                let second = Some((sibling.header.hash, sibling.bytes));
                return Some(Shown { second, ..self.as_it_is(header, bytes) });
            }
            _ => return None,
        };
        let plain = header.clone();
        let later = |round: u32| PartHeader { round: round + 1, pol_round: Some(round), ..header.clone() };
        let flip = |bytes: Vec<u8>| bytes.into_iter().map(|byte| !byte).collect();
        let shown = match lied {
            Bad::Parent => {
                let previous_header_hash = flip(own.previous_header_hash);
                self.with(plain, block, Header { previous_header_hash, ..own })
            }
            Bad::Root => {
                let state_root = flip(own.state_root);
                self.with(plain, block, Header { state_root, ..own })
            }
            // Already so when it was built.
            Bad::Unsigned => self.as_it_is(header, bytes),
            Bad::Duplicate => {
                let mut block = block;
                let last = block.entries.last()?.clone();
                block.entries.push(last);
                self.with(plain, block, own)
            }
            Bad::Oversize => {
                let mut block = block;
                block.entries.push(vec![0; MAX_BLOCK_BYTES]);
                self.with(plain, block, own)
            }
            Bad::Future => self.with(plain, block, Header { time_ms: own.time_ms + AHEAD_MS, ..own }),
            Bad::FutureAgain => {
                self.with(later(round), block, Header { time_ms: own.time_ms + AHEAD_MS, ..own })
            }
            Bad::Round => {
                let named = round + ROUNDS_LATER;
                self.with(later(named), block, Header { round: named, ..own })
            }
            Bad::Each => return None,
        };
        Some(Shown { lie: Lie::BadBlock(lied), ..shown })
    }

    fn as_it_is(&self, header: &PartHeader, bytes: &Bytes) -> Shown {
        Shown { header: header.clone(), bytes: bytes.clone(), second: None, lie: self.lie }
    }

    /// The block with this header.
    fn with(&self, parts: PartHeader, block: Block, header: Header) -> Shown {
        let header = header.encode_to_vec();
        let hash = BlockHash(header_hash(&self.chain_id, &header));
        let bytes = Bytes::from(Block { header, ..block }.encode_to_vec());
        Shown { header: PartHeader { hash, ..parts }, bytes, second: None, lie: self.lie }
    }

    /// Signed parts, remembered as its own making.
    fn cut(&self, header: &PartHeader, bytes: &Bytes) -> Vec<ProposalPart> {
        let size = match self.lie {
            Lie::Parts(_) => bytes.len().div_ceil(PIECES).max(1),
            _ => PART_BYTES,
        };
        let pieces: Vec<Bytes> =
            (0..bytes.len()).step_by(size).map(|at| bytes.slice(at..bytes.len().min(at + size))).collect();
        let header = PartHeader { total: pieces.len() as u32, ..header.clone() };
        pieces.into_iter().enumerate().map(|(index, data)| self.signed(&header, index as u32, data)).collect()
    }

    fn signed(&self, header: &PartHeader, index: u32, data: Bytes) -> ProposalPart {
        let signature = self.signer.sign_part(header, index, &data);
        self.memory().made.insert(signature, header.height);
        ProposalPart { header: header.clone(), signature, index, data }
    }

    /// Each part three times, and once more with other bytes.
    fn duplicated(&self, parts: Vec<ProposalPart>) -> Vec<ProposalPart> {
        let mut out = Vec::new();
        for part in parts {
            let other = self.signed(&part.header, part.index, Bytes::from(vec![0; part.data.len()]));
            out.extend([part.clone(), part.clone(), part, other]);
        }
        out
    }
}
