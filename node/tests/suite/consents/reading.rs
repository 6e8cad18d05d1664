//! What was recorded, when: revisions, heights, pages, and FHIR out.

use assent_proto::ledger::v1::{ConsentState, LegalBasis};
use assent_proto::v1::*;
use tonic::Code;

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_consent_is_read_at_a_revision_and_as_of_a_height() {
    let desk = Desk::alone().await;
    // Sent anew by its source: a second revision; revoked: a third. Others come and go meanwhile.
    for (n, until) in [(1, "2030-12-31"), (2, "2031-12-31")] {
        import(desk.portal.clone(), &format!("i-{n}"), "mrn-1", consent(REFERENCE, "c-1", until))
            .await
            .unwrap();
        desk.record(&format!("n-{n}"), said(directive(Effect::Deny, &[], &["HRESCH"])), &[]).await;
    }
    desk.revoke("v-1", "c-1").await.unwrap();
    let request = ListConsentRevisionsRequest {
        patient: Some(desk.patient.clone()),
        consent_id: "c-1".into(),
        ..Default::default()
    };
    let listed = desk.service().list_consent_revisions(request.clone()).await.unwrap().into_inner();
    let revisions = listed.revisions;
    assert_eq!(listed.next_page_token, "");
    assert_eq!(revisions.iter().map(|r| r.revision).collect::<Vec<_>>(), [3, 2, 1]);
    assert_eq!(revisions.iter().map(|r| r.consent_seq).collect::<Vec<_>>(), [6, 4, 2]);
    assert_eq!(
        revisions.iter().map(|r| r.state()).collect::<Vec<_>>(),
        [ConsentState::Revoked, ConsentState::Active, ConsentState::Active]
    );
    assert!(revisions[2].rules[0].contains("2030-12-31") && revisions[1].rules[0].contains("2031-12-31"));
    assert!(revisions[0].rules[0].contains("revoked"));
    for pair in revisions.windows(2) {
        assert!(pair[0].height > pair[1].height && pair[0].time_ms > pair[1].time_ms);
        assert_ne!(pair[0].commitment, pair[1].commitment);
    }
    for revision in &revisions {
        let at = |change: &dyn Fn(&mut GetConsentRequest)| {
            let mut request = desk.get("c-1");
            change(&mut request);
            desk.got(request)
        };
        assert_eq!(&at(&|r| r.revision = revision.revision).await.unwrap(), revision);
        assert_eq!(&at(&|r| r.height = revision.height).await.unwrap(), revision);
        // The block before had the one before, or none.
        let before = at(&|r| r.height = revision.height - 1).await;
        match revision.revision {
            1 => assert_eq!(reason(&before.unwrap_err()), "CONSENT_NOT_FOUND"),
            n => assert_eq!(before.unwrap().revision, n - 1),
        }
        let later = at(&|r| {
            r.height = revision.height;
            r.revision = revision.revision + 1;
        });
        let error = later.await.unwrap_err();
        assert_eq!((error.code(), reason(&error).as_str()), (Code::NotFound, "CONSENT_NOT_FOUND"));
    }
    assert_eq!(desk.got(desk.get("c-1")).await.unwrap(), revisions[0]);
    // A height that is not there yet, and a demand on freshness that can't be met.
    let ahead = GetConsentRequest { height: 1_000_000, ..desk.get("c-1") };
    let consistency = Some(Consistency { min_height: 1_000_000, ..Default::default() });
    let behind = GetConsentRequest { consistency, ..desk.get("c-1") };
    for request in [ahead, behind] {
        let error = desk.got(request).await.unwrap_err();
        assert_eq!((error.code(), reason(&error).as_str()), (Code::Unavailable, "BEHIND_MIN_HEIGHT"));
    }
    let listing =
        ListConsentsRequest { patient: Some(desk.patient.clone()), consistency, ..Default::default() };
    assert_eq!(reason(&desk.service().list_consents(listing).await.unwrap_err()), "BEHIND_MIN_HEIGHT");

    // Page by page.
    let mut seen = Vec::new();
    let mut page = ListConsentRevisionsRequest { page_size: 2, ..request };
    loop {
        let found = desk.service().list_consent_revisions(page.clone()).await.unwrap().into_inner();
        assert!(found.revisions.len() <= 2);
        seen.extend(found.revisions);
        match found.next_page_token {
            token if token.is_empty() => break,
            token => page.page_token = token,
        }
    }
    assert_eq!(seen, revisions);
    // A token is of one list only.
    let other = ListConsentRevisionsRequest { for_representative: true, ..page };
    let error = desk.service().list_consent_revisions(other).await.unwrap_err();
    assert_eq!((error.code(), reason(&error).as_str()), (Code::InvalidArgument, "BAD_PAGE_TOKEN"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn pages_hold_every_consent_once_and_in_order() {
    let desk = Desk::alone().await;
    let mut expected = Vec::new();
    for n in 0..7 {
        let permit = said(directive(Effect::Permit, &["cedar"], &["TREAT"]));
        expected.push(desk.record(&format!("n-{n}"), permit, &[]).await.consent_id);
    }
    expected.sort();
    desk.revoke("v-1", &expected[3]).await.unwrap();
    let pages = async |size: u32, standing: bool| {
        let (mut seen, mut token) = (Vec::new(), String::new());
        loop {
            let page = desk.list(|l| {
                l.page_size = size;
                l.page_token = token.clone();
                l.standing_only = standing;
            });
            let page = page.await;
            assert!(page.consents.len() <= size as usize && !page.consents.is_empty());
            seen.extend(page.consents.into_iter().map(|c| c.consent_id));
            token = page.next_page_token;
            if token.is_empty() {
                return seen;
            }
        }
    };
    for size in [1, 2, 3, 7] {
        assert_eq!(pages(size, false).await, expected, "{size}");
    }
    let standing: Vec<_> = expected.iter().filter(|id| **id != expected[3]).cloned().collect();
    assert_eq!(pages(2, true).await, standing);
    assert_eq!(desk.ids(|_| {}).await, expected);

    let token = desk.list(|l| l.page_size = 2).await.next_page_token;
    let (flipped, cut) =
        (token.replacen(&token[10..11], if &token[10..11] == "0" { "1" } else { "0" }, 1), &token[2..]);
    let other = {
        create_subject(desk.net.client(0, "registrar"), "s-2", "mrn-2", "Patient/mrn-2").await.unwrap();
        patient("cedar", "mrn-2")
    };
    let asks = [
        (desk.patient.clone(), "no token".to_owned(), false),
        (desk.patient.clone(), flipped, false),
        (desk.patient.clone(), cut.to_owned(), false),
        (desk.patient.clone(), "00".repeat(4000), false),
        (desk.patient.clone(), token.clone(), true),
        (other, token, false),
    ];
    for (patient, page_token, standing_only) in asks {
        let request =
            ListConsentsRequest { patient: Some(patient), page_token, standing_only, ..Default::default() };
        let error = desk.service().list_consents(request).await.unwrap_err();
        assert_eq!((error.code(), reason(&error).as_str()), (Code::InvalidArgument, "BAD_PAGE_TOKEN"));
        assert_eq!(info(&error, "field"), "page_token");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_export_is_what_was_recorded_and_says_where_it_stands() {
    let desk = Desk::alone().await;
    let text = text("c-1");
    desk.record("n-1", fhir(text.clone()), &[]).await;
    let words = but_not(directive(Effect::Permit, &["cedar"], &["TREAT"]), &["PSY"]);
    let words = desk.record("n-2", said(words), &[]).await;
    desk.revoke("v-1", "c-1").await.unwrap();
    for (id, revision) in [("c-1", 1), ("c-1", 2), (words.consent_id.as_str(), 1)] {
        let patient = Some(desk.patient.clone());
        let request = ExportConsentRequest { patient, consent_id: id.into(), revision };
        let exported = desk.service().export_consent(request).await.unwrap().into_inner().consent;
        let recorded = desk.got(GetConsentRequest { revision, ..desk.get(id) }).await.unwrap();
        let mut json: serde_json::Value = serde_json::from_slice(&exported).unwrap();
        let extension = json.as_object_mut().unwrap().remove("extension").unwrap();
        let parts = extension[0]["extension"].as_array().unwrap();
        let part = |url: &str| {
            let found = parts.iter().find(|part| part["url"] == url).unwrap();
            found["valueString"].as_str().unwrap().to_owned()
        };
        assert_eq!((part("consent").as_str(), part("revision")), (id, revision.to_string()));
        assert_eq!(part("height"), recorded.height.to_string());
        assert_eq!(part("commitment"), hex::encode(&recorded.commitment));
        if id == "c-1" {
            assert_eq!(json, serde_json::from_str::<serde_json::Value>(&text).unwrap());
        }
        // Imported again it is the same consent.
        let again = assent_ledger::consent::import_consent(&exported).unwrap();
        let first = assent_ledger::consent::import_consent(json.to_string().as_bytes()).unwrap();
        assert_eq!(again.consent, first.consent);
        if revision == 1 {
            assert_eq!(again.sentences, recorded.rules);
        }
    }
    let patient = Some(desk.patient.clone());
    let request = ExportConsentRequest { patient, consent_id: "c-1".into(), revision: 3 };
    assert_eq!(reason(&desk.service().export_consent(request).await.unwrap_err()), "CONSENT_NOT_FOUND");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_is_recorded_beside_the_consent_is_read_back() {
    let desk = Desk::alone().await;
    let mut directive = directive(Effect::Permit, &["cedar"], &["TREAT"]);
    directive.valid_until_ms = 1_900_000_000_000;
    let consent = NewConsent {
        legal_basis: LegalBasis::Part2Specific.into(),
        evidence_sha256: vec![9; 32],
        ..said(directive)
    };
    let recorded = desk.record("n-1", consent, &[]).await;
    let read = desk.got(desk.get(&recorded.consent_id)).await.unwrap();
    assert_eq!(
        (read.legal_basis(), read.expired, read.unresolved),
        (LegalBasis::Part2Specific, false, false)
    );
    assert_eq!(read.rules, recorded.rules);
    assert_eq!(read.commitment.len(), 32);
    // It is a Part 2 consent for every decision: its obligation goes along.
    let crm = desk.net.client(0, "crm");
    let bundle = request(crm, "r-1", "mrn-1").await.unwrap();
    let event = claim_of(bundle.proof.as_ref().unwrap()).event.clone();
    assert!(event.windows(9).any(|w| w == b"NORDSCLCD"));
}
