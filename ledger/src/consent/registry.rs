//! The custodian's registry: by which references its consents and policy name the organizations of the network, and who
//! belongs to which group (CONSENT.md, Decision, "Request"). It stands in the policy slot beside the default policy.
//!
//! ```text
//! {"organizations":[{"id":"birch","references":["Organization/birch-hospital","urn:oid:1.2|77"],"is_plan":false}],
//!  "groups":[{"id":"Group/icu","members":[{"organization":"birch","actor":"Practitioner/grey",
//!             "valid":{"start":"2026-01-01T00:00:00Z","end":"2027-01-01T00:00:00Z"}}]}]}
//! ```
//! An absent list has nothing in it; `valid` and either of its bounds may be absent, and then leave it open: `[start, end)`.
//! A person is bound to the organization that asserts who acts: a member counts only where that organization signed the
//! request, so nobody gains a membership by using a name that another organization gave.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::compose::ORGANIZATION_SYSTEM;
use super::dates::{self, Precision};
use super::json::{self, JsonFault};
use super::model::{Period, Reference};
use crate::encoding::is_id;

/// Bytes of one registry.
const MAX_REGISTRY_BYTES: usize = 128 * 1024;
/// Most organizations.
const MAX_ORGANIZATIONS: usize = 256;
/// Most references of one organization.
const MAX_REFERENCES: usize = 32;
/// Most groups.
const MAX_GROUPS: usize = 256;
/// Most members of one group.
const MAX_MEMBERS: usize = 2048;
/// Longest reference, in bytes.
const MAX_REFERENCE_BYTES: usize = 256;

/// Why a registry is refused; `path` is where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RegistryFault {
    #[error("{0}")]
    Malformed(String),
    #[error("{path} is an empty list; leave it out")]
    EmptyList { path: String },
    #[error("{path}: {found} entries, at most {max} are taken")]
    TooMany { path: String, found: usize, max: usize },
    #[error("{path}: {text:?} is no organization id: 1 to 32 bytes of [a-z0-9-]")]
    BadOrganization { path: String, text: String },
    #[error("{path}: {text:?} is not {needed}")]
    BadReference { path: String, text: String, needed: &'static str },
    #[error("{path}: {text:?} occurs twice")]
    Duplicate { path: String, text: String },
    #[error("{path}: {text:?} is not a time of RFC 3339, such as 2026-01-31T08:00:00Z")]
    BadTime { path: String, text: String },
    #[error("{path} ends before it starts, or at once")]
    EmptyPeriod { path: String },
}

/// An organization as the custodian knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Organization {
    id: String,
    references: Vec<Reference>,
    is_plan: bool,
}

/// Somebody in a group, as one organization asserts them.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Member {
    organization: String,
    actor: Reference,
    valid: Period,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Group {
    id: Reference,
    members: Vec<Member>,
}

/// A checked registry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Registry {
    organizations: Vec<Organization>,
    groups: Vec<Group>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    organizations: Option<Vec<WrittenOrganization>>,
    groups: Option<Vec<WrittenGroup>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenOrganization {
    id: String,
    references: Option<Vec<String>>,
    #[serde(default)]
    is_plan: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenGroup {
    id: String,
    members: Vec<WrittenMember>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenMember {
    organization: String,
    actor: String,
    #[serde(default)]
    valid: WrittenPeriod,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenPeriod {
    start: Option<String>,
    end: Option<String>,
}

impl Registry {
    /// Strict: unknown and repeated keys, empty lists, duplicates and references of the wrong kind are refused.
    pub fn parse(bytes: &[u8]) -> Result<Self, RegistryFault> {
        let value = json::parse(bytes, MAX_REGISTRY_BYTES)
            .map_err(|JsonFault { message, .. }| RegistryFault::Malformed(message))?;
        let written: Written =
            serde_json::from_value(value).map_err(|e| RegistryFault::Malformed(e.to_string()))?;
        let organizations = optional("organizations", written.organizations, MAX_ORGANIZATIONS)?;
        let groups = optional("groups", written.groups, MAX_GROUPS)?;
        let registry = Self {
            organizations: checked("organizations", organizations, organization)?,
            groups: checked("groups", groups, group)?,
        };
        distinct("organizations", registry.organizations.iter().map(|o| o.id.clone()))?;
        // Also across organizations: a reference that two of them have would name neither.
        let references = registry.organizations.iter().flat_map(|o| &o.references);
        distinct("references", references.map(ToString::to_string))?;
        distinct("groups", registry.groups.iter().map(|g| g.id.to_string()))?;
        Ok(registry)
    }

    /// Every organization that it names, for the node to compare with the network's.
    pub fn organizations(&self) -> BTreeSet<&str> {
        let members = self.groups.iter().flat_map(|g| &g.members).map(|m| m.organization.as_str());
        self.organizations.iter().map(|o| o.id.as_str()).chain(members).collect()
    }

    /// The references that denote an organization, beside its identifier in the network.
    pub fn references(&self, organization: &str) -> &[Reference] {
        self.organization(organization).map_or(&[], |o| o.references.as_slice())
    }

    /// Whether an organization is a health plan.
    pub fn is_plan(&self, organization: &str) -> bool {
        self.organization(organization).is_some_and(|o| o.is_plan)
    }

    fn organization(&self, id: &str) -> Option<&Organization> {
        self.organizations.iter().find(|o| o.id == id)
    }

    /// The groups that it knows: whether somebody belongs to another one, nobody can say.
    pub fn groups(&self) -> Vec<Reference> {
        self.groups.iter().map(|g| g.id.clone()).collect()
    }

    /// The groups that a person belongs to at a time, as `organization` asserts that person.
    pub fn groups_of(&self, organization: &str, actor: &Reference, at_ms: i64) -> Vec<Reference> {
        let holds = |group: &&Group| group.memberships(organization, actor).any(|m| m.valid.contains(at_ms));
        self.groups.iter().filter(holds).map(|g| g.id.clone()).collect()
    }

    /// The first moment after `at_ms` at which one of that person's memberships starts or ends.
    pub fn next_change(&self, organization: &str, actor: &Reference, at_ms: i64) -> Option<i64> {
        let memberships = self.groups.iter().flat_map(|g| g.memberships(organization, actor));
        memberships.filter_map(|m| m.valid.next_bound(at_ms)).min()
    }
}

impl Group {
    fn memberships<'a>(
        &'a self,
        organization: &'a str,
        actor: &'a Reference,
    ) -> impl Iterator<Item = &'a Member> {
        self.members.iter().filter(move |m| m.organization == organization && m.actor == *actor)
    }
}

fn checked<W, T>(
    path: &str,
    written: Vec<W>,
    check: impl Fn(&str, W) -> Result<T, RegistryFault>,
) -> Result<Vec<T>, RegistryFault> {
    written.into_iter().enumerate().map(|(n, one)| check(&format!("{path}[{n}]"), one)).collect()
}

fn organization(path: &str, written: WrittenOrganization) -> Result<Organization, RegistryFault> {
    let id = organization_id(&format!("{path}.id"), written.id)?;
    let path = format!("{path}.references");
    let texts = optional(&path, written.references, MAX_REFERENCES)?;
    let references = checked(&path, texts, |path, text| {
        let needed = "an Organization/id, or a system|value of another system than urn:assent:organization";
        reference(path, text, needed, |kind, system| {
            kind == Some("Organization") || system.is_some_and(|system| system != ORGANIZATION_SYSTEM)
        })
    })?;
    Ok(Organization { id, references, is_plan: written.is_plan })
}

fn group(path: &str, written: WrittenGroup) -> Result<Group, RegistryFault> {
    let id = reference(
        &format!("{path}.id"),
        written.id,
        "a Group/id, CareTeam/id or system|value",
        |kind, _| matches!(kind, None | Some("Group" | "CareTeam")),
    )?;
    let path = format!("{path}.members");
    let members = optional(&path, Some(written.members), MAX_MEMBERS)?;
    let members = checked(&path, members, member)?;
    distinct(&path, members.iter().map(|m| format!("{} {}", m.organization, m.actor)))?;
    Ok(Group { id, members })
}

fn member(path: &str, written: WrittenMember) -> Result<Member, RegistryFault> {
    let organization = organization_id(&format!("{path}.organization"), written.organization)?;
    let needed = "a reference to a person who acts, such as Practitioner/id or system|value";
    let actor = reference(&format!("{path}.actor"), written.actor, needed, |kind, _| {
        !matches!(kind, Some("Patient" | "Organization" | "Group" | "CareTeam"))
    })?;
    let path = format!("{path}.valid");
    let moment = |name: &str, text: Option<String>| {
        let Some(text) = text else { return Ok(None) };
        let span = dates::parse(&text).filter(|span| span.precision == Precision::Time);
        let path = format!("{path}.{name}");
        span.map(|span| Some(span.start_ms)).ok_or(RegistryFault::BadTime { path, text })
    };
    let valid =
        Period { start_ms: moment("start", written.valid.start)?, end_ms: moment("end", written.valid.end)? };
    match (valid.start_ms, valid.end_ms) {
        (Some(start), Some(end)) if end <= start => Err(RegistryFault::EmptyPeriod { path }),
        _ => Ok(Member { organization, actor, valid }),
    }
}

fn organization_id(path: &str, text: String) -> Result<String, RegistryFault> {
    match is_id(&text) {
        true => Ok(text),
        false => Err(RegistryFault::BadOrganization { path: path.to_owned(), text }),
    }
}

/// A reference whose type (of a literal) or system (of an identifier) fits.
fn reference(
    path: &str,
    text: String,
    needed: &'static str,
    fits: impl Fn(Option<&str>, Option<&str>) -> bool,
) -> Result<Reference, RegistryFault> {
    let short = text.len() <= MAX_REFERENCE_BYTES && !text.chars().any(char::is_control);
    let found = short.then(|| Reference::parse(&text)).flatten().filter(|reference| match reference {
        Reference::Literal(literal) => fits(literal.split_once('/').map(|(kind, _)| kind), None),
        Reference::Identifier { system, .. } => fits(None, Some(system)),
    });
    found.ok_or_else(|| RegistryFault::BadReference {
        path: path.to_owned(),
        text: text.chars().take(64).collect(),
        needed,
    })
}

fn optional<T>(path: &str, list: Option<Vec<T>>, max: usize) -> Result<Vec<T>, RegistryFault> {
    match list {
        None => Ok(Vec::new()),
        Some(list) if list.is_empty() => Err(RegistryFault::EmptyList { path: path.to_owned() }),
        Some(list) if list.len() > max => {
            Err(RegistryFault::TooMany { path: path.to_owned(), found: list.len(), max })
        }
        Some(list) => Ok(list),
    }
}

fn distinct(path: &str, texts: impl Iterator<Item = String>) -> Result<(), RegistryFault> {
    let mut seen = BTreeSet::new();
    for text in texts {
        if !seen.insert(text.clone()) {
            return Err(RegistryFault::Duplicate { path: path.to_owned(), text });
        }
    }
    Ok(())
}
