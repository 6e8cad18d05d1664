//! A validator that lies, for testnets: [`crate::fault`] refuses it on any other chain, and without the flag nothing of this runs.
//!
//! Its engine and its application are honest; what they send is changed on its way out. [`Tongue`] stands where the network's codec
//! stands: it may encode another message, none, or bytes that are none. Further messages go to the network beside it. Votes and
//! proposals that it makes up are signed, so that nobody refuses them for less than the lie itself.
//!
//! Each lie is counted in the log, `lied=N`: a test can see that it was told.

mod blocks;
mod votes;

pub(super) mod sync;

use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use malachite_app_channel::app::consensus::LivenessMsg;
use malachite_app_channel::app::engine::network::{Msg, NetworkRef};
use malachite_app_channel::app::types::codec::{Codec, HasEncodedLen};
use malachite_app_channel::app::types::core::ValidatorProof;
use malachite_app_channel::app::types::streaming::StreamMessage;
use malachite_app_channel::app::types::sync::{Request, Response, Status};
use malachite_app_channel::app::types::SignedConsensusMsg;
use tokio::sync::mpsc::{unbounded_channel, UnboundedReceiver, UnboundedSender};

use super::codec::WireCodec;
use super::crypto::ChainSigner;
use super::pack::CodecError;
use super::scheme::Signature;
use super::types::{BftContext, BlockHash, ProposalPart};

/// What is lied about. Its text form is that of `--lie`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Lie {
    /// A second vote beside each one.
    VoteTwice,
    /// A second block beside each own one.
    ProposeTwice,
    /// Takes part in nothing and answers nobody, but hears all.
    Silent,
    /// Votes for what is proposed and proposes anew, whatever it is locked on.
    IgnoreLocks,
    BadBlock(Bad),
    Parts(Parts),
    Sync(Answer),
    /// Told by [`crate::snapshot`], not by the engine.
    Snapshot(Served),
}

/// What is wrong with each own block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Bad {
    Parent,
    Root,
    /// An entry whose signature does not hold; the rest of the block is right. See [`crate::fault::candidates`].
    Unsigned,
    Duplicate,
    Oversize,
    /// Its time is ahead of every clock.
    Future,
    /// The same, published as if it were proposed again.
    FutureAgain,
    /// It names a later round, and is published as if it were of that one.
    Round,
    /// One after the other, with an honest block between: so it is never benched for two missed turns in a row.
    Each,
}

/// All that are told in turn.
const EACH: [Bad; 8] = [
    Bad::Parent,
    Bad::Root,
    Bad::Unsigned,
    Bad::Duplicate,
    Bad::Oversize,
    Bad::Future,
    Bad::FutureAgain,
    Bad::Round,
];

impl Bad {
    /// What is wrong with the block of this turn, counted from 1; none when it is an honest one.
    pub fn at(self, turn: u64) -> Option<Self> {
        match self {
            Self::Each if turn.is_multiple_of(2) => {
                EACH.get(usize::try_from(turn / 2).ok()?.checked_sub(1)? % EACH.len()).copied()
            }
            Self::Each => None,
            one => Some(one),
        }
    }
}

/// What is done with the parts of each own block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Parts {
    Withhold,
    Reorder,
    Duplicate,
}

/// What is wrong with each answer to a peer that catches up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Answer {
    /// Of 2^63 and more, and its own tip is there too.
    Heights,
    /// A block is left out.
    Gap,
    BadSignature,
    /// A certificate of keys that are not, or no longer, validators'.
    OldSet,
    /// Far longer than what was asked for.
    Endless,
}

/// What is wrong with each snapshot for a peer that joins. All offer more blocks than there are, to be asked first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Served {
    /// A value of the state is another.
    Root,
    /// The last chunk never comes.
    Missing,
    /// The first chunk is longer than chunks may be.
    Oversized,
}

/// All, as they are written.
pub const LIES: [(&str, Lie); 24] = [
    ("vote-twice", Lie::VoteTwice),
    ("propose-twice", Lie::ProposeTwice),
    ("silent", Lie::Silent),
    ("ignore-locks", Lie::IgnoreLocks),
    ("bad-block:parent", Lie::BadBlock(Bad::Parent)),
    ("bad-block:root", Lie::BadBlock(Bad::Root)),
    ("bad-block:unsigned", Lie::BadBlock(Bad::Unsigned)),
    ("bad-block:duplicate", Lie::BadBlock(Bad::Duplicate)),
    ("bad-block:oversize", Lie::BadBlock(Bad::Oversize)),
    ("bad-block:future", Lie::BadBlock(Bad::Future)),
    ("bad-block:future-again", Lie::BadBlock(Bad::FutureAgain)),
    ("bad-block:round", Lie::BadBlock(Bad::Round)),
    ("bad-block:each", Lie::BadBlock(Bad::Each)),
    ("parts:withhold", Lie::Parts(Parts::Withhold)),
    ("parts:reorder", Lie::Parts(Parts::Reorder)),
    ("parts:duplicate", Lie::Parts(Parts::Duplicate)),
    ("sync:heights", Lie::Sync(Answer::Heights)),
    ("sync:gap", Lie::Sync(Answer::Gap)),
    ("sync:bad-signature", Lie::Sync(Answer::BadSignature)),
    ("sync:old-set", Lie::Sync(Answer::OldSet)),
    ("sync:endless", Lie::Sync(Answer::Endless)),
    ("snapshot:root", Lie::Snapshot(Served::Root)),
    ("snapshot:missing", Lie::Snapshot(Served::Missing)),
    ("snapshot:oversized", Lie::Snapshot(Served::Oversized)),
];

impl FromStr for Lie {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = LIES.iter().find(|(name, _)| *name == text).map(|(_, lie)| *lie);
        found.ok_or_else(|| {
            let names: Vec<&str> = LIES.iter().map(|(name, _)| *name).collect();
            format!("--lie {text}: no such lie; there are {}", names.join(", "))
        })
    }
}

/// What is to be said instead of a message.
enum Said<T> {
    Truth,
    Instead(T),
    /// These bytes, whatever they are.
    Bytes(Bytes),
    Nothing,
}

/// A message that may be lied about; by default it isn't.
trait Message: Sized {
    fn twist(&self, _: &Liar) -> Said<Self> {
        Said::Truth
    }
    /// Somebody else's came.
    fn heard(&self, _: &Liar) {}
}

/// A lying validator.
pub struct Liar {
    lie: Lie,
    chain_id: String,
    signer: ChainSigner,
    told: AtomicU64,
    memory: Mutex<Memory>,
    further: UnboundedSender<Msg<BftContext>>,
}

/// What was said so far, of the last heights.
#[derive(Default)]
struct Memory {
    height: u64,
    /// Its own making, by signature: not to be twisted again.
    made: BTreeMap<Signature, u64>,
    /// Pieces of own publications, until they are complete.
    pieces: BTreeMap<(u64, u32), BTreeMap<u32, StreamMessage<ProposalPart>>>,
    /// By height and round: the block that the application means, and the one that the others are told of.
    blocks: BTreeMap<(u64, u32), (BlockHash, BlockHash)>,
    /// Own proposals whose block is not known yet.
    held: Vec<SignedConsensusMsg<BftContext>>,
    /// What was proposed by others.
    proposed: BTreeMap<(u64, u32), BlockHash>,
}

impl Memory {
    /// Forgets all that is older than the last height.
    fn at(&mut self, height: u64) {
        if height <= self.height {
            return;
        }
        self.height = height;
        self.made.retain(|_, of| *of + 1 >= height);
        self.pieces.retain(|(of, _), _| *of + 1 >= height);
        self.blocks.retain(|(of, _), _| *of + 1 >= height);
        self.held.retain(|m| m.height().0 + 1 >= height);
        self.proposed.retain(|(of, _), _| *of + 1 >= height);
    }
}

impl Liar {
    /// A liar, and what it has to say besides.
    pub fn new(lie: Lie, chain_id: &str, signer: ChainSigner) -> (Arc<Self>, Further) {
        let (further, queue) = unbounded_channel();
        tracing::warn!(?lie, "this validator lies");
        let liar = Self {
            lie,
            chain_id: chain_id.to_owned(),
            signer,
            told: AtomicU64::new(0),
            memory: Mutex::default(),
            further,
        };
        (Arc::new(liar), Further(queue))
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, height: u64) -> u64 {
        self.count_one(height, self.lie)
    }

    fn count_one(&self, height: u64, lie: Lie) -> u64 {
        let lied = self.told.fetch_add(1, Ordering::Relaxed) + 1;
        tracing::warn!(lied, height, ?lie, "lied");
        lied
    }

    /// One more message.
    fn add(&self, message: Msg<BftContext>) {
        let _ = self.further.send(message); // the network has stopped
    }
}

/// Messages that a liar sends besides.
pub struct Further(UnboundedReceiver<Msg<BftContext>>);

impl Further {
    /// Sends them, until the network stops.
    pub fn to(mut self, network: NetworkRef<BftContext>) {
        tokio::spawn(async move {
            while let Some(message) = self.0.recv().await {
                if network.cast(message).is_err() {
                    return;
                }
            }
        });
    }
}

/// The codec of a lying validator's network.
#[derive(Clone)]
pub struct Tongue {
    honest: WireCodec,
    liar: Arc<Liar>,
}

impl Tongue {
    /// Lies in place of `honest`.
    pub fn new(honest: WireCodec, liar: Arc<Liar>) -> Self {
        Self { honest, liar }
    }
}

impl<T: Message> Codec<T> for Tongue
where
    WireCodec: Codec<T, Error = CodecError>,
{
    type Error = CodecError;

    fn decode(&self, bytes: Bytes) -> Result<T, CodecError> {
        let message: T = self.honest.decode(bytes)?;
        message.heard(&self.liar);
        Ok(message)
    }

    fn encode(&self, message: &T) -> Result<Bytes, CodecError> {
        match message.twist(&self.liar) {
            Said::Truth => self.honest.encode(message),
            Said::Instead(other) => self.honest.encode(&other),
            Said::Bytes(bytes) => Ok(bytes),
            Said::Nothing => Err(CodecError("it is not said".into())),
        }
    }
}

impl HasEncodedLen<Response<BftContext>> for Tongue {
    fn encoded_len(&self, response: &Response<BftContext>) -> Result<usize, CodecError> {
        self.honest.encoded_len(response)
    }
}

impl Message for ProposalPart {}
impl Message for Request<BftContext> {}
impl Message for ValidatorProof<BftContext> {}

impl Message for LivenessMsg<BftContext> {
    fn twist(&self, liar: &Liar) -> Said<Self> {
        liar.unless_silent()
    }
}

impl Message for Status<BftContext> {
    fn twist(&self, liar: &Liar) -> Said<Self> {
        liar.status(self)
    }
}

impl Message for Response<BftContext> {
    fn twist(&self, liar: &Liar) -> Said<Self> {
        liar.answer(self)
    }
}

impl Message for SignedConsensusMsg<BftContext> {
    fn twist(&self, liar: &Liar) -> Said<Self> {
        liar.consensus(self)
    }
    fn heard(&self, liar: &Liar) {
        liar.hear(self);
    }
}

impl Message for StreamMessage<ProposalPart> {
    fn twist(&self, liar: &Liar) -> Said<Self> {
        liar.part(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lie_is_named_or_refused() {
        for (name, lie) in LIES {
            assert_eq!(name.parse(), Ok(lie));
        }
        let told: Vec<Option<Bad>> = (1..=18).map(|turn| Bad::Each.at(turn)).collect();
        assert_eq!(
            (told[0], told[1], told[15], told[17]),
            (None, Some(EACH[0]), Some(EACH[7]), Some(EACH[0]))
        );
        assert_eq!(told.iter().flatten().count(), 9);
        assert_eq!(Bad::Root.at(1), Some(Bad::Root));
        for bad in ["", "vote", "bad-block", "bad-block:", "sync:gaps", "silent:birch"] {
            let said = bad.parse::<Lie>().unwrap_err();
            assert!(said.contains("no such lie; there are vote-twice, "), "{said}");
        }
    }
}
