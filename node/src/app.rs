//! What the services share: one handle per part, made once by [`crate::node`].

use std::sync::Arc;

use assent_ledger::block::Tip;
use assent_ledger::genesis::CheckedGenesis;
use assent_ledger::keys::{PublicKey, SigningKey};
use assent_proto::ledger::v1::Organization;
use tokio::sync::watch;

use crate::certificates::Certificates;
use crate::chain::replica::TipInfo;
use crate::chain::{Mempool, Store, Submitter};
use crate::custodian::{Custodian, Lacks};
use crate::evidence::EvidenceSeen;
use crate::freshness::Freshness;
use crate::grpc::places::Places;
use crate::limits::Limits;
use crate::members::{Members, Role};
use crate::own_keys::OwnKeys;
use crate::peers::Peers;
use crate::recipient::Recipient;
use crate::tlog;
use crate::told::Told;
use crate::vault::Vault;

/// The parts of a running node.
pub struct Parts {
    /// Id of the organization that runs this node.
    pub organization: String,
    /// Checked genesis.
    pub genesis: CheckedGenesis,
    /// The genesis file's exact bytes.
    pub genesis_file: Vec<u8>,
    /// "malachite" or "single".
    pub ordering: &'static str,
    /// This node's keys.
    pub keys: OwnKeys,
    /// Who is a member now.
    pub members: Members,
    /// The ledger.
    pub store: Store,
    /// Entries that wait.
    pub mempool: Mempool,
    /// Makes and commits entries.
    pub submitter: Submitter,
    /// The newest tip.
    pub tips: watch::Receiver<TipInfo>,
    /// Whether answers may be given.
    pub freshness: Freshness,
    /// The private store.
    pub vault: Vault,
    /// How much of this node clients may take up.
    pub limits: Limits,
    /// The node's certificate, and who is revoked.
    pub certificates: Certificates,
    /// Places for clients' connections.
    pub places: Places,
    /// What it lacks of what the ledger commits to.
    pub lacks: Lacks,
    /// Connections to other organizations' nodes; none when ordering alone.
    pub peers: Option<Peers>,
    /// What the others name this node by.
    pub told: Told,
    /// Pieces of evidence against validators.
    pub evidence: EvidenceSeen,
    /// Checkpoints that were signed, and that were not.
    pub checkpoints: tlog::Figures,
}

/// Everything a service may use. Cheap to clone.
#[derive(Clone)]
pub struct App {
    /// The parts.
    pub parts: Arc<Parts>,
    /// This organization as custodian.
    pub custodian: Custodian,
    /// This organization as recipient.
    pub recipient: Recipient,
}

impl Parts {
    /// Chain id.
    pub fn chain_id(&self) -> &str {
        &self.genesis.chain_id
    }

    /// The newest tip.
    pub fn tip(&self) -> Arc<Tip> {
        self.tips.borrow().tip.clone()
    }

    /// A present member.
    pub fn known(&self, id: &str) -> Option<Organization> {
        self.members.present().organization(id).cloned()
    }

    /// Key that a member's signatures are checked with; none of a stranger, and none while it is suspended.
    pub fn entry_key_of(&self, id: &str) -> Option<PublicKey> {
        self.members.present().entry_key(id)
    }

    /// The organization's entry key: the one that the ledger names, else (suspended, or not a member yet) the one in use last.
    pub fn entry_key(&self) -> SigningKey {
        self.keys.entry(self.entry_key_of(&self.organization).as_ref())
    }

    /// What this node's organization is.
    pub fn role(&self) -> Role {
        self.members.present().role(&self.organization)
    }
}
