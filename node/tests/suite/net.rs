//! A whole network in one process: keys, authorities, genesis, nodes on free loopback ports, clients with certificates.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU16, Ordering};

use assent_ledger::genesis::{make_genesis_file, CheckedGenesis};
use assent_ledger::keyfile::to_pem;
use assent_ledger::keys::SigningKey;
use assent_node::bft::peer_id;
use assent_node::chain::Submitter;
use assent_node::config::Config;
use assent_node::node::{start, Running, Stop};
use assent_proto::ledger::v1::{Organization, Validator, ValidatorSet};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose, SanType,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

pub const CHAIN: &str = "testnet-suite";
pub const NAMES: [&str; 4] = ["birch", "cedar", "dogwood", "elm"];

/// How to stop a running node, and what it returns then.
type Task = (oneshot::Sender<()>, JoinHandle<Result<(), Stop>>);

/// One organization: its folder, its authority.
pub struct Member {
    pub id: String,
    pub dir: PathBuf,
    pub grpc: u16,
    pub ca: CertifiedIssuer<'static, KeyPair>,
    running: Option<Task>,
}

/// A network of one or four.
pub struct Net {
    /// Removed with the network.
    _folder: tempfile::TempDir,
    pub members: Vec<Member>,
    pub genesis: CheckedGenesis,
}

/// Below the ports that the system gives to outgoing connections, so that none of those takes it before the node does; two
/// test processes begin at different places.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = std::process::id() as u16 % 200 * 100;
    loop {
        let port = 10_000 + (start + NEXT.fetch_add(1, Ordering::Relaxed)) % 20_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

fn authority(id: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, format!("{id} authority"));
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A leaf with these names: certificate and key in PEM.
pub fn leaf(ca: &CertifiedIssuer<'static, KeyPair>, uri: &str, dns: bool, days: i64) -> (String, String) {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "leaf");
    params.subject_alt_names.push(SanType::URI(uri.try_into().unwrap()));
    if dns {
        params.subject_alt_names.push(SanType::DnsName("localhost".try_into().unwrap()));
    }
    params.use_authority_key_identifier_extension = true;
    let now = time::OffsetDateTime::now_utc();
    params.not_before = now - time::Duration::days(2);
    params.not_after = now + time::Duration::days(days);
    let key = KeyPair::generate().unwrap();
    (params.signed_by(&key, ca).unwrap().pem(), key.serialize_pem())
}

fn write(path: &Path, text: impl AsRef<[u8]>) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

/// A folder as `assent init` makes it, without genesis: what runs in it, what the others are told of it, and its vote.
fn make_member(folder: &Path, name: &str, ordering: &str) -> (Member, Organization, Validator) {
    let dir = folder.join(name);
    let ports = [free_port(), free_port(), free_port(), free_port()];
    let keys: Vec<SigningKey> = ["entry", "vote", "consensus-peer", "exchange-peer", "checkpoint", "vault"]
        .iter()
        .map(|file| {
            let key = SigningKey::from_bytes(&rand::random());
            write(&dir.join(format!("keys/{file}.pem")), to_pem(&key).unwrap());
            key
        })
        .collect();
    let ca = authority(name);
    let uri = format!("spiffe://{CHAIN}/org/{name}/node/{name}");
    let (certificate, key) = leaf(&ca, &uri, true, 30);
    write(&dir.join("tls/ca.pem"), ca.pem());
    write(&dir.join("tls/node.pem"), certificate);
    write(&dir.join("tls/node.key"), key);
    write(&dir.join("data/never-voted"), "");
    let [grpc, admin, consensus, exchange] = ports;
    write(
        &dir.join("assentd.toml"),
        format!(
            "organization = \"{name}\"\nordering = \"{ordering}\"\nheartbeat_seconds = 2\nmax_staleness_seconds = 10\n\
             [grpc]\nlisten = \"127.0.0.1:{grpc}\"\ncertificate = \"tls/node.pem\"\nkey = \"tls/node.key\"\n\
             [admin]\nlisten = \"127.0.0.1:{admin}\"\n\
             [consensus]\nlisten = \"/ip4/127.0.0.1/tcp/{consensus}\"\n\
             [exchange]\nlisten = \"/ip4/127.0.0.1/tcp/{exchange}\"\n"
        ),
    );
    let organization = Organization {
        id: name.into(),
        name: format!("{name} hospital"),
        entry_key: keys[0].verifying_key().to_bytes().to_vec(),
        consensus_peer_id: peer_id(&keys[2].to_bytes()),
        consensus_address: format!("/ip4/127.0.0.1/tcp/{consensus}"),
        exchange_peer_id: peer_id(&keys[3].to_bytes()),
        exchange_address: format!("/ip4/127.0.0.1/tcp/{exchange}"),
        ca_certificate: ca.der().to_vec(),
        checkpoint_key: keys[4].verifying_key().to_bytes().to_vec(),
    };
    let validator = Validator {
        organization: name.into(),
        vote_key: keys[1].verifying_key().to_bytes().to_vec(),
        power: 1,
    };
    let member = Member { id: name.into(), dir, grpc, ca, running: None };
    (member, organization, validator)
}

impl Net {
    /// Makes folders for `count` organizations (1 or 4); nothing runs yet.
    pub fn new(count: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (mut members, mut organizations, mut validators) = (Vec::new(), Vec::new(), Vec::new());
        let ordering = if count == 1 { "single" } else { "malachite" };
        for name in NAMES.iter().skip(if count == 1 { 1 } else { 0 }).take(count) {
            let (member, organization, validator) = make_member(folder.path(), name, ordering);
            members.push(member);
            organizations.push(organization);
            validators.push(validator);
        }
        let now =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as u64;
        let (file, genesis) =
            make_genesis_file(CHAIN, now, ValidatorSet { validators, ..Default::default() }, organizations)
                .unwrap();
        for member in &members {
            write(&member.dir.join("genesis.bin"), &file);
        }
        Self { _folder: folder, members, genesis }
    }

    /// Makes the folder of one more organization, which is not in genesis: its place, its line for the ledger, its vote.
    pub fn join(&mut self, name: &str) -> (usize, Organization, Validator) {
        let (member, organization, validator) = make_member(self._folder.path(), name, "malachite");
        let genesis = std::fs::read(self.members[0].dir.join("genesis.bin")).unwrap();
        write(&member.dir.join("genesis.bin"), genesis);
        self.members.push(member);
        (self.members.len() - 1, organization, validator)
    }

    /// Makes and starts all.
    pub async fn started(count: usize) -> Self {
        let mut net = Self::new(count);
        for i in 0..count {
            net.start(i).await;
        }
        for i in 0..count {
            net.ready(i).await;
        }
        net
    }

    /// Changes a node's configuration: one place in its text.
    pub fn configure(&self, i: usize, from: &str, to: &str) {
        let path = self.members[i].dir.join("assentd.toml");
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.matches(from).count(), 1, "{from:?}");
        std::fs::write(&path, text.replace(from, to)).unwrap();
    }

    pub fn index(&self, id: &str) -> usize {
        self.members.iter().position(|m| m.id == id).unwrap()
    }

    pub fn config(&self, i: usize) -> Config {
        Config::read(&self.members[i].dir.join("assentd.toml")).unwrap()
    }

    pub async fn try_start(&self, i: usize) -> Result<Running, Stop> {
        start(self.config(i)).await
    }

    /// Starts a node whose stores the last one in this process may be about to close.
    pub async fn restarted(&self, i: usize) -> Running {
        for _ in 0..100 {
            match self.try_start(i).await {
                Err(stop) if stop.to_string().contains("another process") => {
                    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                }
                other => return other.unwrap(),
            }
        }
        panic!("{}: the stores are still open after 5 s", self.members[i].id);
    }

    pub async fn start(&mut self, i: usize) {
        self.start_with(i).await;
    }

    /// The same; what it submits entries with. Its store closes only when this is dropped.
    pub async fn start_with(&mut self, i: usize) -> Submitter {
        let running = self.restarted(i).await;
        let submitter = running.app.parts.submitter.clone();
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(running.run(async move {
            let _ = stopped.await;
        }));
        self.members[i].running = Some((stop, task));
        submitter
    }

    /// Stops a node in order; what it returned.
    pub async fn stop(&mut self, i: usize) -> Result<(), Stop> {
        let (stop, task) = self.members[i].running.take().unwrap();
        let _ = stop.send(());
        task.await.unwrap()
    }

    /// Every file of every node, with its content.
    pub fn files(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let mut folders: Vec<PathBuf> = self.members.iter().map(|m| m.dir.clone()).collect();
        let mut files = Vec::new();
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                match path.is_dir() {
                    true => folders.push(path),
                    false => files.push((path.clone(), std::fs::read(path).unwrap())),
                }
            }
        }
        files
    }

    /// The whole ledger of a node, as an auditor exports it.
    pub async fn export(&self, i: usize) -> Vec<u8> {
        use assent_proto::v1::{audit_service_client::AuditServiceClient, ExportLedgerRequest};
        let mut client = AuditServiceClient::new(self.client(i, "auditor"));
        let request = client.export_ledger(ExportLedgerRequest {}).await;
        let mut stream = request.unwrap().into_inner();
        let mut bytes = Vec::new();
        while let Some(part) = stream.message().await.unwrap() {
            bytes.extend(part.chunk);
        }
        bytes
    }

    /// Waits until a node is fresh.
    pub async fn ready(&self, i: usize) {
        use assent_proto::v1::{node_service_client::NodeServiceClient, GetStatusRequest};
        let mut client = NodeServiceClient::new(self.client(i, "operator"));
        for _ in 0..300 {
            if let Ok(status) = client.get_status(GetStatusRequest {}).await {
                if status.into_inner().fresh {
                    return;
                }
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        panic!("{} is not fresh within 30 s", self.members[i].id);
    }

    /// What `/readyz` says; nothing when nobody answers.
    pub async fn readyz(&self, i: usize) -> String {
        self.http(i, "/readyz").await
    }

    /// What a page of the admin port says; nothing when nobody answers.
    pub async fn http(&self, i: usize, path: &str) -> String {
        let ask = async {
            let mut stream = tokio::net::TcpStream::connect(self.config(i).admin.listen).await?;
            stream
                .write_all(
                    format!("GET {path} HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n").as_bytes(),
                )
                .await?;
            let mut text = String::new();
            stream.read_to_string(&mut text).await.map(|_| text)
        };
        let answer = tokio::time::timeout(std::time::Duration::from_secs(2), ask).await;
        let text = answer.ok().and_then(Result::ok).unwrap_or_default();
        text.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default()
    }

    /// Waits until `/readyz` says something; how long it took.
    pub async fn says(&self, i: usize, what: &str, within: std::time::Duration) -> std::time::Duration {
        let begin = std::time::Instant::now();
        loop {
            let said = self.readyz(i).await;
            if said.contains(what) {
                return begin.elapsed();
            }
            assert!(begin.elapsed() < within, "{} does not say {what:?}: {said}", self.members[i].id);
            tokio::time::sleep(std::time::Duration::from_millis(25)).await;
        }
    }

    /// A client of a node's own organization.
    pub fn client(&self, i: usize, role: &str) -> Channel {
        let member = &self.members[i];
        let uri = format!("spiffe://{CHAIN}/org/{}/{role}/test", member.id);
        self.client_with(i, Some(leaf(&member.ca, &uri, false, 30)))
    }

    /// A client with any certificate, or none.
    pub fn client_with(&self, i: usize, identity: Option<(String, String)>) -> Channel {
        let member = &self.members[i];
        let mut tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(member.ca.pem()))
            .domain_name("localhost");
        if let Some((certificate, key)) = identity {
            tls = tls.identity(Identity::from_pem(certificate, key));
        }
        let url = format!("https://127.0.0.1:{}", member.grpc);
        Endpoint::from_shared(url).unwrap().tls_config(tls).unwrap().connect_lazy()
    }
}
