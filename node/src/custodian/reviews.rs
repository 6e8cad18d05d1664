//! Releases under break-glass, for those who judge them afterwards: the officer, and the patient.
//!
//! An item is shown once its access is in the ledger, and at once when the records went out without quorum. What was staged
//! for an access that never came to be is shown to nobody.

use assent_ledger::hash::{framed, sha256, Context};
use assent_ledger::replacement::settled;
use assent_ledger::Hash;
use assent_proto::ledger::v1::DataRequest;

use super::{blocking, Custodian};
use crate::refusal::{Kind, Refusal};
use crate::vault::{Closed, Cursor, Pending, Review, ReviewList};

/// Items on a page when the client names no number.
const DEFAULT_PAGE: usize = 50;
/// Most items on a page.
const MAX_PAGE: usize = 500;
/// Longest page token.
const MAX_TOKEN_BYTES: usize = 256;

/// An item as it stands now.
#[derive(Clone)]
pub struct Listed {
    /// What is stored.
    pub review: Review,
    /// The request that was made.
    pub request: DataRequest,
    /// Height of the block that holds the access; 0 while it waits to be committed.
    pub height: u64,
    /// How the records refer to the patient; empty when the subject is erased.
    pub patient_reference: String,
}

opaque_debug!(Listed);

/// A control key that waits to take the place of the present one.
#[derive(Debug, Clone, Copy)]
pub struct WaitingKey {
    /// Block time that it was recorded at.
    pub time_ms: u64,
    /// Block time from which it counts.
    pub effective_ms: u64,
}

/// How many items a page has when the caller asks for so many.
fn items_on_page(asked: u32) -> usize {
    match asked {
        0 => DEFAULT_PAGE,
        asked => MAX_PAGE.min(asked as usize),
    }
}

fn bad_token() -> Refusal {
    Refusal::invalid(
        "BAD_PAGE_TOKEN",
        "page_token",
        "page_token: not one that this node gave this caller: start again without",
    )
}

impl Custodian {
    /// A page of items. `reader` is who asks, for what: tokens are good for the same reader only.
    pub fn reviews(
        &self,
        list: ReviewList<'_>,
        reader: &str,
        page_size: u32,
        page_token: &str,
    ) -> Result<(Vec<Listed>, String), Refusal> {
        let vault = &self.parts.vault;
        let after = match page_token {
            "" => None,
            token if token.len() > MAX_TOKEN_BYTES => return Err(bad_token()),
            token => Some(vault.read_page_token(reader, token).ok_or_else(bad_token)?),
        };
        let size = items_on_page(page_size);
        let view = self.parts.store.view()?;
        let height_of = |review: &Review| {
            let place = review.entry_hash.map(|hash| view.entry_place(&hash)).transpose()?.flatten();
            Ok::<_, Refusal>(place.map_or(0, |place| place.height))
        };
        let came_to_be = |review: &Review| Ok::<_, Refusal>(review.late || height_of(review)? > 0);
        let (found, last) = vault.reviews(list, after, size, came_to_be)?;
        let listed = found.into_iter().map(|review| {
            let subject = vault.subject_by_handle(&review.handle)?;
            Ok::<_, Refusal>(Listed {
                request: review.data_request()?,
                height: height_of(&review)?,
                patient_reference: subject.map(|s| s.patient_reference).unwrap_or_default(),
                review,
            })
        });
        let listed = listed.collect::<Result<_, _>>()?;
        let next = last.map(|last| vault.page_token(reader, last)).transpose()?.unwrap_or_default();
        Ok((listed, next))
    }

    /// A page of what a patient must know, newest first: before everything else a control key that waits, then releases under
    /// break-glass.
    pub fn notices(
        &self,
        handle: &Hash,
        page_size: u32,
        page_token: &str,
    ) -> Result<(Option<WaitingKey>, Vec<Listed>, String), Refusal> {
        let reader = format!("notices:{}", hex::encode(handle));
        let waiting = match page_token {
            "" => self.waiting_key(handle)?,
            _ => None,
        };
        let size = items_on_page(page_size) - usize::from(waiting.is_some());
        if size == 0 {
            return Ok((waiting, Vec::new(), self.parts.vault.page_token(&reader, Cursor::START)?));
        }
        let size = u32::try_from(size).unwrap_or(u32::MAX);
        let (listed, next) = self.reviews(ReviewList::Of(handle), &reader, size, page_token)?;
        Ok((waiting, listed, next))
    }

    fn waiting_key(&self, handle: &Hash) -> Result<Option<WaitingKey>, Refusal> {
        let view = self.parts.store.view()?;
        let slot = view.slot(self.organization(), handle)?.unwrap_or_default();
        let Some(replacement) = settled(slot, view.tip.time_ms).replacement else {
            return Ok(None);
        };
        let recorded = view.slot_change(self.organization(), handle, replacement.consent_seq)?;
        Ok(Some(WaitingKey {
            time_ms: recorded.map_or(0, |change| change.time_ms),
            effective_ms: replacement.effective_ms,
        }))
    }

    /// Closes an item. Closing it again with the same words is fine, with others it is refused.
    pub async fn close_review(
        &self,
        client: &str,
        request_id: &str,
        review_id: Hash,
        note: String,
    ) -> Result<(), Refusal> {
        let body_hash = sha256(&framed(Context::Request, "close-review", &[&review_id, note.as_bytes()]));
        let guard = self.preparing.lock().await;
        blocking(|| self.prepare_close(client, request_id, body_hash, review_id, note))?;
        drop(guard);
        Ok(self.parts.vault.durable().await?)
    }

    fn prepare_close(
        &self,
        client: &str,
        request_id: &str,
        body_hash: Hash,
        review_id: Hash,
        note: String,
    ) -> Result<(), Refusal> {
        if self.queued(client, request_id, &body_hash)?.is_some() {
            return Ok(());
        }
        let not_found = || Refusal::new(Kind::NotFound, "REVIEW_NOT_FOUND", "there is no such item");
        let review = self.parts.vault.review(&review_id)?.ok_or_else(not_found)?;
        let place = match review.entry_hash {
            Some(hash) => self.parts.store.entry_place(&hash)?,
            None => None,
        };
        if !review.late && place.is_none() {
            return Err(not_found());
        }
        let (_, record) = self.queue(body_hash, Vec::new(), Vec::new())?;
        let request = Pending::Request { client, request_id, record: &record };
        match review.closed {
            Some(closed) if closed.note != note => {
                let message = "this item is closed already, with another note: list it to read that";
                Err(Refusal::new(Kind::FailedPrecondition, "REVIEW_CLOSED", message))
            }
            Some(_) => Ok(self.parts.vault.stage_pending(&[request])?),
            None => {
                let closed = Closed { by: client.to_owned(), note };
                let close = Pending::CloseReview { request_hash: &review_id, closed: &closed };
                Ok(self.parts.vault.stage_pending(&[close, request])?)
            }
        }
    }
}
