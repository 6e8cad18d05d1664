//! What clients asked and were told, so that a retry under the same id gets the same answer.

use std::fmt;

use super::seal::Table;
use super::staging::Staging;
use super::{array, Pending, Result, Vault, VaultError};

/// The most rows that pruning deletes in one batch.
const PRUNE_BATCH_ROWS: usize = 1_000;
/// A row of the time index: table, 8 bytes of milliseconds, keyed hash.
const TIME_KEY_BYTES: usize = 1 + 8 + 32;

/// One request of a client. `Debug` hides the reply.
#[derive(Clone, PartialEq, Eq)]
pub struct RequestRecord {
    /// Hash of the request's body: another body under the same id is refused.
    pub body_hash: [u8; 32],
    /// The encoded reply; empty while there is none.
    pub reply: Vec<u8>,
    /// The entry it led to.
    pub entry_hash: Option<[u8; 32]>,
    /// When it came, in milliseconds since 1970.
    pub created_ms: u64,
}

impl fmt::Debug for RequestRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestRecord")
            .field("created_ms", &self.created_ms)
            .field("reply_bytes", &self.reply.len())
            .finish_non_exhaustive()
    }
}

#[derive(Clone, PartialEq, prost::Message)]
struct Stored {
    #[prost(bytes = "vec", tag = "1")]
    body_hash: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    reply: Vec<u8>,
    #[prost(bytes = "vec", optional, tag = "3")]
    entry_hash: Option<Vec<u8>>,
    #[prost(uint64, tag = "4")]
    created_ms: u64,
}

impl TryFrom<Stored> for RequestRecord {
    type Error = VaultError;

    fn try_from(stored: Stored) -> Result<Self> {
        Ok(Self {
            body_hash: array(&stored.body_hash, "a request's body hash")?,
            entry_hash: stored.entry_hash.map(|hash| array(&hash, "a request's entry hash")).transpose()?,
            reply: stored.reply,
            created_ms: stored.created_ms,
        })
    }
}

impl Vault {
    /// What is stored under a client's request id. The client is its SPIFFE id.
    pub fn get_request(&self, client: &str, request_id: &str) -> Result<Option<RequestRecord>> {
        let row = self.key(Table::Request, &[client.as_bytes(), request_id.as_bytes()]);
        self.get_message::<Stored>(&row)?.map(RequestRecord::try_from).transpose()
    }

    /// Stores a request, replacing what is there (a reply that came later). To take an id that must be free, use
    /// [`Pending::NewRequest`].
    pub fn put_request(&self, client: &str, request_id: &str, record: &RequestRecord) -> Result<()> {
        self.put_pending(&[Pending::Request { client, request_id, record }])
    }

    /// Deletes the requests created before a time; returns how many.
    pub fn prune_requests(&self, before_ms: u64) -> Result<u64> {
        let mut pruned = 0;
        loop {
            let mut staging = self.stage();
            let mut rows = Vec::new();
            staging.inner.scan(&[Table::RequestByTime as u8], |key, _| {
                let old = matches!(time_of(key)?, (created_ms, _) if created_ms < before_ms);
                if old {
                    rows.push(key.to_vec());
                }
                Ok(old && rows.len() < PRUNE_BATCH_ROWS)
            })?;
            let full = rows.len() == PRUNE_BATCH_ROWS;
            pruned += rows.len() as u64;
            for key in rows {
                let (_, request) = time_of(&key)?;
                staging.delete(request);
                staging.delete(key);
            }
            self.wait_durable(staging.commit()?)?;
            if !full {
                return Ok(pruned);
            }
        }
    }
}

impl Staging<'_> {
    pub(super) fn request(
        &mut self,
        client: &str,
        id: &str,
        record: &RequestRecord,
        only_new: bool,
    ) -> Result<()> {
        let row = self.inner.sealer.key(Table::Request, &[client.as_bytes(), id.as_bytes()]);
        if let Some(old) = self.get_message::<Stored>(&row)? {
            if only_new {
                return Err(VaultError::Exists { what: "a request with this id" });
            }
            self.delete(time_key(old.created_ms, &row));
        }
        self.put(time_key(record.created_ms, &row), &[])?;
        let stored = Stored {
            body_hash: record.body_hash.to_vec(),
            reply: record.reply.clone(),
            entry_hash: record.entry_hash.map(|hash| hash.to_vec()),
            created_ms: record.created_ms,
        };
        self.put_message(row, &stored)
    }
}

/// Ordered by time; the rest is the request's keyed hash.
fn time_key(created_ms: u64, request_row: &[u8]) -> Vec<u8> {
    let mut key = vec![Table::RequestByTime as u8];
    key.extend_from_slice(&created_ms.to_be_bytes());
    key.extend_from_slice(request_row.get(1..).unwrap_or_default());
    key
}

/// The time in a row of the time index, and the row of its request.
fn time_of(key: &[u8]) -> Result<(u64, Vec<u8>)> {
    let parts = (key.len() == TIME_KEY_BYTES).then(|| key.split_at(9));
    let time = parts.and_then(|(head, _)| <[u8; 8]>::try_from(head.get(1..)?).ok());
    match (time, parts) {
        (Some(time), Some((_, hash))) => {
            let mut request = vec![Table::Request as u8];
            request.extend_from_slice(hash);
            Ok((u64::from_be_bytes(time), request))
        }
        _ => Err(VaultError::Corrupt { what: format!("a row of the time index has {} bytes", key.len()) }),
    }
}
