//! The connection to a node: mutual TLS, one deadline, and errors that say which side refused.

use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;

use assent_proto::v1::node_service_client::NodeServiceClient;
use assent_proto::v1::GetStatusRequest;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Response, Status, Streaming};

use crate::exit::{self, error_chain, Exit, Failure};
use crate::files;
use crate::profile::Profile;

/// Node that is asked when none is named: the embedded one.
const DEFAULT_NODE: &str = "https://127.0.0.1:7411";
/// Seconds to wait for an answer when nothing else is said.
const DEFAULT_TIMEOUT_SECONDS: u64 = 30;

/// How to reach a node with a client certificate.
#[derive(Debug, Default, clap::Args)]
#[command(next_help_heading = "Node")]
pub struct NodeArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// Client certificate, PEM [env: ASSENT_CERT]
    #[arg(long, value_name = "FILE", env = "ASSENT_CERT", hide_env = true)]
    cert: Option<PathBuf>,
    /// Key of the client certificate, PEM [env: ASSENT_KEY]
    #[arg(long, value_name = "FILE", env = "ASSENT_KEY", hide_env = true)]
    key: Option<PathBuf>,
}

/// How to reach a node without one.
#[derive(Debug, Default, clap::Args)]
#[command(next_help_heading = "Node")]
pub struct ServerArgs {
    /// URL of the node [env: ASSENT_NODE]
    #[arg(long, value_name = "URL", env = "ASSENT_NODE", hide_env = true)]
    node: Option<String>,
    /// Node's certificate authority, PEM [env: ASSENT_CA]
    #[arg(long, value_name = "FILE", env = "ASSENT_CA", hide_env = true)]
    ca: Option<PathBuf>,
    /// Seconds to wait for an answer; 30 by default
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    timeout: Option<u64>,
}

/// A node that answers.
pub struct Node {
    /// For the generated clients.
    pub channel: Channel,
    endpoint: Endpoint,
    url: String,
    timeout: Duration,
}

impl NodeArgs {
    /// Connects with the client certificate.
    pub async fn connect(&self, profile: &Profile) -> Result<Node, Failure> {
        let cert = self.cert.as_ref().or(profile.cert.as_ref());
        let key = self.key.as_ref().or(profile.key.as_ref());
        let (Some(cert), Some(key)) = (cert, key) else {
            return Err(Failure::usage(
                "NO_CLIENT_CERTIFICATE",
                "this command needs a client certificate and its key",
            )
            .help("give --cert FILE and --key FILE, or --profile FILE; `assent keys issue` makes them"));
        };
        let identity = Identity::from_pem(files::read_text(cert)?, files::read_text(key)?);
        self.server.open(profile, Some(identity)).await
    }
}

impl NodeArgs {
    /// Connects without it, whatever is given: for requests that a control key signs.
    pub async fn connect_without_certificate(&self, profile: &Profile) -> Result<Node, Failure> {
        self.server.connect(profile).await
    }
}

impl ServerArgs {
    /// Connects without a client certificate: only requests signed by a control key are answered then.
    pub async fn connect(&self, profile: &Profile) -> Result<Node, Failure> {
        self.open(profile, None).await
    }

    async fn open(&self, profile: &Profile, identity: Option<Identity>) -> Result<Node, Failure> {
        let url = self.node.as_ref().or(profile.node.as_ref()).map_or(DEFAULT_NODE, String::as_str);
        let ca = self.ca.as_ref().or(profile.ca.as_ref()).ok_or_else(|| {
            Failure::usage("NO_CA", "no certificate authority is named, so the node could not be recognized")
                .help("give --ca FILE (the ca.pem beside your client certificate) or --profile FILE")
        })?;
        let ca = Certificate::from_pem(files::read_text(ca)?);
        let seconds = self.timeout.or(profile.timeout_seconds).unwrap_or(DEFAULT_TIMEOUT_SECONDS);
        let timeout = Duration::from_secs(seconds);
        if !url.starts_with("https://") {
            return Err(Failure::usage("MALFORMED_URL", format!("{url:?} is not an https:// URL"))
                .help("a node speaks gRPC over TLS only: https://HOST:PORT"));
        }
        let mut tls = ClientTlsConfig::new().ca_certificate(ca);
        if let Some(identity) = identity {
            tls = tls.identity(identity);
        }
        let endpoint = Endpoint::from_shared(url.to_owned())
            .map_err(|e| Failure::usage("MALFORMED_URL", format!("{url:?}: {}", error_chain(&e))))?
            .connect_timeout(timeout)
            .tls_config(tls)
            .map_err(|e| Failure::usage("MALFORMED_CERTIFICATE", error_chain(&e)))?;
        // tonic's connect_timeout ends with TCP: a port that accepts and then says nothing needs this one.
        let channel = match tokio::time::timeout(timeout, endpoint.connect()).await {
            Ok(connected) => connected.map_err(|e| unreachable_node(url, &e))?,
            Err(_) => return Err(silent_node(url, timeout)),
        };
        Ok(Node { channel, endpoint, url: url.to_owned(), timeout })
    }
}

fn silent_node(url: &str, timeout: Duration) -> Failure {
    Failure::new(
        Exit::Unavailable,
        "UNREACHABLE",
        format!("{url} accepted the connection, then said nothing for {} s", timeout.as_secs()),
    )
    .help("is this the node's gRPC port? It speaks TLS; try again, or give --timeout SECONDS")
}

fn unreachable_node(url: &str, error: &tonic::transport::Error) -> Failure {
    let chain = error_chain(error);
    if chain.contains("invalid peer certificate") {
        return Failure::error(
            "NODE_CERTIFICATE",
            format!("{url} is not the node that --ca vouches for: {chain}"),
        )
        .help("check the URL, and give the ca.pem of the organization that runs this node");
    }
    if chain.contains("received fatal alert") {
        return refused(url, &chain);
    }
    Failure::new(Exit::Unavailable, "UNREACHABLE", format!("{url} can't be reached: {chain}"))
        .help("check the URL and that assentd is running")
}

fn refused(url: &str, why: &str) -> Failure {
    Failure::new(Exit::NotAllowed, "TLS_REFUSED", format!("{url} refused the TLS connection: {why}")).help(
        "give a certificate and key issued by this organization's certificate authority (--cert, --key)",
    )
}

impl Node {
    /// Waits for one answer, as long as the deadline allows.
    pub async fn answer<T>(
        &self,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, Failure> {
        match tokio::time::timeout(self.timeout, call).await {
            Ok(Ok(answer)) => Ok(answer.into_inner()),
            Ok(Err(status)) if broke(&status) => Err(self.why_broken(&status).await),
            Ok(Err(status)) => Err(status.into()),
            Err(_) => Err(self.too_late()),
        }
    }

    /// With TLS 1.3 a node refuses a client certificate only after the handshake, and then all that is seen is a broken
    /// connection. A second one tells: a node that breaks that too, before any answer, does not want this client.
    async fn why_broken(&self, status: &Status) -> Failure {
        let chain = error_chain(status);
        if chain.contains("received fatal alert") {
            return refused(&self.url, &chain);
        }
        let again = async {
            let channel = self.endpoint.connect().await.map_err(|e| unreachable_node(&self.url, &e))?;
            Ok(NodeServiceClient::new(channel).get_status(GetStatusRequest {}).await)
        };
        match tokio::time::timeout(self.timeout, again).await {
            Ok(Err(failure)) => failure,
            Ok(Ok(Err(status))) if broke(&status) => {
                refused(&self.url, "it closes every connection before it answers")
            }
            _ => connection_lost(status),
        }
    }

    /// Waits for a stream's next message; the deadline is for each.
    pub async fn next<T>(&self, stream: &mut Streaming<T>) -> Result<Option<T>, Failure> {
        match tokio::time::timeout(self.timeout, stream.message()).await {
            Ok(Ok(message)) => Ok(message),
            Ok(Err(status)) if broke(&status) => Err(connection_lost(&status)),
            Ok(Err(status)) => Err(status.into()),
            Err(_) => Err(self.too_late()),
        }
    }

    fn too_late(&self) -> Failure {
        Status::deadline_exceeded(format!("no answer within {} s", self.timeout.as_secs())).into()
    }
}

/// True for an error of the transport; what a node says has no source.
fn broke(status: &Status) -> bool {
    std::error::Error::source(status).is_some()
}

fn connection_lost(status: &Status) -> Failure {
    let what = format!("the connection broke: {}", exit::printable(status.message()));
    Failure::new(Exit::Unavailable, "CONNECTION_LOST", what)
        .help("the outcome is unknown, not \"no\": try again, and see whether assentd is running")
}

/// Runs a command that talks to a node.
pub fn run<T>(command: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::error("RUNTIME", format!("no runtime: {e}")))?
        .block_on(command)
}
