//! From provisions as written to base, root rule and rules (CONSENT.md, "Root" and "Nesting").
//!
//! ```text
//!   root type permit, no data attributes    base PERMIT, nothing at the root
//!   root type permit, data attributes       base LIMIT,  a root rule that permits them
//!   root type deny,   no data attributes    base DENY,   nothing at the root
//!   root type deny,   data attributes       base NONE,   a root rule that denies them
//! ```
//!
//! Nesting has two readings in the field. What is accepted here reads the same in both.

use super::dates::Precision;
use super::provision::Provision;
use super::reader::Findings;
use crate::consent::{Base, Context, Effect, Period, Rule};

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
}

/// `None` where an issue was left.
pub fn meaning(root: Option<&Provision>, around: &Around, to: &mut Findings) -> Option<Meaning> {
    let effect = base_effect(root, around, to);
    let mut context = Context::default();
    let (mut root_rule, mut rules) = (None, Vec::new());
    if let Some(root) = root {
        check_root(root, to);
        context.valid = valid(root);
        context.recipients = root.recipients.clone();
        context.purposes = root.purposes.clone();
        context.actions = root.actions.clone();
        check_dates(root, effect, to);
        if let Some(effect) = effect {
            check_nesting(root, effect, to);
            root_rule = root.has_data().then(|| Rule {
                id: "0".to_owned(),
                group: 0,
                depth: 0,
                effect,
                valid: Period::default(),
                recipients: None,
                purposes: None,
                actions: None,
                data: root.filter(effect),
            });
        }
        rules = nested_rules(root, to);
    }
    if around.is_research && context.purposes.is_none() {
        // "Scope research without root purposes means HRESCH."
        context.purposes = Some(vec!["HRESCH".to_owned()]);
    }
    let base = match (effect?, &root_rule) {
        (Effect::Permit, None) => Base::Permit,
        (Effect::Permit, Some(_)) => Base::Limit,
        (Effect::Deny, None) => Base::Deny,
        (Effect::Deny, Some(_)) => Base::None,
    };
    Some(Meaning { context, base, root_rule, rules })
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
    let coarse = provision.period.is_some_and(|(_, precision)| precision < Precision::Day);
    if effect == Some(Effect::Deny) && coarse {
        let path = format!("{}.period", provision.path);
        to.refuse("imprecise-date-on-deny", &path, "a deny needs dates that name a day");
    }
}

/// "Without a profile the readings agree when nothing is nested, or there is one level, all types opposite to the root's,
/// without root data; and a tree whose types are all deny is accepted when the root has no data attributes."
fn check_nesting(root: &Provision, base: Effect, to: &mut Findings) {
    if root.nested.is_empty() {
        return;
    }
    let all_deny = base == Effect::Deny && root.nested.iter().all(is_all_deny);
    let alternating = root.nested.iter().all(|inner| alternates(inner, base));
    let deep = root.nested.iter().any(|inner| !inner.nested.is_empty());
    let path = format!("{}.provision", root.path);
    let one_reading = !root.has_data() && (all_deny || alternating);
    if deep && (one_reading || alternating) {
        to.refuse(
            "unsupported-nesting-depth",
            &path,
            "only one level of nested provisions can be evaluated yet",
        );
    } else if !one_reading {
        to.refuse(
            "ambiguous-nesting",
            &path,
            "the two readings of nested provisions in the field differ here",
        );
    }
}

fn is_all_deny(provision: &Provision) -> bool {
    provision.effect == Some(Effect::Deny) && provision.nested.iter().all(is_all_deny)
}

fn alternates(provision: &Provision, parent: Effect) -> bool {
    provision.effect.is_some_and(|e| e != parent && provision.nested.iter().all(|inner| alternates(inner, e)))
}

fn valid(provision: &Provision) -> Period {
    provision.period.map_or_else(Period::default, |(valid, _)| valid)
}

/// Every top-level provision is a group. An untyped one has left its issue in `check_nesting`.
fn nested_rules(root: &Provision, to: &mut Findings) -> Vec<Rule> {
    let mut rules = Vec::new();
    for (group, provision) in (1u32..).zip(&root.nested) {
        check_dates(provision, provision.effect, to);
        let Some(effect) = provision.effect else {
            continue;
        };
        rules.push(Rule {
            id: group.to_string(),
            group,
            depth: 1,
            effect,
            valid: valid(provision),
            recipients: provision.recipients.clone(),
            purposes: provision.purposes.clone(),
            actions: provision.actions.clone(),
            data: provision.filter(effect),
        });
    }
    rules
}
