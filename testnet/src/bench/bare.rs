//! The least that a program in the node's place could do: a server in a process of its own that answers each check with the
//! same permit, over the same mutual TLS; and one that sends bytes over a plain libp2p stream.

use std::io::Write;
use std::path::Path;

use assent_proto::v1::decision_service_server::{DecisionService, DecisionServiceServer};
use assent_proto::v1::*;
use futures::{AsyncReadExt, AsyncWriteExt, StreamExt};
use libp2p::swarm::SwarmEvent;
use libp2p::{noise, tcp, yamux, Multiaddr, PeerId, StreamProtocol, Swarm, SwarmBuilder};
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status, Streaming};

use crate::error::{failed, Error, While};

const STREAM: StreamProtocol = StreamProtocol::new("/bench/bytes/1");

struct Permits(CheckConsentResponse);

#[tonic::async_trait]
impl DecisionService for Permits {
    type CheckCohortStream = futures::stream::Empty<Result<CheckCohortResponse, Status>>;
    type OpenDecisionsStream = futures::stream::Empty<Result<OpenDecisionsResponse, Status>>;

    async fn check_consent(
        &self,
        _: Request<CheckConsentRequest>,
    ) -> Result<Response<CheckConsentResponse>, Status> {
        Ok(Response::new(self.0.clone()))
    }

    async fn batch_check_consent(
        &self,
        _: Request<BatchCheckConsentRequest>,
    ) -> Result<Response<BatchCheckConsentResponse>, Status> {
        Err(Status::unimplemented(ONLY_CHECKS))
    }

    async fn check_cohort(
        &self,
        _: Request<Streaming<CheckCohortRequest>>,
    ) -> Result<Response<Self::CheckCohortStream>, Status> {
        Err(Status::unimplemented(ONLY_CHECKS))
    }

    async fn open_decisions(
        &self,
        _: Request<OpenDecisionsRequest>,
    ) -> Result<Response<Self::OpenDecisionsStream>, Status> {
        Err(Status::unimplemented(ONLY_CHECKS))
    }

    async fn check_outreach(
        &self,
        _: Request<CheckOutreachRequest>,
    ) -> Result<Response<CheckOutreachResponse>, Status> {
        Err(Status::unimplemented(ONLY_CHECKS))
    }

    async fn explain_decision(
        &self,
        _: Request<ExplainDecisionRequest>,
    ) -> Result<Response<ExplainDecisionResponse>, Status> {
        Err(Status::unimplemented(ONLY_CHECKS))
    }
}

const ONLY_CHECKS: &str = "the ceiling answers CheckConsent only";

fn say(line: &str) -> Result<(), Error> {
    println!("{line}");
    std::io::stdout().flush().during(|| "telling the address".into())
}

/// Serves until it is killed, after saying its port: the node's certificate, clients of one authority, a fixed answer.
pub async fn serve_unary(node_dir: &Path) -> Result<(), Error> {
    let read = |name: &str| {
        let path = node_dir.join("tls").join(name);
        std::fs::read(&path).during(|| format!("reading {}", path.display()))
    };
    let tls = ServerTlsConfig::new()
        .identity(Identity::from_pem(read("node.pem")?, read("node.key")?))
        .client_ca_root(Certificate::from_pem(read("ca.pem")?));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.during(|| "listening".into())?;
    say(&listener.local_addr().during(|| "listening".into())?.port().to_string())?;
    let answer = CheckConsentResponse {
        answer: Some(Answer { height: 1, time_ms: 1, token: "0".repeat(64) }),
        outcome: Outcome::Permit.into(),
        may_be_incomplete: true,
        ..Default::default()
    };
    Server::builder()
        .tls_config(tls)
        .during(|| "TLS".into())?
        // The node's own limits.
        .concurrency_limit_per_connection(64)
        .max_concurrent_streams(128)
        .add_service(DecisionServiceServer::new(Permits(answer)))
        .serve_with_incoming(TcpIncoming::from(listener).with_nodelay(Some(true)))
        .await
        .during(|| "serving".into())
}

fn swarm() -> Result<Swarm<libp2p_stream::Behaviour>, Error> {
    let built = SwarmBuilder::with_new_identity().with_tokio();
    let built = built
        .with_tcp(tcp::Config::default().nodelay(true), noise::Config::new, yamux::Config::default)
        .during(|| "making a swarm".into())?;
    let swarm =
        built.with_behaviour(|_| libp2p_stream::Behaviour::new()).during(|| "making a swarm".into())?;
    let patient =
        |c: libp2p::swarm::Config| c.with_idle_connection_timeout(std::time::Duration::from_secs(600));
    Ok(swarm.with_swarm_config(patient).build())
}

/// Serves until it is killed, after saying its address: answers a length of 8 bytes with as many bytes.
pub async fn serve_stream() -> Result<(), Error> {
    let mut swarm = swarm()?;
    let mut incoming = swarm.behaviour().new_control().accept(STREAM).during(|| "accepting".into())?;
    let anywhere: Multiaddr = "/ip4/127.0.0.1/tcp/0".parse().during(|| "an address".into())?;
    swarm.listen_on(anywhere).during(|| "listening".into())?;
    tokio::spawn(async move {
        while let Some((_, mut stream)) = incoming.next().await {
            tokio::spawn(async move {
                let mut length = [0; 8];
                while stream.read_exact(&mut length).await.is_ok() {
                    let bytes = vec![7; usize::try_from(u64::from_be_bytes(length)).unwrap_or(0)];
                    if stream.write_all(&bytes).await.is_err() || stream.flush().await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    let id = *swarm.local_peer_id();
    loop {
        if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
            say(&format!("{address}/p2p/{id}"))?;
        }
    }
}

/// An open stream to [`serve_stream`].
pub struct ByteStream(libp2p::Stream);

impl ByteStream {
    /// Dials.
    pub async fn open(address: &str) -> Result<Self, Error> {
        let address: Multiaddr = address.parse().during(|| format!("reading {address}"))?;
        let Some(libp2p::multiaddr::Protocol::P2p(peer)) = address.iter().last() else {
            return failed("an address without a peer");
        };
        let mut swarm = swarm()?;
        let mut control = swarm.behaviour().new_control();
        swarm.dial(address).during(|| "dialling".into())?;
        tokio::spawn(async move {
            loop {
                swarm.select_next_some().await;
            }
        });
        Self::dial(&mut control, peer).await
    }

    async fn dial(control: &mut libp2p_stream::Control, peer: PeerId) -> Result<Self, Error> {
        for _ in 0..100 {
            if let Ok(stream) = control.open_stream(peer, STREAM).await {
                return Ok(Self(stream));
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        failed("the bare stream does not open")
    }

    /// Asks for so many bytes and reads them all.
    pub async fn fetch(&mut self, bytes: usize) -> Result<(), Error> {
        let doing = || "fetching bytes".to_owned();
        self.0.write_all(&(bytes as u64).to_be_bytes()).await.during(doing)?;
        self.0.flush().await.during(doing)?;
        let mut buffer = vec![0; bytes];
        self.0.read_exact(&mut buffer).await.during(doing)
    }
}
