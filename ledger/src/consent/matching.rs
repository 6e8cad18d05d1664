//! Whether one rule matches: AND over the attributes present, OR within one, in Kleene logic (CONSENT.md, Decision 5
//! and 8). Each function is one attribute.

use super::kleene::Kleene;
use super::model::{Conf, Context, DataFilter, Effect, Recipient, Request, Rule, ACTIONS};
use super::resource::ResourceDescriptor;
use super::tables;

/// What a record's labels say, the custodian's assumption about unlabelled ones applied.
pub struct Labels<'a> {
    pub assessed: bool,
    pub confidentiality: Option<Conf>,
    pub sensitivity: &'a [String],
}

/// All that a rule is matched against.
pub struct Asked<'a> {
    pub request: &'a Request,
    pub resource: &'a ResourceDescriptor,
    pub labels: Labels<'a>,
    pub at_ms: i64,
}

/// A rule within its consent: the context's conditions and its own.
pub fn rule(rule: &Rule, context: &Context, asked: &Asked) -> Kleene {
    let request = asked.request;
    Kleene::all([
        Kleene::from(context.valid.contains(asked.at_ms) && rule.valid.contains(asked.at_ms)),
        recipients(context.recipients.as_deref(), request),
        recipients(rule.recipients.as_deref(), request),
        actions(context.actions.as_deref(), request),
        actions(rule.actions.as_deref(), request),
        purposes(rule.effect, context.purposes.as_deref(), rule.purposes.as_deref(), &request.purpose),
        data(rule.effect, &rule.data, asked),
    ])
}

/// A base within its consent, which speaks only where the context holds (CONSENT.md, Model).
pub fn base(effect: Effect, context: &Context, asked: &Asked) -> Kleene {
    let request = asked.request;
    Kleene::all([
        Kleene::from(context.valid.contains(asked.at_ms)),
        recipients(context.recipients.as_deref(), request),
        actions(context.actions.as_deref(), request),
        purposes(effect, None, context.purposes.as_deref(), &request.purpose),
    ])
}

/// Organization and practitioner in one list are alternatives (CONSENT.md, Decision 8). A rule that names a person or a
/// group is UNKNOWN where the request states none (Decision 5); groups and roles never are stated yet.
fn recipients(listed: Option<&[Recipient]>, request: &Request) -> Kleene {
    let Some(listed) = listed else {
        return Kleene::True;
    };
    Kleene::any(listed.iter().map(|recipient| match recipient {
        Recipient::Organization(_) if request.recipient.is_empty() => Kleene::Unknown,
        Recipient::Organization(reference) => request.recipient.contains(reference).into(),
        Recipient::Practitioner(reference) => match &request.actor {
            Some(actor) => (*actor == reference.to_string()).into(),
            None => Kleene::Unknown,
        },
        Recipient::Group(_) | Recipient::Role(_) => Kleene::Unknown,
    }))
}

fn actions(listed: Option<&[String]>, request: &Request) -> Kleene {
    let Some(listed) = listed else {
        return Kleene::True;
    };
    if !ACTIONS.contains(&request.action.as_str()) {
        return Kleene::Unknown;
    }
    Kleene::any(listed.iter().map(|action| (*action == request.action).into()))
}

/// CONSENT.md, Decision 8, "Purpose". The innermost list is read by the rule's effect, an outer one by the plain tree;
/// with no list at all a PERMIT covers neither HMARKT nor what must be named (Model).
pub fn purposes(effect: Effect, outer: Option<&[String]>, own: Option<&[String]>, asked: &str) -> Kleene {
    let (innermost, outer) = match (own, outer) {
        (Some(own), outer) => (Some(own), outer),
        (None, outer) => (outer, None),
    };
    if !tables::is_purpose(asked) {
        let unconditional = innermost.is_none() && effect == Effect::Deny;
        return if unconditional { Kleene::True } else { Kleene::Unknown };
    }
    let within = |list: &[String]| Kleene::any(list.iter().map(|p| tables::purpose_within(asked, p).into()));
    let inner = match (effect, innermost) {
        (Effect::Permit, Some(list)) => {
            Kleene::any(list.iter().map(|p| tables::purpose_permitted(asked, p).into()))
        }
        (Effect::Permit, None) => (!tables::must_be_named(asked)).into(),
        (Effect::Deny, Some(list)) => within(list),
        (Effect::Deny, None) => Kleene::True,
    };
    inner.and(outer.map_or(Kleene::True, within))
}

fn data(effect: Effect, filter: &DataFilter, asked: &Asked) -> Kleene {
    let types = filter.types.as_ref().map_or(Kleene::True, |types| {
        Kleene::any(types.iter().map(|t| (*t == asked.resource.resource_type).into()))
    });
    let labels = filter.labels.as_ref().map_or(Kleene::True, |listed| match effect {
        Effect::Permit => permit_labels(listed, &asked.labels),
        Effect::Deny => deny_labels(listed, &asked.labels),
    });
    let confidentiality =
        filter.confidentiality.map_or(Kleene::True, |bound| within_bound(effect, bound, &asked.labels));
    Kleene::all([types, labels, confidentiality])
}

/// A PERMIT must cover all of the record's sensitivity labels (CONSENT.md, Decision 8). A record assessed as having none
/// is not what such a rule is about.
fn permit_labels(listed: &[String], labels: &Labels) -> Kleene {
    if listed.is_empty() {
        return Kleene::Unknown;
    }
    let covered = |label: &String| listed.iter().any(|l| tables::permit_covers(l, label));
    if !labels.sensitivity.iter().all(covered) {
        return Kleene::False;
    }
    match (labels.assessed, labels.sensitivity.is_empty()) {
        (true, empty) => (!empty).into(),
        (false, _) => Kleene::Unknown,
    }
}

/// A DENY catches any (CONSENT.md, Decision 8). A label that is there counts though labels were not assessed.
fn deny_labels(listed: &[String], labels: &Labels) -> Kleene {
    let unseen = if labels.assessed { Kleene::False } else { Kleene::Unknown };
    let pairs = labels
        .sensitivity
        .iter()
        .flat_map(|label| listed.iter().map(move |l| tables::deny_catches(l, label)));
    if listed.is_empty() {
        return Kleene::Unknown;
    }
    pairs.fold(unseen, Kleene::or)
}

/// U < L < M < N < R < V: a permit bound covers it and lower, a deny bound it and higher (CONSENT.md, Decision 8).
fn within_bound(effect: Effect, bound: Conf, labels: &Labels) -> Kleene {
    match (labels.confidentiality, effect) {
        (None, _) => Kleene::Unknown,
        (Some(found), Effect::Permit) => (found <= bound).into(),
        (Some(found), Effect::Deny) => (found >= bound).into(),
    }
}
