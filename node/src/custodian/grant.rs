//! What a patient who grants an ask consents to: the ask as a FHIR R4 Consent.

use assent_proto::ledger::v1::ConsentAsk;
use serde_json::{json, Value};
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;
use time::OffsetDateTime;

use super::evaluate::ORGANIZATION_SYSTEM;

const TERMINOLOGY: &str = "http://terminology.hl7.org/CodeSystem";
const RESOURCE_TYPES: &str = "http://hl7.org/fhir/resource-types";

fn moment(ms: u64) -> Option<OffsetDateTime> {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(ms) * 1_000_000).ok()
}

fn codings(system: &str, codes: &[String]) -> Value {
    codes.iter().map(|code| json!({ "system": system, "code": code })).collect()
}

/// A permit for the organization that asked, for what it asked, until the end that it named. None for a moment that FHIR can't
/// write.
pub(super) fn consent_of(
    ask: &ConsentAsk,
    id: &str,
    patient_reference: &str,
    time_ms: u64,
) -> Option<Vec<u8>> {
    let form = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");
    // FHIR's end counts as a whole: the last millisecond before the end that was asked for.
    let end = moment(ask.valid_until_ms.checked_sub(1)?)?.format(form).ok()?;
    let date = moment(time_ms)?.replace_nanosecond(0).ok()?.format(&Rfc3339).ok()?;
    let access = ["access".to_owned()];
    let actions = if ask.actions.is_empty() { access.as_slice() } else { &ask.actions };
    let actions: Value = actions
        .iter()
        .map(|code| json!({ "coding": [{ "system": format!("{TERMINOLOGY}/consentaction"), "code": code }] }))
        .collect();
    let recipient = json!({
        "role": { "coding": [{ "system": format!("{TERMINOLOGY}/v3-ParticipationType"), "code": "IRCP" }] },
        "reference": { "type": "Organization", "identifier": { "system": ORGANIZATION_SYSTEM, "value": ask.recipient } },
    });
    let mut provision = json!({
        "type": "permit",
        "period": { "end": end },
        "actor": [recipient],
        "action": actions,
        "purpose": codings(&format!("{TERMINOLOGY}/v3-ActReason"), &ask.purposes),
    });
    if !ask.resource_types.is_empty() {
        provision["class"] = codings(RESOURCE_TYPES, &ask.resource_types);
    }
    let consent = json!({
        "resourceType": "Consent",
        "id": id,
        "status": "active",
        "scope": { "coding": [{ "system": format!("{TERMINOLOGY}/consentscope"), "code": "patient-privacy" }] },
        "category": [{ "coding": [{ "system": "http://loinc.org", "code": "59284-0" }] }],
        "patient": { "reference": patient_reference },
        "dateTime": date,
        "provision": provision,
    });
    serde_json::to_vec(&consent).ok()
}

#[cfg(test)]
mod tests {
    use assent_ledger::consent::{import_consent, Base, Reference};

    use super::*;

    #[test]
    fn a_grant_imports_and_says_what_was_asked() {
        let ask = ConsentAsk {
            recipient: "birch".into(),
            purposes: vec!["HRESCH".into(), "TREAT".into()],
            valid_until_ms: 1_900_000_000_123,
            ..Default::default()
        };
        let fhir = consent_of(&ask, "x", "Patient/1", 1_800_000_000_999).unwrap();
        let imported = import_consent(&fhir).unwrap();
        let context = &imported.consent.context;
        assert_eq!((imported.consent.base, imported.consent.id.as_str()), (Base::Permit, "x"));
        assert_eq!((context.valid.start_ms, context.valid.end_ms), (None, Some(1_900_000_000_123)));
        assert_eq!(context.purposes.as_deref(), Some(&ask.purposes[..]));
        assert_eq!(context.actions.as_deref(), Some(&["access".to_owned()][..]));
        let birch = Reference::parse("urn:assent:organization|birch").unwrap().to_string();
        assert!(imported.sentences.join(" ").contains(&birch), "{:?}", imported.sentences);

        let types = vec!["Observation".to_owned(), "Condition".to_owned()];
        let some = ConsentAsk { actions: vec!["use".into()], resource_types: types.clone(), ..ask };
        let imported = import_consent(&consent_of(&some, "x", "Patient/1", 0).unwrap()).unwrap();
        assert_eq!(imported.consent.base, Base::Limit);
        assert_eq!(imported.consent.root_rule.unwrap().clause.data.types.as_deref(), Some(&types[..]));
        assert_eq!(imported.consent.context.actions.as_deref(), Some(&["use".to_owned()][..]));
        assert_eq!(consent_of(&ConsentAsk::default(), "x", "Patient/1", 0), None);
    }
}
