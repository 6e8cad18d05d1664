//! `assentd recover`: a quorum is lost for ever, and those that remain go on. Offline, on the stopped node's own ledger.
//!
//! ```text
//! plan     newest block, those that remain, why ─▶ FILE            one operator
//! sign     FILE, checked against this ledger ─▶ its signature too  each that remains, in turn
//! apply    FILE, all signatures ─▶ tip names the new set            every node; then start it
//! ```
//! What the ledger asks of the next block is in [`assent_ledger::recovery`].

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use assent_ledger::entry::sign_entry;
use assent_ledger::execute::{ExecuteError, Signatures};
use assent_ledger::genesis::check_genesis_file;
use assent_ledger::recovery::{
    agree, check_content, check_plan, make_plan, new_set, plan_hash, sign_plan, RecoveryError,
};
use assent_proto::ledger::v1::operation::Kind;
use assent_proto::ledger::v1::{EntryBody, Operation, Recover};
use clap::{Args, Subcommand};
use prost::Message;

use crate::bft::memory::Files;
use crate::chain::Store;
use crate::config::{read_file, Config, NodeKeys};
use crate::node::NEVER_VOTED;
use crate::order::Fatal;
use crate::own_keys::{named, OwnKeys, Purpose};

/// Why nothing was done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecoverError {
    /// Flags, folder or plan; nothing was touched: exit 2.
    #[error("{reason}: {what}")]
    Refused {
        /// Machine-readable.
        reason: &'static str,
        /// What was seen, and what to do.
        what: String,
    },
    /// The disk: exit 7.
    #[error("RECOVERY_FAILED: {0}")]
    Failed(String),
}

fn refused(reason: &'static str, what: impl Into<String>) -> RecoverError {
    RecoverError::Refused { reason, what: what.into() }
}

impl From<Fatal> for RecoverError {
    fn from(fatal: Fatal) -> Self {
        Self::Failed(fatal.to_string())
    }
}

impl From<crate::config::ConfigError> for RecoverError {
    fn from(error: crate::config::ConfigError) -> Self {
        refused("BAD_CONFIGURATION", error.to_string())
    }
}

impl From<ExecuteError> for RecoverError {
    fn from(error: ExecuteError) -> Self {
        let hint = match &error {
            ExecuteError::Recovery(RecoveryError::Tip { expected, found, .. }) if found < expected => {
                ": start this node until it has caught up from the others, then stop it"
            }
            ExecuteError::Recovery(RecoveryError::Tip { expected, found, .. }) if found > expected => {
                ": this node has more, make the plan here"
            }
            _ => "",
        };
        refused(error.reason(), format!("{error}{hint}"))
    }
}

/// `assentd recover`
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Write a plan: the newest block here, and who remains.
    Plan(PlanArgs),
    /// Check a plan against this ledger, and sign it.
    Sign(FileArgs),
    /// Agree to a plan that all who remain have signed.
    Apply(FileArgs),
}

/// Arguments of `plan`.
#[derive(Debug, Args)]
pub struct PlanArgs {
    /// The stopped node's folder, with assentd.toml.
    #[arg(long)]
    dir: PathBuf,
    /// Organizations whose validators remain, with commas between.
    #[arg(long, value_delimiter = ',', required = true)]
    keep: Vec<String>,
    /// Why, for auditors: at most 200 characters; stands in the ledger.
    #[arg(long)]
    reason: String,
    /// File to make; must not be there.
    #[arg(long)]
    out: PathBuf,
}

/// Arguments of `sign` and `apply`.
#[derive(Debug, Args)]
pub struct FileArgs {
    /// The stopped node's folder, with assentd.toml.
    #[arg(long)]
    dir: PathBuf,
    /// The plan.
    file: PathBuf,
}

/// Runs a command; its result on stdout, an error on stderr.
pub fn main(command: &Command) -> ExitCode {
    let outcome = match command {
        Command::Plan(args) => plan(&args.dir, &args.keep, &args.reason, &args.out),
        Command::Sign(args) => sign(&args.dir, &args.file),
        Command::Apply(args) => apply(&args.dir, &args.file),
    };
    match outcome {
        Ok(text) => {
            let _ = std::io::stdout().write_all(text.as_bytes());
            ExitCode::SUCCESS
        }
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: {error}");
            ExitCode::from(match error {
                RecoverError::Refused { .. } => 2,
                RecoverError::Failed(_) => 7,
            })
        }
    }
}

/// A stopped node: its ledger is open here, so that none starts meanwhile.
struct Stopped {
    config: Config,
    keys: OwnKeys,
    store: Store,
}

impl Stopped {
    fn open(dir: &Path) -> Result<Self, RecoverError> {
        let config = Config::read(&dir.join("assentd.toml"))?;
        let ledger = config.data_dir.join("ledger");
        if !ledger.join("CURRENT").exists() {
            return Err(refused("NO_LEDGER", format!("{} holds no ledger", config.data_dir.display())));
        }
        let file = read_file(&config.genesis)?;
        let genesis = check_genesis_file(&file)
            .map_err(|e| refused("BAD_GENESIS", format!("{}: {e}", config.genesis.display())))?;
        let keys = OwnKeys::new(config.keys_dir.clone(), &NodeKeys::read(&config.keys_dir)?);
        let store = Store::open(&ledger, &file, &genesis)?;
        Ok(Self { config, keys, store })
    }

    fn entry_key(&self) -> Result<ed25519_dalek::SigningKey, RecoverError> {
        let present = self.store.members().present();
        let own = self.config.organization.as_str();
        let key =
            named(&present, own, Purpose::Entry).and_then(|named| self.keys.find(Purpose::Entry, named));
        key.ok_or_else(|| {
            refused("NO_ENTRY_KEY", format!("no file holds the entry key that the ledger names for {own}"))
        })
    }
}

fn read_plan(file: &Path) -> Result<Recover, RecoverError> {
    let bytes = std::fs::read(file).map_err(|e| RecoverError::Failed(format!("{}: {e}", file.display())))?;
    Recover::decode(bytes.as_slice()).map_err(|e| refused("BAD_PLAN", format!("{}: {e}", file.display())))
}

fn write(file: &Path, bytes: &[u8]) -> Result<(), RecoverError> {
    std::fs::write(file, bytes).map_err(|e| RecoverError::Failed(format!("{}: {e}", file.display())))
}

fn describe(chain_id: &str, plan: &Recover, gone: &[String]) -> String {
    let set = new_set(plan).unwrap_or_default();
    let list = |names: Vec<&str>| names.join(", ");
    let fields = [
        ("plan", hex::encode(plan_hash(chain_id, plan))),
        ("after block", plan.height.to_string()),
        ("remain", list(set.validators.iter().map(|v| v.organization.as_str()).collect())),
        ("gone", gone.join(", ")),
        ("signed by", list(plan.signatures.iter().map(|s| s.organization.as_str()).collect())),
        ("reason", plan.reason.escape_default().to_string()),
    ];
    fields.iter().map(|(name, value)| format!("{name:<13} {value}\n")).collect()
}

/// Makes a plan from the ledger in `dir`.
pub fn plan(dir: &Path, keep: &[String], reason: &str, out: &Path) -> Result<String, RecoverError> {
    let node = Stopped::open(dir)?;
    if out.exists() {
        return Err(refused("FILE_EXISTS", format!("{} is there already: name another file", out.display())));
    }
    let tip = node.store.tip()?;
    let votes = |id: &&String| !tip.validators.validators.iter().any(|v| v.organization == **id);
    if let Some(stranger) = keep.iter().find(votes) {
        return Err(refused("NO_VALIDATOR", format!("{stranger} has no validator")));
    }
    let plan = make_plan(&tip, keep, reason);
    let gone = check_content(&tip, &node.store.view()?, &plan)?;
    write(out, &plan.encode_to_vec())?;
    Ok(describe(&tip.chain_id, &plan, &gone))
}

/// Adds this organization's signature to a plan.
pub fn sign(dir: &Path, file: &Path) -> Result<String, RecoverError> {
    let node = Stopped::open(dir)?;
    let mut plan = read_plan(file)?;
    let tip = node.store.tip()?;
    let gone = check_content(&tip, &node.store.view()?, &plan)?;
    let own = &node.config.organization;
    if gone.contains(own) {
        return Err(refused("NOT_REMAINING", format!("the plan goes on without {own}: the others sign it")));
    }
    sign_plan(&tip.chain_id, &mut plan, own, &node.entry_key()?);
    write(file, &plan.encode_to_vec())?;
    Ok(describe(&tip.chain_id, &plan, &gone))
}

/// Puts a plan beside the tip of the ledger in `dir`. Of any member: one that only follows has to agree, too.
pub fn apply(dir: &Path, file: &Path) -> Result<String, RecoverError> {
    let node = Stopped::open(dir)?;
    let plan = read_plan(file)?;
    let tip = node.store.tip()?;
    let gone = check_plan(&tip, &node.store.view()?, &plan, &mut Signatures::Immediate)?;
    let hash = plan_hash(&tip.chain_id, &plan);
    if let Some(other) = tip.recovery.filter(|other| *other != hash) {
        return Err(refused(
            "RECOVERY_OTHER_PLAN",
            format!("this node agreed to plan {} already", hex::encode(other)),
        ));
    }
    let agreed = agree(&tip, &plan).map_err(|e| refused("BAD_PLAN", e.to_string()))?;
    let own = node.config.organization.clone();
    let remains = agreed.validators.validators.iter().any(|v| v.organization == own);
    let entry = match remains {
        false => None,
        true => {
            let operations = vec![Operation { kind: Some(Kind::Recover(plan.clone())) }];
            let (chain_id, author) = (tip.chain_id.clone(), own);
            let body = EntryBody { chain_id, author, operations, ..Default::default() };
            Some(sign_entry(&node.entry_key()?, &body))
        }
    };
    let mut said = describe(&tip.chain_id, &plan, &gone);
    if tip.recovery.is_none() {
        said += &keep_undecided(&node, tip.height + 1)?;
        node.store.agree_to_recovery(&agreed, entry.as_deref())?;
    }
    let data = &node.config.data_dir;
    let files = Files::new(data.join(NEVER_VOTED), data.join("consensus"));
    said += match files.put_aside(tip.height)? {
        true => "agreed        start the node\n",
        false => "agreed        before: nothing was changed\n",
    };
    Ok(said)
}

/// A block that the old set voted on, and that one of the lost may have committed: kept for people to compare.
fn keep_undecided(node: &Stopped, height: u64) -> Result<String, RecoverError> {
    let folder = node.config.data_dir.join(format!("undecided-{height}"));
    let mut said = String::new();
    for candidate in node.store.undecided(height)? {
        let failed = |e: std::io::Error| RecoverError::Failed(format!("{}: {e}", folder.display()));
        std::fs::create_dir_all(&folder).map_err(failed)?;
        let file = folder.join(format!("{}-{}.block", candidate.round, hex::encode(candidate.hash)));
        write(&file, &candidate.bytes)?;
        said += &format!("undecided     {}\n", file.display());
    }
    Ok(said)
}
