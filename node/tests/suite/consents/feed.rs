//! Consents of a feed: lenient, and kept as unresolved until an officer resolves them.

use assent_proto::ledger::v1::ConsentState;
use assent_proto::v1::*;
use tonic::Code;

use super::*;

impl Desk {
    async fn feed(&self, id: &str, consent: impl Into<Vec<u8>>) -> Result<ImportConsentResponse, Status> {
        let request = ImportConsentRequest {
            request_id: id.into(),
            patient: Some(self.patient.clone()),
            consent: consent.into(),
            keep_unresolved: true,
            ..Default::default()
        };
        Ok(self.service().import_consent(request).await?.into_inner())
    }
}

/// What no import takes.
fn broken(id: &str) -> String {
    text(id).replacen(r#""type":"permit""#, r#""modifierExtension":[{"url":"urn:x"}],"type":"permit""#, 1)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_unresolved_consent_withholds_until_an_officer_resolves_it() {
    let desk = Desk::alone().await;
    let permit = || said(directive(Effect::Permit, &["cedar"], &["TREAT"]));
    desk.record("n-1", permit(), &[]).await;
    assert_eq!(desk.released("cedar", "r-1").await, ALL);

    // Interactive: it fails. From a feed: it is kept, and nobody gets anything.
    let error = import(desk.portal.clone(), "i-1", "mrn-1", broken("c-1").into()).await.unwrap_err();
    assert_eq!(reason(&error), "CONSENT_REFUSED");
    let kept = desk.feed("i-2", broken("c-1")).await.unwrap();
    assert!(kept.unresolved && kept.rules.is_empty());
    assert_eq!((kept.consent_id.as_str(), kept.consent_seq), ("c-1", 3));
    assert!(desk.released("cedar", "r-2").await.is_empty());
    let read = desk.got(desk.get("c-1")).await.unwrap();
    assert!(read.unresolved && read.rules.is_empty() && read.state() == ConsentState::Active);
    assert_eq!(desk.ids(|l| l.standing_only = true).await.len(), 2);

    // Said again it is the same; said anew and well it still needs an officer, and so does a patient's supersede.
    assert_eq!(desk.feed("i-3", broken("c-1")).await.unwrap().consent_seq, 3);
    let error = desk.feed("i-4", text("c-1")).await.unwrap_err();
    assert_eq!((error.code(), reason(&error).as_str()), (Code::FailedPrecondition, "CONSENT_UNRESOLVED"));
    let error = desk.try_record("n-2", permit(), &["c-1"]).await.unwrap_err();
    assert_eq!((error.code(), reason(&error).as_str()), (Code::PermissionDenied, "OFFICER_NEEDED"));
    assert!(desk.released("cedar", "r-3").await.is_empty());
    // Revoked it withholds as before: nobody knows what it denies.
    let revoked = desk.revoke("v-1", "c-1").await.unwrap();
    assert_eq!(revoked.still_denied.len(), 1);
    assert!(desk.released("cedar", "r-4").await.is_empty());

    // The officer says what it meant, under its own id.
    let meant = text("c-1").replace("\"birch\"", "\"cedar\"");
    let request = desk.request("o-1", fhir(meant), &["c-1"]);
    let resolved = desk.officers().record_consent(request).await.unwrap().into_inner();
    assert_eq!((resolved.consent_id.as_str(), resolved.revision), ("c-1", 3));
    assert_eq!(desk.released("cedar", "r-5").await, ORDINARY, "and its deny counts");
    let read = desk.got(desk.get("c-1")).await.unwrap();
    assert!(!read.unresolved && read.state() == ConsentState::Active);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_officer_marks_an_unresolved_consent_and_the_feed_does_not_bring_it_back() {
    let desk = Desk::alone().await;
    desk.record("n-1", said(directive(Effect::Permit, &["cedar"], &["TREAT"])), &[]).await;
    // Neither status nor id can be told of these: kept all the same, each under an id of its own.
    let first = desk.feed("i-1", "{not JSON").await.unwrap();
    let second = desk.feed("i-2", r#"{"status":"active","status":"inactive"}"#).await.unwrap();
    let third = desk.feed("i-3", broken("c-3").replace("\"active\"", "\"on\"")).await.unwrap();
    assert!([&first, &second, &third].iter().all(|kept| kept.unresolved));
    assert_eq!((first.consent_id.len(), third.consent_id.as_str()), (32, "c-3"));
    assert_ne!(first.consent_id, second.consent_id);
    for (n, kept) in [first, second, third].into_iter().enumerate() {
        assert!(desk.released("cedar", &format!("r-{n}")).await.is_empty());
        desk.mark(&format!("m-{n}"), &kept.consent_id).await.unwrap();
    }
    assert_eq!(desk.released("cedar", "r-9").await, ALL);
    let error = desk.feed("i-4", "{not JSON").await.unwrap_err();
    assert_eq!((error.code(), reason(&error).as_str()), (Code::FailedPrecondition, "CONSENT_CHANGED_HERE"));
    assert_eq!(desk.released("cedar", "r-10").await, ALL);
    // What is no JSON can't be exported as FHIR.
    let unreadable = desk.feed("i-5", "{nor this").await.unwrap();
    let patient = Some(desk.patient.clone());
    let request = ExportConsentRequest { patient, consent_id: unreadable.consent_id, revision: 0 };
    let error = desk.service().export_consent(request).await.unwrap_err();
    assert_eq!((error.code(), reason(&error).as_str()), (Code::FailedPrecondition, "CONSENT_UNREADABLE"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_feed_keeps_only_what_may_be_active_and_is_the_patients() {
    let desk = Desk::alone().await;
    for status in ["inactive", "rejected", "draft", "entered-in-error"] {
        let error =
            desk.feed("i-1", broken("c-1").replace("\"active\"", &format!("{status:?}"))).await.unwrap_err();
        assert_eq!(reason(&error), "CONSENT_REFUSED", "{status}");
    }
    let error = desk.feed("i-1", broken("c-1").replace(REFERENCE, "Patient/else")).await.unwrap_err();
    assert_eq!(reason(&error), "CONSENT_FOR_OTHER_SUBJECT");
    assert!(desk.ids(|_| {}).await.is_empty());
    // An authorization without its elements is kept too.
    let part2 = r#""policyRule":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/v3-ActCode","code":"42CFRPart2"}]},"provision""#;
    let part2 = text("c-2").replacen(r#""provision""#, part2, 1).replacen(r#","end":"2030-12-31""#, "", 1);
    let error = import(desk.portal.clone(), "i-2", "mrn-1", part2.clone().into()).await.unwrap_err();
    assert_eq!((error.code(), reason(&error).as_str()), (Code::InvalidArgument, "LEGAL_BASIS_INCOMPLETE"));
    assert_eq!(info(&error, "missing"), "end");
    assert!(desk.feed("i-2", part2).await.unwrap().unresolved);
    // A good one is imported as ever.
    let good = desk.feed("i-3", text("c-3")).await.unwrap();
    assert!(!good.unresolved && !good.rules.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_feed_that_repeats_itself_does_not_undo_a_revocation() {
    let desk = Desk::alone().await;
    let own = text("c-1").replace("\"birch\"", "\"cedar\"");
    desk.feed("i-1", own.clone()).await.unwrap();
    assert_eq!(desk.released("cedar", "r-1").await, ORDINARY);
    desk.revoke("v-1", "c-1").await.unwrap();
    // Neither as it was, nor as ended: that would lift its deny.
    for (id, consent) in [("i-2", own.clone()), ("i-3", own.replace("\"active\"", "\"inactive\""))] {
        let error = desk.feed(id, consent).await.unwrap_err();
        assert_eq!(
            (error.code(), reason(&error).as_str()),
            (Code::FailedPrecondition, "CONSENT_CHANGED_HERE")
        );
    }
    assert!(desk.released("cedar", "r-2").await.is_empty());
    assert_eq!(desk.got(desk.get("c-1")).await.unwrap().state(), ConsentState::Revoked);
    // A version that can't be read is kept beside it: what stands goes on standing.
    let kept = desk.feed("i-4", broken("c-1")).await.unwrap();
    assert!(kept.unresolved && kept.consent_id != "c-1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn leniency_is_asked_for_and_kept() {
    let desk = Desk::alone().await;
    let own = text("c-1").replace("\"birch\"", "\"cedar\"");
    let alias =
        own.replace("http://terminology.hl7.org/CodeSystem/v3-ActReason", "http://hl7.org/fhir/v3/ActReason");
    assert_ne!(alias, own);
    let strict = import(desk.portal.clone(), "i-1", "mrn-1", alias.clone().into()).await.unwrap_err();
    assert_eq!(
        (reason(&strict).as_str(), info(&strict, "issues").as_str()),
        ("CONSENT_REFUSED", "unknown-code-system")
    );
    let error = desk.try_record("n-1", fhir(alias.clone()), &[]).await.unwrap_err();
    assert_eq!(reason(&error), "CONSENT_REFUSED");
    let request = ImportConsentRequest {
        request_id: "i-1".into(),
        patient: Some(desk.patient.clone()),
        consent: alias.clone().into(),
        lenient: true,
        ..Default::default()
    };
    desk.service().import_consent(request).await.unwrap();
    assert_eq!(desk.released("cedar", "r-1").await, ORDINARY);
    let alias = alias.replace("\"c-1\"", "\"c-2\"");
    desk.record("n-1", NewConsent { lenient: true, ..fhir(alias) }, &["c-1"]).await;
    assert_eq!(desk.released("cedar", "r-2").await, ORDINARY);
}
