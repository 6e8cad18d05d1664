//! Exchanges with a dishonest other side: real nodes on one end, hand-made frames on the other.

mod custodian;
mod late;
mod recipient;

use std::time::Duration;

use assent_ledger::hash::Context;
use assent_ledger::receipt::sign_message;
use assent_node::chain::now_ms;
use assent_node::exchange::{Frame, Say, MAX_FRAME_BYTES};
use assent_node::peers::{start, Inbound, KnownPeer, PeerStream, Peers, PeersConfig};
use assent_proto::ledger::v1::{DataRequest, Signed};
use prost::Message;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::ledger::key;
use crate::net::{Net, CHAIN};
use crate::patient::SYSTEM;

pub const LIMIT: Duration = Duration::from_secs(20);

/// An organization's exchange port, without a node behind it.
pub struct Fake {
    pub peers: Peers,
    pub inbound: mpsc::Receiver<Inbound>,
    _stop: tokio_util::sync::DropGuard,
}

pub async fn fake(net: &Net, organization: &str, other: &str) -> Fake {
    let known = net.genesis.organizations.iter().map(|o| KnownPeer {
        organization: o.id.clone(),
        peer_id: o.exchange_peer_id.clone(),
        address: o.exchange_address.clone(),
    });
    let config = PeersConfig {
        secret: key(net, organization, "exchange-peer").to_bytes(),
        listen: net.config(net.index(organization)).exchange.listen,
        organization: organization.into(),
        known: known.filter(|k| k.organization != organization).collect(),
    };
    let shutdown = CancellationToken::new();
    let (peers, inbound) = start(config, shutdown.clone()).await.unwrap();
    let mut connected = peers.subscribe_connected();
    let met = connected.wait_for(|names| names.iter().any(|n| n == other));
    tokio::time::timeout(LIMIT, met).await.unwrap().unwrap();
    Fake { peers, inbound, _stop: shutdown.drop_guard() }
}

pub async fn say(stream: &mut PeerStream, say: Say) {
    stream.send(&Frame { say: Some(say) }.encode_to_vec()).await.unwrap();
}

pub async fn hear(stream: &mut PeerStream) -> Option<Say> {
    let frame = tokio::time::timeout(LIMIT, stream.recv(MAX_FRAME_BYTES)).await.unwrap();
    frame.ok().flatten().and_then(|bytes| Frame::decode(bytes.as_slice()).unwrap().say)
}

pub fn data_request(recipient: &str, value: &str) -> DataRequest {
    DataRequest {
        chain_id: CHAIN.into(),
        custodian: "cedar".into(),
        recipient: recipient.into(),
        client: format!("spiffe://{CHAIN}/org/{recipient}/crm/test"),
        actor: "Practitioner/ada".into(),
        identifier_system: SYSTEM.into(),
        identifier_value: value.into(),
        birth_date: "1980-02-03".into(),
        purpose: "TREAT".into(),
        action: "access".into(),
        resource_types: Vec::new(),
        nonce: rand::random::<[u8; 32]>().to_vec(),
        not_after_ms: now_ms() + 600_000,
        check_only: false,
        ..Default::default()
    }
}

pub fn signed(net: &Net, context: Context, organization: &str, body: Vec<u8>) -> Signed {
    sign_message(context, CHAIN, organization, &key(net, organization, "entry"), body)
}

pub fn signed_request(net: &Net, request: &DataRequest) -> Signed {
    signed(net, Context::Request, &request.recipient, request.encode_to_vec())
}
