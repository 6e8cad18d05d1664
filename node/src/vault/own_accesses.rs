//! What this node's clients got: one line for each release, found by client, newest first.
//!
//! ```text
//! key = table ‖ keyed hash of the client ‖ 2^64 - 1 - block time ‖ keyed hash of the request hash
//! ```
//! Written in the batch that stores the bundle, and kept as long as that.

use std::fmt;

use super::seal::Table;
use super::staging::Staging;
use super::{array, decode, Result, Vault, VaultError};

/// A place in a client's list: the end of a row's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor(pub(super) [u8; 40]);

impl Cursor {
    /// Before every row.
    pub const START: Self = Self([0; 40]);
}

/// One release that a client got. `Debug` hides whose records they were.
#[derive(Clone, PartialEq, Eq)]
pub struct OwnAccess {
    /// The client's name for the request.
    pub request_id: String,
    /// Hash of the signed request.
    pub request_hash: [u8; 32],
    /// Encoding of the `DataRequest`.
    pub request: Vec<u8>,
    /// PERMIT or PERMIT_OVERRIDE.
    pub outcome: String,
    /// Number of resources.
    pub resources: u64,
    /// Height of the block that holds the access.
    pub height: u64,
    /// Its block time in milliseconds since 1970.
    pub time_ms: u64,
    /// Hash of the entry that recorded it.
    pub entry_hash: [u8; 32],
}

impl fmt::Debug for OwnAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnAccess")
            .field("height", &self.height)
            .field("resources", &self.resources)
            .finish_non_exhaustive()
    }
}

#[derive(Clone, PartialEq, prost::Message)]
struct Stored {
    #[prost(string, tag = "1")]
    request_id: String,
    #[prost(bytes = "vec", tag = "2")]
    request_hash: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    request: Vec<u8>,
    #[prost(string, tag = "4")]
    outcome: String,
    #[prost(uint64, tag = "5")]
    resources: u64,
    #[prost(uint64, tag = "6")]
    height: u64,
    #[prost(uint64, tag = "7")]
    time_ms: u64,
    #[prost(bytes = "vec", tag = "8")]
    entry_hash: Vec<u8>,
}

impl TryFrom<Stored> for OwnAccess {
    type Error = VaultError;

    fn try_from(stored: Stored) -> Result<Self> {
        Ok(Self {
            request_id: stored.request_id,
            request_hash: array(&stored.request_hash, "an access's request hash")?,
            request: stored.request,
            outcome: stored.outcome,
            resources: stored.resources,
            height: stored.height,
            time_ms: stored.time_ms,
            entry_hash: array(&stored.entry_hash, "an access's entry hash")?,
        })
    }
}

impl Vault {
    /// A client's releases, newest first, at most `limit`, from behind `after` on; and the place of the last when there are
    /// more. The client is its SPIFFE id.
    pub fn own_accesses(
        &self,
        client: &str,
        after: Option<Cursor>,
        limit: usize,
    ) -> Result<(Vec<OwnAccess>, Option<Cursor>)> {
        let prefix = self.key(Table::OwnAccess, &[client.as_bytes()]);
        let mut from = prefix.clone();
        if let Some(Cursor(place)) = after {
            from.extend_from_slice(&place);
            from.push(0); // behind that row, whose key is shorter
        }
        let (mut found, mut last) = (Vec::new(), None);
        let start = rocksdb::IteratorMode::From(&from, rocksdb::Direction::Forward);
        for item in self.inner.db.iterator(start) {
            let (key, sealed) = item.map_err(|error| self.inner.unread(error))?;
            let Some(place) = key.strip_prefix(prefix.as_slice()) else { break };
            if found.len() == limit {
                return Ok((found, last));
            }
            found.push(decode::<Stored>(&self.inner.open(&key, &sealed)?)?.try_into()?);
            last = place.try_into().ok().map(Cursor);
        }
        Ok((found, None))
    }

    /// A place as a text that only this vault reads, and only for the same client.
    pub fn page_token(&self, client: &str, Cursor(place): Cursor) -> Result<String> {
        let row = self.key(Table::PageToken, &[client.as_bytes()]);
        Ok(hex::encode(self.inner.sealer.seal(&row, &place)?))
    }

    /// The place in a token of this client; none for anything else.
    pub fn read_page_token(&self, client: &str, token: &str) -> Option<Cursor> {
        let row = self.key(Table::PageToken, &[client.as_bytes()]);
        let place = self.inner.sealer.open(&row, &hex::decode(token).ok()?).ok()?;
        place.try_into().ok().map(Cursor)
    }
}

impl Staging<'_> {
    pub(super) fn own_access(&mut self, client: &str, access: &OwnAccess) -> Result<()> {
        let mut row = self.inner.sealer.key(Table::OwnAccess, &[client.as_bytes()]);
        row.extend_from_slice(&(u64::MAX - access.time_ms).to_be_bytes());
        row.extend_from_slice(&self.inner.sealer.tag(Table::OwnAccess, &[&access.request_hash]));
        let stored = Stored {
            request_id: access.request_id.clone(),
            request_hash: access.request_hash.to_vec(),
            request: access.request.clone(),
            outcome: access.outcome.clone(),
            resources: access.resources,
            height: access.height,
            time_ms: access.time_ms,
            entry_hash: access.entry_hash.to_vec(),
        };
        self.put_message(row, &stored)
    }
}
