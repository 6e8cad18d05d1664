//! What a preview says, and what then really happens.

use std::collections::BTreeMap;

use assent_proto::v1::preview_consent_request::Change;
use assent_proto::v1::*;

use super::*;

fn own_probe(purpose: &str) -> Probe {
    Probe {
        recipient: "cedar".into(),
        purpose: purpose.into(),
        actor: "Practitioner/ada".into(),
        ..Default::default()
    }
}

/// Outcomes by resource after a change, where the probe before it said `before`.
fn after(before: &BTreeMap<String, String>, effect: &ProbeEffect) -> BTreeMap<String, String> {
    let mut outcomes = before.clone();
    for change in &effect.changes {
        assert_eq!(
            outcomes.insert(change.resource.clone(), change.after.clone()).as_deref(),
            Some(change.before.as_str())
        );
    }
    outcomes
}

fn permitted(outcomes: &BTreeMap<String, String>) -> Vec<String> {
    outcomes.iter().filter(|(_, o)| o.starts_with("PERMIT")).map(|(r, _)| r.clone()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_preview_says_what_then_happens() {
    let desk = Desk::alone().await;
    let nothing: BTreeMap<String, String> =
        ALL.iter().map(|r| ((*r).to_owned(), "NO_CONSENT".to_owned())).collect();
    let permit = || directive(Effect::Permit, &["cedar"], &["TREAT"]);
    let mut outcomes = nothing;
    let mut recorded: Vec<String> = Vec::new();
    // Each step: previewed, done, and compared with what is released then.
    let steps: [(NewConsent, Vec<usize>); 4] = [
        (said(but_not(permit(), &["PSY"])), vec![]),
        (said(permit()), vec![]),
        (said(directive(Effect::Deny, &[], &[])), vec![0]),
        (said(permit()), vec![1, 2]),
    ];
    for (n, (consent, supersedes)) in steps.into_iter().enumerate() {
        let supersedes: Vec<&str> = supersedes.iter().map(|i| recorded[*i].as_str()).collect();
        let height = desk.list(|_| {}).await.answer.unwrap().height;
        let preview = desk
            .preview(Change::Record(consent.clone()), &supersedes, vec![own_probe("TREAT")])
            .await
            .unwrap();
        assert!(!preview.rules.is_empty() && preview.answer.unwrap().height >= height);
        outcomes = after(&outcomes, &preview.effects[0]);
        // Nothing was recorded by asking.
        assert_eq!(desk.ids(|_| {}).await.len(), recorded.len());
        let answer = desk.record(&format!("n-{n}"), consent, &supersedes).await;
        assert_eq!(answer.rules, preview.rules);
        recorded.push(answer.consent_id);
        assert_eq!(desk.released("cedar", &format!("r-{n}")).await, permitted(&outcomes), "step {n}");
    }
    assert_eq!(permitted(&outcomes), ALL);

    // The second step's permit was neutralised for PSY by the first one's rule, and said so beforehand.
    let trial = said(but_not(permit(), &["PSY"]));
    let preview = desk.preview(Change::Record(trial), &[], vec![own_probe("TREAT")]).await.unwrap();
    let change = &preview.effects[0].changes[0];
    assert_eq!(
        (change.resource.as_str(), change.before.as_str(), change.after.as_str()),
        (ALL[1], "PERMIT", "DENY")
    );
    assert!(change.decided_by[0].ends_with("/1"), "{change:?}");

    // A revocation, likewise.
    let revoke = || Change::Revoke(recorded[3].clone());
    let preview = desk.preview(revoke(), &[], Vec::new()).await.unwrap();
    assert!(preview.still_denied.is_empty() && preview.rules.is_empty());
    let probe = preview.effects[0].probe.clone().unwrap();
    assert_eq!(
        (probe.recipient.as_str(), probe.purpose.as_str(), probe.action.as_str()),
        ("cedar", "TREAT", "access")
    );
    outcomes = after(&outcomes, &preview.effects[0]);
    desk.revoke("v-1", &recorded[3]).await.unwrap();
    assert_eq!(desk.released("cedar", "r-9").await, permitted(&outcomes));
    assert!(permitted(&outcomes).is_empty());
    // Of what is revoked already nothing changes.
    let preview = desk.preview(revoke(), &[], Vec::new()).await.unwrap();
    assert!(preview.effects.iter().all(|effect| effect.changes.is_empty()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_a_standing_rule_neutralises_is_named() {
    let desk = Desk::alone().await;
    let permit = || directive(Effect::Permit, &["cedar"], &["TREAT"]);
    let first = desk.record("n-1", said(but_not(permit(), &["PSY"])), &[]).await;
    let preview = desk.preview(Change::Record(said(permit())), &[], Vec::new()).await.unwrap();
    let effect = &preview.effects[0];
    assert!(effect.changes.is_empty());
    let [neutralised] = &effect.neutralised[..] else { panic!("{effect:?}") };
    assert_eq!((neutralised.resource.as_str(), neutralised.outcome.as_str()), (ALL[1], "DENY"));
    assert_eq!(neutralised.by, [format!("{}/1", first.consent_id)]);
    // Revoked, its rule still does, and the preview of the revocation had said so.
    let preview = desk.preview(Change::Revoke(first.consent_id.clone()), &[], Vec::new()).await.unwrap();
    let revoked = desk.revoke("v-1", &first.consent_id).await.unwrap();
    assert_eq!((preview.still_denied.len(), &preview.still_denied), (1, &revoked.still_denied));
    let preview = desk.preview(Change::Record(said(permit())), &[], Vec::new()).await.unwrap();
    assert_eq!(preview.effects[0].neutralised.len(), 1);
    let preview =
        desk.preview(Change::Record(said(permit())), &[&first.consent_id], Vec::new()).await.unwrap();
    assert!(preview.effects[0].neutralised.is_empty());
    assert_eq!(preview.effects[0].changes.len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn without_probes_it_asks_for_whom_the_consent_names() {
    let desk = Desk::alone().await;
    let probes = async |consent: NewConsent| -> Vec<(String, String)> {
        let preview = desk.preview(Change::Record(consent), &[], Vec::new()).await.unwrap();
        let probes = preview.effects.into_iter().map(|effect| effect.probe.unwrap());
        probes.map(|probe| (probe.recipient, probe.purpose)).collect()
    };
    let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    assert_eq!(probes(fhir(text("c-1"))).await, [pair("birch", "TREAT")]);
    let opt_out = said(directive(Effect::Deny, &[], &["HRESCH"]));
    assert_eq!(probes(opt_out).await, [pair("cedar", "HRESCH")]);
    assert_eq!(probes(said(directive(Effect::Deny, &[], &[]))).await, [pair("cedar", "TREAT")]);
    let two = said(directive(Effect::Permit, &["cedar"], &["TREAT", "HPAYMT"]));
    assert_eq!(probes(two).await, [pair("cedar", "HPAYMT"), pair("cedar", "TREAT")]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_preview_that_would_be_too_large_is_refused() {
    let desk = Desk::alone().await;
    let one = String::from_utf8(records(REFERENCE)[1].clone()).unwrap();
    let many = (0..200).map(|n| one.replace("mrn-1-bp", &format!("mrn-1-{n}")).into_bytes()).collect();
    load(desk.net.client(0, "ehr"), "l-2", many).await.unwrap();
    let trial = || Change::Record(said(directive(Effect::Permit, &["cedar"], &["TREAT"])));
    let error = desk.preview(trial(), &[], vec![own_probe("TREAT"); 64]).await.unwrap_err();
    assert_eq!(error.code(), tonic::Code::FailedPrecondition);
    assert_eq!(reason(&error), "PREVIEW_TOO_LARGE");
    let preview = desk.preview(trial(), &[], vec![own_probe("TREAT"); 4]).await.unwrap();
    assert_eq!(preview.effects.iter().map(|effect| effect.changes.len()).collect::<Vec<_>>(), [203; 4]);
}
