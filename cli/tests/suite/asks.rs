//! What the program does with a node's asks and changes: pages, lines as they come, and what a node says that it must not print.

use std::net::SocketAddr;
use std::pin::Pin;

use assent_proto::v1::consent_service_server::{ConsentService, ConsentServiceServer};
use assent_proto::v1::*;
use tonic::codegen::tokio_stream::{self, Stream};
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::program::{assent, Run};

const PATIENT: [&str; 6] =
    ["--custodian", "cedar", "--identifier", "urn:x:mrn|17", "--birth-date", "2000-02-29"];

/// Seven asks in pages of two; five changes with heartbeats between, then the node stops.
struct Told;

fn answer() -> Option<Answer> {
    Some(Answer { height: 9, ..Default::default() })
}

#[tonic::async_trait]
impl ConsentService for Told {
    type WatchConsentsStream = Pin<Box<dyn Stream<Item = Result<WatchConsentsResponse, Status>> + Send>>;

    async fn ask_consent(
        &self,
        request: Request<AskConsentRequest>,
    ) -> Result<Response<AskConsentResponse>, Status> {
        let request = request.into_inner();
        assert_eq!((request.purposes.len(), request.valid_until_ms), (2, 1_893_456_000_000));
        Ok(Response::new(AskConsentResponse { answer: answer(), ask_id: vec![7; 32], expires_ms: 1_000 }))
    }

    async fn get_consent_ask(
        &self,
        request: Request<GetConsentAskRequest>,
    ) -> Result<Response<GetConsentAskResponse>, Status> {
        // Each byte of the id names a state, known or not.
        let state = request.into_inner().ask_id[0].into();
        Ok(Response::new(GetConsentAskResponse { answer: answer(), state, expires_ms: 1_000 }))
    }

    async fn list_consent_asks(
        &self,
        request: Request<ListConsentAsksRequest>,
    ) -> Result<Response<ListConsentAsksResponse>, Status> {
        let request = request.into_inner();
        let from: u8 = request.page_token.parse().unwrap_or_default();
        let to = 7.min(from + request.page_size.min(2) as u8);
        let ask =
            |n: u8| ConsentAsk { ask_id: vec![n; 32], reason: "\x1b[2Jwhy".into(), ..Default::default() };
        let next_page_token = if to < 7 { to.to_string() } else { String::new() };
        let asks = (from..to).map(ask).collect();
        Ok(Response::new(ListConsentAsksResponse { answer: answer(), asks, next_page_token }))
    }

    async fn watch_consents(
        &self,
        request: Request<WatchConsentsRequest>,
    ) -> Result<Response<Self::WatchConsentsStream>, Status> {
        let from: u64 = request.into_inner().resume_token.parse().unwrap_or_default();
        let message = move |n: u64| {
            let change = ConsentChange {
                consent_seq: n,
                patient_reference: "Patient/\x1b17".into(),
                frozen: n == 4,
                consents: vec![ConsentRecord { consent_id: "c-1".into(), revision: n, ..Default::default() }],
                ..Default::default()
            };
            let change = n.is_multiple_of(2).then_some(change);
            Ok(WatchConsentsResponse { answer: answer(), resume_token: n.to_string(), change })
        };
        let details =
            ErrorDetails::with_error_info("NODE_STOPPING", "assent", std::collections::HashMap::new());
        let end = Err(Status::with_error_details(tonic::Code::Unavailable, "the node stops", details));
        let messages = (from + 1..=10).map(message).chain([end]);
        Ok(Response::new(Box::pin(tokio_stream::iter(messages.collect::<Vec<_>>()))))
    }

    async fn import_consent(
        &self,
        _: Request<ImportConsentRequest>,
    ) -> Result<Response<ImportConsentResponse>, Status> {
        Err(Status::unimplemented("not told"))
    }
    async fn record_consent(
        &self,
        _: Request<RecordConsentRequest>,
    ) -> Result<Response<RecordConsentResponse>, Status> {
        Err(Status::unimplemented("not told"))
    }
    async fn preview_consent(
        &self,
        _: Request<PreviewConsentRequest>,
    ) -> Result<Response<PreviewConsentResponse>, Status> {
        Err(Status::unimplemented("not told"))
    }
    async fn revoke_consent(
        &self,
        _: Request<RevokeConsentRequest>,
    ) -> Result<Response<RevokeConsentResponse>, Status> {
        Err(Status::unimplemented("not told"))
    }
    async fn mark_consent_error(
        &self,
        _: Request<MarkConsentErrorRequest>,
    ) -> Result<Response<MarkConsentErrorResponse>, Status> {
        Err(Status::unimplemented("not told"))
    }
    async fn get_consent(
        &self,
        _: Request<GetConsentRequest>,
    ) -> Result<Response<GetConsentResponse>, Status> {
        Err(Status::unimplemented("not told"))
    }
    async fn list_consents(
        &self,
        _: Request<ListConsentsRequest>,
    ) -> Result<Response<ListConsentsResponse>, Status> {
        Err(Status::unimplemented("not told"))
    }
    async fn list_consent_revisions(
        &self,
        _: Request<ListConsentRevisionsRequest>,
    ) -> Result<Response<ListConsentRevisionsResponse>, Status> {
        Err(Status::unimplemented("not told"))
    }
    async fn export_consent(
        &self,
        _: Request<ExportConsentRequest>,
    ) -> Result<Response<ExportConsentResponse>, Status> {
        Err(Status::unimplemented("not told"))
    }
    async fn set_contact_preferences(
        &self,
        _: Request<SetContactPreferencesRequest>,
    ) -> Result<Response<SetContactPreferencesResponse>, Status> {
        Err(Status::unimplemented("not told"))
    }
    async fn answer_consent_ask(
        &self,
        _: Request<AnswerConsentAskRequest>,
    ) -> Result<Response<AnswerConsentAskResponse>, Status> {
        Err(Status::unimplemented("not told"))
    }
}

/// A node's folder and a server with its certificate.
struct Node {
    folder: tempfile::TempDir,
    url: String,
    _runtime: tokio::runtime::Runtime,
}

impl Node {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("n");
        let text = dir.to_str().unwrap();
        assent(&[
            "init",
            "--dir",
            text,
            "--organization",
            "cedar",
            "--name",
            "C",
            "--chain-id",
            "testnet-cli",
        ])
        .exits(0);
        assent(&["keys", "issue", "--dir", text, "--role", "portal", "--name", "p"]).exits(0);
        let read = |name: &str| std::fs::read(dir.join(name)).unwrap();
        let tls = ServerTlsConfig::new()
            .identity(Identity::from_pem(read("tls/node.pem"), read("tls/node.key")))
            .client_ca_root(Certificate::from_pem(read("tls/ca.pem")));
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let guard = runtime.enter();
        let incoming = TcpIncoming::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let url = format!("https://{}", incoming.local_addr().unwrap());
        let server = Server::builder().tls_config(tls).unwrap().add_service(ConsentServiceServer::new(Told));
        runtime.spawn(server.serve_with_incoming(incoming));
        drop(guard);
        Self { folder, url, _runtime: runtime }
    }

    fn run(&self, arguments: &[&str]) -> Run {
        let profile = self.folder.path().join("n/clients/portal-p/profile.toml");
        assent(&[arguments, &["--profile", profile.to_str().unwrap(), "--node", &self.url]].concat())
    }
}

#[test]
fn asks_are_made_followed_and_listed() {
    let node = Node::start();
    let ask = [
        "ask",
        "--purpose",
        "TREAT",
        "--purpose",
        "HRESCH",
        "--until",
        "2030-01-01T00:00:00Z",
        "--reason",
        "x",
    ];
    let json = node.run(&[&ask[..], &PATIENT, &["--output", "json"]].concat()).exits(0).json();
    assert_eq!(json["ask_id"], "07".repeat(32));
    for (state, wanted) in [("01", "PENDING"), ("02", "GRANTED"), ("03", "EXPIRED")] {
        let run = node.run(&["ask", "status", "--ask", &state.repeat(32)]).exits(0);
        assert!(run.out.starts_with(wanted), "{run:?}");
    }
    // A state that this program does not know is no grant.
    let unknown = node.run(&["ask", "status", "--ask", &"09".repeat(32)]).exits(1);
    assert!(unknown.out.is_empty() && unknown.err.contains("UNKNOWN_STATE"), "{unknown:?}");

    let all = node.run(&[&["asks", "list", "--output", "json"][..], &PATIENT].concat()).exits(0).json();
    assert_eq!((all["asks"].as_array().unwrap().len(), &all["more"]), (7, &false.into()));
    let some = node.run(&[&["asks", "list", "--limit", "3"][..], &PATIENT].concat()).exits(0);
    assert!(some.out.starts_with("3 asks, there are more") && !some.out.contains('\x1b'), "{some:?}");
}

#[test]
fn changes_are_printed_as_they_come_and_the_end_says_where_to_go_on() {
    let node = Node::start();
    let run = node.run(&["watch-consents", "--output", "json"]).exits(7);
    let lines: Vec<serde_json::Value> =
        run.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 11, "heartbeats too, and the failure last");
    let sequences: Vec<_> = lines.iter().filter_map(|line| line["change"]["consent_seq"].as_u64()).collect();
    assert_eq!(sequences, [2, 4, 6, 8, 10]);
    assert_eq!((&lines[0]["change"], &lines[0]["resume_token"]), (&serde_json::Value::Null, &"1".into()));
    assert_eq!(lines[10]["error"]["reason"], "NODE_STOPPING");
    assert!(run.err.contains("--resume 10"), "{run:?}");

    let run = node.run(&["watch-consents", "--resume", "2", "--changes", "2"]).exits(0);
    assert_eq!(run.out.lines().count(), 3);
    assert!(run.out.contains("sequence 4, consent c-1 revision 4 UNSPECIFIED, withdrawn"), "{run:?}");
    assert!(run.out.ends_with("2 changes; go on with --resume 6\n") && !run.out.contains('\x1b'), "{run:?}");
}
