//! Who takes part: organizations with fixed keys, their genesis, and patients with control keys.

use std::rc::Rc;

use assent_ledger::genesis::{make_genesis_file, CheckedGenesis};
use assent_ledger::hash::sha256;
use assent_ledger::keys::SigningKey;
use assent_ledger::Hash;
use assent_proto::ledger::v1::{Organization, Validator, ValidatorSet};

use super::keys::Signer;

pub const CHAIN: &str = "testnet-simulation";
/// Genesis, in milliseconds since the Unix epoch. Virtual time counts from here.
const START_MS: u64 = 1_900_000_000_000;

pub struct Consortium {
    pub names: Vec<String>,
    pub entry_keys: Vec<SigningKey>,
    pub signer: Rc<Signer>,
    pub genesis: CheckedGenesis,
    pub genesis_file: Vec<u8>,
}

fn key(of: &str) -> SigningKey {
    SigningKey::from_bytes(&sha256(of.as_bytes()))
}

impl Consortium {
    pub fn new(validators: usize) -> Self {
        let names: Vec<String> = (0..validators).map(|i| format!("org-{i}")).collect();
        let entry_keys: Vec<_> = names.iter().map(|name| key(&format!("{name} entry"))).collect();
        let vote_keys: Vec<_> = names.iter().map(|name| key(&format!("{name} vote"))).collect();
        let public = |key: &SigningKey| key.verifying_key().to_bytes().to_vec();
        let organizations = names.iter().zip(&entry_keys).map(|(name, key)| Organization {
            id: name.clone(),
            name: name.clone(),
            entry_key: public(key),
            checkpoint_key: public(&self::key(&format!("{name} checkpoint"))),
            ..Default::default()
        });
        let set = names.iter().zip(&vote_keys).map(|(name, key)| Validator {
            organization: name.clone(),
            vote_key: public(key),
            power: 1,
        });
        let set = ValidatorSet { validators: set.collect(), ..Default::default() };
        let (genesis_file, genesis) =
            make_genesis_file(CHAIN, START_MS, set, organizations.collect()).expect("a genesis");
        let signer = Rc::new(Signer::new(CHAIN, vote_keys));
        Self { names, entry_keys, signer, genesis, genesis_file }
    }

    /// One of a custodian's subjects.
    pub fn handle(&self, custodian: usize, subject: u8) -> Hash {
        sha256(format!("{custodian} {subject}").as_bytes())
    }

    /// The control key of a subject.
    pub fn control_key(&self, custodian: usize, subject: u8) -> SigningKey {
        key(&format!("control {custodian} {subject}"))
    }
}
