//! What a client can take up of a node, and what happens beyond: the limits of node/docs/operations.md that no other file tests.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use assent_node::limits::Limits;
use assent_proto::v1::consent_service_client::ConsentServiceClient;
use assent_proto::v1::node_service_client::NodeServiceClient;
use assent_proto::v1::patient_service_client::PatientServiceClient;
use assent_proto::v1::*;
use axum::http::Request;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tonic::transport::Channel;
use tonic::Code;

use crate::bad_input::identity;
use crate::grpc::is;
use crate::net::Net;

/// HTTP/2's preface and empty settings.
const HELLO: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// One node with limits of its own.
pub async fn limited(limits: &str) -> Net {
    let mut net = Net::new(1);
    net.configure(0, "[admin]\n", &format!("[limits]\n{limits}\n[admin]\n"));
    net.start(0).await;
    net.ready(0).await;
    net
}

/// TLS to the node, with a certificate or without.
pub async fn tls(net: &Net, identity: Option<(String, String)>) -> TlsStream<TcpStream> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(net.members[0].ca.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider);
    let builder = builder.with_safe_default_protocol_versions().unwrap().with_root_certificates(roots);
    let mut tls = match identity {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
            builder
                .with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap())
                .unwrap()
        }
    };
    tls.alpn_protocols = vec![b"h2".to_vec()];
    let tcp = TcpStream::connect(("127.0.0.1", net.members[0].grpc)).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(tls));
    connector.connect("localhost".try_into().unwrap(), tcp).await.unwrap()
}

/// A connection on which the node speaks HTTP/2; none when it closed it.
async fn greeted(net: &Net, identity: Option<(String, String)>) -> Option<TlsStream<TcpStream>> {
    let mut stream = tls(net, identity).await;
    stream.write_all(HELLO).await.ok()?;
    // Its settings.
    let mut head = [0; 9];
    let read = tokio::time::timeout(Duration::from_secs(5), stream.read_exact(&mut head)).await;
    read.expect("neither greeted nor closed").ok()?;
    let mut settings = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
    stream.read_exact(&mut settings).await.ok().map(|_| stream)
}

/// Closed by the node within a time; whatever it still sends is read away.
async fn closed_within(mut stream: impl AsyncReadExt + Unpin, limit: Duration) -> bool {
    let mut buffer = vec![0; 64 << 10];
    let end = async { while stream.read(&mut buffer).await.is_ok_and(|n| n > 0) {} };
    tokio::time::timeout(limit, end).await.is_ok()
}

pub async fn figure(net: &Net, series: &str) -> f64 {
    let text = net.http(0, "/metrics").await;
    let line = text.lines().find(|line| line.strip_prefix(series).is_some_and(|rest| rest.starts_with(' ')));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok())
        .unwrap_or_else(|| panic!("{series} in {text}"))
}

async fn refused(net: &Net, reason: &str) -> f64 {
    figure(net, &format!("assent_grpc_connections_refused_total{{reason=\"{reason}\"}}")).await
}

async fn status(channel: &Channel) -> GetStatusResponse {
    let began = Instant::now();
    let answer = NodeServiceClient::new(channel.clone()).get_status(GetStatusRequest {}).await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(2), "an honest client waited {:?}", began.elapsed());
    answer.into_inner()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn connections_are_bounded_of_one_client_of_strangers_and_in_total() {
    let net = limited(
        "grpc_connections = 7\ngrpc_connections_per_client = 3\ngrpc_connections_without_certificate = 2",
    )
    .await;
    // The one that waited for the node to be ready may still be open.
    while figure(&net, "assent_grpc_connections").await > 0.0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let [a, b] = ["a", "b"].map(|name| Some(identity(&net, "crm", name)));
    let mut open = Vec::new();
    for _ in 0..3 {
        open.push(greeted(&net, a.clone()).await.expect("within its share"));
    }
    assert!(greeted(&net, a.clone()).await.is_none());
    assert_eq!(refused(&net, "connections-per-client").await, 1.0);
    for _ in 0..2 {
        open.push(greeted(&net, None).await.expect("within the strangers' share"));
    }
    assert!(greeted(&net, None).await.is_none());
    // A certificate of another authority's is none.
    let foreign = crate::net::leaf(&net.members[0].ca, "spiffe://other/org/cedar/crm/a", false, 30);
    assert!(greeted(&net, Some(foreign)).await.is_none());
    assert_eq!(refused(&net, "connections-without-certificate").await, 2.0);
    for _ in 0..2 {
        open.push(greeted(&net, b.clone()).await.expect("b has its own share"));
    }
    assert!(greeted(&net, b.clone()).await.is_none());
    assert_eq!(
        (refused(&net, "connections").await, figure(&net, "assent_grpc_connections").await),
        (1.0, 7.0)
    );
    // Whoever goes makes room.
    drop(open.remove(0));
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(greeted(&net, b).await.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn handshakes_that_never_end_keep_nobody_out() {
    let net = limited("grpc_handshakes = 8\ngrpc_handshake_seconds = 2").await;
    let address = ("127.0.0.1", net.members[0].grpc);
    let mut silent = Vec::new();
    for n in 0..100 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        if n % 2 == 0 {
            // The begin of a ClientHello.
            stream.write_all(&[0x16, 3, 1, 2, 0, 1]).await.unwrap();
        }
        silent.push(stream);
    }
    status(&net.client(0, "crm")).await;
    assert!(refused(&net, "handshakes").await >= 90.0);
    // TLS is done, and then nothing, or a byte now and then.
    let (quiet, mut slow) = (tls(&net, None).await, tls(&net, Some(identity(&net, "crm", "slow"))).await);
    let dribble = tokio::spawn(async move {
        for byte in HELLO {
            tokio::time::sleep(Duration::from_millis(300)).await;
            if slow.write_all(&[*byte]).await.is_err() || slow.flush().await.is_err() {
                return true;
            }
        }
        false
    });
    let limit = Duration::from_secs(6);
    for stream in silent {
        assert!(closed_within(stream, limit).await);
    }
    assert!(closed_within(quiet, limit).await);
    assert!(dribble.await.unwrap(), "a connection may be begun byte by byte for 10 s");
    assert!(refused(&net, "handshake-time").await >= 2.0);
}

/// A frame of HTTP/2.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Headers of a call whose message is still to come.
fn headers(stream: u32) -> Vec<u8> {
    let mut block = vec![0x83, 0x87]; // POST, https
    for (name, value) in [(4, "/assent.v1.NodeService/GetStatus"), (1, "localhost")] {
        block.extend([name, value.len() as u8]);
        block.extend(value.as_bytes());
    }
    for (name, value) in [("content-type", "application/grpc"), ("te", "trailers")] {
        block.extend([0, name.len() as u8]);
        block.extend(name.as_bytes());
        block.push(value.len() as u8);
        block.extend(value.as_bytes());
    }
    frame(1, 4, stream, &block)
}

/// Kinds of the frames that the node sends, with the code of those that reset a stream or end the connection.
async fn answers(stream: &mut (impl AsyncReadExt + Unpin)) -> Vec<(u8, u32)> {
    let mut seen = Vec::new();
    loop {
        let mut head = [0; 9];
        let next = tokio::time::timeout(Duration::from_secs(3), stream.read_exact(&mut head)).await;
        if !matches!(next, Ok(Ok(_))) {
            return seen;
        }
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        if stream.read_exact(&mut payload).await.is_err() {
            return seen;
        }
        let code = match head[3] {
            3 => payload[..4].try_into().map(u32::from_be_bytes).unwrap(),
            7 => payload[4..8].try_into().map(u32::from_be_bytes).unwrap(),
            _ => 0,
        };
        seen.push((head[3], code));
    }
}

const RST_STREAM: u8 = 3;
const GOAWAY: u8 = 7;
const REFUSED_STREAM: u32 = 7;
const ENHANCE_YOUR_CALM: u32 = 11;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_ten_thousand_streams_on_one_connection_a_few_are_served_and_the_others_refused() {
    let net = limited("grpc_calls_per_connection = 8").await;
    let honest = net.client(0, "operator");
    let stream = greeted(&net, Some(identity(&net, "crm", "wild"))).await.unwrap();
    let (mut reading, mut writing) = tokio::io::split(stream);
    let flood = tokio::spawn(async move {
        for n in 0..10_000 {
            // The node may have had enough.
            if writing.write_all(&headers(2 * n + 1)).await.is_err() {
                break;
            }
        }
        let _ = writing.flush().await;
        writing
    });
    let seen = tokio::spawn(async move { answers(&mut reading).await });
    while !flood.is_finished() {
        status(&honest).await;
    }
    let writing = flood.await.unwrap();
    let seen = seen.await.unwrap();
    status(&honest).await;
    drop(writing);
    let refused = seen.iter().filter(|answer| **answer == (RST_STREAM, REFUSED_STREAM)).count();
    let ended = seen.contains(&(GOAWAY, ENHANCE_YOUR_CALM));
    assert!(refused == 10_000 - 16 || (ended && refused > 0), "{refused} refused, ended: {ended}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_flood_of_resets_ends_its_connection_and_no_other() {
    let net = limited("").await;
    let honest = net.client(0, "operator");
    let stream = greeted(&net, None).await.unwrap();
    let (mut reading, mut writing) = tokio::io::split(stream);
    let cancel = 8u32.to_be_bytes();
    let flood = tokio::spawn(async move {
        for n in 0..10_000 {
            let stream = 2 * n + 1;
            let both = [headers(stream), frame(RST_STREAM, 0, stream, &cancel)].concat();
            if writing.write_all(&both).await.is_err() {
                return true;
            }
        }
        // What was written last may be lost on the way.
        writing.flush().await.is_err()
    });
    let seen = answers(&mut reading).await;
    status(&honest).await;
    let broken = flood.await.unwrap();
    let calm = seen.contains(&(GOAWAY, ENHANCE_YOUR_CALM));
    assert!(calm || broken, "10,000 resets are taken: {:?}", seen.last());
    let closed = async {
        while figure(&net, "assent_grpc_connections").await > 1.0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), closed).await.expect("the flood's connection is still open");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_client_that_never_reads_nor_answers_a_ping_is_closed() {
    let net = limited("grpc_silence_seconds = 2").await;
    let honest = net.client(0, "operator");
    status(&honest).await;
    let before = figure(&net, "assent_grpc_connections").await;
    let mut deaf = greeted(&net, Some(identity(&net, "crm", "deaf"))).await.unwrap();
    deaf.write_all(&headers(1)).await.unwrap();
    assert_eq!(figure(&net, "assent_grpc_connections").await, before + 1.0);
    let began = Instant::now();
    while figure(&net, "assent_grpc_connections").await > before {
        assert!(began.elapsed() < Duration::from_secs(8), "still open");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // A client that asks nothing and answers pings stays.
    status(&honest).await;
    drop(deaf);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_list_of_headers_that_is_too_long_is_refused() {
    let net = Net::started(1).await;
    let stream = tls(&net, Some(identity(&net, "crm", "long"))).await;
    let (mut client, connection) = h2::client::handshake(stream).await.unwrap();
    let connection = tokio::spawn(connection);
    for (bytes, taken) in [(1 << 10, true), (17 << 10, false)] {
        let request = Request::post("https://localhost/assent.v1.NodeService/GetStatus")
            .header("content-type", "application/grpc")
            .header("x-long", "x".repeat(bytes));
        let (response, _) = client.send_request(request.body(()).unwrap(), true).unwrap();
        let answer = response.await.map(|response| response.status().as_u16());
        assert_eq!(answer.as_ref().is_ok_and(|code| *code == 200), taken, "{bytes}: {answer:?}");
    }
    connection.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_clients_watches_leave_others_theirs() {
    let net = limited("watch_streams = 3\nwatch_streams_per_client = 2").await;
    let watch = |name: &'static str| {
        let channel = net.client_with(0, Some(identity(&net, "portal", name)));
        async move { ConsentServiceClient::new(channel).watch_consents(WatchConsentsRequest::default()).await }
    };
    let open = [watch("a").await.unwrap(), watch("a").await.unwrap()];
    let refused = watch("a").await.unwrap_err();
    is(&refused, Code::ResourceExhausted, "TOO_MANY_WATCHES");
    assert!(refused.message().contains("of this client"), "{refused:?}");
    let others = watch("b").await.unwrap();
    let refused = watch("c").await.unwrap_err();
    is(&refused, Code::ResourceExhausted, "TOO_MANY_WATCHES");
    assert!(refused.message().contains("this node takes"), "{refused:?}");
    drop((open, others));
    let again = async { while watch("c").await.is_err() {} };
    tokio::time::timeout(Duration::from_secs(5), again).await.expect("places are given back");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn calls_by_control_keys_have_the_rate_that_is_set() {
    let net = limited("control_key_calls_per_second = 2").await;
    let mut anyone = PatientServiceClient::new(net.client_with(0, None));
    let mut limited = 0;
    for _ in 0..10 {
        let refused = anyone.get_slot(GetSlotRequest::default()).await.unwrap_err();
        match crate::patient::reason(&refused).as_str() {
            "RATE_LIMITED" => limited += 1,
            other => assert_eq!(other, "MALFORMED_REQUEST"),
        }
        if limited > 0 {
            assert!(refused.message().contains("takes 2 such calls"), "{refused:?}");
        }
    }
    assert!(limited >= 5, "{limited} of 10 calls in a moment are refused");
}

/// Names of the tests of a folder's sources, without their modules.
fn tests_below(folder: &Path, names: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            tests_below(&path, names);
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        for part in text.split("#[test]").chain(text.split("#[tokio::test")).skip(1) {
            let name = part.split_once("fn ").map(|(_, rest)| rest.split('(').next().unwrap_or_default());
            names.extend(name.map(str::to_owned));
        }
    }
}

/// The table of limits in the operator's guide: its keys are those of the section, with their defaults; its tests are there.
#[test]
fn the_table_of_limits_is_what_the_code_has() {
    let node = Path::new(env!("CARGO_MANIFEST_DIR"));
    let guide = std::fs::read_to_string(node.join("docs/operations.md")).unwrap();
    let section = guide.split("\n## Limits\n").nth(1).and_then(|rest| rest.split("\n## ").next()).unwrap();
    let rows: Vec<Vec<&str>> = section
        .lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("| limit "))
        .map(|line| line.trim_matches('|').split(" | ").map(str::trim).collect())
        .collect();
    assert!(rows.len() > 40, "{} rows", rows.len());
    let mut tests = BTreeSet::new();
    for folder in ["node/src", "node/tests", "ledger/tests", "ledger/src"] {
        tests_below(&node.parent().unwrap().join(folder), &mut tests);
    }
    for row in &rows {
        let [limit, unit, default, set, beyond, named] = row[..] else { panic!("six columns: {row:?}") };
        assert!(![limit, unit, default, beyond].contains(&""), "{row:?}");
        assert!(["`[limits]`", "`[grpc]`", "fixed"].contains(&set), "{row:?}");
        let named: Vec<&str> = named.split('`').skip(1).step_by(2).collect();
        assert!(!named.is_empty(), "{limit} has no test");
        for name in named {
            assert!(tests.contains(name.rsplit("::").next().unwrap()), "{limit}: {name} is no test");
        }
    }
    let keys: BTreeSet<(String, String)> = rows
        .iter()
        .filter(|row| row[3] == "`[limits]`")
        .map(|row| (row[0].trim_matches('`').to_owned(), row[2].replace(',', "")))
        .collect();
    let code = Limits::default();
    let code = code.all().map(|(key, default, _, _)| (key.to_owned(), default.to_string()));
    assert_eq!(keys, code.into_iter().collect());
}
