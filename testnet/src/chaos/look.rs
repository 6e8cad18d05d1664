//! The end of a run: the load stops, the nodes settle, and everything that the invariants judge is gathered.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;
use std::time::Duration;

use assent_ledger::audit::{parse_head, RecordKind, EXPORT_MAGIC};
use assent_ledger::block::{header_hash, MAX_BLOCK_BYTES};
use assent_ledger::encoding::decode;
use assent_ledger::entry::{check_entry, MAX_ENTRY_BYTES};
use assent_proto::ledger::v1::operation::Kind;
use assent_proto::ledger::v1::{Block, Header, PrunedBlock};
use assent_proto::v1::audit_service_client::AuditServiceClient;
use assent_proto::v1::GetBlockRequest;
use rand::Rng;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::observed::{AuditSeen, Observed, Sighting};
use super::proxy::contains;
use super::world::World;
use crate::client::{self, code};
use crate::error::{failed, Error, While};
use crate::net::create::text;

/// Blocks that are asked for one by one, besides the newest.
const SINGLE_BLOCKS: usize = 8;
/// Longest answer of an admin page.
const MAX_PAGE_BYTES: u64 = 1 << 20;
/// A node's default for `max_staleness_seconds`.
const MAX_STALENESS: Duration = Duration::from_secs(30);

/// What an export holds.
#[derive(Debug, Default)]
pub struct Ledger {
    blocks: Vec<(u64, [String; 2])>,
    /// Handle of each slot that was created: by whom, how often.
    created: BTreeMap<Vec<u8>, (String, u64)>,
    /// Height of the record at each offset: where it starts.
    starts: Vec<(usize, u64)>,
    /// Blocks without their entries.
    pruned: u64,
}

impl Ledger {
    /// Height of its last block: it holds all from the first on.
    fn tip(&self) -> u64 {
        self.blocks.last().map_or(0, |(height, _)| *height)
    }
}

/// Ends a run: nothing of it runs when this returns.
pub async fn finish(world: &mut World) -> Result<Observed, Error> {
    if let Some(load) = world.load.take() {
        load.stop().await;
    }
    let mut seen =
        Observed { honest: world.organizations(), max_staleness: MAX_STALENESS, ..Observed::default() };
    if !world.forked {
        world.settle().await?;
        for organization in world.organizations() {
            look_at(world, &organization, &mut seen).await?;
        }
    }
    let (bytes, sightings) = world.proxy.seen();
    let (bytes_before, sightings_before) = world.passed_before;
    let found = sightings > sightings_before;
    search_seen(&mut seen, "the traffic between the nodes", bytes - bytes_before, found);
    seen.stop_seconds = world.nodes.stop_all().await?;
    seen.exits = world.nodes.exits();
    for organization in world.organizations() {
        search_folder(world, &organization, &mut seen)?;
    }
    let mut journal = world.journal.lock();
    seen.writes = std::mem::take(&mut journal.writes).into_values().collect();
    seen.checks = std::mem::take(&mut journal.checks);
    seen.withdrawals = std::mem::take(&mut journal.withdrawals);
    drop(journal);
    seen.cut_off = world.cut_off.lock().unwrap_or_else(PoisonError::into_inner).clone();
    seen.healed = std::mem::take(&mut world.healed);
    Ok(seen)
}

async fn look_at(world: &mut World, organization: &str, seen: &mut Observed) -> Result<(), Error> {
    let file = world.dir.join(format!("{organization}.export"));
    export(world, organization, &file).await?;
    let bytes = std::fs::read(&file).during(|| format!("reading {}", file.display()))?;
    let ledger = read_export(&world.network.chain_id, &bytes, world.whole.as_ref())?;
    for (height, hashes) in &ledger.blocks {
        let hashes = hashes.clone();
        seen.sightings.push(Sighting { organization: organization.to_owned(), height: *height, hashes });
    }
    single_blocks(world, organization, &ledger, seen).await?;
    seen.audits.push(audit(world, organization, &file, &bytes, &ledger).await?);
    seen.created.insert(organization.to_owned(), ledger.created);
    let found = contains(&bytes, world.canary.as_bytes());
    search_seen(seen, &format!("the ledger of {organization}"), bytes.len() as u64, found);

    let page = metrics(&world.network.node(organization)?.admin).await?;
    let found = contains(&page, world.canary.as_bytes());
    search_seen(seen, &format!("the metrics of {organization}"), page.len() as u64, found);
    Ok(())
}

/// Exports a node's ledger with `assent audit export`.
pub async fn export(world: &World, organization: &str, file: &Path) -> Result<(), Error> {
    let client = world.network.client(organization, "auditor")?;
    let node = world.network.node(organization)?.grpc.replace("127.0.0.1", "localhost");
    let (cert, key, ca) = (text(&client.cert)?, text(&client.key)?, text(&client.ca)?);
    let arguments =
        ["audit", "export", "--node", &node, "--cert", cert, "--key", key, "--ca", ca, "--out", text(file)?];
    world.binaries.assent_ok(&arguments).await.map(drop)
}

/// A node's ledger as it is before it prunes: what S3 and S4 judge later is this, and the blocks that came after it.
pub async fn whole(world: &World, organization: &str) -> Result<Ledger, Error> {
    let file = world.dir.join(format!("whole-{}.export", world.whole.as_ref().map_or(0, Ledger::tip)));
    export(world, organization, &file).await?;
    let bytes = std::fs::read(&file).during(|| format!("reading {}", file.display()))?;
    read_export(&world.network.chain_id, &bytes, world.whole.as_ref())
}

/// With `whole`, blocks up to its tip may lack their entries: a header with the same hash stands for the same entries.
fn read_export(chain_id: &str, bytes: &[u8], whole: Option<&Ledger>) -> Result<Ledger, Error> {
    let doing = || "reading an export".to_owned();
    let Some(mut rest) = bytes.strip_prefix(EXPORT_MAGIC.as_slice()) else {
        return failed("the export is none");
    };
    let mut ledger = Ledger::default();
    while let Some((head, payload)) = rest.split_first_chunk::<5>() {
        let start = bytes.len() - rest.len();
        let (kind, length) = parse_head(*head).during(doing)?;
        if payload.len() < length {
            return failed("the export ends within a record");
        }
        let (payload, tail) = payload.split_at(length);
        rest = tail;
        let block = match kind {
            RecordKind::Block => Some(decode::<Block>("Block", payload, MAX_BLOCK_BYTES).during(doing)?),
            RecordKind::Pruned => {
                let pruned: PrunedBlock = decode("PrunedBlock", payload, MAX_BLOCK_BYTES).during(doing)?;
                ledger.pruned += 1;
                Some(Block { header: pruned.header, ..Block::default() })
            }
            _ => None,
        };
        if let Some(block) = block {
            let header: Header = decode("Header", &block.header, MAX_ENTRY_BYTES).during(doing)?;
            let hashes = [hex::encode(header_hash(chain_id, &block.header)), hex::encode(&header.state_root)];
            let known = whole.is_some_and(|whole| header.height <= whole.tip());
            if kind == RecordKind::Pruned && !known {
                return failed(format!("block {} is pruned, and nobody has read it before", header.height));
            }
            if let Some(whole) = whole.filter(|whole| header.height == whole.tip()) {
                if whole.blocks.last().is_some_and(|(_, before)| *before == hashes) {
                    ledger.created.extend(whole.created.clone());
                }
            }
            ledger.blocks.push((header.height, hashes));
            if !known {
                created(chain_id, &block, &mut ledger.created)?;
            }
        }
        ledger.starts.push((start, ledger.tip()));
    }
    Ok(ledger)
}

/// Counts the slots that a block's entries create.
fn created(
    chain_id: &str,
    block: &Block,
    created: &mut BTreeMap<Vec<u8>, (String, u64)>,
) -> Result<(), Error> {
    for entry in &block.entries {
        let entry = check_entry(chain_id, entry).during(|| "reading an entry".into())?;
        for operation in entry.body.operations {
            let Some(Kind::SetConsent(set)) = operation.kind else { continue };
            if set.expected_consent_seq == 0 {
                created.entry(set.handle).or_insert((set.custodian, 0)).1 += 1;
            }
        }
    }
    Ok(())
}

/// Blocks that the node serves one by one must be those of its export.
async fn single_blocks(
    world: &mut World,
    organization: &str,
    ledger: &Ledger,
    seen: &mut Observed,
) -> Result<(), Error> {
    let channel = client::connect(&world.network, organization, "auditor").await?;
    let mut client = AuditServiceClient::new(channel).max_decoding_message_size(8 << 20);
    let (first, tip) = (ledger.pruned + 1, ledger.tip());
    let mut heights = vec![tip];
    heights.extend((0..SINGLE_BLOCKS).map(|_| world.rng.gen_range(first..=tip.max(first))));
    for height in heights {
        let answer = client.get_block(GetBlockRequest { height }).await.map_err(|s| code("GetBlock", &s))?;
        let doing = || format!("reading block {height}");
        let block: Block = decode("Block", &answer.into_inner().block, MAX_BLOCK_BYTES).during(doing)?;
        let header: Header = decode("Header", &block.header, MAX_ENTRY_BYTES).during(doing)?;
        let hash = header_hash(&world.network.chain_id, &block.header);
        seen.sightings.push(Sighting {
            organization: organization.to_owned(),
            height,
            hashes: [hex::encode(hash), hex::encode(&header.state_root)],
        });
    }
    Ok(())
}

async fn audit(
    world: &mut World,
    organization: &str,
    file: &Path,
    bytes: &[u8],
    ledger: &Ledger,
) -> Result<AuditSeen, Error> {
    // What a node that prunes hands out can't be verified fully: exit 4 says so, and the structure must hold.
    let level = if ledger.pruned > 0 { "structural" } else { "full" };
    let (exit, _) = verify_at(world, file, level).await?;
    let position = world.rng.gen_range(EXPORT_MAGIC.len()..bytes.len());
    let at = ledger.starts.partition_point(|(start, _)| *start <= position);
    let damaged_height = ledger.starts.get(at.saturating_sub(1)).map_or(0, |(_, height)| *height);
    let mut damaged = bytes.to_vec();
    damaged[position] ^= 1 << world.rng.gen_range(0..8);
    let copy = world.dir.join("damaged.export");
    std::fs::write(&copy, damaged).during(|| format!("writing {}", copy.display()))?;
    let (damaged_exit, named_height) = verify_at(world, &copy, level).await?;
    Ok(AuditSeen { organization: organization.to_owned(), exit, damaged_exit, damaged_height, named_height })
}

/// Exit status of `assent audit verify`, and the height that it names.
pub async fn verify(world: &World, file: &Path) -> Result<(i32, Option<u64>), Error> {
    verify_at(world, file, "full").await
}

async fn verify_at(world: &World, file: &Path, level: &str) -> Result<(i32, Option<u64>), Error> {
    let (exit, report) = audited(world, file, level, world.recovery.as_deref()).await?;
    Ok((exit, report["fault"]["height"].as_u64()))
}

/// Exit status of `assent audit verify` at a level, and its report. A recovery may be accepted, by the hash of its plan.
pub async fn audited(
    world: &World,
    file: &Path,
    level: &str,
    recovery: Option<&str>,
) -> Result<(i32, Value), Error> {
    let hash = &world.network.genesis_hash;
    let file = text(file)?;
    let mut arguments =
        vec!["audit", "verify", file, "--genesis-hash", hash, "--level", level, "--output", "json"];
    arguments.extend(recovery.iter().flat_map(|hash| ["--accept-recovery", hash]));
    let ran = world.binaries.assent(&arguments).await?;
    Ok((ran.exit, serde_json::from_str(&ran.stdout).unwrap_or_default()))
}

/// A node's metrics, with the head of the answer.
async fn metrics(admin: &str) -> Result<Vec<u8>, Error> {
    get(admin, "/metrics").await
}

/// One page of a node's admin listener, whole.
pub async fn get(admin: &str, path: &str) -> Result<Vec<u8>, Error> {
    let doing = || format!("asking {admin}{path}");
    let host = admin.trim_start_matches("http://");
    let ask = async {
        let mut stream = tokio::net::TcpStream::connect(host).await?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut page = Vec::new();
        stream.take(MAX_PAGE_BYTES).read_to_end(&mut page).await?;
        Ok::<_, std::io::Error>(page)
    };
    match tokio::time::timeout(Duration::from_secs(3), ask).await {
        Ok(page) => page.during(doing),
        Err(_) => failed(format!("{}: no answer", doing())),
    }
}

fn search_seen(seen: &mut Observed, place: &str, bytes: u64, found: bool) {
    seen.searched.insert(place.to_owned(), bytes);
    if found {
        seen.canaries.push(place.to_owned());
    }
}

/// A stopped node's databases, write-ahead logs and log.
fn search_folder(world: &World, organization: &str, seen: &mut Observed) -> Result<(), Error> {
    let data = &world.network.node(organization)?.data;
    let log = data.with_file_name("assentd.log");
    let mut files = vec![log.clone()];
    list(data, &mut files)?;
    let mut bytes = 0;
    for file in files {
        let content = std::fs::read(&file).during(|| format!("reading {}", file.display()))?;
        bytes += content.len() as u64;
        if contains(&content, world.canary.as_bytes()) {
            let shown = file.strip_prefix(&world.dir).unwrap_or(&file);
            seen.canaries.push(shown.display().to_string());
        }
        if file == log {
            let text = String::from_utf8_lossy(&content);
            let told = text.lines().filter(|line| line.contains("panicked at"));
            seen.panics.extend(told.map(|line| format!("{organization}: {line}")));
        }
    }
    seen.searched.insert(format!("data and log of {organization}"), bytes);
    Ok(())
}

fn list(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), Error> {
    for entry in std::fs::read_dir(folder).during(|| format!("looking at {}", folder.display()))? {
        let path = entry.during(|| format!("looking at {}", folder.display()))?.path();
        match path.is_dir() {
            true => list(&path, files)?,
            false => files.push(path),
        }
    }
    Ok(())
}
