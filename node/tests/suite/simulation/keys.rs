//! Keys of the simulated organizations, and votes with real signatures. What was signed here is known to hold: only what was not is
//! verified, so that thousands of votes cost little.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

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

/// All secret keys that serve or may come to serve, by public key.
pub struct Signer {
    chain_id: String,
    keys: RefCell<BTreeMap<Hash, (usize, SigningKey)>>,
    signed: RefCell<BTreeSet<Hash>>,
}

impl Signer {
    pub fn new(chain_id: &str) -> Self {
        Self { chain_id: chain_id.to_owned(), keys: RefCell::default(), signed: RefCell::default() }
    }

    /// Takes an organization's key; its public one.
    pub fn add(&self, who: usize, key: SigningKey) -> Hash {
        let public = key.verifying_key().to_bytes();
        self.keys.borrow_mut().insert(public, (who, key));
        public
    }

    pub fn is_of(&self, public: &Hash, who: usize) -> bool {
        self.keys.borrow().get(public).is_some_and(|(owner, _)| *owner == who)
    }

    /// The secret key behind a public one that was added.
    pub fn key(&self, public: &Hash) -> SigningKey {
        self.keys.borrow()[public].1.clone()
    }

    pub fn sign(&self, public_key: Hash, message: Vec<u8>) -> [u8; 64] {
        let signature = sign(&self.keys.borrow()[&public_key].1, &message);
        let check = Check { public_key, message, signature };
        self.signed.borrow_mut().insert(check.id());
        signature
    }

    pub fn holds(&self, public_key: Hash, message: Vec<u8>, signature: [u8; 64]) -> bool {
        let check = Check { public_key, message, signature };
        self.signed.borrow().contains(&check.id()) || check.holds()
    }

    pub fn vote(&self, address: Hash, kind: VoteType, height: u64, round: u32, hash: Option<Hash>) -> Vote {
        let mut vote = Vote { kind, height, round, hash, address, signature: [0; 64] };
        vote.signature = self.sign(address, vote.sign_bytes(&self.chain_id));
        vote
    }

    pub fn vote_holds(&self, vote: &Vote) -> bool {
        self.holds(vote.address, vote.sign_bytes(&self.chain_id), vote.signature)
    }
}
