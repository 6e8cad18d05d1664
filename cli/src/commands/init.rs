//! `assent init`: a node's folder, whole or not at all.
//!
//! ```text
//! D/assentd.toml   D/card.json                  configuration; the public half
//! D/keys/          entry vote consensus-peer exchange-peer checkpoint vault (.pem, Ed25519 in PKCS#8)
//! D/data/          never-voted: removed before the node's first vote, so that an emptied folder is told from a new one
//! D/tls/           ca.pem ca.key node.pem node.key
//! D/genesis.bin    D/clients/                   only with --single
//! ```

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use assent_ledger::keyfile;
use assent_ledger::keys::SigningKey;
use rcgen::ExtendedKeyUsagePurpose;
use serde_json::json;
use zeroize::Zeroizing;

use crate::card::{self, Card};
use crate::commands::{genesis, keys};
use crate::exit::Failure;
use crate::files::{self, NewFolder, PRIVATE, PUBLIC};
use crate::output::Report;
use crate::pki::{spiffe_id, Authority, Leaf, LEAF_DAYS};
use crate::text;

/// Key files, in the order that they are made.
const KEYS: [&str; 6] = ["entry", "vote", "consensus-peer", "exchange-peer", "checkpoint", "vault"];
/// `assentd` knows it by this name.
const NEVER_VOTED: &str = "never-voted";
const NEVER_VOTED_TEXT: &str =
    "This validator has never voted. assentd removes this file before it does. Never put it back: an\n\
    emptied folder with it votes again where it voted before.\n";
/// Name of the clients that `--single` makes.
const SINGLE_CLIENT: &str = "local";

/// Arguments of `assent init`.
#[derive(Debug, clap::Args)]
#[command(
    next_line_help = true,
    override_usage = "assent init --dir <DIR> --organization <ID> --name <NAME>\n       --chain-id <ID> [OPTIONS]"
)]
pub struct InitArgs {
    /// Folder to make
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// Organization that runs the node: a-z, 0-9, -
    #[arg(long, value_name = "ID")]
    organization: String,
    /// Name of the organization for people
    #[arg(long, value_name = "NAME")]
    name: String,
    /// Chain to join: a-z, 0-9, -
    #[arg(long, value_name = "ID")]
    chain_id: String,
    /// Where gRPC listens
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:7411")]
    grpc: SocketAddr,
    /// Where health and metrics listen
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:7412")]
    admin: SocketAddr,
    /// Consensus swarm, as others dial it
    #[arg(long, value_name = "MULTIADDR", default_value = "/ip4/127.0.0.1/tcp/7413")]
    consensus: String,
    /// Exchange swarm, as others dial it
    #[arg(long, value_name = "MULTIADDR", default_value = "/ip4/127.0.0.1/tcp/7414")]
    exchange: String,
    /// Where everybody may read the log (C2SP tiles); not at all by default
    #[arg(long, value_name = "IP:PORT")]
    tlog: Option<SocketAddr>,
    /// Further DNS name or IP address in the node's certificate
    #[arg(long = "host", value_name = "HOST")]
    hosts: Vec<String>,
    /// One node without peers: genesis and client certificates too
    #[arg(long)]
    single: bool,
}

impl InitArgs {
    /// Makes the folder.
    pub fn run(&self) -> Result<Report, Failure> {
        self.check()?;
        let folder = NewFolder::create(
            &self.dir,
            "`assent init` never touches existing keys: choose another --dir, or move the folder away",
        )?;
        let card = self.write_keys_and_card(&folder)?;
        files::write_new(&folder.path().join("assentd.toml"), self.configuration().as_bytes(), PUBLIC)?;
        let marker = folder.folder("data")?.join(NEVER_VOTED);
        files::write_new(&marker, NEVER_VOTED_TEXT.as_bytes(), PUBLIC)?;
        let genesis_hash = match self.single {
            true => Some(self.write_single(folder.path(), &card)?),
            false => None,
        };
        folder.commit()?;
        Ok(self.report(&card, genesis_hash))
    }

    fn check(&self) -> Result<(), Failure> {
        text::id("--organization", &self.organization)?;
        text::id("--chain-id", &self.chain_id)?;
        card::name(&self.name)?;
        card::multiaddr("--consensus", &self.consensus)?;
        card::multiaddr("--exchange", &self.exchange)
    }

    fn write_keys_and_card(&self, folder: &NewFolder) -> Result<Card, Failure> {
        let keys = folder.folder("keys")?;
        let mut public = [[0; 32]; KEYS.len()];
        for (name, public) in KEYS.iter().zip(&mut public) {
            let key = SigningKey::from_bytes(&Zeroizing::new(text::random()));
            write_key(&keys.join(format!("{name}.pem")), &key)?;
            *public = key.verifying_key().to_bytes();
        }
        let [entry, vote, consensus_peer, exchange_peer, checkpoint, _vault] = public;

        let tls = folder.folder("tls")?;
        let (authority, ca) = Authority::create(&self.chain_id, &self.organization)?;
        let mut hosts = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let listen = self.grpc.ip();
        let further =
            (!listen.is_unspecified()).then(|| listen.to_string()).into_iter().chain(self.hosts.clone());
        for host in further {
            if !hosts.contains(&host) {
                hosts.push(host);
            }
        }
        let node = authority.issue(&Leaf {
            name: "node",
            id: &spiffe_id(&self.chain_id, &self.organization, "node", &self.organization),
            hosts: &hosts,
            purpose: ExtendedKeyUsagePurpose::ServerAuth,
            days: LEAF_DAYS,
        })?;
        files::write_new(&tls.join("ca.pem"), ca.certificate.as_bytes(), PUBLIC)?;
        files::write_new(&tls.join("ca.key"), ca.key.as_bytes(), PRIVATE)?;
        files::write_new(&tls.join("node.pem"), node.certificate.as_bytes(), PUBLIC)?;
        files::write_new(&tls.join("node.key"), node.key.as_bytes(), PRIVATE)?;

        let card = Card {
            chain_id: self.chain_id.clone(),
            id: self.organization.clone(),
            name: self.name.clone(),
            vote_key: hex::encode(vote),
            entry_key: hex::encode(entry),
            checkpoint_key: hex::encode(checkpoint),
            consensus_peer_id: card::peer_id(&consensus_peer)?,
            consensus_address: self.consensus.clone(),
            exchange_peer_id: card::peer_id(&exchange_peer)?,
            exchange_address: self.exchange.clone(),
            ca_certificate: ca.certificate,
        };
        let json = serde_json::to_string_pretty(&card).map_err(|e| Failure::error("CARD", e))?;
        files::write_new(&folder.path().join("card.json"), (json + "\n").as_bytes(), PUBLIC)?;
        Ok(card)
    }

    fn configuration(&self) -> String {
        let Self { organization, grpc, admin, consensus, exchange, .. } = self;
        let ordering = if self.single { "single" } else { "malachite" };
        let tlog = self.tlog.map(|listen| {
            format!("\n[tlog]                           # HTTP: checkpoints and tiles of the log, for everybody\nlisten = \"{listen}\"\n")
        });
        format!(
            r#"# Configuration of assentd. Paths are relative to the folder of this file; unknown keys are refused.
organization = "{organization}"
ordering = "{ordering}"            # "malachite", or "single": one node without peers
genesis = "genesis.bin"
data_dir = "data"
keys_dir = "keys"
heartbeat_seconds = 10
max_staleness_seconds = 30
min_free_mib = 128               # of data_dir's disk: with less, no permits and no start
keep_blocks = 0                  # heights whose blocks stay whole; 0: all, at least 100 else
snapshot_lag_heights = 10000     # a new node further behind joins from a snapshot; 0: never
accept_recoveries = []           # hashes of recoveries of a lost quorum that such a snapshot may hold

[grpc]
listen = "{grpc}"
certificate = "tls/node.pem"
key = "tls/node.key"
authority = "tls/ca.pem"         # for the operator, while the ledger does not know this organization
revoked = "tls/revoked"          # clients' certificates that count no longer
requests_per_second = 20000      # of each client
burst = 20000

[limits]
grpc_connections = 1024
grpc_connections_per_client = 128
grpc_connections_without_certificate = 256
grpc_handshakes = 256
grpc_handshake_seconds = 10
grpc_silence_seconds = 40
grpc_calls_per_connection = 64
watch_streams = 64
watch_streams_per_client = 16
control_key_calls_per_second = 50

[admin]                          # HTTP: /livez /readyz /metrics
listen = "{admin}"

[consensus]
listen = "{consensus}"

[exchange]
listen = "{exchange}"
"#
        ) + &tlog.unwrap_or_default()
    }

    /// A network of one member, with a client certificate for every role.
    fn write_single(&self, dir: &Path, card: &Card) -> Result<String, Failure> {
        let (file, genesis) = genesis::make(&self.chain_id, text::now_ms(), std::slice::from_ref(card))?;
        files::write_new(&dir.join("genesis.bin"), &file, PUBLIC)?;
        for role in keys::ROLES {
            keys::issue(dir, role, SINGLE_CLIENT, LEAF_DAYS)?;
        }
        Ok(hex::encode(genesis.hash))
    }

    fn report(&self, card: &Card, genesis_hash: Option<String>) -> Report {
        let dir = self.dir.display();
        let next = match &genesis_hash {
            None => format!(
                "Next: exchange {dir}/card.json with the other organizations, make genesis.bin\n\
                 (`assent genesis`) and put it into every folder; then assentd --config {dir}/assentd.toml"
            ),
            Some(hash) => format!(
                "genesis hash  {hash}\n\
                 Next: assentd --single --dir {dir}\n\
                 Then: assent status --profile {dir}/clients/operator-{SINGLE_CLIENT}/profile.toml"
            ),
        };
        let json = json!({
            "ok": true, "dir": self.dir, "organization": card.id, "chain_id": card.chain_id,
            "card": self.dir.join("card.json"), "config": self.dir.join("assentd.toml"),
            "vote_key": card.vote_key, "entry_key": card.entry_key,
            "consensus_peer_id": card.consensus_peer_id, "exchange_peer_id": card.exchange_peer_id,
            "genesis_hash": genesis_hash,
        });
        Report::ok(format!("{dir} is ready for {} on {}.\n{next}", card.name, card.chain_id), json)
    }
}

/// Writes an Ed25519 key that only the owner may read.
pub fn write_key(path: &Path, key: &SigningKey) -> Result<(), Failure> {
    let pem = keyfile::to_pem(key).map_err(|e| Failure::error("KEY", e))?;
    files::write_new(path, Zeroizing::new(pem).as_bytes(), PRIVATE)
}
