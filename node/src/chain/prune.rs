//! Forgetting entries: below a height a block keeps its header, the certificates and the leaf hashes, so that every proof that
//! anybody keeps still verifies; the plan, where it recovered a lost quorum ([`super::recoveries`]);
//! and the entries that concern this node's own organization, so that its receipts and histories
//! can still be made.
//!
//! | meta | says |
//! |---|---|
//! | "whole-from" | first height from which on all blocks are whole; 1 when it is absent |
//! | "own-gap" | heights from .. to whose own entries are not here: this node joined from a snapshot of a peer that lacked them |

use assent_ledger::log::LogRead;
use assent_proto::ledger::v1::{operation::Kind, Block, Certificate, Entry, EntryBody, Header, PrunedBlock};
use prost::Message;
use rocksdb::{WriteBatch, WriteOptions};

use super::layout::height_key;
use super::store::{storage, Store};
use super::stored::{KeptEntry, StoredPruned};
use super::view::View;
use crate::order::Fatal;

/// Header and certificate of a committed block, whole or pruned.
pub struct Sealed {
    /// Exact bytes of the header.
    pub header_bytes: Vec<u8>,
    /// The header.
    pub header: Header,
    /// Certificate over it.
    pub certificate: Certificate,
}

/// Heights from .. to.
pub type Heights = (u64, u64);

pub(super) fn decode_height(bytes: &[u8]) -> Result<u64, Fatal> {
    let bytes = bytes.try_into().map_err(|_| Fatal::Corrupt("a stored height is no number".into()))?;
    Ok(u64::from_be_bytes(bytes))
}

/// True when an entry concerns an organization: as its author, or as the custodian that an operation names. What does not decode
/// concerns nobody.
pub fn concerns(entry: &[u8], organization: &str) -> bool {
    let Ok(body) = Entry::decode(entry).and_then(|entry| EntryBody::decode(entry.body.as_slice())) else {
        return false;
    };
    let named = |kind: &Kind| match kind {
        Kind::SetConsent(op) => op.custodian == organization,
        Kind::Withdraw(op) => op.custodian == organization,
        Kind::RecordAccess(op) => op.custodian == organization,
        Kind::CancelReplacement(op) => op.custodian == organization,
        _ => false,
    };
    body.author == organization || body.operations.iter().filter_map(|o| o.kind.as_ref()).any(named)
}

/// The entries that concern an organization, with their places.
pub fn concerning(entries: &[Vec<u8>], organization: &str) -> Vec<KeptEntry> {
    let kept = (0u64..).zip(entries).filter(|(_, bytes)| concerns(bytes, organization));
    kept.map(|(index, bytes)| KeptEntry { index, bytes: bytes.clone() }).collect()
}

impl Store {
    /// First height from which on all blocks are whole; of a node that joined from a snapshot, the one above it.
    pub fn whole_from(&self) -> Result<u64, Fatal> {
        self.get("meta", b"whole-from")?.map_or(Ok(1), |bytes| decode_height(&bytes))
    }

    /// Forgets entries of at most `max_heights` blocks more than `keep_blocks` below the tip; returns of how many.
    pub fn prune(&self, keep_blocks: u64, own: &str, max_heights: u64) -> Result<u64, Fatal> {
        let from = self.whole_from()?;
        let until =
            (self.tip()?.height + 1).saturating_sub(keep_blocks).min(from.saturating_add(max_heights));
        if keep_blocks == 0 || until <= from {
            return Ok(0);
        }
        let mut batch = WriteBatch::default();
        for height in from..until {
            let bytes = self.block(height)?.ok_or_else(|| missing(height))?;
            let block = decode_block(height, &bytes)?;
            let pruned = StoredPruned {
                entries: block.entries.len() as u64,
                kept: concerning(&block.entries, own),
                header: block.header,
                previous_certificate: block.previous_certificate,
            };
            batch.put_cf(self.family("pruned")?, height_key(height), pruned.encode_to_vec());
            batch.delete_cf(self.family("blocks")?, height_key(height));
        }
        batch.put_cf(self.family("meta")?, b"whole-from", until.to_be_bytes());
        // Not synced: what a crash undoes is pruned again.
        self.db.write_opt(batch, &WriteOptions::default()).map_err(storage)?;
        Ok(until - from)
    }
}

pub(super) fn missing(height: u64) -> Fatal {
    Fatal::Corrupt(format!("block {height} is missing"))
}

pub(super) fn decode_block(height: u64, bytes: &[u8]) -> Result<Block, Fatal> {
    Block::decode(bytes).map_err(|_| Fatal::Corrupt(format!("block of height {height} does not decode")))
}

impl View<'_> {
    /// As [`Store::whole_from`].
    pub fn whole_from(&self) -> Result<u64, Fatal> {
        self.get("meta", b"whole-from")?.map_or(Ok(1), |bytes| decode_height(&bytes))
    }

    /// Heights whose entries that concern this organization are not here.
    pub fn own_gap(&self) -> Result<Option<Heights>, Fatal> {
        let Some(bytes) = self.get("meta", b"own-gap")? else { return Ok(None) };
        let (from, to) =
            bytes.split_at_checked(8).ok_or_else(|| Fatal::Corrupt("own-gap is too short".into()))?;
        Ok(Some((decode_height(from)?, decode_height(to)?)))
    }

    /// True when the entries of a height that concern this organization are not here.
    pub fn lacks_own(&self, height: u64) -> Result<bool, Fatal> {
        Ok(self.own_gap()?.is_some_and(|(from, to)| (from..=to).contains(&height)))
    }

    pub(super) fn stored_pruned(&self, height: u64) -> Result<Option<StoredPruned>, Fatal> {
        let found = self.get("pruned", &height_key(height))?;
        let decode = |bytes: Vec<u8>| StoredPruned::decode(bytes.as_slice());
        let decoded = found.map(decode).transpose();
        decoded.map_err(|_| Fatal::Corrupt(format!("pruned block {height} does not decode")))
    }

    /// Header and certificate of a height; none beyond the tip.
    pub fn sealed(&self, height: u64) -> Result<Option<Sealed>, Fatal> {
        if let Some(whole) = self.committed(height)? {
            let header_bytes = whole.block.header;
            return Ok(Some(Sealed { header_bytes, header: whole.header, certificate: whole.certificate }));
        }
        let Some(pruned) = self.stored_pruned(height)? else { return Ok(None) };
        let corrupt =
            |what: &str| Fatal::Corrupt(format!("{what} of height {height} is missing or does not decode"));
        let header = Header::decode(pruned.header.as_slice()).map_err(|_| corrupt("header"))?;
        let certificate =
            self.get("certificates", &height_key(height))?.ok_or_else(|| corrupt("certificate"))?;
        let certificate = Certificate::decode(certificate.as_slice()).map_err(|_| corrupt("certificate"))?;
        Ok(Some(Sealed { header_bytes: pruned.header, header, certificate }))
    }

    /// What a pruned block shows to an auditor; none for one that is whole.
    pub fn pruned(&self, height: u64) -> Result<Option<PrunedBlock>, Fatal> {
        let Some(stored) = self.stored_pruned(height)? else { return Ok(None) };
        let leaf_hashes = self.leaf_hashes(height, &stored.header, stored.entries)?;
        let StoredPruned { header, previous_certificate, .. } = stored;
        let recovery = self.recovery_behind(height.saturating_sub(1))?;
        Ok(Some(PrunedBlock { header, previous_certificate, leaf_hashes, recovery }))
    }

    /// Leaf hashes of a block's entries.
    pub(super) fn leaf_hashes(
        &self,
        height: u64,
        header: &[u8],
        entries: u64,
    ) -> Result<Vec<Vec<u8>>, Fatal> {
        let header =
            Header::decode(header).map_err(|e| Fatal::Corrupt(format!("header of {height}: {e}")))?;
        let first = header.log_size.saturating_sub(entries);
        let leaf = |n| LogRead::node(self, 0, n).map(|hash| hash.to_vec());
        let hashes = (first..header.log_size).map(leaf).collect::<Option<Vec<_>>>();
        hashes.ok_or_else(|| Fatal::Corrupt(format!("leaf hashes of block {height} are missing")))
    }

    /// The entries of a height that concern this organization, and, where it is whole, all others; with their places. None when
    /// they are not here: pruned elsewhere before this node joined.
    pub fn own_entries(&self, height: u64) -> Result<Option<Vec<KeptEntry>>, Fatal> {
        if let Some(whole) = self.committed(height)? {
            let entries = (0u64..).zip(whole.block.entries).map(|(index, bytes)| KeptEntry { index, bytes });
            return Ok(Some(entries.collect()));
        }
        if self.lacks_own(height)? {
            return Ok(None);
        }
        self.stored_pruned(height)?.map(|pruned| Some(pruned.kept)).ok_or_else(|| missing(height))
    }
}
