//! Releases without quorum: what the custodian owes the ledger, and what the recipient holds until there is a receipt.
//!
//! ```text
//! LateAccess   keyed hash of recipient, actor ‖ keyed hash of the request hash   custodian; gone once it is committed
//! LateRelease  keyed hash of the request hash                                   recipient; gone once there is a receipt
//! ```

use std::fmt;

use super::seal::Table;
use super::staging::Staging;
use super::{array, decode, Result, Vault, VaultError};

/// An access that was released under break-glass without quorum, and is not known to be in the ledger yet.
#[derive(Clone, PartialEq, Eq)]
pub struct LateAccess {
    /// Hash of the signed request.
    pub request_hash: [u8; 32],
    /// The subject.
    pub handle: [u8; 32],
    /// Commitment to the access event.
    pub commitment: [u8; 32],
    /// Organization that asked.
    pub recipient: String,
    /// Person who acted, as asserted.
    pub actor: String,
    /// The newest signed entry that is to record it; empty before the first.
    pub entry: Vec<u8>,
}

impl fmt::Debug for LateAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LateAccess").field("entry_bytes", &self.entry.len()).finish_non_exhaustive()
    }
}

#[derive(Clone, PartialEq, prost::Message)]
struct Stored {
    #[prost(bytes = "vec", tag = "1")]
    request_hash: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    handle: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    commitment: Vec<u8>,
    #[prost(string, tag = "4")]
    recipient: String,
    #[prost(string, tag = "5")]
    actor: String,
    #[prost(bytes = "vec", tag = "6")]
    entry: Vec<u8>,
}

impl TryFrom<Stored> for LateAccess {
    type Error = VaultError;

    fn try_from(stored: Stored) -> Result<Self> {
        Ok(Self {
            request_hash: array(&stored.request_hash, "a late access's request hash")?,
            handle: array(&stored.handle, "a late access's handle")?,
            commitment: array(&stored.commitment, "a late access's commitment")?,
            recipient: stored.recipient,
            actor: stored.actor,
            entry: stored.entry,
        })
    }
}

impl Vault {
    /// Everything that this custodian owes the ledger.
    pub fn late_accesses(&self) -> Result<Vec<LateAccess>> {
        let mut found = Vec::new();
        self.inner.scan(&[Table::LateAccess as u8], |_, plain| {
            found.push(decode::<Stored>(&plain)?.try_into()?);
            Ok(true)
        })?;
        Ok(found)
    }

    /// How much of it is one person's, as one organization asserts them.
    pub fn late_accesses_of(&self, recipient: &str, actor: &str) -> Result<usize> {
        let mut count = 0;
        let prefix = self.key(Table::LateAccess, &[recipient.as_bytes(), actor.as_bytes()]);
        self.inner.scan(&prefix, |_, _| {
            count += 1;
            Ok(true)
        })?;
        Ok(count)
    }

    /// Encoded `LateBundle` that this node received for a request, and has no receipt for.
    pub fn late_release(&self, request_hash: &[u8; 32]) -> Result<Option<Vec<u8>>> {
        self.get(&self.key(Table::LateRelease, &[request_hash]))
    }
}

impl Staging<'_> {
    fn late_row(&self, late: &LateAccess) -> Vec<u8> {
        let sealer = &self.inner.sealer;
        let mut row = sealer.key(Table::LateAccess, &[late.recipient.as_bytes(), late.actor.as_bytes()]);
        row.extend_from_slice(&sealer.tag(Table::LateAccess, &[&late.request_hash]));
        row
    }

    pub(super) fn late_access(&mut self, late: &LateAccess) -> Result<()> {
        let stored = Stored {
            request_hash: late.request_hash.to_vec(),
            handle: late.handle.to_vec(),
            commitment: late.commitment.to_vec(),
            recipient: late.recipient.clone(),
            actor: late.actor.clone(),
            entry: late.entry.clone(),
        };
        self.put_message(self.late_row(late), &stored)
    }

    pub(super) fn late_access_done(&mut self, late: &LateAccess) {
        self.delete(self.late_row(late));
    }

    pub(super) fn late_release(&mut self, request_hash: &[u8; 32], bytes: &[u8]) -> Result<()> {
        self.put(self.inner.sealer.key(Table::LateRelease, &[request_hash]), bytes)
    }

    pub(super) fn late_release_done(&mut self, request_hash: &[u8; 32]) {
        self.delete(self.inner.sealer.key(Table::LateRelease, &[request_hash]));
    }
}
