//! `assent consent lint`: whether consents can be imported, why not, and what they mean in words.

use std::path::PathBuf;

use assent_ledger::consent::{import_consent, import_consent_leniently, Imported, Issue};
use serde_json::{json, Value};

use super::documents::{self, Document};
use crate::exit::{Exit, Failure};
use crate::output::Report;

/// Arguments of `assent consent lint`.
#[derive(Debug, clap::Args)]
pub struct LintArgs {
    /// FHIR R4 Consents: resources, Bundles or NDJSON
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Take a scope in category, and known aliases of systems
    #[arg(long)]
    lenient: bool,
}

/// Reads one consent, strictly or not.
pub fn import(document: &Document, lenient: bool) -> Result<Imported, Vec<Issue>> {
    match lenient {
        true => import_consent_leniently(document.json.as_bytes()),
        false => import_consent(document.json.as_bytes()),
    }
}

/// `OperationOutcome.issue`s.
pub fn issues(issues: &[Issue]) -> Vec<Value> {
    issues.iter().map(Issue::to_operation_outcome_json).collect()
}

impl LintArgs {
    /// Does it.
    pub fn run(&self) -> Result<Report, Failure> {
        let documents = documents::read_all(&self.files)?;
        let mut all_ok = true;
        let files: Vec<Value> = documents
            .iter()
            .map(|document| {
                let (ok, found, rules) = match import(document, self.lenient) {
                    Ok(imported) => (true, imported.notes, imported.sentences),
                    Err(found) => (false, found, Vec::new()),
                };
                all_ok &= ok;
                json!({ "file": document.file, "ok": ok, "issues": issues(&found), "rules": rules })
            })
            .collect();
        let exit = if all_ok { Exit::Ok } else { Exit::Undecided };
        let report = json!({ "ok": all_ok, "files": files });
        // For people the same object, indented: the issues' sentences are what there is to read.
        let text = serde_json::to_string_pretty(&report).unwrap_or_default();
        Ok(Report::with(exit, text, report))
    }
}
