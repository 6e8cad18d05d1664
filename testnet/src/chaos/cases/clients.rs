//! G and H: clients that repeat themselves, and peers that nobody knows.

use std::time::Duration;

use assent_ledger::entry::withdraw_sign_bytes;
use assent_ledger::hash::{framed, Context};
use assent_ledger::keys::sign;
use assent_proto::ledger::v1::Withdraw;
use assent_proto::v1::patient_service_client::PatientServiceClient;
use assent_proto::v1::{ControlProof, GetSlotRequest, WithdrawRequest};
use futures::{AsyncReadExt, StreamExt};
use libp2p::identity::Keypair;
use libp2p::{noise, tcp, yamux, Multiaddr, StreamProtocol, SwarmBuilder};
use rand::Rng;
use tonic::Code;

use super::super::patients::{consenting, control_key, CUSTODIAN, RECIPIENT};
use super::super::world::World;
use super::super::writes::What;
use super::crash::{BEFORE, HEAL_LIMIT};
use crate::client;
use crate::error::{failed, Error, While};
use crate::net::description::Client;

/// Writes that are sent again and again.
const REPLAYED: u64 = 10;
/// Times each is sent, before and after the restart.
const TIMES: u64 = 3;
/// Longest time of such a call.
const LIMIT: Duration = Duration::from_secs(10);
/// Callers with one request id.
const CALLERS: u64 = 100;
/// Strangers at each of a node's two ports.
const STRANGERS: usize = 5;
/// How long a stranger tries to open a stream.
const KNOCK: Duration = Duration::from_secs(5);

/// G4.
pub async fn replays(world: &mut World) -> Result<f64, Error> {
    world.begin_load().await?;
    tokio::time::sleep(BEFORE).await;
    let mut sent = 0u64;
    let writer = world.writer(CUSTODIAN).await?;
    for round in 0..2 {
        for n in 0..REPLAYED {
            for _ in 0..TIMES {
                let id = format!("replay-{n}");
                // All answers to one id are compared by S4.
                if let Err(status) = writer.try_once(&id, &What::One, LIMIT).await {
                    if !matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded) {
                        world.wrong(format!("replay of {id}: {:?}", status.code()));
                    }
                }
                sent += 1;
            }
        }
        if round == 0 {
            let height = world.height(RECIPIENT).await?;
            world.nodes.kill(CUSTODIAN)?;
            world.nodes.start(CUSTODIAN)?;
            world.wait_back(CUSTODIAN, height).await?;
        }
    }
    sent += replayed_withdrawal(world).await?;
    let all = world.organizations();
    world.heal("the replays", &all, HEAL_LIMIT).await?;
    Ok(sent as f64)
}

/// One withdrawal, word for word, through every node and under other request ids; and one proof, twice.
async fn replayed_withdrawal(world: &mut World) -> Result<u64, Error> {
    let name = consenting(1_000);
    let handle = world.register(vec![name.clone()], "2030-12-31").await?.concat();
    let bytes = withdraw_sign_bytes(&world.network.chain_id, CUSTODIAN, &handle, 0);
    let withdraw = Withdraw {
        custodian: CUSTODIAN.into(),
        handle: handle.clone(),
        withdraw_seq: 0,
        patient_signature: sign(&control_key(&name), &bytes).to_vec(),
    };
    let (mut sent, mut taken) = (0, 0);
    for organization in world.organizations() {
        let channel = client::connect_as_patient(&world.network, &organization).await?;
        let mut door = PatientServiceClient::new(channel);
        for n in 0..2 {
            let request_id = format!("replayed-leave-{n}");
            let answer =
                door.withdraw(WithdrawRequest { request_id, withdraw: Some(withdraw.clone()) }).await;
            taken += u64::from(answer.is_ok());
            sent += 1;
        }
    }
    if taken == 0 {
        world.wrong("no node took the withdrawal");
    }
    let proof = proof(world, &name, &handle)?;
    let channel = client::connect_as_patient(&world.network, CUSTODIAN).await?;
    let mut door = PatientServiceClient::new(channel);
    let mut codes = Vec::new();
    for _ in 0..2 {
        let answer = door.get_slot(GetSlotRequest { proof: Some(proof.clone()) }).await;
        sent += 1;
        match answer {
            Ok(answer) => {
                let seq = answer.into_inner().slot.map(|slot| slot.withdraw_seq);
                if seq != Some(1) {
                    world.wrong(format!("one withdrawal, sent {sent} times, made withdraw_seq {seq:?}"));
                }
                codes.push(Code::Ok);
            }
            Err(status) => codes.push(status.code()),
        }
    }
    if codes != [Code::Ok, Code::Unauthenticated] {
        world.wrong(format!("a proof that was used twice was answered {codes:?}"));
    }
    Ok(sent)
}

/// The patient asks for the slot, signed with the control key.
fn proof(world: &mut World, name: &str, handle: &[u8]) -> Result<ControlProof, Error> {
    let now = time::OffsetDateTime::now_utc().unix_timestamp_nanos() / 1_000_000;
    let time_ms = u64::try_from(now).during(|| "telling the time".into())?;
    let nonce: [u8; 16] = world.rng.gen();
    let parts: [&[u8]; 5] = [b"GetSlot", CUSTODIAN.as_bytes(), handle, &nonce, &time_ms.to_be_bytes()];
    let message = framed(Context::PatientRequest, &world.network.chain_id, &parts);
    Ok(ControlProof {
        custodian: CUSTODIAN.into(),
        handle: handle.to_vec(),
        nonce: nonce.to_vec(),
        time_ms,
        signature: sign(&control_key(name), &message).to_vec(),
    })
}

/// G9.
pub async fn one_id(world: &mut World) -> Result<f64, Error> {
    world.begin_load().await?;
    tokio::time::sleep(BEFORE).await;
    let organization = world.one_of(&world.organizations());
    let mut tasks = tokio::task::JoinSet::new();
    for lane in 0..4 {
        // A connection carries at most 64 calls at once.
        let writer = world.writer(&organization).await?;
        for _ in (lane..CALLERS).step_by(4) {
            let writer = writer.clone();
            tasks.spawn(async move { writer.try_once("one-id", &What::One, LIMIT).await });
        }
    }
    let mut answered = 0;
    while let Some(sent) = tasks.join_next().await {
        answered += u64::from(matches!(sent, Ok(Ok(_))));
    }
    if answered < CALLERS {
        world.wrong(format!("{answered} of {CALLERS} callers with one request id were answered"));
    }
    let handles = world.journal.lock().writes.get(&(organization.clone(), "one-id".to_owned())).cloned();
    if handles.is_none_or(|write| write.answers.len() != 1) {
        world.wrong("callers with one request id were told of different slots");
    }
    let refused = elsewhere(world, &organization).await?;
    let all = world.organizations();
    world.heal("a hundred callers", &all, HEAL_LIMIT).await?;
    Ok((answered + refused) as f64)
}

/// The same client is refused by the other nodes.
async fn elsewhere(world: &mut World, organization: &str) -> Result<u64, Error> {
    let own = world.network.client(organization, "registrar")?.clone();
    let mut refused = 0;
    for other in world.others(&[organization]) {
        let ca = world.network.client(&other, "registrar")?.ca.clone();
        let stranger = Client { ca, ..own.clone() };
        let url = world.network.node(&other)?.grpc.clone();
        // Refused while connecting, or when it calls.
        if let Ok(channel) = client::open(&url, &stranger, true).await {
            let mut writer = world.writer(organization).await?;
            writer.channel = channel;
            match writer.try_once("one-id", &What::One, LIMIT).await {
                Err(s) if matches!(s.code(), Code::PermissionDenied | Code::Unauthenticated) => {}
                sent => {
                    let code = sent.map_or_else(|status| status.code(), |_| Code::Ok);
                    world.wrong(format!("{other} answered a client of {organization} with {code:?}"));
                }
            }
        }
        refused += 1;
    }
    Ok(refused)
}

/// H2.
pub async fn knock(world: &mut World) -> Result<f64, Error> {
    world.begin_load().await?;
    tokio::time::sleep(BEFORE).await;
    let mut knocks = tokio::task::JoinSet::new();
    for node in &world.network.nodes {
        for address in [&node.consensus, &node.peer] {
            for _ in 0..STRANGERS {
                let to: Multiaddr = address.parse().during(|| format!("reading {address}"))?;
                knocks.spawn(stranger(to, world.network.chain_id.clone()));
            }
        }
    }
    let all = world.organizations();
    world.heal("strangers knocked", &all, HEAL_LIMIT).await?;
    for organization in &all {
        let connected = world.status(organization).await?.connected;
        if connected.iter().any(|other| !all.contains(other)) || connected.contains(organization) {
            world.wrong(format!("{organization} counts a stranger among {connected:?}"));
        }
    }
    let mut tried = 0u64;
    while let Some(opened) = knocks.join_next().await {
        tried += 1;
        match opened.during(|| "knocking".into())? {
            Ok(opened) if opened.is_empty() => {}
            Ok(opened) => world.wrong(format!("a stranger opened {}", opened.join(", "))),
            Err(error) => return Err(error),
        }
    }
    Ok(tried as f64)
}

/// A peer with a key of its own: the protocols that it could open a lasting stream of.
async fn stranger(to: Multiaddr, chain_id: String) -> Result<Vec<String>, Error> {
    let key = Keypair::generate_ed25519();
    let built = SwarmBuilder::with_existing_identity(key)
        .with_tokio()
        .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)
        .during(|| "making a stranger".into())?
        .with_behaviour(|_| libp2p_stream::Behaviour::new());
    let Ok(builder) = built;
    let mut swarm = builder.with_swarm_config(|c| c.with_idle_connection_timeout(KNOCK)).build();
    let mut control = swarm.behaviour().new_control();
    let Some(libp2p::multiaddr::Protocol::P2p(peer)) = to.iter().last() else {
        return failed(format!("{to} names no peer"));
    };
    swarm.dial(to.clone()).during(|| format!("dialing {to}"))?;
    let driving = tokio::spawn(async move {
        loop {
            swarm.select_next_some().await;
        }
    });
    let mut names: Vec<String> = ["entries", "status", "exchange"].map(|n| format!("/assent/1/{n}")).into();
    names.extend(["sync", "consensus", "topic-consensus"].map(|n| format!("/assent/{chain_id}/{n}/1")));
    let mut opened = Vec::new();
    for name in names {
        let Ok(protocol) = StreamProtocol::try_from_owned(name.clone()) else { continue };
        // The connection may end only after a stream was agreed on: what counts is that it ends, and unanswered.
        if let Ok(Ok(mut stream)) = tokio::time::timeout(KNOCK, control.open_stream(peer, protocol)).await {
            match tokio::time::timeout(KNOCK, stream.read(&mut [0])).await {
                Ok(Ok(0) | Err(_)) => {}
                Ok(Ok(_)) => opened.push(format!("{name} and was answered")),
                Err(_) => opened.push(format!("{name} and kept it")),
            }
        }
    }
    driving.abort();
    let _ = driving.await; // aborted
    Ok(opened)
}
