//! Step 8: an auditor exports the ledger through Dogwood's node and verifies it from genesis.

use std::path::Path;

use assent_ledger::audit::{parse_head, RecordKind, EXPORT_MAGIC};
use assent_ledger::encoding::decode;
use assent_ledger::entry::{check_entry, MAX_ENTRY_BYTES};
use assent_proto::ledger::v1::operation::Kind;
use assent_proto::ledger::v1::{Block, Certificate};
use serde_json::Value;

use crate::binaries::Ran;
use crate::demo::observed::{AuditObserved, ChainCounts, FlipSeen};
use crate::demo::stage::{Stage, OTHER};
use crate::error::{failed, Error, While};
use crate::net::cluster::status;
use crate::net::single::Single;

/// Bytes changed at even distances, besides those in genesis and in the last certificate.
const EVEN_FLIPS: usize = 6;

/// One record of an export.
pub struct Record {
    kind: RecordKind,
    height: u64,
    /// Where its head starts.
    start: usize,
    /// Where the next one starts.
    end: usize,
}

/// Exports, verifies, damages copies, and makes another chain.
pub async fn observe(stage: &Stage) -> Result<AuditObserved, Error> {
    let height_before = status(stage.network(), OTHER).await?.answer.map_or(0, |answer| answer.height);
    let file = stage.files.join("ledger.export");
    stage.audit_export(OTHER, &file).await?;
    let bytes = std::fs::read(&file).during(|| format!("reading {}", file.display()))?;
    let genesis_hash = hex::encode(stage.genesis.hash);
    let verified = stage.audit_verify(&file, &genesis_hash).await?;
    let records = walk(&bytes)?;
    let mut flips = Vec::new();
    for position in positions(&bytes, &records) {
        flips.push(flip(stage, &bytes, &records, position, &genesis_hash).await?);
    }
    let (other_own_exit, other_exit) = other_chain(stage, &genesis_hash).await?;
    Ok(AuditObserved {
        exit: verified.exit,
        reported: reported(&verified),
        walked: count(&stage.genesis.chain_id, &bytes, &records)?,
        height_before,
        flips,
        other_own_exit,
        other_exit,
    })
}

/// Cuts an export into its records.
pub fn walk(bytes: &[u8]) -> Result<Vec<Record>, Error> {
    let mut records: Vec<Record> = Vec::new();
    let mut start = EXPORT_MAGIC.len();
    while start < bytes.len() {
        let head: Option<[u8; 5]> = bytes.get(start..start + 5).and_then(|head| head.try_into().ok());
        let Some(head) = head else {
            return failed("the export ends inside a record's head");
        };
        let (kind, len) = parse_head(head).during(|| "walking the export".into())?;
        let last = records.last().map_or(0, |record| record.height);
        let height = if kind == RecordKind::Block { last + 1 } else { last };
        records.push(Record { kind, height, start, end: start + 5 + len });
        start += 5 + len;
    }
    if start != bytes.len() {
        return failed("the export ends inside a record");
    }
    Ok(records)
}

/// Height of the record that holds a byte; the magic belongs to genesis.
pub fn height_at(records: &[Record], position: usize) -> u64 {
    let record = records.iter().find(|record| (record.start..record.end).contains(&position));
    record.map_or(0, |record| record.height)
}

/// What the file holds, without the verifier's help.
fn count(chain_id: &str, bytes: &[u8], records: &[Record]) -> Result<ChainCounts, Error> {
    let mut counts = ChainCounts { height: 0, entries: 0, operations: 0, signatures: 0 };
    let votes = |certificate: &[u8]| -> Result<u64, Error> {
        let certificate: Certificate =
            decode("Certificate", certificate, MAX_ENTRY_BYTES).during(|| "counting votes".into())?;
        Ok(certificate.signatures.len() as u64)
    };
    for record in records {
        let payload = &bytes[record.start + 5..record.end];
        counts.height = record.height;
        match record.kind {
            RecordKind::Genesis | RecordKind::ValidatorSet | RecordKind::Pruned => {}
            RecordKind::Certificate => counts.signatures += votes(payload)?,
            RecordKind::Block => {
                let limit = assent_ledger::block::MAX_BLOCK_BYTES;
                let block: Block = decode("Block", payload, limit).during(|| "counting entries".into())?;
                if !block.previous_certificate.is_empty() {
                    counts.signatures += votes(&block.previous_certificate)?;
                }
                for entry in &block.entries {
                    let entry = check_entry(chain_id, entry).during(|| "counting entries".into())?;
                    counts.entries += 1;
                    counts.operations += entry.body.operations.len() as u64;
                    // The author's, and the patients'.
                    counts.signatures +=
                        1 + entry.body.operations.iter().filter(|op| signed(&op.kind)).count() as u64;
                }
            }
        }
    }
    Ok(counts)
}

fn signed(operation: &Option<Kind>) -> bool {
    match operation {
        Some(Kind::Withdraw(_) | Kind::CancelReplacement(_)) => true,
        Some(Kind::SetConsent(op)) => op.control_signature.is_some(),
        _ => false,
    }
}

/// The middle of genesis, of even parts of the file, and of the last record.
fn positions(bytes: &[u8], records: &[Record]) -> Vec<usize> {
    let ends = [records.first(), records.last()];
    let mut positions: Vec<usize> =
        ends.into_iter().flatten().map(|r| r.start + 5 + (r.end - r.start - 5) / 2).collect();
    positions.extend((0..EVEN_FLIPS).map(|n| (2 * n + 1) * bytes.len() / (2 * EVEN_FLIPS)));
    positions.sort_unstable();
    positions
}

async fn flip(
    stage: &Stage,
    bytes: &[u8],
    records: &[Record],
    position: usize,
    genesis_hash: &str,
) -> Result<FlipSeen, Error> {
    let copy = stage.files.join("altered.export");
    let mut altered = bytes.to_vec();
    altered[position] ^= 1;
    std::fs::write(&copy, &altered).during(|| format!("writing {}", copy.display()))?;
    let ran = stage.audit_verify(&copy, genesis_hash).await?;
    Ok(FlipSeen {
        position: position as u64,
        height: height_at(records, position),
        exit: ran.exit,
        reported: report(&ran)["fault"]["height"].as_u64(),
    })
}

fn report(ran: &Ran) -> Value {
    serde_json::from_str(&ran.stdout).unwrap_or_default()
}

fn reported(ran: &Ran) -> ChainCounts {
    let report = report(ran);
    let field = |name: &str| report[name].as_u64().unwrap_or(0);
    ChainCounts {
        height: field("to"),
        entries: field("entries"),
        operations: field("operations"),
        signatures: field("signatures"),
    }
}

/// A chain of the same id, made with other keys: exits of `audit verify` against its own genesis, and against ours.
async fn other_chain(stage: &Stage, genesis_hash: &str) -> Result<(i32, i32), Error> {
    let dir = stage.files.join("other-chain");
    let mut other = Single::start(&stage.binaries, &dir, &stage.genesis.chain_id).await?;
    let exported = async {
        other.write().await?;
        let file = stage.files.join("other.export");
        stage.export(&other.url, &other.auditor, &file).await?;
        Ok::<_, Error>(file)
    };
    let exported = exported.await;
    other.stop().await;
    let file = exported?;
    let own = verify_exit(stage, &file, &hex::encode(other.genesis.hash)).await?;
    Ok((own, verify_exit(stage, &file, genesis_hash).await?))
}

async fn verify_exit(stage: &Stage, file: &Path, genesis_hash: &str) -> Result<i32, Error> {
    Ok(stage.audit_verify(file, genesis_hash).await?.exit)
}
