//! Records: FHIR resources, kept as the exact bytes received, with an index from subject to record.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use super::seal::Table;
use super::staging::Staging;
use super::{array, decode, Inner, Pending, Result, Vault, VaultError};

/// One resource. Its `Debug` shows only its type and size.
#[derive(Clone, PartialEq, Eq)]
pub struct Record {
    /// `Observation/1`.
    pub reference: String,
    /// `Observation`.
    pub resource_type: String,
    /// Handles of the subjects it is about.
    pub subjects: Vec<[u8; 32]>,
    /// The bytes as received.
    pub bytes: Vec<u8>,
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record")
            .field("resource_type", &self.resource_type)
            .field("bytes", &self.bytes.len())
            .finish_non_exhaustive()
    }
}

#[derive(Clone, PartialEq, prost::Message)]
struct Stored {
    #[prost(string, tag = "1")]
    reference: String,
    #[prost(string, tag = "2")]
    resource_type: String,
    #[prost(bytes = "vec", repeated, tag = "3")]
    subjects: Vec<Vec<u8>>,
    #[prost(bytes = "vec", tag = "4")]
    bytes: Vec<u8>,
}

impl TryFrom<Stored> for Record {
    type Error = VaultError;

    fn try_from(stored: Stored) -> Result<Self> {
        Ok(Self {
            reference: stored.reference,
            resource_type: stored.resource_type,
            subjects: stored
                .subjects
                .iter()
                .map(|s| array(s, "a record's subject"))
                .collect::<Result<_>>()?,
            bytes: stored.bytes,
        })
    }
}

impl Vault {
    /// Stores records in one synced batch. One with a known reference replaces it; of two in one call the last counts.
    pub fn put_records(&self, records: &[Record]) -> Result<()> {
        self.put_pending(&[Pending::Records(records)])
    }

    /// Grows whenever records of a subject (or of another in its bucket) are written: what was read before may be old then.
    pub fn record_changes(&self, handle: &[u8; 32]) -> u64 {
        self.inner.changes_of(handle).load(Ordering::Acquire)
    }

    /// Everything stored about a subject, ordered by reference.
    pub fn records_of(&self, handle: &[u8; 32]) -> Result<Vec<Record>> {
        Ok(self.records_up_to(handle, usize::MAX)?.unwrap_or_default())
    }

    /// The same; none when it is more than so many bytes.
    pub fn records_up_to(&self, handle: &[u8; 32], max_bytes: usize) -> Result<Option<Vec<Record>>> {
        let inner = &self.inner;
        let mut bytes = 0;
        // Index and records from one moment, though others write meanwhile.
        let snapshot = inner.db.snapshot();
        let mut found = BTreeMap::new();
        let prefix = self.key(Table::RecordBySubject, &[handle]);
        let from = rocksdb::IteratorMode::From(&prefix, rocksdb::Direction::Forward);
        let mut options = rocksdb::ReadOptions::default();
        options.set_iterate_range(rocksdb::PrefixRange(prefix.as_slice()));
        for item in snapshot.iterator_opt(from, options) {
            let (key, sealed) = item.map_err(|error| inner.unread(error))?;
            if !key.starts_with(&prefix) {
                break;
            }
            let row = inner.open(&key, &sealed)?;
            let sealed = snapshot.get(&row).map_err(|error| inner.unread(error))?;
            let sealed = sealed.ok_or_else(|| VaultError::Corrupt {
                what: "the index names a record that is not there".into(),
            })?;
            bytes += sealed.len();
            if bytes > max_bytes {
                return Ok(None);
            }
            let record = Record::try_from(decode::<Stored>(&inner.open(&row, &sealed)?)?)?;
            if !record.subjects.contains(handle) {
                return Err(VaultError::Corrupt {
                    what: "the index names a record of another subject".into(),
                });
            }
            found.insert(record.reference.clone(), record);
        }
        Ok(Some(found.into_values().collect()))
    }
}

impl Inner {
    fn changes_of(&self, handle: &[u8; 32]) -> &AtomicU64 {
        let bucket = usize::from(u16::from_be_bytes([handle[0], handle[1]])) % self.record_changes.len();
        &self.record_changes[bucket]
    }

    /// Counts, once the records are there for readers.
    pub(super) fn count_changes<'a>(&self, handles: impl Iterator<Item = &'a [u8; 32]>) {
        for handle in handles {
            self.changes_of(handle).fetch_add(1, Ordering::AcqRel);
        }
    }
}

impl Staging<'_> {
    pub(super) fn records(&mut self, records: &[Record]) -> Result<()> {
        for record in records {
            let row = self.inner.sealer.key(Table::Record, &[record.reference.as_bytes()]);
            if let Some(old) = self.get_message::<Stored>(&row)? {
                for subject in &old.subjects {
                    self.delete(self.index_key(subject, &row));
                    self.changed.push(array(subject, "a record's subject")?);
                }
            }
            // Only after the old ones are gone: most subjects stay the same.
            for subject in record.subjects.iter().collect::<BTreeSet<_>>() {
                self.put(self.index_key(subject, &row), &row)?;
                self.changed.push(*subject);
            }
            let stored = Stored {
                reference: record.reference.clone(),
                resource_type: record.resource_type.clone(),
                subjects: record.subjects.iter().map(|s| s.to_vec()).collect(),
                bytes: record.bytes.clone(),
            };
            self.put_message(row, &stored)?;
        }
        Ok(())
    }

    /// All records of a subject share the first 33 bytes.
    fn index_key(&self, subject: &[u8], row: &[u8]) -> Vec<u8> {
        let mut key = self.inner.sealer.key(Table::RecordBySubject, &[subject]);
        key.extend_from_slice(row);
        key
    }
}
