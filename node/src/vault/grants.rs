//! Grants that wait for the patient's signature: what was prepared under a commitment.

use super::seal::Table;
use super::staging::Staging;
use super::{array, Result, Vault};

/// A prepared grant, beside the consents that its commitment stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingGrant {
    /// Consent sequence that the slot must have.
    pub consent_seq: u64,
    /// The new control key, if there is one.
    pub new_control_key: Option<[u8; 32]>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Stored {
    #[prost(uint64, tag = "1")]
    consent_seq: u64,
    #[prost(bytes = "vec", optional, tag = "2")]
    new_control_key: Option<Vec<u8>>,
}

impl Vault {
    /// The grant that was prepared under a commitment to a subject's consents.
    pub fn pending_grant(&self, handle: &[u8; 32], commitment: &[u8; 32]) -> Result<Option<PendingGrant>> {
        let row = self.key(Table::PendingGrant, &[handle, commitment]);
        let Some(stored) = self.get_message::<Stored>(&row)? else {
            return Ok(None);
        };
        let key = stored.new_control_key.map(|key| array(&key, "a grant's control key")).transpose()?;
        Ok(Some(PendingGrant { consent_seq: stored.consent_seq, new_control_key: key }))
    }
}

impl Staging<'_> {
    pub(super) fn grant(
        &mut self,
        handle: &[u8; 32],
        commitment: &[u8; 32],
        grant: &PendingGrant,
    ) -> Result<()> {
        let row = self.inner.sealer.key(Table::PendingGrant, &[handle, commitment]);
        let stored = Stored {
            consent_seq: grant.consent_seq,
            new_control_key: grant.new_control_key.map(|key| key.to_vec()),
        };
        self.put_message(row, &stored)
    }
}
