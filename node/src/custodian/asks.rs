//! Asks for consent, at the custodian: they wait in the vault until the patient's portal answers. Nothing of an ask is on the
//! ledger; a grant is one ordinary `SetConsent`.
//!
//! ```text
//! ask ─▶ form, signature ─▶ kept when the patient exists ─▶ signed state, the same for everybody, at a step of time
//! answer GRANTED ─▶ consent, ask's answer and reply (one synced batch) ─▶ ledger ─▶ from then on the state says granted
//! ```
//! A grant counts when its entry is in the ledger, so a crash between vault and ledger leaves nothing half answered.

use std::time::Instant;

use assent_ledger::encoding::decode;
use assent_ledger::entry::entry_hash;
use assent_ledger::hash::Context;
use assent_ledger::receipt::{ask_hash, verify_message};
use assent_ledger::Hash;
use assent_proto::ledger::v1::{ConsentAsk, ConsentAskState, Signed};
use prost::Message;

use super::changing::patient_not_found;
use super::release::answer_step;
use super::{blocking, Custodian, PatientName};
use crate::chain::now_ms;
use crate::chain::view::View;
use crate::exchange::asks::check_form;
use crate::order::Fatal;
use crate::refusal::Refusal;
use crate::vault::{Answered, Ask, AskPlace, AskWrite, Pending};

/// Furthest that an ask's expiry may lie ahead: 30 days, and five minutes between two clocks.
const MAX_ASK_AHEAD_MS: u64 = 30 * 24 * 3_600_000 + 5 * 60 * 1000;
/// Longest ask.
const MAX_ASK_BYTES: usize = 16 << 10;
/// Asks on a page when the portal names no number.
const DEFAULT_PAGE: usize = 50;
/// Most asks on a page.
const MAX_PAGE: usize = 500;
/// Most bytes of asks on a page, unless one alone is longer: it stays below the 4 MiB that gRPC clients take.
const MAX_PAGE_BYTES: usize = 2 << 20;
/// Asks that are read at once.
const READ_ASKS: usize = 64;

/// An ask as the patient's portal sees it.
#[derive(Clone)]
pub struct AskListed {
    /// Its id.
    pub id: Hash,
    /// What was asked.
    pub ask: ConsentAsk,
    /// Block time at which it came.
    pub time_ms: u64,
    /// True for granted, false for declined; none without an answer.
    pub granted: Option<bool>,
    /// Id of the consent that a grant recorded.
    pub consent_id: String,
}

opaque_debug!(AskListed);

/// Where an ask stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    Open,
    Expired,
    Granted,
    Declined,
    /// A grant whose entry is not committed and still may be.
    UnderWay,
}

/// No patient matches exactly, for the custodian's own staff.
pub(super) fn unreadable() -> Refusal {
    Refusal::unavailable("NODE_FAILING", "a stored ask does not decode")
}

pub(super) fn read(ask: &Ask) -> Result<ConsentAsk, Refusal> {
    ConsentAsk::decode(ask.signed.body.as_slice()).map_err(|_| unreadable())
}

impl Custodian {
    /// Takes an ask that `peer` sent, for the first time or again, and says where it stands: granted or not. The same answer
    /// whether the patient declined, has not answered or is unknown.
    pub async fn take_ask(&self, peer: &str, signed: Signed) -> Result<Signed, Refusal> {
        let started = Instant::now();
        let (ask, hash) = self.check_ask(peer, &signed)?;
        self.must_be_fresh()?;
        let granted = blocking(|| self.keep_ask(&ask, &hash, signed))?;
        self.parts.vault.durable().await?;
        answer_step(started).await;
        let state = ConsentAskState { ask_hash: hash.to_vec(), granted, time_ms: self.parts.tip().time_ms };
        Ok(self.sign(Context::AskState, state.encode_to_vec()))
    }

    /// Form, addressee, signature and times. An ask that has expired is not malformed: its asker may want to know.
    fn check_ask(&self, peer: &str, signed: &Signed) -> Result<(ConsentAsk, Hash), Refusal> {
        let malformed = |what: &str| Refusal::invalid("MALFORMED_REQUEST", "ask", what.to_owned());
        let ask: ConsentAsk =
            decode("ConsentAsk", &signed.body, MAX_ASK_BYTES).map_err(|e| malformed(&e.to_string()))?;
        if ask.chain_id != self.chain_id() || ask.custodian != self.organization() {
            return Err(malformed("the ask is for another chain or custodian"));
        }
        if ask.recipient != peer || signed.organization != peer {
            return Err(malformed("the ask names another recipient than the peer that sent it"));
        }
        let client = format!("spiffe://{}/org/{peer}/", self.chain_id());
        if !ask.client.starts_with(&client) || ask.nonce.len() != 32 {
            return Err(malformed("the client is not the recipient's, or the nonce is not 32 bytes"));
        }
        let key = self.parts.entry_key_of(peer);
        let key =
            key.ok_or_else(|| malformed("the recipient is no member, or its entry key is suspended"))?;
        if !verify_message(Context::Ask, self.chain_id(), &key, signed) {
            return Err(malformed("the recipient's signature does not verify"));
        }
        check_form(&ask).map_err(|e| malformed(&e.to_string()))?;
        if ask.not_after_ms > ask.valid_until_ms || ask.not_after_ms > now_ms() + MAX_ASK_AHEAD_MS {
            return Err(malformed("the ask expires too far ahead, or after the consent that it asks for"));
        }
        let hash = ask_hash(self.chain_id(), &signed.body);
        Ok((ask, hash))
    }

    /// Keeps an ask whose patient exists; true when the patient has granted it. Reads and writes are the same for all.
    fn keep_ask(&self, ask: &ConsentAsk, hash: &Hash, signed: Signed) -> Result<bool, Refusal> {
        let vault = &self.parts.vault;
        let view = self.parts.store.view()?;
        let (system, value) = (&ask.identifier_system, &ask.identifier_value);
        let subject = vault.subject_by_identifier(system, value, &ask.birth_date)?;
        let handle = subject.as_ref().map_or([0; 32], |s| s.handle);
        let exists = view.slot(self.organization(), &handle)?.is_some() & subject.is_some();
        let before = vault.ask(hash)?;
        let time_ms = view.tip.time_ms;
        let came = Ask {
            signed,
            handle,
            recipient: ask.recipient.clone(),
            time_ms,
            not_after_ms: ask.not_after_ms,
            answered: None,
        };
        let keep = exists && ask.not_after_ms >= time_ms.max(now_ms());
        vault.stage_pending(&[Pending::Asks(AskWrite::Came { id: hash, ask: &came, keep })])?;
        Ok(before.is_some_and(|ask| self.standing(&view, &ask).is_ok_and(|s| s == Standing::Granted)))
    }

    pub(super) fn standing(&self, view: &View<'_>, ask: &Ask) -> Result<Standing, Fatal> {
        let is_over = ask.not_after_ms < view.tip.time_ms.max(now_ms());
        let unanswered = if is_over { Standing::Expired } else { Standing::Open };
        Ok(match &ask.answered {
            None => unanswered,
            Some(answered) if answered.entry.is_empty() => Standing::Declined,
            Some(Answered { entry, .. }) => match view.entry_place(&entry_hash(self.chain_id(), entry))? {
                Some(_) => Standing::Granted,
                None if self.parts.submitter.is_dead(entry)? => unanswered,
                None => Standing::UnderWay,
            },
        })
    }

    /// A page of a patient's asks, newest first, and the token for the next; empty when there is none.
    pub fn list_asks(
        &self,
        patient: &PatientName,
        include_closed: bool,
        page_size: u32,
        page_token: &str,
    ) -> Result<(Vec<AskListed>, String), Refusal> {
        let handle = self.handle_of(patient)?.ok_or_else(patient_not_found)?;
        let vault = &self.parts.vault;
        let bound_to: [&[u8]; 3] = [b"asks", &handle, &[u8::from(include_closed)]];
        let mut after = match page_token {
            "" => None,
            token => Some(AskPlace(vault.open_token(&bound_to, token).ok_or_else(bad_token)?)),
        };
        let size = match page_size {
            0 => DEFAULT_PAGE,
            size => MAX_PAGE.min(size as usize),
        };
        let (mut page, mut bytes) = (Vec::new(), 0);
        loop {
            let view = self.parts.store.view()?;
            let read_on = blocking(|| vault.asks(&handle, after, READ_ASKS))?;
            let is_last = read_on.len() < READ_ASKS;
            for (place, id, ask) in read_on {
                let standing = self.standing(&view, &ask)?;
                if include_closed || matches!(standing, Standing::Open | Standing::UnderWay) {
                    bytes += ask.signed.body.len();
                    if page.len() == size || (bytes > MAX_PAGE_BYTES && !page.is_empty()) {
                        let AskPlace(last) = after.ok_or_else(unreadable)?;
                        return Ok((page, vault.seal_token(&bound_to, &last)?));
                    }
                    page.push(listed(id, &ask, standing)?);
                }
                after = Some(place);
            }
            if is_last {
                return Ok((page, String::new()));
            }
        }
    }
}

fn listed(id: Hash, ask: &Ask, standing: Standing) -> Result<AskListed, Refusal> {
    let granted = match standing {
        Standing::Granted => Some(true),
        Standing::Declined => Some(false),
        Standing::Open | Standing::Expired | Standing::UnderWay => None,
    };
    let answered = ask.answered.as_ref().filter(|_| granted == Some(true));
    let consent_id = answered.map(|a| a.consent_id.clone()).unwrap_or_default();
    Ok(AskListed { id, ask: read(ask)?, time_ms: ask.time_ms, granted, consent_id })
}

fn bad_token() -> Refusal {
    Refusal::invalid(
        "BAD_PAGE_TOKEN",
        "page_token",
        "page_token: not one that this node gave for this list: start again without",
    )
}
