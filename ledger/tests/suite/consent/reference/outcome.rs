//! Record by record and patient by patient: the steps of the decision, hard rules, the default policy, break-glass (1-3, 7, 9).

use super::*;

impl Model<'_> {
    /// Outcome, who decided, obligations, record by record.
    pub fn decide(&self) -> Vec<(Outcome, Vec<DecidedBy>, Vec<String>)> {
        self.world.records.iter().map(|record| self.on_record(record)).collect()
    }

    pub(super) fn on_record(&self, record: &ResourceDescriptor) -> (Outcome, Vec<DecidedBy>, Vec<String>) {
        let mut patients = record.subjects.clone();
        patients.sort();
        patients.dedup();
        let mut each: Vec<_> = patients.iter().map(|p| self.for_patient(record, Some(p))).collect();
        if patients.is_empty() {
            each.push(self.for_patient(record, None));
            for consent in &self.world.consents {
                // Only consents that stand now make a patient known here.
                if self.stands(consent).is_some() {
                    each.push(self.for_patient(record, Some(&consent.subject)));
                }
            }
        }
        let worst = match self.mutant {
            Mutant::MostFavourable => each.iter().map(|e| e.0).max(),
            _ => each.iter().map(|e| e.0).min(),
        }
        .expect("somebody");
        let mut by: Vec<DecidedBy> = each.iter().filter(|e| e.0 == worst).flat_map(|e| e.1.clone()).collect();
        // Input order, each once.
        by.sort_by_key(|who| self.place(who));
        by.dedup();
        let mut obligations: Vec<String> = match worst {
            Outcome::Permit | Outcome::PermitOverride => each.iter().flat_map(|e| e.2.clone()).collect(),
            _ => vec![],
        };
        obligations.sort();
        obligations.dedup();
        (worst, by, obligations)
    }

    pub(super) fn place(&self, who: &DecidedBy) -> (usize, usize, String) {
        match who {
            DecidedBy::Consent { consent, rule } => {
                let consents = &self.world.consents;
                let n = consents
                    .iter()
                    .position(|c| &c.id == consent && self.is_latest(c))
                    .expect("a consent of the input");
                let r = consents[n].rules.iter().position(|r| &r.id == rule).map_or(0, |r| r + 1);
                (n, r, String::new())
            }
            other => (usize::MAX, 0, format!("{other:?}")),
        }
    }

    pub(super) fn for_patient(
        &self,
        record: &ResourceDescriptor,
        patient: Option<&str>,
    ) -> (Outcome, Vec<DecidedBy>, Vec<String>) {
        let (world, request) = (self.world, &self.world.request);
        let its: Vec<&Consent> = world
            .consents
            .iter()
            .filter(|c| Some(c.subject.as_str()) == patient && self.is_latest(c))
            .collect();
        let said: Vec<(&Consent, Said)> = its.iter().map(|c| (*c, self.says(c, record))).collect();
        let notes = record.sensitivity.contains(&"PSYTHPN".to_owned());
        let part2 = record.handling.contains(&"42CFRPart2".to_owned());
        let notice = if part2 { vec!["NORDSCLCD".to_owned()] } else { vec![] };
        let by_hard = |outcome, id| (outcome, vec![DecidedBy::HardRule { id }], vec![]);

        // 1
        if let Some(policy) = &world.policy {
            if self.may_break_glass(policy) && !notes {
                let glass = policy.break_glass.as_ref().expect("just seen");
                let denied = self.default_says() == Some(Effect::Deny) || said.iter().any(|(_, s)| s.2);
                let passes = glass.overrides_deny || !denied || self.mutant == Mutant::GlassPassesDeny;
                if passes && (glass.overrides_frozen || !world.frozen) {
                    let by = vec![DecidedBy::DefaultPolicy { id: policy.id.clone() }];
                    return (Outcome::PermitOverride, by, notice);
                }
            }
        }
        // 3, REQUIRED_BY_LAW, before the frozen check
        if request.required_by_law.is_some() {
            return (Outcome::Permit, vec![DecidedBy::HardRule { id: "REQUIRED_BY_LAW" }], notice);
        }
        // 2
        if world.frozen {
            return by_hard(Outcome::Deny, "frozen-slot");
        }
        // 3, PATRQT
        let own = patient.is_some_and(|p| request.actor == Some(Reference::Literal(p.to_owned())));
        if request.purpose == "PATRQT" && own && !notes {
            return by_hard(Outcome::Permit, "PATRQT");
        }
        // 3, self-pay
        if request.recipient_is_plan && self.tree.is_purpose_below(&request.purpose, "HPAYMT") {
            let restricts = |c: &&Consent| {
                let as_deny = |root: &Rule| Clause { effect: Effect::Deny, ..root.clause.clone() };
                let data = c.root_rule.as_ref().map_or(Some(true), |root| self.data(&as_deny(root), record));
                c.legal_basis == Some(LegalBasis::SelfPayRestriction)
                    && self.stands(c).is_some()
                    && data != Some(false)
            };
            if its.iter().any(restricts) {
                return by_hard(Outcome::Deny, "self-pay");
            }
        }
        // 7, across consents
        let order = match self.mutant {
            Mutant::PermitBeatsIndeterminate => ["DENY", "PERMIT", "INDETERMINATE", "LIMIT"],
            _ => ["DENY", "INDETERMINATE", "PERMIT", "LIMIT"],
        };
        for word in order {
            let saying: Vec<_> = said.iter().filter(|(_, s)| s.0 == word).collect();
            if saying.is_empty() {
                continue;
            }
            let by = |list: &[&(&Consent, Said)]| -> Vec<DecidedBy> {
                let named = |(c, s): &(&Consent, Said)| -> Vec<DecidedBy> {
                    s.1.iter().map(|rule| by(&c.id, rule)).collect()
                };
                list.iter().flat_map(|one| named(one)).collect()
            };
            match word {
                "DENY" => return (Outcome::Deny, by(&saying), vec![]),
                "INDETERMINATE" => return (Outcome::Indeterminate, by(&saying), vec![]),
                "LIMIT" if self.mutant == Mutant::LimitLetsDefaultSpeak => continue,
                "LIMIT" => return (Outcome::NoConsent, by(&saying), vec![]),
                _ => {}
            }
            let mut counting = saying.clone();
            if notes && self.mutant != Mutant::NotesGoWithAnyPermit {
                counting.retain(|(c, _)| self.names_only_notes(c));
                if counting.is_empty() {
                    return by_hard(Outcome::NoConsent, "PSYTHPN");
                }
            }
            if part2 {
                counting.retain(|(c, _)| {
                    matches!(c.legal_basis, Some(LegalBasis::Part2Tpo | LegalBasis::Part2Specific))
                });
                if counting.is_empty() {
                    return by_hard(Outcome::NoConsent, "42CFRPart2");
                }
            }
            let mut obligations = notice;
            obligations.extend(counting.iter().flat_map(|(c, _)| c.obligations.clone()));
            return (Outcome::Permit, by(&counting), obligations);
        }
        // 7, the default
        let Some(policy) = &world.policy else {
            return (Outcome::NoConsent, vec![], vec![]);
        };
        let by = vec![DecidedBy::DefaultPolicy { id: policy.id.clone() }];
        match self.default_says() {
            None => (Outcome::NoConsent, vec![], vec![]),
            Some(Effect::Deny) => (Outcome::Deny, by, vec![]),
            Some(Effect::Permit) if notes => by_hard(Outcome::NoConsent, "PSYTHPN"),
            Some(Effect::Permit) if part2 => by_hard(Outcome::NoConsent, "42CFRPart2"),
            Some(Effect::Permit) => (Outcome::Permit, by, vec![]),
        }
    }

    pub(super) fn names_only_notes(&self, consent: &Consent) -> bool {
        let rules: Vec<&Rule> = consent.rules.iter().chain(&consent.root_rule).collect();
        let permits: Vec<&Rule> =
            rules.into_iter().filter(|rule| rule.clause.effect == Effect::Permit).collect();
        let alone = Some(vec!["PSYTHPN".to_owned()]);
        consent.base != Base::Permit
            && !permits.is_empty()
            && permits.iter().all(|rule| rule.clause.data.labels == alone)
    }

    /// The default policy, DENY first; HMARKT is never a default.
    pub(super) fn default_says(&self) -> Option<Effect> {
        let request = &self.world.request;
        let speaks = |rule: &PolicyRule| {
            let organization = |text: &String| {
                request.recipient.iter().any(|r| match r {
                    Reference::Literal(literal) => literal == text,
                    Reference::Identifier { system, value } => *text == format!("{system}|{value}"),
                })
            };
            let organizations = rule.organizations.as_ref().is_none_or(|list| list.iter().any(organization));
            let purposes = self.purposes(rule.effect, &[&rule.purposes]) == Some(true);
            let never = rule.effect == Effect::Permit && request.purpose == "HMARKT";
            organizations && purposes && !never
        };
        let rules = &self.world.policy.as_ref()?.rules;
        let says = |effect| rules.iter().any(|rule| rule.effect == effect && speaks(rule));
        match (says(Effect::Deny), says(Effect::Permit)) {
            (true, _) => Some(Effect::Deny),
            (false, true) => Some(Effect::Permit),
            (false, false) => None,
        }
    }

    pub(super) fn may_break_glass(&self, policy: &DefaultPolicy) -> bool {
        let request = &self.world.request;
        let Some(glass) = &policy.break_glass else { return false };
        let family = ["TREAT", "ETREAT", "ERTREAT", "BTG", "COC"];
        let in_group = |text: &String| {
            let groups = request.groups.iter().flatten();
            groups.into_iter().any(|group| *group == Reference::Literal(text.clone()))
        };
        request.break_glass.as_ref().is_some_and(|asked| !asked.reason.is_empty())
            && family.contains(&request.purpose.as_str())
            && self.purposes(Effect::Permit, &[&Some(glass.purposes.clone())]) == Some(true)
            && glass.groups.iter().any(in_group)
    }
}

fn by(consent: &str, rule: &str) -> DecidedBy {
    DecidedBy::Consent { consent: consent.to_owned(), rule: rule.to_owned() }
}
