//! The decision, a pure function (CONSENT.md, Decision). The steps, in the order they are taken for each record:
//!
//! ```text
//!   for each patient the record is about:
//!     the glass is broken by whom the policy lets .. PERMIT_OVERRIDE                       (1)
//!     a law demands the release .................... PERMIT                                (3)
//!     frozen slot .................................. DENY                                  (2)
//!     patient asks for itself (PATRQT) ............. PERMIT, psychotherapy notes excepted  (3)
//!     self-pay restriction, and a plan asks ........ DENY                                  (3)
//!     every standing consent says .................. DENY > INDETERMINATE > PERMIT > LIMIT (4-7)
//!     a permit that a hard rule doesn't take ....... NO_CONSENT, by that rule              (3)
//!     nobody says anything ......................... the default policy, else NO_CONSENT   (7)
//!   least favourable of the patients                                                       (9)
//! ```
//!
//! Freshness (2) is the caller's: a node that isn't fresh doesn't get here.

use std::collections::BTreeSet;

use super::matching::{Asked, Labels};
use super::model::{Conf, Consent, ConsentState, Effect, LegalBasis};
use super::outcome::{DecidedBy, Decision, Outcome, ResourceDecision};
use super::policy::DefaultPolicy;
use super::request::Request;
use super::resource::{ResourceDescriptor, PART2_LABEL};
use super::speaking::{self, Says, Speaker, Standing, Verdict};
use super::tables;

const NOTES: &str = "PSYTHPN";
/// What goes with every disclosure of a Part 2 record: no redisclosure without consent.
const NO_REDISCLOSURE: &str = "NORDSCLCD";

pub struct DecisionInput<'a> {
    /// All that the custodian holds for the subject, in any state and order; others are passed over.
    pub consents: &'a [Consent],
    pub policy: Option<&'a DefaultPolicy>,
    pub request: &'a Request,
    pub resources: &'a [ResourceDescriptor],
    /// Block time, milliseconds since 1970 UTC.
    pub at_ms: i64,
    pub frozen: bool,
}

/// Decides on every record, whatever the input: it cannot fail, and what it cannot tell it withholds.
pub fn decide(input: &DecisionInput) -> Decision {
    let case = Case::of(input);
    let resources: Vec<_> = input.resources.iter().map(|resource| case.on_resource(resource)).collect();
    let permitted = resources.iter().map(|r| r.outcome).filter(|o| o.is_permitted()).max();
    let least = || resources.iter().map(|r| r.outcome).min();
    let without = if input.frozen { Outcome::Deny } else { Outcome::NoConsent };
    Decision {
        outcome: permitted.or_else(least).unwrap_or(without),
        resources,
        not_after_ms: not_after(input),
    }
}

/// What is decided of one record for one of its patients. Who decided is beside its place in the input, which is behind all
/// consents for what is no consent.
struct Found {
    outcome: Outcome,
    decided_by: Vec<((usize, Speaker), DecidedBy)>,
    obligations: BTreeSet<String>,
}

impl Found {
    fn nobody() -> Self {
        Self { outcome: Outcome::NoConsent, decided_by: Vec::new(), obligations: BTreeSet::new() }
    }

    fn by(outcome: Outcome, who: DecidedBy) -> Self {
        Self { outcome, decided_by: vec![((usize::MAX, Speaker::Root), who)], obligations: BTreeSet::new() }
    }

    fn by_hard_rule(outcome: Outcome, id: &'static str) -> Self {
        Self::by(outcome, DecidedBy::HardRule { id })
    }

    /// A release that no consent made: what goes with every disclosure of such a record goes with it too.
    fn releasing(mut self, asked: &Asked) -> Self {
        if is_part2(asked) {
            self.obligations.insert(NO_REDISCLOSURE.to_owned());
        }
        self
    }
}

/// The input, with what does not depend on the record worked out once.
pub(super) struct Case<'a> {
    input: &'a DecisionInput<'a>,
    pub(super) standing: Vec<Standing<'a>>,
    assumes_normal: bool,
    default: Option<Effect>,
    breaks_glass: bool,
}

type Said<'a, 'b> = [(&'b Standing<'a>, Verdict)];

impl<'a> Case<'a> {
    /// Decision 4: the latest revisions that stand now.
    pub(super) fn of(input: &'a DecisionInput<'a>) -> Self {
        let newer = |this: &Consent| {
            let later = |other: &Consent| {
                other.revision > this.revision && other.id == this.id && other.subject == this.subject
            };
            input.consents.iter().any(later)
        };
        // Revisions are few; only consents that have one are compared with the others.
        let several = input.consents.iter().any(|consent| consent.revision > 0);
        let standing = input.consents.iter().enumerate().filter(|(_, consent)| !several || !newer(consent));
        Self {
            input,
            standing: standing
                .filter_map(|(n, consent)| Standing::of(consent, n, input.request, input.at_ms))
                .collect(),
            assumes_normal: input.policy.is_some_and(|policy| policy.assumes_normal(&input.request.purpose)),
            default: input.policy.and_then(|policy| policy.says(input.request)),
            breaks_glass: input.policy.is_some_and(|policy| policy.lets_break_glass(input.request)),
        }
    }

    /// A record as rules are matched against it, and whether its labels are assumed (Decision 5).
    pub(super) fn asked<'r>(&self, resource: &'r ResourceDescriptor) -> (Asked<'r>, bool) {
        let assumed = !self.input.frozen && self.assumes_normal && resource.is_unlabelled();
        let labels = if assumed {
            Labels { assessed: true, confidentiality: Some(Conf::N), sensitivity: &[] }
        } else {
            Labels {
                assessed: resource.assessed,
                confidentiality: resource.confidentiality,
                sensitivity: &resource.sensitivity,
            }
        };
        (Asked { resource, labels }, assumed)
    }

    fn on_resource(&self, resource: &ResourceDescriptor) -> ResourceDecision {
        let (asked, assumed) = self.asked(resource);
        let found = self.least_favourable(&asked);
        let obligations =
            if found.outcome.is_permitted() { found.obligations.into_iter().collect() } else { Vec::new() };
        ResourceDecision {
            reference: resource.reference.clone(),
            outcome: found.outcome,
            decided_by: found.decided_by.into_iter().map(|(_, who)| who).collect(),
            obligations,
            assumed_labels: assumed,
        }
    }

    /// Decision 9.
    fn least_favourable(&self, asked: &Asked) -> Found {
        let about: BTreeSet<&str> = asked.resource.subjects.iter().map(String::as_str).collect();
        let mut found: Vec<Found> = about.iter().map(|subject| self.for_subject(asked, subject)).collect();
        if about.is_empty() {
            // A record that names nobody: no consent permits it, and any patient's here may be what it is about.
            found.push(self.on_verdicts(asked, &[], false));
            let everyone: BTreeSet<&str> = self.standing.iter().map(|s| s.consent.subject.as_str()).collect();
            found.extend(everyone.iter().map(|subject| self.for_subject(asked, subject)));
        }
        let worst = found.iter().map(|f| f.outcome).min().unwrap_or(Outcome::NoConsent);
        let obligations = found.iter().flat_map(|f| f.obligations.iter().cloned()).collect();
        let mut decided_by: Vec<_> =
            found.into_iter().filter(|f| f.outcome == worst).flat_map(|f| f.decided_by).collect();
        decided_by.sort();
        decided_by.dedup();
        Found { outcome: worst, decided_by, obligations }
    }

    fn for_subject(&self, asked: &Asked, subject: &str) -> Found {
        let request = self.input.request;
        let its = self.standing.iter().filter(|standing| standing.consent.subject == subject);
        let verdicts: Vec<_> = its.map(|standing| (standing, standing.verdict(asked))).collect();
        self.on_verdicts(asked, &verdicts, request.is_own(subject))
    }

    /// The steps for one patient, in their order.
    fn on_verdicts(&self, asked: &Asked, verdicts: &Said, is_own: bool) -> Found {
        if self.passes_broken_glass(asked, verdicts) {
            if let Some(policy) = self.input.policy {
                let by_policy = DecidedBy::DefaultPolicy { id: policy.id.clone() };
                return Found::by(Outcome::PermitOverride, by_policy).releasing(asked);
            }
        }
        if self.input.request.required_by_law.is_some() {
            // Decision 3: judged before the frozen check; it releases and records.
            return Found::by_hard_rule(Outcome::Permit, "REQUIRED_BY_LAW").releasing(asked);
        }
        if self.input.frozen {
            // Decision 2.
            return Found::by_hard_rule(Outcome::Deny, "frozen-slot");
        }
        if is_own && !is_psychotherapy_note(asked) {
            // Decision 3: a request of the subject for itself skips consents.
            return Found::by_hard_rule(Outcome::Permit, "PATRQT");
        }
        if self.asks_for_payment() && verdicts.iter().any(|(standing, _)| standing.restricts_plans(asked)) {
            // Decision 3: the self-pay restriction denies HPAYMT to plans.
            return Found::by_hard_rule(Outcome::Deny, "self-pay");
        }
        self.across_consents(asked, verdicts)
    }

    /// Decision 1. Whoever may break the glass passes everything but psychotherapy notes; a DENY, the default policy's own
    /// included, and a frozen slot only where the policy says so. (The self-pay restriction is about payment, which nobody
    /// breaks the glass for.)
    fn passes_broken_glass(&self, asked: &Asked, verdicts: &Said) -> bool {
        let Some(glass) = self.input.policy.and_then(|policy| policy.break_glass.as_ref()) else {
            return false;
        };
        let denied = || {
            self.default == Some(Effect::Deny) || verdicts.iter().any(|(_, verdict)| verdict.denies_for_sure)
        };
        self.breaks_glass
            && !is_psychotherapy_note(asked)
            && (!self.input.frozen || glass.overrides_frozen)
            && (glass.overrides_deny || !denied())
    }

    fn asks_for_payment(&self) -> bool {
        let request = self.input.request;
        request.recipient_is_plan && tables::purpose_within(&request.purpose, "HPAYMT")
    }

    /// Decision 7, second sentence, with the hard rules of Decision 3 on what may permit.
    fn across_consents(&self, asked: &Asked, verdicts: &Said) -> Found {
        let says = verdicts.iter().map(|(_, verdict)| verdict.says).max().unwrap_or(Says::Nothing);
        let outcome = match says {
            Says::Deny => Outcome::Deny,
            Says::Indeterminate => Outcome::Indeterminate,
            Says::Permit => return by_permits(asked, verdicts),
            Says::Limit => Outcome::NoConsent,
            Says::Nothing => return self.by_default(asked),
        };
        let saying = verdicts.iter().filter(|(_, verdict)| verdict.says == says);
        Found { outcome, decided_by: speakers(saying), obligations: BTreeSet::new() }
    }

    /// Decision 7, last words, and Decision 3: no default releases what needs a consent of its own.
    fn by_default(&self, asked: &Asked) -> Found {
        let Some(policy) = self.input.policy else {
            return Found::nobody();
        };
        let said = DecidedBy::DefaultPolicy { id: policy.id.clone() };
        match self.default {
            Some(Effect::Deny) => Found::by(Outcome::Deny, said),
            Some(Effect::Permit) if is_psychotherapy_note(asked) => {
                Found::by_hard_rule(Outcome::NoConsent, NOTES)
            }
            Some(Effect::Permit) if is_part2(asked) => Found::by_hard_rule(Outcome::NoConsent, PART2_LABEL),
            Some(Effect::Permit) => Found::by(Outcome::Permit, said),
            None => Found::nobody(),
        }
    }
}

/// The rules that spoke, in input order.
fn speakers<'a: 'b, 'b>(
    verdicts: impl Iterator<Item = &'b (&'b Standing<'a>, Verdict)>,
) -> Vec<((usize, Speaker), DecidedBy)> {
    let name = |standing: &Standing, speaker: Speaker| {
        let named = match speaker {
            Speaker::Root => None,
            Speaker::Rule(n) => standing.consent.rules.get(n),
        };
        let rule = named.map_or_else(|| "0".to_owned(), |rule| rule.id.clone());
        DecidedBy::Consent { consent: standing.consent.id.clone(), rule }
    };
    verdicts
        .flat_map(|(standing, verdict)| verdict.by.iter().map(move |by| (*standing, *by)))
        .map(|(standing, by)| ((standing.place, by), name(standing, by)))
        .collect()
}

/// Some consent permits and none objects. Decision 3 says which permits count for this record; obligations are united.
fn by_permits(asked: &Asked, verdicts: &Said) -> Found {
    let mut counting: Vec<_> = verdicts.iter().filter(|(_, verdict)| verdict.says == Says::Permit).collect();
    if is_psychotherapy_note(asked) {
        counting.retain(|(standing, _)| speaking::names_only_psychotherapy_notes(standing.consent));
        if counting.is_empty() {
            return Found::by_hard_rule(Outcome::NoConsent, NOTES);
        }
    }
    if is_part2(asked) {
        counting.retain(|(standing, _)| standing.consent.legal_basis.is_some_and(LegalBasis::is_part2));
        if counting.is_empty() {
            return Found::by_hard_rule(Outcome::NoConsent, PART2_LABEL);
        }
    }
    let obligations = counting.iter().flat_map(|(s, _)| s.consent.obligations.iter().cloned()).collect();
    let found = Found { outcome: Outcome::Permit, decided_by: speakers(counting.into_iter()), obligations };
    found.releasing(asked)
}

/// Decision 3, "psychotherapy notes (PSYTHPN)".
fn is_psychotherapy_note(asked: &Asked) -> bool {
    asked.resource.sensitivity.iter().any(|label| label == NOTES)
}

fn is_part2(asked: &Asked) -> bool {
    asked.resource.handling.iter().any(|label| label == PART2_LABEL)
}

/// The first moment at which this decision might come out otherwise by itself.
fn not_after(input: &DecisionInput) -> Option<i64> {
    let matters = |state| matches!(state, ConsentState::Active | ConsentState::Revoked);
    let consents = input.consents.iter().filter(|consent| matters(consent.state));
    let bounds = consents.flat_map(|consent| {
        let rules = consent.rules.iter().chain(&consent.root_rule);
        let clauses = rules.flat_map(|rule| rule.within.iter().chain([&rule.clause]));
        let periods = std::iter::once(consent.context.valid).chain(clauses.map(|clause| clause.valid));
        let authority = consent.authority_ends_ms.filter(|end| *end > input.at_ms);
        periods.filter_map(|period| period.next_bound(input.at_ms)).chain(authority)
    });
    bounds.min()
}
