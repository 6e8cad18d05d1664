//! `assent audit openings`: everything that past decisions about one patient stood on, from the custodian's node.

use std::collections::BTreeSet;
use std::path::PathBuf;

use assent_ledger::decisions::{decode_openings, DECISIONS_MAGIC, MAX_DECISIONS_BYTES};
use assent_proto::v1::decision_service_client::DecisionServiceClient;
use assent_proto::v1::{OpenDecisionsRequest, Patient};
use serde_json::json;

use crate::commands::status::{answer_json, answer_text};
use crate::connect::{self, Node, NodeArgs};
use crate::exit::Failure;
use crate::files::{self, PRIVATE};
use crate::output::{fields, paragraph, Report};
use crate::profile::Profile;
use crate::text::PatientArgs;

/// Arguments of `assent audit openings`.
#[derive(Debug, clap::Args)]
#[command(
    next_line_help = true,
    override_usage = "assent audit openings --custodian <ID>\n       --identifier <SYSTEM|VALUE> --birth-date <DATE> --out <FILE> [OPTIONS]"
)]
pub struct OpeningsArgs {
    #[command(flatten)]
    patient: PatientArgs,
    /// File to write; whoever has it reads all that is in it
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Leave the records out: the recipients' bundles hold them
    #[arg(long)]
    without_records: bool,
    #[command(flatten)]
    node: NodeArgs,
}

impl OpeningsArgs {
    /// Asks the custodian's node. What comes is kept as it is: only a ledger export tells whether it is right.
    pub fn run(&self, profile: &Profile) -> Result<Report, Failure> {
        let patient = self.patient.parse()?;
        files::refuse_existing(&self.out)?;
        let custodian = patient.custodian.clone();
        let (answer, bytes) = connect::run(async {
            let node = self.node.connect(profile).await?;
            fetch(&node, patient, self.without_records).await
        })?;
        let lie = |why: String| {
            Failure::verification("BAD_OPENINGS", format!("the openings that the node sent are none: {why}"))
        };
        let file = decode_openings(&bytes).map_err(|e| lie(e.to_string()))?;
        if file.custodian != custodian {
            return Err(lie("they are another custodian's".to_owned()));
        }
        files::write_new(&self.out, &[DECISIONS_MAGIC.as_slice(), &bytes].concat(), PRIVATE)?;
        let released: BTreeSet<&[u8]> =
            file.accesses.iter().flat_map(|access| &access.digests).map(Vec::as_slice).collect();
        let records = format!(
            "{}, byte by byte as they were released; {} more are not in the file",
            file.records.len(),
            released.len().saturating_sub(file.records.len())
        );
        let text = format!("{} written, compared with no ledger yet\n", self.out.display())
            + &fields(&[
                ("handle", hex::encode(&file.handle)),
                ("accesses", file.accesses.len().to_string()),
                ("records", records),
                ("consents", format!("{} revisions in {} states", file.consents.len(), file.sets.len())),
                ("policies", file.policies.len().to_string()),
                ("ledger", answer_text(&answer)),
            ])
            + &paragraph(
                "Next: ",
                &format!("assent audit decisions {} --export FILE --genesis-hash HASH", self.out.display()),
            );
        let json = json!({
            "ok": true, "file": self.out, "custodian": file.custodian, "handle": hex::encode(&file.handle),
            "accesses": file.accesses.len(), "revisions": file.consents.len(),
            "sets": file.sets.len(), "policies": file.policies.len(), "records": file.records.len(),
            "records_missing": released.len().saturating_sub(file.records.len()),
            "answer": answer_json(&answer),
        });
        Ok(Report::ok(text, json))
    }
}

async fn fetch(
    node: &Node,
    patient: Patient,
    omit_records: bool,
) -> Result<(Option<assent_proto::v1::Answer>, Vec<u8>), Failure> {
    let mut client = DecisionServiceClient::new(node.channel.clone());
    let request = OpenDecisionsRequest { patient: Some(patient), omit_records };
    let mut stream = node.answer(client.open_decisions(request)).await?;
    let (mut answer, mut bytes) = (None, Vec::new());
    while let Some(message) = node.next(&mut stream).await? {
        answer = answer.or(message.answer);
        bytes.extend(message.chunk);
        if bytes.len() > MAX_DECISIONS_BYTES {
            return Err(Failure::verification(
                "BAD_OPENINGS",
                "the node sends more than such a file may hold",
            ));
        }
    }
    Ok((answer, bytes))
}
