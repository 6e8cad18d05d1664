//! `assent proof`: the proofs that everything here rests on, one by one, offline (INTERFACES.md, `assent proof`).

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use assent_ledger::keys::{sign, verify, verify_batch, Check, SigningKey};
use assent_ledger::log::{verify_consistency, verify_inclusion};
use assent_ledger::tree::{self, MAX_STATE_PROOF_BYTES};
use assent_ledger::Hash;
use serde_json::json;

use crate::exit::{Exit, Failure};
use crate::output::Report;

/// One proof.
#[derive(Debug, clap::Subcommand)]
pub enum ProofCommand {
    /// A leaf stands in a log (RFC 9162, 2.1.3.2)
    Inclusion(InclusionArgs),
    /// A log has only grown (RFC 9162, 2.1.4.2)
    Consistency(ConsistencyArgs),
    /// A key holds a value in the state, or none
    State(StateArgs),
    /// An Ed25519 signature holds (ZIP-215, key not screened)
    Signature(SignatureArgs),
}

/// Arguments of `assent proof inclusion`.
#[derive(Debug, clap::Args)]
#[command(
    next_line_help = true,
    override_usage = "assent proof inclusion --leaf-hash <HASH> --index <N> --size <N>\n       --root <HASH> --proof <HASH,...>"
)]
pub struct InclusionArgs {
    /// Hash of the leaf: SHA-256 over 0x00 and its data
    #[arg(long, value_name = "HASH", value_parser = hash)]
    leaf_hash: Hash,
    /// Index of the leaf, from 0
    #[arg(long, value_name = "N", value_parser = size)]
    index: u64,
    /// Leaves in the log
    #[arg(long, value_name = "N", value_parser = size)]
    size: u64,
    /// Root of the log
    #[arg(long, value_name = "HASH", value_parser = hash)]
    root: Hash,
    /// Hashes from the leaf to the root, with commas between; "" for none
    #[arg(long, value_name = "HASH,...", value_parser = hashes)]
    proof: Hashes,
}

/// Arguments of `assent proof consistency`.
#[derive(Debug, clap::Args)]
#[command(
    next_line_help = true,
    override_usage = "assent proof consistency --old-size <N> --new-size <N>\n       --old-root <HASH> --new-root <HASH> --proof <HASH,...>"
)]
pub struct ConsistencyArgs {
    /// Leaves in the older log
    #[arg(long, value_name = "N", value_parser = size)]
    old_size: u64,
    /// Leaves in the newer log
    #[arg(long, value_name = "N", value_parser = size)]
    new_size: u64,
    /// Root of the older log
    #[arg(long, value_name = "HASH", value_parser = hash)]
    old_root: Hash,
    /// Root of the newer log
    #[arg(long, value_name = "HASH", value_parser = hash)]
    new_root: Hash,
    /// Hashes of the proof, with commas between; "" for none
    #[arg(long, value_name = "HASH,...", value_parser = hashes)]
    proof: Hashes,
}

/// Arguments of `assent proof state`.
#[derive(Debug, clap::Args)]
#[command(
    next_line_help = true,
    override_usage = "assent proof state --root <HASH> --key <HEX> [--value <HEX>]\n       --proof <FILE>"
)]
pub struct StateArgs {
    /// Root of the state, as a header has it
    #[arg(long, value_name = "HASH", value_parser = hash)]
    root: Hash,
    /// State key
    #[arg(long, value_name = "HEX", value_parser = hash)]
    key: Hash,
    /// Value that the key holds; left out: that it holds none
    #[arg(long, value_name = "HEX", value_parser = bytes)]
    value: Option<Bytes>,
    /// File of the proof
    #[arg(long, value_name = "FILE")]
    proof: PathBuf,
}

/// Arguments of `assent proof signature`.
#[derive(Debug, clap::Args)]
#[command(
    next_line_help = true,
    override_usage = "assent proof signature --public-key <HEX> --message <HEX>\n       --signature <HEX> [--batch]"
)]
pub struct SignatureArgs {
    /// Public key, 32 bytes
    #[arg(long, value_name = "HEX", value_parser = hash)]
    public_key: Hash,
    /// The exact bytes that were signed
    #[arg(long, value_name = "HEX", value_parser = bytes)]
    message: Bytes,
    /// Signature, 64 bytes
    #[arg(long, value_name = "HEX", value_parser = signature)]
    signature: [u8; 64],
    /// Check it in a batch, among signatures that are known to be good
    #[arg(long)]
    batch: bool,
}

/// Hashes of a proof. Types of their own: clap would take a plain list as one value per flag.
#[derive(Debug, Clone)]
struct Hashes(Vec<Hash>);

/// Bytes of any length.
#[derive(Debug, Clone)]
struct Bytes(Vec<u8>);

/// 32 bytes in hex of any case.
fn hash(text: &str) -> Result<Hash, String> {
    let mut out = [0; 32];
    hex::decode_to_slice(text, &mut out).map_err(|_| "64 hex digits needed, without 0x".to_owned())?;
    Ok(out)
}

fn hashes(text: &str) -> Result<Hashes, String> {
    match text {
        "" => Ok(Hashes(Vec::new())),
        _ => text.split(',').map(hash).collect::<Result<_, _>>().map(Hashes),
    }
}

fn bytes(text: &str) -> Result<Bytes, String> {
    hex::decode(text).map(Bytes).map_err(|e| format!("not hex: {e}"))
}

fn signature(text: &str) -> Result<[u8; 64], String> {
    let mut out = [0; 64];
    hex::decode_to_slice(text, &mut out).map_err(|_| "128 hex digits needed, without 0x".to_owned())?;
    Ok(out)
}

/// A decimal number: no sign, no space, which the standard parser would take.
fn size(text: &str) -> Result<u64, String> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let number = digits.then(|| text.parse().ok()).flatten();
    number.ok_or_else(|| "a decimal number below 2^64 needed".to_owned())
}

impl ProofCommand {
    /// Verifies. What is well formed and can't be so is a proof that does not hold, not an error of the input.
    pub fn run(&self) -> Result<Report, Failure> {
        match self {
            Self::Inclusion(args) => Ok(verdict(args.fault())),
            Self::Consistency(args) => Ok(verdict(args.fault())),
            Self::State(args) => args.fault().map(verdict),
            Self::Signature(args) => Ok(verdict(args.fault())),
        }
    }
}

impl InclusionArgs {
    fn fault(&self) -> Option<&'static str> {
        if self.index >= self.size {
            return Some("the index is not below the size");
        }
        let holds = verify_inclusion(&self.leaf_hash, self.index, self.size, &self.root, &self.proof.0);
        (!holds).then_some("these hashes do not lead from the leaf to the root")
    }
}

impl ConsistencyArgs {
    fn fault(&self) -> Option<&'static str> {
        if self.old_size > self.new_size {
            return Some("the older log is larger than the newer one");
        }
        let Self { old_size, new_size, old_root, new_root, proof } = self;
        let holds = verify_consistency(*old_size, *new_size, old_root, new_root, &proof.0);
        (!holds).then_some("these hashes do not lead from the older root to the newer one")
    }
}

impl StateArgs {
    fn fault(&self) -> Result<Option<&'static str>, Failure> {
        let proof = read(&self.proof)?;
        if !tree::is_proof(&proof) {
            let what = format!("{} is no state proof", self.proof.display());
            return Err(Failure::usage("MALFORMED_PROOF", what));
        }
        let value = self.value.as_ref().map(|Bytes(value)| value.as_slice());
        let holds = tree::verify(&self.root, &self.key, value, &proof);
        Ok((!holds).then_some(match value {
            Some(_) => "the proof does not show this value under this root",
            None => "the proof does not show under this root that the key holds nothing",
        }))
    }
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let unreadable = |e| Failure::usage("UNREADABLE", format!("{} can't be read: {e}", path.display()));
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(unreadable)?;
    file.take(MAX_STATE_PROOF_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    Ok(bytes)
}

impl SignatureArgs {
    fn fault(&self) -> Option<&'static str> {
        let holds = match self.batch {
            false => verify(&self.public_key, &self.message.0, &self.signature),
            true => verify_batch(&self.among_good_ones()),
        };
        (!holds).then_some("the signature does not verify")
    }

    fn among_good_ones(&self) -> Vec<Check> {
        let good = |n: u8| {
            let key = SigningKey::from_bytes(&[n; 32]);
            let message = vec![n; usize::from(n)];
            let signature = sign(&key, &message);
            Check { public_key: key.verifying_key().to_bytes(), message, signature }
        };
        let this =
            Check { public_key: self.public_key, message: self.message.0.clone(), signature: self.signature };
        (1..5).map(good).chain([this]).chain((5..9).map(good)).collect()
    }
}

fn verdict(fault: Option<&'static str>) -> Report {
    let json =
        json!({ "ok": fault.is_none(), "holds": fault.is_none(), "reason": fault.unwrap_or_default() });
    match fault {
        None => Report::ok("holds", json),
        Some(fault) => Report::with(Exit::Verification, format!("does not hold: {fault}"), json),
    }
}
