//! Writes that belong together: collected, then put down in one synced batch, all or none.

use std::collections::BTreeMap;
use std::sync::MutexGuard;

use prost::Message;
use rocksdb::WriteBatch;

use super::{
    decode, Access, AskWrite, Closed, ConsentSet, Inner, LateAccess, OwnAccess, PendingGrant, Record,
    RequestRecord, Result, Review, Subject, Vault, VaultError,
};
use super::{MAX_BATCH_BYTES, MAX_VALUE_BYTES};

/// One of the writes of a [`Vault::put_pending`].
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub enum Pending<'a> {
    /// A new subject; [`VaultError::Exists`] for a second one.
    Subject(&'a Subject),
    /// Records; those with the same reference are replaced.
    Records(&'a [Record]),
    /// The consents of one subject that `commitment` commits to.
    ConsentSet { handle: &'a [u8; 32], commitment: &'a [u8; 32], set: &'a ConsentSet },
    /// The custodian's policy that `commitment` commits to.
    Policy { commitment: &'a [u8; 32], salt: &'a [u8; 32], body: &'a [u8] },
    /// An access event that `commitment` commits to.
    Access { commitment: &'a [u8; 32], access: &'a Access },
    /// Digests of released records, whose root an access event holds. The same records are one row.
    Released { root: &'a [u8; 32], digests: &'a [[u8; 32]] },
    /// A recipient's signed acknowledgement.
    Acknowledgement { request_hash: &'a [u8; 32], bytes: &'a [u8] },
    /// A bundle that this node received for its client.
    Release { request_hash: &'a [u8; 32], bytes: &'a [u8] },
    /// One line of a client's own history, beside the bundle that it got.
    OwnAccess { client: &'a str, access: &'a OwnAccess },
    /// A grant that waits for the patient's signature over `commitment`.
    Grant { handle: &'a [u8; 32], commitment: &'a [u8; 32], grant: &'a PendingGrant },
    /// A client's request that must not be stored yet; [`VaultError::Exists`] when it is, and nothing is written.
    NewRequest { client: &'a str, request_id: &'a str, record: &'a RequestRecord },
    /// A client's request, replacing what is stored under its id.
    Request { client: &'a str, request_id: &'a str, record: &'a RequestRecord },
    /// An ask for consent, or its answer.
    Asks(AskWrite<'a>),
    /// A release under break-glass: review item and notice.
    Review(&'a Review),
    /// The entry that is to record such a release now.
    ReviewEntry { request_hash: &'a [u8; 32], entry_hash: &'a [u8; 32] },
    /// The officer's judgement of it.
    CloseReview { request_hash: &'a [u8; 32], closed: &'a Closed },
    /// What this custodian owes the ledger.
    LateAccess(&'a LateAccess),
    /// It is in the ledger.
    LateAccessDone(&'a LateAccess),
    /// What this recipient holds without a receipt.
    LateRelease { request_hash: &'a [u8; 32], bytes: &'a [u8] },
    /// There is a receipt for it.
    LateReleaseDone { request_hash: &'a [u8; 32] },
}

impl Vault {
    /// Writes all of these, or none, synced to disk before it returns.
    pub fn put_pending(&self, writes: &[Pending<'_>]) -> Result<()> {
        self.wait_durable(self.stage_all(writes)?)
    }

    /// Writes all of these, or none. Reads see them at once; nothing may be done because of them before [`Vault::durable`]
    /// has returned: then many writers share one sync.
    pub fn stage_pending(&self, writes: &[Pending<'_>]) -> Result<()> {
        self.stage_all(writes).map(|_| ())
    }

    fn stage_all(&self, writes: &[Pending<'_>]) -> Result<u64> {
        let mut staging = self.stage();
        for write in writes {
            match *write {
                Pending::Asks(ref write) => staging.asks(write)?,
                Pending::Subject(subject) => staging.subject(subject)?,
                Pending::Records(records) => staging.records(records)?,
                Pending::ConsentSet { handle, commitment, set } => {
                    staging.consent_set(handle, commitment, set)?
                }
                Pending::Policy { commitment, salt, body } => staging.policy(commitment, salt, body)?,
                Pending::Access { commitment, access } => staging.access(commitment, access)?,
                Pending::Released { root, digests } => staging.released(root, digests)?,
                Pending::Acknowledgement { request_hash, bytes } => {
                    staging.acknowledgement(request_hash, bytes)?
                }
                Pending::Release { request_hash, bytes } => staging.release(request_hash, bytes)?,
                Pending::OwnAccess { client, access } => staging.own_access(client, access)?,
                Pending::Grant { handle, commitment, grant } => staging.grant(handle, commitment, grant)?,
                Pending::NewRequest { client, request_id, record } => {
                    staging.request(client, request_id, record, true)?;
                }
                Pending::Request { client, request_id, record } => {
                    staging.request(client, request_id, record, false)?;
                }
                Pending::Review(review) => staging.review(review)?,
                Pending::ReviewEntry { request_hash, entry_hash } => {
                    staging.review_entry(request_hash, entry_hash)?;
                }
                Pending::CloseReview { request_hash, closed } => {
                    staging.close_review(request_hash, closed)?
                }
                Pending::LateAccess(late) => staging.late_access(late)?,
                Pending::LateAccessDone(late) => staging.late_access_done(late),
                Pending::LateRelease { request_hash, bytes } => staging.late_release(request_hash, bytes)?,
                Pending::LateReleaseDone { request_hash } => staging.late_release_done(request_hash),
            }
        }
        staging.commit()
    }
}

/// Writes not yet done; reads through it see them.
pub(super) struct Staging<'a> {
    pub(super) inner: &'a Inner,
    /// No other writer between what was read here and what is written.
    _writer: MutexGuard<'a, ()>,
    /// Sealed values; `None` deletes.
    rows: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    /// Subjects whose records change.
    pub(super) changed: Vec<[u8; 32]>,
    bytes: usize,
}

impl<'a> Staging<'a> {
    pub(super) fn new(inner: &'a Inner, writer: MutexGuard<'a, ()>) -> Self {
        Self { inner, _writer: writer, rows: BTreeMap::new(), changed: Vec::new(), bytes: 0 }
    }

    pub(super) fn put(&mut self, key: Vec<u8>, plain: &[u8]) -> Result<()> {
        if plain.len() > MAX_VALUE_BYTES {
            let (bytes, max_bytes) = (plain.len(), MAX_VALUE_BYTES);
            return Err(VaultError::TooLarge { what: "a value", bytes, max_bytes });
        }
        let sealed = self.inner.sealer.seal(&key, plain)?;
        self.bytes += key.len() + sealed.len();
        if self.bytes > MAX_BATCH_BYTES {
            return Err(VaultError::TooLarge {
                what: "a batch",
                bytes: self.bytes,
                max_bytes: MAX_BATCH_BYTES,
            });
        }
        self.rows.insert(key, Some(sealed));
        Ok(())
    }

    pub(super) fn put_message(&mut self, key: Vec<u8>, message: &impl Message) -> Result<()> {
        self.put(key, &message.encode_to_vec())
    }

    pub(super) fn delete(&mut self, key: Vec<u8>) {
        self.rows.insert(key, None);
    }

    pub(super) fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        match self.rows.get(key) {
            Some(Some(sealed)) => self.inner.sealer.open(key, sealed).map(Some),
            Some(None) => Ok(None),
            None => self.inner.get(key),
        }
    }

    pub(super) fn get_message<M: Message + Default>(&self, key: &[u8]) -> Result<Option<M>> {
        self.get(key)?.map(|plain| decode(&plain)).transpose()
    }

    /// Puts everything into the log in one batch: the ticket whose sync makes it durable.
    pub(super) fn commit(self) -> Result<u64> {
        let syncer = &self.inner.syncer;
        if self.rows.is_empty() {
            return Ok(syncer.newest());
        }
        let mut batch = WriteBatch::default();
        for (key, value) in &self.rows {
            match value {
                Some(sealed) => batch.put(key, sealed),
                None => batch.delete(key),
            }
        }
        let written = crate::fault::error("vault-write")
            .map_err(|error| VaultError::Storage { what: format!("write: {error}") })
            .and_then(|()| {
                self.inner.db.write(batch).map_err(|error| VaultError::from_store("write", error))
            });
        written.map_err(|error| syncer.failed(error))?;
        self.inner.count_changes(self.changed.iter());
        Ok(syncer.wrote())
    }
}
