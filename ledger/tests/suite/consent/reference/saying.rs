//! What one consent says of one record (4, 6, 7).

use super::*;

impl Model<'_> {
    pub(super) fn is_latest(&self, consent: &Consent) -> bool {
        !self.world.consents.iter().any(|other| {
            other.id == consent.id && other.subject == consent.subject && other.revision > consent.revision
        })
    }

    /// 4: `Some(true)` with its permits, `Some(false)` its denies alone.
    pub(super) fn stands(&self, consent: &Consent) -> Option<bool> {
        let now = self.world.at_ms;
        if !self.is_latest(consent) || !self.is_valid(&consent.context.valid) {
            return None;
        }
        match consent.state {
            ConsentState::Active => Some(consent.authority_ends_ms.is_none_or(|end| now < end)),
            ConsentState::Revoked if self.mutant == Mutant::RevocationLiftsDenies => None,
            ConsentState::Revoked => Some(false),
            _ => None,
        }
    }

    pub(super) fn is_valid(&self, period: &Period) -> bool {
        let now = self.world.at_ms;
        let ended = match self.mutant {
            Mutant::EndIsInclusive => period.end_ms.is_some_and(|end| now > end),
            _ => period.end_ms.is_some_and(|end| now >= end),
        };
        !ended && period.start_ms.is_none_or(|start| start <= now)
    }

    /// 6, and 7 for one consent.
    pub(super) fn says(&self, consent: &Consent, record: &ResourceDescriptor) -> Said {
        let Some(permits_count) = self.stands(consent) else {
            return ("", vec![], false);
        };
        if consent.unresolved {
            return ("INDETERMINATE", vec!["0".into()], false);
        }
        let counts = |rule: &Rule| permits_count || rule.clause.effect == Effect::Deny;
        let rules: Vec<(&Rule, Truth)> = consent
            .rules
            .iter()
            .filter(|rule| counts(rule))
            .map(|rule| (rule, self.rule(consent, rule, record)))
            .collect();
        let mut numbers: Vec<u32> = rules.iter().map(|(rule, _)| rule.group).collect();
        numbers.sort_unstable();
        numbers.dedup();
        let groups: Vec<(&str, Vec<String>)> = numbers
            .iter()
            .map(|n| self.group(rules.iter().filter(|(rule, _)| rule.group == *n).collect()))
            .collect();
        let root: Truth = match &consent.root_rule {
            Some(rule) if counts(rule) => self.rule(consent, rule, record),
            _ => Some(false),
        };
        let root_effect = consent.root_rule.as_ref().map(|rule| rule.clause.effect);
        let context = |effect| self.context(consent, effect);
        let root_denies = root_effect == Some(Effect::Deny) && root == Some(true);
        let base_denies = consent.base == Base::Deny && context(Effect::Deny) == Some(true);
        let permitted =
            rules.iter().any(|(rule, t)| rule.clause.effect == Effect::Permit && *t == Some(true))
                || (root_effect == Some(Effect::Permit) && root == Some(true));
        let in_order = |rules: Vec<String>| -> Vec<String> {
            consent.rules.iter().map(|r| r.id.clone()).filter(|id| rules.contains(id)).collect()
        };
        for word in ["DENY", "INDETERMINATE", "PERMIT"] {
            let by: Vec<String> = groups.iter().filter(|g| g.0 == word).flat_map(|g| g.1.clone()).collect();
            if by.is_empty() {
                continue;
            }
            if word == "INDETERMINATE" && !permitted && base_denies {
                return ("DENY", vec!["0".into()], true);
            }
            let for_sure = word == "DENY" || (word == "INDETERMINATE" && !permitted && root_denies);
            return (word, in_order(by), for_sure);
        }
        let by_root = |word| (word, vec!["0".to_owned()], word == "DENY");
        match (root_effect, root) {
            (Some(Effect::Deny), Some(true)) => return by_root("DENY"),
            (Some(Effect::Deny), None) if base_denies && !permitted => return by_root("DENY"),
            (Some(Effect::Deny), None) => return by_root("INDETERMINATE"),
            (Some(Effect::Permit), Some(true)) => return by_root("PERMIT"),
            _ => {}
        }
        match consent.base {
            Base::Permit if permits_count && context(Effect::Permit) == Some(true) => by_root("PERMIT"),
            Base::Deny if context(Effect::Deny) == Some(true) => by_root("DENY"),
            Base::Deny if context(Effect::Deny).is_none() => by_root("INDETERMINATE"),
            Base::Limit if context(Effect::Deny) != Some(false) => by_root("LIMIT"),
            _ => ("", vec![], false),
        }
    }

    pub(super) fn group(&self, rules: Vec<&(&Rule, Truth)>) -> (&'static str, Vec<String>) {
        let d = rules.iter().filter(|(_, t)| *t == Some(true)).map(|(r, _)| r.depth).max().unwrap_or(0);
        let ids = |effect: Effect, truth: Truth, depths: &dyn Fn(u32) -> bool| -> Vec<String> {
            let fits =
                |(r, t): &&&(&Rule, Truth)| r.clause.effect == effect && *t == truth && depths(r.depth);
            rules.iter().filter(fits).map(|(r, _)| r.id.clone()).collect()
        };
        let denies = ids(Effect::Deny, Some(true), &|depth| depth == d);
        let permits = ids(Effect::Permit, Some(true), &|depth| depth == d);
        let unknown = ids(Effect::Deny, None, &|depth| depth >= d);
        if self.mutant == Mutant::PermitWinsTies && !permits.is_empty() {
            return ("PERMIT", permits);
        }
        if !denies.is_empty() {
            return ("DENY", denies);
        }
        if !unknown.is_empty() && self.mutant != Mutant::IgnoresUnknownDenies {
            return ("INDETERMINATE", unknown);
        }
        if !permits.is_empty() {
            return ("PERMIT", permits);
        }
        ("", vec![])
    }
}
