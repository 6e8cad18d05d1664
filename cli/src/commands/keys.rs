//! `assent keys`: client certificates by the organization's authority, and Ed25519 keys.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use assent_ledger::genesis::{check_genesis_file, MAX_GENESIS_BYTES};
use assent_ledger::keyfile;
use assent_ledger::keys::SigningKey;
use rcgen::ExtendedKeyUsagePurpose;
use serde_json::json;
use zeroize::Zeroizing;

use crate::card::{self, Card};
use crate::commands::init::write_key;
use crate::commands::rotate::RotateArgs;
use crate::exit::Failure;
use crate::files::{self, NewFolder, PRIVATE, PUBLIC};
use crate::output::{fields, Report};
use crate::pki::{spiffe_id, Authority, Leaf, LEAF_DAYS};
use crate::profile::Profile;
use crate::text;

/// Roles that a client may have.
pub const ROLES: [&str; 7] = ["crm", "ehr", "portal", "registrar", "officer", "auditor", "operator"];

/// Keys and certificates.
#[derive(Debug, clap::Subcommand)]
pub enum KeysCommand {
    /// Issue a client certificate
    Issue(IssueArgs),
    /// Revoke a client certificate
    Revoke(super::revoke::RevokeArgs),
    /// Show public keys: of a node's folder, or of one key file
    Show(ShowArgs),
    /// Make an Ed25519 key (PKCS#8, PEM)
    Generate(GenerateArgs),
    /// Replace one of the node's own keys by a new one
    Rotate(RotateArgs),
}

/// Arguments of `assent keys issue`.
#[derive(Debug, clap::Args)]
#[command(next_line_help = true)]
pub struct IssueArgs {
    /// The node's folder
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// crm, ehr, portal, registrar, officer, auditor or operator
    #[arg(long, value_name = "ROLE", value_parser = ROLES, hide_possible_values = true)]
    role: String,
    /// Name of the client: a-z, 0-9, -
    #[arg(long, value_name = "NAME")]
    name: String,
    /// Days that it holds
    #[arg(long, value_name = "DAYS", default_value_t = LEAF_DAYS,
          value_parser = clap::value_parser!(u16).range(1..=3650))]
    days: u16,
}

/// Arguments of `assent keys show`.
#[derive(Debug, clap::Args)]
pub struct ShowArgs {
    /// Key file (PKCS#8, PEM)
    #[arg(value_name = "FILE", required_unless_present = "dir", conflicts_with = "dir")]
    file: Option<PathBuf>,
    /// A node's folder
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// Arguments of `assent keys generate`.
#[derive(Debug, clap::Args)]
pub struct GenerateArgs {
    /// File to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

impl KeysCommand {
    /// Does it.
    pub fn run(&self, profile: &Profile) -> Result<Report, Failure> {
        match self {
            Self::Issue(args) => args.run(),
            Self::Revoke(args) => args.run(),
            Self::Show(args) => args.run(),
            Self::Generate(args) => args.run(),
            Self::Rotate(args) => args.run(profile),
        }
    }
}

impl IssueArgs {
    fn run(&self) -> Result<Report, Failure> {
        let (folder, id) = issue(&self.dir, &self.role, &self.name, self.days)?;
        let text = format!(
            "{id}\n{} holds cert.pem, key.pem, ca.pem and profile.toml.\n\
             Use it with --profile {}",
            folder.display(),
            folder.join("profile.toml").display()
        );
        let json = json!({
            "ok": true, "id": id, "role": self.role, "name": self.name, "days": self.days,
            "cert": folder.join("cert.pem"), "key": folder.join("key.pem"), "ca": folder.join("ca.pem"),
            "profile": folder.join("profile.toml"),
        });
        Ok(Report::ok(text, json))
    }
}

/// Issues a client certificate into `dir/clients/ROLE-NAME`; says the folder and the client's id.
pub fn issue(dir: &Path, role: &str, name: &str, days: u16) -> Result<(PathBuf, String), Failure> {
    text::id("--name", name)?;
    let card = Card::load(&dir.join("card.json"))?;
    let ca_key = Zeroizing::new(files::read_text(&dir.join("tls/ca.key"))?);
    let authority = Authority::load(&card.chain_id, &card.id, &card.ca_certificate, &ca_key)?;
    let id = spiffe_id(&card.chain_id, &card.id, role, name);
    let subject = format!("{role} {name}");
    let leaf =
        Leaf { name: &subject, id: &id, hosts: &[], purpose: ExtendedKeyUsagePurpose::ClientAuth, days };
    let issued = authority.issue(&leaf)?;
    let profile = Profile {
        node: Some(node_url(dir)?),
        cert: Some("cert.pem".into()),
        key: Some("key.pem".into()),
        ca: Some("ca.pem".into()),
        chain_id: Some(card.chain_id.clone()),
        genesis_hash: genesis_hash(dir)?,
        timeout_seconds: None,
    };
    let profile = toml::to_string(&profile).map_err(|e| Failure::error("PROFILE", e))?;

    let target = dir.join("clients").join(format!("{role}-{name}"));
    let folder =
        NewFolder::create(&target, "a certificate of that name was issued already: choose another --name")?;
    files::write_new(&folder.path().join("cert.pem"), issued.certificate.as_bytes(), PUBLIC)?;
    files::write_new(&folder.path().join("key.pem"), issued.key.as_bytes(), PRIVATE)?;
    files::write_new(&folder.path().join("ca.pem"), card.ca_certificate.as_bytes(), PUBLIC)?;
    files::write_new(&folder.path().join("profile.toml"), profile.as_bytes(), PUBLIC)?;
    folder.commit()?;
    Ok((target, id))
}

/// The organization's own anchor, when it has its genesis file already.
fn genesis_hash(dir: &Path) -> Result<Option<String>, Failure> {
    let path = dir.join("genesis.bin");
    if !path.exists() {
        return Ok(None);
    }
    let file = files::read(&path, MAX_GENESIS_BYTES as u64)?;
    let genesis = check_genesis_file(&file)
        .map_err(|e| Failure::usage("MALFORMED_GENESIS", format!("{}: {e}", path.display())))?;
    Ok(Some(hex::encode(genesis.hash)))
}

/// URL of the node as its configuration has it; a node that listens everywhere is reached on loopback.
fn node_url(dir: &Path) -> Result<String, Failure> {
    let path = dir.join("assentd.toml");
    let malformed =
        |why: String| Failure::usage("MALFORMED_CONFIGURATION", format!("{}: {why}", path.display()));
    let table: toml::Table =
        files::read_text(&path)?.parse().map_err(|e: toml::de::Error| malformed(e.message().to_owned()))?;
    let listen = table.get("grpc").and_then(|grpc| grpc.get("listen")).and_then(toml::Value::as_str);
    let mut address: SocketAddr = listen
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| malformed("grpc.listen is not IP:PORT".to_owned()))?;
    if address.ip().is_unspecified() {
        address.set_ip([127, 0, 0, 1].into());
    }
    Ok(format!("https://{address}"))
}

fn load_key(path: &Path) -> Result<SigningKey, Failure> {
    keyfile::from_pem(&Zeroizing::new(files::read_text(path)?))
        .map_err(|e| Failure::usage("MALFORMED_KEY", format!("{}: {e}", path.display())))
}

impl ShowArgs {
    fn run(&self) -> Result<Report, Failure> {
        match (&self.dir, &self.file) {
            (Some(dir), _) => show_folder(dir),
            (None, Some(file)) => show_file(file),
            (None, None) => Err(Failure::usage("NO_KEY", "name a key file, or a node's folder with --dir")),
        }
    }
}

/// Reads the key files themselves, not the card: what is shown is what the node will use. The vault key has no public half.
fn show_folder(dir: &Path) -> Result<Report, Failure> {
    let public = |name: &str| load_key(&dir.join(name)).map(|key| key.verifying_key().to_bytes());
    let entry = hex::encode(public("keys/entry.pem")?);
    let vote = hex::encode(public("keys/vote.pem")?);
    let consensus = card::peer_id(&public("keys/consensus-peer.pem")?)?;
    let exchange = card::peer_id(&public("keys/exchange-peer.pem")?)?;
    let checkpoint = hex::encode(public("keys/checkpoint.pem")?);
    let text = fields(&[
        ("entry key", entry.clone()),
        ("vote key", vote.clone()),
        ("consensus peer", consensus.clone()),
        ("exchange peer", exchange.clone()),
        ("checkpoint key", checkpoint.clone()),
    ]);
    let json = json!({
        "ok": true, "entry_key": entry, "vote_key": vote,
        "consensus_peer_id": consensus, "exchange_peer_id": exchange,
        "checkpoint_key": checkpoint,
    });
    Ok(Report::ok(text, json))
}

fn show_file(file: &Path) -> Result<Report, Failure> {
    show_key(&load_key(file)?, file)
}

fn show_key(key: &SigningKey, file: &Path) -> Result<Report, Failure> {
    let public = key.verifying_key().to_bytes();
    let (hex, peer) = (hex::encode(public), card::peer_id(&public)?);
    let text = fields(&[("public key", hex.clone()), ("peer id", peer.clone())]);
    Ok(Report::ok(text, json!({ "ok": true, "file": file, "public_key": hex, "peer_id": peer })))
}

impl GenerateArgs {
    fn run(&self) -> Result<Report, Failure> {
        files::refuse_existing(&self.out)?;
        let key = SigningKey::from_bytes(&Zeroizing::new(text::random()));
        write_key(&self.out, &key)?;
        show_key(&key, &self.out)
    }
}
