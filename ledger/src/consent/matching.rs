//! Whether one clause matches: AND over the attributes present, OR within one, in Kleene logic (CONSENT.md, Decision 5
//! and 8). Each function is one attribute. What depends on the request alone is apart from what depends on the record,
//! so that many records cost little.

use super::kleene::Kleene;
use super::model::{Clause, Code, Conf, Context, DataFilter, Effect, Recipient, Reference, Rule};
use super::request::{Request, ACTIONS};
use super::resource::ResourceDescriptor;
use super::tables;

/// What a record's labels say, the custodian's assumption about unlabelled ones applied.
pub struct Labels<'a> {
    pub assessed: bool,
    pub confidentiality: Option<Conf>,
    pub sensitivity: &'a [String],
}

/// A record as rules are matched against it.
pub struct Asked<'a> {
    pub resource: &'a ResourceDescriptor,
    pub labels: Labels<'a>,
}

/// What of a rule the request decides: the context's conditions, its ancestors' and its own, but for the data.
pub fn rule_for(rule: &Rule, context: &Context, request: &Request, at_ms: i64) -> Kleene {
    let clauses = || rule.within.iter().chain([&rule.clause]);
    let lists = [context.purposes.as_deref()].into_iter().chain(clauses().map(|c| c.purposes.as_deref()));
    let all = clauses().map(|clause| who_and_when(clause, request, at_ms));
    Kleene::all(all).and(context_for(context, request, at_ms)).and(purposes(
        rule.clause.effect,
        lists,
        &request.purpose,
    ))
}

/// What of a base the request decides, which is all: a base speaks only where its context holds (Model).
pub fn base_for(effect: Effect, context: &Context, request: &Request, at_ms: i64) -> Kleene {
    let purposes = purposes(effect, [context.purposes.as_deref()].into_iter(), &request.purpose);
    context_for(context, request, at_ms).and(purposes)
}

/// What of a rule the record decides: its own data conditions, and its ancestors', each as its own provision reads them.
pub fn rule_on(rule: &Rule, asked: &Asked) -> Kleene {
    let clauses = rule.within.iter().chain([&rule.clause]);
    Kleene::all(clauses.map(|clause| data(clause.effect, &clause.data, asked)))
}

/// What [`rule_for`] looks at, condition by condition, by the names that explanations give them.
pub fn parts_for(
    rule: &Rule,
    context: &Context,
    request: &Request,
    at_ms: i64,
) -> [(&'static str, Kleene); 4] {
    let clauses: Vec<&Clause> = rule.within.iter().chain([&rule.clause]).collect();
    parts_of(rule.clause.effect, &clauses, context, request, at_ms)
}

/// The same of [`base_for`].
pub fn base_parts_for(
    effect: Effect,
    context: &Context,
    request: &Request,
    at_ms: i64,
) -> [(&'static str, Kleene); 4] {
    parts_of(effect, &[], context, request, at_ms)
}

fn parts_of(
    effect: Effect,
    clauses: &[&Clause],
    context: &Context,
    request: &Request,
    at_ms: i64,
) -> [(&'static str, Kleene); 4] {
    let each =
        |own: Kleene, of: &dyn Fn(&Clause) -> Kleene| own.and(Kleene::all(clauses.iter().map(|c| of(c))));
    let lists =
        [context.purposes.as_deref()].into_iter().chain(clauses.iter().map(|c| c.purposes.as_deref()));
    [
        ("period", each(context.valid.contains(at_ms).into(), &|c| c.valid.contains(at_ms).into())),
        (
            "recipient",
            each(recipients(context.recipients.as_deref(), request), &|c| {
                recipients(c.recipients.as_deref(), request)
            }),
        ),
        (
            "action",
            each(actions(context.actions.as_deref(), request), &|c| actions(c.actions.as_deref(), request)),
        ),
        ("purpose", purposes(effect, lists, &request.purpose)),
    ]
}

fn context_for(context: &Context, request: &Request, at_ms: i64) -> Kleene {
    Kleene::from(context.valid.contains(at_ms))
        .and(recipients(context.recipients.as_deref(), request))
        .and(actions(context.actions.as_deref(), request))
}

fn who_and_when(clause: &Clause, request: &Request, at_ms: i64) -> Kleene {
    Kleene::from(clause.valid.contains(at_ms))
        .and(recipients(clause.recipients.as_deref(), request))
        .and(actions(clause.actions.as_deref(), request))
}

/// Organization and practitioner in one list are alternatives (Decision 8). A rule that names a person, group or role is
/// UNKNOWN where the request states none; an empty list of groups states "none" (Decision 5).
fn recipients(listed: Option<&[Recipient]>, request: &Request) -> Kleene {
    let Some(listed) = listed else {
        return Kleene::True;
    };
    Kleene::any(listed.iter().map(|recipient| match recipient {
        Recipient::Organization(_) if request.recipient.is_empty() => Kleene::Unknown,
        Recipient::Organization(reference) => request.recipient.contains(reference).into(),
        Recipient::Practitioner(reference) => {
            request.actor.as_ref().map_or(Kleene::Unknown, |actor| (actor == reference).into())
        }
        Recipient::Group(reference) => group(reference, request),
        Recipient::Role(reference) => role(reference, request),
        Recipient::Named(_) if request.recipient.is_empty() => Kleene::Unknown,
        Recipient::Named(reference) => {
            let groups = request.groups.iter().flatten();
            request.recipient.iter().chain(&request.actor).chain(groups).any(|name| name == reference).into()
        }
    }))
}

/// Of a group that the custodian's registry doesn't know, nobody can say who belongs to it.
fn group(reference: &Reference, request: &Request) -> Kleene {
    let known = request.known_groups.as_ref().is_none_or(|known| known.contains(reference));
    let groups = request.groups.as_ref().filter(|_| known);
    groups.map_or(Kleene::Unknown, |groups| groups.contains(reference).into())
}

/// A role is stated by its code, or as the REF that the consent writes; or the person acts as that very PractitionerRole.
fn role(reference: &Reference, request: &Request) -> Kleene {
    let acts_as = request.actor.as_ref() == Some(reference);
    let stated = request.role.as_ref().map_or(Kleene::Unknown, |role| {
        let code = match reference {
            Reference::Literal(text) => text.split_once('/').map_or(text.as_str(), |(_, id)| id),
            Reference::Identifier { value, .. } => value,
        };
        (role == code || *role == reference.to_string()).into()
    });
    stated.or(acts_as.into())
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

/// Decision 8, "Purpose", over the lists of the context, the ancestors and the rule itself, outermost first. All restrict
/// by the plain tree; of a PERMIT the innermost one must also name what must be named. With no list at all a PERMIT
/// covers neither HMARKT nor what must be named (Model).
pub fn purposes<'a>(
    effect: Effect,
    lists: impl Iterator<Item = Option<&'a [String]>>,
    asked: &str,
) -> Kleene {
    let known = tables::is_purpose(asked);
    let (mut holds, mut innermost) = (Kleene::True, None);
    for list in lists.flatten() {
        let within = Kleene::any(list.iter().map(|listed| tables::purpose_within(asked, listed).into()));
        holds = holds.and(if known { within } else { Kleene::Unknown });
        innermost = Some(list);
    }
    match (effect, innermost) {
        (Effect::Deny, _) => holds,
        (Effect::Permit, _) if !known => Kleene::Unknown,
        (Effect::Permit, None) => (!tables::must_be_named(asked)).into(),
        (Effect::Permit, Some(list)) if tables::must_be_named(asked) => {
            holds.and(list.iter().any(|listed| listed == asked).into())
        }
        (Effect::Permit, Some(_)) => holds,
    }
}

/// Data conditions as a provision of this effect reads them.
pub fn data(effect: Effect, filter: &DataFilter, asked: &Asked) -> Kleene {
    // Most rules are about other types: nothing else needs a look then.
    match one_of(&filter.types, &asked.resource.resource_type) {
        Kleene::False => Kleene::False,
        Kleene::Unknown | Kleene::True => {
            Kleene::all(data_parts(effect, filter, asked).map(|(_, holds)| holds))
        }
    }
}

fn one_of(listed: &Option<Vec<String>>, found: &String) -> Kleene {
    listed.as_ref().map_or(Kleene::True, |listed| Kleene::any(listed.iter().map(|l| (l == found).into())))
}

/// The data conditions one by one, by the names that explanations give them.
pub fn data_parts(effect: Effect, filter: &DataFilter, asked: &Asked) -> [(&'static str, Kleene); 8] {
    let resource = asked.resource;
    let labels = filter.labels.as_ref().map_or(Kleene::True, |listed| match effect {
        Effect::Permit => permit_labels(listed, &asked.labels),
        Effect::Deny => deny_labels(listed, &asked.labels),
    });
    let bound = |bound| within_bound(effect, bound, &asked.labels);
    let dates = filter.dates.map_or(Kleene::True, |range| {
        resource.clinical_date.map_or(Kleene::Unknown, |date| date.within(effect, &range))
    });
    [
        ("data.types", one_of(&filter.types, &resource.resource_type)),
        ("data.labels", labels),
        ("data.confidentiality", filter.confidentiality.map_or(Kleene::True, bound)),
        ("data.codes", filter.codes.as_ref().map_or(Kleene::True, |listed| codes(listed, resource))),
        ("data.dates", dates),
        ("data.authors", filter.authors.as_ref().map_or(Kleene::True, |listed| authors(listed, resource))),
        (
            "data.encounters",
            filter.encounters.as_ref().map_or(Kleene::True, |listed| encounters(listed, resource)),
        ),
        ("data.instances", one_of(&filter.instances, &resource.reference)),
    ]
}

/// "No coding is UNKNOWN", and so is a coding without a system that might be the listed one.
fn codes(listed: &[Code], resource: &ResourceDescriptor) -> Kleene {
    let pairs = resource.codes.iter().flat_map(|found| listed.iter().map(move |wanted| (found, wanted)));
    Kleene::any(pairs.map(|(found, wanted)| match &found.system {
        None if found.code == wanted.code => Kleene::Unknown,
        _ => (found == wanted).into(),
    }))
}

/// An author that was never written, or not so that it can be told who it is, may be anybody (Decision 5).
fn authors(listed: &[Reference], resource: &ResourceDescriptor) -> Kleene {
    let unnamed = if resource.has_unnamed_author { Kleene::Unknown } else { Kleene::False };
    let named = Kleene::any(resource.authors.iter().map(|author| listed.contains(author).into()));
    named.or(unnamed)
}

/// The encounter itself, and what was made in it. A record that names none may still be of it.
fn encounters(listed: &[String], resource: &ResourceDescriptor) -> Kleene {
    let itself = resource.resource_type == "Encounter";
    let found = resource.encounters.iter().chain(itself.then_some(&resource.reference));
    Kleene::any(found.map(|encounter| listed.contains(encounter).into()))
}

/// A PERMIT must cover all of the record's sensitivity labels (Decision 8). A record assessed as having none is not what
/// such a rule is about.
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

/// A DENY catches any (Decision 8). A label that is there counts though labels were not assessed.
fn deny_labels(listed: &[String], labels: &Labels) -> Kleene {
    if listed.is_empty() {
        return Kleene::Unknown;
    }
    let unseen = if labels.assessed { Kleene::False } else { Kleene::Unknown };
    let pairs = labels
        .sensitivity
        .iter()
        .flat_map(|label| listed.iter().map(move |l| tables::deny_catches(l, label)));
    pairs.fold(unseen, Kleene::or)
}

/// U < L < M < N < R < V: a permit bound covers it and lower, a deny bound it and higher (Decision 8).
fn within_bound(effect: Effect, bound: Conf, labels: &Labels) -> Kleene {
    match (labels.confidentiality, effect) {
        (None, _) => Kleene::Unknown,
        (Some(found), Effect::Permit) => (found <= bound).into(),
        (Some(found), Effect::Deny) => (found >= bound).into(),
    }
}
