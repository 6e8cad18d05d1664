//! `Consent.provision` and what is nested in it, read attribute by attribute. What it all means together is
//! `nesting`'s to say.

use super::codes::{self, Coding};
use super::data::{self, Data};
use super::reader::{Findings, Object};
use super::{period, recipient};
use crate::consent::dates::Precision;
use crate::consent::request::ACTIONS;
use crate::consent::resource::{ACT_CODE, CONFIDENTIALITY};
use crate::consent::{tables, Clause, Code, Conf, DataFilter, DayRange, Effect, Period, Recipient};

/// One provision as written.
pub struct Provision {
    pub path: String,
    pub effect: Option<Effect>,
    pub period: Option<(Period, Precision)>,
    pub recipients: Option<Vec<Recipient>>,
    pub purposes: Option<Vec<String>>,
    pub actions: Option<Vec<String>>,
    pub types: Option<Vec<String>>,
    pub labels: Option<Vec<String>>,
    pub levels: Option<Vec<Conf>>,
    pub codes: Option<Vec<Code>>,
    pub dates: Option<(DayRange, Precision)>,
    pub data: Option<Data>,
    /// The attributes that were written, whether or not they could be read.
    pub written: Vec<&'static str>,
    pub nested: Vec<Provision>,
}

/// Attributes that choose records.
const DATA: [&str; 5] = ["securityLabel", "class", "code", "dataPeriod", "data"];
/// Attributes that choose requests.
const WHO: [&str; 3] = ["actor", "action", "purpose"];

impl Provision {
    pub fn has_data(&self) -> bool {
        self.written.iter().any(|key| DATA.contains(key))
    }

    /// Names anything but a period: what makes an untyped root unreadable.
    pub fn has_conditions(&self) -> bool {
        self.has_data() || self.written.iter().any(|key| WHO.contains(key))
    }

    /// What it says, under the effect that it has.
    pub fn clause(&self, effect: Effect) -> Clause {
        Clause {
            effect,
            valid: self.valid(),
            recipients: self.recipients.clone(),
            purposes: self.purposes.clone(),
            actions: self.actions.clone(),
            data: self.filter(effect),
        }
    }

    pub fn valid(&self) -> Period {
        self.period.map_or_else(Period::default, |(valid, _)| valid)
    }

    /// A permit's bound covers it and lower, a deny's it and higher; several are alternatives.
    pub fn filter(&self, effect: Effect) -> DataFilter {
        let levels = self.levels.iter().flatten().copied();
        let mut filter = DataFilter {
            types: self.types.clone(),
            codes: self.codes.clone(),
            labels: self.labels.clone(),
            confidentiality: if effect == Effect::Permit { levels.max() } else { levels.min() },
            dates: self.dates.map(|(range, _)| range),
            ..DataFilter::default()
        };
        match &self.data {
            Some(Data::Instances(listed)) => filter.instances = Some(listed.clone()),
            Some(Data::Encounters(listed)) => filter.encounters = Some(listed.clone()),
            Some(Data::Authors(listed)) => filter.authors = Some(listed.clone()),
            None => {}
        }
        filter
    }
}

pub fn read(mut object: Object, to: &mut Findings) -> Provision {
    let written = DATA.into_iter().chain(WHO).chain(["period"]).filter(|key| object.has(key)).collect();
    let effect = effect(&mut object, to);
    let period = object.object("period", to).and_then(|p| period::validity(p, to));
    let recipients = list(&mut object, "actor", to, recipient::read);
    let actions = list(&mut object, "action", to, |concept, to| action(codes::one_coding(concept, to)?, to));
    let purposes = list(&mut object, "purpose", to, |coding, to| purpose(codes::coding(coding, to)?, to));
    let types = list(&mut object, "class", to, |coding, to| class(codes::coding(coding, to)?, to));
    let (labels, levels) = security_labels(&mut object, to);
    // The codings of one concept say the same thing, so that a record which has any of them is meant.
    let codes = list(&mut object, "code", to, |concept, to| Some(codes::concept(concept, to)));
    let codes = codes.map(|concepts| concepts.iter().flatten().map(code).collect());
    let dates = object.object("dataPeriod", to).and_then(|p| period::clinical(p, to));
    let data = data::read(&mut object, to);
    let path = object.path.clone();
    let nested = object.objects("provision", to).unwrap_or_default();
    object.finish(to);
    let nested = nested.into_iter().map(|inner| read(inner, to)).collect();
    Provision {
        path,
        effect,
        period,
        recipients,
        purposes,
        actions,
        types,
        labels,
        levels,
        codes,
        dates,
        data,
        written,
        nested,
    }
}

fn code(coding: &Coding) -> Code {
    Code { system: Some(coding.system.to_owned()), code: coding.code.to_owned() }
}

/// The items of a list that could be read; an item that couldn't has left an issue, which refuses the whole.
fn list<'a, T>(
    object: &mut Object<'a>,
    key: &'static str,
    to: &mut Findings,
    read: impl Fn(Object<'a>, &mut Findings) -> Option<T>,
) -> Option<Vec<T>> {
    let items = object.objects(key, to)?;
    Some(items.into_iter().filter_map(|item| read(item, to)).collect())
}

fn effect(object: &mut Object, to: &mut Findings) -> Option<Effect> {
    match object.text("type", to)? {
        "permit" => Some(Effect::Permit),
        "deny" => Some(Effect::Deny),
        _ => {
            to.refuse("unknown-code", &object.at("type"), "a provision's type is permit or deny");
            None
        }
    }
}

fn action(coding: Coding, to: &mut Findings) -> Option<String> {
    match coding.system {
        codes::CONSENT_ACTION if ACTIONS.contains(&coding.code) => return Some(coding.code.to_owned()),
        codes::CONSENT_ACTION => codes::unknown_code(&coding, to),
        _ => codes::unknown_system(&coding, to),
    }
    None
}

fn purpose(coding: Coding, to: &mut Findings) -> Option<String> {
    match coding.system {
        codes::ACT_REASON if tables::is_purpose(coding.code) => return Some(coding.code.to_owned()),
        codes::ACT_REASON => codes::unknown_code(&coding, to),
        _ => codes::unknown_system(&coding, to),
    }
    None
}

fn class(coding: Coding, to: &mut Findings) -> Option<String> {
    match coding.system {
        codes::RESOURCE_TYPES if tables::is_resource_type(coding.code) => {
            return Some(coding.code.to_owned())
        }
        codes::RESOURCE_TYPES => codes::unknown_code(&coding, to),
        "urn:ietf:rfc:3986"
        | "urn:ietf:bcp:13"
        | "http://ihe.net/fhir/ihe.formatcode.fhir/CodeSystem/formatcode" => {
            to.refuse("unsupported-class", &coding.path, "only resource types can be evaluated yet");
        }
        _ => codes::unknown_system(&coding, to),
    }
    None
}

enum Label {
    Sensitivity(String),
    Level(Conf),
}

fn label(coding: Coding, to: &mut Findings) -> Option<Label> {
    match (coding.system, Conf::parse(coding.code)) {
        (CONFIDENTIALITY, Some(level)) => return Some(Label::Level(level)),
        (ACT_CODE, _) if tables::is_sensitivity(coding.code) && !tables::is_abstract(coding.code) => {
            return Some(Label::Sensitivity(coding.code.to_owned()));
        }
        (ACT_CODE, _) if tables::is_handling(coding.code) => {
            to.refuse(
                "unsupported-label",
                &coding.path,
                "only sensitivity and confidentiality can be evaluated yet",
            );
        }
        (ACT_CODE | CONFIDENTIALITY, _) => codes::unknown_code(&coding, to),
        _ => codes::unknown_system(&coding, to),
    }
    None
}

/// A list is of one kind: mixed, nobody can say whether it means both or either (CONSENT.md, "Refuse also").
fn security_labels(object: &mut Object, to: &mut Findings) -> (Option<Vec<String>>, Option<Vec<Conf>>) {
    let path = object.at("securityLabel");
    let found = list(object, "securityLabel", to, |coding, to| label(codes::coding(coding, to)?, to));
    let (mut labels, mut levels) = (Vec::new(), Vec::new());
    for label in found.unwrap_or_default() {
        match label {
            Label::Sensitivity(code) => labels.push(code),
            Label::Level(level) => levels.push(level),
        }
    }
    if !labels.is_empty() && !levels.is_empty() {
        to.refuse(
            "mixed-labels",
            &path,
            "confidentiality and sensitivity in one list may mean both or either",
        );
    }
    (Some(labels).filter(|l| !l.is_empty()), Some(levels).filter(|l| !l.is_empty()))
}
