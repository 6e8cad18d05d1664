//! The validators of a height, and whose turn it is.

use std::sync::Arc;

use assent_ledger::bench::turn;
use assent_ledger::Hash;
use assent_proto::ledger::v1 as proto;
use malachite_app_channel::app::types::core::{self as core, VotingPower};

use super::scheme::PublicKey;
use super::types::{Address, BftContext};

/// Most voting power of a set together: far from where the engine's sums could overflow.
const MAX_TOTAL_POWER: u64 = 1 << 60;

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

/// The validators of one height, in ascending order of address, and who of them proposes. Neither is ever empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValidatorSet {
    members: Arc<[Validator]>,
    /// Indexes of the proposers, in order of turn: all that aren't benched.
    proposers: Arc<[usize]>,
}

impl core::ValidatorSet<BftContext> for ValidatorSet {
    fn count(&self) -> usize {
        self.members.len()
    }
    fn total_voting_power(&self) -> VotingPower {
        self.members.iter().map(|v| v.power).sum()
    }
    fn get_by_address(&self, address: &Address) -> Option<&Validator> {
        self.members.binary_search_by(|v| v.address.cmp(address)).ok().map(|i| &self.members[i])
    }
    fn get_by_index(&self, index: usize) -> Option<&Validator> {
        self.members.get(index)
    }
}

impl ValidatorSet {
    /// Our validator set from the ledger's, which must not be empty and must be in strictly ascending order.
    pub fn from_proto(set: &proto::ValidatorSet) -> Result<Self, String> {
        let mut total = 0u64;
        let mut validators: Vec<Validator> = Vec::with_capacity(set.validators.len());
        for v in &set.validators {
            let key: Hash =
                v.vote_key.as_slice().try_into().map_err(|_| "vote key is not 32 bytes long".to_owned())?;
            if validators.last().is_some_and(|last| last.address.0 >= key) {
                return Err("validators are not in ascending order".into());
            }
            total = total.saturating_add(v.power);
            validators.push(Validator { address: Address(key), key: PublicKey(key), power: v.power });
        }
        if validators.is_empty() || total == 0 || total > MAX_TOTAL_POWER {
            return Err(format!("{} validators with a power of {total} together", validators.len()));
        }
        let proposers = (0..validators.len()).collect();
        Ok(Self { members: validators.into(), proposers })
    }

    /// The same set with these as proposers, in order of turn; whoever is no member is left out.
    pub fn with_proposers(mut self, addresses: &[Hash]) -> Self {
        let place = |a: &Hash| self.members.iter().position(|v| v.address.0 == *a);
        let proposers: Vec<usize> = addresses.iter().filter_map(place).collect();
        if !proposers.is_empty() {
            self.proposers = proposers.into();
        }
        self
    }

    /// Whether an address votes at this height.
    pub fn contains(&self, address: &Address) -> bool {
        core::ValidatorSet::get_by_address(self, address).is_some()
    }

    /// Who proposes at a height and round: each in turn ([`assent_ledger::bench`]).
    pub fn proposer(&self, height: u64, round: u32) -> Address {
        self.in_turn(height, round).address
    }

    pub(super) fn in_turn(&self, height: u64, round: u32) -> &Validator {
        let index = turn(&self.proposers, height, round).copied().unwrap_or_default();
        &self.members[index]
    }
}
