//! An organization's card: the public half of its folder, exchanged before genesis.

use std::path::Path;

use assent_ledger::keys::screen;
use assent_proto::ledger::v1::Organization;
use libp2p::identity::{ed25519, PublicKey};
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};
use serde::{Deserialize, Serialize};

use crate::exit::Failure;
use crate::{files, pki, text};

/// `card.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Card {
    /// Chain that the organization wants to join.
    pub chain_id: String,
    /// Organization id.
    pub id: String,
    /// Name for people.
    pub name: String,
    /// Key that it votes with, hex.
    pub vote_key: String,
    /// Key that signs its entries, hex.
    pub entry_key: String,
    /// Key that signs its checkpoints, hex.
    pub checkpoint_key: String,
    /// Peer id of the consensus swarm.
    pub consensus_peer_id: String,
    /// Multiaddr of the consensus swarm, without the peer id.
    pub consensus_address: String,
    /// Peer id of the exchange swarm.
    pub exchange_peer_id: String,
    /// Multiaddr of the exchange swarm, without the peer id.
    pub exchange_address: String,
    /// Certificate authority of the node and of its clients, PEM.
    pub ca_certificate: String,
}

impl Card {
    /// Reads and checks a card.
    pub fn load(path: &Path) -> Result<Self, Failure> {
        let malformed = |e: serde_json::Error| {
            Failure::usage("MALFORMED_CARD", format!("{}: {e}", path.display()))
                .help("a card is the card.json that `assent init` writes")
        };
        let card: Self = serde_json::from_str(&files::read_text(path)?).map_err(malformed)?;
        card.check().map_err(|failure| Failure {
            what: format!("{}: {}", path.display(), failure.what),
            ..failure
        })?;
        Ok(card)
    }

    fn check(&self) -> Result<(), Failure> {
        text::id("chain_id", &self.chain_id)?;
        text::id("id", &self.id)?;
        name(&self.name)?;
        let keys = [
            ("vote_key", &self.vote_key),
            ("entry_key", &self.entry_key),
            ("checkpoint_key", &self.checkpoint_key),
        ];
        for (what, key) in keys {
            screen(&text::hash(what, key)?)
                .map_err(|why| Failure::usage("BAD_KEY", format!("{what} is refused: {why}")))?;
        }
        for peer_id in [&self.consensus_peer_id, &self.exchange_peer_id] {
            peer_id.parse::<PeerId>().map_err(|e| {
                Failure::usage("MALFORMED_PEER_ID", format!("{peer_id:?} is not a peer id: {e}"))
            })?;
        }
        multiaddr("consensus_address", &self.consensus_address)?;
        multiaddr("exchange_address", &self.exchange_address)?;
        pki::certificate_der(&self.ca_certificate).map(|_| ())
    }

    /// As it stands in genesis.
    pub fn organization(&self) -> Result<Organization, Failure> {
        Ok(Organization {
            id: self.id.clone(),
            name: self.name.clone(),
            entry_key: text::hash("entry_key", &self.entry_key)?.to_vec(),
            consensus_peer_id: self.consensus_peer_id.clone(),
            consensus_address: self.consensus_address.clone(),
            exchange_peer_id: self.exchange_peer_id.clone(),
            exchange_address: self.exchange_address.clone(),
            ca_certificate: pki::certificate_der(&self.ca_certificate)?,
            checkpoint_key: text::hash("checkpoint_key", &self.checkpoint_key)?.to_vec(),
        })
    }
}

/// A name for people: 1 to 100 characters on one line.
pub fn name(text: &str) -> Result<(), Failure> {
    if (1..=100).contains(&text.chars().count()) && !text.chars().any(char::is_control) {
        return Ok(());
    }
    Err(Failure::usage("MALFORMED_NAME", "the name must have 1 to 100 characters on one line"))
}

/// A multiaddr to listen on and to be dialed at. The peer id stands in the card by itself.
pub fn multiaddr(what: &str, text: &str) -> Result<(), Failure> {
    let malformed = |why: String| {
        Failure::usage("MALFORMED_ADDRESS", format!("{what} {text:?}: {why}"))
            .help("a multiaddr such as /ip4/192.0.2.7/tcp/7413, without /p2p/")
    };
    let address: Multiaddr = text.parse().map_err(|e: libp2p::multiaddr::Error| malformed(e.to_string()))?;
    if address.iter().any(|part| matches!(part, Protocol::P2p(_))) {
        return Err(malformed("holds a peer id".to_owned()));
    }
    if !address.iter().any(|part| matches!(part, Protocol::Tcp(_))) {
        return Err(malformed("names no TCP port".to_owned()));
    }
    Ok(())
}

/// libp2p's name for an Ed25519 key.
pub fn peer_id(public_key: &[u8; 32]) -> Result<String, Failure> {
    let key = ed25519::PublicKey::try_from_bytes(public_key)
        .map_err(|e| Failure::error("BAD_KEY", format!("no peer id of this key: {e}")))?;
    Ok(PublicKey::from(key).to_peer_id().to_string())
}
