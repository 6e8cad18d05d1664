//! `assent governance` and `assent keys rotate`: what they send and sign, and what they say.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use assent_ledger::governance::handover_sign_bytes;
use assent_ledger::keys::verify;
use assent_ledger::peer_id::peer_id;
use assent_proto::ledger::v1::propose_change::Change;
use assent_proto::ledger::v1::{
    scheduled_change, KeyPurpose, Membership, OpenProposal, Organization, ProposeChange, ScheduledChange,
    Suspension, Validator, ValidatorSet,
};
use assent_proto::v1::governance_service_server::{GovernanceService, GovernanceServiceServer};
use assent_proto::v1::node_service_server::{NodeService, NodeServiceServer};
use assent_proto::v1::*;
use prost::Message;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status};

use crate::program::{assent, Run};

const NET: &str = "net-1";

/// What the node answers, and what it was asked.
#[derive(Default)]
struct Script {
    members: Membership,
    proposed: Vec<ProposeRequest>,
    approved: Vec<ApproveRequest>,
    suspended: Vec<SuspendRequest>,
    rotated: Vec<RotateKeyRequest>,
}

#[derive(Clone, Default)]
struct Told(Arc<Mutex<Script>>);

fn at(height: u64) -> Option<Answer> {
    Some(Answer { height, time_ms: 1_767_225_600_000, token: "t".into() })
}

#[tonic::async_trait]
impl GovernanceService for Told {
    async fn propose(&self, asked: Request<ProposeRequest>) -> Result<Response<ProposeResponse>, Status> {
        self.0.lock().unwrap().proposed.push(asked.into_inner());
        Ok(Response::new(ProposeResponse { answer: at(8), height: 8, proposal: 3, effective_height: 0 }))
    }
    async fn approve(&self, asked: Request<ApproveRequest>) -> Result<Response<ApproveResponse>, Status> {
        self.0.lock().unwrap().approved.push(asked.into_inner());
        Ok(Response::new(ApproveResponse { answer: at(9), height: 9, effective_height: 107 }))
    }
    async fn suspend(&self, asked: Request<SuspendRequest>) -> Result<Response<SuspendResponse>, Status> {
        self.0.lock().unwrap().suspended.push(asked.into_inner());
        Ok(Response::new(SuspendResponse { answer: at(9), height: 9, suspended: true }))
    }
    async fn rotate_key(
        &self,
        asked: Request<RotateKeyRequest>,
    ) -> Result<Response<RotateKeyResponse>, Status> {
        let asked = asked.into_inner();
        let effective_height = asked.rotation.as_ref().unwrap().effective_height;
        self.0.lock().unwrap().rotated.push(asked);
        Ok(Response::new(RotateKeyResponse { answer: at(9), height: 9, effective_height }))
    }
    async fn set_addresses(
        &self,
        _: Request<SetAddressesRequest>,
    ) -> Result<Response<SetAddressesResponse>, Status> {
        Err(Status::unimplemented("not asked for"))
    }
    async fn get_membership(
        &self,
        _: Request<GetMembershipRequest>,
    ) -> Result<Response<GetMembershipResponse>, Status> {
        let membership = Some(self.0.lock().unwrap().members.clone());
        Ok(Response::new(GetMembershipResponse { answer: at(7), membership }))
    }
}

#[tonic::async_trait]
impl NodeService for Told {
    async fn get_status(&self, _: Request<GetStatusRequest>) -> Result<Response<GetStatusResponse>, Status> {
        Ok(Response::new(GetStatusResponse { answer: at(7), chain_id: NET.into(), ..Default::default() }))
    }
}

struct Node {
    folder: tempfile::TempDir,
    told: Told,
    url: String,
    _runtime: tokio::runtime::Runtime,
}

impl Node {
    /// The node of Birch, which is a member with a vote; Cedar has a folder and is not.
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for name in ["birch", "cedar"] {
            let dir = path(name);
            let dir = dir.to_str().unwrap();
            assent(&["init", "--dir", dir, "--organization", name, "--name", name, "--chain-id", NET])
                .exits(0);
        }
        let dir = path("birch");
        assent(&["keys", "issue", "--dir", dir.to_str().unwrap(), "--role", "operator", "--name", "ops"])
            .exits(0);
        let read = |name: &str| std::fs::read(dir.join(name)).unwrap();
        let tls = ServerTlsConfig::new()
            .identity(Identity::from_pem(read("tls/node.pem"), read("tls/node.key")))
            .client_ca_root(Certificate::from_pem(read("tls/ca.pem")))
            .client_auth_optional(true);
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let told = Told::default();
        told.0.lock().unwrap().members = members(&read("card.json"));
        let guard = runtime.enter();
        let incoming = TcpIncoming::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let url = format!("https://{}", incoming.local_addr().unwrap());
        let server = Server::builder()
            .tls_config(tls)
            .unwrap()
            .add_service(GovernanceServiceServer::new(told.clone()))
            .add_service(NodeServiceServer::new(told.clone()));
        runtime.spawn(server.serve_with_incoming(incoming));
        drop(guard);
        Self { folder, told, url, _runtime: runtime }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    fn run(&self, arguments: &[&str]) -> Run {
        let profile = self.text("birch/clients/operator-ops/profile.toml");
        assent(&[arguments, ["--profile", &profile, "--node", &self.url].as_slice()].concat())
    }
}

fn members(card: &[u8]) -> Membership {
    let card: serde_json::Value = serde_json::from_slice(card).unwrap();
    let bytes = |field: &str| hex::decode(card[field].as_str().unwrap()).unwrap();
    let text = |field: &str| card[field].as_str().unwrap().to_owned();
    let birch = Organization {
        id: "birch".into(),
        name: "Birch".into(),
        entry_key: bytes("entry_key"),
        consensus_peer_id: text("consensus_peer_id"),
        exchange_peer_id: text("exchange_peer_id"),
        checkpoint_key: bytes("checkpoint_key"),
        ..Default::default()
    };
    let elm = Organization { id: "elm".into(), name: "El\u{1b}m".into(), ..Default::default() };
    let vote = Validator { organization: "birch".into(), vote_key: bytes("vote_key"), power: 1 };
    let remove =
        Change::RemoveValidator(assent_proto::ledger::v1::RemoveValidator { organization: "elm".into() });
    let open = OpenProposal {
        number: 2,
        proposer: "birch".into(),
        change: Some(ProposeChange { effective_height: 99, change: Some(remove) }),
        approvals: vec!["birch".into()],
    };
    Membership {
        validators: Some(ValidatorSet { validators: vec![vote], ..Default::default() }),
        organizations: vec![birch, elm],
        proposals: vec![open],
        scheduled: vec![ScheduledChange {
            effective_height: 50,
            kind: Some(scheduled_change::Kind::Suspended("gorse".into())),
        }],
        suspensions: vec![Suspension { organization: "elm".into(), votes: vec!["birch".into()] }],
        ..Default::default()
    }
}

#[test]
fn the_list_shows_everything_on_its_way() {
    let node = Node::start();
    let run = node.run(&["governance", "list"]).exits(0);
    for part in [
        "birch",
        "votes",
        "ENTRY KEY SUSPENDED",
        "remove-validator elm",
        "99",
        "entry key of gorse stops",
        "50",
    ] {
        assert!(run.out.contains(part), "{part}: {}", run.out);
    }
    assert!(!run.out.contains('\u{1b}'));
    let json = node.run(&["governance", "list", "--output", "json"]).exits(0).json();
    assert_eq!(json["proposals"][0]["approvals"][0], "birch");
    assert_eq!(
        (&json["scheduled"][0]["effective_height"], &json["answer"]["height"]),
        (&50.into(), &7.into())
    );
}

#[test]
fn what_is_proposed_is_what_the_card_and_the_flags_say() {
    let node = Node::start();
    let card = node.text("cedar/card.json");
    let run = node.run(&["governance", "propose", "add-organization", &card]).exits(0);
    assert!(run.out.contains("waits for approval"), "{}", run.out);
    node.run(&["governance", "propose", "add-validator", &card, "--at-height", "30"]).exits(0);
    let remove = ["governance", "propose", "remove-organization", "elm", "--successor", "birch"];
    node.run(&remove).exits(0);
    node.run(&["governance", "propose", "remove-validator", "Elm"]).exits(2);
    let proposed: Vec<ProposeChange> =
        node.told.0.lock().unwrap().proposed.iter().map(|p| p.change.clone().unwrap()).collect();
    let heights: Vec<u64> = proposed.iter().map(|p| p.effective_height).collect();
    assert_eq!(heights, [107, 30, 107]);
    let keys = assent(&["keys", "show", "--dir", &node.text("cedar"), "--output", "json"]).exits(0).json();
    match proposed[0].change.as_ref().unwrap() {
        Change::AddOrganization(op) => {
            let record = Organization::decode(op.organization.as_slice()).unwrap();
            assert_eq!(
                (record.id.as_str(), hex::encode(record.entry_key)),
                ("cedar", keys["entry_key"].as_str().unwrap().to_owned())
            );
        }
        other => panic!("{other:?}"),
    }
    match proposed[1].change.as_ref().unwrap() {
        Change::AddValidator(op) => assert_eq!(hex::encode(&op.vote_key), keys["vote_key"].as_str().unwrap()),
        other => panic!("{other:?}"),
    }
    match proposed[2].change.as_ref().unwrap() {
        Change::RemoveOrganization(op) => assert_eq!(op.successor.as_deref(), Some("birch")),
        other => panic!("{other:?}"),
    }
}

#[test]
fn votes_are_sent_and_their_effect_is_said() {
    let node = Node::start();
    let run = node.run(&["governance", "approve", "3"]).exits(0);
    assert!(run.out.contains("height 107"), "{}", run.out);
    let json = node.run(&["governance", "suspend", "elm", "--output", "json"]).exits(0).json();
    assert_eq!((&json["suspended"], &json["organization"]), (&true.into(), &"elm".into()));
    let script = node.told.0.lock().unwrap();
    assert_eq!((script.approved[0].proposal, script.suspended[0].organization.as_str()), (3, "elm"));
}

#[test]
fn a_rotation_is_signed_by_both_keys_and_a_second_try_uses_the_same_key() {
    let node = Node::start();
    let dir = node.text("birch");
    for (purpose, kind) in [("vote", KeyPurpose::Vote), ("consensus-peer", KeyPurpose::ConsensusPeer)] {
        let rotate = ["keys", "rotate", purpose, "--dir", &dir, "--at-height", "40"];
        let run = node.run(&rotate).exits(0);
        assert!(run.out.contains("height 40"), "{}", run.out);
        node.run(&rotate).exits(0);
        let path = node.path(&format!("birch/keys/{purpose}.next.pem"));
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let shown = assent(&["keys", "show", path.to_str().unwrap(), "--output", "json"]).exits(0).json();
        let old = format!("{dir}/keys/{purpose}.pem");
        let old = assent(&["keys", "show", &old, "--output", "json"]).exits(0).json();
        let bytes = |json: &serde_json::Value| {
            <[u8; 32]>::try_from(hex::decode(json["public_key"].as_str().unwrap()).unwrap()).unwrap()
        };
        let (old, new) = (bytes(&old), bytes(&shown));
        assert_eq!(shown["peer_id"], peer_id(&new));
        let message = handover_sign_bytes(NET, "birch", kind, &old, &new, 40);
        for asked in node.told.0.lock().unwrap().rotated.drain(..) {
            let rotation = asked.rotation.unwrap();
            assert_eq!(rotation.new_key, new);
            assert!(verify(&old, &message, &rotation.old_signature.try_into().unwrap()));
            assert!(verify(&new, &message, &rotation.new_signature.try_into().unwrap()));
        }
    }
    let ca = ["keys", "rotate", "certificate-authority", "--dir", &dir];
    node.run(&ca).exits(0);
    let rotation = node.told.0.lock().unwrap().rotated[0].rotation.clone().unwrap();
    assert!(rotation.new_key.starts_with(&[0x30]) && rotation.old_signature.is_empty());
    assert!(node.path("birch/keys/certificate-authority.next.key").exists());
    // Another organization's folder: not the key on the ledger; nothing is made.
    std::fs::copy(node.path("cedar/keys/entry.pem"), node.path("birch/keys/entry.pem")).unwrap();
    let run = node.run(&["keys", "rotate", "entry", "--dir", &dir]).exits(1);
    assert!(run.err.contains("KEY_MISMATCH"), "{}", run.err);
    assert!(!node.path("birch/keys/entry.next.pem").exists());
    node.run(&["keys", "rotate", "vault", "--dir", &dir]).exits(2);
}

#[test]
fn a_handover_of_a_suspended_key_goes_from_the_member_to_the_voters() {
    let node = Node::start();
    let (key, out) = (node.text("new.pem"), node.text("handover.json"));
    assent(&["keys", "generate", "--out", &key]).exits(0);
    let handover = ["governance", "handover", "elm", "entry", &key, "--out", &out];
    node.run(&handover).exits(0);
    node.run(&handover).exits(1);
    for file in [&out, &key] {
        node.run(&["governance", "propose", "replace-key", "elm", "entry", file]).exits(0);
    }
    let wrong = node.run(&["governance", "propose", "replace-key", "elm", "checkpoint", &out]).exits(2);
    assert!(wrong.err.contains("MALFORMED_HANDOVER"), "{}", wrong.err);
    let script = node.told.0.lock().unwrap();
    assert_eq!(script.proposed.len(), 2);
    for asked in &script.proposed {
        let Some(Change::ReplaceKey(op)) = asked.change.clone().unwrap().change else { panic!("{asked:?}") };
        let new: [u8; 32] = op.new_key.clone().try_into().unwrap();
        // Elm's entry key is suspended: the old one is empty.
        let message = handover_sign_bytes(NET, "elm", KeyPurpose::Entry, &[], &new, 0);
        assert!(verify(&new, &message, &op.new_signature.try_into().unwrap()));
    }
}
