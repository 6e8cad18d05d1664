//! This node's own keys: which of its files holds the key that the ledger names now.
//!
//! | file | holds |
//! |---|---|
//! | `keys/PURPOSE.pem` | the key in use |
//! | `keys/PURPOSE.next.pem` | the key that takes its place at a height (`assent keys rotate`) |
//! | `keys/PURPOSE.old.pem` | the key before |
//!
//! The first time that the ledger names the next key it is put in place: the key in use is copied to `.old.pem`, then the next
//! one renamed over it, so that there is one at every moment.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use assent_ledger::keyfile::from_pem;
use assent_ledger::keys::{PublicKey, SigningKey};

use crate::bft::peer_id;
use crate::config::NodeKeys;
use crate::members::Present;

/// What a key is for; the vault's is not on the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Purpose {
    /// Signs entries, requests, decisions and acknowledgements.
    Entry,
    /// Votes.
    Vote,
    /// Peer id of the consensus swarm.
    ConsensusPeer,
    /// Peer id of the exchange swarm.
    ExchangePeer,
    /// Signs checkpoints.
    Checkpoint,
}

impl Purpose {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Entry, Self::Vote, Self::ConsensusPeer, Self::ExchangePeer, Self::Checkpoint];

    /// Its file's name without the end.
    pub fn file(self) -> &'static str {
        match self {
            Self::Entry => "entry",
            Self::Vote => "vote",
            Self::ConsensusPeer => "consensus-peer",
            Self::ExchangePeer => "exchange-peer",
            Self::Checkpoint => "checkpoint",
        }
    }
}

/// How the ledger names a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Named<'a> {
    /// By its public key, 32 bytes.
    Key(&'a [u8]),
    /// By its peer id.
    PeerId(&'a str),
}

impl<'a> Named<'a> {
    /// A name's bytes: of a public key, or of a peer id's text. None for what is no peer id.
    pub fn of(purpose: Purpose, bytes: &'a [u8]) -> Option<Self> {
        match purpose {
            Purpose::ConsensusPeer | Purpose::ExchangePeer => str::from_utf8(bytes).ok().map(Self::PeerId),
            Purpose::Entry | Purpose::Vote | Purpose::Checkpoint => Some(Self::Key(bytes)),
        }
    }

    /// What [`Self::of`] makes it from.
    pub fn bytes(&self) -> &'a [u8] {
        match self {
            Self::Key(public) => public,
            Self::PeerId(id) => id.as_bytes(),
        }
    }

    fn is(&self, key: &SigningKey) -> bool {
        match self {
            Self::Key(public) => key.verifying_key().as_bytes() == *public,
            Self::PeerId(id) => peer_id(&key.to_bytes()) == *id,
        }
    }
}

/// How the ledger names an organization's key for a purpose; none when it has none.
pub fn named<'a>(present: &'a Present, organization: &str, purpose: Purpose) -> Option<Named<'a>> {
    let own = present.organization(organization)?;
    Some(match purpose {
        Purpose::Entry => Named::Key(&own.entry_key),
        Purpose::Vote => Named::Key(present.vote_key(organization)?),
        Purpose::ConsensusPeer => Named::PeerId(&own.consensus_peer_id),
        Purpose::ExchangePeer => Named::PeerId(&own.exchange_peer_id),
        Purpose::Checkpoint => Named::Key(&own.checkpoint_key),
    })
}

struct Inner {
    /// None in tests that have a key and no files.
    folder: Option<PathBuf>,
    /// The entry key that it started with.
    entry: SigningKey,
    /// By purpose, the one in use last.
    keys: Mutex<BTreeMap<Purpose, Vec<SigningKey>>>,
}

/// This node's keys. Cheap to clone.
#[derive(Clone)]
pub struct OwnKeys(Arc<Inner>);

/// An entry key without files.
impl From<SigningKey> for OwnKeys {
    fn from(key: SigningKey) -> Self {
        Self::over(None, &key, [(Purpose::Entry, key.clone())])
    }
}

impl OwnKeys {
    /// The keys that were read from a folder.
    pub fn new(folder: PathBuf, keys: &NodeKeys) -> Self {
        let all = [
            (Purpose::Entry, &keys.entry),
            (Purpose::Vote, &keys.vote),
            (Purpose::ConsensusPeer, &keys.consensus_peer),
            (Purpose::ExchangePeer, &keys.exchange_peer),
            (Purpose::Checkpoint, &keys.checkpoint),
        ];
        Self::over(Some(folder), &keys.entry, all.map(|(purpose, key)| (purpose, key.clone())))
    }

    fn over(
        folder: Option<PathBuf>,
        entry: &SigningKey,
        keys: impl IntoIterator<Item = (Purpose, SigningKey)>,
    ) -> Self {
        let entry = entry.clone();
        let keys = keys.into_iter().map(|(purpose, key)| (purpose, vec![key])).collect();
        Self(Arc::new(Inner { folder, entry, keys: Mutex::new(keys) }))
    }

    /// The key that the ledger names, if one of the files holds it. The next one is put in place when it is named.
    pub fn find(&self, purpose: Purpose, named: Named<'_>) -> Option<SigningKey> {
        let mut keys = self.0.keys.lock().unwrap_or_else(PoisonError::into_inner);
        let known = keys.entry(purpose).or_default();
        if let Some(key) = known.last().filter(|key| named.is(key)) {
            return Some(key.clone());
        }
        if let Some(next) = self.read(purpose, ".next").filter(|key| named.is(key)) {
            match self.put_in_place(purpose) {
                Ok(()) => tracing::info!(key = purpose.file(), "the next key is in use"),
                Err(error) => {
                    tracing::error!(key = purpose.file(), %error, "the next key is in use, but its file could not be \
                    renamed: rename keys/PURPOSE.next.pem to keys/PURPOSE.pem by hand")
                }
            }
            known.push(next.clone());
            return Some(next);
        }
        if let Some(key) = known.iter().rev().find(|key| named.is(key)) {
            return Some(key.clone());
        }
        let old = self.read(purpose, ".old").filter(|key| named.is(key))?;
        known.insert(0, old.clone());
        Some(old)
    }

    /// True when one of the files holds this key. Nothing is put in place.
    pub fn holds(&self, purpose: Purpose, named: Named<'_>) -> bool {
        let known = |keys: &BTreeMap<Purpose, Vec<SigningKey>>| {
            keys.get(&purpose).is_some_and(|keys| keys.iter().any(|key| named.is(key)))
        };
        known(&self.0.keys.lock().unwrap_or_else(PoisonError::into_inner))
            || [".next", ".old"]
                .into_iter()
                .any(|which| self.read(purpose, which).is_some_and(|k| named.is(&k)))
    }

    /// The key that the others reach this node under, whose own ledger names it so. A ledger that names one from before the one in
    /// use lies behind theirs, and they know the one in use.
    pub fn reached_by(&self, purpose: Purpose, named: Named<'_>) -> Option<SigningKey> {
        self.find(purpose, named)?;
        self.latest(purpose)
    }

    /// The key in use, whatever the ledger says.
    pub fn latest(&self, purpose: Purpose) -> Option<SigningKey> {
        let keys = self.0.keys.lock().unwrap_or_else(PoisonError::into_inner);
        keys.get(&purpose)?.last().cloned()
    }

    /// The entry key that the ledger names; when it names none that is here, the one in use last.
    pub fn entry(&self, public: Option<&PublicKey>) -> SigningKey {
        let found = public.and_then(|public| self.find(Purpose::Entry, Named::Key(public)));
        found.or_else(|| self.latest(Purpose::Entry)).unwrap_or_else(|| self.0.entry.clone())
    }

    /// Purposes for which the ledger names a key that no file holds.
    pub fn missing(&self, present: &Present, organization: &str) -> Vec<Purpose> {
        let named = |purpose| named(present, organization, purpose);
        let lacks = |purpose: &Purpose| named(*purpose).is_some_and(|n| self.find(*purpose, n).is_none());
        Purpose::ALL.into_iter().filter(lacks).collect()
    }

    /// True when the key was replaced once: a ledger that lies behind may name one from before.
    pub fn was_replaced(&self, purpose: Purpose) -> bool {
        self.path(purpose, ".old").is_some_and(|path| path.exists())
    }

    fn path(&self, purpose: Purpose, which: &str) -> Option<PathBuf> {
        Some(self.0.folder.as_ref()?.join(format!("{}{which}.pem", purpose.file())))
    }

    fn read(&self, purpose: Purpose, which: &str) -> Option<SigningKey> {
        let path = self.path(purpose, which)?;
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return None,
            Err(error) => {
                tracing::error!(file = %path.display(), %error, "a key file can't be read");
                return None;
            }
        };
        from_pem(&text)
            .map_err(|error| tracing::error!(file = %path.display(), %error, "a key file is of no use"))
            .ok()
    }

    fn put_in_place(&self, purpose: Purpose) -> io::Result<()> {
        let paths = (self.path(purpose, ""), self.path(purpose, ".next"), self.path(purpose, ".old"));
        let (Some(folder), (Some(now), Some(next), Some(old))) = (&self.0.folder, paths) else {
            return Ok(());
        };
        fs::copy(&now, &old)?;
        File::open(&old)?.sync_all()?;
        fs::rename(&next, &now)?;
        File::open(folder)?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use assent_ledger::keyfile::to_pem;

    use super::*;
    use crate::members::tests::membership;

    fn key(n: u8) -> SigningKey {
        SigningKey::from_bytes(&[n; 32])
    }

    fn keys() -> NodeKeys {
        let of = |n| key(n);
        NodeKeys {
            entry: of(1),
            vote: of(2),
            consensus_peer: of(3),
            exchange_peer: of(4),
            vault: of(5),
            checkpoint: of(6),
        }
    }

    #[test]
    fn the_next_key_is_put_in_place_when_the_ledger_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| folder.path().join(name);
        let write = |name: &str, n| fs::write(file(name), to_pem(&key(n)).unwrap()).unwrap();
        let holds = |name: &str| {
            fs::read_to_string(file(name)).ok().map(|text| from_pem(&text).unwrap().to_bytes()[0])
        };
        write("entry.pem", 1);
        let own = OwnKeys::new(folder.path().into(), &keys());
        let public = |n| key(n).verifying_key().to_bytes();
        let find = |n| own.find(Purpose::Entry, Named::Key(&public(n))).map(|key| key.to_bytes()[0]);
        assert_eq!((find(1), find(7)), (Some(1), None));
        // Made while the node runs; nothing happens before its height.
        write("entry.next.pem", 7);
        assert_eq!(
            (find(1), holds("entry.pem"), own.was_replaced(Purpose::Entry)),
            (Some(1), Some(1), false)
        );
        assert_eq!((find(7), own.latest(Purpose::Entry).unwrap().to_bytes()[0]), (Some(7), 7));
        assert_eq!(
            (holds("entry.pem"), holds("entry.old.pem"), holds("entry.next.pem")),
            (Some(7), Some(1), None)
        );
        // A store from before the change: the old key is still found, also by another process.
        let again = OwnKeys::new(folder.path().into(), &NodeKeys { entry: key(7), ..keys() });
        assert!(again.was_replaced(Purpose::Entry));
        assert!(again.find(Purpose::Entry, Named::Key(&public(1))).is_some());
        assert_eq!((holds("entry.pem"), again.latest(Purpose::Entry).unwrap().to_bytes()[0]), (Some(7), 7));
        // Others know the one in use; whoever is given the old one back has it as the next.
        let reached = |n| own.reached_by(Purpose::Entry, Named::Key(&public(n))).map(|key| key.to_bytes()[0]);
        assert_eq!((reached(1), reached(7), reached(9)), (Some(7), Some(7), None));
        write("entry.next.pem", 1);
        let held = |n| own.holds(Purpose::Entry, Named::Key(&public(n)));
        assert_eq!((held(1), held(7), held(9), holds("entry.pem")), (true, true, false, Some(7)));
        assert_eq!((reached(7), reached(1), reached(1)), (Some(7), Some(1), Some(1)));
        assert_eq!((holds("entry.pem"), holds("entry.old.pem")), (Some(1), Some(7)));
        // An empty key, as of a suspended organization, is nobody's.
        assert!(own.find(Purpose::Entry, Named::Key(&[])).is_none());
    }

    #[test]
    fn what_the_ledger_names_and_no_file_holds_is_told_by_purpose() {
        let folder = tempfile::tempdir().unwrap();
        let own = OwnKeys::new(folder.path().into(), &keys());
        let mut membership = membership(&["a", "b"], 1);
        let a = &mut membership.organizations[0];
        a.entry_key = key(1).verifying_key().to_bytes().to_vec();
        a.consensus_peer_id = peer_id(&[3; 32]);
        a.exchange_peer_id = peer_id(&[9; 32]);
        let present = Present { membership, since: 0 };
        assert_eq!(own.missing(&present, "a"), [Purpose::Vote, Purpose::ExchangePeer, Purpose::Checkpoint]);
        assert!(!own.missing(&present, "b").contains(&Purpose::Vote), "an observer needs none");
        assert!(own.missing(&present, "stranger").is_empty());
    }
}
