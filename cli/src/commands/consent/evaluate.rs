//! `assent consent evaluate`: the node's own decision function, offline. Every literal reference counts as registered, and
//! groups are taken as stated.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use assent_ledger::consent::{
    decide, describe_resource, tables_sha256, Consent, DecidedBy, Decision, DecisionInput, DefaultPolicy,
    Outcome, Request, ResourceDecision, ResourceDescriptor, ALGORITHM,
};
use serde_json::{json, Value};
use time::format_description::well_known::Rfc3339;
use time::OffsetDateTime;

use super::documents::{self, Document};
use super::lint::{import, issues};
use crate::exit::{printable, Exit, Failure};
use crate::files;
use crate::output::{table, Report};

/// Arguments of `assent consent evaluate`.
#[derive(Debug, clap::Args)]
#[command(
    next_line_help = true,
    override_usage = "assent consent evaluate [--consent <FILE>...] --resource <FILE>...\n       --request <FILE> --at <TIME> [OPTIONS]"
)]
pub struct EvaluateArgs {
    /// FHIR R4 Consents: resources, Bundles or NDJSON
    #[arg(long, value_name = "FILE", num_args = 1..)]
    consent: Vec<PathBuf>,
    /// Records to decide on: resources, Bundles or NDJSON
    #[arg(long, value_name = "FILE", num_args = 1.., required = true)]
    resource: Vec<PathBuf>,
    /// Who asks, for what, as JSON
    #[arg(long, value_name = "FILE")]
    request: PathBuf,
    /// Block time to decide at, RFC 3339
    #[arg(long, value_name = "TIME")]
    at: String,
    /// What holds where no consent speaks, as JSON
    #[arg(long, value_name = "FILE")]
    default_policy: Option<PathBuf>,
    /// Take a scope in category, and known aliases of systems
    #[arg(long)]
    lenient: bool,
}

/// What import made of the consents.
#[derive(Default)]
struct Imports {
    consents: Vec<Consent>,
    refused: Vec<Value>,
    notes: Vec<Value>,
}

impl EvaluateArgs {
    /// Does it. Whatever is malformed is found before anything is refused (exit 2 before 4).
    pub fn run(&self) -> Result<Report, Failure> {
        let at_ms = block_time(&self.at)?;
        let request = Request::parse(&files::read(&self.request, files::MAX_TEXT_BYTES)?)
            .map_err(|fault| in_file("MALFORMED_REQUEST", &self.request, &fault))?;
        let policy = self.default_policy.as_deref().map(read_policy).transpose()?;
        let resources = read_resources(&self.resource)?;
        let documents = documents::read_all(&self.consent)?;
        let ids = check_consents(&documents, &resources)?;
        let imports = self.import(&documents, ids);
        if !imports.refused.is_empty() {
            let text = format!(
                "refused: {} of {} consents; nothing is decided\n",
                imports.refused.len(),
                documents.len()
            );
            let json = self.json(None, imports);
            return Ok(Report::with(Exit::Undecided, text + &reasons(&json["refused"]), json));
        }
        let decision = decide(&DecisionInput {
            consents: &imports.consents,
            policy: policy.as_ref(),
            request: &request,
            resources: &resources,
            at_ms,
            frozen: false,
        });
        let exit = match decision.outcome {
            Outcome::Permit | Outcome::PermitOverride => Exit::Ok,
            Outcome::Indeterminate => Exit::Undecided,
            Outcome::Deny | Outcome::NoConsent => Exit::NotReleased,
        };
        let text = in_words(&decision);
        Ok(Report::with(exit, text, self.json(Some(&decision), imports)))
    }

    fn import(&self, documents: &[Document], ids: Vec<String>) -> Imports {
        let mut found = Imports::default();
        for (document, id) in documents.iter().zip(ids) {
            match import(document, self.lenient) {
                Ok(imported) => {
                    if !imported.notes.is_empty() {
                        found.notes.push(json!({ "file": document.file, "issue": issues(&imported.notes) }));
                    }
                    found.consents.push(Consent { id, ..imported.consent });
                }
                Err(refusal) => {
                    found.refused.push(json!({ "file": document.file, "issue": issues(&refusal) }))
                }
            }
        }
        found
    }

    /// As INTERFACES.md has it; nothing is decided where a consent is refused.
    fn json(&self, decision: Option<&Decision>, imports: Imports) -> Value {
        json!({
            "ok": decision.is_some_and(|decision| decision.outcome.is_permitted()),
            "algorithm": ALGORITHM,
            "tables": hex::encode(tables_sha256()),
            "at": self.at,
            "outcome": decision.map(|decision| decision.outcome.as_str()),
            "resources": decision.map_or_else(Vec::new, |d| d.resources.iter().map(resource_json).collect()),
            "refused": imports.refused,
            "notes": imports.notes,
        })
    }
}

fn in_file(reason: &str, file: &Path, fault: &dyn std::fmt::Display) -> Failure {
    Failure::usage(reason, format!("{}: {}", file.display(), printable(&fault.to_string())))
}

fn block_time(text: &str) -> Result<i64, Failure> {
    let malformed = || {
        Failure::usage(
            "MALFORMED_TIME",
            format!("--at must be RFC 3339, such as 2026-06-01T12:00:00Z, not {text:?}"),
        )
    };
    let at = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| malformed())?;
    i64::try_from(at.unix_timestamp_nanos().div_euclid(1_000_000)).map_err(|_| malformed())
}

fn read_policy(file: &Path) -> Result<DefaultPolicy, Failure> {
    DefaultPolicy::parse(&files::read(file, files::MAX_TEXT_BYTES)?)
        .map_err(|fault| in_file("MALFORMED_POLICY", file, &fault))
}

fn read_resources(paths: &[PathBuf]) -> Result<Vec<ResourceDescriptor>, Failure> {
    let documents = documents::read_all(paths)?;
    if documents.is_empty() {
        return Err(Failure::usage("NO_RECORDS", "--resource names no record to decide on"));
    }
    let described = documents.iter().enumerate().map(|(n, document)| {
        describe_resource(document.json.as_bytes()).map_err(|refusal| {
            let what = format!("record {} of --resource, in {}: {refusal}", n + 1, document.file);
            Failure::usage("RESOURCE_REFUSED", printable(&what))
        })
    });
    described.collect()
}

/// Ids of the consents, whether importable or not: unique, and each of a patient whom the records are about. A consent
/// without any is called by its place, which no FHIR id looks like.
fn check_consents(documents: &[Document], resources: &[ResourceDescriptor]) -> Result<Vec<String>, Failure> {
    let about: BTreeSet<&str> =
        resources.iter().flat_map(|resource| resource.subjects.iter().map(String::as_str)).collect();
    let (mut ids, mut seen) = (Vec::new(), BTreeSet::new());
    for (n, document) in documents.iter().enumerate() {
        // What doesn't even parse here is for import to refuse.
        let consent: Value = serde_json::from_str(&document.json).unwrap_or_default();
        let id = consent_id(&consent).unwrap_or_else(|| format!("#{}", n + 1));
        if !seen.insert(id.clone()) {
            let what = format!("two consents are called {}", printable(&id));
            return Err(Failure::usage("DUPLICATE_CONSENT", what).help("leave one out"));
        }
        let patient = consent["patient"]["reference"].as_str();
        if let Some(patient) = patient.filter(|patient| !about.contains(patient)) {
            let what = format!(
                "{}: consent {} is of {}, whom no record is about",
                document.file,
                printable(&id),
                printable(patient)
            );
            return Err(Failure::usage("NOT_A_SUBJECT", what));
        }
        ids.push(id);
    }
    Ok(ids)
}

/// Consent.id, else `system|value`.
fn consent_id(consent: &Value) -> Option<String> {
    let identifiers = consent["identifier"].as_array().into_iter().flatten();
    let mut named =
        identifiers.filter_map(|i| Some(format!("{}|{}", i["system"].as_str()?, i["value"].as_str()?)));
    consent["id"].as_str().map(str::to_owned).or_else(|| named.next())
}

fn resource_json(found: &ResourceDecision) -> Value {
    let mut decided_by = Vec::new();
    let mut hard_rule = None;
    for who in &found.decided_by {
        match who {
            DecidedBy::Consent { consent, rule } => {
                decided_by.push(json!({ "consent": consent, "rule": rule }))
            }
            DecidedBy::DefaultPolicy { id } => decided_by.push(json!({ "default_policy": id })),
            // No rule of anybody's: beside the list, which holds rules.
            DecidedBy::HardRule { id } => hard_rule = Some(*id),
        }
    }
    let mut json = json!({
        "resource": found.reference,
        "outcome": found.outcome.as_str(),
        "decided_by": decided_by,
        "obligations": found.obligations,
    });
    if found.assumed_labels {
        json["assumed_labels"] = true.into();
    }
    if let Some(rule) = hard_rule {
        json["hard_rule"] = rule.into();
    }
    json
}

fn in_words(decision: &Decision) -> String {
    let name = |who: &DecidedBy| match who {
        DecidedBy::Consent { consent, rule } => format!("{consent} rule {rule}"),
        DecidedBy::DefaultPolicy { id } => format!("default policy {id}"),
        DecidedBy::HardRule { id } => format!("hard rule {id}"),
    };
    let rows = decision.resources.iter().map(|found| {
        let by: Vec<String> = found.decided_by.iter().map(name).collect();
        let assumed = if found.assumed_labels { " (labels assumed)" } else { "" };
        [
            printable(&found.reference),
            format!("{}{assumed}", found.outcome.as_str()),
            printable(&by.join(", ")),
            found.obligations.join(", "),
        ]
    });
    let records = table(["record", "outcome", "decided by", "obligations"], rows);
    format!("{}\n{records}", decision.outcome.as_str())
}

fn reasons(refused: &Value) -> String {
    let mut text = String::new();
    for one in refused.as_array().into_iter().flatten() {
        for issue in one["issue"].as_array().into_iter().flatten() {
            let [file, reason, said] =
                [&one["file"], &issue["details"]["coding"][0]["code"], &issue["details"]["text"]]
                    .map(|part| printable(part.as_str().unwrap_or_default()));
            text += &format!("{file}: {reason}: {said}\n");
        }
    }
    text
}
