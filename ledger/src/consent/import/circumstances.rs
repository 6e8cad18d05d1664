//! How a consent came about: kept with it, checked for form, and no part of a decision, except that `verified: false`
//! refuses.

use super::codes;
use super::reader::{Findings, Object};
use crate::consent::dates;
use crate::consent::issue::quoted;

/// Takes what stands around the provisions.
pub fn check(object: &mut Object, to: &mut Findings) {
    for key in ["language", "text"] {
        object.take(key);
    }
    if object.take("contained").is_some() {
        to.refuse("unsupported-contained", "Consent.contained", "contained resources can't be evaluated");
    }
    check_date(object, "dateTime", to);
    for key in ["performer", "organization"] {
        for reference in object.objects(key, to).unwrap_or_default() {
            codes::reference(reference, to);
        }
    }
    if let Some(mut source) = object.object("sourceAttachment", to) {
        for key in ["contentType", "language", "data", "url", "size", "hash", "title", "creation"] {
            source.take(key);
        }
        source.finish(to);
    }
    if let Some(source) = object.object("sourceReference", to) {
        codes::reference(source, to);
    }
    for mut policy in object.objects("policy", to).unwrap_or_default() {
        policy.text("authority", to);
        policy.text("uri", to);
        policy.finish(to);
    }
    for mut verification in object.objects("verification", to).unwrap_or_default() {
        match verification.boolean("verified", to) {
            Some(true) => {}
            Some(false) => to.refuse("not-verified", &verification.path, "it is marked as not verified"),
            None => super::missing(&verification.at("verified"), to),
        }
        if let Some(with) = verification.object("verifiedWith", to) {
            codes::reference(with, to);
        }
        check_date(&mut verification, "verificationDate", to);
        verification.finish(to);
    }
}

fn check_date(object: &mut Object, key: &'static str, to: &mut Findings) {
    if let Some(text) = object.text(key, to).filter(|text| dates::parse(text).is_none()) {
        to.refuse("bad-date", &object.at(key), format!("{} is no FHIR dateTime", quoted(text)));
    }
}
