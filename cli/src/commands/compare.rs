//! `assent audit compare`: whether several nodes have one ledger, and if not, from where on and who signed both.
//!
//! ```text
//! each node's block at the smallest newest height: the same header? ─yes─▶ one ledger up to there: a header names the one before it
//!     │ no
//!     ▼
//! bisection ─▶ first height that differs ─▶ both exports, verified ─▶ fork, and evidence    [`super::fork`]
//! ```
//! What a node says of itself is no proof: proof is what its export holds, with certificates.

use std::path::{Path, PathBuf};

use assent_ledger::block::MAX_BLOCK_BYTES;
use assent_ledger::encoding::decode;
use assent_proto::ledger::v1::Block;
use assent_proto::v1::audit_service_client::AuditServiceClient;
use assent_proto::v1::{GetBlockRequest, GetBlockResponse};
use serde_json::json;

use crate::commands::export::download;
use crate::commands::fork;
use crate::commands::recoveries::RecoveryArgs;
use crate::connect::{self, Node, NodeArgs};
use crate::exit::{printable, Exit, Failure};
use crate::files;
use crate::output::Report;
use crate::profile::{AnchorArgs, Profile};

/// Longest answer that holds a block.
const MAX_ANSWER_BYTES: usize = 32 << 20;

/// Arguments of `assent audit compare`.
#[derive(Debug, clap::Args)]
#[command(next_line_help = true)]
pub struct CompareArgs {
    /// Profiles of auditor clients, one for each node
    #[arg(required = true, num_args = 2.., value_name = "PROFILE")]
    profiles: Vec<PathBuf>,
    /// New folder for exports and evidence, if there is a fork
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    #[command(flatten)]
    anchor: AnchorArgs,
    #[command(flatten)]
    recoveries: RecoveryArgs,
}

/// A node that answers.
struct Side<'a> {
    profile: &'a Path,
    node: Node,
    tip: u64,
}

/// Who could not be asked, and why. It proves nothing.
type Silent = Vec<(PathBuf, String)>;

impl Side<'_> {
    async fn block(&self, height: u64) -> Result<GetBlockResponse, Failure> {
        let client = AuditServiceClient::new(self.node.channel.clone());
        let mut client = client.max_decoding_message_size(MAX_ANSWER_BYTES);
        self.node.answer(client.get_block(GetBlockRequest { height })).await
    }

    /// The header's exact bytes.
    async fn header(&self, height: u64) -> Result<Vec<u8>, Failure> {
        let answer = self.block(height).await?;
        let block: Block = decode("Block", &answer.block, MAX_BLOCK_BYTES)
            .map_err(|e| Failure::error("MALFORMED_ANSWER", format!("block {height}: {e}")))?;
        Ok(block.header)
    }
}

impl CompareArgs {
    /// Asks, and looks closer where answers differ.
    pub fn run(&self) -> Result<Report, Failure> {
        if let Some(out) = &self.out {
            files::refuse_existing(out)?;
        }
        let profiles =
            self.profiles.iter().map(|path| Profile::load(Some(path))).collect::<Result<Vec<_>, _>>()?;
        connect::run(async {
            let (mut sides, mut silent) = (Vec::new(), Silent::new());
            for (path, profile) in self.profiles.iter().zip(&profiles) {
                match open(path, profile).await {
                    Ok(side) => sides.push(side),
                    Err(failure) if failure.exit == Exit::Usage => return Err(failure),
                    Err(failure) => silent.push((path.clone(), failure.what)),
                }
            }
            let mut alike = Vec::new();
            if let Some((base, others)) = sides.split_first() {
                for other in others {
                    match first_difference(base, other).await {
                        Ok((to, None)) => alike.push((other.profile, to)),
                        Ok((_, Some(height))) => {
                            match self.look_closer(&profiles[0], base, other, height).await {
                                Ok(report) => return Ok(report),
                                Err(failure) => silent.push((other.profile.to_owned(), failure.what)),
                            }
                        }
                        Err(failure) => silent.push((other.profile.to_owned(), failure.what)),
                    }
                }
            }
            Ok(same(sides.first(), &alike, &silent))
        })
    }

    /// Both ledgers, whole and verified: what the nodes said of themselves counts no longer.
    async fn look_closer(
        &self,
        profile: &Profile,
        one: &Side<'_>,
        other: &Side<'_>,
        height: u64,
    ) -> Result<Report, Failure> {
        let unwritable =
            |e: std::io::Error| Failure::error("UNWRITABLE", format!("no folder can be made: {e}"));
        let temporary = tempfile::tempdir().map_err(unwritable)?;
        let folder = self.out.as_deref().unwrap_or(temporary.path());
        std::fs::create_dir_all(folder).map_err(unwritable)?;
        let exports = ["one.export", "other.export"].map(|name| folder.join(name));
        download(&one.node, &exports[0]).await?;
        download(&other.node, &exports[1]).await?;
        let evidence = self.out.as_ref().map(|out| out.join("evidence"));
        let anchor = self.anchor.resolve(profile)?;
        let (accepted, [a, b]) = (self.recoveries.accepted(), &exports);
        let report = fork::compare([a, b], anchor, &accepted, evidence.as_deref())?;
        let (a, b) = (one.profile.display(), other.profile.display());
        let said = json!({ "one": one.profile, "other": other.profile, "differ_from": height });
        let mut text = format!("{a} and {b} say different things from height {height} on.\n");
        if report.exit() == Exit::Ok {
            text += "Their exports do not: a suspicion against one of them, and no proof.\n";
        }
        Ok(report.preceded_by(text, "compared", said).at_least(Exit::Undecided))
    }
}

async fn open<'a>(path: &'a Path, profile: &Profile) -> Result<Side<'a>, Failure> {
    let node = NodeArgs::default().connect(profile).await?;
    let mut side = Side { profile: path, node, tip: 0 };
    side.tip = match side.block(1).await {
        Ok(answer) => answer.answer.map_or(0, |answer| answer.height),
        Err(failure) if failure.reason == "NO_SUCH_BLOCK" => 0,
        Err(failure) => return Err(failure),
    };
    Ok(side)
}

/// Up to where two nodes say the same, and the first height at which they don't.
async fn first_difference(one: &Side<'_>, other: &Side<'_>) -> Result<(u64, Option<u64>), Failure> {
    let common = one.tip.min(other.tip);
    let (mut alike, mut differ) = (0, common + 1);
    let mut next = common;
    while differ - alike > 1 {
        match one.header(next).await? == other.header(next).await? {
            true => alike = next,
            false => differ = next,
        }
        next = alike + (differ - alike) / 2;
    }
    Ok((alike, (differ <= common).then_some(differ)))
}

fn same(base: Option<&Side<'_>>, alike: &[(&Path, u64)], silent: &Silent) -> Report {
    let exit = if silent.is_empty() { Exit::Ok } else { Exit::Undecided };
    let (mut text, mut nodes) = (String::new(), Vec::new());
    if let Some(base) = base {
        for (path, to) in alike {
            let names = (base.profile.display(), path.display());
            text += &format!("{} and {} have one ledger up to height {to}\n", names.0, names.1);
            nodes.push(json!({ "one": base.profile, "other": path, "alike_to": to }));
        }
    }
    for (path, why) in silent {
        text += &format!("suspicion  {}: {}\n", path.display(), printable(why));
    }
    if !silent.is_empty() {
        text += "A suspicion proves nothing: the node, or what lies between, may be down.\n";
    }
    let silent: Vec<_> = silent.iter().map(|(path, why)| json!({ "node": path, "why": why })).collect();
    let json = json!({ "ok": exit == Exit::Ok, "alike": nodes, "fork": null, "suspicions": silent });
    Report::with(exit, text, json)
}
