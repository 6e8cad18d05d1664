//! Releases under break-glass: what the officer reviews, and what the patient is told. One row, found three ways.
//!
//! ```text
//! Review          request hash                          ─▶ the row
//! ReviewByTime    time ‖ keyed hash                     ─▶ request hash     oldest first; ReviewOpen the same, until closed
//! ReviewBySubject handle ‖ 2^64 - 1 - time ‖ keyed hash ─▶ request hash     newest first
//! ```
//! Written in the batch that stages the access, so no crash loses one. Whether the access came to be, the ledger says.

use std::fmt;

use super::own_accesses::Cursor;
use super::seal::Table;
use super::staging::Staging;
use super::{array, decode, Result, Vault, VaultError};

/// A page is full at this size: gRPC clients take 4 MiB by default.
const MAX_PAGE_BYTES: usize = 2 << 20;

/// One release under break-glass. `Debug` hides whose records they were.
#[derive(Clone, PartialEq, Eq)]
pub struct Review {
    /// Hash of the signed request.
    pub request_hash: [u8; 32],
    /// The subject.
    pub handle: [u8; 32],
    /// Commitment to the access event.
    pub commitment: [u8; 32],
    /// Hash of the newest entry that is to record it; none before the first of a late one.
    pub entry_hash: Option<[u8; 32]>,
    /// Time of the event in milliseconds since 1970.
    pub time_ms: u64,
    /// Encoding of the `DataRequest`.
    pub request: Vec<u8>,
    /// Number of resources.
    pub resources: u64,
    /// Released without quorum.
    pub late: bool,
    /// The officer's judgement.
    pub closed: Option<Closed>,
}

/// How an item was closed.
#[derive(Clone, PartialEq, Eq)]
pub struct Closed {
    /// Client that closed it.
    pub by: String,
    /// The officer's words.
    pub note: String,
}

impl fmt::Debug for Review {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Review")
            .field("resources", &self.resources)
            .field("late", &self.late)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Closed").finish_non_exhaustive()
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
    #[prost(bytes = "vec", optional, tag = "4")]
    entry_hash: Option<Vec<u8>>,
    #[prost(uint64, tag = "5")]
    time_ms: u64,
    #[prost(bytes = "vec", tag = "6")]
    request: Vec<u8>,
    #[prost(uint64, tag = "7")]
    resources: u64,
    #[prost(bool, tag = "8")]
    late: bool,
    #[prost(string, optional, tag = "9")]
    closed_by: Option<String>,
    #[prost(string, tag = "10")]
    note: String,
}

impl From<&Review> for Stored {
    fn from(review: &Review) -> Self {
        Self {
            request_hash: review.request_hash.to_vec(),
            handle: review.handle.to_vec(),
            commitment: review.commitment.to_vec(),
            entry_hash: review.entry_hash.map(|hash| hash.to_vec()),
            time_ms: review.time_ms,
            request: review.request.clone(),
            resources: review.resources,
            late: review.late,
            closed_by: review.closed.as_ref().map(|closed| closed.by.clone()),
            note: review.closed.as_ref().map(|closed| closed.note.clone()).unwrap_or_default(),
        }
    }
}

impl TryFrom<Stored> for Review {
    type Error = VaultError;

    fn try_from(stored: Stored) -> Result<Self> {
        let note = stored.note;
        Ok(Self {
            request_hash: array(&stored.request_hash, "a review's request hash")?,
            handle: array(&stored.handle, "a review's handle")?,
            commitment: array(&stored.commitment, "a review's commitment")?,
            entry_hash: stored.entry_hash.map(|hash| array(&hash, "a review's entry hash")).transpose()?,
            time_ms: stored.time_ms,
            request: stored.request,
            resources: stored.resources,
            late: stored.late,
            closed: stored.closed_by.map(|by| Closed { by, note }),
        })
    }
}

/// Which list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReviewList<'a> {
    /// Those that wait for the officer, oldest first.
    Open,
    /// All, oldest first.
    All,
    /// A subject's, newest first.
    Of(&'a [u8; 32]),
}

impl Vault {
    /// The release under break-glass of a request.
    pub fn review(&self, request_hash: &[u8; 32]) -> Result<Option<Review>> {
        let row = self.key(Table::Review, &[request_hash]);
        self.get_message::<Stored>(&row)?.map(Review::try_from).transpose()
    }

    /// A page of a list: those that `keep` takes, at most `limit`, from behind `after` on; and the place of the last when
    /// there are more.
    pub fn reviews<E: From<VaultError>>(
        &self,
        list: ReviewList<'_>,
        after: Option<Cursor>,
        limit: usize,
        mut keep: impl FnMut(&Review) -> Result<bool, E>,
    ) -> Result<(Vec<Review>, Option<Cursor>), E> {
        let prefix = match list {
            ReviewList::Open => vec![Table::ReviewOpen as u8],
            ReviewList::All => vec![Table::ReviewByTime as u8],
            ReviewList::Of(handle) => self.key(Table::ReviewBySubject, &[handle]),
        };
        let mut from = prefix.clone();
        if let Some(Cursor(place)) = after {
            from.extend_from_slice(&place);
            from.push(0); // behind that row, whose key is shorter
        }
        let (mut found, mut last, mut bytes) = (Vec::new(), None, 0);
        let start = rocksdb::IteratorMode::From(&from, rocksdb::Direction::Forward);
        for item in self.inner.db.iterator(start) {
            let (key, sealed) = item.map_err(|error| self.inner.unread(error))?;
            let Some(place) = key.strip_prefix(prefix.as_slice()) else { break };
            let request_hash = array(&self.inner.open(&key, &sealed)?, "an index of reviews")?;
            let missing = || VaultError::Corrupt { what: "an index names a review that is not there".into() };
            let review = self.review(&request_hash)?.ok_or_else(missing)?;
            if !keep(&review)? {
                continue;
            }
            if found.len() == limit || bytes > MAX_PAGE_BYTES {
                return Ok((found, last));
            }
            bytes += review.bytes();
            found.push(review);
            last = place.try_into().ok().map(Cursor);
        }
        Ok((found, None))
    }
}

impl Staging<'_> {
    /// A new item; or the same request's again, when its access is to be recorded by another event.
    pub(super) fn review(&mut self, review: &Review) -> Result<()> {
        let row = self.inner.sealer.key(Table::Review, &[&review.request_hash]);
        if let Some(old) = self.get_message::<Stored>(&row)? {
            for index in self.indexes(&Review::try_from(old)?) {
                self.delete(index);
            }
        }
        for index in self.indexes(review) {
            self.put(index, &review.request_hash)?;
        }
        self.put_message(row, &Stored::from(review))
    }

    /// The entry that records it now. Whatever else the item has become stays.
    pub(super) fn review_entry(&mut self, request_hash: &[u8; 32], entry_hash: &[u8; 32]) -> Result<()> {
        self.change_review(request_hash, |stored| stored.entry_hash = Some(entry_hash.to_vec()))
    }

    /// Closes an item.
    pub(super) fn close_review(&mut self, request_hash: &[u8; 32], closed: &Closed) -> Result<()> {
        self.change_review(request_hash, |stored| {
            stored.closed_by = Some(closed.by.clone());
            stored.note = closed.note.clone();
        })?;
        let row = self.inner.sealer.key(Table::Review, &[request_hash]);
        if let Some(stored) = self.get_message::<Stored>(&row)? {
            let open = self.place(Table::ReviewOpen, &Review::try_from(stored)?);
            self.delete(open);
        }
        Ok(())
    }

    fn change_review(&mut self, request_hash: &[u8; 32], change: impl FnOnce(&mut Stored)) -> Result<()> {
        let row = self.inner.sealer.key(Table::Review, &[request_hash]);
        let Some(mut stored) = self.get_message::<Stored>(&row)? else {
            return Ok(());
        };
        change(&mut stored);
        self.put_message(row, &stored)
    }

    /// Row of a list by time.
    fn place(&self, table: Table, review: &Review) -> Vec<u8> {
        let mut key = vec![table as u8];
        key.extend_from_slice(&review.time_ms.to_be_bytes());
        key.extend_from_slice(&self.inner.sealer.tag(table, &[&review.request_hash]));
        key
    }

    fn indexes(&self, review: &Review) -> Vec<Vec<u8>> {
        let sealer = &self.inner.sealer;
        let mut of_subject = sealer.key(Table::ReviewBySubject, &[&review.handle]);
        of_subject.extend_from_slice(&(u64::MAX - review.time_ms).to_be_bytes());
        of_subject.extend_from_slice(&sealer.tag(Table::ReviewBySubject, &[&review.request_hash]));
        let mut keys = vec![of_subject, self.place(Table::ReviewByTime, review)];
        if review.closed.is_none() {
            keys.push(self.place(Table::ReviewOpen, review));
        }
        keys
    }
}

impl Review {
    /// What it takes in an answer, about.
    fn bytes(&self) -> usize {
        self.request.len() + self.closed.as_ref().map_or(0, |closed| closed.by.len() + closed.note.len())
    }

    /// The request that was made.
    pub fn data_request(&self) -> Result<assent_proto::ledger::v1::DataRequest> {
        decode(&self.request)
    }
}
