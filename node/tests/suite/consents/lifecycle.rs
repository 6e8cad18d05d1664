//! From the first permit to the last deny that is lifted.

use assent_node::chain::now_ms;
use assent_proto::ledger::v1::{ConsentState, Grantor};
use assent_proto::v1::*;
use tonic::Code;

use super::*;
use crate::net::Net;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_consent_is_recorded_superseded_revoked_and_lifted() {
    let net = Net::started(4).await;
    let desk = Desk::over(net, patient("cedar", "mrn-1")).await;
    assert!(desk.released("birch", "r-0").await.is_empty());

    // In few words, and a recipient gets what it permits.
    let permit = || directive(Effect::Permit, &["birch"], &["TREAT"]);
    let first = desk.record("n-1", said(permit()), &[]).await;
    assert_eq!((first.revision, first.consent_seq), (1, 2));
    assert!(
        first.rules[0].starts_with("Permit any use by organization urn:assent:organization|birch for TREAT")
    );
    assert_eq!(desk.released("birch", "r-1").await, ALL);

    // A change of mind is one step: both in one block, under one sequence.
    let second = desk.record("n-2", said(but_not(permit(), &["PSY"])), &[&first.consent_id]).await;
    let old = desk.got(desk.get(&first.consent_id)).await.unwrap();
    let new = desk.got(desk.get(&second.consent_id)).await.unwrap();
    assert_eq!((old.state(), old.revision), (ConsentState::Superseded, 2));
    assert_eq!((new.state(), new.revision), (ConsentState::Active, 1));
    assert_eq!(new.supersedes, [first.consent_id.as_str()]);
    assert_eq!((old.height, old.consent_seq, old.time_ms), (new.height, new.consent_seq, new.time_ms));
    assert_eq!(new.consent_seq, second.consent_seq);
    assert_eq!(desk.released("birch", "r-2").await, ORDINARY);

    // Revoked: its permits are gone, its denies stand, also against a new permit.
    let revoked = desk.revoke("v-1", &second.consent_id).await.unwrap();
    assert_eq!(revoked.consent_seq, 4);
    assert_eq!(revoked.still_denied.len(), 1, "{revoked:?}");
    assert!(revoked.still_denied[0].starts_with("Rule 1: deny records labelled PSY"), "{revoked:?}");
    assert!(desk.released("birch", "r-3").await.is_empty());
    let third = desk.record("n-3", said(permit()), &[]).await;
    assert_eq!(desk.released("birch", "r-4").await, ORDINARY);

    // Twice is fine, under another request id too: the same answer, and nothing new on the ledger.
    let seq = desk.got(desk.get(&third.consent_id)).await.unwrap().consent_seq;
    let again = desk.revoke("v-2", &second.consent_id).await.unwrap();
    assert_eq!((again.consent_seq, &again.still_denied), (4, &revoked.still_denied));
    assert_eq!(desk.revoke("v-2", &second.consent_id).await.unwrap().consent_seq, 4);
    // What isn't active can't be revoked, nor superseded once more.
    let error = desk.revoke("v-3", &first.consent_id).await.unwrap_err();
    assert_eq!((error.code(), reason(&error).as_str()), (Code::FailedPrecondition, "CONSENT_NOT_ACTIVE"));

    // A supersede lifts what stood.
    let both = [second.consent_id.as_str(), third.consent_id.as_str()];
    let last = desk.record("n-4", said(permit()), &both).await;
    assert_eq!(last.consent_seq, seq + 1, "the second revocation added nothing");
    assert_eq!(desk.released("birch", "r-5").await, ALL);
    assert_eq!(desk.ids(|l| l.standing_only = true).await, [last.consent_id.as_str()]);

    // Marked as an error, nothing of it stands; twice is fine.
    let marked = desk.mark("m-1", &last.consent_id).await.unwrap();
    assert_eq!(desk.mark("m-2", &last.consent_id).await.unwrap().consent_seq, marked.consent_seq);
    assert!(desk.released("birch", "r-6").await.is_empty());
    assert!(desk.ids(|l| l.standing_only = true).await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_retry_is_the_same_write_and_another_body_is_refused() {
    let desk = Desk::alone().await;
    let permit = || said(directive(Effect::Permit, &["cedar"], &["TREAT"]));
    let first = desk.record("n-1", permit(), &[]).await;
    // Ids and salts are fresh in each write, and yet a retry is the same.
    let again = desk.record("n-1", permit(), &[]).await;
    assert_eq!((again.consent_id, again.consent_seq), (first.consent_id.clone(), 2));
    let other = said(directive(Effect::Deny, &["cedar"], &["TREAT"]));
    for error in [
        desk.try_record("n-1", other, &[]).await.unwrap_err(),
        desk.revoke("n-1", &first.consent_id).await.unwrap_err(),
    ] {
        assert_eq!((error.code(), reason(&error).as_str()), (Code::AlreadyExists, "REQUEST_ID_REUSED"));
    }
    // Many at once under one id are one.
    let one = desk.request("n-2", permit(), &[]);
    let tasks: Vec<_> = (0..20)
        .map(|_| {
            let (mut service, one) = (desk.service(), one.clone());
            tokio::spawn(async move { service.record_consent(one).await.unwrap().into_inner().consent_id })
        })
        .collect();
    let mut ids = std::collections::BTreeSet::new();
    for task in tasks {
        ids.insert(task.await.unwrap());
    }
    assert_eq!((ids.len(), desk.ids(|_| {}).await.len()), (1, 2));
    let revoked = desk.revoke("v-1", &first.consent_id).await.unwrap();
    assert_eq!(desk.revoke("v-1", &first.consent_id).await.unwrap().consent_seq, revoked.consent_seq);
    // A refused write leaves its id free.
    let error = desk.try_record("n-3", permit(), &["nothing"]).await.unwrap_err();
    assert_eq!(reason(&error), "SUPERSEDES_NOT_FOUND");
    desk.record("n-3", permit(), &[]).await;
}

fn parent(authority: &str, valid_until_ms: u64) -> Option<Grantor> {
    Some(Grantor { authority: authority.into(), evidence_sha256: vec![7; 32], valid_until_ms })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_representatives_permits_end_with_the_authority_and_the_denies_stand() {
    let desk = Desk::alone().await;
    let ends = now_ms() + 4_000;
    let permit = but_not(directive(Effect::Permit, &["cedar"], &["TREAT"]), &["PSY"]);
    let by_proxy = NewConsent { grantor: parent("healthcare-proxy", ends), ..said(permit) };
    let recorded = desk.record("n-1", by_proxy.clone(), &[]).await;
    assert_eq!(desk.released("cedar", "r-1").await, ORDINARY);
    let read = desk.got(desk.get(&recorded.consent_id)).await.unwrap();
    assert_eq!((read.expired, read.grantor), (false, by_proxy.grantor.clone()));

    // Past the end, by block time: a heartbeat comes every two seconds.
    while desk.list(|_| {}).await.answer.unwrap().time_ms < ends {
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
    assert!(desk.released("cedar", "r-2").await.is_empty());
    assert!(desk.got(desk.get(&recorded.consent_id)).await.unwrap().expired);
    desk.record("n-2", said(directive(Effect::Permit, &["cedar"], &["TREAT"])), &[]).await;
    assert_eq!(desk.released("cedar", "r-3").await, ORDINARY, "the representative's deny stands");
    let error = desk.try_record("n-3", by_proxy.clone(), &[]).await.unwrap_err();
    assert_eq!((error.code(), reason(&error).as_str()), (Code::FailedPrecondition, "AUTHORITY_ENDED"));
    assert_eq!(info(&error, "field"), "consent.grantor.valid_until_ms");
    // A retry of what was granted in time is answered all the same.
    assert_eq!(desk.record("n-1", by_proxy, &[]).await.consent_id, recorded.consent_id);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_minors_own_consent_is_hidden_from_the_parent() {
    // 2015-06-01 and 18 years.
    let desk = Desk::born("2015-06-01").await;
    let until = 2_001_196_800_000; // 2033-06-01T00:00:00Z
    let permit = || said(directive(Effect::Permit, &["cedar"], &["TREAT"]));
    let by = |authority: &str, end| NewConsent { grantor: parent(authority, end), ..permit() };
    for authority in ["parent", "guardian-of-minor"] {
        let error = desk.try_record("n-0", by(authority, until + 86_400_000), &[]).await.unwrap_err();
        assert_eq!((error.code(), reason(&error).as_str()), (Code::InvalidArgument, "AUTHORITY_TOO_LONG"));
        assert!(!error.message().contains("2015") && !error.message().contains("2033"), "{error:?}");
    }
    desk.record("n-0", by("healthcare-proxy", until + 86_400_000), &[]).await;
    let parents = desk.record("n-1", by("parent", until), &[]).await;
    let own = directive(Effect::Deny, &[], &[]);
    let own = Directive {
        scope: Some(DirectiveScope { sensitivity: list(&["PSY"]), ..Default::default() }),
        ..own
    };
    let own = desk.record("n-2", NewConsent { confidential: true, ..said(own) }, &[]).await;
    assert_eq!(desk.released("cedar", "r-1").await, ORDINARY);

    // The patient sees it, a representative doesn't, by any way of asking.
    assert!(desk.ids(|_| {}).await.contains(&own.consent_id));
    let shown = desk.ids(|l| l.for_representative = true).await;
    assert!(shown.contains(&parents.consent_id) && !shown.contains(&own.consent_id));
    assert!(desk.got(desk.get(&own.consent_id)).await.unwrap().confidential);
    let absent = desk.get("no-such-consent");
    let hidden = GetConsentRequest { for_representative: true, ..desk.get(&own.consent_id) };
    let (absent, hidden) = (desk.got(absent).await.unwrap_err(), desk.got(hidden).await.unwrap_err());
    assert_eq!(shape(&absent), shape(&hidden));
    assert_eq!((hidden.code(), reason(&hidden).as_str()), (Code::NotFound, "CONSENT_NOT_FOUND"));
    let revisions = ListConsentRevisionsRequest {
        patient: Some(desk.patient.clone()),
        consent_id: own.consent_id.clone(),
        for_representative: true,
        ..Default::default()
    };
    let error = desk.service().list_consent_revisions(revisions).await.unwrap_err();
    assert_eq!(shape(&absent), shape(&error));
    let error = desk.try_record("n-3", by("parent", until), &[&own.consent_id]).await.unwrap_err();
    assert_eq!(reason(&error), "SUPERSEDES_NOT_FOUND");
    // Nor does a preview name it.
    let trial = preview_consent_request::Change::Record(by("parent", until));
    let preview = desk.preview(trial, &[], Vec::new()).await.unwrap();
    assert_eq!(preview.effects[0].neutralised.len(), 1);
    assert!(preview.effects[0].neutralised[0].by.is_empty());
    // The patient itself lifts it; what took its place does not tell of it.
    let last = desk.record("n-4", permit(), &[&own.consent_id]).await;
    assert_eq!(desk.released("cedar", "r-2").await, ALL);
    assert_eq!(desk.got(desk.get(&last.consent_id)).await.unwrap().supersedes, [own.consent_id.as_str()]);
    let shown = GetConsentRequest { for_representative: true, ..desk.get(&last.consent_id) };
    assert!(desk.got(shown).await.unwrap().supersedes.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn while_frozen_nothing_becomes_active_and_revoking_is_allowed() {
    let desk = Desk::alone().await;
    let permit = || said(directive(Effect::Permit, &["cedar"], &["TREAT"]));
    let first = desk.record("n-1", permit(), &[]).await;
    let second = desk.record("n-2", permit(), &[]).await;
    withdraw(desk.portal.clone(), "w-1", &first.handle, 0).await.unwrap();
    for error in [
        desk.try_record("n-3", permit(), &[]).await.unwrap_err(),
        desk.preview(preview_consent_request::Change::Record(permit()), &[], Vec::new()).await.unwrap_err(),
    ] {
        assert_eq!((error.code(), reason(&error).as_str()), (Code::FailedPrecondition, "SLOT_FROZEN"));
    }
    // History may be written down.
    let rejected = text("h-1").replace("\"active\"", "\"rejected\"");
    desk.record("n-4", fhir(rejected), &[]).await;
    desk.revoke("v-1", &first.consent_id).await.unwrap();
    desk.mark("m-1", &second.consent_id).await.unwrap();
    assert!(desk.ids(|l| l.standing_only = true).await.is_empty());
    // The withdrawal took a sequence of its own and recorded no revision.
    let read = desk.got(desk.get(&first.consent_id)).await.unwrap();
    assert_eq!((read.state(), read.revision, read.consent_seq), (ConsentState::Revoked, 2, 6));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_research_opt_out_without_a_reason_is_honoured_whatever_permits() {
    let desk = Desk::alone().await;
    let policy = r#"{"id":"p","version":"1","rules":[{"effect":"PERMIT","purposes":["HRESCH","TREAT"]}]}"#;
    let request = SetPolicyRequest { request_id: "p-1".into(), policy: policy.into(), ..Default::default() };
    policy_service_client::PolicyServiceClient::new(desk.officer.clone()).set_policy(request).await.unwrap();
    let crm = desk.net.client(0, "crm");
    let may = async |purpose: &str| check(crm.clone(), "mrn-1", purpose).await.is_ok();
    let research = ["HRESCH", "BIORCH", "CLINTRCHPC"];
    for purpose in research {
        assert!(may(purpose).await, "by default: {purpose}");
    }
    let opt_out = desk.record("n-1", said(directive(Effect::Deny, &[], &["HRESCH"])), &[]).await;
    desk.record("n-2", said(directive(Effect::Permit, &["cedar"], &["HRESCH", "BIORCH"])), &[]).await;
    for purpose in research {
        assert!(!may(purpose).await, "{purpose}");
    }
    assert!(may("TREAT").await);
    // It stands when it is revoked, and is lifted by a supersede.
    desk.revoke("v-1", &opt_out.consent_id).await.unwrap();
    assert!(!may("HRESCH").await);
    let lifting = said(directive(Effect::Permit, &["cedar"], &["TREAT"]));
    desk.record("n-3", lifting, &[&opt_out.consent_id]).await;
    assert!(may("HRESCH").await);
}
