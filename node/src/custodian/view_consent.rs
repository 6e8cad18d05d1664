//! A recorded consent as portals and officers see it.

use assent_ledger::consent::{consent_commitment, read_body};
use assent_proto::ledger::v1::ConsentState;
use assent_proto::v1;

use super::opened::alarm;
use crate::chain::changes::Change;
use crate::refusal::Refusal;
use crate::vault::ConsentRecord;

/// A revision with the change of the slot that recorded it; expired or not is judged at `at_ms`, a block time.
pub(super) fn consent_record(
    chain_id: &str,
    record: &ConsentRecord,
    patient_reference: &str,
    recorded: &Change,
    at_ms: u64,
) -> Result<v1::ConsentRecord, Refusal> {
    let body = &record.body;
    let imported =
        read_body(body, patient_reference).map_err(|_| alarm("a stored consent does not import"))?;
    let consent = &imported.consent;
    let is_past = |end: Option<i64>| end.is_some_and(|end| i64::try_from(at_ms).unwrap_or(i64::MAX) >= end);
    Ok(v1::ConsentRecord {
        consent_id: body.id.clone(),
        revision: body.revision,
        state: ConsentState::from(consent.state).into(),
        expired: is_past(consent.context.valid.end_ms) || is_past(consent.authority_ends_ms),
        consent_seq: recorded.sequence,
        height: recorded.height,
        time_ms: recorded.time_ms,
        commitment: consent_commitment(chain_id, &record.salt, body).to_vec(),
        grantor: body.grantor.clone(),
        legal_basis: body.legal_basis,
        supersedes: body.supersedes.clone(),
        unresolved: body.unresolved,
        confidential: body.confidential,
        rules: imported.sentences,
    })
}
