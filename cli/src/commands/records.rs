//! `assent records load`: FHIR R4 resources, one a line, into the custodian's own node.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use assent_ledger::hash::sha256;
use assent_proto::v1::record_service_client::RecordServiceClient;
use assent_proto::v1::LoadRecordsRequest;
use serde_json::json;

use crate::commands::status::{answer_json, answer_text};
use crate::connect::{self, NodeArgs};
use crate::exit::Failure;
use crate::output::{fields, Report};
use crate::profile::Profile;

/// Longest FHIR resource in JSON.
const MAX_RESOURCE_BYTES: u64 = 2 << 20;
/// Longest file of records; split longer ones.
const MAX_RECORDS_BYTES: usize = 512 << 20;
/// A message of records is closed when it holds this much, well below gRPC's customary 4 MiB.
const MESSAGE_BYTES: usize = 512 << 10;
/// Or this many resources.
const MESSAGE_RESOURCES: usize = 5_000;

/// Records.
#[derive(Debug, clap::Subcommand)]
pub enum RecordsCommand {
    /// Load FHIR R4 resources, one a line
    Load(LoadArgs),
}

impl RecordsCommand {
    /// Does it.
    pub fn run(&self, profile: &Profile) -> Result<Report, Failure> {
        let Self::Load(args) = self;
        args.run(profile)
    }
}

/// Arguments of `assent records load`.
#[derive(Debug, clap::Args)]
pub struct LoadArgs {
    /// NDJSON: one FHIR R4 resource a line; - is standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    node: NodeArgs,
}

impl LoadArgs {
    /// The whole file is read and checked before anything is sent.
    fn run(&self, profile: &Profile) -> Result<Report, Failure> {
        let messages = match self.file.as_os_str() == "-" {
            true => messages(BufReader::new(std::io::stdin()), Path::new("standard input"))?,
            false => {
                let unreadable =
                    |e| Failure::usage("UNREADABLE", format!("{} can't be read: {e}", self.file.display()));
                messages(BufReader::new(File::open(&self.file).map_err(unreadable)?), &self.file)?
            }
        };
        let sent: usize = messages.iter().map(|message| message.resources.len()).sum();
        let answer = connect::run(async {
            let node = self.node.connect(profile).await?;
            let mut client = RecordServiceClient::new(node.channel.clone());
            node.answer(client.load_records(tonic::codegen::tokio_stream::iter(messages))).await
        })?;
        if answer.resources != sent as u64 {
            let what = format!("{sent} resources were sent, the node counted {}", answer.resources);
            return Err(
                Failure::error("COUNT", what).help("load the file again: what is there is not stored twice")
            );
        }
        let rows = [
            ("resources", answer.resources.to_string()),
            ("patients", answer.patients.to_string()),
            ("ledger", answer_text(&answer.answer)),
        ];
        let json = json!({
            "ok": true, "resources": answer.resources, "patients": answer.patients,
            "answer": answer_json(&answer.answer),
        });
        Ok(Report::ok(fields(&rows), json))
    }
}

/// Lines as messages. Each is named by its content, so that loading a file again stores nothing twice.
fn messages(mut lines: impl BufRead, path: &Path) -> Result<Vec<LoadRecordsRequest>, Failure> {
    let malformed = |line: usize, why: String| {
        Failure::usage("MALFORMED_RECORDS", format!("{}: line {line}: {why}", path.display()))
            .help("nothing was sent; each line must be one FHIR R4 resource as JSON")
    };
    let (mut messages, mut batch, mut in_batch, mut total) = (Vec::new(), Vec::new(), 0, 0);
    for number in 1.. {
        let mut line = Vec::new();
        let read = (&mut lines).take(MAX_RESOURCE_BYTES + 1).read_until(b'\n', &mut line);
        if read.map_err(|e| malformed(number, e.to_string()))? == 0 {
            break;
        }
        while line.last().is_some_and(|byte| matches!(byte, b'\n' | b'\r')) {
            line.pop();
        }
        if line.is_empty() {
            continue;
        }
        if line.len() as u64 > MAX_RESOURCE_BYTES {
            return Err(malformed(number, format!("more than {MAX_RESOURCE_BYTES} bytes")));
        }
        let value: serde_json::Value =
            serde_json::from_slice(&line).map_err(|e| malformed(number, e.to_string()))?;
        if !value.get("resourceType").is_some_and(serde_json::Value::is_string) {
            return Err(malformed(number, "no resourceType".to_owned()));
        }
        total += line.len();
        if total > MAX_RECORDS_BYTES {
            return Err(malformed(number, format!("the file has more than {MAX_RECORDS_BYTES} bytes")));
        }
        in_batch += line.len();
        batch.push(line);
        if in_batch >= MESSAGE_BYTES || batch.len() >= MESSAGE_RESOURCES {
            messages.push(message(std::mem::take(&mut batch)));
            in_batch = 0;
        }
    }
    if !batch.is_empty() {
        messages.push(message(batch));
    }
    match messages.is_empty() {
        true => Err(malformed(1, "no resource at all".to_owned())),
        false => Ok(messages),
    }
}

fn message(resources: Vec<Vec<u8>>) -> LoadRecordsRequest {
    let digests: Vec<u8> = resources.iter().flat_map(|resource| sha256(resource)).collect();
    LoadRecordsRequest { request_id: hex::encode(sha256(&digests)), resources }
}
