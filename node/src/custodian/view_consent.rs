//! A recorded consent as portals and officers see it, read singly, in lists and in the stream of changes.

use assent_ledger::consent::{consent_commitment, read_body};
use assent_ledger::Hash;
use assent_proto::ledger::v1::ConsentBody;
use assent_proto::v1;

use super::opened::alarm;
use crate::chain::changes::Change;
use crate::refusal::Refusal;
use crate::vault::ConsentRecord;

/// One revision of a consent, and where it stands in the ledger.
#[derive(Clone)]
pub struct ReadConsent {
    /// What its commitment covers.
    pub body: ConsentBody,
    /// Its rules in words.
    pub rules: Vec<String>,
    /// Its period, or its grantor's authority, is over.
    pub expired: bool,
    /// The change that recorded it.
    pub change: Change,
    /// The commitment to it.
    pub commitment: Hash,
    /// Something of it stands, or will when its period begins.
    pub stands: bool,
}

opaque_debug!(ReadConsent);

impl ReadConsent {
    /// A revision with the change of the slot that recorded it; what is over and what stands is judged at `at_ms`, a block time.
    pub(super) fn of(
        chain_id: &str,
        record: ConsentRecord,
        patient_reference: &str,
        change: Change,
        at_ms: i64,
    ) -> Result<Self, Refusal> {
        let imported = read_body(&record.body, patient_reference)
            .map_err(|_| alarm("a stored consent does not import"))?;
        Ok(Self {
            commitment: consent_commitment(chain_id, &record.salt, &record.body),
            body: record.body,
            rules: imported.sentences,
            expired: imported.consent.is_over(at_ms),
            change,
            stands: imported.consent.something_stands(at_ms),
        })
    }
}

impl From<ReadConsent> for v1::ConsentRecord {
    fn from(read: ReadConsent) -> Self {
        let ReadConsent { body, rules, expired, change, commitment, .. } = read;
        Self {
            state: body.state,
            legal_basis: body.legal_basis,
            consent_id: body.id,
            revision: body.revision,
            expired,
            rules,
            consent_seq: change.sequence,
            height: change.height,
            time_ms: change.time_ms,
            commitment: commitment.to_vec(),
            grantor: body.grantor,
            supersedes: body.supersedes,
            unresolved: body.unresolved,
            confidential: body.confidential,
        }
    }
}
