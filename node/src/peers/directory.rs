//! Whom the ledger's members are, and where their nodes are: replaced when the membership changes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use libp2p::multiaddr::Protocol as Part;
use libp2p::{Multiaddr, PeerId};
use tokio::sync::{mpsc, Semaphore};

use super::behaviour::Opening;
use super::{KnownPeer, MAX_INBOUND_STREAMS, MAX_OUTBOUND_STREAMS};

/// One known peer.
pub(super) struct Known {
    pub(super) organization: String,
    pub(super) peer_id: PeerId,
    /// Without one it is not dialed, but may come to us.
    address: Mutex<Option<Multiaddr>>,
    pub(super) inbound: Arc<Semaphore>,
    pub(super) outbound: Arc<Semaphore>,
    /// One a connection, oldest first.
    openers: Mutex<Vec<mpsc::Sender<Opening>>>,
    last_failure: Mutex<Option<String>>,
}

impl Known {
    /// Where it is dialed.
    pub(super) fn address(&self) -> Option<Multiaddr> {
        lock(&self.address).clone()
    }

    /// Those whose connection still exists.
    pub(super) fn openers(&self) -> Vec<mpsc::Sender<Opening>> {
        lock(&self.openers).iter().filter(|opener| !opener.is_closed()).cloned().collect()
    }

    /// Adds one, and forgets those whose connection is gone (one that another behaviour denied never says goodbye).
    pub(super) fn add_opener(&self, opener: mpsc::Sender<Opening>) {
        let mut openers = lock(&self.openers);
        openers.retain(|opener| !opener.is_closed());
        openers.push(opener);
    }

    pub(super) fn failed(&self, reason: String) {
        *lock(&self.last_failure) = Some(reason);
    }

    pub(super) fn why_not_connected(&self) -> String {
        match (&*lock(&self.last_failure), self.address()) {
            (Some(reason), _) => format!("not connected: {reason}"),
            (None, Some(_)) => "not connected yet".into(),
            (None, None) => "not connected, and its exchange address on the ledger is not usable".into(),
        }
    }
}

/// All known peers.
pub(super) struct Directory {
    own_organization: String,
    by_peer: RwLock<BTreeMap<PeerId, Arc<Known>>>,
}

/// What a new list of peers changes.
#[derive(Default)]
pub(super) struct Changed {
    /// No longer known, or as another organization.
    pub(super) gone: Vec<PeerId>,
    /// Not known before.
    pub(super) new: Vec<Arc<Known>>,
    /// Known, and now at another address.
    pub(super) moved: Vec<PeerId>,
}

impl Directory {
    /// Empty.
    pub(super) fn new(own_organization: &str) -> Self {
        Self { own_organization: own_organization.to_owned(), by_peer: RwLock::default() }
    }

    /// Knows these from now on; `own` is this node's peer id. One bad line on the ledger must not stop this node: it is left out,
    /// and the log says so.
    pub(super) fn replace(&self, own: PeerId, listed: Vec<KnownPeer>) -> Changed {
        let listed = self.usable(own, listed);
        let mut known = self.by_peer.write().unwrap_or_else(PoisonError::into_inner);
        let mut changed = Changed::default();
        let stays =
            |id: &PeerId, of: &Known| listed.get(id).is_some_and(|new| new.organization == of.organization);
        changed.gone = known.iter().filter(|(id, of)| !stays(id, of)).map(|(id, _)| *id).collect();
        for id in &changed.gone {
            known.remove(id);
        }
        for (id, new) in listed {
            match known.get(&id) {
                None => {
                    changed.new.push(new.clone());
                    known.insert(id, new);
                }
                Some(before) if before.address() != new.address() => {
                    *lock(&before.address) = new.address();
                    changed.moved.push(id);
                }
                Some(_) => {}
            }
        }
        changed
    }

    fn usable(&self, own: PeerId, listed: Vec<KnownPeer>) -> BTreeMap<PeerId, Arc<Known>> {
        let own_organization = &self.own_organization;
        let mut by_peer: BTreeMap<PeerId, Vec<Known>> = BTreeMap::new();
        for KnownPeer { organization, peer_id, address } in listed {
            let Ok(peer_id) = peer_id.parse::<PeerId>() else {
                tracing::error!(%organization, "malformed exchange peer id on the ledger: it can't be talked to");
                continue;
            };
            if organization == *own_organization {
                if peer_id != own {
                    tracing::error!(ledger = %peer_id, key = %own, "the ledger names another exchange peer id for this \
                        organization than keys/exchange-peer.pem gives: the others will refuse this node");
                }
                continue;
            }
            if peer_id == own {
                tracing::error!(%organization, "has this node's own exchange peer id on the ledger: left out");
                continue;
            }
            let address = dialable(&address);
            if address.is_none() {
                tracing::warn!(%organization, "malformed exchange address on the ledger: it will not be dialed");
            }
            by_peer.entry(peer_id).or_default().push(Known {
                organization,
                peer_id,
                address: Mutex::new(address),
                inbound: Arc::new(Semaphore::new(MAX_INBOUND_STREAMS)),
                outbound: Arc::new(Semaphore::new(MAX_OUTBOUND_STREAMS)),
                openers: Mutex::default(),
                last_failure: Mutex::default(),
            });
        }
        // A key that two organizations claim says nothing about who is speaking.
        by_peer.retain(|peer_id, claims| {
            if claims.len() > 1 {
                let claims: Vec<_> = claims.iter().map(|known| &known.organization).collect();
                tracing::error!(%peer_id, ?claims, "one exchange peer id for two organizations: left out");
            }
            claims.len() == 1
        });
        let single = |(peer_id, mut claims): (PeerId, Vec<Known>)| Some((peer_id, Arc::new(claims.pop()?)));
        by_peer.into_iter().filter_map(single).collect()
    }

    pub(super) fn peer(&self, peer_id: &PeerId) -> Option<Arc<Known>> {
        self.by_peer.read().unwrap_or_else(PoisonError::into_inner).get(peer_id).cloned()
    }

    pub(super) fn organization(&self, organization: &str) -> Option<Arc<Known>> {
        let known = self.by_peer.read().unwrap_or_else(PoisonError::into_inner);
        known.values().find(|known| known.organization == organization).cloned()
    }
}

/// The address without a `/p2p/` at its end: the peer id comes from its own field.
fn dialable(address: &str) -> Option<Multiaddr> {
    let mut address: Multiaddr = address.parse().ok()?;
    if let Some(Part::P2p(_)) = address.iter().last() {
        address.pop();
    }
    (!address.is_empty()).then_some(address)
}

/// Nothing here is left half changed by a panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use libp2p::identity::Keypair;

    fn listed(organization: &str, peer_id: &str, address: &str) -> KnownPeer {
        KnownPeer { organization: organization.into(), peer_id: peer_id.into(), address: address.into() }
    }

    #[test]
    fn bad_lines_are_left_out_and_the_others_stay() {
        let [own, birch, shared] = [(); 3].map(|()| Keypair::generate_ed25519().public().to_peer_id());
        let address = "/ip4/127.0.0.1/tcp/7414";
        let directory = Directory::new("cedar");
        let changed = directory.replace(
            own,
            vec![
                listed("cedar", &own.to_string(), address),
                listed("birch", &birch.to_string(), &format!("{address}/p2p/{birch}")),
                listed("dogwood", "not a peer id", address),
                listed("elm", &shared.to_string(), address),
                listed("fir", &shared.to_string(), address),
                listed("gum", &own.to_string(), address),
            ],
        );
        let organizations: Vec<_> = changed.new.iter().map(|known| known.organization.as_str()).collect();
        assert_eq!(organizations, ["birch"]);
        assert_eq!(directory.peer(&birch).unwrap().address(), Some(address.parse().unwrap()));
        assert!(directory.peer(&shared).is_none() && directory.peer(&own).is_none());
    }

    #[test]
    fn without_an_address_a_peer_is_known_but_not_dialed() {
        let [own, birch] = [(); 2].map(|()| Keypair::generate_ed25519().public().to_peer_id());
        let directory = Directory::new("cedar");
        directory.replace(own, vec![listed("birch", &birch.to_string(), "127.0.0.1:7414")]);
        assert_eq!(directory.organization("birch").unwrap().address(), None);
    }

    #[test]
    fn a_new_list_says_who_is_new_gone_or_elsewhere_and_leaves_the_others_alone() {
        let [own, birch, dogwood, elm] = [(); 4].map(|()| Keypair::generate_ed25519().public().to_peer_id());
        let line = |organization: &str, id: PeerId, port: u16| {
            listed(organization, &id.to_string(), &format!("/ip4/127.0.0.1/tcp/{port}"))
        };
        let directory = Directory::new("cedar");
        directory.replace(own, vec![line("birch", birch, 1), line("dogwood", dogwood, 2)]);
        let before = directory.organization("birch").unwrap();
        let changed = directory.replace(own, vec![line("birch", birch, 9), line("elm", elm, 3)]);
        assert_eq!((changed.gone, changed.moved), (vec![dogwood], vec![birch]));
        assert_eq!(changed.new.iter().map(|known| known.peer_id).collect::<Vec<_>>(), [elm]);
        let after = directory.organization("birch").unwrap();
        assert!(Arc::ptr_eq(&before, &after) && after.address() == "/ip4/127.0.0.1/tcp/9".parse().ok());
        assert!(directory.organization("dogwood").is_none() && directory.peer(&dogwood).is_none());
        // A peer id that another organization takes over is another peer.
        let changed = directory.replace(own, vec![line("birch", birch, 9), line("fir", elm, 3)]);
        assert_eq!((changed.gone, changed.new.len(), changed.moved.len()), (vec![elm], 1, 0));
    }
}
