//! Each access decided again, as the node decided it (`node/src/custodian/evaluate.rs`), and every difference named.

use std::collections::BTreeSet;

use assent_proto::ledger::v1::{AccessEvent, DataRequest};

use super::history::{recipient_of, RecordedAccess, SlotHistory};
use super::opened::{Opened, OpenedEvent};
use super::Finding;
use crate::consent::{
    asked, decide, Consent, DecisionInput, Outcome, ResourceDecision, ResourceDescriptor, Rules,
};
use crate::late::may_be_late;
use crate::receipt::verified_request;

/// Most differing records of one access that are named; the rest is counted.
const MAX_NAMED: usize = 20;

/// What became of one access.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Decided as the rules say.
    Agrees,
    /// Not so.
    Differs,
    /// Something that it takes isn't opened.
    Undecided,
}

/// One access, decided again.
#[derive(Debug, Clone)]
pub struct Replayed {
    /// Its number.
    pub access_seq: u64,
    /// How the ledger holds it.
    pub recorded: RecordedAccess,
    /// The event and the request in it; none when it isn't opened.
    pub event: Option<(AccessEvent, DataRequest)>,
    /// What differs.
    pub differences: Vec<Finding>,
    /// What isn't opened.
    pub missing: Vec<String>,
}

impl Replayed {
    /// A difference counts even where something else could not be looked at.
    pub fn verdict(&self) -> Verdict {
        match (self.differences.is_empty(), self.missing.is_empty()) {
            (false, _) => Verdict::Differs,
            (true, false) => Verdict::Undecided,
            (true, true) => Verdict::Agrees,
        }
    }
}

/// All accesses of a slot.
#[derive(Debug, Clone)]
pub struct Replay {
    /// In order of their numbers; all that the ledger holds.
    pub accesses: Vec<Replayed>,
    /// Openings that do not match their commitments.
    pub mismatches: Vec<Finding>,
}

impl Replay {
    /// Agrees when every access does and every opening matches.
    pub fn verdict(&self) -> Verdict {
        let any = |verdict| self.accesses.iter().any(|access| access.verdict() == verdict);
        match (!self.mismatches.is_empty() || any(Verdict::Differs), any(Verdict::Undecided)) {
            (true, _) => Verdict::Differs,
            (false, true) => Verdict::Undecided,
            (false, false) => Verdict::Agrees,
        }
    }
}

/// Decides every access again.
pub fn replay(history: &SlotHistory, opened: &Opened) -> Replay {
    let accesses = (1u64..).zip(&history.accesses).map(|(access_seq, recorded)| {
        let mut again = Again {
            history,
            opened,
            out: Replayed {
                access_seq,
                recorded: recorded.clone(),
                event: None,
                differences: Vec::new(),
                missing: Vec::new(),
            },
        };
        match opened.events.get(&access_seq) {
            Some(event) => again.access(event),
            None => again.out.missing.push("event".to_owned()),
        }
        again.out
    });
    Replay { accesses: accesses.collect(), mismatches: opened.findings.clone() }
}

struct Again<'a> {
    history: &'a SlotHistory,
    opened: &'a Opened,
    out: Replayed,
}

impl Again<'_> {
    fn differs(&mut self, reason: &'static str, what: &str, expected: impl ToString, found: impl ToString) {
        self.out.differences.push(Finding::new(reason, what, expected.to_string(), found.to_string()));
    }

    fn access(&mut self, opened: &OpenedEvent) {
        let event = &opened.event;
        if event.custodian != self.history.custodian || event.handle != self.history.handle {
            self.differs("OTHER_PATIENT", "custodian and handle of the event", "those of the slot", "others");
            return;
        }
        let Some(request) = self.request(event) else { return };
        self.out.event = Some((event.clone(), request.clone()));
        self.moment(event, &request);
        let Some(consents) = self.consents(event) else { return };
        let Some(rules) = self.rules(event) else { return };
        let Some((records, is_all)) = self.records(opened) else { return };
        self.records_asked_for(&request, &records);
        let decision = decide(&DecisionInput {
            consents: &consents,
            policy: rules.policy.as_ref(),
            request: &asked(&request, &rules, event.time_ms),
            resources: &records,
            at_ms: i64::try_from(event.time_ms).unwrap_or(i64::MAX),
            frozen: self.history.consent(event.consent_seq).is_some_and(|step| step.frozen),
        });
        // Record by record each is right or wrong by itself; what is said of all takes all.
        self.withheld(event, &decision.resources);
        if is_all {
            if decision.outcome.as_str() != event.outcome {
                self.differs("OUTCOME", "outcome", decision.outcome.as_str(), &event.outcome);
            }
            self.lists(opened, &decision.resources);
        }
    }

    /// The request, signed by a key that its recipient had then.
    fn request(&mut self, event: &AccessEvent) -> Option<DataRequest> {
        let (history, recorded) = (self.history, &self.out.recorded);
        // Decided before it was recorded; of a late one the slot's own step is the last height that is certain.
        let first = history.consent(event.consent_seq).map_or(0, |step| step.height).min(recorded.height);
        let chain_id = history.chain_id.as_str();
        let mut why = "the recipient had no key".to_owned();
        let recipient = recipient_of(event).unwrap_or_default();
        for key in history.keys_of(&recipient, first, recorded.height) {
            match verified_request(chain_id, |_| Ok(key), event) {
                Ok((_, request)) => return Some(request),
                Err(error) => why = error.to_string(),
            }
        }
        self.differs("REQUEST", "request", "one that its recipient signed for this custodian", why);
        None
    }

    /// Under the sequences that the operation names, at the time of a block in between.
    fn moment(&mut self, event: &AccessEvent, request: &DataRequest) {
        let (history, recorded) = (self.history, self.out.recorded.clone());
        let names = |consent: u64, policy: u64| format!("consent {consent}, policy {policy}");
        let (of_event, of_operation) =
            ((event.consent_seq, event.policy_seq), (recorded.consent_seq, recorded.policy_seq));
        let in_order = match event.late {
            false => of_event == of_operation,
            true => of_event.0 <= of_operation.0 && of_event.1 <= of_operation.1,
        };
        if !in_order {
            let (expected, found) = (names(of_operation.0, of_operation.1), names(of_event.0, of_event.1));
            self.differs("SEQUENCES", "sequences that it was decided under", expected, found);
        }
        if event.late && !may_be_late(event, request) {
            self.differs("NOT_LATE", "release without quorum", "break-glass with a reason", &event.outcome);
        }
        let consent = history.consent(event.consent_seq).map_or(0, |step| step.height);
        let policy = history.policy(event.policy_seq).map_or(0, |step| step.height);
        let (first, last) = (consent.max(policy), recorded.height.saturating_sub(1));
        let is_then = match event.late {
            false => history.has_time(first, last, event.time_ms),
            true => history.time_of(first) <= event.time_ms,
        };
        if !is_then {
            let expected = format!("the time of a block from height {first} to {last}");
            self.differs("TIME", "time of the decision", expected, format!("{} ms", event.time_ms));
        }
    }

    fn consents(&mut self, event: &AccessEvent) -> Option<Vec<Consent>> {
        let what = format!("consents of sequence {}", event.consent_seq);
        let step = self.history.consent(event.consent_seq);
        match step.and_then(|step| self.opened.set(&step.commitment)) {
            Some(Ok(consents)) => {
                self.of_this_patient(&consents);
                return Some(consents);
            }
            Some(Err(why)) => self.out.missing.push(format!("{what}: {why}")),
            None => self.out.missing.push(what),
        }
        None
    }

    /// A consent of another patient in the slot would speak for nobody, and nobody would see why.
    fn of_this_patient(&mut self, consents: &[Consent]) {
        let patient = self.opened.patient_reference.as_str();
        for consent in consents.iter().filter(|consent| consent.subject != patient) {
            let what = format!("patient of consent {}", consent.id);
            self.differs("OTHER_PATIENT", &what, patient, &consent.subject);
        }
    }

    fn rules(&mut self, event: &AccessEvent) -> Option<Rules> {
        match self.opened.rules(event.policy_seq) {
            Some(Ok(rules)) => return Some(rules),
            Some(Err(why)) => self.out.missing.push(format!("policy {}: {why}", event.policy_seq)),
            None => self.out.missing.push(format!("policy {}", event.policy_seq)),
        }
        None
    }

    /// The records that are opened, and whether they are all.
    fn records(&mut self, event: &OpenedEvent) -> Option<(Vec<ResourceDescriptor>, bool)> {
        match self.opened.records(event) {
            Ok((records, 0)) => Some((records, true)),
            Ok((records, missing)) => {
                let all = event.event.resources;
                self.out.missing.push(format!("{missing} of {all} records as they were released"));
                Some((records, false))
            }
            Err(why) => {
                self.differs("RECORD", "released record", "one that rules can be tried on", why);
                None
            }
        }
    }

    /// Only the types that were asked for, and only of this patient.
    fn records_asked_for(&mut self, request: &DataRequest, records: &[ResourceDescriptor]) {
        let types = &request.resource_types;
        for record in records.iter().filter(|r| !types.is_empty() && !types.contains(&r.resource_type)) {
            self.differs("NOT_ASKED_FOR", &record.reference, types.join(" "), &record.resource_type);
        }
        let patient = self.opened.patient_reference.as_str();
        for record in records.iter().filter(|r| !r.subjects.iter().any(|subject| subject == patient)) {
            self.differs("OTHER_PATIENT", &record.reference, patient, record.subjects.join(" "));
        }
    }

    /// Records that went out although the rules withhold them, with the rule that does.
    fn withheld(&mut self, event: &AccessEvent, decided: &[ResourceDecision]) {
        let counts = |outcome: Outcome| match event.late {
            false => outcome.is_permitted(),
            true => outcome == Outcome::PermitOverride,
        };
        let withheld: Vec<_> = decided.iter().filter(|record| !counts(record.outcome)).collect();
        for record in withheld.iter().take(MAX_NAMED) {
            let by: Vec<_> = record.decided_by.iter().map(ToString::to_string).collect();
            let by = if by.is_empty() { "no consent and no default".to_owned() } else { by.join(" ") };
            let expected = format!("{} by {by}", record.outcome.as_str());
            self.differs("NOT_PERMITTED", &record.reference, expected, "released");
        }
        if withheld.len() > MAX_NAMED {
            let more = format!("{} more", withheld.len() - MAX_NAMED);
            self.differs("NOT_PERMITTED", "further records", "withheld", more);
        }
    }

    /// What was written down as rules and obligations of the released records.
    fn lists(&mut self, opened: &OpenedEvent, decided: &[ResourceDecision]) {
        let permitted = || decided.iter().filter(|record| record.outcome.is_permitted());
        let united = |of: &dyn Fn(&ResourceDecision) -> Vec<String>| {
            permitted().flat_map(of).collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>()
        };
        let obligations = united(&|record| record.obligations.clone());
        let rules = united(&|record| record.decided_by.iter().map(ToString::to_string).collect());
        let event = &opened.event;
        if obligations != event.obligations {
            self.differs("OBLIGATIONS", "obligations", list(&obligations), list(&event.obligations));
        }
        match &opened.decided_by {
            Some(found) if *found != rules => {
                self.differs("REASONS", "rules that decided", list(&rules), list(found));
            }
            Some(_) => {}
            None => self.out.missing.push("reasons".to_owned()),
        }
    }
}

fn list(names: &[String]) -> String {
    match names {
        [] => "none".to_owned(),
        names => names.join(" "),
    }
}
