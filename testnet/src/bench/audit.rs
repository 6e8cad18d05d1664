//! The audit of the whole ledger, as the CLI does it.

use std::path::Path;
use std::time::{Duration, Instant};

use assent_ledger::receipts::{verify, Trust};
use assent_proto::v1::get_slot_receipt_request::Subject;
use assent_proto::v1::receipt_service_client::ReceiptServiceClient;
use assent_proto::v1::{GetSlotReceiptRequest, SlotName};
use serde_json::Value;

use super::ceiling::verify_and_hash_seconds;
use super::commit::export;
use super::figure::{Figure, Target};
use super::stage::{Stage, CUSTODIAN, WITNESS};
use super::synthetic::write_chain;
use crate::client::{self, code};
use crate::error::{failed, Error, While};

/// Exports and verifies.
pub async fn audit(stage: &mut Stage) -> Result<(), Error> {
    let file = stage.dir.join("audit.export");
    export(stage, WITNESS, &file).await?;
    let bytes = std::fs::metadata(&file).during(|| "measuring the export".into())?.len();
    let arguments: Vec<String> = vec![
        "audit".into(),
        "verify".into(),
        file.display().to_string(),
        "--genesis-hash".into(),
        stage.network().genesis_hash.clone(),
        "--output".into(),
        "json".into(),
    ];
    let begin = Instant::now();
    let ran = stage.binaries.assent_ok(&arguments).await?;
    let seconds = begin.elapsed().as_secs_f64();
    let report: Value = serde_json::from_str(&ran.stdout).during(|| "reading the audit's report".into())?;
    let number = |name: &str| report[name].as_u64().unwrap_or(0);
    if report["ok"] != Value::Bool(true) {
        stage.wrong.push("the audit does not hold".into());
    }
    let (operations, signatures) = (number("operations"), number("signatures"));
    let bare = verify_and_hash_seconds(signatures, bytes);
    let rate = operations as f64 / seconds;
    let figure =
        Figure::new("audit_full_ops_per_s", rate, "ops/s", Target::AtLeast(15_000.0), operations, seconds);
    stage.keep(figure.under("bare_batch_ops_per_s", operations as f64 / bare));
    stage.keep(Figure::new(
        "audit_vs_batch",
        bare / seconds,
        "ratio",
        Target::AtLeast(0.7),
        signatures,
        seconds,
    ));
    receipt(stage).await
}

/// Verifications of one receipt, of which the median counts.
const RECEIPT_ROUNDS: u64 = 501;

/// One receipt of a slot, from a node, verified in this process.
async fn receipt(stage: &mut Stage) -> Result<(), Error> {
    let channel = client::connect(stage.network(), WITNESS, "auditor").await?;
    // Of a slot that is there, or of its absence: the same work.
    let handle = stage.acknowledged().into_iter().next().unwrap_or_else(|| vec![0; 32]);
    let subject = Subject::Slot(SlotName { custodian: CUSTODIAN.into(), handle });
    let request = GetSlotReceiptRequest { subject: Some(subject), ..Default::default() };
    let answer = ReceiptServiceClient::new(channel).get_slot_receipt(request).await;
    let receipt = answer.map_err(|s| code("GetSlotReceipt", &s))?.into_inner().receipt;
    let mut hash = [0; 32];
    if hex::decode_to_slice(&stage.network().genesis_hash, &mut hash).is_err() {
        return failed("the genesis hash of the network is not 64 hex digits");
    }
    let trust = Trust::genesis(hash);
    let begin = Instant::now();
    let mut times = Vec::new();
    for _ in 0..RECEIPT_ROUNDS {
        let begin = Instant::now();
        if let Err(fault) = verify(&trust, &receipt) {
            stage.wrong.push(format!("a receipt does not hold: {fault}"));
            return Ok(());
        }
        times.push(begin.elapsed().as_secs_f64() * 1000.0);
    }
    times.sort_by(f64::total_cmp);
    let (median, seconds) = (times[times.len() / 2], begin.elapsed().as_secs_f64());
    let target = Target::AtMost(2.0);
    stage.keep(Figure::new("receipt_verify_ms", median, "ms", target, RECEIPT_ROUNDS, seconds));
    Ok(())
}

/// Slots of the long chain.
const SLOTS: usize = 100_000;

/// A long chain made in this process, audited in full and structurally.
pub async fn long(stage: &mut Stage) -> Result<(), Error> {
    let entries = stage.long_entries;
    let file = stage.dir.join("long.export");
    eprintln!("   making {entries} entries over {SLOTS} slots");
    let path = file.clone();
    let genesis = tokio::task::spawn_blocking(move || write_chain(&path, entries, SLOTS))
        .await
        .during(|| "making a chain".into())??;
    let bytes = std::fs::metadata(&file).during(|| "measuring the export".into())?.len();
    let genesis = hex::encode(genesis);
    let full = audited(stage, &file, &genesis, "full").await?;
    let bare = verify_and_hash_seconds(full.signatures, bytes);
    let rate = |seconds: f64| entries as f64 / seconds;
    let (seconds, mib) = (full.seconds, full.peak_mib);
    let target = Target::AtLeast(15_000.0);
    let figure = Figure::new("audit_long_ops_per_s", rate(seconds), "ops/s", target, entries, seconds);
    stage.keep(figure.under("bare_batch_ops_per_s", rate(bare)));
    let target = Target::AtLeast(0.7);
    stage.keep(Figure::new("audit_long_vs_batch", bare / seconds, "ratio", target, full.signatures, seconds));
    stage.keep(Figure::new("audit_long_memory", mib, "MiB", Target::AtMost(300.0), entries, seconds));
    let structural = audited(stage, &file, &genesis, "structural").await?;
    let (seconds, target) = (structural.seconds, Target::AtLeast(500_000.0));
    let name = "audit_structural_entries_per_s";
    stage.keep(Figure::new(name, rate(seconds), "entries/s", target, entries, seconds));
    std::fs::remove_file(&file).during(|| "removing the export".into())
}

struct Audited {
    seconds: f64,
    signatures: u64,
    peak_mib: f64,
}

/// Runs the CLI, and looks at its memory while it runs.
async fn audited(stage: &mut Stage, file: &Path, genesis: &str, level: &str) -> Result<Audited, Error> {
    let doing = || "auditing".to_owned();
    let begin = Instant::now();
    let child = tokio::process::Command::new(&stage.binaries.assent)
        .args(["audit", "verify", "--genesis-hash", genesis, "--level", level, "--output", "json"])
        .arg(file)
        .stdout(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .during(doing)?;
    let status = format!("/proc/{}/status", child.id().unwrap_or_default());
    let watch = tokio::spawn(async move {
        let mut peak = 0.0f64;
        while let Ok(text) = std::fs::read_to_string(&status) {
            let kib = text.lines().find_map(|l| l.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB"));
            peak = peak.max(kib.and_then(|kib| kib.parse().ok()).unwrap_or(0.0));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        peak / 1024.0
    });
    let ran = child.wait_with_output().await.during(doing)?;
    let seconds = begin.elapsed().as_secs_f64();
    let report: Value = serde_json::from_slice(&ran.stdout).during(|| "reading the audit's report".into())?;
    if report["ok"] != Value::Bool(true) {
        stage.wrong.push(format!("the {level} audit does not hold: {}", report["fault"]));
    }
    let signatures = report["signatures"].as_u64().unwrap_or(0);
    Ok(Audited { seconds, signatures, peak_mib: watch.await.during(doing)? })
}
