//! Asks for consent: those that wait for this custodian's patients, and those that this organization's own clients made.
//!
//! ```text
//! Ask         table ‖ keyed hash of the ask's id                                            what was asked, and its answer
//! AskOfSubject table ‖ keyed hash of the handle ‖ 2^64 - 1 - block time ‖ keyed hash of id  newest first
//! AskPlaces   table ‖ keyed hash of who asks whom                                           which places are taken, until when
//! OwnAsk      table ‖ keyed hash of the ask's id                                            what a client asked through this node
//! ```
//! An ask that is not kept (nobody knows the patient, no place is free, it is there already) writes rows of the same sizes
//! elsewhere: how long a custodian takes to answer must not tell one from the other.

use std::fmt;

use assent_proto::ledger::v1::Signed;

use super::seal::Table;
use super::staging::Staging;
use super::{array, Result, Vault, VaultError};

/// Most asks at once of one recipient to one patient.
pub const MAX_OPEN_ASKS: usize = 32;
/// An ask that expires at once keeps its place for a day: nobody fills the vault by asking over and over.
const PLACE_LIFE_MS: u64 = 24 * 3_600_000;

/// A place in a patient's list of asks: the end of a row's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AskPlace(pub [u8; 40]);

/// An ask that waits for a patient of this custodian. `Debug` hides what it says.
#[derive(Clone, PartialEq)]
pub struct Ask {
    /// The signed `ConsentAsk`.
    pub signed: Signed,
    /// The subject who is asked.
    pub handle: [u8; 32],
    /// Organization that asks.
    pub recipient: String,
    /// Block time at which it came.
    pub time_ms: u64,
    /// When it expires unanswered.
    pub not_after_ms: u64,
    /// What the patient said.
    pub answered: Option<Answered>,
}

/// What a patient said to an ask. `Debug` hides it.
#[derive(Clone, PartialEq, prost::Message)]
#[prost(skip_debug)]
pub struct Answered {
    /// The signed entry that records the consent; it counts once that is committed. Empty: declined.
    #[prost(bytes = "vec", tag = "1")]
    pub entry: Vec<u8>,
    /// Id of the consent.
    #[prost(string, tag = "2")]
    pub consent_id: String,
    /// Block time of the answer.
    #[prost(uint64, tag = "3")]
    pub time_ms: u64,
}

/// An ask that one of this organization's clients made. `Debug` hides what it says.
#[derive(Clone, PartialEq)]
pub struct OwnAsk {
    /// The client: its SPIFFE id.
    pub client: String,
    /// The signed `ConsentAsk`.
    pub signed: Signed,
}

/// One of the writes about asks.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub enum AskWrite<'a> {
    /// An ask that came. Kept if `keep`, a place is free and it is not there yet; written elsewhere otherwise.
    Came { id: &'a [u8; 32], ask: &'a Ask, keep: bool },
    /// The patient's answer to an ask that is kept.
    Answer { id: &'a [u8; 32], answered: &'a Answered },
    /// What an own client asks, of whom.
    Own { id: &'a [u8; 32], ask: &'a OwnAsk, patient: [&'a str; 4], now_ms: u64, not_after_ms: u64 },
}

impl fmt::Debug for Ask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ask").field("recipient", &self.recipient).finish_non_exhaustive()
    }
}

impl fmt::Debug for Answered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answered").finish_non_exhaustive()
    }
}

impl fmt::Debug for OwnAsk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnAsk").field("client", &self.client).finish_non_exhaustive()
    }
}

#[derive(Clone, PartialEq, prost::Message)]
struct StoredAsk {
    #[prost(message, optional, tag = "1")]
    signed: Option<Signed>,
    #[prost(bytes = "vec", tag = "2")]
    handle: Vec<u8>,
    #[prost(string, tag = "3")]
    recipient: String,
    #[prost(uint64, tag = "4")]
    time_ms: u64,
    #[prost(uint64, tag = "5")]
    not_after_ms: u64,
    #[prost(message, optional, tag = "6")]
    answered: Option<Answered>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct StoredOwnAsk {
    #[prost(string, tag = "1")]
    client: String,
    #[prost(message, optional, tag = "2")]
    signed: Option<Signed>,
}

/// Which places are taken.
#[derive(Clone, PartialEq, prost::Message)]
struct Places {
    #[prost(message, repeated, tag = "1")]
    taken: Vec<Taken>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Taken {
    #[prost(bytes = "vec", tag = "1")]
    id: Vec<u8>,
    #[prost(uint64, tag = "2")]
    until_ms: u64,
}

impl Places {
    /// Forgets what is over; true when there is a free place.
    fn is_free(&mut self, now_ms: u64) -> bool {
        self.taken.retain(|taken| taken.until_ms > now_ms);
        self.taken.len() < MAX_OPEN_ASKS
    }

    fn take(&mut self, id: &[u8; 32], now_ms: u64, not_after_ms: u64) {
        let until_ms = not_after_ms.max(now_ms.saturating_add(PLACE_LIFE_MS));
        self.taken.push(Taken { id: id.to_vec(), until_ms });
    }
}

impl From<&Ask> for StoredAsk {
    fn from(ask: &Ask) -> Self {
        Self {
            signed: Some(ask.signed.clone()),
            handle: ask.handle.to_vec(),
            recipient: ask.recipient.clone(),
            time_ms: ask.time_ms,
            not_after_ms: ask.not_after_ms,
            answered: ask.answered.clone(),
        }
    }
}

impl TryFrom<StoredAsk> for Ask {
    type Error = VaultError;

    fn try_from(stored: StoredAsk) -> Result<Self> {
        Ok(Self {
            signed: stored.signed.unwrap_or_default(),
            handle: array(&stored.handle, "an ask's handle")?,
            recipient: stored.recipient,
            time_ms: stored.time_ms,
            not_after_ms: stored.not_after_ms,
            answered: stored.answered,
        })
    }
}

impl Vault {
    /// An ask of this custodian's patients.
    pub fn ask(&self, id: &[u8; 32]) -> Result<Option<Ask>> {
        self.get_message::<StoredAsk>(&self.key(Table::Ask, &[id]))?.map(Ask::try_from).transpose()
    }

    /// A patient's asks, newest first, at most `limit`, from behind `after` on, each with its place and its id.
    pub fn asks(
        &self,
        handle: &[u8; 32],
        after: Option<AskPlace>,
        limit: usize,
    ) -> Result<Vec<(AskPlace, [u8; 32], Ask)>> {
        let prefix = self.key(Table::AskOfSubject, &[handle]);
        let mut from = prefix.clone();
        if let Some(AskPlace(place)) = after {
            from.extend_from_slice(&place);
            from.push(0); // behind that row, whose key is shorter
        }
        let mut found = Vec::new();
        let start = rocksdb::IteratorMode::From(&from, rocksdb::Direction::Forward);
        for item in self.inner.db.iterator(start) {
            let (key, sealed) = item.map_err(|error| self.inner.unread(error))?;
            let Some(place) = key.strip_prefix(prefix.as_slice()) else { break };
            if found.len() == limit {
                break;
            }
            let broken = |_| VaultError::Corrupt { what: "a row of a patient's asks has a wrong key".into() };
            let place = AskPlace(place.try_into().map_err(broken)?);
            let id = array(&self.inner.open(&key, &sealed)?, "an ask's id")?;
            let missing = || VaultError::Corrupt { what: "an ask is listed that is not there".into() };
            found.push((place, id, self.ask(&id)?.ok_or_else(missing)?));
        }
        Ok(found)
    }

    /// What an own client asked.
    pub fn own_ask(&self, id: &[u8; 32]) -> Result<Option<OwnAsk>> {
        let stored = self.get_message::<StoredOwnAsk>(&self.key(Table::OwnAsk, &[id]))?;
        Ok(stored.map(|s| OwnAsk { client: s.client, signed: s.signed.unwrap_or_default() }))
    }

    /// True when this organization may ask a patient once more: custodian, identifier system and value, birth date.
    pub fn may_ask(&self, patient: [&str; 4], now_ms: u64) -> Result<bool> {
        let row = self.key(Table::AskPlaces, &patient.map(str::as_bytes));
        Ok(self.get_message::<Places>(&row)?.unwrap_or_default().is_free(now_ms))
    }
}

impl Staging<'_> {
    pub(super) fn asks(&mut self, write: &AskWrite<'_>) -> Result<()> {
        match *write {
            AskWrite::Came { id, ask, keep } => self.ask_came(id, ask, keep),
            AskWrite::Answer { id, answered } => self.ask_answer(id, answered),
            AskWrite::Own { id, ask, patient, now_ms, not_after_ms } => {
                let row = self.inner.sealer.key(Table::AskPlaces, &patient.map(str::as_bytes));
                let mut places = self.get_message::<Places>(&row)?.unwrap_or_default();
                places.is_free(now_ms);
                places.take(id, now_ms, not_after_ms);
                self.put_message(row, &places)?;
                let stored = StoredOwnAsk { client: ask.client.clone(), signed: Some(ask.signed.clone()) };
                self.put_message(self.inner.sealer.key(Table::OwnAsk, &[id]), &stored)
            }
        }
    }

    fn ask_came(&mut self, id: &[u8; 32], ask: &Ask, keep: bool) -> Result<()> {
        let sealer = &self.inner.sealer;
        let row = sealer.key(Table::Ask, &[id]);
        let places_row = sealer.key(Table::AskPlaces, &[&ask.handle, ask.recipient.as_bytes()]);
        let mut listed = sealer.key(Table::AskOfSubject, &[&ask.handle]);
        listed.extend_from_slice(&(u64::MAX - ask.time_ms).to_be_bytes());
        listed.extend_from_slice(&sealer.tag(Table::AskOfSubject, &[id]));
        let is_new = self.get(&row)?.is_none();
        let mut places = self.get_message::<Places>(&places_row)?.unwrap_or_default();
        let is_free = places.is_free(ask.time_ms);
        let rows = match keep && is_new && is_free {
            true => [row, listed, places_row],
            // One place in each table, written over and over.
            false => [Table::Ask, Table::AskOfSubject, Table::AskPlaces].map(|table| sealer.key(table, &[])),
        };
        places.take(id, ask.time_ms, ask.not_after_ms);
        let [row, listed, places_row] = rows;
        self.put_message(row, &StoredAsk::from(ask))?;
        self.put(listed, id)?;
        self.put_message(places_row, &places)
    }

    fn ask_answer(&mut self, id: &[u8; 32], answered: &Answered) -> Result<()> {
        let row = self.inner.sealer.key(Table::Ask, &[id]);
        let missing = || VaultError::Corrupt { what: "an ask is answered that is not there".into() };
        let mut ask = Ask::try_from(self.get_message::<StoredAsk>(&row)?.ok_or_else(missing)?)?;
        ask.answered = Some(answered.clone());
        self.put_message(row, &StoredAsk::from(&ask))?;
        // Its place is free again.
        let row = self.inner.sealer.key(Table::AskPlaces, &[&ask.handle, ask.recipient.as_bytes()]);
        let mut places = self.get_message::<Places>(&row)?.unwrap_or_default();
        places.taken.retain(|taken| taken.id != id);
        self.put_message(row, &places)
    }
}
