//! A validator that signs two votes in one round: every other node sees it, says so, and the ledger has it once.
//!
//! The liar is played: a swarm with Elm's peer key publishes what Elm's vote key signs.

use std::time::{Duration, Instant};

use assent_ledger::audit::{parse_head, verify_export, RecordKind, EXPORT_MAGIC};
use assent_ledger::block::apply_genesis;
use assent_ledger::certificate::vote_sign_bytes;
use assent_ledger::conviction::{make_evidence_file, verify_evidence_file, EVIDENCE_MAGIC};
use assent_ledger::entry::{check_entry, sign_entry};
use assent_ledger::evidence::{conflicting_votes, verify_evidence, OffenceKind};
use assent_ledger::execute::{execute_entry, Moment, Signatures};
use assent_ledger::keys::{sign, SigningKey};
use assent_ledger::state::{MemoryState, Overlay};
use assent_node::config::NodeKeys;
use assent_proto::ledger::v1::operation::Kind;
use assent_proto::ledger::v1::{Block, EntryBody, Operation, ReportEvidence, Vote, VoteType};
use futures::StreamExt;
use libp2p::gossipsub::{IdentTopic, PublishError};
use prost::Message;
use tokio::sync::mpsc;

use crate::bad_input::gossip::played;
use crate::exchange::LIMIT;
use crate::kill::{spawn, Process};
use crate::{bft, net};

/// A vote on the wire of the engine's messages.
#[derive(Clone, PartialEq, prost::Message)]
struct VoteWire {
    #[prost(uint32, tag = "1")]
    kind: u32,
    #[prost(uint64, tag = "2")]
    height: u64,
    #[prost(uint32, tag = "3")]
    round: u32,
    #[prost(bytes = "vec", optional, tag = "4")]
    value: Option<Vec<u8>>,
    #[prost(bytes = "vec", tag = "5")]
    address: Vec<u8>,
    #[prost(bytes = "vec", tag = "6")]
    signature: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ConsensusWire {
    #[prost(message, optional, tag = "1")]
    vote: Option<VoteWire>,
}

/// Two prevotes of one round: votes and signatures.
fn two_votes(chain_id: &str, key: &SigningKey, height: u64) -> [(Vote, Vec<u8>); 2] {
    [1, 2].map(|n| {
        let vote = Vote {
            r#type: VoteType::Prevote.into(),
            height,
            round: 0,
            header_hash: Some(vec![n; 32]),
            address: key.verifying_key().to_bytes().to_vec(),
        };
        let signature = sign(key, &vote_sign_bytes(chain_id, &vote)).to_vec();
        (vote, signature)
    })
}

fn evidence(votes: &[(Vote, Vec<u8>); 2]) -> ReportEvidence {
    let [(one, first), (other, second)] = votes;
    conflicting_votes((one, first), (other, second))
}

fn on_the_wire((vote, signature): &(Vote, Vec<u8>)) -> Vec<u8> {
    let vote = VoteWire {
        kind: vote.r#type as u32,
        height: vote.height,
        round: vote.round,
        value: vote.header_hash.clone(),
        address: vote.address.clone(),
        signature: signature.clone(),
    };
    ConsensusWire { vote: Some(vote) }.encode_to_vec()
}

/// Publishes the votes from a liar's swarm until the test is done with it.
fn publish(secret: [u8; 32], chain_id: &str, others: &[(u16, [u8; 32])], votes: &[(Vote, Vec<u8>); 2]) {
    let mut swarm = played(secret, chain_id, others);
    let topic = IdentTopic::new(format!("/assent/{chain_id}/topic-consensus/1"));
    swarm.behaviour_mut().gossipsub.subscribe(&topic).unwrap();
    let messages: Vec<Vec<u8>> = votes.iter().map(on_the_wire).collect();
    tokio::spawn(async move {
        let mut tick = tokio::time::interval(Duration::from_millis(100));
        loop {
            tokio::select! {
                _ = swarm.select_next_some() => {}
                _ = tick.tick() => for message in &messages {
                    match swarm.behaviour_mut().gossipsub.publish(topic.hash(), message.clone()) {
                        Ok(_)
                        | Err(PublishError::Duplicate)
                        | Err(PublishError::NoPeersSubscribedToTopic)
                        | Err(PublishError::AllQueuesFull(_)) => {}
                        Err(error) => panic!("{error}"),
                    }
                },
            }
        }
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_engine_tells_of_a_validator_that_votes_twice() {
    let mut net = bft::Net::new(0);
    let mut queues = Vec::new();
    for index in [0, 1, 2] {
        let (found, queue) = mpsc::channel(8);
        net.evidence[index] = Some(found);
        queues.push(queue);
        net.start(index).await;
    }
    net.work_until(5);
    net.reached(&[0, 1, 2], 5).await;
    tokio::time::sleep(Duration::from_millis(500)).await;

    let votes = two_votes(bft::CHAIN, &net.key(3), net.highest() + 1);
    let others = [0, 1, 2].map(|index| (net.ports[index], bft::Net::secret(index)));
    publish(bft::Net::secret(3), bft::CHAIN, &others, &votes);
    for queue in &mut queues {
        let told = tokio::time::timeout(LIMIT, queue.recv()).await.expect("nothing was told").unwrap();
        assert_eq!(told, evidence(&votes));
        let offence = verify_evidence(bft::CHAIN, &told).unwrap();
        assert_eq!(
            (offence.kind, offence.validator.to_vec()),
            (OffenceKind::Prevotes, votes[0].0.address.clone())
        );
    }
    // The others go on, and nobody else is accused.
    let target = net.highest() + 10;
    net.work_until(target);
    net.reached(&[0, 1, 2], target).await;
    net.assert_same_chain();
    for queue in &mut queues {
        assert!(queue.try_recv().is_err());
    }
    for index in [0, 1, 2] {
        net.stop(index).await;
    }
}

/// All evidence in an export, and its last height.
fn reported_and_height(export: &[u8]) -> (Vec<ReportEvidence>, u64) {
    let mut rest = &export[EXPORT_MAGIC.len()..];
    let (mut found, mut height) = (Vec::new(), 0);
    while let Some(head) = rest.first_chunk::<5>() {
        let (kind, len) = parse_head(*head).unwrap();
        let payload = &rest[5..5 + len];
        rest = &rest[5 + len..];
        if kind != RecordKind::Block {
            continue;
        }
        height += 1;
        for entry in Block::decode(payload).unwrap().entries {
            let operations = check_entry(net::CHAIN, &entry).unwrap().body.operations;
            found.extend(operations.into_iter().filter_map(|operation| match operation.kind {
                Some(Kind::ReportEvidence(evidence)) => Some(evidence),
                _ => None,
            }));
        }
    }
    (found, height)
}

/// What the rules of this ledger say to a report: none when they take it.
fn refused(net: &net::Net, report: &Operation) -> Option<&'static str> {
    let (tip, state, _) = apply_genesis(&net.genesis).unwrap();
    let state = MemoryState(state);
    let body = EntryBody {
        chain_id: net::CHAIN.into(),
        author: "birch".into(),
        sequence: 1,
        not_after_ms: tip.time_ms + 1,
        operations: vec![report.clone()],
    };
    let key = NodeKeys::read(&net.config(net.index("birch")).keys_dir).unwrap().entry;
    let entry = check_entry(net::CHAIN, &sign_entry(&key, &body)).unwrap();
    // A height that no evidence of this test is above.
    let at = Moment { chain_id: net::CHAIN, height: 1_000, time_ms: tip.time_ms };
    let outcome = execute_entry(&mut Overlay::new(&state), at, &entry, &mut Signatures::Immediate);
    outcome.err().map(|error| error.reason())
}

/// Three real processes, for their engines count what the guard's tests must not find in this one.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_validator_that_votes_twice_stands_in_the_ledger_once() {
    let net = net::Net::new(4);
    let elm = net.index("elm");
    let honest: Vec<usize> = (0..4).filter(|i| *i != elm).collect();
    let keys = |i: usize| NodeKeys::read(&net.config(i).keys_dir).unwrap();
    let _processes: Vec<Process> = honest.iter().map(|i| spawn(&net.members[*i].dir, None)).collect();
    let mut others = Vec::new();
    for i in &honest {
        net.ready(*i).await;
        let listen = net.config(*i).consensus.listen;
        let port = listen.rsplit('/').next().unwrap().parse::<u16>().unwrap();
        others.push((port, keys(*i).consensus_peer.to_bytes()));
    }
    // The height may be decided before the votes come: then it is the one before the next.
    let height = reported_and_height(&net.export(honest[0]).await).1 + 1;
    let votes = two_votes(net::CHAIN, &keys(elm).vote, height);
    publish(keys(elm).consensus_peer.to_bytes(), net::CHAIN, &others, &votes);
    for i in &honest {
        let begin = Instant::now();
        while !net.http(*i, "/metrics").await.lines().any(|line| line == "assent_evidence_total 1") {
            assert!(begin.elapsed() < LIMIT, "{} sees no equivocation", net.members[*i].id);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    let report = Operation { kind: Some(Kind::ReportEvidence(evidence(&votes))) };
    if let Some(reason) = refused(&net, &report) {
        assert_eq!(reason, "GOVERNANCE_NOT_EXECUTED");
        assert_eq!(reported_and_height(&net.export(honest[0]).await).0, []);
        return;
    }
    let begin = Instant::now();
    while reported_and_height(&net.export(honest[0]).await).0.is_empty() {
        assert!(begin.elapsed() < LIMIT, "nobody's report is committed");
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    // The other reports come to nothing: a few blocks later there still is one.
    let later = reported_and_height(&net.export(honest[0]).await).1 + 3;
    while reported_and_height(&net.export(honest[1]).await).1 < later {
        assert!(begin.elapsed() < 2 * LIMIT, "the ledger stands still");
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    let export = net.export(honest[1]).await;
    assert_eq!(verify_export(&export, Some(net.genesis.hash), |_| {}).1, Ok(()));
    assert_eq!(reported_and_height(&export).0, [evidence(&votes)]);
    let (file, _) =
        make_evidence_file(&net.genesis, &Default::default(), &[], &[], &evidence(&votes)).unwrap();
    let conviction =
        verify_evidence_file(&net.genesis.hash, &Default::default(), &file[EVIDENCE_MAGIC.len()..]).unwrap();
    assert_eq!(conviction.organization, "elm");
}
