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
    /// Organizations with a node each; observers come last.
    pub names: Vec<String>,
    pub signer: Rc<Signer>,
    pub genesis: CheckedGenesis,
    pub genesis_file: Vec<u8>,
}

fn key(of: &str) -> SigningKey {
    SigningKey::from_bytes(&sha256(of.as_bytes()))
}

impl Consortium {
    /// `observers` of the nodes have no vote at genesis.
    pub fn new(nodes: usize, observers: usize) -> Self {
        let names: Vec<String> = (0..nodes).map(|i| format!("org-{i}")).collect();
        let signer = Signer::new(CHAIN);
        let first = |purpose, who: usize| signer.add(who, org_key(&names[who], purpose, 0)).to_vec();
        let organizations = names.iter().enumerate().map(|(who, name)| Organization {
            id: name.clone(),
            name: name.clone(),
            entry_key: first("entry", who),
            checkpoint_key: first("checkpoint", who),
            ..Default::default()
        });
        let organizations = organizations.collect();
        let set = (0..nodes - observers).map(|who| Validator {
            organization: names[who].clone(),
            vote_key: first("vote", who),
            power: 1,
        });
        let set = ValidatorSet { validators: set.collect(), ..Default::default() };
        let (genesis_file, genesis) =
            make_genesis_file(CHAIN, START_MS, set, organizations).expect("a genesis");
        Self { names, signer: Rc::new(signer), genesis, genesis_file }
    }

    /// The number-th key of an organization for a purpose, known to the signer from here on; its public one.
    pub fn new_key(&self, who: usize, purpose: &str, number: u64) -> Hash {
        let name = self.names.get(who).map_or("observer", String::as_str);
        self.signer.add(who, org_key(name, purpose, number))
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

fn org_key(name: &str, purpose: &str, number: u64) -> SigningKey {
    key(&format!("{name} {purpose} {number}"))
}
