//! One decision in this process: ten rules, one record.

use std::hint::black_box;
use std::time::Instant;

use assent_ledger::consent::{
    decide, Base, Clause, ClinicalDate, Conf, Consent, ConsentState, Context, DataFilter, DayRange, Days,
    DecisionInput, Effect, Outcome, Recipient, Reference, Request, ResourceDescriptor, Rule,
};

use super::figure::{Figure, Target};
use super::stage::Stage;
use crate::error::{failed, Error};

/// Decisions of one measurement, and measurements of which the median counts.
const ROUND: u32 = 10_000;
const ROUNDS: usize = 21;
/// 2026-06-01T00:00:00Z.
const NOW_MS: i64 = 1_780_272_000_000;

fn texts(items: &[&str]) -> Option<Vec<String>> {
    Some(items.iter().map(|item| (*item).to_owned()).collect())
}

fn birch() -> Reference {
    Reference::Identifier { system: "urn:assent:organization".into(), value: "birch".into() }
}

/// Conditions of every kind, none of which the request alone settles.
fn condition(n: u32) -> DataFilter {
    let any = DataFilter::default();
    match n {
        1 => DataFilter { labels: texts(&["PSY", "HIV"]), ..any },
        2 => DataFilter { labels: texts(&["BH"]), types: texts(&["Observation"]), ..any },
        3 => DataFilter { confidentiality: Some(Conf::V), ..any },
        4 => DataFilter { dates: Some(DayRange { first: Some(1), last: Some(9) }), ..any },
        5 => DataFilter { authors: Some(vec![Reference::Literal("Practitioner/9".into())]), ..any },
        6 => DataFilter { instances: texts(&["Observation/9"]), ..any },
        7 => DataFilter { encounters: texts(&["Encounter/9"]), ..any },
        8 => DataFilter { labels: texts(&["SUD", "ETH", "SDV"]), ..any },
        9 => DataFilter { types: texts(&["Condition", "Procedure"]), ..any },
        _ => DataFilter { labels: texts(&["STD"]), ..any },
    }
}

/// A permit with ten denies.
fn ten_rules() -> Consent {
    let rule = |n: u32| Rule {
        id: n.to_string(),
        group: n,
        depth: 1,
        clause: Clause {
            purposes: texts(&["TREAT", "HPAYMT"]),
            data: condition(n),
            ..Clause::of(Effect::Deny)
        },
        within: Vec::new(),
    };
    Consent {
        state: ConsentState::Active,
        base: Base::Permit,
        context: Context {
            recipients: Some(vec![Recipient::Organization(birch())]),
            purposes: texts(&["PurposeOfUse"]),
            ..Context::default()
        },
        rules: (1..=10).map(rule).collect(),
        unresolved: false,
        ..Consent::unresolved("c", "Patient/p")
    }
}

fn record() -> ResourceDescriptor {
    ResourceDescriptor {
        reference: "Observation/1".into(),
        resource_type: "Observation".into(),
        confidentiality: Some(Conf::R),
        sensitivity: vec!["CEL".into(), "DIA".into()],
        assessed: true,
        subjects: vec!["Patient/p".into()],
        clinical_date: Some(ClinicalDate::moment(Days { first: 18_000, last: 18_000 })),
        authors: vec![Reference::Literal("Practitioner/1".into())],
        encounters: vec!["Encounter/1".into()],
        ..ResourceDescriptor::default()
    }
}

/// Decides again and again.
pub async fn decisions(stage: &mut Stage) -> Result<(), Error> {
    let (consents, resources) = ([ten_rules()], [record()]);
    let request = Request::access(vec![birch()], "ETREAT");
    let input = DecisionInput {
        consents: &consents,
        policy: None,
        request: &request,
        resources: &resources,
        at_ms: NOW_MS,
        frozen: false,
    };
    let begin = Instant::now();
    let mut micros = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let begin = Instant::now();
        for _ in 0..ROUND {
            if black_box(decide(black_box(&input))).outcome != Outcome::Permit {
                return failed("a decision that must permit does not");
            }
        }
        micros.push(begin.elapsed().as_secs_f64() * 1e6 / f64::from(ROUND));
    }
    micros.sort_by(f64::total_cmp);
    let (samples, seconds) = (u64::from(ROUND) * ROUNDS as u64, begin.elapsed().as_secs_f64());
    stage.keep(Figure::new("decision_us", micros[ROUNDS / 2], "us", Target::AtMost(5.0), samples, seconds));
    Ok(())
}
