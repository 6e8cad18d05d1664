//! `provision.data`: single records, encounters with what was made in them, or authors. Several meanings in one list may
//! mean all or any, and "dependents" can't be told from the records (CONSENT.md, "Refuse also").

use super::codes::{self, Target};
use super::reader::{Findings, Object};
use crate::consent::issue::quoted;
use crate::consent::Reference;

/// What a `data` list names.
pub enum Data {
    Instances(Vec<String>),
    Encounters(Vec<String>),
    Authors(Vec<Reference>),
}

/// Reads the list. `None` where it is absent or refused.
pub fn read(object: &mut Object, to: &mut Findings) -> Option<Data> {
    let path = object.at("data");
    let items = object.objects("data", to)?;
    let mut meanings = Vec::new();
    let mut targets = Vec::new();
    for mut item in items {
        let (at_meaning, at_reference) = (item.at("meaning"), item.at("reference"));
        match item.text("meaning", to) {
            Some(meaning) => meanings.push((meaning, at_meaning)),
            None => to.refuse("missing-field", &at_meaning, "FHIR requires it"),
        }
        match item.object("reference", to) {
            Some(reference) => targets.extend(codes::reference(reference, to)),
            None => to.refuse("missing-field", &at_reference, "FHIR requires it"),
        }
        item.finish(to);
    }
    if meanings.iter().any(|(meaning, _)| *meaning == "dependents") {
        to.refuse("data-dependents", &path, "which records depend on another isn't written anywhere");
        return None;
    }
    let (meaning, at) = meanings.first()?;
    if meanings.iter().any(|(other, _)| other != meaning) {
        to.refuse("mixed-data-meanings", &path, "data of several meanings may mean all or any");
        return None;
    }
    match *meaning {
        "instance" => Some(Data::Instances(literals(targets, None, to))),
        "related" => Some(Data::Encounters(literals(targets, Some("Encounter"), to))),
        "authoredby" => Some(Data::Authors(targets.into_iter().map(|target| target.reference).collect())),
        other => {
            to.refuse("unknown-code", at, format!("{} is no meaning of data", quoted(other)));
            None
        }
    }
}

/// Records are told by their literal references alone.
fn literals(targets: Vec<Target>, kind: Option<&str>, to: &mut Findings) -> Vec<String> {
    let mut found = Vec::new();
    for target in targets {
        match target.reference {
            Reference::Identifier { .. } => {
                to.refuse("unresolvable-reference", &target.path, "a record must be named as Type/id");
            }
            Reference::Literal(_) if kind.is_some_and(|kind| target.kind.as_deref() != Some(kind)) => {
                let message = "only what is related to an Encounter is written in the records";
                to.refuse("unsupported-related-data", &target.path, message);
            }
            Reference::Literal(text) => found.push(text),
        }
    }
    found
}
