//! Keys of the simulated validators, and votes with real signatures. What was signed here is known to hold: only what was not is
//! verified, so that thousands of votes cost little.

use std::cell::RefCell;
use std::collections::BTreeSet;

use assent_ledger::certificate::vote_sign_bytes;
use assent_ledger::keys::{sign, Check, SigningKey};
use assent_ledger::Hash;
use assent_proto::ledger::v1::{self, CommitSignature, VoteType};

/// Enough of a hash to tell it from others.
pub fn short(hash: &[u8]) -> String {
    hex::encode(hash.get(..4).unwrap_or(hash))
}

/// A signed vote.
#[derive(Debug, Clone)]
pub struct Vote {
    pub kind: VoteType,
    pub height: u64,
    pub round: u32,
    pub hash: Option<Hash>,
    pub address: Hash,
    pub signature: [u8; 64],
}

impl Vote {
    fn sign_bytes(&self, chain_id: &str) -> Vec<u8> {
        let vote = v1::Vote {
            r#type: self.kind.into(),
            height: self.height,
            round: self.round,
            header_hash: self.hash.map(|h| h.to_vec()),
            address: self.address.to_vec(),
        };
        vote_sign_bytes(chain_id, &vote)
    }

    pub fn commit_signature(&self) -> CommitSignature {
        CommitSignature { address: self.address.to_vec(), signature: self.signature.to_vec() }
    }
}

/// Vote keys of all validators.
pub struct Signer {
    chain_id: String,
    keys: Vec<SigningKey>,
    signed: RefCell<BTreeSet<Hash>>,
}

impl Signer {
    pub fn new(chain_id: &str, keys: Vec<SigningKey>) -> Self {
        Self { chain_id: chain_id.to_owned(), keys, signed: RefCell::default() }
    }

    pub fn address(&self, who: usize) -> Hash {
        self.keys[who].verifying_key().to_bytes()
    }

    pub fn sign(&self, who: usize, message: Vec<u8>) -> [u8; 64] {
        let signature = sign(&self.keys[who], &message);
        let check = Check { public_key: self.address(who), message, signature };
        self.signed.borrow_mut().insert(check.id());
        signature
    }

    pub fn holds(&self, public_key: Hash, message: Vec<u8>, signature: [u8; 64]) -> bool {
        let check = Check { public_key, message, signature };
        self.signed.borrow().contains(&check.id()) || check.holds()
    }

    pub fn vote(&self, who: usize, kind: VoteType, height: u64, round: u32, hash: Option<Hash>) -> Vote {
        let address = self.address(who);
        let mut vote = Vote { kind, height, round, hash, address, signature: [0; 64] };
        vote.signature = self.sign(who, vote.sign_bytes(&self.chain_id));
        vote
    }

    pub fn vote_holds(&self, vote: &Vote) -> bool {
        self.holds(vote.address, vote.sign_bytes(&self.chain_id), vote.signature)
    }
}
