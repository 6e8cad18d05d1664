//! What the ledger commits to and never shows: consents, policies, access events; and what was received or acknowledged.
//!
//! Rows are found by commitment or request hash, so a body stored for an entry that never got committed does no harm,
//! and a body that the ledger names is the one that was stored for it.

use std::fmt;

use super::seal::Table;
use super::staging::Staging;
use assent_proto::ledger::v1::{ConsentBody, ContactPreferences};

use super::{array, Pending, Result, Vault, VaultError};

/// One consent of a subject, in its latest revision. `Debug` hides what it says.
#[derive(Clone, PartialEq)]
pub struct ConsentRecord {
    /// What its commitment covers.
    pub body: ConsentBody,
    /// The salt of its commitment.
    pub salt: [u8; 32],
}

/// A subject's contact preferences, in their latest revision. `Debug` hides what they say.
#[derive(Clone, PartialEq)]
pub struct ContactRecord {
    /// What their commitment covers.
    pub preferences: ContactPreferences,
    /// The salt of their commitment.
    pub salt: [u8; 32],
}

/// All consents of a subject that one slot commitment covers. `Debug` shows only how many.
#[derive(Clone, PartialEq)]
pub struct ConsentSet {
    /// The salt of the slot commitment.
    pub salt: [u8; 32],
    /// Its consents.
    pub consents: Vec<ConsentRecord>,
    /// By which channels the patient wants to be contacted, once that is recorded.
    pub contact: Option<ContactRecord>,
}

impl ConsentSet {
    /// No consents, under a salt.
    pub fn empty(salt: [u8; 32]) -> Self {
        Self { salt, consents: Vec::new(), contact: None }
    }
}

/// One access event. `Debug` hides what it says.
#[derive(Clone, PartialEq, Eq)]
pub struct Access {
    /// The subject whose slot it was recorded on.
    pub handle: [u8; 32],
    /// The salt of its commitment.
    pub salt: [u8; 32],
    /// The event's exact bytes.
    pub event: Vec<u8>,
    /// Encoded `MemberProof` of the recipient's keys when it was decided; empty beside reasons.
    pub recipient: Vec<u8>,
}

impl fmt::Debug for ConsentRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConsentRecord").finish_non_exhaustive()
    }
}

impl fmt::Debug for ContactRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ContactRecord").finish_non_exhaustive()
    }
}

impl fmt::Debug for ConsentSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConsentSet").field("consents", &self.consents.len()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access").field("event_bytes", &self.event.len()).finish_non_exhaustive()
    }
}

#[derive(Clone, PartialEq, prost::Message)]
struct StoredConsent {
    #[prost(message, optional, tag = "1")]
    body: Option<ConsentBody>,
    #[prost(bytes = "vec", tag = "2")]
    salt: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct StoredContact {
    #[prost(message, optional, tag = "1")]
    preferences: Option<ContactPreferences>,
    #[prost(bytes = "vec", tag = "2")]
    salt: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct StoredSet {
    #[prost(bytes = "vec", tag = "1")]
    salt: Vec<u8>,
    #[prost(message, repeated, tag = "2")]
    consents: Vec<StoredConsent>,
    #[prost(message, optional, tag = "3")]
    contact: Option<StoredContact>,
}

fn hollow(what: &str) -> VaultError {
    VaultError::Corrupt { what: format!("{what} is stored without its body") }
}

/// A policy has no handle.
#[derive(Clone, PartialEq, prost::Message)]
struct StoredBody {
    #[prost(bytes = "vec", tag = "1")]
    salt: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    body: Vec<u8>,
    #[prost(bytes = "vec", optional, tag = "3")]
    handle: Option<Vec<u8>>,
    #[prost(bytes = "vec", tag = "4")]
    recipient: Vec<u8>,
}

impl Vault {
    /// Stores the consents that `commitment` commits to, for a subject.
    pub fn put_consent_set(&self, handle: &[u8; 32], commitment: &[u8; 32], set: &ConsentSet) -> Result<()> {
        self.put_pending(&[Pending::ConsentSet { handle, commitment, set }])
    }

    /// The consents stored for a subject's slot commitment.
    pub fn consent_set(&self, handle: &[u8; 32], commitment: &[u8; 32]) -> Result<Option<ConsentSet>> {
        let row = self.key(Table::ConsentSet, &[handle, commitment]);
        let Some(stored) = self.get_message::<StoredSet>(&row)? else {
            return Ok(None);
        };
        let consents = stored.consents.into_iter().map(|consent| {
            let salt = array(&consent.salt, "a consent's salt")?;
            Ok(ConsentRecord { body: consent.body.ok_or_else(|| hollow("a consent"))?, salt })
        });
        let contact = stored.contact.map(|contact| {
            let salt = array(&contact.salt, "the contact preferences' salt")?;
            let preferences = contact.preferences.ok_or_else(|| hollow("contact preferences"))?;
            Ok(ContactRecord { preferences, salt })
        });
        Ok(Some(ConsentSet {
            consents: consents.collect::<Result<_>>()?,
            salt: array(&stored.salt, "a consent set's salt")?,
            contact: contact.transpose()?,
        }))
    }

    /// Stores the encoded PolicyBody that `commitment` commits to.
    pub fn put_policy(&self, commitment: &[u8; 32], salt: &[u8; 32], body: &[u8]) -> Result<()> {
        self.put_pending(&[Pending::Policy { commitment, salt, body }])
    }

    /// Salt and encoded PolicyBody stored for a commitment.
    pub fn policy(&self, commitment: &[u8; 32]) -> Result<Option<([u8; 32], Vec<u8>)>> {
        let stored = self.get_message::<StoredBody>(&self.key(Table::Policy, &[commitment]))?;
        stored.map(|stored| Ok((array(&stored.salt, "a policy's salt")?, stored.body))).transpose()
    }

    /// Stores the access event that `commitment` commits to.
    pub fn put_access(&self, commitment: &[u8; 32], access: &Access) -> Result<()> {
        self.put_pending(&[Pending::Access { commitment, access }])
    }

    /// The access event stored for a commitment.
    pub fn access(&self, commitment: &[u8; 32]) -> Result<Option<Access>> {
        let Some(stored) = self.get_message::<StoredBody>(&self.key(Table::Access, &[commitment]))? else {
            return Ok(None);
        };
        Ok(Some(Access {
            handle: array(&stored.handle.unwrap_or_default(), "an access event's handle")?,
            salt: array(&stored.salt, "an access event's salt")?,
            event: stored.body,
            recipient: stored.recipient,
        }))
    }

    /// Digests of the records, in order, that were released under a root; none when nobody stored them.
    pub fn released(&self, root: &[u8; 32]) -> Result<Option<Vec<[u8; 32]>>> {
        let stored = self.get(&self.key(Table::Released, &[root]))?;
        let digests =
            |bytes: Vec<u8>| bytes.chunks(32).map(|d| array(d, "a released record's digest")).collect();
        stored.map(digests).transpose()
    }

    /// Stores a recipient's signed acknowledgement of what it holds.
    pub fn put_acknowledgement(&self, request_hash: &[u8; 32], bytes: &[u8]) -> Result<()> {
        self.put_pending(&[Pending::Acknowledgement { request_hash, bytes }])
    }

    /// The acknowledgement of a request.
    pub fn acknowledgement(&self, request_hash: &[u8; 32]) -> Result<Option<Vec<u8>>> {
        self.get(&self.key(Table::Acknowledgement, &[request_hash]))
    }

    /// Stores a bundle that this node received as a recipient.
    pub fn put_release(&self, request_hash: &[u8; 32], bytes: &[u8]) -> Result<()> {
        self.put_pending(&[Pending::Release { request_hash, bytes }])
    }

    /// The bundle received for a request.
    pub fn release(&self, request_hash: &[u8; 32]) -> Result<Option<Vec<u8>>> {
        self.get(&self.key(Table::Release, &[request_hash]))
    }
}

impl Staging<'_> {
    pub(super) fn consent_set(
        &mut self,
        handle: &[u8; 32],
        commitment: &[u8; 32],
        set: &ConsentSet,
    ) -> Result<()> {
        let consents = set.consents.iter();
        let consents = consents.map(|c| StoredConsent { body: Some(c.body.clone()), salt: c.salt.to_vec() });
        let contact = set.contact.as_ref().map(|contact| StoredContact {
            preferences: Some(contact.preferences.clone()),
            salt: contact.salt.to_vec(),
        });
        let stored = StoredSet { salt: set.salt.to_vec(), consents: consents.collect(), contact };
        self.put_message(self.inner.sealer.key(Table::ConsentSet, &[handle, commitment]), &stored)
    }

    pub(super) fn policy(&mut self, commitment: &[u8; 32], salt: &[u8; 32], body: &[u8]) -> Result<()> {
        let stored = StoredBody { salt: salt.to_vec(), body: body.to_vec(), ..Default::default() };
        self.put_message(self.inner.sealer.key(Table::Policy, &[commitment]), &stored)
    }

    pub(super) fn access(&mut self, commitment: &[u8; 32], access: &Access) -> Result<()> {
        let handle = Some(access.handle.to_vec());
        let (salt, body, recipient) = (access.salt.to_vec(), access.event.clone(), access.recipient.clone());
        let stored = StoredBody { salt, body, handle, recipient };
        self.put_message(self.inner.sealer.key(Table::Access, &[commitment]), &stored)
    }

    pub(super) fn released(&mut self, root: &[u8; 32], digests: &[[u8; 32]]) -> Result<()> {
        self.put(self.inner.sealer.key(Table::Released, &[root]), &digests.concat())
    }

    pub(super) fn acknowledgement(&mut self, request_hash: &[u8; 32], bytes: &[u8]) -> Result<()> {
        self.put(self.inner.sealer.key(Table::Acknowledgement, &[request_hash]), bytes)
    }

    pub(super) fn release(&mut self, request_hash: &[u8; 32], bytes: &[u8]) -> Result<()> {
        self.put(self.inner.sealer.key(Table::Release, &[request_hash]), bytes)
    }
}
