//! Makes a network's folder with the CLI, as an operator would.

use std::path::{Path, PathBuf};

use assent_ledger::genesis::{check_genesis_file, CheckedGenesis};
use rand::Rng;

use crate::binaries::Binaries;
use crate::error::{failed, Error, While};
use crate::net::description::{log_path, node_dir, Client, Network, Node};
use crate::net::ports;

/// The organizations, in the order in which they join: id and name.
pub const ORGANIZATIONS: [(&str, &str); 16] = [
    ("cedar", "Cedar Hospital"),
    ("birch", "Birch Clinic"),
    ("dogwood", "Dogwood Hospital"),
    ("elm", "Elm Hospital"),
    ("fir", "Fir Hospital"),
    ("ginkgo", "Ginkgo Clinic"),
    ("hazel", "Hazel Hospital"),
    ("ironwood", "Ironwood Clinic"),
    ("juniper", "Juniper Hospital"),
    ("katsura", "Katsura Clinic"),
    ("larch", "Larch Hospital"),
    ("maple", "Maple Clinic"),
    ("oak", "Oak Hospital"),
    ("pine", "Pine Clinic"),
    ("rowan", "Rowan Hospital"),
    ("spruce", "Spruce Clinic"),
];

/// The clients that every organization gets: role and name.
pub const CLIENTS: [(&str, &str); 7] = [
    ("crm", "frontdesk"),
    ("ehr", "wards"),
    ("portal", "patients"),
    ("registrar", "admission"),
    ("officer", "privacy"),
    ("auditor", "revision"),
    ("operator", "duty"),
];

/// Ports of one node.
pub const PORTS_PER_NODE: usize = 5;

/// Makes keys, certificates, configurations and genesis of a network; starts nothing.
pub async fn create(binaries: &Binaries, dir: &Path, nodes: usize) -> Result<Network, Error> {
    let chain_id = format!("testnet-{:08x}", rand::thread_rng().gen::<u32>());
    let ports = ports::free(nodes * PORTS_PER_NODE)?;
    let organizations = &ORGANIZATIONS[..nodes];
    for ((id, name), ports) in organizations.iter().zip(ports.chunks(PORTS_PER_NODE)) {
        init(binaries, &node_dir(dir, id), &chain_id, (id, name), ports).await?;
    }
    let genesis = make_genesis(binaries, dir, &chain_id, organizations).await?;
    let mut network = Network {
        chain_id,
        genesis_hash: hex::encode(genesis.hash),
        nodes: Vec::with_capacity(nodes),
        clients: Vec::with_capacity(nodes * CLIENTS.len()),
    };
    for ((id, _), ports) in organizations.iter().zip(ports.chunks(PORTS_PER_NODE)) {
        network.nodes.push(describe(dir, id, ports, &genesis)?);
        for (role, name) in CLIENTS {
            network.clients.push(issue(binaries, &node_dir(dir, id), id, role, name).await?);
        }
    }
    Ok(network)
}

/// `assent init` of one node, with its five ports: gRPC, admin, consensus, exchange, published log.
pub async fn init(
    binaries: &Binaries,
    folder: &Path,
    chain_id: &str,
    (id, name): (&str, &str),
    ports: &[u16],
) -> Result<(), Error> {
    let (grpc, admin) = (format!("127.0.0.1:{}", ports[0]), format!("127.0.0.1:{}", ports[1]));
    let (consensus, exchange, tlog) = (tcp(ports[2]), tcp(ports[3]), format!("127.0.0.1:{}", ports[4]));
    let arguments = [
        "init",
        "--dir",
        text(folder)?,
        "--organization",
        id,
        "--name",
        name,
        "--chain-id",
        chain_id,
        "--grpc",
        &grpc,
        "--admin",
        &admin,
        "--consensus",
        &consensus,
        "--exchange",
        &exchange,
        "--tlog",
        &tlog,
    ];
    binaries.assent_ok(&arguments).await.map(drop)
}

async fn make_genesis(
    binaries: &Binaries,
    dir: &Path,
    chain_id: &str,
    organizations: &[(&str, &str)],
) -> Result<CheckedGenesis, Error> {
    let file = dir.join("genesis.bin");
    let cards: Vec<PathBuf> =
        organizations.iter().map(|(id, _)| node_dir(dir, id).join("card.json")).collect();
    let mut arguments = vec!["genesis", "--chain-id", chain_id, "--out", text(&file)?];
    for card in &cards {
        arguments.push(text(card)?);
    }
    binaries.assent_ok(&arguments).await?;
    for (id, _) in organizations {
        let copy = node_dir(dir, id).join("genesis.bin");
        std::fs::copy(&file, &copy).during(|| format!("writing {}", copy.display()))?;
    }
    read_genesis(&file)
}

/// Reads and checks a genesis file.
pub fn read_genesis(file: &Path) -> Result<CheckedGenesis, Error> {
    let bytes = std::fs::read(file).during(|| format!("reading {}", file.display()))?;
    check_genesis_file(&bytes).during(|| format!("checking {}", file.display()))
}

fn describe(dir: &Path, id: &str, ports: &[u16], genesis: &CheckedGenesis) -> Result<Node, Error> {
    let organization = genesis.organizations.iter().find(|o| o.id == id);
    let validator = genesis.validators.validators.iter().find(|v| v.organization == id);
    let (Some(organization), Some(validator)) = (organization, validator) else {
        return failed(format!("the genesis that `assent genesis` made lacks {id}"));
    };
    Ok(Node {
        organization: id.to_owned(),
        pid: 0, // not started yet
        grpc: format!("https://127.0.0.1:{}", ports[0]),
        peer: format!("{}/p2p/{}", organization.exchange_address, organization.exchange_peer_id),
        consensus: format!("{}/p2p/{}", organization.consensus_address, organization.consensus_peer_id),
        admin: format!("http://127.0.0.1:{}", ports[1]),
        tlog: format!("http://127.0.0.1:{}", ports[4]),
        data: node_dir(dir, id).join("data"),
        validator_key: hex::encode(&validator.vote_key),
        log: format!("file://{}", log_path(dir, id).display()),
    })
}

/// `assent keys issue`: one client's certificate.
pub async fn issue(
    binaries: &Binaries,
    folder: &Path,
    id: &str,
    role: &str,
    name: &str,
) -> Result<Client, Error> {
    binaries.assent_ok(&["keys", "issue", "--dir", text(folder)?, "--role", role, "--name", name]).await?;
    Ok(client_in(folder, id, role, name))
}

/// Where `assent keys issue` puts a client's files.
pub fn client_in(folder: &Path, organization: &str, role: &str, name: &str) -> Client {
    let files = folder.join("clients").join(format!("{role}-{name}"));
    Client {
        organization: organization.to_owned(),
        role: role.to_owned(),
        name: name.to_owned(),
        cert: files.join("cert.pem"),
        key: files.join("key.pem"),
        ca: files.join("ca.pem"),
    }
}

fn tcp(port: u16) -> String {
    format!("/ip4/127.0.0.1/tcp/{port}")
}

/// A path as an argument.
pub fn text(path: &Path) -> Result<&str, Error> {
    path.to_str()
        .ok_or_else(|| Error::Failed(format!("{} is not UTF-8: choose another folder", path.display())))
}
