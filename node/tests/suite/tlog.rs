//! The log for everybody: tiles against the blocks, checkpoints that never contradict one another.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use assent_ledger::checkpoint::{open_note, origin, Checkpoint, KeyKind, VerifierKey};
use assent_ledger::log::{root_at, root_of, tagged_leaf_hash, LEAF_ENTRY, LEAF_HEADER};
use assent_ledger::tiles::{leaves, Content, TilePath};
use assent_ledger::Hash;
use assent_node::chain::Store;
use assent_node::tlog::{read_tile, Figures, SignError, Signer, TileError, SIGNED};
use assent_proto::ledger::v1::Block;
use prost::Message;

use crate::ledger::{key, set_consent, Ledger};
use crate::net::{Net, CHAIN};
use crate::patient::create_subject;

/// Every leaf of a store, from its blocks: kind and bytes; and the sizes at which blocks end.
fn leaves_of(store: &Store) -> (Vec<(u8, Vec<u8>)>, Vec<u64>) {
    let (mut all, mut ends) = (Vec::new(), vec![0]);
    for height in 1..=store.tip().unwrap().height {
        let block = Block::decode(store.block(height).unwrap().unwrap().as_slice()).unwrap();
        all.extend(block.entries.into_iter().map(|entry| (LEAF_ENTRY, entry)));
        all.push((LEAF_HEADER, block.header));
        ends.push(all.len() as u64);
    }
    (all, ends)
}

fn hashes(leaves: &[(u8, Vec<u8>)]) -> Vec<Hash> {
    leaves.iter().map(|(kind, bytes)| tagged_leaf_hash(*kind, bytes)).collect()
}

/// A checkpoint that the member has signed.
fn opened(net: &Net, member: &str, note: &[u8]) -> Checkpoint {
    let public = key(net, member, "checkpoint").verifying_key().to_bytes();
    let known = VerifierKey::new(&format!("{member}.{CHAIN}"), KeyKind::Ed25519, public).unwrap();
    let opened = open_note(note, &[known]).unwrap();
    assert_eq!((opened.signed_by.len(), opened.unknown), (1, 0));
    Checkpoint::parse(&opened.text).unwrap()
}

/// A ledger by hand of several hundred leaves.
fn long_ledger() -> Ledger {
    let mut ledger = Ledger::new("cedar");
    let mut sequence = 0;
    for count in [1, 0, 300, 211, 40, 0, 150] {
        for _ in 0..count {
            sequence += 1;
            let handle =
                *assent_ledger::hash::sha256(&u64::to_be_bytes(sequence)).first_chunk::<32>().unwrap();
            let entry = ledger.entry("cedar", sequence, vec![set_consent("cedar", handle, 0, None)]);
            ledger.admit(&entry).unwrap();
        }
        ledger.block();
    }
    ledger
}

#[test]
fn tiles_are_cut_from_the_log_whatever_the_width() {
    let ledger = long_ledger();
    let (all, _) = leaves_of(&ledger.store);
    assert!(all.len() > 2 * 256 + 100, "{}", all.len());
    let hashes = hashes(&all);
    for index in 0..=all.len() as u64 / 256 + 1 {
        for width in [1, 2, 3, 100, 195, 196, 255, 256] {
            let (start, end) = (index as usize * 256, index as usize * 256 + usize::from(width));
            let tile = |content| read_tile(&ledger.store, &TilePath { content, index, width });
            let (level_0, bundle) = (tile(Content::Hashes(0)), tile(Content::Entries));
            if end > all.len() {
                assert!(matches!(level_0, Err(TileError::NotThere)), "{index} {width}");
                assert!(matches!(bundle, Err(TileError::NotThere)), "{index} {width}");
                continue;
            }
            assert_eq!(level_0.unwrap(), hashes[start..end].concat());
            let bundle = bundle.unwrap();
            let read = leaves(&bundle, width).unwrap();
            for (read, (kind, bytes)) in read.iter().zip(&all[start..end]) {
                assert_eq!((read[0], &read[1..]), (*kind, bytes.as_slice()));
            }
        }
    }
    // The next level has a hash for each full tile below.
    let upper = TilePath { content: Content::Hashes(1), index: 0, width: 2 };
    assert_eq!(
        read_tile(&ledger.store, &upper).unwrap(),
        [root_of(&hashes[..256]), root_of(&hashes[256..512])].concat()
    );
    let beyond = TilePath { width: 3, ..upper };
    assert!(matches!(read_tile(&ledger.store, &beyond), Err(TileError::NotThere)));
}

#[test]
fn every_block_end_is_signed_and_nothing_else() {
    let ledger = long_ledger();
    let folder = tempfile::tempdir().unwrap();
    let figures = Figures::default();
    let secret = key(&ledger.net, "cedar", "checkpoint");
    let signer = Signer::new("cedar", CHAIN, secret, folder.path(), figures.clone()).unwrap();
    let (all, ends) = leaves_of(&ledger.store);
    let hashes = hashes(&all);
    for size in 0..=all.len() as u64 + 2 {
        match signer.at(&ledger.store, size) {
            Ok(note) => {
                let said = opened(&ledger.net, "cedar", note.as_bytes());
                let root = root_of(&hashes[..size as usize]);
                assert_eq!(said, Checkpoint { origin: origin(CHAIN), size, root, extensions: vec![] });
                assert!(ends.contains(&size), "{size}");
                assert_eq!(signer.at(&ledger.store, size).unwrap(), note);
                assert_eq!(figures.signed(), size);
            }
            Err(SignError::NoBlockEnd) => assert!(!ends.contains(&size), "{size}"),
            Err(other) => panic!("{size}: {other}"),
        }
    }
    // An older one is signed as before, and does not take the memory's place.
    let memory = std::fs::read_to_string(folder.path().join(SIGNED)).unwrap();
    assert_eq!(Checkpoint::parse(&memory).unwrap().size, all.len() as u64);
    signer.at(&ledger.store, ends[1]).unwrap();
    assert_eq!(std::fs::read_to_string(folder.path().join(SIGNED)).unwrap(), memory);
}

/// Two ledgers with other entries, and one node that is given one after the other: a fork, or a folder that was swapped.
#[test]
fn no_two_roots_are_signed_for_one_size() {
    let (mut one, mut other) = (Ledger::new("cedar"), Ledger::new("cedar"));
    one.block();
    other.block();
    let folder = tempfile::tempdir().unwrap();
    let secret = key(&one.net, "cedar", "checkpoint");
    let figures = Figures::default();
    let open = || Signer::new("cedar", CHAIN, secret.clone(), folder.path(), figures.clone()).unwrap();
    let note = open().newest(&one.store).unwrap();
    assert_eq!(opened(&one.net, "cedar", note.as_bytes()).size, 1);
    // Also after a restart, at the same size, later, and for what lies before.
    for signer in [open(), open()] {
        assert!(matches!(signer.newest(&other.store), Err(SignError::Contradiction(1))));
        assert!(matches!(signer.at(&other.store, 1), Err(SignError::Contradiction(1))));
        assert!(matches!(signer.at(&other.store, 0), Err(SignError::Contradiction(1))));
        other.block();
        assert!(matches!(signer.newest(&other.store), Err(SignError::Contradiction(1))));
    }
    assert_eq!(figures.contradictions(), 8);
    assert_eq!(open().newest(&one.store).unwrap(), note);
    // A ledger that is older than what was signed can't be judged yet.
    one.block();
    open().newest(&one.store).unwrap();
    let fresh = Ledger::new("cedar");
    assert!(matches!(open().newest(&fresh.store), Err(SignError::Behind)));
    // What is on disk counts, not what a signature was lost of: the memory is there before the signature is.
    assert_eq!(figures.signed(), 2);
    std::fs::write(folder.path().join(SIGNED), "garbage").unwrap();
    for text in ["garbage", "", "assent/other\n1\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n"] {
        std::fs::write(folder.path().join(SIGNED), text).unwrap();
        let broken = Signer::new("cedar", CHAIN, secret.clone(), folder.path(), figures.clone());
        assert!(broken.is_err_and(|e| e.to_string().contains(SIGNED)), "{text:?}");
    }
}

#[test]
fn what_could_not_be_remembered_is_not_signed() {
    let mut ledger = Ledger::new("cedar");
    ledger.block();
    let folder = tempfile::tempdir().unwrap();
    let secret = key(&ledger.net, "cedar", "checkpoint");
    let gone = folder.path().join("gone");
    let signer = Signer::new("cedar", CHAIN, secret, &gone, Figures::default()).unwrap();
    assert!(matches!(signer.newest(&ledger.store), Err(SignError::Unwritten(_))));
    std::fs::create_dir(&gone).unwrap();
    signer.newest(&ledger.store).unwrap();
}

/// Status, head and body of an answer.
fn get(door: SocketAddr, path: &str) -> (u16, String, Vec<u8>) {
    let mut stream = TcpStream::connect(door).unwrap();
    stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let end = answer.windows(4).position(|w| w == b"\r\n\r\n").unwrap();
    let head = String::from_utf8(answer[..end].to_vec()).unwrap();
    (head[9..12].parse().unwrap(), head, answer[end + 4..].to_vec())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_node_publishes_its_log() {
    let net = Net::new(1);
    let door: SocketAddr = {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        free.local_addr().unwrap()
    };
    net.configure(0, "[admin]\n", &format!("[tlog]\nlisten = \"{door}\"\n[admin]\n"));
    let running = net.restarted(0).await;
    net.ready(0).await;
    for n in 0..3 {
        let (id, mrn) = (format!("s-{n}"), format!("mrn-{n}"));
        create_subject(net.client(0, "registrar"), &id, &mrn, &format!("Patient/{mrn}")).await.unwrap();
    }
    let (status, head, note) = get(door, "/checkpoint");
    assert!(status == 200 && head.contains("no-store"), "{head}");
    let checkpoint = opened(&net, "cedar", &note);
    let store = running.app.parts.store.clone();
    let size = checkpoint.size;
    assert!(size >= 6, "three entries and three headers: {size}");
    assert_eq!(root_at(&store.view().unwrap(), size), Some(checkpoint.root));

    // Whoever has the checkpoint needs the tiles only.
    let (status, head, bundle) = get(door, &format!("/tile/entries/000.p/{size}"));
    assert!(status == 200 && head.contains("immutable"), "{head}");
    let read: Vec<Hash> =
        leaves(&bundle, size as u16).unwrap().iter().map(|l| tagged_leaf_hash(l[0], &l[1..])).collect();
    assert_eq!(root_of(&read), checkpoint.root);
    assert_eq!(get(door, &format!("/tile/0/000.p/{size}")).2, read.concat());

    // An older block's end, for those who collect the signatures of several nodes.
    let (_, ends) = leaves_of(&store);
    let (status, _, older) = get(door, &format!("/checkpoint/{}", ends[1]));
    assert_eq!((status, opened(&net, "cedar", &older).size), (200, ends[1]));
    for path in [
        "/",
        "/tile",
        "/tile/",
        "/tile/0/000",
        "/tile/1/000",
        "/tile/1/000.p/1",
        "/tile/0/000.p/0",
        "/tile/0/000.p/250",
        "/tile/0/001.p/1",
        "/tile/64/000",
        "/tile/0/x000/000",
        "/tile/entries/000",
        "/tile/entries/001.p/1",
        "/tile/entries/x018/x446/x744/x073/x709/x551/615",
        "/tile/data/000",
        "/tile/0/000.p/1/",
        "/tile//000.p/1",
        "/tile/0/%2e%2e/checkpoint",
        "/checkpoint/",
        "/checkpoint/01",
        "/checkpoint/-1",
        "/checkpoint/18446744073709551616",
        "/checkpoint/18446744073709551615",
        "/checkpoint/5/6",
        "/metrics",
    ] {
        assert_eq!(get(door, path).0, 404, "{path}");
    }
    let no_end = (1..size).find(|size| !ends.contains(size)).unwrap();
    let (status, _, said) = get(door, &format!("/checkpoint/{no_end}"));
    assert_eq!((status, said.starts_with(b"NO_SUCH_CHECKPOINT: ")), (404, true));
    let metrics = net.http(0, "/metrics").await;
    assert!(
        !metrics.contains("\nassent_checkpoint_leaves 0\n") && metrics.contains("contradictions_total 0\n")
    );

    // Restarted on a ledger that is not the one it signed for: an alarm, and no signature; all else goes on.
    running.run(async {}).await.unwrap();
    drop(store);
    let signed = net.config(0).data_dir.join(SIGNED);
    let text = std::fs::read_to_string(&signed).unwrap();
    let lie = Checkpoint { root: [7; 32], ..Checkpoint::parse(&text).unwrap() };
    std::fs::write(&signed, lie.text()).unwrap();
    let running = net.restarted(0).await;
    let (status, _, said) = get(door, "/checkpoint");
    assert_eq!((status, said.starts_with(b"CONTRADICTION: ")), (500, true));
    assert_eq!(get(door, "/tile/0/000.p/1").0, 200);
    assert!(net.http(0, "/metrics").await.contains("contradictions_total 1\n"));
    running.run(async {}).await.unwrap();
    std::fs::write(&signed, "garbage").unwrap();
    for _ in 0..100 {
        match net.try_start(0).await.err().unwrap() {
            stop if stop.to_string().contains("another process") => {}
            stop => {
                assert_eq!((stop.exit_code(), stop.to_string().contains(SIGNED)), (9, true), "{stop}");
                return;
            }
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("the stores are still open");
}
