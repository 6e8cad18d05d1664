//! What a consent must hold before it is recorded, beyond being readable (CONSENT.md, "What the law asks").

use assent_ledger::consent::{authority_limit_ms, missing_elements, Consent, Imported};
use assent_proto::ledger::v1::Grantor;

use crate::refusal::{Kind, Refusal};
use crate::vault::Subject;

/// A consent is about the patient whom the request names.
pub(super) fn check_subject(subject: &Subject, imported: &Imported) -> Result<(), Refusal> {
    match imported.consent.subject == subject.patient_reference {
        true => Ok(()),
        false => Err(other_subject()),
    }
}

pub(super) fn other_subject() -> Refusal {
    Refusal::invalid(
        "CONSENT_FOR_OTHER_SUBJECT",
        "consent",
        "Consent.patient is not the patient that the request names",
    )
}

/// An authorization names its recipient, its purpose and an end.
pub(super) fn check_elements(consent: &Consent) -> Result<(), Refusal> {
    let missing = missing_elements(consent).join(",");
    if missing.is_empty() {
        return Ok(());
    }
    let message = format!("an authorization under HIPAA or 42 CFR Part 2 must name recipient, purpose and end; missing: {missing}");
    Err(Refusal::invalid("LEGAL_BASIS_INCOMPLETE", "consent", message).with("missing", missing))
}

/// Who grants in the patient's place shows an authority that has an end, which is not past; a parent's ends at majority.
pub(super) fn check_grantor(grantor: &Grantor, subject: &Subject, time_ms: i64) -> Result<(), Refusal> {
    let lacks = [
        ("authority", grantor.authority.is_empty()),
        ("evidence_sha256", grantor.evidence_sha256.len() != 32),
        ("valid_until_ms", grantor.valid_until_ms == 0),
    ];
    let missing: Vec<&str> = lacks.into_iter().filter(|(_, lacks)| *lacks).map(|(name, _)| name).collect();
    if !missing.is_empty() {
        let missing = missing.join(",");
        let message =
            format!("a representative needs authority, evidence (32 bytes) and an end; missing: {missing}");
        return Err(
            Refusal::invalid("AUTHORITY_MISSING", "consent.grantor", message).with("missing", missing)
        );
    }
    let field = "consent.grantor.valid_until_ms";
    let until_ms = i64::try_from(grantor.valid_until_ms).unwrap_or(i64::MAX);
    if until_ms <= time_ms {
        let message =
            "the representative's authority has ended: the patient grants, or another representative";
        return Err(Refusal::new(Kind::FailedPrecondition, "AUTHORITY_ENDED", message).with("field", field));
    }
    if authority_limit_ms(&grantor.authority, &subject.birth_date).is_some_and(|limit| until_ms > limit) {
        let message = format!("{field}: authority over a minor ends at the latest on the 18th birthday");
        return Err(Refusal::invalid("AUTHORITY_TOO_LONG", field, message));
    }
    Ok(())
}
