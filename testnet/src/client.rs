//! gRPC over mTLS to a node, as one of its organization's clients.

use std::time::Duration;

use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::Status;

use crate::error::{failed, Error, While};
use crate::net::description::{Client, Network};

const CONNECT_LIMIT: Duration = Duration::from_secs(3);
/// Longest that one call may take; a write waits for its block.
const CALL_LIMIT: Duration = Duration::from_secs(30);

/// A channel to an organization's node as its client of a role.
pub async fn connect(network: &Network, organization: &str, role: &str) -> Result<Channel, Error> {
    open(&network.node(organization)?.grpc, network.client(organization, role)?, true).await
}

/// A channel to an organization's node without a client certificate, as a patient has it.
pub async fn connect_as_patient(network: &Network, organization: &str) -> Result<Channel, Error> {
    open(&network.node(organization)?.grpc, network.client(organization, "operator")?, false).await
}

/// A channel to a URL with a client's files.
pub async fn open(url: &str, client: &Client, identify: bool) -> Result<Channel, Error> {
    let read = |path: &std::path::Path| std::fs::read(path).during(|| format!("reading {}", path.display()));
    let mut tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(read(&client.ca)?))
        .domain_name("localhost");
    if identify {
        tls = tls.identity(Identity::from_pem(read(&client.cert)?, read(&client.key)?));
    }
    let doing = || format!("connecting to {url}");
    let endpoint = Endpoint::from_shared(url.to_owned()).and_then(|e| e.tls_config(tls)).during(doing)?;
    let connecting = endpoint.timeout(CALL_LIMIT).tcp_nodelay(true);
    // The endpoint's own limit ends with TCP: whoever listens there may never speak TLS.
    match tokio::time::timeout(CONNECT_LIMIT, connecting.connect()).await {
        Ok(connected) => connected.map_err(|error| with_sources(&error)).during(doing),
        Err(_) => failed(format!("{}: no TLS connection within {} s", doing(), CONNECT_LIMIT.as_secs())),
    }
}

/// An error with the causes that it hides.
fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

/// What a node answered, as an error.
pub fn code(method: &str, status: &Status) -> Error {
    Error::Failed(format!("{method} answered {:?}: {}", status.code(), status.message()))
}
