//! A consent's rules in words, for the patient who signs and the officer who checks. What is said here is what
//! `decide` does: it is made from the same values.

use time::{Date, Duration, OffsetDateTime};

use super::model::{Base, Conf, Consent, ConsentState, Context, DataFilter, Effect, Period, Recipient, Rule};

/// One sentence for the state if nothing stands, one for the base, one for each rule.
pub fn sentences(consent: &Consent) -> Vec<String> {
    let mut said = Vec::new();
    if consent.state != ConsentState::Active {
        said.push("This consent is not active: it is kept as history, and nothing in it holds.".to_owned());
    }
    said.push(base(consent));
    if let Some(root) = &consent.root_rule {
        said.push(format!("Of these: {}.", rule(root)));
    }
    for one in &consent.rules {
        said.push(format!("Rule {}: {}.", one.id, rule(one)));
    }
    said
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

fn rule(rule: &Rule) -> String {
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
    let labels = filter.labels.as_ref().map(|labels| format!("labelled {}", either(labels)));
    let bound = filter.confidentiality.map(|bound| match effect {
        Effect::Permit => format!("of confidentiality {} or lower", level(bound)),
        Effect::Deny => format!("of confidentiality {} or higher", level(bound)),
    });
    let parts: Vec<String> = std::iter::once(kinds).chain(labels).chain(bound).collect();
    parts.join(" ")
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
        Recipient::Role(role) => format!("role {role}"),
    };
    listed.map(|listed| format!("by {}", either(&listed.iter().map(name).collect::<Vec<_>>())))
}

fn either(items: &[String]) -> String {
    items.join(" or ")
}

/// Whole days are named by their last one, as the patient wrote them; anything else by the moment it ends.
fn period(valid: &Period) -> Option<String> {
    let from = valid.start_ms.and_then(moment).map(|at| format!("from {}", written(at)));
    let to = valid.end_ms.and_then(moment).map(|at| match last_day(at) {
        Some(day) => format!("through {day}"),
        None => format!("before {}", written(at)),
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

fn last_day(end: OffsetDateTime) -> Option<Date> {
    let midnight = end.time() == time::Time::MIDNIGHT;
    midnight.then(|| end.checked_sub(Duration::milliseconds(1)).map(OffsetDateTime::date))?
}
