//! Reading FHIR JSON where every key must be accounted for: whoever reads an object takes the keys it knows, and what is
//! left over is an issue with its path. Nothing is skipped silently (CONSENT.md, FHIR R4 Consent).

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use crate::consent::issue::{quoted, Issue, MAX_ISSUES};

/// What was found wrong, and what is only worth knowing.
#[derive(Default)]
pub struct Findings {
    /// Takes what CONSENT.md lets a lenient import take, and notes each.
    pub is_lenient: bool,
    pub errors: Vec<Issue>,
    pub notes: Vec<Issue>,
}

impl Findings {
    pub fn refuse(&mut self, reason: &'static str, path: &str, message: impl Into<String>) {
        if self.errors.len() < MAX_ISSUES {
            self.errors.push(Issue::error(reason, path, message));
        }
    }

    pub fn note(&mut self, reason: &'static str, path: &str, message: impl Into<String>) {
        if self.notes.len() < MAX_ISSUES {
            self.notes.push(Issue::note(reason, path, message));
        }
    }
}

/// One JSON object, and which of its keys were taken.
pub struct Object<'a> {
    map: &'a Map<String, Value>,
    pub path: String,
    taken: BTreeSet<&'static str>,
}

impl<'a> Object<'a> {
    pub fn new(value: &'a Value, path: String, to: &mut Findings) -> Option<Self> {
        match value {
            Value::Object(map) if map.is_empty() => {
                to.refuse("empty-value", &path, "an empty object says nothing");
                None
            }
            Value::Object(map) => Some(Self { map, path, taken: BTreeSet::new() }),
            _ => {
                to.refuse("wrong-type", &path, "expected an object");
                None
            }
        }
    }

    pub fn at(&self, key: &str) -> String {
        format!("{}.{key}", self.path)
    }

    pub fn has(&self, key: &str) -> bool {
        self.map.contains_key(key)
    }

    /// Takes a key whatever its value is: it means nothing to a decision.
    pub fn take(&mut self, key: &'static str) -> Option<&'a Value> {
        self.taken.insert(key);
        self.map.get(key)
    }

    pub fn text(&mut self, key: &'static str, to: &mut Findings) -> Option<&'a str> {
        match self.take(key)? {
            Value::String(text) if !text.trim().is_empty() => Some(text),
            Value::String(_) => {
                to.refuse("empty-value", &self.at(key), "an empty text says nothing");
                None
            }
            _ => {
                to.refuse("wrong-type", &self.at(key), "expected text");
                None
            }
        }
    }

    pub fn boolean(&mut self, key: &'static str, to: &mut Findings) -> Option<bool> {
        let value = self.take(key)?;
        if value.as_bool().is_none() {
            to.refuse("wrong-type", &self.at(key), "expected true or false");
        }
        value.as_bool()
    }

    pub fn object(&mut self, key: &'static str, to: &mut Findings) -> Option<Object<'a>> {
        let value = self.take(key)?;
        Object::new(value, self.at(key), to)
    }

    /// The objects of a list; `None` where the key is absent. An empty list is refused (CONSENT.md, Model).
    pub fn objects(&mut self, key: &'static str, to: &mut Findings) -> Option<Vec<Object<'a>>> {
        let value = self.take(key)?;
        let path = self.at(key);
        let Value::Array(items) = value else {
            to.refuse("wrong-type", &path, "expected a list");
            return Some(Vec::new());
        };
        if items.is_empty() {
            to.refuse("empty-list", &path, "an empty list; leave it out to mean any");
        }
        Some(
            items
                .iter()
                .enumerate()
                .filter_map(|(n, item)| Object::new(item, format!("{path}[{n}]"), to))
                .collect(),
        )
    }

    /// Every key that nobody took is an issue. Extensions that don't modify are let be outside a provision: the bytes
    /// are kept, and a FHIR element's meaning may not depend on them; inside one they are refused.
    pub fn finish(self, to: &mut Findings) {
        for key in self.map.keys().filter(|key| !self.taken.contains(key.as_str())) {
            let path = format!("{}.{}", self.path, shortened(key));
            match key.as_str() {
                "id" => {}
                "modifierExtension" => {
                    to.refuse("modifier-extension", &path, "it may change what the consent means")
                }
                "implicitRules" => to.refuse("implicit-rules", &path, "it may change what the consent means"),
                "extension" if self.path.starts_with("Consent.provision") => {
                    to.refuse(
                        "unknown-extension",
                        &path,
                        "an extension in a provision may narrow or widen it",
                    );
                }
                "extension" => {
                    to.note("extension-not-evaluated", &path, "kept with the consent; decisions ignore it")
                }
                name if name.starts_with('_') => {
                    to.refuse("unknown-extension", &path, "an extension on a primitive value");
                }
                name => to.refuse("unknown-field", &path, format!("{} is no field of this", quoted(name))),
            }
        }
    }
}

/// A foreign key in a path: no longer than a field's name could be.
fn shortened(key: &str) -> String {
    key.chars().take(64).collect()
}
