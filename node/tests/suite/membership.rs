//! Members, validators and keys that change while the network runs: everything goes by the ledger, nothing by genesis.

use std::path::Path;
use std::time::{Duration, Instant};

use assent_ledger::hash::{framed, Context};
use assent_ledger::keyfile::{from_pem, to_pem};
use assent_ledger::keys::{sign, SigningKey};
use assent_node::bft::peer_id;
use assent_node::chain::Submitter;
use assent_proto::ledger::v1::govern::Step;
use assent_proto::ledger::v1::operation::Kind;
use assent_proto::ledger::v1::propose_change::Change;
use assent_proto::ledger::v1::{
    AddOrganization, AddValidator, ApproveChange, Govern, KeyPurpose, Operation, ProposeChange,
    RemoveOrganization, RemoveValidator, ReplaceKey, RotateKey, SuspendEntryKey,
};
use assent_proto::v1::node_service_client::NodeServiceClient;
use assent_proto::v1::{GetStatusRequest, GetStatusResponse};
use prost::Message;

use crate::kill::set_policy;
use crate::net::{Net, CHAIN};

/// Longest that anything here may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// Commits may stop this long.
const LONGEST_GAP: Duration = Duration::from_secs(10);

/// A network, what each node submits with, and how many policies each custodian has recorded.
pub struct World {
    pub net: Net,
    pub submitters: Vec<Submitter>,
    written: Vec<u64>,
    longest: Duration,
}

impl World {
    pub async fn new() -> Self {
        let mut net = Net::new(4);
        let mut submitters = Vec::new();
        for i in 0..4 {
            submitters.push(net.start_with(i).await);
        }
        for i in 0..4 {
            net.ready(i).await;
        }
        Self { net, submitters, written: vec![0; 4], longest: Duration::ZERO }
    }

    pub async fn status(&self, i: usize) -> GetStatusResponse {
        let mut client = NodeServiceClient::new(self.net.client(i, "operator"));
        client.get_status(GetStatusRequest {}).await.unwrap().into_inner()
    }

    pub async fn height(&self) -> u64 {
        self.status(0).await.answer.unwrap().height
    }

    /// One policy through this node, acknowledged: a client retries what the node says may be retried.
    pub async fn write(&mut self, i: usize) {
        let (begin, n) = (Instant::now(), self.written[i] + 1);
        loop {
            match set_policy(&self.net, i, n).await {
                Ok(seq) => {
                    assert_eq!(seq, n, "lost, or done twice");
                    break;
                }
                Err(status) if status.message().contains("tcp connect") => {
                    let ended = self.net.stop(i).await;
                    panic!("{} has ended: {ended:?}", self.net.members[i].id);
                }
                Err(status) => {
                    assert!(begin.elapsed() < PATIENCE, "{}: {status}", self.net.members[i].id);
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
        self.longest = self.longest.max(begin.elapsed());
        self.written[i] = n;
    }

    /// Writes until the ledger is this high.
    pub async fn write_until(&mut self, i: usize, height: u64) {
        while self.height().await < height {
            self.write(i).await;
        }
    }

    /// One step of governance by a node's organization: the block that holds it.
    pub async fn step(&self, i: usize, step: Step) -> u64 {
        let operation = Operation { kind: Some(Kind::Govern(Govern { step: Some(step) })) };
        self.submitters[i].submit(vec![operation], Duration::from_secs(20)).await.unwrap()
    }

    /// Birch proposes, cedar and dogwood approve (and elm and fir, as far as needed): effective some blocks later.
    /// `writer` writes until then.
    pub async fn change(&mut self, number: u64, change: Change, approvals: &[usize], writer: usize) {
        let effective_height = self.height().await + 20;
        let at = self.step(0, Step::Propose(ProposeChange { effective_height, change: Some(change) })).await;
        for i in approvals {
            // A node approves what it knows of.
            while self.status(*i).await.answer.unwrap().height < at {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            self.step(*i, Step::Approve(ApproveChange { proposal: number })).await;
        }
        self.write_until(writer, effective_height).await;
    }

    /// Puts another key of a node's in the place of one, from the height that is returned on; `writer` writes until it is there.
    pub async fn rotate(&mut self, i: usize, writer: usize, file: &str, purpose: KeyPurpose) -> u64 {
        let (id, dir) = (self.net.members[i].id.clone(), self.net.members[i].dir.clone());
        let (old, new) = (key(&dir, file), SigningKey::from_bytes(&rand::random()));
        std::fs::write(dir.join(format!("keys/{file}.next.pem")), to_pem(&new).unwrap()).unwrap();
        let effective_height = self.height().await + 8;
        let public = |key: &SigningKey| key.verifying_key().to_bytes();
        let message = framed(
            Context::KeyHandover,
            CHAIN,
            &[
                id.as_bytes(),
                &(purpose as u32).to_be_bytes(),
                &public(&old),
                &public(&new),
                &effective_height.to_be_bytes(),
            ],
        );
        let step = Step::RotateKey(RotateKey {
            purpose: purpose.into(),
            new_key: public(&new).to_vec(),
            effective_height,
            old_signature: sign(&old, &message).to_vec(),
            new_signature: sign(&new, &message).to_vec(),
        });
        self.step(i, step).await;
        // Where the node itself writes across the change, what it signed with the old key dies, and the retry is signed anew.
        self.write_until(writer, effective_height + 2).await;
        let begin = Instant::now();
        while key(&dir, file) != new {
            assert!(begin.elapsed() < PATIENCE, "{file}.next.pem is not put in place");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(key(&dir, &format!("{file}.old")), old);
        assert!(!dir.join(format!("keys/{file}.next.pem")).exists());
        effective_height
    }

    /// Stops a node that was started last, and starts it again.
    async fn restart(&mut self, i: usize) {
        assert_eq!(i + 1, self.submitters.len());
        self.submitters.pop();
        self.net.stop(i).await.unwrap();
        self.submitters.push(self.net.start_with(i).await);
        self.net.ready(i).await;
    }

    /// Waits until a node's status is as wanted, writing at another.
    pub async fn until(&mut self, i: usize, what: &str, wanted: impl Fn(&GetStatusResponse) -> bool) {
        self.until_by(i, 1, what, wanted).await;
    }

    /// The same, writing at this one.
    async fn until_by(
        &mut self,
        i: usize,
        writer: usize,
        what: &str,
        wanted: impl Fn(&GetStatusResponse) -> bool,
    ) {
        let begin = Instant::now();
        loop {
            let status = self.status(i).await;
            if wanted(&status) {
                eprintln!("{what} after {:?}", begin.elapsed());
                return;
            }
            assert!(begin.elapsed() < PATIENCE, "{what}: {status:?}");
            self.write(writer).await;
        }
    }
}

pub fn signed(organization: &str) -> impl Fn(&GetStatusResponse) -> bool + '_ {
    move |status| status.validators.iter().any(|v| v.organization == organization && v.last_signed_height > 0)
}

pub fn key(dir: &Path, file: &str) -> SigningKey {
    from_pem(&std::fs::read_to_string(dir.join(format!("keys/{file}.pem"))).unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_comes_follows_votes_and_goes_while_the_others_write() {
    let mut world = World::new().await;
    let (fir, organization, validator) = world.net.join("fir");
    world.submitters.push(world.net.start_with(fir).await);
    world.written.push(0);
    world.net.says(fir, "not ready: not-a-member: fir is no member", PATIENCE).await;

    // An observer: it follows, and its own clients write through it.
    let record = organization.encode_to_vec();
    world.change(1, Change::AddOrganization(AddOrganization { organization: record }), &[1, 2], 1).await;
    world.net.ready(fir).await;
    let status = world.status(fir).await;
    assert_eq!((status.role.as_str(), status.members, status.validators.len()), ("observer", 5, 4));
    world.until(0, "birch is connected with fir", |s| s.connected.contains(&"fir".to_owned())).await;
    world.write(fir).await;
    let marker = world.net.members[fir].dir.join("data/never-voted");
    assert!(marker.exists());
    world.restart(fir).await;
    world.write(fir).await;
    assert!(marker.exists(), "it has signed nothing yet");

    // A validator, once it says by itself that it is ready.
    let add = AddValidator { organization: "fir".into(), vote_key: validator.vote_key };
    world.change(2, Change::AddValidator(add), &[1, 2], 1).await;
    world.until(0, "fir votes", signed("fir")).await;
    assert_eq!((world.status(fir).await.role.as_str(), marker.exists()), ("validator", false));
    world.restart(fir).await;
    world.write(fir).await;

    // An observer again, and it can still write.
    let remove = RemoveValidator { organization: "fir".into() };
    world.change(3, Change::RemoveValidator(remove), &[1, 2, 3], 1).await;
    world.until(0, "fir has no vote", |s| s.validators.len() == 4).await;
    world.until(fir, "fir knows it", |s| s.role == "observer").await;
    world.write(fir).await;

    // Gone: refused by everybody, and it says so itself as long as it hears of it.
    let remove = RemoveOrganization { organization: "fir".into(), successor: None };
    world.change(4, Change::RemoveOrganization(remove), &[1, 2], 1).await;
    world
        .until(0, "fir is disconnected", |s| !s.connected.contains(&"fir".to_owned()) && s.members == 4)
        .await;
    world.net.says(fir, "not ready", PATIENCE).await;
    world.write(0).await;
    eprintln!("longest write {:?}", world.longest);
    assert!(world.longest < LONGEST_GAP, "{:?}", world.longest);
}

/// Case F1, once: the ledger grows to seven validators and shrinks to four again, and commits never stop for long.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_validators_are_added_and_removed_while_clients_write() {
    let mut world = World::new().await;
    // Birch proposes, and as many others approve as it takes with so many validators.
    let approvals = |validators: usize| (1..validators * 2 / 3 + 1).collect::<Vec<_>>();
    let mut proposal = 0;
    for (n, name) in ["fir", "ginkgo", "hazel"].into_iter().enumerate() {
        let (i, organization, validator) = world.net.join(name);
        world.submitters.push(world.net.start_with(i).await);
        world.written.push(0);
        let change = Change::AddOrganization(AddOrganization { organization: organization.encode_to_vec() });
        world.change(proposal + 1, change, &approvals(4 + n), 1).await;
        let vote_key = validator.vote_key;
        let change = Change::AddValidator(AddValidator { organization: name.into(), vote_key });
        world.change(proposal + 2, change, &approvals(4 + n), 1).await;
        proposal += 2;
        world.until(0, &format!("{name} votes"), signed(name)).await;
        world.write(i).await;
    }
    assert_eq!(world.status(0).await.validators.len(), 7);
    for (n, name) in ["hazel", "ginkgo", "fir"].into_iter().enumerate() {
        let change =
            Change::RemoveOrganization(RemoveOrganization { organization: name.into(), successor: None });
        proposal += 1;
        world.change(proposal, change, &approvals(7 - n), 1).await;
        world.until(0, &format!("{name} is gone"), |s| s.validators.len() == 6 - n).await;
    }
    for i in 0..4 {
        world.write(i).await;
    }
    eprintln!("longest write {:?}", world.longest);
    assert!(world.longest < LONGEST_GAP, "{:?}", world.longest);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_key_of_a_validator_is_rotated_while_it_runs() {
    let mut world = World::new().await;
    let (cedar, dir) = (1, world.net.members[1].dir.clone());
    for (file, purpose) in [
        ("entry", KeyPurpose::Entry),
        ("vote", KeyPurpose::Vote),
        ("consensus-peer", KeyPurpose::ConsensusPeer),
        ("exchange-peer", KeyPurpose::ExchangePeer),
        ("checkpoint", KeyPurpose::Checkpoint),
    ] {
        let effective_height = world.rotate(cedar, cedar, file, purpose).await;
        let vote = key(&dir, "vote").verifying_key().to_bytes();
        let votes = move |s: &GetStatusResponse| {
            s.validators.iter().any(|v| v.vote_key == vote && v.last_signed_height > effective_height)
        };
        world.until(0, &format!("cedar votes after its {file} key was rotated"), votes).await;
        world.until(0, "birch is connected with cedar", |s| s.connected.contains(&"cedar".to_owned())).await;
        world.write(cedar).await;
    }
    eprintln!("longest write {:?}", world.longest);
    assert!(world.longest < LONGEST_GAP, "{:?}", world.longest);

    // It starts with the keys that the ledger names.
    world.submitters.clear();
    world.net.stop(cedar).await.unwrap();
    world.net.start(cedar).await;
    world.net.ready(cedar).await;
    world.write(cedar).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_suspended_organization_has_no_say_until_the_others_give_it_another_key() {
    let mut world = World::new().await;
    let (cedar, dir) = (1, world.net.members[1].dir.clone());
    world.write(cedar).await;
    // More than 1/3 of four are two.
    for voter in [0, 2] {
        world.step(voter, Step::SuspendEntryKey(SuspendEntryKey { organization: "cedar".into() })).await;
    }
    world.net.says(cedar, "not ready: no-key: the entry key of cedar is suspended", PATIENCE).await;
    let refused = set_policy(&world.net, cedar, 2).await.unwrap_err();
    assert!(refused.message().contains("suspended"), "{refused}");
    // It votes on, and the others do without its entries.
    world.write(0).await;
    world.until_by(0, 0, "cedar signs blocks", signed("cedar")).await;

    let new = SigningKey::from_bytes(&rand::random());
    std::fs::write(dir.join("keys/entry.next.pem"), to_pem(&new).unwrap()).unwrap();
    let public = new.verifying_key().to_bytes();
    // What is suspended is named by nothing.
    let parts: [&[u8]; 5] =
        [b"cedar", &(KeyPurpose::Entry as u32).to_be_bytes(), &[], &public, &0u64.to_be_bytes()];
    let replace = ReplaceKey {
        organization: "cedar".into(),
        purpose: KeyPurpose::Entry.into(),
        new_key: public.to_vec(),
        new_signature: sign(&new, &framed(Context::KeyHandover, CHAIN, &parts)).to_vec(),
    };
    world.change(1, Change::ReplaceKey(replace), &[2, 3], 0).await;
    world.net.ready(cedar).await;
    world.write(cedar).await;
    assert_eq!(key(&dir, "entry"), new);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_key_is_named_at_the_start_and_a_next_one_does_not_hurt() {
    let net = Net::new(4);
    let keys = net.members[0].dir.join("keys");
    let right = std::fs::read(keys.join("exchange-peer.pem")).unwrap();
    let other = SigningKey::from_bytes(&rand::random());
    std::fs::write(keys.join("exchange-peer.pem"), to_pem(&other).unwrap()).unwrap();
    let stop = net.try_start(0).await.err().unwrap();
    assert_eq!(stop.exit_code(), 2);
    let said = stop.to_string();
    assert!(
        said.starts_with("keys/exchange-peer.pem is not the one that the ledger has for birch"),
        "{said}"
    );
    // The right one lies beside it: it is put in place.
    std::fs::write(keys.join("exchange-peer.next.pem"), &right).unwrap();
    let running = net.restarted(0).await;
    let own = peer_id(&from_pem(&String::from_utf8(right.clone()).unwrap()).unwrap().to_bytes());
    assert_eq!(running.app.parts.peers.as_ref().unwrap().local_peer_id(), own);
    assert_eq!(std::fs::read(keys.join("exchange-peer.pem")).unwrap(), right);
    running.run(std::future::ready(())).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_no_member_says_so_and_has_no_say() {
    let mut net = Net::started(4).await;
    let (fir, _, _) = net.join("fir");
    net.start(fir).await;
    net.says(fir, "not ready: not-a-member: fir is no member", PATIENCE).await;
    for i in 0..4 {
        assert!(net.readyz(i).await.starts_with("ready"), "{}", net.members[i].id);
    }
    assert_eq!(set_policy(&net, 0, 1).await.unwrap(), 1);
    let metrics = net.http(0, "/metrics").await;
    for line in ["assent_members 4", "assent_validators 4", "assent_validator 1"] {
        assert!(metrics.lines().any(|l| l == line), "{line}");
    }
    assert!(net.http(fir, "/metrics").await.lines().any(|l| l == "assent_validator 0"));
}
