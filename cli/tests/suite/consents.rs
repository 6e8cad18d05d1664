//! `assent consent record`, `preview`, `revoke`, `mark-error`, `get`, `list`, `revisions`, `export`: what they send, and how they
//! show what a node says, over real mutual TLS.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use assent_proto::ledger::v1::{ConsentState, ContactPreferences, Grantor, LegalBasis};
use assent_proto::v1::consent_service_server::{ConsentService, ConsentServiceServer};
use assent_proto::v1::*;
use serde_json::json;
use tonic::codegen::tokio_stream::Stream;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};
use tonic::{Code, Request, Response, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::program::{assent, Run};

/// What was asked, and whether to refuse everything.
#[derive(Default)]
struct Script {
    recorded: Option<RecordConsentRequest>,
    previewed: Option<PreviewConsentRequest>,
    imported: Option<ImportConsentRequest>,
    got: Option<GetConsentRequest>,
    refuse: Option<Status>,
}

#[derive(Clone, Default)]
struct Told(Arc<Mutex<Script>>);

impl Told {
    fn set(&self, change: impl FnOnce(&mut Script)) -> Result<(), Status> {
        let mut script = self.0.lock().unwrap();
        change(&mut script);
        script.refuse.clone().map_or(Ok(()), Err)
    }
}

fn answer() -> Option<Answer> {
    Some(Answer { height: 9, time_ms: 1_800_000_000_000, token: "t".into() })
}

const RULE: &str = "Permit access by organization urn:assent:organization|birch for TREAT from 2026-01-01 through 2030-12-31, unless a rule below denies it.";

fn record(n: u64) -> ConsentRecord {
    ConsentRecord {
        consent_id: format!("c-{n}"),
        revision: 2,
        state: ConsentState::Revoked.into(),
        expired: true,
        rules: vec![RULE.into()],
        consent_seq: 4,
        height: 7,
        time_ms: 1_790_000_000_000,
        commitment: vec![0xab; 32],
        grantor: Some(Grantor {
            authority: "par\x1bent".into(),
            evidence_sha256: vec![1; 32],
            valid_until_ms: 1_900_000_000_000,
        }),
        legal_basis: LegalBasis::Part2Specific.into(),
        supersedes: vec!["c-0".into()],
        unresolved: false,
        confidential: true,
    }
}

/// Five in all, two a page.
fn page(token: &str, size: u32) -> (Vec<ConsentRecord>, String) {
    let from: u64 = token.parse().unwrap_or_default();
    let to = 5.min(from + u64::from(size.min(2)));
    ((from..to).map(record).collect(), if to < 5 { to.to_string() } else { String::new() })
}

type Changes = Pin<Box<dyn Stream<Item = Result<WatchConsentsResponse, Status>> + Send>>;

#[tonic::async_trait]
impl ConsentService for Told {
    type WatchConsentsStream = Changes;

    async fn import_consent(
        &self,
        request: Request<ImportConsentRequest>,
    ) -> Result<Response<ImportConsentResponse>, Status> {
        let unresolved = request.get_ref().keep_unresolved;
        self.set(|script| script.imported = Some(request.into_inner()))?;
        Ok(Response::new(ImportConsentResponse { unresolved, ..Default::default() }))
    }

    async fn record_consent(
        &self,
        request: Request<RecordConsentRequest>,
    ) -> Result<Response<RecordConsentResponse>, Status> {
        self.set(|script| script.recorded = Some(request.into_inner()))?;
        Ok(Response::new(RecordConsentResponse {
            answer: answer(),
            consent_id: "c-1".into(),
            revision: 1,
            consent_seq: 5,
            rules: vec![RULE.into()],
            handle: vec![2; 32],
        }))
    }

    async fn preview_consent(
        &self,
        request: Request<PreviewConsentRequest>,
    ) -> Result<Response<PreviewConsentResponse>, Status> {
        self.set(|script| script.previewed = Some(request.into_inner()))?;
        let probe = |purpose: &str| {
            Some(Probe {
                recipient: "birch".into(),
                purpose: purpose.into(),
                action: "access".into(),
                ..Default::default()
            })
        };
        let change = ResourceChange {
            resource: "Observation/1".into(),
            before: "NO_CONSENT".into(),
            after: "PERMIT".into(),
            decided_by: vec!["c-1/0".into()],
        };
        let neutralised = Neutralised {
            resource: "Observation/2".into(),
            outcome: "DENY".into(),
            by: vec!["c-0/1".into()],
        };
        Ok(Response::new(PreviewConsentResponse {
            answer: answer(),
            rules: vec![RULE.into()],
            still_denied: vec!["Deny any use by anyone.".into()],
            effects: vec![
                ProbeEffect { probe: probe("TREAT"), changes: vec![change], neutralised: vec![neutralised] },
                ProbeEffect { probe: probe("HPAYMT"), ..Default::default() },
            ],
        }))
    }

    async fn revoke_consent(
        &self,
        request: Request<RevokeConsentRequest>,
    ) -> Result<Response<RevokeConsentResponse>, Status> {
        self.set(|_| {})?;
        assert_eq!(request.into_inner().consent_id, "c-1");
        let still_denied = vec!["Rule 1: deny records labelled PSY, for any use by anyone.".into()];
        Ok(Response::new(RevokeConsentResponse { answer: answer(), consent_seq: 6, still_denied }))
    }

    async fn mark_consent_error(
        &self,
        _: Request<MarkConsentErrorRequest>,
    ) -> Result<Response<MarkConsentErrorResponse>, Status> {
        self.set(|_| {})?;
        Ok(Response::new(MarkConsentErrorResponse { answer: answer(), consent_seq: 7 }))
    }

    async fn get_consent(
        &self,
        request: Request<GetConsentRequest>,
    ) -> Result<Response<GetConsentResponse>, Status> {
        self.set(|script| script.got = Some(request.into_inner()))?;
        Ok(Response::new(GetConsentResponse { answer: answer(), consent: Some(record(1)) }))
    }

    async fn list_consents(
        &self,
        request: Request<ListConsentsRequest>,
    ) -> Result<Response<ListConsentsResponse>, Status> {
        let request = request.into_inner();
        let (consents, next_page_token) = page(&request.page_token, request.page_size);
        let contact_preferences =
            Some(ContactPreferences { reminder: vec!["sms".into()], ..Default::default() });
        Ok(Response::new(ListConsentsResponse {
            answer: answer(),
            consents,
            next_page_token,
            contact_preferences,
        }))
    }

    async fn list_consent_revisions(
        &self,
        request: Request<ListConsentRevisionsRequest>,
    ) -> Result<Response<ListConsentRevisionsResponse>, Status> {
        let request = request.into_inner();
        let (revisions, next_page_token) = page(&request.page_token, request.page_size);
        Ok(Response::new(ListConsentRevisionsResponse { answer: answer(), revisions, next_page_token }))
    }

    async fn export_consent(
        &self,
        request: Request<ExportConsentRequest>,
    ) -> Result<Response<ExportConsentResponse>, Status> {
        let consent = match request.into_inner().revision {
            0 => br#"{"resourceType":"Consent", "n":1.50}"#.to_vec(),
            _ => b"no JSON".to_vec(),
        };
        Ok(Response::new(ExportConsentResponse { answer: answer(), consent }))
    }

    async fn set_contact_preferences(
        &self,
        _: Request<SetContactPreferencesRequest>,
    ) -> Result<Response<SetContactPreferencesResponse>, Status> {
        Err(Status::unimplemented("not told"))
    }

    async fn watch_consents(&self, _: Request<WatchConsentsRequest>) -> Result<Response<Changes>, Status> {
        Err(Status::unimplemented("not told"))
    }

    async fn ask_consent(
        &self,
        _: Request<AskConsentRequest>,
    ) -> Result<Response<AskConsentResponse>, Status> {
        Err(Status::unimplemented("not told"))
    }

    async fn get_consent_ask(
        &self,
        _: Request<GetConsentAskRequest>,
    ) -> Result<Response<GetConsentAskResponse>, Status> {
        Err(Status::unimplemented("not told"))
    }

    async fn list_consent_asks(
        &self,
        _: Request<ListConsentAsksRequest>,
    ) -> Result<Response<ListConsentAsksResponse>, Status> {
        Err(Status::unimplemented("not told"))
    }

    async fn answer_consent_ask(
        &self,
        _: Request<AnswerConsentAskRequest>,
    ) -> Result<Response<AnswerConsentAskResponse>, Status> {
        Err(Status::unimplemented("not told"))
    }
}

/// A portal's certificate, and a server that answers as told until it is dropped.
struct Portal {
    folder: tempfile::TempDir,
    told: Told,
    url: String,
    _runtime: tokio::runtime::Runtime,
}

const PATIENT: &[&str] =
    &["--custodian", "cedar", "--identifier", "urn:x:mrn|17", "--birth-date", "2000-02-29"];

impl Portal {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("cedar");
        let text = dir.to_str().unwrap();
        assent(&["init", "--dir", text, "--organization", "cedar", "--name", "Cedar", "--chain-id", "net-1"])
            .exits(0);
        assent(&["keys", "issue", "--dir", text, "--role", "portal", "--name", "web"]).exits(0);
        let read = |name: &str| std::fs::read(dir.join(name)).unwrap();
        let tls = ServerTlsConfig::new()
            .identity(Identity::from_pem(read("tls/node.pem"), read("tls/node.key")))
            .client_ca_root(Certificate::from_pem(read("tls/ca.pem")));
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let told = Told::default();
        let guard = runtime.enter();
        let incoming = TcpIncoming::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let url = format!("https://{}", incoming.local_addr().unwrap());
        let server =
            Server::builder().tls_config(tls).unwrap().add_service(ConsentServiceServer::new(told.clone()));
        runtime.spawn(server.serve_with_incoming(incoming));
        drop(guard);
        Self { folder, told, url, _runtime: runtime }
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn run(&self, command: &str, more: &[&str]) -> Run {
        let profile = self.folder.path().join("cedar/clients/portal-web/profile.toml");
        let connection = ["--profile", profile.to_str().unwrap(), "--node", &self.url];
        assent(&[&["consent", command], PATIENT, &connection, more].concat())
    }

    fn json(&self, command: &str, more: &[&str]) -> serde_json::Value {
        self.run(command, &[more, &["--output", "json"]].concat()).exits(0).json()
    }
}

fn fits(run: &Run) {
    assert!(run.out.lines().all(|line| line.chars().count() <= 80) && !run.out.contains('\x1b'), "{run:?}");
}

#[test]
fn a_directive_is_said_in_flags() {
    let portal = Portal::start();
    let hash = "07".repeat(32);
    let flags = [
        "--permit",
        "--organization",
        "birch",
        "--organization",
        "elm",
        "--purpose",
        "TREAT",
        "--action",
        "access",
        "--until",
        "2026-12-31",
        "--except",
        "sensitivity=PSY,sensitivity=SUD",
        "--except",
        "organization=elm,type=Condition",
        "--supersedes",
        "c-0",
        "--legal-basis",
        "part2-tpo",
        "--evidence",
        &hash,
        "--authority",
        "guardian",
        "--authority-evidence",
        &hash,
        "--authority-until",
        "2027-01-01T00:00:00Z",
        "--request-id",
        "n-1",
    ];
    let run = portal.run("record", &flags).exits(0);
    fits(&run);
    assert!(run.out.contains("consent   c-1") && run.out.contains("rule: Permit access"), "{run:?}");
    let sent = portal.told.0.lock().unwrap().recorded.take().unwrap();
    assert_eq!((sent.request_id.as_str(), sent.supersedes.len()), ("n-1", 1));
    let consent = sent.consent.unwrap();
    assert_eq!((consent.legal_basis(), &consent.evidence_sha256), (LegalBasis::Part2Tpo, &vec![7; 32]));
    let grantor = consent.grantor.unwrap();
    assert_eq!((grantor.authority.as_str(), grantor.valid_until_ms), ("guardian", 1_798_761_600_000));
    let Some(new_consent::Form::Directive(directive)) = consent.form else { panic!("no directive") };
    assert_eq!(
        (directive.effect(), directive.valid_from_ms, directive.valid_until_ms),
        (Effect::Permit, 0, 1_798_761_600_000)
    );
    assert_eq!(directive.scope.unwrap().organizations, ["birch", "elm"]);
    assert_eq!(directive.exceptions[0].sensitivity, ["PSY", "SUD"]);
    assert_eq!(
        (&directive.exceptions[1].organizations[0], &directive.exceptions[1].resource_types[0]),
        (&"elm".into(), &"Condition".into())
    );

    let json = portal.json("record", &["--deny", "--request-id", "n-2"]);
    let expected = json!({
        "ok": true, "consent_id": "c-1", "revision": 1, "consent_seq": 5, "rules": [RULE],
        "handle": "02".repeat(32), "request_id": "n-2",
        "answer": { "height": 9, "time_ms": 1_800_000_000_000_u64, "token": "t" },
    });
    assert_eq!(json, expected);
}

#[test]
fn a_file_is_sent_as_it_is() {
    let portal = Portal::start();
    let text = "{ \"resourceType\": \"Consent\" }\n";
    let file = portal.file("consent.json", text);
    portal.run("record", &["--file", &file, "--lenient", "--confidential"]).exits(0);
    let sent = portal.told.0.lock().unwrap().recorded.take().unwrap().consent.unwrap();
    assert!(sent.lenient && sent.confidential && sent.grantor.is_none());
    assert_eq!(sent.form, Some(new_consent::Form::Fhir(text.into())));
    // A feed's is kept even when it is no JSON.
    let broken = portal.file("broken.json", "{");
    portal.run("import", &[&broken]).exits(2);
    let run = portal.run("import", &["--keep-unresolved", "--lenient", &broken]).exits(0);
    fits(&run);
    assert!(run.out.contains("UNRESOLVED"), "{run:?}");
    let sent = portal.told.0.lock().unwrap().imported.take().unwrap();
    assert!(sent.keep_unresolved && sent.lenient && sent.consent == b"{");
}

#[test]
fn what_is_said_badly_is_a_usage_error() {
    let portal = Portal::start();
    let file = portal.file("consent.json", "{}");
    for flags in [
        &[][..],
        &["--permit", "--deny"],
        &["--permit", "--file", &file],
        &["--file", &file, "--purpose", "TREAT"],
        &["--file", "/nowhere"],
        &["--permit", "--until", "soon"],
        &["--permit", "--except", "PSY"],
        &["--permit", "--evidence", "00"],
        &["--permit", "--legal-basis", "law"],
        &["--permit", "--authority", "parent"],
        &["--permit", "--authority-until", "2027-01-01"],
    ] {
        portal.run("record", flags).exits(2);
    }
    for flags in [
        &[][..],
        &["--permit", "--revoke", "c-1"],
        &["--revoke", "c-1", "--probe", "birch"],
        &["--revoke", "c-1", "--probe", "a:b:c:d"],
        &["--revoke", "c-1", "--actor", "Practitioner/x"],
    ] {
        portal.run("preview", flags).exits(2);
    }
    for command in ["revoke", "mark-error", "get", "revisions", "export"] {
        portal.run(command, &[]).exits(2);
    }
    assert!(portal.told.0.lock().unwrap().recorded.is_none());
}

#[test]
fn a_preview_says_what_changes_and_what_does_not() {
    let portal = Portal::start();
    let run = portal
        .run(
            "preview",
            &["--permit", "--supersedes", "c-0", "--probe", "birch:TREAT:use", "--actor", "Practitioner/x"],
        )
        .exits(0);
    fits(&run);
    let expected = "\
rule: Permit access by organization urn:assent:organization|birch for TREAT from
      2026-01-01 through 2030-12-31, unless a rule below denies it.
still denied: Deny any use by anyone.
birch for TREAT, access
  Observation/1: NO_CONSENT -> PERMIT, by c-1/0
  Observation/2: withheld all the same, DENY, by c-0/1
birch for HPAYMT, access
  nothing changes
nothing was recorded
ledger  height 9, 2027-01-15T08:00:00Z
";
    assert_eq!(run.out, expected);
    let sent = portal.told.0.lock().unwrap().previewed.take().unwrap();
    let probe = &sent.probes[0];
    assert_eq!(
        (probe.recipient.as_str(), probe.purpose.as_str(), probe.action.as_str()),
        ("birch", "TREAT", "use")
    );
    assert_eq!((probe.actor.as_str(), sent.supersedes.len()), ("Practitioner/x", 1));
    let json = portal.json("preview", &["--revoke", "c-1"]);
    assert_eq!(
        json["effects"][0]["changes"][0],
        json!({
            "resource": "Observation/1", "before": "NO_CONSENT", "after": "PERMIT", "decided_by": ["c-1/0"],
        })
    );
    assert_eq!(json["effects"][0]["neutralised"][0]["by"], json!(["c-0/1"]));
    let sent = portal.told.0.lock().unwrap().previewed.take().unwrap();
    assert_eq!(sent.change, Some(preview_consent_request::Change::Revoke("c-1".into())));
}

#[test]
fn revoking_says_what_stands() {
    let portal = Portal::start();
    let run = portal.run("revoke", &["c-1"]).exits(0);
    fits(&run);
    assert!(run.out.contains("still denied: Rule 1: deny records labelled PSY"), "{run:?}");
    assert_eq!(portal.json("revoke", &["c-1"])["still_denied"].as_array().unwrap().len(), 1);
    assert_eq!(portal.json("mark-error", &["c-1"])["consent_seq"], 7);
    for (code, reason, exit) in [
        (Code::FailedPrecondition, "CONSENT_NOT_ACTIVE", 1),
        (Code::NotFound, "CONSENT_NOT_FOUND", 6),
        (Code::PermissionDenied, "WRONG_ROLE", 8),
        (Code::Unavailable, "COMMIT_UNKNOWN", 7),
        (Code::InvalidArgument, "LEGAL_BASIS_INCOMPLETE", 2),
    ] {
        let details = ErrorDetails::with_error_info(reason, "assent", [("k".to_owned(), "v".to_owned())]);
        let refusal = Status::with_error_details(code, "said by the node", details);
        let _ = portal.told.set(|script| script.refuse = Some(refusal));
        for (command, more) in [
            ("record", "--permit"),
            ("revoke", "c-1"),
            ("mark-error", "c-1"),
            ("preview", "--deny"),
            ("get", "c-1"),
        ] {
            let run = portal.run(command, &[more, "--output", "json"]).exits(exit);
            assert_eq!(run.json()["error"]["reason"], reason);
        }
        let run = portal.run("revoke", &["c-1", "--request-id", "v-7"]).exits(exit);
        assert_eq!(run.err.contains("--request-id v-7"), exit == 7, "{run:?}");
    }
}

#[test]
fn consents_are_shown_with_their_place_in_the_ledger() {
    let portal = Portal::start();
    let more = ["--revision", "2", "--height", "7", "--for-representative", "--min-height", "8", "c-1"];
    let run = portal.run("get", &more).exits(0);
    fits(&run);
    let sent = portal.told.0.lock().unwrap().got.take().unwrap();
    assert_eq!((sent.revision, sent.height, sent.for_representative), (2, 7, true));
    assert_eq!(sent.consistency.unwrap().min_height, 8);
    let expected = "\
consent     c-1
state       REVOKED, expired, confidential
revision    2, sequence 4
recorded    height 7, 2026-09-21T14:13:20Z
granted by  par ent, until 2030-03-17T17:46:40Z
basis       PART2_SPECIFIC
supersedes  c-0
rule: Permit access by organization urn:assent:organization|birch for TREAT from
      2026-01-01 through 2030-12-31, unless a rule below denies it.
ledger  height 9, 2027-01-15T08:00:00Z
";
    assert_eq!(run.out, expected);
    let expected = json!({
        "consent_id": "c-1", "revision": 2, "state": "REVOKED", "expired": true, "rules": [RULE],
        "consent_seq": 4, "height": 7, "time_ms": 1_790_000_000_000_u64, "commitment": "ab".repeat(32),
        "grantor": { "authority": "par\u{1b}ent", "evidence_sha256": "01".repeat(32), "valid_until_ms": 1_900_000_000_000_u64 },
        "legal_basis": "PART2_SPECIFIC", "supersedes": ["c-0"], "unresolved": false, "confidential": true,
    });
    assert_eq!(portal.json("get", &["c-1"])["consent"], expected);

    for (command, name, of) in [("list", "consents", &[][..]), ("revisions", "revisions", &["c-1"])] {
        let run = portal.run(command, of).exits(0);
        fits(&run);
        assert!(run.out.starts_with(&format!("5 {name}\n")), "{run:?}");
        let json = portal.json(command, of);
        assert_eq!((json[name].as_array().unwrap().len(), &json["more"]), (5, &false.into()));
        assert_eq!(json[name][4]["consent_id"], "c-4");
        let json = portal.json(command, &[of, &["--limit", "3"]].concat());
        assert_eq!((json[name].as_array().unwrap().len(), &json["more"]), (3, &true.into()));
    }
    assert_eq!(portal.json("list", &["--standing"])["contact_preferences"]["reminder"], json!(["sms"]));
}

#[test]
fn an_export_is_printed_or_written_as_it_came() {
    let portal = Portal::start();
    let run = portal.run("export", &["c-1"]).exits(0);
    assert_eq!(run.out, "{\"resourceType\":\"Consent\", \"n\":1.50}\n");
    let out = portal.folder.path().join("out.json");
    let json = portal.json("export", &["c-1", "--out", out.to_str().unwrap()]);
    assert_eq!(json["consent"]["resourceType"], "Consent");
    assert_eq!(std::fs::read(&out).unwrap(), b"{\"resourceType\":\"Consent\", \"n\":1.50}");
    portal.run("export", &["c-1", "--out", out.to_str().unwrap()]).exits(1);
    portal.run("export", &["c-1", "--revision", "1"]).exits(1);
}
