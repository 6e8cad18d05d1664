//! Attribute by attribute (5, 8).

use super::*;

impl Model<'_> {
    pub(super) fn context(&self, consent: &Consent, effect: Effect) -> Truth {
        let context = &consent.context;
        and(vec![
            Some(self.is_valid(&context.valid)),
            self.recipients(&context.recipients),
            self.actions(&context.actions),
            self.purposes(effect, &[&context.purposes]),
        ])
    }

    /// 5: AND over the attributes present: the context's, the ancestors', its own.
    pub(super) fn rule(&self, consent: &Consent, rule: &Rule, record: &ResourceDescriptor) -> Truth {
        let context = &consent.context;
        let mut all = vec![
            Some(self.is_valid(&context.valid)),
            self.recipients(&context.recipients),
            self.actions(&context.actions),
        ];
        let mut purposes = vec![&context.purposes];
        let mut clauses: Vec<&Clause> = rule.within.iter().collect();
        if self.mutant == Mutant::ForgetsAncestors {
            clauses.clear();
        }
        clauses.push(&rule.clause);
        for clause in clauses {
            all.push(Some(self.is_valid(&clause.valid)));
            all.push(self.recipients(&clause.recipients));
            all.push(self.actions(&clause.actions));
            all.push(self.data(clause, record));
            purposes.push(&clause.purposes);
        }
        all.push(self.purposes(rule.clause.effect, &purposes));
        and(all)
    }

    pub(super) fn recipients(&self, listed: &Option<Vec<Recipient>>) -> Truth {
        let Some(listed) = listed else { return Some(true) };
        let request = &self.world.request;
        let one = |recipient: &Recipient| match recipient {
            Recipient::Organization(r) => Some(request.recipient.contains(r)),
            Recipient::Practitioner(r) => request.actor.as_ref().map(|actor| actor == r),
            Recipient::Group(r) => request.groups.as_ref().map(|groups| groups.contains(r)),
            Recipient::Role(r) if request.actor.as_ref() == Some(r) => Some(true),
            Recipient::Role(Reference::Literal(text)) => {
                request.role.as_ref().map(|role| text == role || text.ends_with(&format!("/{role}")))
            }
            Recipient::Role(Reference::Identifier { system, value }) => {
                request.role.as_ref().map(|role| role == value || *role == format!("{system}|{value}"))
            }
            Recipient::Named(r) => Some(
                request.recipient.contains(r)
                    || request.actor.as_ref() == Some(r)
                    || request.groups.as_ref().is_some_and(|groups| groups.contains(r)),
            ),
        };
        or(listed.iter().map(one).collect())
    }

    pub(super) fn actions(&self, listed: &Option<Vec<String>>) -> Truth {
        listed.as_ref().map_or(Some(true), |listed| Some(listed.contains(&self.world.request.action)))
    }

    /// 8, "Purpose". Outermost list first.
    pub(super) fn purposes(&self, effect: Effect, lists: &[&Option<Vec<String>>]) -> Truth {
        let asked = &self.world.request.purpose;
        let mut present: Vec<&Vec<String>> = lists.iter().filter_map(|list| list.as_ref()).collect();
        let plain = |list: &Vec<String>| list.iter().any(|p| self.tree.is_purpose_below(asked, p));
        if effect == Effect::Deny {
            return Some(present.into_iter().all(plain));
        }
        let must_be_named =
            ["BTG", "CLINTRL", "POPHLTH", "MILCDM", "HLEGAL", "FRAUD", "DONAT", "GOV", "HMARKT"]
                .contains(&asked.as_str())
                && self.mutant != Mutant::InheritsWhatMustBeNamed;
        let innermost = present.pop();
        let covered = match innermost {
            None => !must_be_named,
            Some(list) if must_be_named => list.contains(asked),
            Some(list) => plain(list),
        };
        Some(covered && present.into_iter().all(plain))
    }

    pub(super) fn data(&self, clause: &Clause, record: &ResourceDescriptor) -> Truth {
        let (effect, data) = (clause.effect, &clause.data);
        let mut all = vec![];
        if let Some(types) = &data.types {
            all.push(Some(types.contains(&record.resource_type)));
        }
        if let Some(listed) = &data.instances {
            all.push(Some(listed.contains(&record.reference)));
        }
        if let Some(listed) = &data.codes {
            let mut each = vec![];
            for found in &record.codes {
                for wanted in listed {
                    let same_code = found.code == wanted.code;
                    each.push(if same_code && found.system.is_none() { None } else { Some(found == wanted) });
                }
            }
            all.push(or(each));
        }
        if let Some(listed) = &data.authors {
            let mut each: Vec<Truth> = record.authors.iter().map(|a| Some(listed.contains(a))).collect();
            if record.has_unnamed_author {
                each.push(None);
            }
            all.push(or(each));
        }
        if let Some(listed) = &data.encounters {
            let mut found = record.encounters.clone();
            if record.resource_type == "Encounter" {
                found.push(record.reference.clone());
            }
            all.push(or(found.iter().map(|e| Some(listed.contains(e))).collect()));
        }
        if let Some(range) = &data.dates {
            all.push(record.clinical_date.and_then(|date| self.dates(effect, range, &date)));
        }
        let (assessed, level, labels) = self.labels(record);
        if let Some(bound) = data.confidentiality {
            all.push(
                level.map(|level| if effect == Effect::Permit { level <= bound } else { level >= bound }),
            );
        }
        if let Some(listed) = &data.labels {
            all.push(match effect {
                Effect::Permit => self.permit_labels(listed, &labels, assessed),
                Effect::Deny => self.deny_labels(listed, &labels, assessed),
            });
        }
        and(all)
    }

    /// 5: what counts as assessed, the policy's assumption included.
    pub(super) fn labels(&self, record: &ResourceDescriptor) -> (bool, Option<Conf>, Vec<String>) {
        if self.assumes(record) {
            return (true, Some(Conf::N), vec![]);
        }
        (record.assessed, record.confidentiality, record.sensitivity.clone())
    }

    pub fn assumes(&self, record: &ResourceDescriptor) -> bool {
        let bare = !record.assessed
            && record.confidentiality.is_none()
            && record.sensitivity.is_empty()
            && record.handling.is_empty();
        let purpose = &self.world.request.purpose;
        let rule = self.world.policy.as_ref().and_then(|policy| policy.unlabelled.as_ref());
        bare && !self.world.frozen
            && rule.is_some_and(|r| r.purposes.iter().any(|p| self.tree.is_purpose_below(purpose, p)))
    }

    pub(super) fn permit_labels(&self, listed: &[String], labels: &[String], assessed: bool) -> Truth {
        let covers = |label: &&String| listed.iter().any(|l| self.tree.is_label_below(label, l));
        let covered = match self.mutant {
            Mutant::PermitCoversAny => labels.is_empty() || labels.iter().any(|label| covers(&label)),
            _ => labels.iter().all(|label| covers(&label)),
        };
        if !covered {
            return Some(false);
        }
        if !assessed {
            return None;
        }
        Some(!labels.is_empty())
    }

    pub(super) fn deny_labels(&self, listed: &[String], labels: &[String], assessed: bool) -> Truth {
        let widened = |code: &str, over: &str| {
            let parts = ["MH", "PSY", "PSYTHPN", "SUD"];
            self.tree.is_label_below(code, over)
                || (over == "BH"
                    && self.mutant != Mutant::DenyBhByTheTable
                    && parts.iter().any(|part| self.tree.is_label_below(code, part)))
        };
        let mut each = vec![if assessed { Some(false) } else { None }];
        for label in labels {
            for over in listed {
                each.push(match () {
                    () if !self.tree.is_label(label) => None,
                    () if widened(label, over) => Some(true),
                    () if widened(over, label) => None,
                    () => Some(false),
                });
            }
        }
        or(each)
    }

    /// 8, "Clinical dates", by trying every begin and end that the record may mean, over the days of this world.
    pub(super) fn dates(&self, effect: Effect, range: &DayRange, date: &ClinicalDate) -> Truth {
        let inside = |day: i32| {
            range.first.is_none_or(|first| first <= day) && range.last.is_none_or(|last| day <= last)
        };
        let far = 1_000_000;
        let days = |bound: Option<Days>, open: i32| match bound {
            Some(days) => (days.first..=days.last).collect(),
            None => vec![open],
        };
        let (mut yes, mut no) = (false, false);
        for begin in days(date.start, -far) {
            for end in days(date.end, far) {
                if end < begin {
                    continue;
                }
                let meets = range.first.is_none_or(|first| first <= end)
                    && range.last.is_none_or(|last| begin <= last);
                let holds = match effect {
                    Effect::Permit if self.mutant == Mutant::PermitTakesCommonDay => meets,
                    Effect::Permit => inside(begin) && inside(end),
                    Effect::Deny => meets,
                };
                yes |= holds;
                no |= !holds;
            }
        }
        match (yes, no) {
            (true, false) => Some(true),
            (false, true) => Some(false),
            _ => None,
        }
    }
}
