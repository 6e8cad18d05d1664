//! What one consent says of one record (CONSENT.md, Decision 6 and 7, first sentence).

use std::collections::BTreeMap;

use super::kleene::Kleene;
use super::matching::{self, Asked};
use super::model::{Base, Consent, ConsentState, Effect, Rule};

/// One consent's answer, ordered by how it wins across consents (Decision 7): the greatest does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Says {
    Nothing,
    Limit,
    Permit,
    Indeterminate,
    Deny,
}

/// The answer, and the rules that gave it in the consent's order; base and root rule are "0".
#[derive(Debug, PartialEq, Eq)]
pub struct Verdict {
    pub says: Says,
    pub rules: Vec<String>,
}

impl Verdict {
    fn by_root(says: Says) -> Self {
        Self { says, rules: vec!["0".to_owned()] }
    }

    fn nothing() -> Self {
        Self { says: Says::Nothing, rules: Vec::new() }
    }
}

/// Decision 4, and "Revoking never widens": which effects of a consent in this state still count.
pub fn stands(state: ConsentState, effect: Effect) -> bool {
    match state {
        ConsentState::Active => true,
        ConsentState::Revoked => effect == Effect::Deny,
        ConsentState::Proposed
        | ConsentState::Rejected
        | ConsentState::Superseded
        | ConsentState::EnteredInError => false,
    }
}

/// Decision 6 and 7 for one consent. DENY > INDETERMINATE > PERMIT > root rule > base.
pub fn verdict(consent: &Consent, asked: &Asked) -> Verdict {
    if !stands(consent.state, Effect::Deny) || !consent.context.valid.contains(asked.at_ms) {
        return Verdict::nothing();
    }
    let (says, rules) = by_groups(consent, asked);
    let found = if says == Says::Nothing {
        by_root_rule(consent, asked).or_else(|| by_base(consent, asked)).unwrap_or_else(Verdict::nothing)
    } else {
        Verdict { says, rules }
    };
    // Decision 7: nothing here could come out as a permit, so not knowing is as good as DENY.
    if found.says == Says::Indeterminate && base_denies(consent, asked) && !any_permit_holds(consent, asked) {
        return Verdict::by_root(Says::Deny);
    }
    found
}

/// Decision 6, group by group, then the groups combined.
fn by_groups(consent: &Consent, asked: &Asked) -> (Says, Vec<String>) {
    let mut groups: BTreeMap<u32, Vec<(usize, &Rule, Kleene)>> = BTreeMap::new();
    for (n, rule) in consent.rules.iter().enumerate().filter(|(_, rule)| stands(consent.state, rule.effect)) {
        let holds = matching::rule(rule, &consent.context, asked);
        groups.entry(rule.group).or_default().push((n, rule, holds));
    }
    let answers: Vec<_> = groups.values().map(|rules| by_group(rules)).collect();
    let says = answers.iter().map(|(says, _)| *says).max().unwrap_or(Says::Nothing);
    let mut deciding: Vec<_> =
        answers.into_iter().filter(|(s, _)| *s == says).flat_map(|(_, rules)| rules).collect();
    deciding.sort_unstable();
    (says, deciding.into_iter().filter_map(|n| consent.rules.get(n)).map(|rule| rule.id.clone()).collect())
}

/// Decision 6: the deepest TRUE rules speak, DENY wins a tie, an UNKNOWN DENY as deep or deeper makes it INDETERMINATE.
fn by_group(rules: &[(usize, &Rule, Kleene)]) -> (Says, Vec<usize>) {
    let deepest = rules.iter().filter(|(_, _, holds)| *holds == Kleene::True).map(|(_, r, _)| r.depth).max();
    let d = deepest.unwrap_or(0);
    let which = |effect: Effect, value: Kleene, from: u32, to: u32| -> Vec<usize> {
        let speaks = |r: &Rule, holds| r.effect == effect && holds == value && (from..=to).contains(&r.depth);
        rules.iter().filter(|(_, r, holds)| speaks(r, *holds)).map(|(n, _, _)| *n).collect()
    };
    let in_order = [
        (Says::Deny, which(Effect::Deny, Kleene::True, d, d)),
        (Says::Indeterminate, which(Effect::Deny, Kleene::Unknown, d, u32::MAX)),
        (Says::Permit, which(Effect::Permit, Kleene::True, d, d)),
    ];
    in_order.into_iter().find(|(_, found)| !found.is_empty()).unwrap_or((Says::Nothing, Vec::new()))
}

/// Decision 6, last sentence: a root's data rule speaks where no group does.
fn by_root_rule(consent: &Consent, asked: &Asked) -> Option<Verdict> {
    let rule = consent.root_rule.as_ref().filter(|rule| stands(consent.state, rule.effect))?;
    match (rule.effect, matching::rule(rule, &consent.context, asked)) {
        (Effect::Deny, Kleene::True) => Some(Verdict::by_root(Says::Deny)),
        (Effect::Deny, Kleene::Unknown) => Some(Verdict::by_root(Says::Indeterminate)),
        (Effect::Permit, Kleene::True) => Some(Verdict::by_root(Says::Permit)),
        (_, Kleene::False) | (Effect::Permit, Kleene::Unknown) => None,
    }
}

/// Model: a base speaks only where its context holds; where that is UNKNOWN a DENY makes INDETERMINATE. A LIMIT keeps a
/// default from speaking there too: the default would release what the patient may have limited.
fn by_base(consent: &Consent, asked: &Asked) -> Option<Verdict> {
    let holds = |effect| matching::base(effect, &consent.context, asked);
    let says = match consent.base {
        Base::Permit if stands(consent.state, Effect::Permit) && holds(Effect::Permit) == Kleene::True => {
            Says::Permit
        }
        Base::Deny => match holds(Effect::Deny) {
            Kleene::True => Says::Deny,
            Kleene::Unknown => Says::Indeterminate,
            Kleene::False => return None,
        },
        Base::Limit if holds(Effect::Deny) != Kleene::False => Says::Limit,
        Base::Permit | Base::Limit | Base::None => return None,
    };
    Some(Verdict::by_root(says))
}

fn base_denies(consent: &Consent, asked: &Asked) -> bool {
    consent.base == Base::Deny && matching::base(Effect::Deny, &consent.context, asked) == Kleene::True
}

fn any_permit_holds(consent: &Consent, asked: &Asked) -> bool {
    consent
        .rules
        .iter()
        .chain(&consent.root_rule)
        .filter(|rule| rule.effect == Effect::Permit && stands(consent.state, Effect::Permit))
        .any(|rule| matching::rule(rule, &consent.context, asked) == Kleene::True)
}

/// Decision 3: a consent that names psychotherapy notes and nothing else among what it permits.
pub fn names_only_psychotherapy_notes(consent: &Consent) -> bool {
    let mut permits =
        consent.rules.iter().chain(&consent.root_rule).filter(|r| r.effect == Effect::Permit).peekable();
    let only = |rule: &Rule| {
        rule.data.labels.as_deref().is_some_and(|l| l.len() == 1 && l.iter().all(|l| l == "PSYTHPN"))
    };
    consent.base != Base::Permit && permits.peek().is_some() && permits.all(only)
}
