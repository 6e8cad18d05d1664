//! The gRPC side: every service of `assent.v1` over mutual TLS, with health and reflection.
//!
//! ```text
//! error      refusals as statuses          auth, roles  certificates, and who may call what
//! cas, tls   the members' authorities, TLS
//! border     form of what comes in         call       identity, quota and role of each call
//! quota      calls that a client may make  deadline   time that a call may take
//! answer     state that an answer is from  proof      a patient's control key
//! door       TCP, TLS and their limits     places     for connections and handshakes
//! custodian, consents, exchange, decision, review, patient, wallet, notices, audit, receipt, governance, node: the services
//! ```
//! Shutdown: health says NOT_SERVING, no new connection, calls under way have five seconds.

pub mod answer;
pub mod audit;
pub mod auth;
pub mod border;
pub mod call;
mod cas;
pub mod consents;
pub mod custodian;
pub mod deadline;
pub mod decision;
mod door;
pub mod error;
pub mod exchange;
mod governance;
mod known;
pub mod node;
mod notices;
mod pack;
pub mod patient;
pub mod places;
pub mod proof;
pub mod quota;
mod receipt;
pub mod review;
pub mod roles;
mod wallet;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use assent_proto::v1::audit_service_server::{self, AuditServiceServer};
use assent_proto::v1::consent_service_server::{self, ConsentServiceServer};
use assent_proto::v1::decision_service_server::{self, DecisionServiceServer};
use assent_proto::v1::exchange_service_server::{self, ExchangeServiceServer};
use assent_proto::v1::governance_service_server::{self, GovernanceServiceServer};
use assent_proto::v1::node_service_server::{self, NodeServiceServer};
use assent_proto::v1::patient_service_server::{self, PatientServiceServer};
use assent_proto::v1::policy_service_server::{self, PolicyServiceServer};
use assent_proto::v1::receipt_service_server::{self, ReceiptServiceServer};
use assent_proto::v1::record_service_server::{self, RecordServiceServer};
use assent_proto::v1::review_service_server::{self, ReviewServiceServer};
use assent_proto::v1::subject_service_server::{self, SubjectServiceServer};
use rustls::pki_types::CertificateDer;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::transport::Server;
use tonic_health::server::HealthReporter;
use tonic_health::ServingStatus;

use crate::app::App;
use crate::certificates::Certificates;
use crate::freshness::Freshness;
use auth::Authority;
use call::Api;
use cas::{Cas, Own};
use deadline::{Deadlines, Timed};
use door::Door;
use places::Places;
use quota::{Quota, Rate};

/// Longest message of ImportSubjects, LoadRecords and of the exchange service, in bytes.
pub const MAX_LARGE_MESSAGE_BYTES: usize = 32 << 20;
/// Longest message of every other method, in bytes.
pub const MAX_MESSAGE_BYTES: usize = 256 << 10;
/// Longest list of headers, in bytes.
const MAX_HEADER_BYTES: u32 = 16 << 10;
/// Streams that a client opened and reset before they were looked at; beyond, the connection is closed (a reset flood).
const MAX_PENDING_RESETS: usize = 20;
/// Streams that this node reset because of what a client did wrong; beyond, the connection is closed.
const MAX_ERROR_RESETS: usize = 1_024;
/// How long calls under way may go on after the shutdown began.
const SHUTDOWN_BOUND: Duration = Duration::from_secs(5);
/// How often health follows freshness.
const HEALTH_INTERVAL: Duration = Duration::from_secs(1);

/// Names that health knows; "" is the node as a whole.
const SERVICES: [&str; 13] = [
    "",
    node_service_server::SERVICE_NAME,
    subject_service_server::SERVICE_NAME,
    record_service_server::SERVICE_NAME,
    consent_service_server::SERVICE_NAME,
    policy_service_server::SERVICE_NAME,
    decision_service_server::SERVICE_NAME,
    exchange_service_server::SERVICE_NAME,
    patient_service_server::SERVICE_NAME,
    review_service_server::SERVICE_NAME,
    receipt_service_server::SERVICE_NAME,
    audit_service_server::SERVICE_NAME,
    governance_service_server::SERVICE_NAME,
];

/// What the server is told.
pub struct GrpcConfig {
    /// Where it listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The node's certificate of the moment, and who is revoked.
    pub certificates: Certificates,
    /// The organization's authority as its folder has it, for its operator while the ledger does not know it.
    pub authority: Option<CertificateDer<'static>>,
    /// Places for connections.
    pub places: Places,
    /// What each client may ask for.
    pub rate: Rate,
}

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address can't be listened on (exit 7).
    #[error(
        "gRPC can't listen on {listen}: {reason}; stop what uses it, or set another address as `grpc.listen`"
    )]
    Bind { listen: SocketAddr, reason: String },
    /// Certificate or key can't be used (exit 2).
    #[error("gRPC over TLS: {0}")]
    Tls(String),
    /// The program's own descriptors are broken (exit 1).
    #[error("gRPC reflection: {0}")]
    Reflection(String),
}

impl ServeError {
    /// The process's exit code.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Bind { .. } => 7,
            Self::Tls(_) => 2,
            Self::Reflection(_) => 1,
        }
    }
}

/// A running server.
pub struct ServeHandle {
    /// Where it listens.
    pub local_addr: SocketAddr,
    /// Ends after the shutdown.
    pub task: JoinHandle<()>,
}

/// Error with its causes: tonic's own text alone says nothing.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}

fn routes(api: Api) -> Routes {
    let small = MAX_MESSAGE_BYTES;
    let large = MAX_LARGE_MESSAGE_BYTES;
    Routes::new(NodeServiceServer::new(api.clone()).max_decoding_message_size(small))
        .add_service(SubjectServiceServer::new(api.clone()).max_decoding_message_size(large))
        .add_service(RecordServiceServer::new(api.clone()).max_decoding_message_size(large))
        .add_service(ConsentServiceServer::new(api.clone()).max_decoding_message_size(small))
        .add_service(PolicyServiceServer::new(api.clone()).max_decoding_message_size(small))
        .add_service(DecisionServiceServer::new(api.clone()).max_decoding_message_size(small))
        .add_service(ExchangeServiceServer::new(api.clone()).max_decoding_message_size(large))
        .add_service(PatientServiceServer::new(api.clone()).max_decoding_message_size(small))
        .add_service(ReviewServiceServer::new(api.clone()).max_decoding_message_size(small))
        .add_service(ReceiptServiceServer::new(api.clone()).max_decoding_message_size(small))
        .add_service(GovernanceServiceServer::new(api.clone()).max_decoding_message_size(small))
        .add_service(AuditServiceServer::new(api).max_decoding_message_size(small))
}

fn reflection() -> tonic_reflection::server::Builder<'static> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(assent_proto::DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
}

async fn report(reporter: &HealthReporter, status: ServingStatus) {
    for service in SERVICES {
        reporter.set_service_status(service, status).await;
    }
}

/// Health follows freshness: a node that may be behind is not asked.
async fn follow_freshness(reporter: HealthReporter, freshness: Freshness, shutdown: CancellationToken) {
    loop {
        let status = match freshness.stale() {
            None => ServingStatus::Serving,
            Some(_) => ServingStatus::NotServing,
        };
        report(&reporter, status).await;
        tokio::select! {
            () = shutdown.cancelled() => break,
            () = tokio::time::sleep(HEALTH_INTERVAL) => {}
        }
    }
    report(&reporter, ServingStatus::NotServing).await;
}

/// Binds, then serves until the shutdown. Needs a runtime with several threads: calls read the disk in place.
pub async fn serve(
    app: App,
    config: GrpcConfig,
    shutdown: CancellationToken,
) -> Result<ServeHandle, ServeError> {
    let parts = app.parts.clone();
    let limits = parts.limits;
    let own = Own { organization: parts.organization.clone(), authority: config.authority };
    let cas = Cas::new(parts.members.clone(), own);
    let authority =
        Authority::new(parts.chain_id(), &parts.organization, cas.clone(), config.certificates.clone());
    let authority = Arc::new(authority);
    let bind = |e: std::io::Error| ServeError::Bind { listen: config.listen, reason: e.to_string() };
    let listener = TcpListener::bind(config.listen).await.map_err(bind)?;
    let local_addr = listener.local_addr().map_err(bind)?;

    let last_signed = node::LastSigned::default();
    let (reporter, health) = tonic_health::server::health_reporter();
    let broken = |e: tonic_reflection::server::Error| ServeError::Reflection(e.to_string());
    let (quota, stopping) = (Quota::new(config.rate), shutdown.child_token());
    let routes = routes(Api::new(app, authority.clone(), quota, last_signed.clone(), stopping))
        .add_service(health)
        .add_service(reflection().build_v1().map_err(broken)?)
        .add_service(reflection().build_v1alpha().map_err(broken)?);
    let calls = limits.grpc_calls_per_connection;
    let server = Server::builder()
        .concurrency_limit_per_connection(calls as usize)
        .max_concurrent_streams(2 * calls)
        .http2_max_header_list_size(MAX_HEADER_BYTES)
        .http2_max_pending_accept_reset_streams(Some(MAX_PENDING_RESETS))
        .http2_max_local_error_reset_streams(Some(MAX_ERROR_RESETS))
        .http2_keepalive_interval(Some(limits.silence() / 2))
        .http2_keepalive_timeout(Some(limits.silence() / 2))
        .layer(tower::layer::layer_fn(|service| Timed::new(service, Deadlines::default())))
        .add_routes(routes);

    tokio::spawn(last_signed.follow(parts.tips.clone()));
    let stop_health = shutdown.child_token();
    let health = tokio::spawn(follow_freshness(reporter, parts.freshness.clone(), stop_health.clone()));
    let door = Door {
        listener,
        certificates: config.certificates,
        authority,
        cas,
        places: config.places,
        time: limits.handshake(),
    };
    let incoming = door.open(shutdown.clone()).map_err(ServeError::Tls)?;
    let task = tokio::spawn(async move {
        let serving = server.serve_with_incoming_shutdown(incoming, shutdown.clone().cancelled_owned());
        let bound = async {
            shutdown.cancelled().await;
            tokio::time::sleep(SHUTDOWN_BOUND).await;
        };
        tokio::select! {
            ended = serving => if let Err(error) = ended {
                tracing::error!(error = with_causes(&error), "gRPC server ended");
            },
            () = bound => tracing::warn!("gRPC calls were still under way when their time was over"),
        }
        stop_health.cancel();
        let _ = health.await;
    });
    tracing::info!(%local_addr, "gRPC listens");
    Ok(ServeHandle { local_addr, task })
}
