//! `provision.actor`: whom a provision is about.

use super::codes::{self, Target};
use super::reader::{Findings, Object};
use crate::consent::Recipient;

/// Reads one actor. Whoever keeps or wrote the records is no recipient (CONSENT.md, "Refuse also").
pub fn read(mut object: Object, to: &mut Findings) -> Option<Recipient> {
    let (role_path, reference_path) = (object.at("role"), object.at("reference"));
    let role = object.object("role", to);
    let target = object.object("reference", to);
    if role.is_none() {
        to.refuse("missing-field", &role_path, "an actor needs a role");
    }
    if target.is_none() {
        to.refuse("missing-field", &reference_path, "an actor needs a reference");
    }
    object.finish(to);
    if let Some(role) = role.and_then(|role| codes::one_coding(role, to)) {
        match (role.system, role.code) {
            (codes::PARTICIPATION, "IRCP" | "PRCP") | (codes::ROLE_CODE, "GRANTEE") => {}
            (codes::PARTICIPATION, "CST" | "AUT") => {
                to.refuse("recipient-role", &role.path, "a custodian or author is no recipient");
            }
            (codes::PARTICIPATION | codes::ROLE_CODE, _) => codes::unknown_code(&role, to),
            _ => codes::unknown_system(&role, to),
        }
    }
    named(codes::reference(target?, to)?, to)
}

fn named(target: Target, to: &mut Findings) -> Option<Recipient> {
    match target.kind.as_deref() {
        None => Some(Recipient::Named(target.reference)),
        Some("Organization") => Some(Recipient::Organization(target.reference)),
        Some("Practitioner" | "RelatedPerson" | "Patient") => Some(Recipient::Practitioner(target.reference)),
        Some("Group" | "CareTeam") => Some(Recipient::Group(target.reference)),
        Some("PractitionerRole") => Some(Recipient::Role(target.reference)),
        Some(kind) => {
            let message = format!("a {kind} is no recipient that a request could name");
            to.refuse("unsupported-actor-kind", &target.path, message);
            None
        }
    }
}
