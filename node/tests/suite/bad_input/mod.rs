//! What a node is given that it must not take: rows of `testnet/BAD_INPUT.md` that no other file has.

mod calls;
mod config;
mod consent;
pub mod gossip;
mod limits;
mod states;

use std::sync::Arc;

use assent_ledger::audit::verify_export;
use axum::http::{HeaderMap, Request};
use bytes::{BufMut, Bytes, BytesMut};
use curve25519_dalek::constants::{ED25519_BASEPOINT_POINT, EIGHT_TORSION};
use curve25519_dalek::scalar::Scalar;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tonic::Status;

use crate::net::{leaf, Net, CHAIN};

/// Certificate and key of a client of the first member.
pub fn identity(net: &Net, role: &str, name: &str) -> (String, String) {
    let member = &net.members[0];
    leaf(&member.ca, &format!("spiffe://{CHAIN}/org/{}/{role}/{name}", member.id), false, 30)
}

/// Entries in the first member's ledger.
pub async fn entries(net: &Net) -> u64 {
    let (verifier, outcome) = verify_export(&net.export(0).await, Some(net.genesis.hash), |_| {});
    assert_eq!(outcome, Ok(()));
    verifier.counts.entries
}

/// JSON of 10,000 lists, each in the one before.
pub fn deep() -> String {
    "[".repeat(10_000) + &"]".repeat(10_000)
}

/// Keys that must not be registered, and what each is.
pub fn bad_keys() -> Vec<(&'static str, [u8; 32])> {
    let mixed = ED25519_BASEPOINT_POINT * Scalar::from(77u64) + EIGHT_TORSION[1];
    let mut above_p = [0xff; 32];
    (above_p[0], above_p[31]) = (0xee, 0x7f);
    vec![
        ("small order", EIGHT_TORSION[1].compress().0),
        ("the identity", EIGHT_TORSION[0].compress().0),
        ("mixed order", mixed.compress().0),
        ("not canonical", above_p),
        ("no point", [2; 32]),
    ]
}

/// One call without a gRPC library, which would itself act upon what is sent. The status that the node gave.
pub async fn raw_call(
    net: &Net,
    (certificate, key): (String, String),
    path: &str,
    headers: &[(&'static str, &str)],
    message: &[u8],
) -> Status {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(net.members[0].ca.der().clone()).unwrap();
    let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider);
    let builder = builder.with_safe_default_protocol_versions().unwrap().with_root_certificates(roots);
    let mut tls = builder.with_client_auth_cert(chain, key).unwrap();
    tls.alpn_protocols = vec![b"h2".to_vec()];
    let address = format!("127.0.0.1:{}", net.members[0].grpc);
    let tcp = tokio::net::TcpStream::connect(&address).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(tls));
    let stream = connector.connect("localhost".try_into().unwrap(), tcp).await.unwrap();
    let (mut client, connection) = h2::client::handshake(stream).await.unwrap();
    let connection = tokio::spawn(connection);

    let mut request = Request::post(format!("https://{address}{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let (response, mut body) = client.send_request(request.body(()).unwrap(), false).unwrap();
    let mut frame = BytesMut::new();
    frame.put_u8(0);
    frame.put_u32(message.len() as u32);
    frame.put_slice(message);
    // The node may have answered before the body is there.
    let _ = body.send_data(frame.freeze(), true);
    let response = response.await.unwrap();
    let status = |headers: &HeaderMap| Status::from_header_map(headers);
    let at_once = status(response.headers());
    let mut body = response.into_body();
    while let Some(Ok(data)) = body.data().await {
        let _: Bytes = data;
    }
    let last = body.trailers().await.ok().flatten().and_then(|trailers| status(&trailers));
    connection.abort();
    at_once.or(last).unwrap()
}
