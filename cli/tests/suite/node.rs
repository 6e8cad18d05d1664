//! What the program does with a node's answers, lies included: the answers come over real mutual TLS, with the certificates
//! that `assent init` and `assent keys issue` make.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use assent_ledger::entry::withdraw_sign_bytes;
use assent_ledger::hash::{framed, Context};
use assent_ledger::keys::verify;
use assent_proto::ledger::v1::Slot;
use assent_proto::v1::audit_service_server::{AuditService, AuditServiceServer};
use assent_proto::v1::decision_service_server::{DecisionService, DecisionServiceServer};
use assent_proto::v1::exchange_service_server::{ExchangeService, ExchangeServiceServer};
use assent_proto::v1::patient_service_server::{PatientService, PatientServiceServer};
use assent_proto::v1::policy_service_server::PolicyServiceServer;
use assent_proto::v1::receipt_service_server::ReceiptServiceServer;
use assent_proto::v1::review_service_server::ReviewServiceServer;
use assent_proto::v1::*;
use tonic::codegen::tokio_stream::{self, Stream};
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_types::{ErrorDetails, StatusExt};

use crate::chain::{Chain, CHAIN};
use crate::program::{assent, Run};

/// The messages of one release.
type Messages = Vec<Result<RequestRecordsResponse, Status>>;
type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Changes a prepared grant into a lie.
pub type Lie = fn(&mut PrepareGrantResponse);

/// What the node will answer, and what it was asked.
#[derive(Default)]
pub struct Script {
    check: Option<Status>,
    pub release: Messages,
    pub export: Vec<Result<ExportLedgerResponse, Status>>,
    /// Blocks from height 1 on, as the node gives them one by one.
    pub blocks: Vec<GetBlockResponse>,
    history: Vec<u8>,
    pub pack: Vec<u8>,
    pub pack_asked: Option<GetPackRequest>,
    pub openings: Vec<u8>,
    pub openings_asked: Option<OpenDecisionsRequest>,
    /// Number of the client's accesses, given out two a page.
    accesses: u64,
    endless: bool,
    /// What every receipt that is asked for is.
    pub receipt: Vec<u8>,
    pub decision_asked: Option<GetDecisionReceiptRequest>,
    pub slot: Slot,
    asked: Option<GetSlotRequest>,
    withdrawn: Option<WithdrawRequest>,
    pub glass: crate::break_glass::Script,
    pub lie: Option<Lie>,
    pub prepared: Option<PrepareGrantRequest>,
    pub committed: Vec<CommitGrantRequest>,
    /// How often a commit's outcome stays unknown.
    pub unknown: usize,
    pub cancelled: Option<CancelReplacementRequest>,
    pub replaced: Option<ReplaceControlKeyRequest>,
}

impl Script {
    fn page(&self, request: &ListAccessesRequest) -> ListAccessesResponse {
        let from: u64 = request.page_token.parse().unwrap_or_default();
        let to = self.accesses.min(from + u64::from(request.page_size.min(2)));
        let query = Query {
            patient: Some(Patient {
                custodian: "cedar".into(),
                identifier_system: "urn:x:mrn".into(),
                identifier_value: "\x1b17".into(),
                birth_date: "2000-02-29".into(),
            }),
            purpose: "TREAT".into(),
            ..Default::default()
        };
        let access = |n: u64| OwnAccess {
            request_id: format!("r-{n}"),
            query: Some(query.clone()),
            outcome: Outcome::Permit.into(),
            height: 100 - n,
            entry_hash: vec![1; 32],
            ..Default::default()
        };
        let more = to < self.accesses || self.endless;
        ListAccessesResponse {
            answer: Some(Answer { height: 100, ..Default::default() }),
            accesses: (from..to).map(access).collect(),
            next_page_token: if more { to.to_string() } else { String::new() },
        }
    }
}

#[derive(Clone, Default)]
pub struct Told(pub Arc<Mutex<Script>>);

impl Told {
    pub fn set(&self, change: impl FnOnce(&mut Script)) {
        change(&mut self.0.lock().unwrap());
    }
}

#[tonic::async_trait]
impl DecisionService for Told {
    type CheckCohortStream = Answers<CheckCohortResponse>;
    type OpenDecisionsStream = Answers<OpenDecisionsResponse>;

    async fn check_consent(
        &self,
        _: Request<CheckConsentRequest>,
    ) -> Result<Response<CheckConsentResponse>, Status> {
        match &self.0.lock().unwrap().check {
            Some(status) => Err(status.clone()),
            None => Ok(Response::new(CheckConsentResponse {
                outcome: Outcome::Permit.into(),
                may_be_incomplete: true,
                ..Default::default()
            })),
        }
    }

    async fn batch_check_consent(
        &self,
        _: Request<BatchCheckConsentRequest>,
    ) -> Result<Response<BatchCheckConsentResponse>, Status> {
        Err(Status::unimplemented("not told"))
    }

    async fn check_outreach(
        &self,
        _: Request<CheckOutreachRequest>,
    ) -> Result<Response<CheckOutreachResponse>, Status> {
        Err(Status::unimplemented("not told"))
    }

    async fn explain_decision(
        &self,
        _: Request<ExplainDecisionRequest>,
    ) -> Result<Response<ExplainDecisionResponse>, Status> {
        Err(Status::unimplemented("not told"))
    }

    async fn open_decisions(
        &self,
        request: Request<OpenDecisionsRequest>,
    ) -> Result<Response<Self::OpenDecisionsStream>, Status> {
        let mut script = self.0.lock().unwrap();
        script.openings_asked = Some(request.into_inner());
        let chunks = script.openings.chunks(1000).map(|chunk| OpenDecisionsResponse {
            answer: Some(Answer { height: 12, ..Default::default() }),
            chunk: chunk.to_vec(),
        });
        let chunks: Vec<_> = chunks.map(Ok).collect();
        Ok(Response::new(Box::pin(tokio_stream::iter(chunks))))
    }

    async fn check_cohort(
        &self,
        _: Request<Streaming<CheckCohortRequest>>,
    ) -> Result<Response<Self::CheckCohortStream>, Status> {
        Err(Status::unimplemented("not told"))
    }
}

#[tonic::async_trait]
impl ExchangeService for Told {
    type RequestRecordsStream = Answers<RequestRecordsResponse>;
    async fn request_records(
        &self,
        _: Request<RequestRecordsRequest>,
    ) -> Result<Response<Self::RequestRecordsStream>, Status> {
        let release = std::mem::take(&mut self.0.lock().unwrap().release);
        Ok(Response::new(Box::pin(tokio_stream::iter(release))))
    }
    async fn verify_records(
        &self,
        _: Request<VerifyRecordsRequest>,
    ) -> Result<Response<VerifyRecordsResponse>, Status> {
        Err(Status::unimplemented("not asked here"))
    }
    async fn list_accesses(
        &self,
        request: Request<ListAccessesRequest>,
    ) -> Result<Response<ListAccessesResponse>, Status> {
        Ok(Response::new(self.0.lock().unwrap().page(&request.into_inner())))
    }
}

#[tonic::async_trait]
impl PatientService for Told {
    async fn get_slot(&self, request: Request<GetSlotRequest>) -> Result<Response<GetSlotResponse>, Status> {
        let mut script = self.0.lock().unwrap();
        script.asked = Some(request.into_inner());
        Ok(Response::new(GetSlotResponse { answer: None, slot: Some(script.slot.clone()) }))
    }
    async fn withdraw(
        &self,
        request: Request<WithdrawRequest>,
    ) -> Result<Response<WithdrawResponse>, Status> {
        self.0.lock().unwrap().withdrawn = Some(request.into_inner());
        Ok(Response::new(WithdrawResponse { answer: None, height: 7 }))
    }
    async fn get_history(
        &self,
        _: Request<GetHistoryRequest>,
    ) -> Result<Response<GetHistoryResponse>, Status> {
        Ok(Response::new(GetHistoryResponse {
            answer: None,
            history: self.0.lock().unwrap().history.clone(),
        }))
    }

    async fn get_pack(&self, request: Request<GetPackRequest>) -> Result<Response<GetPackResponse>, Status> {
        let mut script = self.0.lock().unwrap();
        script.pack_asked = Some(request.into_inner());
        Ok(Response::new(GetPackResponse { answer: None, pack: script.pack.clone() }))
    }

    async fn prepare_grant(
        &self,
        request: Request<PrepareGrantRequest>,
    ) -> Result<Response<PrepareGrantResponse>, Status> {
        let mut script = self.0.lock().unwrap();
        let mut prepared = crate::grant::honest(request.get_ref());
        if let Some(lie) = script.lie {
            lie(&mut prepared);
        }
        script.prepared = Some(request.into_inner());
        Ok(Response::new(prepared))
    }

    async fn commit_grant(
        &self,
        request: Request<CommitGrantRequest>,
    ) -> Result<Response<CommitGrantResponse>, Status> {
        let mut script = self.0.lock().unwrap();
        let consent_seq = request.get_ref().consent_seq + 1;
        script.committed.push(request.into_inner());
        if script.committed.len() <= script.unknown {
            return Err(refusal(Code::Unavailable, "COMMIT_UNKNOWN"));
        }
        Ok(Response::new(CommitGrantResponse { answer: None, consent_seq, height: 9 }))
    }

    async fn cancel_replacement(
        &self,
        request: Request<CancelReplacementRequest>,
    ) -> Result<Response<CancelReplacementResponse>, Status> {
        self.0.lock().unwrap().cancelled = Some(request.into_inner());
        Ok(Response::new(CancelReplacementResponse { answer: None, height: 11 }))
    }

    async fn replace_control_key(
        &self,
        request: Request<ReplaceControlKeyRequest>,
    ) -> Result<Response<ReplaceControlKeyResponse>, Status> {
        self.0.lock().unwrap().replaced = Some(request.into_inner());
        Ok(Response::new(ReplaceControlKeyResponse { answer: None, effective_ms: 1_767_225_600_000 }))
    }

    async fn list_notices(
        &self,
        request: Request<ListNoticesRequest>,
    ) -> Result<Response<ListNoticesResponse>, Status> {
        Ok(Response::new(self.0.lock().unwrap().glass.notices(request.into_inner())))
    }
}

#[tonic::async_trait]
impl AuditService for Told {
    type ExportLedgerStream = Answers<ExportLedgerResponse>;
    async fn export_ledger(
        &self,
        _: Request<ExportLedgerRequest>,
    ) -> Result<Response<Self::ExportLedgerStream>, Status> {
        let export = std::mem::take(&mut self.0.lock().unwrap().export);
        Ok(Response::new(Box::pin(tokio_stream::iter(export))))
    }
    async fn get_block(
        &self,
        request: Request<GetBlockRequest>,
    ) -> Result<Response<GetBlockResponse>, Status> {
        let script = self.0.lock().unwrap();
        let block = script.blocks.get(request.get_ref().height as usize - 1).cloned();
        block.map(Response::new).ok_or_else(|| refusal(Code::NotFound, "NO_SUCH_BLOCK"))
    }
}

/// A node's folder, and a server with its certificate that answers as told until it is dropped.
pub struct Node {
    folder: tempfile::TempDir,
    pub told: Told,
    pub url: String,
    _runtime: tokio::runtime::Runtime,
}

impl Node {
    pub fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("birch");
        let dir_text = dir.to_str().unwrap();
        let arguments =
            ["init", "--dir", dir_text, "--organization", "birch", "--name", "Birch", "--chain-id", CHAIN];
        assent(&arguments).exits(0);
        assent(&["keys", "issue", "--dir", dir_text, "--role", "crm", "--name", "desk"]).exits(0);

        let read = |name: &str| std::fs::read(dir.join(name)).unwrap();
        let tls = ServerTlsConfig::new()
            .identity(Identity::from_pem(read("tls/node.pem"), read("tls/node.key")))
            .client_ca_root(Certificate::from_pem(read("tls/ca.pem")))
            .client_auth_optional(true);
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let told = Told::default();
        let guard = runtime.enter();
        let incoming = TcpIncoming::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let url = format!("https://{}", incoming.local_addr().unwrap());
        let server = Server::builder()
            .tls_config(tls)
            .unwrap()
            .add_service(DecisionServiceServer::new(told.clone()))
            .add_service(ExchangeServiceServer::new(told.clone()))
            .add_service(PatientServiceServer::new(told.clone()))
            .add_service(ReceiptServiceServer::new(told.clone()))
            .add_service(AuditServiceServer::new(told.clone()))
            .add_service(PolicyServiceServer::new(told.clone()))
            .add_service(ReviewServiceServer::new(told.clone()));
        runtime.spawn(server.serve_with_incoming(incoming));
        drop(guard);
        Self { folder, told, url, _runtime: runtime }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    /// Runs a command as the CRM's front desk.
    pub fn crm(&self, arguments: &[&str]) -> Run {
        let profile = self.text("birch/clients/crm-desk/profile.toml");
        assent(&[arguments, &["--profile", &profile, "--node", &self.url]].concat())
    }

    fn check(&self) -> Run {
        self.crm(&[&["check", "--output", "json"], QUERY].concat())
    }

    fn request(&self, chain: &Chain, actor: &str) -> Run {
        let (out, hash) = (self.text("out"), chain.genesis_hash());
        let more = ["--actor", actor, "--out", &out, "--genesis-hash", &hash, "--output", "json"];
        self.crm(&[&["request"], QUERY, &more].concat())
    }
}

pub const QUERY: &[&str] = &[
    "--custodian",
    "cedar",
    "--identifier",
    "urn:x:mrn|17",
    "--birth-date",
    "2000-02-29",
    "--purpose",
    "TREAT",
];

fn refusal(code: Code, reason: &str) -> Status {
    let details = ErrorDetails::with_error_info(reason, "assent", [("k".to_owned(), "v".to_owned())]);
    Status::with_error_details(code, "said by the node", details)
}

fn release(chain: &Chain, n: usize) -> Messages {
    let first = RequestRecordsResponse { proof: Some(chain.receipt(n)), ..Default::default() };
    let rest = chain
        .resources
        .iter()
        .map(|resource| RequestRecordsResponse { resources: vec![resource.clone()], ..Default::default() });
    std::iter::once(first).chain(rest).map(Ok).collect()
}

#[test]
fn a_refusal_has_the_exit_code_and_the_reason_of_its_kind() {
    let node = Node::start();
    let json = node.check().exits(0).json();
    assert_eq!((&json["outcome"], &json["may_be_incomplete"]), (&"PERMIT".into(), &true.into()));
    for (code, reason, exit) in [
        (Code::PermissionDenied, "NOT_RELEASED", 5),
        (Code::PermissionDenied, "WRONG_ROLE", 8),
        (Code::Unauthenticated, "NO_CERTIFICATE", 8),
        (Code::Unavailable, "NOT_FRESH", 7),
        (Code::DeadlineExceeded, "TOO_LATE", 7),
        (Code::NotFound, "NO_SUBJECT", 6),
        (Code::InvalidArgument, "UNKNOWN_PURPOSE", 2),
        (Code::Internal, "BUG", 1),
    ] {
        node.told.set(|script| script.check = Some(refusal(code, reason)));
        let run = node.check().exits(exit);
        let json = run.json();
        assert_eq!((&json["error"]["reason"], &json["error"]["exit"]), (&reason.into(), &exit.into()));
        assert!(run.err.starts_with(&format!("error: said by the node [{reason}]\nhelp: ")), "{run:?}");
    }
    // Another domain's reason is not ours, and what a node says does not reach the terminal raw.
    let details =
        ErrorDetails::with_error_info("NOT_RELEASED", "elsewhere", [("k".to_owned(), "v".to_owned())]);
    let status = Status::with_error_details(Code::PermissionDenied, "\x1b[2J", details);
    node.told.set(|script| script.check = Some(status));
    let run = node.check().exits(8);
    assert!(!run.err.contains('\x1b') && run.err.contains("[PERMISSION_DENIED]"), "{run:?}");
}

#[test]
fn a_foreign_certificate_on_either_side_is_refused() {
    let (node, other) = (Node::start(), Node::start());
    let profile = other.text("birch/clients/crm-desk/profile.toml");
    let ca = node.text("birch/tls/ca.pem");
    // The node is not the one that --ca vouches for.
    let run = assent(&[&["check", "--profile", &profile, "--node", &node.url], QUERY].concat()).exits(1);
    assert!(run.err.contains("NODE_CERTIFICATE"), "{run:?}");
    // The node is right, the client is a stranger to it.
    let run = assent(&[&["check", "--profile", &profile, "--node", &node.url, "--ca", &ca], QUERY].concat())
        .exits(8);
    assert!(run.err.contains("TLS_REFUSED"), "{run:?}");
}

#[test]
fn a_release_is_written_only_when_everything_holds() {
    let (node, chain) = (Node::start(), Chain::new(1, [3; 32], None));
    let out = node.path("out");
    let mut lies: Vec<(&str, Vec<_>)> = Vec::new();
    let edit = |change: &dyn Fn(&mut Messages)| {
        let mut messages = release(&chain, 1);
        change(&mut messages);
        messages
    };
    lies.push(("nothing", Vec::new()));
    lies.push(("no receipt", edit(&|m| drop(m.remove(0)))));
    lies.push(("a resource missing", edit(&|m| drop(m.pop()))));
    lies.push(("a resource twice", edit(&|m| m.push(m[1].clone()))));
    lies.push(("other order", edit(&|m| m.swap(1, 2))));
    lies.push(("changed byte", edit(&|m| m[1].as_mut().unwrap().resources[0][3] ^= 1)));
    lies.push(("two receipts", edit(&|m| m[1].as_mut().unwrap().proof = Some(chain.receipt(1)))));
    lies.push(("another's receipt", release(&chain, 0)));
    lies.push(("another chain", release(&Chain::new(2, [3; 32], None), 1)));
    for (what, messages) in lies {
        node.told.set(|script| script.release = messages);
        let run = node.request(&chain, "Dr Beech");
        assert_eq!(run.exit, 3, "{what}: {run:?}");
        assert!(!out.exists(), "{what}");
    }
    // A stream that breaks off.
    node.told.set(|script| script.release = edit(&|m| m[2] = Err(Status::unavailable("slot changed"))));
    let run = node.request(&chain, "Dr Beech").exits(7);
    assert!(run.err.contains("--request-id"), "{run:?}");
    assert!(!out.exists());
    assert_eq!(std::fs::read_dir(node.folder.path()).unwrap().count(), 1, "no temporary file stays");

    node.told.set(|script| script.release = release(&chain, 1));
    let json = node.request(&chain, "Dr Beech").exits(0).json();
    assert_eq!(json["access"]["resources"], 2);
    assert_eq!(std::fs::read(&out).unwrap(), chain.bundle());
    assent(&["verify", out.to_str().unwrap(), "--genesis-hash", &chain.genesis_hash()]).exits(0);
    // And never over a file that is there.
    node.request(&chain, "Dr Beech").exits(1);
}

#[test]
fn own_accesses_are_listed_over_all_pages_up_to_a_limit() {
    let node = Node::start();
    let run = node.crm(&["accesses"]).exits(0);
    assert!(run.out.starts_with("0 accesses\n"), "{run:?}");
    node.told.set(|script| script.accesses = 5);
    let json = node.crm(&["accesses", "--output", "json"]).exits(0).json();
    let ids: Vec<_> = json["accesses"].as_array().unwrap().iter().map(|a| a["request_id"].clone()).collect();
    assert_eq!(ids, ["r-0", "r-1", "r-2", "r-3", "r-4"]);
    assert_eq!((&json["more"], &json["answer"]["height"]), (&false.into(), &100.into()));
    let first = &json["accesses"][0];
    assert_eq!((&first["custodian"], &first["outcome"]), (&"cedar".into(), &"PERMIT".into()));
    assert_eq!(first["entry_hash"], "01".repeat(32));
    let json = node.crm(&["accesses", "--limit", "3", "--output", "json"]).exits(0).json();
    assert_eq!((json["accesses"].as_array().unwrap().len(), &json["more"]), (3, &true.into()));
    let run = node.crm(&["accesses", "--limit", "3"]).exits(0);
    assert!(run.out.starts_with("3 accesses, there are more") && !run.out.contains('\x1b'), "{run:?}");
    node.crm(&["accesses", "--limit", "0"]).exits(2);
    // A node that never comes to an end is not asked for ever.
    node.told.set(|script| script.endless = true);
    let run = node.crm(&["accesses"]).exits(1);
    assert!(run.err.contains("[BAD_ANSWER]"), "{run:?}");
}

#[test]
fn an_export_appears_only_when_it_is_complete() {
    let (node, chain) = (Node::start(), Chain::new(1, [3; 32], None));
    let (export, _) = chain.export();
    let out = node.text("export");
    let chunk = |bytes: &[u8]| Ok(ExportLedgerResponse { answer: None, chunk: bytes.to_vec() });
    node.told.set(|script| script.export = vec![chunk(&export[..100]), Err(Status::unavailable("stopping"))]);
    node.crm(&["audit", "export", "--out", &out]).exits(7);
    assert!(!node.path("export").exists());
    node.told.set(|script| script.export = export.chunks(100).map(chunk).collect());
    node.crm(&["audit", "export", "--out", &out]).exits(0);
    assert_eq!(std::fs::read(&out).unwrap(), export);
    assent(&["audit", "verify", &out, "--genesis-hash", &chain.genesis_hash()]).exits(0);
}

#[test]
fn a_patient_withdraws_and_sees_the_history_with_the_control_key_alone() {
    let node = Node::start();
    let (wallet, handle) = (node.text("wallet"), [3u8; 32]);
    assent(&["wallet", "create", "--out", &wallet, "--chain-id", CHAIN]).exits(0);
    assent(&["wallet", "add", &wallet, "--custodian", "cedar", "--handle", &hex::encode(handle)]).exits(0);
    let shown = assent(&["wallet", "show", &wallet, "--custodian", "cedar"]).exits(0).out;
    let mut key = [0; 32];
    hex::decode_to_slice(shown.trim(), &mut key).unwrap();

    let ca = node.text("birch/tls/ca.pem");
    let patient = |command: &str, more: &[&str]| {
        let arguments =
            [command, "--wallet", &wallet, "--custodian", "cedar", "--node", &node.url, "--ca", &ca];
        assent(&[arguments.as_slice(), more].concat())
    };
    node.told.set(|script| script.slot = Slot { withdraw_seq: 4, ..Default::default() });
    let json = patient("withdraw", &["--output", "json"]).exits(0).json();
    assert_eq!(
        (&json["height"], &json["withdraw_seq"], &json["already"]),
        (&7.into(), &4.into(), &false.into())
    );
    let (asked, withdrawn) = {
        let mut script = node.told.0.lock().unwrap();
        (script.asked.take().unwrap().proof.unwrap(), script.withdrawn.take().unwrap().withdraw.unwrap())
    };
    let parts: [&[u8]; 5] = [b"GetSlot", b"cedar", &handle, &asked.nonce, &asked.time_ms.to_be_bytes()];
    let message = framed(Context::PatientRequest, CHAIN, &parts);
    assert!(verify(&key, &message, asked.signature.as_slice().try_into().unwrap()));
    let message = withdraw_sign_bytes(CHAIN, "cedar", &handle, 4);
    assert!(verify(&key, &message, withdrawn.patient_signature.as_slice().try_into().unwrap()));

    // A slot that is frozen is not withdrawn again.
    node.told.set(|script| script.slot.frozen = true);
    let json = patient("withdraw", &["--output", "json"]).exits(0).json();
    assert_eq!(json["already"], true);
    assert!(node.told.0.lock().unwrap().withdrawn.is_none());

    let chain = Chain::new(1, handle, Some(key));
    let hash = chain.genesis_hash();
    let out = node.text("history");
    for (lie, exit) in
        [(chain.history(1), 3), (Chain::new(1, [4; 32], None).history(2), 3), (b"?".to_vec(), 3)]
    {
        node.told.set(|script| script.history = lie);
        patient("history", &["--genesis-hash", &hash, "--out", &out]).exits(exit);
        assert!(!node.path("history").exists());
    }
    node.told.set(|script| script.history = chain.history(2));
    let run = patient("history", &["--genesis-hash", &hash, "--out", &out]).exits(0);
    assert!(
        run.out.contains("2 of 2 accesses") && run.out.contains("Dr Ash") && run.out.contains("TREAT"),
        "{run:?}"
    );
    assent(&["verify", &out, "--genesis-hash", &hash]).exits(0);
    patient("history", &[]).exits(4);
}
