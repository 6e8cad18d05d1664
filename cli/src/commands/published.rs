//! A node's published log: signed checkpoints and proofs of how it grew, made from tiles (C2SP `tlog-tiles`).
//!
//! What is signed twice in different ways is proof, whoever holds it. What a node does not answer, or answers with tiles that make
//! no proof, is suspicion: tiles are not signed, and a network in between may have changed them.

use std::path::PathBuf;
use std::time::Duration;

use assent_ledger::checkpoint::{open_note, origin, Checkpoint, KeyKind, VerifierKey, MAX_NOTE_BYTES};
use assent_ledger::genesis::check_genesis_file;
use assent_ledger::log::{consistency_proof, verify_consistency};
use assent_ledger::tiles::{Tiles, Wanted};

use crate::exit::{printable, Failure};
use crate::files;
use crate::http::{NoAnswer, Site};
use crate::profile::AnchorArgs;
use crate::profile::Profile;

/// Longest genesis file that is read.
const MAX_GENESIS_BYTES: u64 = 16 << 20;
/// Bytes of a full tile.
const TILE_BYTES: usize = 256 * 32;

/// Whose signatures count.
#[derive(Debug, clap::Args)]
pub struct KeyArgs {
    /// Genesis file: its organizations' checkpoint keys count
    #[arg(long, value_name = "FILE")]
    genesis: Option<PathBuf>,
    #[command(flatten)]
    anchor: AnchorArgs,
    /// Further key that counts, repeatable: name+id+base64
    #[arg(long, value_name = "VKEY")]
    checkpoint_key: Vec<String>,
    /// Seconds to wait for each answer
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=600))]
    timeout: u64,
}

/// The keys, and where to ask.
pub struct Observer {
    known: Vec<VerifierKey>,
    /// Of the genesis file, if there is one.
    origin: Option<String>,
}

impl KeyArgs {
    /// Reads the keys; without any, nothing could be verified.
    pub fn observer(&self, profile: &Profile) -> Result<Observer, Failure> {
        let mut observer = Observer { known: Vec::new(), origin: None };
        if let Some(path) = &self.genesis {
            let malformed = |what: String| {
                Failure::usage("MALFORMED_GENESIS", printable(&format!("{}: {what}", path.display())))
            };
            let genesis = check_genesis_file(&files::read(path, MAX_GENESIS_BYTES)?)
                .map_err(|e| malformed(e.to_string()))?;
            if self.anchor.resolve(profile)?.is_some_and(|hash| hash != genesis.hash) {
                let what = format!("{} is not the genesis file that you trust", path.display());
                return Err(Failure::verification("WRONG_GENESIS", what));
            }
            observer.origin = Some(origin(&genesis.chain_id));
            for organization in &genesis.organizations {
                let name = format!("{}.{}", organization.id, genesis.chain_id);
                let key = organization.checkpoint_key.as_slice().try_into().unwrap_or_default();
                observer.known.push(
                    VerifierKey::new(&name, KeyKind::Ed25519, key).map_err(|e| malformed(e.to_string()))?,
                );
            }
        }
        for text in &self.checkpoint_key {
            let key = VerifierKey::parse(text)
                .map_err(|e| Failure::usage("MALFORMED_KEY", format!("--checkpoint-key: {e}")))?;
            if !observer.known.contains(&key) {
                observer.known.push(key);
            }
        }
        match observer.known.is_empty() {
            true => Err(Failure::usage("NO_CHECKPOINT_KEY", "no key is given, so nothing could be verified")
                .help("give --genesis FILE, or the nodes' keys with --checkpoint-key")),
            false => Ok(observer),
        }
    }

    /// The sites.
    pub fn sites(&self, urls: &[String]) -> Result<Vec<Site>, Failure> {
        urls.iter().map(|url| Site::parse(url, Duration::from_secs(self.timeout))).collect()
    }
}

/// A checkpoint with at least one signature that counts.
#[derive(Debug, Clone)]
pub struct Seen {
    /// What is signed.
    pub checkpoint: Checkpoint,
    /// The keys that signed, and their lines.
    pub signatures: Vec<(VerifierKey, String)>,
}

impl Seen {
    /// As a note that any verifier takes.
    pub fn note(&self) -> String {
        let lines: String = self.signatures.iter().map(|(_, line)| line.as_str()).collect();
        format!("{}\n{lines}", self.checkpoint.text())
    }

    /// Names of those who signed.
    pub fn names(&self) -> Vec<String> {
        self.signatures.iter().map(|(key, _)| key.name().to_owned()).collect()
    }

    /// True when both can't be of one log.
    pub fn contradicts(&self, other: &Self) -> bool {
        let (one, other) = (&self.checkpoint, &other.checkpoint);
        one.origin == other.origin && one.size == other.size && one.root != other.root
    }
}

impl Observer {
    /// One key counts, of any log.
    pub fn of(key: VerifierKey) -> Self {
        Self { known: vec![key], origin: None }
    }

    /// The keys that count, as `name+id+base64`.
    pub fn keys(&self) -> Vec<String> {
        self.known.iter().map(ToString::to_string).collect()
    }

    /// Reads a note. The error says why it proves nothing.
    pub fn open(&self, note: &[u8]) -> Result<Seen, String> {
        let opened = open_note(note, &self.known).map_err(|e| e.to_string())?;
        let checkpoint = Checkpoint::parse(&opened.text).map_err(|e| e.to_string())?;
        if opened.signed_by.is_empty() {
            return Err("no key that you named has signed its checkpoint".into());
        }
        if self.origin.as_ref().is_some_and(|own| *own != checkpoint.origin) {
            return Err(format!("its checkpoint is of another log, {:?}", checkpoint.origin));
        }
        let text = std::str::from_utf8(note).unwrap_or_default();
        let mut signatures: Vec<(VerifierKey, String)> = Vec::new();
        for line in text[opened.text.len()..].lines().filter(|line| !line.is_empty()) {
            let alone = open_note(format!("{}\n{line}\n", opened.text).as_bytes(), &self.known);
            for (key, _) in alone.map(|alone| alone.signed_by).unwrap_or_default() {
                if !signatures.iter().any(|(seen, _)| *seen == key) {
                    signatures.push((key, format!("{line}\n")));
                }
            }
        }
        Ok(Seen { checkpoint, signatures })
    }

    /// Asks for the newest checkpoint, or for the one at a size.
    pub async fn ask(&self, site: &Site, size: Option<u64>) -> Result<Seen, String> {
        let path = size.map_or("checkpoint".to_owned(), |size| format!("checkpoint/{size}"));
        let note = site.get(&path, MAX_NOTE_BYTES).await.map_err(|e| format!("{path}: {e}"))?;
        let seen = self.open(&note).map_err(|why| format!("{path}: {why}"))?;
        match size {
            Some(size) if seen.checkpoint.size != size => {
                Err(format!("{path}: it is of {} leaves", seen.checkpoint.size))
            }
            _ => Ok(seen),
        }
    }
}

/// Shows by a site's tiles that one checkpoint's log led to another's. The error says why they don't show it.
pub async fn leads(site: &Site, old: &Checkpoint, new: &Checkpoint) -> Result<(), String> {
    if old.size > new.size {
        return Err(format!("{} leaves are fewer than {}", new.size, old.size));
    }
    let wanted = Wanted::new(new.size);
    let none = || "no proof can be made".to_owned();
    consistency_proof(&wanted, old.size, new.size).ok_or_else(none)?;
    let mut tiles = Tiles::new(new.size);
    for tile in wanted.tiles() {
        let bytes = match site.get(&tile.to_string(), TILE_BYTES).await {
            Ok(bytes) => bytes,
            Err(NoAnswer::NotThere) => {
                return Err(format!("{tile} is not there, though its log is that long"))
            }
            Err(error) => return Err(format!("{tile}: {error}")),
        };
        if !tiles.add(tile, &bytes) {
            return Err(format!("{tile} has another length"));
        }
    }
    let proof = consistency_proof(&tiles, old.size, new.size).ok_or_else(none)?;
    match verify_consistency(old.size, new.size, &old.root, &new.root, &proof) {
        true => Ok(()),
        false => Err(format!("its tiles do not lead from {} leaves to {}", old.size, new.size)),
    }
}
