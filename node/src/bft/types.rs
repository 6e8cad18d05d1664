//! The engine's type parameters: what a height, an address, a vote and so on are for us.
//!
//! The consensus value is the header hash and is its own id. Block bytes travel only in [`ProposalPart`]s, so the engine's
//! log and its proposals stay small.

use std::fmt;
use std::sync::Arc;

use assent_ledger::Hash;
use assent_proto::ledger::v1 as proto;
use bytes::Bytes;
use malachite_app_channel::app::types::core::{
    self as core, LinearTimeouts, NilOrVal, Round, SignedExtension, VoteType, VotingPower,
};

/// Most voting power of a set together: far from where the engine's sums could overflow.
const MAX_TOTAL_POWER: u64 = 1 << 60;

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
    /// SHA-256 of the block bytes. The header alone doesn't bind them before the block is executed.
    pub digest: Hash,
    /// Number of parts.
    pub total: u32,
}

/// One piece of a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProposalPart {
    /// Which block.
    pub header: PartHeader,
    /// Signature of the publisher over the header.
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

/// A member of the validator set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Validator {
    address: Address,
    key: PublicKey,
    power: VotingPower,
}

impl core::Validator<BftContext> for Validator {
    fn address(&self) -> &Address {
        &self.address
    }
    fn public_key(&self) -> &PublicKey {
        &self.key
    }
    fn voting_power(&self) -> VotingPower {
        self.power
    }
}

/// The validators of one height, in ascending order of address. Never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValidatorSet(Arc<[Validator]>);

impl core::ValidatorSet<BftContext> for ValidatorSet {
    fn count(&self) -> usize {
        self.0.len()
    }
    fn total_voting_power(&self) -> VotingPower {
        self.0.iter().map(|v| v.power).sum()
    }
    fn get_by_address(&self, address: &Address) -> Option<&Validator> {
        self.0.binary_search_by(|v| v.address.cmp(address)).ok().map(|i| &self.0[i])
    }
    fn get_by_index(&self, index: usize) -> Option<&Validator> {
        self.0.get(index)
    }
}

impl ValidatorSet {
    /// Our validator set from the ledger's, which must not be empty and must be in strictly ascending order.
    pub fn from_proto(set: &proto::ValidatorSet) -> Result<Self, String> {
        let mut total = 0u64;
        let mut validators: Vec<Validator> = Vec::with_capacity(set.validators.len());
        for v in &set.validators {
            let key: Hash = v.vote_key.as_slice().try_into().map_err(|_| "vote key is not 32 bytes long".to_owned())?;
            if validators.last().is_some_and(|last| last.address.0 >= key) {
                return Err("validators are not in ascending order".into());
            }
            total = total.saturating_add(v.power);
            validators.push(Validator { address: Address(key), key: PublicKey(key), power: v.power });
        }
        if validators.is_empty() || total == 0 || total > MAX_TOTAL_POWER {
            return Err(format!("{} validators with a power of {total} together", validators.len()));
        }
        Ok(Self(validators.into()))
    }

    /// Whether an address votes at this height.
    pub fn contains(&self, address: &Address) -> bool {
        core::ValidatorSet::get_by_address(self, address).is_some()
    }

    /// Who proposes at a height and round: each in turn, in order of address.
    pub fn proposer(&self, height: u64, round: u32) -> Address {
        self.0[proposer_index(self.0.len(), height, round)].address
    }
}

/// Index of the proposer among `count` validators in ascending order of address.
pub fn proposer_index(count: usize, height: u64, round: u32) -> usize {
    let turn = u128::from(height.saturating_sub(1)) + u128::from(round);
    usize::try_from(turn % (count as u128).max(1)).unwrap_or_default()
}

/// A vote key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublicKey(pub [u8; 32]);

/// An Ed25519 signature.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Signature(pub [u8; 64]);

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", &hex::encode(self.0)[..12])
    }
}

/// Ed25519 as in [`assent_ledger::keys`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ed25519;

impl core::SigningScheme for Ed25519 {
    type DecodingError = &'static str;
    type Signature = Signature;
    type PublicKey = PublicKey;
    type PrivateKey = ed25519_dalek::SigningKey;

    fn decode_signature(bytes: &[u8]) -> Result<Signature, &'static str> {
        bytes.try_into().map(Signature).map_err(|_| "a signature is 64 bytes long")
    }
    fn encode_signature(signature: &Signature) -> Vec<u8> {
        signature.0.to_vec()
    }
    fn decode_public_key(bytes: &[u8]) -> Result<PublicKey, &'static str> {
        bytes.try_into().map(PublicKey).map_err(|_| "a public key is 32 bytes long")
    }
    fn encode_public_key(key: &PublicKey) -> Vec<u8> {
        key.0.to_vec()
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
        &set.0[proposer_index(set.0.len(), height.0, round.as_u32().unwrap_or(0))]
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

    fn new_prevote(&self, height: Height, round: Round, value: NilOrVal<BlockHash>, address: Address) -> Vote {
        Vote { kind: VoteType::Prevote, height, round, value, address }
    }

    fn new_precommit(&self, height: Height, round: Round, value: NilOrVal<BlockHash>, address: Address) -> Vote {
        Vote { kind: VoteType::Precommit, height, round, value, address }
    }
}
