//! From provisions as written to base, root rule and rules (CONSENT.md, "Root" and "Nesting").
//!
//! ```text
//!   root type permit, no data attributes    base PERMIT, nothing at the root
//!   root type permit, data attributes       base LIMIT,  a root rule that permits them
//!   root type deny,   no data attributes    base DENY,   nothing at the root
//!   root type deny,   data attributes       base NONE,   a root rule that denies them
//!
//!   R5     every top-level provision is a group; a nested rule carries its ancestors' conditions, the root's data too
//!   IHE    one group: the root's data rule at depth 1, nested forbids at 2, nested permits at 3, each by itself
//! ```
//!
//! Without IHE's profile, what is accepted reads the same both ways, or can only be R5's.

use super::provision::Provision;
use super::reader::Findings;
use crate::consent::dates::Precision;
use crate::consent::{Base, Clause, Context, DataFilter, Effect, Rule};

/// Provisions of one consent, the root not counted. Hundreds are unheard of; thousands are an attack on whoever decides.
pub const MAX_RULES: usize = 1000;

/// The part of a consent that its provisions make.
pub struct Meaning {
    pub context: Context,
    pub base: Base,
    pub root_rule: Option<Rule>,
    pub rules: Vec<Rule>,
}

/// What stands around the provisions and bears on them.
pub struct Around {
    /// policyRule OPTIN or OPTOUT.
    pub policy_effect: Option<Effect>,
    pub is_research: bool,
    /// meta.profile names IHE's Privacy Consent on FHIR.
    pub is_ihe: bool,
}

/// `None` where an issue was left.
pub fn meaning(root: Option<&Provision>, around: &Around, to: &mut Findings) -> Option<Meaning> {
    let effect = base_effect(root, around, to);
    let mut found =
        Meaning { context: Context::default(), base: Base::None, root_rule: None, rules: Vec::new() };
    if let Some(root) = root {
        check_root(root, to);
        check_dates(root, effect, to);
        check_number(root, to);
        found.context = Context {
            valid: root.valid(),
            recipients: root.recipients.clone(),
            purposes: root.purposes.clone(),
            actions: root.actions.clone(),
        };
    }
    if around.is_research && found.context.purposes.is_none() {
        // "Scope research without root purposes means HRESCH."
        found.context.purposes = Some(vec!["HRESCH".to_owned()]);
    }
    let effect = effect?;
    let data = root.filter(|root| root.has_data()).map(|root| root.filter(effect));
    found.base = match (effect, data.is_some()) {
        (Effect::Permit, false) => Base::Permit,
        (Effect::Permit, true) => Base::Limit,
        (Effect::Deny, false) => Base::Deny,
        (Effect::Deny, true) => Base::None,
    };
    let root_rule = data.map(|data| root_rule(effect, data));
    match root {
        Some(root) if !root.nested.is_empty() && around.is_ihe => {
            read_as_ihe(root, root_rule, &mut found, to);
        }
        Some(root) => {
            check_readings(root, effect, to);
            let within: Vec<Clause> = root_rule.iter().map(|rule| rule.clause.clone()).collect();
            for (group, provision) in (1u32..).zip(&root.nested) {
                nested(provision, &group.to_string(), (group, 1), &within, &mut found.rules, to);
            }
            found.root_rule = root_rule;
        }
        None => {}
    }
    Some(found)
}

/// The root's data attributes; everything else of the root is the context, which every rule carries.
fn root_rule(effect: Effect, data: DataFilter) -> Rule {
    Rule {
        id: "0".to_owned(),
        group: 0,
        depth: 0,
        clause: Clause { data, ..Clause::of(effect) },
        within: Vec::new(),
    }
}

/// "A root `type` is the base. Without: policyRule; none: `base-undefined`; a contradiction: `base-contradiction`."
fn base_effect(root: Option<&Provision>, around: &Around, to: &mut Findings) -> Option<Effect> {
    let typed = root.and_then(|root| root.effect);
    match (typed, around.policy_effect) {
        (Some(typed), Some(policy)) if typed != policy => {
            to.refuse(
                "base-contradiction",
                "Consent.provision.type",
                "the root's type and the policyRule contradict",
            );
        }
        (Some(_), _) => {
            to.note("root-type-is-base", "Consent.provision.type", "read as what holds where no rule does")
        }
        (None, Some(_)) => {}
        (None, None) => {
            let message =
                "neither a root type nor a policyRule OPTIN or OPTOUT says what holds where no rule does";
            to.refuse("base-undefined", "Consent.provision", message);
        }
    }
    typed.or(around.policy_effect)
}

/// Published examples mean opposite things by an untyped root that has conditions.
fn check_root(root: &Provision, to: &mut Findings) {
    let period_alone = root.period.is_some() && root.nested.is_empty();
    if root.effect.is_none() && (root.has_conditions() || period_alone) {
        let message = "a root without a type has conditions; whether they permit or deny can't be told";
        to.refuse("untyped-root-limit", &root.path, message);
    }
}

/// "Year- or month-precision dates on a deny": which day was meant can't be told, and a day too few releases.
fn check_dates(provision: &Provision, effect: Option<Effect>, to: &mut Findings) {
    let periods = [
        ("period", provision.period.map(|(_, precision)| precision)),
        ("dataPeriod", provision.dates.map(|(_, precision)| precision)),
    ];
    for (key, precision) in periods {
        if effect == Some(Effect::Deny) && precision.is_some_and(|precision| precision < Precision::Day) {
            let path = format!("{}.{key}", provision.path);
            to.refuse("imprecise-date-on-deny", &path, "a deny needs dates that name a day");
        }
    }
}

fn check_number(root: &Provision, to: &mut Findings) {
    fn count(provision: &Provision) -> usize {
        provision.nested.iter().map(|inner| 1 + count(inner)).sum()
    }
    let found = count(root);
    if found > MAX_RULES {
        let message = format!("{found} provisions, where at most {MAX_RULES} are evaluated");
        to.refuse("too-many-rules", &root.path, message);
    }
}

fn ambiguous(root: &Provision, to: &mut Findings) {
    let path = format!("{}.provision", root.path);
    to.refuse("ambiguous-nesting", &path, "the two readings of nested provisions in the field differ here");
}

/// "Without a profile the readings agree when nothing is nested, or there is one level, all types opposite to the root's,
/// without root data; and a tree whose types are all deny is accepted when the root has no data attributes; deeper
/// alternating trees have only the R5 reading; all else is `ambiguous-nesting`."
fn check_readings(root: &Provision, base: Effect, to: &mut Findings) {
    if root.nested.is_empty() {
        return;
    }
    let all_deny = base == Effect::Deny && root.nested.iter().all(is_all_deny);
    let alternating = root.nested.iter().all(|inner| alternates(inner, base));
    let deep = root.nested.iter().any(|inner| !inner.nested.is_empty());
    let accepted = match (alternating, deep) {
        (true, true) => true,
        (true, false) => !root.has_data(),
        (false, _) => all_deny && !root.has_data(),
    };
    if !accepted {
        ambiguous(root, to);
    }
}

fn is_all_deny(provision: &Provision) -> bool {
    provision.effect == Some(Effect::Deny) && provision.nested.iter().all(is_all_deny)
}

fn alternates(provision: &Provision, parent: Effect) -> bool {
    provision.effect.is_some_and(|e| e != parent && provision.nested.iter().all(|inner| alternates(inner, e)))
}

/// R5's reading of one provision and all that is nested in it.
fn nested(
    provision: &Provision,
    id: &str,
    (group, depth): (u32, u32),
    within: &[Clause],
    rules: &mut Vec<Rule>,
    to: &mut Findings,
) {
    check_dates(provision, provision.effect, to);
    // An untyped one has left its issue in `check_readings`; too many have left theirs, and aren't copied out.
    let Some(effect) = provision.effect.filter(|_| rules.len() < MAX_RULES) else {
        return;
    };
    let clause = provision.clause(effect);
    let inner_within: Vec<Clause> = within.iter().chain([&clause]).cloned().collect();
    rules.push(Rule { id: id.to_owned(), group, depth, clause, within: within.to_vec() });
    for (n, inner) in (1u32..).zip(&provision.nested) {
        nested(inner, &format!("{id}.{n}"), (group, depth + 1), &inner_within, rules, to);
    }
}

/// IHE's reading: "types are explicit and may equal the root's; a permit in the list overrides a forbid; one group".
fn read_as_ihe(root: &Provision, root_rule: Option<Rule>, found: &mut Meaning, to: &mut Findings) {
    if root.nested.iter().any(|inner| !inner.nested.is_empty()) {
        // The profile has one list; what a list in a list means it doesn't say.
        ambiguous(root, to);
    }
    found.rules.extend(root_rule.map(|rule| Rule { group: 1, depth: 1, ..rule }));
    for (n, provision) in (1u32..).zip(&root.nested) {
        check_dates(provision, provision.effect, to);
        let Some(effect) = provision.effect else {
            to.refuse("untyped-provision", &provision.path, "IHE's reading needs a type: permit or deny");
            continue;
        };
        let depth = if effect == Effect::Deny { 2 } else { 3 };
        let (id, clause) = (n.to_string(), provision.clause(effect));
        found.rules.push(Rule { id, group: 1, depth, clause, within: Vec::new() });
    }
}
