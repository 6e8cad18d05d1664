//! How long one decision takes: ten rules, one record (issue 4, `decision_us`: at most 5 µs).
#![allow(clippy::disallowed_types)] // A clock is what this needs.

use super::*;
use std::time::Instant;

/// Ten rules of every kind of condition, none of which may be skipped by the request alone.
fn ten_rules() -> Consent {
    let data = |n: u32| match n {
        1 => DataFilter { labels: texts(&["PSY", "HIV"]), ..Default::default() },
        2 => DataFilter { labels: texts(&["BH"]), types: texts(&["Observation"]), ..Default::default() },
        3 => DataFilter { confidentiality: Some(Conf::V), ..Default::default() },
        4 => DataFilter { dates: Some(DayRange { first: Some(1), last: Some(9) }), ..Default::default() },
        5 => DataFilter {
            authors: Some(vec![Reference::Literal("Practitioner/9".into())]),
            ..Default::default()
        },
        6 => DataFilter { instances: texts(&["Observation/9"]), ..Default::default() },
        7 => DataFilter { encounters: texts(&["Encounter/9"]), ..Default::default() },
        8 => DataFilter { labels: texts(&["SUD", "ETH", "SDV"]), ..Default::default() },
        9 => DataFilter { types: texts(&["Condition", "Procedure"]), ..Default::default() },
        _ => DataFilter { labels: texts(&["STD"]), ..Default::default() },
    };
    let rules = (1..=10).map(|n| {
        let clause =
            Clause { purposes: texts(&["TREAT", "HPAYMT"]), data: data(n), ..Clause::of(Effect::Deny) };
        Rule { clause, ..rule(n, Effect::Deny) }
    });
    let context = Context {
        recipients: Some(vec![Recipient::Organization(organization("birch"))]),
        purposes: texts(&["PurposeOfUse"]),
        ..Context::default()
    };
    Consent { context, rules: rules.collect(), ..consent(Base::Permit) }
}

#[test]
#[ignore = "a measurement: cargo test --release -p assent-ledger --test suite -- --ignored --nocapture decision_us"]
fn decision_us() {
    let consents = [ten_rules()];
    let request = birch("ETREAT");
    let resources = [ResourceDescriptor {
        clinical_date: Some(ClinicalDate::moment(Days { first: 18_000, last: 18_000 })),
        authors: vec![Reference::Literal("Practitioner/1".into())],
        encounters: vec!["Encounter/1".into()],
        ..record(Conf::R, &["CEL", "DIA"])
    }];
    let input = DecisionInput {
        consents: &consents,
        policy: None,
        request: &request,
        resources: &resources,
        at_ms: NOW_MS,
        frozen: false,
    };
    assert_eq!(decide(&input).outcome, Outcome::Permit);
    let mut best = f64::MAX;
    for _ in 0..20 {
        let start = Instant::now();
        for _ in 0..10_000 {
            assert!(std::hint::black_box(decide(std::hint::black_box(&input))).outcome.is_permitted());
        }
        best = best.min(start.elapsed().as_secs_f64() * 100.0);
    }
    println!("decision_us: {best:.2}");
    assert!(best <= 5.0, "{best:.2} µs");
}
