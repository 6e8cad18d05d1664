//! A consent's rules in words, for the patient who signs and the officer who checks. What is said here is what
//! `decide` does: it is made from the same values.

use time::OffsetDateTime;

use super::clinical::DayRange;
use super::model::{
    Base, Clause, Conf, Consent, ConsentState, Context, DataFilter, Effect, Period, Recipient, Reference,
    Rule,
};

/// One sentence for the state if nothing stands, one for the base, one for each rule.
pub fn sentences(consent: &Consent) -> Vec<String> {
    let mut said = Vec::new();
    match consent.state {
        ConsentState::Active => {}
        ConsentState::Revoked => {
            said.push(
                "This consent is revoked: nothing that it permits holds, and what it denies does.".to_owned(),
            );
        }
        _ => {
            said.push(
                "This consent is not active: it is kept as history, and nothing in it holds.".to_owned(),
            );
        }
    }
    said.push(base(consent));
    if let Some(root) = &consent.root_rule {
        said.push(format!("Of these: {}.", clause(&root.clause)));
    }
    said.extend(consent.rules.iter().map(|one| format!("Rule {}: {}.", one.id, nested(one))));
    said
}

/// What goes on denying after a revocation ("Revoking never widens"): the base, and each rule with the context that it carries.
pub fn still_denied(consent: &Consent) -> Vec<String> {
    if consent.unresolved {
        return vec![
            "It can't be read, so that everything is withheld until an officer resolves it.".to_owned()
        ];
    }
    let scope = context(&consent.context);
    let base = match consent.base {
        Base::Deny => Some(format!("Deny {scope}.")),
        Base::Limit => Some(format!("For {scope}: no default applies.")),
        Base::Permit | Base::None => None,
    };
    let rules = consent.root_rule.iter().chain(&consent.rules);
    let denies = rules.filter(|one| one.clause.effect == Effect::Deny);
    base.into_iter()
        .chain(denies.map(|one| format!("Rule {}: {}, for {scope}.", one.id, nested(one))))
        .collect()
}

fn nested(one: &Rule) -> String {
    match one.within.is_empty() {
        true => clause(&one.clause),
        // Its id says in which rules: "1.2" is in "1".
        false => format!("{} of what the rule that it is nested in covers", clause(&one.clause)),
    }
}

fn base(consent: &Consent) -> String {
    let scope = context(&consent.context);
    match consent.base {
        Base::Permit => format!("Permit {scope}, unless a rule below denies it."),
        Base::Deny => format!("Deny {scope}, unless a rule below permits it."),
        Base::Limit => {
            format!("For {scope}: nothing but what is permitted below, and no default applies.")
        }
        Base::None => {
            format!("For {scope}: only what is denied below; about the rest this consent says nothing.")
        }
    }
}

fn context(context: &Context) -> String {
    let mut parts = vec![actions(context.actions.as_deref()).unwrap_or_else(|| "any use".to_owned())];
    parts.push(recipients(context.recipients.as_deref()).unwrap_or_else(|| "by anyone".to_owned()));
    parts.extend(purposes(context.purposes.as_deref()));
    parts.extend(period(&context.valid));
    parts.join(" ")
}

fn clause(rule: &Clause) -> String {
    let verb = if rule.effect == Effect::Permit { "permit" } else { "deny" };
    let mut parts = vec![format!("{verb} {}", data(rule.effect, &rule.data))];
    parts.extend(actions(rule.actions.as_deref()).map(|actions| format!("for {actions}")));
    parts.extend(recipients(rule.recipients.as_deref()));
    parts.extend(purposes(rule.purposes.as_deref()));
    parts.extend(period(&rule.valid));
    parts.join(" ")
}

fn data(effect: Effect, filter: &DataFilter) -> String {
    let kinds = filter
        .types
        .as_ref()
        .map_or_else(|| "records".to_owned(), |types| format!("{} records", either(types)));
    let codes = filter.codes.as_ref().map(|codes| {
        let names: Vec<_> =
            codes.iter().map(|c| format!("{}|{}", c.system.as_deref().unwrap_or_default(), c.code)).collect();
        format!("coded {}", either(&names))
    });
    let labels = filter.labels.as_ref().map(|labels| format!("labelled {}", either(labels)));
    let bound = filter.confidentiality.map(|bound| match effect {
        Effect::Permit => format!("of confidentiality {} or lower", level(bound)),
        Effect::Deny => format!("of confidentiality {} or higher", level(bound)),
    });
    let dates = filter.dates.as_ref().map(|range| dated(effect, range));
    let authors = filter.authors.as_ref().map(|authors| {
        format!("written by {}", either(&authors.iter().map(Reference::to_string).collect::<Vec<_>>()))
    });
    let encounters =
        filter.encounters.as_ref().map(|listed| format!("that are or belong to {}", either(listed)));
    let instances = filter.instances.as_ref().map(|listed| format!("namely {}", either(listed)));
    let more = [codes, labels, bound, dates, authors, encounters, instances];
    let parts: Vec<String> = std::iter::once(kinds).chain(more.into_iter().flatten()).collect();
    parts.join(" ")
}

/// Decision 8: of a record's period a PERMIT needs all of it inside, a DENY one common day.
fn dated(effect: Effect, range: &DayRange) -> String {
    let day = |days: i32| {
        moment(i64::from(days) * 86_400_000).map_or_else(|| days.to_string(), |at| at.date().to_string())
    };
    let from = range.first.map(|first| format!(" from {}", day(first)));
    let to = range.last.map(|last| format!(" through {}", day(last)));
    let verb = if effect == Effect::Permit { "dated" } else { "dated at least partly" };
    format!("{verb}{}{}", from.unwrap_or_default(), to.unwrap_or_default())
}

fn level(bound: Conf) -> &'static str {
    match bound {
        Conf::U => "U (unrestricted)",
        Conf::L => "L (low)",
        Conf::M => "M (moderate)",
        Conf::N => "N (normal)",
        Conf::R => "R (restricted)",
        Conf::V => "V (very restricted)",
    }
}

fn actions(listed: Option<&[String]>) -> Option<String> {
    listed.map(either)
}

fn purposes(listed: Option<&[String]>) -> Option<String> {
    listed.map(|purposes| format!("for {}", either(purposes)))
}

fn recipients(listed: Option<&[Recipient]>) -> Option<String> {
    let name = |recipient: &Recipient| match recipient {
        Recipient::Organization(r) => format!("organization {r}"),
        Recipient::Practitioner(r) => format!("practitioner {r}"),
        Recipient::Group(r) => format!("group {r}"),
        Recipient::Role(r) => format!("role {r}"),
        Recipient::Named(r) => r.to_string(),
    };
    listed.map(|listed| format!("by {}", either(&listed.iter().map(name).collect::<Vec<_>>())))
}

fn either(items: &[String]) -> String {
    items.join(" or ")
}

/// Whole days are named by their last one, as the patient wrote them; anything else by the moment it ends.
fn period(valid: &Period) -> Option<String> {
    let from = valid.start_ms.and_then(moment).map(|at| format!("from {}", written(at)));
    let to = valid.end_ms.and_then(|end_ms| {
        // What ends with the year 9999 ends at a moment that has no name.
        let last = moment(end_ms - 1)?;
        match end_ms % 86_400_000 {
            0 => Some(format!("through {}", last.date())),
            _ => moment(end_ms).map(|end| format!("before {}", written(end))),
        }
    });
    let parts: Vec<String> = from.into_iter().chain(to).collect();
    (!parts.is_empty()).then(|| parts.join(" "))
}

fn moment(at_ms: i64) -> Option<OffsetDateTime> {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(at_ms) * 1_000_000).ok()
}

fn written(at: OffsetDateTime) -> String {
    let (hour, minute, second, milli) = at.time().as_hms_milli();
    if (hour, minute, second, milli) == (0, 0, 0, 0) {
        return at.date().to_string();
    }
    format!("{} {hour:02}:{minute:02}:{second:02}.{milli:03} UTC", at.date())
}
