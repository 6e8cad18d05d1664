//! A bit changed in the ledger of a stopped node: the node must find it when it opens the store or is asked for its blocks, end
//! with 9, and name the file in its log. With the bit put back it goes on.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::Rng;

use super::seen::{Flip, ObjectSeen, Place};
use crate::demo::stage::{Stage, VICTIM};
use crate::error::{failed, Error, While};
use crate::net::cluster::status;

/// Bits changed, one at a time.
const FLIPS: usize = 2;
/// How long a damaged node may run before it has found the damage, while its ledger is read.
const FOUND_LIMIT: Duration = Duration::from_secs(30);
/// How long a whole node may take until it is fresh.
const FRESH_LIMIT: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(200);
/// How a table file says that it holds blocks: the end of a property's name, and its value.
const HOLDS_BLOCKS: &[u8] = b"nameblocks";
/// Smaller table files are mostly index and properties.
const MIN_TABLE_BYTES: usize = 4096;

/// Changes bits of Elm's ledger.
pub async fn observe(stage: &mut Stage, rng: &mut StdRng) -> Result<ObjectSeen, Error> {
    let index = stage.organizations().iter().position(|organization| organization == VICTIM);
    let Some(index) = index else {
        return failed("the network has no node whose files could be changed");
    };
    let node = stage.network().node(VICTIM)?;
    let (folder, log) = (node.data.join("ledger"), node.data.with_file_name("assentd.log"));
    // Opened again, a store has in files what it had in its log.
    for _ in 0..2 {
        stage.cluster.stop_node(index).await;
        stage.cluster.start_node(index)?;
        fresh(stage).await?;
    }
    let mut seen = ObjectSeen {
        id: "replica",
        finder: "assentd",
        whole_exit: served(stage).await?,
        flips: Vec::new(),
        healed_exit: 0,
    };
    while seen.flips.len() < FLIPS {
        stage.cluster.stop_node(index).await;
        let (table, whole) = table(&folder, rng)?;
        // The first half holds values; index, filter and properties stand at the end.
        let (at, bit) = (rng.gen_range(0..whole.len() / 2), rng.gen_range(0..8u8));
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << bit;
        let write =
            |bytes: &[u8]| std::fs::write(&table, bytes).during(|| format!("writing {}", table.display()));
        write(&bytes)?;
        let before = read_log(&log)?.len();
        stage.cluster.start_node(index)?;
        let exit = found(stage, index).await;
        stage.cluster.stop_node(index).await;
        let said = read_log(&log)?.split_off(before);
        write(&whole)?;
        let (file, byte) = (name(&table), at as u64);
        let place = Place::Bytes { file: file.clone(), first: byte, end: byte + 1 };
        seen.flips.push(Flip { file, byte, bit, place, exit, named: named(&said) });
    }
    stage.cluster.start_node(index)?;
    fresh(stage).await?;
    seen.healed_exit = served(stage).await?;
    Ok(seen)
}

fn name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

fn read_log(log: &Path) -> Result<String, Error> {
    let bytes = std::fs::read(log).during(|| format!("reading {}", log.display()))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// One of the table files that hold blocks, which an export reads from the first to the last.
fn table(folder: &Path, rng: &mut StdRng) -> Result<(PathBuf, Vec<u8>), Error> {
    let doing = || format!("looking at {}", folder.display());
    let mut tables = Vec::new();
    for entry in std::fs::read_dir(folder).during(doing)? {
        let path = entry.during(doing)?.path();
        if path.extension().is_none_or(|extension| extension != "sst") {
            continue;
        }
        let bytes = std::fs::read(&path).during(doing)?;
        let holds_blocks = bytes.windows(HOLDS_BLOCKS.len()).any(|window| window == HOLDS_BLOCKS);
        if holds_blocks && bytes.len() >= MIN_TABLE_BYTES {
            tables.push((path, bytes));
        }
    }
    tables.sort();
    match tables.choose(rng) {
        Some(found) => Ok(found.clone()),
        None => failed(format!("{} has no table file with blocks", folder.display())),
    }
}

/// Waits until Elm's node is fresh.
async fn fresh(stage: &Stage) -> Result<(), Error> {
    let begin = Instant::now();
    loop {
        match status(stage.network(), VICTIM).await {
            Ok(status) if status.fresh => return Ok(()),
            _ if begin.elapsed() < FRESH_LIMIT => tokio::time::sleep(POLL).await,
            Ok(status) => return failed(format!("{VICTIM} is not fresh: {}", status.not_fresh_reason)),
            Err(error) => return Err(error),
        }
    }
}

/// Exit of `audit verify` on what the node serves.
async fn served(stage: &Stage) -> Result<i32, Error> {
    let file = stage.files.join("replica.export");
    if file.exists() {
        std::fs::remove_file(&file).during(|| format!("removing {}", file.display()))?;
    }
    stage.audit_export(VICTIM, &file).await?;
    Ok(stage.audit_verify(&file, &hex::encode(stage.genesis.hash)).await?.exit)
}

/// Reads all that a damaged node serves until it ends; its exit code, none when it never does.
async fn found(stage: &mut Stage, index: usize) -> Option<i32> {
    let begin = Instant::now();
    while begin.elapsed() < FOUND_LIMIT {
        if let Some(status) = stage.cluster.ended(index) {
            return status.code();
        }
        // Refused while it starts, and broken off where a block can't be read. What it serves whole is no proof of anything.
        let _ = served(stage).await;
        tokio::time::sleep(POLL).await;
    }
    None
}

/// RocksDB names table file, offset and size of a block whose checksum fails.
fn named(log: &str) -> Place {
    let line = log.lines().find(|line| line.contains("corruption found")).unwrap_or_default();
    let place = || {
        let (before, after) = line.split_once(".sst")?;
        let file = format!("{}.sst", before.rsplit('/').next()?);
        let number = |name: &str| -> Option<u64> {
            let rest = after.split_once(name)?.1.trim_start();
            rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
        };
        let (first, size) = (number("offset")?, number("size")?);
        // Behind each block stand a byte for its compression and four for its checksum.
        Some(Place::Bytes { file, first, end: first + size + 5 })
    };
    place().unwrap_or(Place::Unnamed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_names_file_and_bytes() {
        let line = "2026-01-01T00:00:00Z ERROR assentd: stopped error=corruption found: Corruption: block checksum mismatch: \
                    stored = 1, computed = 2, type = 4  in /n/elm/data/ledger/000031.sst offset 4052 size 3990";
        let expected = Place::Bytes { file: "000031.sst".into(), first: 4052, end: 8047 };
        assert_eq!(named(&format!("started\n{line}\n")), expected);
        assert_eq!(named("corruption found: a block does not decode"), Place::Unnamed);
        assert_eq!(named(""), Place::Unnamed);
    }
}
