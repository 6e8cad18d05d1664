//! `assent request`: records with their receipt. The node is not believed: receipt and digests are verified here, against
//! the genesis hash, before anything is written.

use std::path::PathBuf;

use assent_ledger::late::{verify_late_bundle, LATE_MAGIC};
use assent_ledger::receipts::{check_bundle, Trust, BUNDLE_MAGIC, MAX_BUNDLE_BYTES};
use assent_proto::ledger::v1::{DataRequest, LateBundle, LateProof, Receipt, RecordBundle};
use assent_proto::v1::exchange_service_client::ExchangeServiceClient;
use assent_proto::v1::{Answer, Query, RequestRecordsRequest};
use prost::Message;
use serde_json::json;

use crate::commands::check::QueryArgs;
use crate::commands::status::{answer_json, answer_text};
use crate::commands::trust::{sent, TrustArgs};
use crate::commands::verify::{access_fields, access_json, late_fields, late_json};
use crate::connect::{self, Node, NodeArgs};
use crate::exit::Failure;
use crate::files::{self, PRIVATE};
use crate::output::{fields, progress, Report};
use crate::profile::Profile;
use crate::text;

/// Longest message of the stream.
const MAX_MESSAGE_BYTES: usize = 64 << 20;

/// Arguments of `assent request`.
#[derive(Debug, clap::Args)]
#[command(
    next_line_help = true,
    override_usage = "assent request --custodian <ID> --identifier <SYSTEM|VALUE>\n       --birth-date <DATE> --purpose <CODE>\n       --out <FILE> [OPTIONS]"
)]
pub struct RequestArgs {
    #[command(flatten)]
    query: QueryArgs,
    /// File to write the verified bundle to
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Name of the request; the same one gets the same release
    #[arg(long, value_name = "ID")]
    request_id: Option<String>,
    #[command(flatten)]
    trust: TrustArgs,
    #[command(flatten)]
    node: NodeArgs,
}

struct Release {
    answer: Option<Answer>,
    proof: Proof,
    resources: Vec<Vec<u8>>,
}

/// What the records came with.
enum Proof {
    Receipt(Box<Receipt>),
    /// The custodian's promise: break-glass without quorum.
    Late(Box<LateProof>),
}

fn lie(why: &dyn std::fmt::Display) -> Failure {
    Failure::verification("BAD_RELEASE", format!("what the node sent does not hold: {why}"))
        .help("nothing was written; report the node's answer to its operator and to the custodian")
}

impl RequestArgs {
    /// Asks, verifies, writes. Nothing is written unless everything holds.
    pub fn run(&self, profile: &Profile) -> Result<Report, Failure> {
        let query = self.query.parse()?;
        let against = self.trust.require(profile)?;
        let trust = against.trust(None);
        let request_id = text::request_id(&self.request_id)?;
        files::refuse_existing(&self.out)?;
        let request = RequestRecordsRequest {
            request_id: request_id.clone(),
            query: Some(query.clone()),
            checkpoint_size: against.checkpoint_size(),
            ..Default::default()
        };
        let release = connect::run(async {
            let node = self.node.connect(profile).await?;
            receive(&node, request).await
        })
        .map_err(|failure| text::retry_hint(failure, &request_id))?;

        let Release { answer, proof, resources } = release;
        let receipt = match proof {
            Proof::Receipt(receipt) => *receipt,
            Proof::Late(promise) => {
                let bundle = LateBundle { proof: Some(*promise), resources };
                return self.late(&trust, &query, &request_id, answer, bundle);
            }
        };
        let bundle = RecordBundle { proof: Some(receipt), resources };
        let (_, access) = check_bundle(&trust, &bundle).map_err(|e| sent(e, lie))?;
        answers_query(&access.request, &query)
            .map_err(|field| lie(&format!("the receipt is for another {field}")))?;
        let mut bytes = BUNDLE_MAGIC.to_vec();
        bundle.encode(&mut bytes).map_err(|e| Failure::error("ENCODING", e))?;
        files::write_new(&self.out, &bytes, PRIVATE)?;

        let mut rows = access_fields(&access);
        rows.push(("ledger", answer_text(&answer)));
        let count = bundle.resources.len();
        let text = format!("{count} resources, verified, in {}\n", self.out.display()) + &fields(&rows);
        let json = json!({
            "ok": true, "file": self.out, "bytes": bytes.len(), "request_id": request_id,
            "late": false, "access": access_json(&access), "answer": answer_json(&answer),
        });
        Ok(Report::ok(text, json))
    }

    /// Records that came without quorum go to a file beside: the name that was asked for waits for the receipt.
    fn late(
        &self,
        trust: &Trust,
        query: &Query,
        request_id: &str,
        answer: Option<Answer>,
        bundle: LateBundle,
    ) -> Result<Report, Failure> {
        let body = bundle.encode_to_vec();
        let (late, _) = verify_late_bundle(trust, &body).map_err(|e| sent(e, lie))?;
        answers_query(&late.request, query)
            .map_err(|field| lie(&format!("the late access is for another {field}")))?;
        let mut path = self.out.clone().into_os_string();
        path.push(".late");
        let path = PathBuf::from(path);
        let bytes = [LATE_MAGIC.as_slice(), &body].concat();
        // Asked again while the quorum is away, it is the same.
        let there = path.exists() && files::read(&path, bytes.len() as u64).is_ok_and(|found| found == bytes);
        if !there {
            files::write_new(&path, &bytes, PRIVATE)?;
        }
        let count = bundle.resources.len();
        let mut rows = late_fields(&late);
        rows.push(("ledger", answer_text(&answer)));
        let text = format!(
            "{count} resources, late: released without quorum, in {}\n\
             The access is not in the ledger yet. For the receipt, later: the same with --request-id {request_id}\n",
            path.display()
        ) + &fields(&rows);
        let json = json!({
            "ok": true, "file": path, "bytes": bytes.len(), "request_id": request_id, "late": true,
            "access": late_json(&late), "answer": answer_json(&answer),
        });
        Ok(Report::ok(text, json))
    }
}

async fn receive(node: &Node, request: RequestRecordsRequest) -> Result<Release, Failure> {
    let mut client =
        ExchangeServiceClient::new(node.channel.clone()).max_decoding_message_size(MAX_MESSAGE_BYTES);
    let mut stream = node.answer(client.request_records(request)).await?;
    let bar = progress("receiving resources");
    let (mut answer, mut proof, mut resources, mut bytes) = (None, None, Vec::new(), 0);
    while let Some(message) = node.next(&mut stream).await? {
        if resources.is_empty() && proof.is_none() {
            answer = message.answer;
            proof = match (message.proof, message.late) {
                (Some(receipt), _) => Some(Proof::Receipt(Box::new(receipt))),
                (None, Some(promise)) => Some(Proof::Late(Box::new(promise))),
                (None, None) => None,
            };
        } else if message.proof.is_some() || message.late.is_some() {
            return Err(Failure::verification(
                "BAD_RELEASE",
                "the node sent two receipts; nothing was written",
            ));
        }
        bytes += message.resources.iter().map(Vec::len).sum::<usize>();
        if bytes > MAX_BUNDLE_BYTES {
            return Err(Failure::error(
                "TOO_LARGE",
                format!("the release has more than {MAX_BUNDLE_BYTES} bytes"),
            )
            .help("ask for fewer types at a time (--type)"));
        }
        resources.extend(message.resources);
        bar.set_position(resources.len() as u64);
    }
    bar.finish_and_clear();
    let proof = proof.ok_or_else(|| {
        Failure::verification("BAD_RELEASE", "the node sent no receipt; nothing was written")
    })?;
    Ok(Release { answer, proof, resources })
}

/// The receipt must be for what was asked: else a node could hand out another patient's release.
fn answers_query(request: &DataRequest, query: &Query) -> Result<(), &'static str> {
    let patient = query.patient.clone().unwrap_or_default();
    let action = if query.action.is_empty() { "access" } else { query.action.as_str() };
    let same = [
        ("custodian", request.custodian == patient.custodian),
        ("identifier", request.identifier_system == patient.identifier_system),
        ("identifier", request.identifier_value == patient.identifier_value),
        ("birth date", request.birth_date == patient.birth_date),
        ("purpose", request.purpose == query.purpose),
        ("actor", request.actor == query.actor),
        ("action", request.action == action),
        ("choice of types", request.resource_types == query.resource_types),
        ("kind of request", !request.check_only),
        ("reason", request.break_glass_reason == query.break_glass_reason),
    ];
    same.iter().find(|(_, same)| !same).map_or(Ok(()), |(field, _)| Err(field))
}
