//! What one consent says of one record (CONSENT.md, Decision 4, 6 and 7, first sentence).

use super::kleene::Kleene;
use super::matching::{self, Asked};
use super::model::{Base, Consent, ConsentState, Effect, LegalBasis, Rule};
use super::request::Request;

/// One consent's answer, ordered by how it wins across consents (Decision 7): the greatest does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Says {
    Nothing,
    Limit,
    Permit,
    Indeterminate,
    Deny,
}

/// Who gave an answer. The root, base or data rule alike, is written "0".
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Speaker {
    Root,
    /// Place in the consent's list of rules.
    Rule(usize),
}

/// The answer, and who gave it in the consent's order.
#[derive(Debug, PartialEq, Eq)]
pub struct Verdict {
    pub says: Says,
    pub by: Vec<Speaker>,
    /// It says DENY, or would if the DENY rules that are UNKNOWN here were not there: what break-glass must not pass
    /// unless the policy lets it. (Were it DENY alone, adding an UNKNOWN DENY could open the glass.)
    pub denies_for_sure: bool,
}

impl Verdict {
    fn by_root(says: Says) -> Self {
        Self { says, by: vec![Speaker::Root], denies_for_sure: says == Says::Deny }
    }

    fn nothing() -> Self {
        Self { says: Says::Nothing, by: Vec::new(), denies_for_sure: false }
    }
}

/// A consent that counts now, with what of it the request alone decides.
pub struct Standing<'a> {
    pub consent: &'a Consent,
    /// Place among the consents of the input.
    pub place: usize,
    /// False where only what it denies still stands.
    pub permits: bool,
    base: Kleene,
    root: Kleene,
    /// Rule by rule.
    rules: Vec<Kleene>,
}

/// Decision 4, and "Revoking never widens": whether a consent in this state still counts, and with its permits.
fn stands(consent: &Consent, at_ms: i64) -> Option<bool> {
    match consent.state {
        ConsentState::Active => Some(consent.authority_ends_ms.is_none_or(|end| at_ms < end)),
        ConsentState::Revoked => Some(false),
        ConsentState::Proposed
        | ConsentState::Rejected
        | ConsentState::Superseded
        | ConsentState::EnteredInError => None,
    }
}

impl<'a> Standing<'a> {
    /// `None` where the consent doesn't stand, or its time is not now.
    pub fn of(consent: &'a Consent, place: usize, request: &Request, at_ms: i64) -> Option<Self> {
        let permits = stands(consent, at_ms)?;
        if !consent.context.valid.contains(at_ms) {
            return None;
        }
        let counts = |rule: &Rule| permits || rule.clause.effect == Effect::Deny;
        let holds = |rule: &Rule| match counts(rule) {
            true => matching::rule_for(rule, &consent.context, request, at_ms),
            false => Kleene::False,
        };
        let base_effect = if consent.base == Base::Permit { Effect::Permit } else { Effect::Deny };
        Some(Self {
            consent,
            place,
            permits,
            base: matching::base_for(base_effect, &consent.context, request, at_ms),
            root: consent.root_rule.as_ref().map_or(Kleene::False, holds),
            rules: consent.rules.iter().map(holds).collect(),
        })
    }

    /// Decision 6 and 7 for one consent. DENY > INDETERMINATE > PERMIT > root rule > base.
    pub fn verdict(&self, asked: &Asked) -> Verdict {
        if self.consent.unresolved {
            // FHIR, "Import": what it denies nobody knows.
            return Verdict::by_root(Says::Indeterminate);
        }
        let rules = self.rules_on(asked);
        let root = self.root_on(asked);
        let (says, by) = by_groups(&rules);
        let mut found = match says {
            Says::Nothing => self.by_root_rule(root).or_else(|| self.by_base()),
            says => Some(Verdict { says, by, denies_for_sure: says == Says::Deny }),
        }
        .unwrap_or_else(Verdict::nothing);
        if found.says == Says::Indeterminate {
            let permitted = rules.iter().any(|rule| rule.speaks(Effect::Permit))
                || (self.root_effect() == Some(Effect::Permit) && root == Kleene::True);
            // Decision 7: nothing here could come out as a permit, so not knowing is as good as DENY.
            if !permitted && self.consent.base == Base::Deny && self.base == Kleene::True {
                return Verdict::by_root(Says::Deny);
            }
            found.denies_for_sure =
                !permitted && self.root_effect() == Some(Effect::Deny) && root == Kleene::True;
        }
        found
    }

    /// The rules that aren't FALSE on this record, group by group.
    fn rules_on(&self, asked: &Asked) -> Vec<Judged> {
        let mut found = Vec::new();
        for (place, (rule, for_request)) in self.consent.rules.iter().zip(&self.rules).enumerate() {
            if *for_request == Kleene::False {
                continue;
            }
            let holds = for_request.and(matching::rule_on(rule, asked));
            if holds != Kleene::False {
                let (group, depth, effect) = (rule.group, rule.depth, rule.clause.effect);
                found.push(Judged { place, group, depth, effect, holds });
            }
        }
        found.sort_by_key(|rule| rule.group);
        found
    }

    fn root_effect(&self) -> Option<Effect> {
        self.consent.root_rule.as_ref().map(|rule| rule.clause.effect)
    }

    fn root_on(&self, asked: &Asked) -> Kleene {
        match &self.consent.root_rule {
            Some(rule) if self.root != Kleene::False => self.root.and(matching::rule_on(rule, asked)),
            Some(_) | None => Kleene::False,
        }
    }

    /// Decision 6, last sentence: a root's data rule speaks where no group does.
    fn by_root_rule(&self, holds: Kleene) -> Option<Verdict> {
        match (self.root_effect()?, holds) {
            (Effect::Deny, Kleene::True) => Some(Verdict::by_root(Says::Deny)),
            (Effect::Deny, Kleene::Unknown) => Some(Verdict::by_root(Says::Indeterminate)),
            (Effect::Permit, Kleene::True) => Some(Verdict::by_root(Says::Permit)),
            (_, Kleene::False) | (Effect::Permit, Kleene::Unknown) => None,
        }
    }

    /// Model: a base speaks only where its context holds; where that is UNKNOWN a DENY makes INDETERMINATE. A LIMIT keeps
    /// a default from speaking there too: the default would release what the patient may have limited.
    fn by_base(&self) -> Option<Verdict> {
        let says = match (self.consent.base, self.base) {
            (Base::Permit, Kleene::True) if self.permits => Says::Permit,
            (Base::Deny, Kleene::True) => Says::Deny,
            (Base::Deny, Kleene::Unknown) => Says::Indeterminate,
            (Base::Limit, Kleene::True | Kleene::Unknown) => Says::Limit,
            (Base::Permit | Base::Deny | Base::Limit | Base::None, _) => return None,
        };
        Some(Verdict::by_root(says))
    }

    /// Decision 3: whether this restricts what plans are told, of what the patient paid for in full. It is a DENY, and reads
    /// the root's data as one.
    pub fn restricts_plans(&self, asked: &Asked) -> bool {
        let about = |root: &Rule| matching::data(Effect::Deny, &root.clause.data, asked);
        self.consent.legal_basis == Some(LegalBasis::SelfPayRestriction)
            && self.consent.root_rule.as_ref().is_none_or(|root| about(root) != Kleene::False)
    }
}

/// A rule that may hold here.
struct Judged {
    place: usize,
    group: u32,
    depth: u32,
    effect: Effect,
    holds: Kleene,
}

impl Judged {
    fn speaks(&self, effect: Effect) -> bool {
        self.effect == effect && self.holds == Kleene::True
    }
}

/// Decision 7, first sentence: DENY > INDETERMINATE > PERMIT.
fn by_groups(rules: &[Judged]) -> (Says, Vec<Speaker>) {
    let (mut says, mut by) = (Says::Nothing, Vec::new());
    for group in rules.chunk_by(|a, b| a.group == b.group) {
        let found = by_group(group);
        if found > says {
            says = found;
            by.clear();
        }
        if found == says {
            let spoke = group.iter().filter(|rule| decides(rule, says, deepest(group)));
            by.extend(spoke.map(|rule| Speaker::Rule(rule.place)));
        }
    }
    by.sort_unstable();
    (says, by)
}

/// Decision 6: the depth of the deepest TRUE rule, 0 if none.
fn deepest(group: &[Judged]) -> u32 {
    group.iter().filter(|rule| rule.holds == Kleene::True).map(|rule| rule.depth).max().unwrap_or(0)
}

/// Decision 6: the deepest TRUE rules speak, DENY wins a tie, an UNKNOWN DENY as deep or deeper makes it INDETERMINATE.
fn by_group(group: &[Judged]) -> Says {
    let d = deepest(group);
    let in_order = [Says::Deny, Says::Indeterminate, Says::Permit];
    let said = |says: &Says| group.iter().any(|rule| decides(rule, *says, d));
    in_order.into_iter().find(said).unwrap_or(Says::Nothing)
}

/// Whether a rule is one of those that make a group, whose deepest TRUE rule is at `d`, say this.
fn decides(rule: &Judged, says: Says, d: u32) -> bool {
    match says {
        Says::Deny => rule.depth == d && rule.speaks(Effect::Deny),
        Says::Indeterminate => {
            rule.depth >= d && rule.effect == Effect::Deny && rule.holds == Kleene::Unknown
        }
        Says::Permit => rule.depth == d && rule.speaks(Effect::Permit),
        Says::Limit | Says::Nothing => false,
    }
}

/// Decision 3: a consent that names psychotherapy notes and nothing else among what it permits.
pub fn names_only_psychotherapy_notes(consent: &Consent) -> bool {
    let mut permits = consent
        .rules
        .iter()
        .chain(&consent.root_rule)
        .filter(|rule| rule.clause.effect == Effect::Permit)
        .peekable();
    let only = |rule: &Rule| {
        let labels = rule.clause.data.labels.as_deref();
        labels.is_some_and(|labels| labels.len() == 1 && labels.iter().all(|label| label == "PSYTHPN"))
    };
    consent.base != Base::Permit && permits.peek().is_some() && permits.all(only)
}
