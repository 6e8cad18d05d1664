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
use crate::receipt::{verified_request, ReceiptError};
use crate::receipts::MAX_KEY_AGE_MS;

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

    /// The request, signed by the key that its recipient had when it was decided: the rule of receipts ([`MAX_KEY_AGE_MS`]).
    fn request(&mut self, event: &AccessEvent) -> Option<DataRequest> {
        let (history, RecordedAccess { height, time_ms, .. }) = (self.history, &self.out.recorded);
        let recipient = recipient_of(event).unwrap_or_default();
        let (key, ended_ms) = history.key_after(&recipient, event.height, *height);
        let is_old = ended_ms.is_some_and(|ended| time_ms.saturating_sub(ended) > MAX_KEY_AGE_MS);
        let key_of = |_: &str| match key {
            None => Err(ReceiptError::Rule("the recipient had no key")),
            Some(_) if is_old && !event.late => {
                Err(ReceiptError::Rule("the recipient's key was replaced more than an hour before"))
            }
            Some(key) => Ok(key),
        };
        match verified_request(&history.chain_id, key_of, event) {
            Ok((_, request)) => Some(request),
            Err(why) => {
                self.differs("REQUEST", "request", "one that its recipient signed for this custodian", why);
                None
            }
        }
    }

    /// Under the sequences that the operation names, while they counted.
    fn moment(&mut self, event: &AccessEvent, request: &DataRequest) {
        let recorded = self.out.recorded.clone();
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
        if in_order {
            self.time(event);
        }
    }

    /// After a block in which the sequences counted, at its time; of a late one the custodian's clock says it.
    fn time(&mut self, event: &AccessEvent) {
        let (history, AccessEvent { height, time_ms, .. }) = (self.history, event);
        let consent = |seq| history.consent(seq).map(|step| step.height);
        let policy = |seq| history.policy(seq).map(|step| step.height);
        let first = consent(event.consent_seq).max(policy(event.policy_seq)).unwrap_or_default();
        let (next_consent, next_policy) =
            (event.consent_seq.saturating_add(1), event.policy_seq.saturating_add(1));
        let ends = [Some(self.out.recorded.height), consent(next_consent), policy(next_policy)];
        let last = ends.into_iter().flatten().min().unwrap_or_default().saturating_sub(1);
        let of_block = history.time_of(*height);
        let is_then = if event.late { of_block <= *time_ms } else { of_block == *time_ms };
        if !is_then || *height < first || *height > last {
            let expected = format!("after a block from height {first} to {last}, at its time");
            self.differs("TIME", "time of the decision", expected, format!("after {height}, {time_ms} ms"));
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
