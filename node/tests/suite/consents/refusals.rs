//! Every refusal with its code, its reason and its field; and nothing changes.

use assent_proto::ledger::v1::{Grantor, LegalBasis};
use assent_proto::v1::preview_consent_request::Change;
use assent_proto::v1::*;
use tonic::Code;

use super::*;

/// What is wrong, the consent, what it supersedes; code, reason and field of the refusal.
type Case<'a> = (&'a str, NewConsent, Vec<&'a str>, Code, &'a str, &'a str);

fn permit() -> Directive {
    directive(Effect::Permit, &["cedar"], &["TREAT"])
}

/// The suite's directive with its scope changed.
fn scoped(change: impl FnOnce(&mut DirectiveScope)) -> NewConsent {
    let mut directive = permit();
    change(directive.scope.as_mut().unwrap());
    said(directive)
}

fn granted(authority: &str, evidence: usize, valid_until_ms: u64) -> NewConsent {
    let evidence_sha256 = vec![1; evidence];
    NewConsent {
        grantor: Some(Grantor { authority: authority.into(), evidence_sha256, valid_until_ms }),
        ..said(permit())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_consent_that_can_not_be_recorded_is_refused_by_name() {
    use Code::{AlreadyExists, FailedPrecondition as Failed, InvalidArgument as Invalid, NotFound};
    let desk = Desk::alone().await;
    let first = desk.record("n-1", fhir(text("c-1")), &[]).await;
    let gone = desk.record("n-2", said(permit()), &[]).await.consent_id;
    desk.mark("m-1", &gone).await.unwrap();
    let before = desk.list(|_| {}).await.consents;
    let far = 4_000_000_000_000;
    let basis = |basis: LegalBasis, directive| NewConsent { legal_basis: basis.into(), ..said(directive) };
    let ended = Directive { valid_until_ms: 1_000, ..permit() };
    let many = vec![DirectiveScope { sensitivity: list(&["PSY"]), ..Default::default() }; 101];
    let cases: Vec<Case> = vec![
        (
            "other subject",
            fhir(text("c-2").replace(REFERENCE, "Patient/else")),
            vec![],
            Invalid,
            "CONSENT_FOR_OTHER_SUBJECT",
            "consent",
        ),
        ("unreadable", fhir("{"), vec![], Invalid, "CONSENT_REFUSED", "consent"),
        ("id is taken", fhir(text("c-1")), vec![], AlreadyExists, "CONSENT_ID_TAKEN", ""),
        (
            "no such consent",
            said(permit()),
            vec!["c-1", "c-9"],
            NotFound,
            "SUPERSEDES_NOT_FOUND",
            "supersedes[1]",
        ),
        ("not active", said(permit()), vec![&gone], Failed, "CONSENT_NOT_ACTIVE", "supersedes[0]"),
        ("twice", said(permit()), vec!["c-1", "c-1"], Invalid, "MALFORMED_REQUEST", "supersedes[1]"),
        ("no id", said(permit()), vec![""], Invalid, "MALFORMED_REQUEST", "supersedes[0]"),
        (
            "superseding history",
            fhir(text("c-2").replace("\"active\"", "\"rejected\"")),
            vec!["c-1"],
            Invalid,
            "SUPERSEDING_NOT_ACTIVE",
            "supersedes",
        ),
        ("nobody's authority", granted("", 32, far), vec![], Invalid, "AUTHORITY_MISSING", "consent.grantor"),
        ("no evidence", granted("guardian", 0, far), vec![], Invalid, "AUTHORITY_MISSING", "consent.grantor"),
        ("no end", granted("guardian", 32, 0), vec![], Invalid, "AUTHORITY_MISSING", "consent.grantor"),
        (
            "short evidence",
            granted("guardian", 31, far),
            vec![],
            Invalid,
            "MALFORMED_REQUEST",
            "consent.grantor.evidence_sha256",
        ),
        (
            "long authority",
            granted(&"x".repeat(65), 32, far),
            vec![],
            Invalid,
            "MALFORMED_REQUEST",
            "consent.grantor.authority",
        ),
        (
            "ended",
            granted("guardian", 32, 1_000),
            vec![],
            Failed,
            "AUTHORITY_ENDED",
            "consent.grantor.valid_until_ms",
        ),
        (
            "a grown man's parent",
            granted("parent", 32, far),
            vec![],
            Invalid,
            "AUTHORITY_TOO_LONG",
            "consent.grantor.valid_until_ms",
        ),
        (
            "HIPAA",
            basis(LegalBasis::HipaaAuthorization, permit()),
            vec![],
            Invalid,
            "LEGAL_BASIS_INCOMPLETE",
            "consent",
        ),
        (
            "Part 2",
            basis(LegalBasis::Part2Tpo, directive(Effect::Permit, &[], &[])),
            vec![],
            Invalid,
            "LEGAL_BASIS_INCOMPLETE",
            "consent",
        ),
        ("form", NewConsent::default(), vec![], Invalid, "MALFORMED_REQUEST", "consent.form"),
        (
            "basis",
            NewConsent { legal_basis: 99, ..said(permit()) },
            vec![],
            Invalid,
            "MALFORMED_REQUEST",
            "consent.legal_basis",
        ),
        (
            "form's hash",
            NewConsent { evidence_sha256: vec![1; 33], ..said(permit()) },
            vec![],
            Invalid,
            "MALFORMED_REQUEST",
            "consent.evidence_sha256",
        ),
        (
            "a parent's secret",
            NewConsent { confidential: true, ..granted("guardian", 32, far) },
            vec![],
            Invalid,
            "MALFORMED_REQUEST",
            "consent.confidential",
        ),
        (
            "effect",
            said(Directive { effect: 0, ..permit() }),
            vec![],
            Invalid,
            "MALFORMED_REQUEST",
            "consent.directive.effect",
        ),
        (
            "control character",
            scoped(|s| s.purposes = list(&["TRE\u{7}AT"])),
            vec![],
            Invalid,
            "MALFORMED_REQUEST",
            "consent.directive.scope.purposes[0]",
        ),
        (
            "far",
            said(Directive { valid_until_ms: u64::MAX, ..permit() }),
            vec![],
            Invalid,
            "MALFORMED_REQUEST",
            "consent.directive.valid_until_ms",
        ),
        (
            "exceptions",
            said(Directive { exceptions: many, ..permit() }),
            vec![],
            Invalid,
            "MALFORMED_REQUEST",
            "consent.directive.exceptions",
        ),
        (
            "stranger",
            scoped(|s| s.organizations = list(&["cedar", "birch"])),
            vec![],
            Invalid,
            "UNKNOWN_ORGANIZATION",
            "consent.directive",
        ),
        (
            "purpose",
            scoped(|s| s.purposes = list(&["TREATMENT"])),
            vec![],
            Invalid,
            "UNKNOWN_CODE",
            "consent.directive.scope.purposes[0]",
        ),
        (
            "mixed",
            scoped(|s| s.practitioners = list(&["Practitioner/x"])),
            vec![],
            Invalid,
            "MIXED_RECIPIENTS",
            "consent.directive.scope",
        ),
        ("over", said(ended), vec![], Invalid, "DIRECTIVE_ENDED", "consent.directive.valid_until_ms"),
    ];
    for (what, consent, supersedes, code, why, field) in cases {
        let error = desk.try_record("n-9", consent.clone(), &supersedes).await.unwrap_err();
        assert_eq!((error.code(), reason(&error).as_str()), (code, why), "{what}: {error:?}");
        assert_eq!((info(&error, "field").as_str(), error_infos(&error)), (field, 1), "{what}");
        assert!(!error.message().contains("mrn-1"), "{what}");
        // A preview is refused like the change itself.
        let error = desk.preview(Change::Record(consent), &supersedes, Vec::new()).await.unwrap_err();
        assert_eq!((error.code(), reason(&error).as_str()), (code, why), "preview, {what}");
    }
    assert_eq!(desk.list(|_| {}).await.consents, before);
    // What lacks is named.
    let error = desk.try_record("n-9", granted("", 0, 0), &[]).await.unwrap_err();
    assert_eq!(info(&error, "missing"), "authority,evidence_sha256,valid_until_ms");
    let bare = basis(LegalBasis::Part2Specific, directive(Effect::Permit, &[], &[]));
    let error = desk.try_record("n-9", bare, &[]).await.unwrap_err();
    assert_eq!(info(&error, "missing"), "recipient,purpose,end");
    // The id of one that is superseded may be taken by what takes its place.
    let again = desk.record("n-9", fhir(text("c-1")), &["c-1"]).await;
    assert_eq!((first.revision, again.revision, again.consent_id.as_str()), (1, 2, "c-1"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn calls_about_nobody_or_nothing_are_refused_by_name() {
    let desk = Desk::alone().await;
    let nobody = Desk { patient: patient("cedar", "mrn-9"), ..desk };
    let is = |error: Status, code: Code, why: &str| {
        assert_eq!((error.code(), reason(&error).as_str(), error_infos(&error)), (code, why, 1), "{error:?}");
    };
    let asked = |desk: &Desk| {
        let patient = Some(desk.patient.clone());
        (
            ListConsentsRequest { patient: patient.clone(), ..Default::default() },
            ListConsentRevisionsRequest {
                patient: patient.clone(),
                consent_id: "c".into(),
                ..Default::default()
            },
            ExportConsentRequest { patient, consent_id: "c".into(), revision: 0 },
        )
    };
    // An unknown patient.
    let (lists, revisions, exports) = asked(&nobody);
    let unknown = (Code::NotFound, "PATIENT_NOT_FOUND");
    is(nobody.try_record("n", said(permit()), &[]).await.unwrap_err(), unknown.0, unknown.1);
    is(nobody.revoke("v", "c").await.unwrap_err(), unknown.0, unknown.1);
    is(nobody.mark("m", "c").await.unwrap_err(), unknown.0, unknown.1);
    is(nobody.got(nobody.get("c")).await.unwrap_err(), unknown.0, unknown.1);
    is(nobody.service().list_consents(lists).await.unwrap_err(), unknown.0, unknown.1);
    is(nobody.service().list_consent_revisions(revisions).await.unwrap_err(), unknown.0, unknown.1);
    is(nobody.service().export_consent(exports).await.unwrap_err(), unknown.0, unknown.1);
    let trial = || Change::Record(said(permit()));
    is(nobody.preview(trial(), &[], Vec::new()).await.unwrap_err(), unknown.0, unknown.1);

    // A patient without such a consent.
    let desk = Desk { patient: patient("cedar", "mrn-1"), ..nobody };
    let (_, revisions, exports) = asked(&desk);
    let missing = (Code::NotFound, "CONSENT_NOT_FOUND");
    is(desk.revoke("v", "c").await.unwrap_err(), missing.0, missing.1);
    is(desk.mark("m", "c").await.unwrap_err(), missing.0, missing.1);
    is(desk.got(desk.get("c")).await.unwrap_err(), missing.0, missing.1);
    is(desk.service().list_consent_revisions(revisions).await.unwrap_err(), missing.0, missing.1);
    is(desk.service().export_consent(exports).await.unwrap_err(), missing.0, missing.1);
    is(desk.preview(Change::Revoke("c".into()), &[], Vec::new()).await.unwrap_err(), missing.0, missing.1);

    // Malformed.
    let malformed = (Code::InvalidArgument, "MALFORMED_REQUEST");
    is(desk.revoke("", "c").await.unwrap_err(), malformed.0, malformed.1);
    is(desk.revoke("v", "").await.unwrap_err(), malformed.0, malformed.1);
    is(desk.got(desk.get(&"x".repeat(5000))).await.unwrap_err(), malformed.0, malformed.1);
    is(
        desk.preview(Change::Revoke("c".into()), &["c"], Vec::new()).await.unwrap_err(),
        malformed.0,
        malformed.1,
    );
    let probe = |recipient: &str, purpose: &str, action: &str| Probe {
        recipient: recipient.into(),
        purpose: purpose.into(),
        action: action.into(),
        actor: String::new(),
    };
    is(
        desk.preview(trial(), &[], vec![probe("cedar", "TREAT", ""); 65]).await.unwrap_err(),
        malformed.0,
        malformed.1,
    );
    is(
        desk.preview(trial(), &[], vec![probe("Cedar", "TREAT", "")]).await.unwrap_err(),
        malformed.0,
        malformed.1,
    );
    for bad in [probe("cedar", "NONSENSE", ""), probe("cedar", "TREAT", "read")] {
        let error = desk.preview(trial(), &[], vec![probe("cedar", "TREAT", ""), bad]).await.unwrap_err();
        assert_eq!(info(&error, "field"), "probes[1]");
        is(error, Code::InvalidArgument, "BAD_PROBE");
    }
    let empty = PreviewConsentRequest { patient: Some(desk.patient.clone()), ..Default::default() };
    is(desk.service().preview_consent(empty).await.unwrap_err(), malformed.0, malformed.1);
    let elsewhere = Desk { patient: patient("birch", "mrn-1"), ..desk };
    is(elsewhere.revoke("v", "c").await.unwrap_err(), Code::FailedPrecondition, "FOREIGN_CUSTODIAN");
    // Marking is an officer's.
    let marks = MarkConsentErrorRequest {
        request_id: "m".into(),
        patient: Some(elsewhere.patient.clone()),
        consent_id: "c".into(),
    };
    is(
        elsewhere.service().mark_consent_error(marks).await.unwrap_err(),
        Code::PermissionDenied,
        "WRONG_ROLE",
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_control_key_is_taken_once_and_screened() {
    let desk = Desk::alone().await;
    let with =
        |key: Vec<u8>| RecordConsentRequest { control_key: key, ..desk.request("n-1", said(permit()), &[]) };
    let mut identity = vec![0; 32];
    identity[0] = 1;
    let other = assent_ledger::keys::SigningKey::from_bytes(&[9; 32]).verifying_key().to_bytes().to_vec();
    for (key, code, why) in [
        (vec![1; 31], Code::InvalidArgument, "MALFORMED_REQUEST"),
        (identity, Code::InvalidArgument, "BAD_CONTROL_KEY"),
        (other, Code::FailedPrecondition, "CONTROL_KEY_PRESENT"),
    ] {
        let error = desk.service().record_consent(with(key)).await.unwrap_err();
        assert_eq!((error.code(), reason(&error).as_str()), (code, why));
    }
    let same = control_key().verifying_key().to_bytes().to_vec();
    desk.service().record_consent(with(same)).await.unwrap();
}
