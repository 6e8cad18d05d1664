//! The engine's type parameters: what a height, an address, a vote and so on are for us.
//!
//! The consensus value is the header hash and is its own id. Block bytes travel only in [`ProposalPart`]s, so the engine's
//! log and its proposals stay small.

use std::fmt;

use assent_ledger::Hash;
use bytes::Bytes;
use malachite_app_channel::app::types::core::{
    self as core, LinearTimeouts, NilOrVal, Round, SignedExtension, VoteType,
};

use super::scheme::{Ed25519, Signature};
use super::validators::{Validator, ValidatorSet};

macro_rules! bytes32 {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub Hash);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex::encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", &hex::encode(self.0)[..12])
            }
        }
    };
}

bytes32!(
    /// A validator: its 32-byte vote key.
    Address
);
bytes32!(
    /// A block: the hash of its header.
    BlockHash
);

impl Address {
    /// No validator's: the key is of small order, and genesis refuses such.
    pub const NOBODY: Self = Self([0; 32]);
}

impl core::Address for Address {}

impl core::Value for BlockHash {
    type Id = Self;
    fn id(&self) -> Self {
        *self
    }
}

/// Height of a block, from 1; 0 is genesis.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Height(pub u64);

impl fmt::Display for Height {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl core::Height for Height {
    const ZERO: Self = Self(0);
    const INITIAL: Self = Self(1);
    // Saturating: heights come from peers.
    fn increment_by(&self, n: u64) -> Self {
        Self(self.0.saturating_add(n))
    }
    fn decrement_by(&self, n: u64) -> Option<Self> {
        self.0.checked_sub(n).map(Self)
    }
    fn as_u64(&self) -> u64 {
        self.0
    }
}

/// A vote, without its signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vote {
    /// Prevote or precommit.
    pub kind: VoteType,
    /// Height.
    pub height: Height,
    /// Round.
    pub round: Round,
    /// The block, or nil.
    pub value: NilOrVal<BlockHash>,
    /// Who votes.
    pub address: Address,
}

impl core::Vote<BftContext> for Vote {
    fn height(&self) -> Height {
        self.height
    }
    fn round(&self) -> Round {
        self.round
    }
    fn value(&self) -> &NilOrVal<BlockHash> {
        &self.value
    }
    fn take_value(self) -> NilOrVal<BlockHash> {
        self.value
    }
    fn vote_type(&self) -> VoteType {
        self.kind
    }
    fn validator_address(&self) -> &Address {
        &self.address
    }
    // We have no vote extensions.
    fn extension(&self) -> Option<&SignedExtension<BftContext>> {
        None
    }
    fn take_extension(&mut self) -> Option<SignedExtension<BftContext>> {
        None
    }
    fn extend(self, _: SignedExtension<BftContext>) -> Self {
        self
    }
}

/// A proposal, without its signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposal {
    /// Height.
    pub height: Height,
    /// Round.
    pub round: Round,
    /// The block.
    pub value: BlockHash,
    /// Round of the proof of lock, or nil.
    pub pol_round: Round,
    /// Who proposes.
    pub address: Address,
}

impl core::Proposal<BftContext> for Proposal {
    fn height(&self) -> Height {
        self.height
    }
    fn round(&self) -> Round {
        self.round
    }
    fn value(&self) -> &BlockHash {
        &self.value
    }
    fn take_value(self) -> BlockHash {
        self.value
    }
    fn pol_round(&self) -> Round {
        self.pol_round
    }
    fn validator_address(&self) -> &Address {
        &self.address
    }
}

/// What every part of one published block says alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartHeader {
    /// Height.
    pub height: u64,
    /// Round that the block is proposed in.
    pub round: u32,
    /// Round of the proof of lock when it is proposed again.
    pub pol_round: Option<u32>,
    /// Validator that publishes: the proposer, or one that makes a lock known.
    pub publisher: Address,
    /// Header hash.
    pub hash: BlockHash,
    /// Number of parts.
    pub total: u32,
}

/// One piece of a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProposalPart {
    /// Which block.
    pub header: PartHeader,
    /// Signature of the publisher over header, index and data: the header alone doesn't bind the bytes behind it.
    pub signature: Signature,
    /// Index of the piece, from 0.
    pub index: u32,
    /// The piece.
    pub data: Bytes,
}

impl core::ProposalPart<BftContext> for ProposalPart {
    fn is_first(&self) -> bool {
        self.index == 0
    }
    fn is_last(&self) -> bool {
        self.index.saturating_add(1) == self.header.total
    }
}

/// Ties the types together.
#[derive(Debug, Clone)]
pub struct BftContext;

impl core::Context for BftContext {
    type Address = Address;
    type Height = Height;
    type ProposalPart = ProposalPart;
    type Proposal = Proposal;
    type Validator = Validator;
    type ValidatorSet = ValidatorSet;
    type Timeouts = LinearTimeouts;
    type Value = BlockHash;
    type Vote = Vote;
    type Extension = ();
    type SigningScheme = Ed25519;

    fn select_proposer<'a>(&self, set: &'a ValidatorSet, height: Height, round: Round) -> &'a Validator {
        set.in_turn(height.0, round.as_u32().unwrap_or(0))
    }

    fn new_proposal(
        &self,
        height: Height,
        round: Round,
        value: BlockHash,
        pol_round: Round,
        address: Address,
    ) -> Proposal {
        Proposal { height, round, value, pol_round, address }
    }

    fn new_prevote(
        &self,
        height: Height,
        round: Round,
        value: NilOrVal<BlockHash>,
        address: Address,
    ) -> Vote {
        Vote { kind: VoteType::Prevote, height, round, value, address }
    }

    fn new_precommit(
        &self,
        height: Height,
        round: Round,
        value: NilOrVal<BlockHash>,
        address: Address,
    ) -> Vote {
        Vote { kind: VoteType::Precommit, height, round, value, address }
    }
}
