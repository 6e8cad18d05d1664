//! What was recorded, and when: consents at a revision or as of a height, all of a patient's, and the revisions of one.

use std::sync::Arc;

use assent_ledger::block::Tip;
use assent_ledger::hash::sha256;
use assent_ledger::Hash;
use assent_proto::ledger::v1::ContactPreferences;

use super::changing::{consent_not_found, Opened};
use super::opened::alarm;
use super::timeline::{revision_in, Timeline};
use super::view_consent::ReadConsent;
use super::{blocking, Custodian, PatientName};
use crate::chain::changes::Change;
use crate::refusal::Refusal;
use crate::vault::ConsentRecord;

/// Items on a page when the client names no number.
const DEFAULT_PAGE: usize = 50;
/// Most items on a page.
const MAX_PAGE: usize = 500;
/// Longest page token.
const MAX_TOKEN_BYTES: usize = 256;

/// A page of a list.
pub struct Page {
    /// The state of the ledger that it was read from.
    pub tip: Arc<Tip>,
    /// Its items.
    pub consents: Vec<ReadConsent>,
    /// Token for the page after this; empty when there is none.
    pub next: String,
    /// By which channels the patient wants to be contacted.
    pub contact: Option<ContactPreferences>,
}

opaque_debug!(Page);

/// Which part of a list is asked for.
#[derive(Debug, Clone, Default)]
pub struct PageAsked {
    /// Most items; 0 means the usual number.
    pub size: u32,
    /// Token of the page before; empty for the first.
    pub token: String,
}

/// Whose eyes a consent is read for, and what of it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wanted {
    /// 0 means the latest.
    pub revision: u64,
    /// 0 means now.
    pub height: u64,
    /// Consents that are hidden from representatives are as if absent.
    pub for_representative: bool,
}

/// A place in the list of consents: ids may be long.
fn place_of(record: &ConsentRecord) -> Hash {
    sha256(record.body.id.as_bytes())
}

/// For a representative a minor's own consent isn't there.
fn is_shown(record: &ConsentRecord, for_representative: bool) -> bool {
    !(for_representative && record.body.confidential)
}

impl Custodian {
    /// A consent at a revision, or as of a height.
    pub fn get_consent(
        &self,
        patient: &PatientName,
        id: &str,
        wanted: Wanted,
    ) -> Result<(Arc<Tip>, ReadConsent), Refusal> {
        blocking(|| {
            let view = self.parts.store.view()?;
            let opened = self.open_patient(&view, patient)?;
            let handle = &opened.subject.handle;
            let last_seq = match wanted.height {
                0 => opened.slot.consent_seq,
                height if view.lacks_own(height)? => return Err(Refusal::pruned(height, view.whole_from()?)),
                height => {
                    let change = view.slot_as_of(self.organization(), handle, height)?;
                    change.ok_or_else(consent_not_found)?.sequence
                }
            };
            let mut timeline = Timeline::of(self, &view, handle, last_seq);
            let newest = revision_in(timeline.at(last_seq)?.1, id);
            let hidden = opened.find(id).and_then(|place| opened.set.consents.get(place));
            let hidden = hidden.is_none_or(|record| !is_shown(record, wanted.for_representative));
            let revision = if wanted.revision == 0 { newest } else { wanted.revision };
            if hidden || revision == 0 || revision > newest {
                return Err(consent_not_found());
            }
            let found = timeline.revision(id, revision)?.ok_or_else(consent_not_found)?;
            Ok((view.tip.clone(), self.read(&opened, found, wanted.for_representative)?))
        })
    }

    /// A page of a patient's consents in their latest revisions, in the order of their ids.
    pub fn list_consents(
        &self,
        patient: &PatientName,
        standing_only: bool,
        for_representative: bool,
        asked: &PageAsked,
    ) -> Result<Page, Refusal> {
        blocking(|| {
            let view = self.parts.store.view()?;
            let opened = self.open_patient(&view, patient)?;
            let handle = &opened.subject.handle;
            let binding: [&[u8]; 3] =
                [b"ListConsents", handle, &[u8::from(standing_only), u8::from(for_representative)]];
            let after = self.page_start(&binding, asked)?;
            let mut timeline = Timeline::of(self, &view, handle, opened.slot.consent_seq);
            let mut shown: Vec<&ConsentRecord> =
                opened.set.consents.iter().filter(|record| is_shown(record, for_representative)).collect();
            shown.sort_by(|a, b| a.body.id.cmp(&b.body.id));
            if let Some(after) = after {
                let last = shown.iter().position(|record| place_of(record)[..] == after);
                shown.drain(..=last.ok_or_else(bad_token)?);
            }
            let (mut consents, mut next) = (Vec::new(), String::new());
            let mut last: Option<Hash> = None;
            for record in shown {
                let revision = record.body.revision;
                let found = timeline.revision(&record.body.id, revision)?;
                let read = self.read(
                    &opened,
                    found.ok_or_else(|| alarm("a consent has no change"))?,
                    for_representative,
                )?;
                if standing_only && !read.stands {
                    continue;
                }
                if consents.len() == page_size(asked) {
                    next = last
                        .map(|last| self.parts.vault.seal_page(&binding, &last))
                        .transpose()?
                        .unwrap_or_default();
                    break;
                }
                last = Some(place_of(record));
                consents.push(read);
            }
            let contact = opened.set.contact.as_ref().map(|contact| contact.preferences.clone());
            Ok(Page { tip: view.tip.clone(), consents, next, contact })
        })
    }

    /// A page of the revisions of a consent, newest first.
    pub fn list_revisions(
        &self,
        patient: &PatientName,
        id: &str,
        for_representative: bool,
        asked: &PageAsked,
    ) -> Result<Page, Refusal> {
        blocking(|| {
            let view = self.parts.store.view()?;
            let opened = self.open_patient(&view, patient)?;
            let handle = &opened.subject.handle;
            let found = opened.find(id).and_then(|place| opened.set.consents.get(place));
            let found = found.filter(|record| is_shown(record, for_representative));
            let newest = found.ok_or_else(consent_not_found)?.body.revision;
            let binding: [&[u8]; 4] =
                [b"ListConsentRevisions", handle, id.as_bytes(), &[u8::from(for_representative)]];
            let start = match self.page_start(&binding, asked)? {
                None => newest,
                Some(last) => {
                    last.try_into().map(u64::from_be_bytes).map_err(|_| bad_token())?.saturating_sub(1)
                }
            };
            let mut timeline = Timeline::of(self, &view, handle, opened.slot.consent_seq);
            let mut consents: Vec<ReadConsent> = Vec::new();
            let mut next = String::new();
            for revision in (1..=start.min(newest)).rev() {
                if let Some(last) = consents.last().filter(|_| consents.len() == page_size(asked)) {
                    next = self.parts.vault.seal_page(&binding, &last.body.revision.to_be_bytes())?;
                    break;
                }
                if let Some(found) = timeline.revision(id, revision)? {
                    consents.push(self.read(&opened, found, for_representative)?);
                }
            }
            Ok(Page { tip: view.tip.clone(), consents, next, contact: None })
        })
    }

    fn read(
        &self,
        opened: &Opened,
        (record, change): (ConsentRecord, Change),
        for_representative: bool,
    ) -> Result<ReadConsent, Refusal> {
        let reference = &opened.subject.patient_reference;
        let mut read = ReadConsent::of(self.chain_id(), record, reference, change, opened.time_ms)?;
        // Nor does what it took the place of tell of a consent that is hidden.
        let hidden = |id: &str| {
            let found = opened.find(id).and_then(|place| opened.set.consents.get(place));
            found.is_some_and(|record| !is_shown(record, for_representative))
        };
        read.body.supersedes.retain(|id| !hidden(id));
        Ok(read)
    }

    /// The place behind which a page starts; none for the first.
    fn page_start(&self, binding: &[&[u8]], asked: &PageAsked) -> Result<Option<Vec<u8>>, Refusal> {
        match asked.token.as_str() {
            "" => Ok(None),
            token if token.len() > MAX_TOKEN_BYTES => Err(bad_token()),
            token => self.parts.vault.open_page(binding, token).map(Some).ok_or_else(bad_token),
        }
    }
}

fn page_size(asked: &PageAsked) -> usize {
    match asked.size {
        0 => DEFAULT_PAGE,
        size => MAX_PAGE.min(size as usize),
    }
}

fn bad_token() -> Refusal {
    let message = "page_token: not one that this node gave for this list: start again without";
    Refusal::invalid("BAD_PAGE_TOKEN", "page_token", message)
}
