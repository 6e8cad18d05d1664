//! The state: a map from hashed keys to slots, policy slots and organizations, and a view of it that can be changed.

use std::collections::BTreeMap;

use assent_proto::ledger::v1::{OrganizationState, PolicySlot, Slot};
use prost::Message;

use crate::hash::{hash, Context, Hash};

/// Where committed values are read from.
pub trait StateRead {
    /// The value under a state key, or none. An error is a failure of the store, not an answer.
    fn value(&self, key: &Hash) -> Result<Option<Vec<u8>>, ReadError>;
}

impl<T: StateRead + ?Sized> StateRead for &T {
    fn value(&self, key: &Hash) -> Result<Option<Vec<u8>>, ReadError> {
        (**self).value(key)
    }
}

/// The store could not be read, or holds what nobody wrote.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("state can't be read: {0}")]
pub struct ReadError(pub String);

/// State key of a subject's slot: no organization can reach another's.
pub fn slot_key(chain_id: &str, custodian: &str, handle: &[u8]) -> Hash {
    hash(Context::StateSlot, chain_id, &[custodian.as_bytes(), handle])
}

/// State key of a custodian's policy slot.
pub fn policy_key(chain_id: &str, custodian: &str) -> Hash {
    hash(Context::StatePolicy, chain_id, &[custodian.as_bytes()])
}

/// State key of an organization.
pub fn organization_key(chain_id: &str, organization: &str) -> Hash {
    hash(Context::StateOrganization, chain_id, &[organization.as_bytes()])
}

/// Reads and decodes a message; a value that does not decode is a broken store.
pub fn read<M: Message + Default>(state: &impl StateRead, key: &Hash) -> Result<Option<M>, ReadError> {
    match state.value(key)? {
        None => Ok(None),
        Some(bytes) => M::decode(bytes.as_slice())
            .map(Some)
            .map_err(|e| ReadError(format!("value under {}: {e}", hex::encode(key)))),
    }
}

/// A subject's slot.
pub fn slot(
    state: &impl StateRead,
    chain_id: &str,
    custodian: &str,
    handle: &[u8],
) -> Result<Option<Slot>, ReadError> {
    read(state, &slot_key(chain_id, custodian, handle))
}

/// A custodian's policy slot; sequence 0 without commitment before the first SetPolicy.
pub fn policy(state: &impl StateRead, chain_id: &str, custodian: &str) -> Result<PolicySlot, ReadError> {
    Ok(read(state, &policy_key(chain_id, custodian))?.unwrap_or_default())
}

/// An organization.
pub fn organization(
    state: &impl StateRead,
    chain_id: &str,
    organization: &str,
) -> Result<Option<OrganizationState>, ReadError> {
    read(state, &organization_key(chain_id, organization))
}

/// Changes on top of a state. Dropping it changes nothing.
pub struct Overlay<'a, R> {
    base: &'a R,
    /// New values by state key.
    pub changes: BTreeMap<Hash, Vec<u8>>,
}

impl<'a, R: StateRead> Overlay<'a, R> {
    /// No changes yet.
    pub fn new(base: &'a R) -> Self {
        Self { base, changes: BTreeMap::new() }
    }

    /// Puts a message under a key.
    pub fn put(&mut self, key: Hash, value: &impl Message) {
        self.changes.insert(key, value.encode_to_vec());
    }
}

impl<R: StateRead> StateRead for Overlay<'_, R> {
    fn value(&self, key: &Hash) -> Result<Option<Vec<u8>>, ReadError> {
        match self.changes.get(key) {
            Some(value) => Ok(Some(value.clone())),
            None => self.base.value(key),
        }
    }
}

/// A state in memory: for auditors and tests.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemoryState(pub BTreeMap<Hash, Vec<u8>>);

impl StateRead for MemoryState {
    fn value(&self, key: &Hash) -> Result<Option<Vec<u8>>, ReadError> {
        Ok(self.0.get(key).cloned())
    }
}
