//! `assent audit export`: a node's whole ledger in one file.

use std::path::{Path, PathBuf};

use assent_proto::v1::audit_service_client::AuditServiceClient;
use assent_proto::v1::{Answer, ExportLedgerRequest};
use serde_json::json;

use crate::commands::status::{answer_json, answer_text};
use crate::connect::{self, Node, NodeArgs};
use crate::exit::Failure;
use crate::files::{self, NewFile, PUBLIC};
use crate::output::{fields, progress, Report};
use crate::profile::Profile;

/// Longest message of an export's stream.
const MAX_CHUNK_BYTES: usize = 16 << 20;

/// Arguments of `assent audit export`.
#[derive(Debug, clap::Args)]
pub struct ExportArgs {
    /// File to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    node: NodeArgs,
}

impl ExportArgs {
    /// Asks, and writes what comes.
    pub fn run(&self, profile: &Profile) -> Result<Report, Failure> {
        files::refuse_existing(&self.out)?;
        connect::run(async {
            let node = self.node.connect(profile).await?;
            let (answer, bytes) = download(&node, &self.out).await?;
            let text = format!("{} written, not verified yet\n", self.out.display())
                + &fields(&[("bytes", bytes.to_string()), ("ledger", answer_text(&answer))])
                + &format!("Next: assent audit verify {} --genesis-hash HASH", self.out.display());
            let json =
                json!({ "ok": true, "file": self.out, "bytes": bytes, "answer": answer_json(&answer) });
            Ok(Report::ok(text, json))
        })
    }
}

/// Writes a node's ledger to a file, which appears only when the node has said that it is complete; its length in bytes.
pub async fn download(node: &Node, out: &Path) -> Result<(Option<Answer>, u64), Failure> {
    let mut client = AuditServiceClient::new(node.channel.clone()).max_decoding_message_size(MAX_CHUNK_BYTES);
    let mut stream = node.answer(client.export_ledger(ExportLedgerRequest {})).await?;
    let mut file = NewFile::create(out, PUBLIC)?;
    let bar = progress("bytes received:");
    let (mut answer, mut bytes) = (None, 0u64);
    while let Some(message) = node.next(&mut stream).await? {
        answer = answer.or(message.answer);
        bytes += message.chunk.len() as u64;
        file.write(&message.chunk)?;
        bar.set_position(bytes);
    }
    bar.finish_and_clear();
    if bytes == 0 {
        return Err(Failure::error("EMPTY_EXPORT", "the node sent nothing; nothing was written"));
    }
    file.commit()?;
    Ok((answer, bytes))
}
