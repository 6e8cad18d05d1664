//! Own keys and peers of the engine: they change with the membership.
//!
//! ```text
//! members ─▶ other peers       told to the running engine, at once
//!         ╲▶ another own key   the engine is started anew at that height, under the new address or peer id
//! told ────▶ another peer id   likewise, by the word of those who are ahead: under the one of before nobody talks to it
//! ```
//! All members are peers, whether they vote or not: one without a vote hears the votes of the others, and follows.

use std::collections::BTreeSet;
use std::time::Duration;

use assent_ledger::keys::SigningKey;
use assent_proto::ledger::v1::Organization;
use malachite_app_channel::app::net::Multiaddr;
use malachite_app_channel::NetworkRequest;
use tokio::sync::mpsc::Sender;

use super::BftConfig;
use crate::members::{Members, Present};
use crate::own_keys::{named, Named, OwnKeys, Purpose};
use crate::told::Told;

/// The engine takes so long for one change at most.
const ANSWER_WAIT: Duration = Duration::from_secs(5);

/// Where keys and peers come from.
#[derive(Clone)]
pub struct Wiring {
    /// Id of the organization that runs this node.
    pub organization: String,
    /// Who is a member now.
    pub members: Members,
    /// This node's keys.
    pub keys: OwnKeys,
    /// What the others name this node by, when they are ahead.
    pub told: Told,
    /// Where a member's consensus swarm is dialed: its address on the ledger, or what a testnet puts in its place.
    pub address: fn(&Organization) -> String,
}

impl Wiring {
    /// Multiaddrs of the other members, each ending in `/p2p/<peer id>`. Two that claim one peer id, and a line that is no
    /// multiaddr, are left out: one bad line on the ledger must not stop the engine.
    pub fn peers(&self, present: &Present) -> Vec<String> {
        let mut seen = BTreeSet::new();
        let twice: BTreeSet<&str> = present
            .membership
            .organizations
            .iter()
            .map(|o| o.consensus_peer_id.as_str())
            .filter(|id| !seen.insert(*id))
            .collect();
        let others =
            present.others(&self.organization).filter(|o| !twice.contains(o.consensus_peer_id.as_str()));
        let text = |o: &Organization| format!("{}/p2p/{}", (self.address)(o), o.consensus_peer_id);
        let usable = |text: &String| {
            let usable = text.parse::<Multiaddr>().is_ok();
            if !usable {
                tracing::error!(peer = %text, "no consensus address: left out");
            }
            usable
        };
        others.map(text).filter(usable).collect()
    }

    /// Puts the keys and peers of the present membership into the configuration.
    pub fn refresh(&self, config: &mut BftConfig) {
        let present = self.members.present();
        config.persistent_peers = self.peers(&present);
        let vote = named(&present, &self.organization, Purpose::Vote);
        if let Some(vote) = vote.and_then(|named| self.keys.find(Purpose::Vote, named)) {
            config.vote_key = vote;
        }
        if let Some(peer) = self.peer_key(&present) {
            config.consensus_peer_secret = peer.to_bytes();
        }
    }

    /// The key that the others let this node in under: by the ledger of those who are ahead, else by its own.
    fn peer_key(&self, present: &Present) -> Option<SigningKey> {
        let said = self.told.now();
        let theirs = said.names.get(Purpose::ConsensusPeer);
        let theirs = theirs.and_then(|named| self.keys.find(Purpose::ConsensusPeer, named));
        theirs.or_else(|| {
            let own = named(present, &self.organization, Purpose::ConsensusPeer)?;
            self.keys.reached_by(Purpose::ConsensusPeer, own)
        })
    }

    /// True when this node has to have another vote key or peer id than the engine runs with.
    pub fn names_other_keys(&self, config: &BftConfig) -> bool {
        let present = self.members.present();
        let vote = named(&present, &self.organization, Purpose::Vote)
            .filter(|named| *named != Named::Key(config.vote_key.verifying_key().as_bytes()));
        vote.is_some_and(|named| self.keys.find(Purpose::Vote, named).is_some())
            || self.peer_key(&present).is_some_and(|key| key.to_bytes() != config.consensus_peer_secret)
    }

    /// Tells a running engine of every change of its peers, until it has stopped. It was started with `known`.
    pub async fn tell_peers(self, engine: Sender<NetworkRequest>, known: Vec<String>) {
        let mut known: BTreeSet<String> = known.into_iter().collect();
        let mut changes = self.members.subscribe();
        loop {
            let wanted: BTreeSet<String> = self.peers(&self.members.present()).into_iter().collect();
            // Those that go first: the removal of an old address forgets the peer id of the new one.
            for peer in known.difference(&wanted) {
                tell(&engine, peer, false).await;
            }
            for peer in wanted.difference(&known) {
                tell(&engine, peer, true).await;
            }
            known = wanted;
            tokio::select! {
                () = engine.closed() => return,
                changed = changes.changed() => if changed.is_err() { return },
            }
        }
    }
}

async fn tell(engine: &Sender<NetworkRequest>, peer: &str, add: bool) {
    let Ok(address) = peer.parse::<Multiaddr>() else { return };
    let asked = async {
        match add {
            true => NetworkRequest::add_persistent_peer(engine, address).await.map(|done| done.is_ok()),
            false => NetworkRequest::remove_persistent_peer(engine, address).await.map(|done| done.is_ok()),
        }
    };
    match tokio::time::timeout(ANSWER_WAIT, asked).await {
        Ok(Ok(true)) => tracing::info!(peer, add, "a member's consensus address has changed"),
        // It is stopping, or is started with the present peers right after.
        _ => tracing::warn!(peer, add, "the engine did not take a changed peer"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::members::tests::membership;

    fn key(n: u8) -> ed25519_dalek::SigningKey {
        ed25519_dalek::SigningKey::from_bytes(&[n; 32])
    }

    #[test]
    fn all_members_are_peers_and_bad_lines_are_left_out() {
        let mut all = membership(&["a", "b", "c", "d", "e"], 2);
        for (n, o) in all.organizations.iter_mut().enumerate() {
            o.consensus_peer_id = super::super::peer_id(&[n as u8 + 1; 32]);
            o.consensus_address = format!("/ip4/127.0.0.1/tcp/{}", 7000 + n);
        }
        all.organizations[2].consensus_address = "127.0.0.1:7002".into();
        all.organizations[3].consensus_peer_id = all.organizations[4].consensus_peer_id.clone();
        let members = Members::new(all, 0);
        let keys = OwnKeys::from(key(1));
        let wiring = Wiring {
            organization: "a".into(),
            members: members.clone(),
            keys,
            told: Told::default(),
            address: |o| o.consensus_address.clone(),
        };
        let b = format!("/ip4/127.0.0.1/tcp/7001/p2p/{}", super::super::peer_id(&[2; 32]));
        assert_eq!(wiring.peers(&members.present()), [b]);
    }
}
