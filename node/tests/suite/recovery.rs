//! Two of four validators are gone for ever: the other two agree to a plan and go on, with everything that was there.

use std::time::{Duration, Instant};

use std::collections::BTreeSet;

use assent_ledger::audit::{verify_export_by, ChainVerifier, Fault, Level, RECOVERY};
use assent_ledger::receipts::{verify, Start, Trust};
use assent_ledger::recovery::plan_hash;
use assent_ledger::Hash;
use assent_node::chain::import::{Expected, Import, ImportError};
use assent_node::chain::{whole, Store};
use assent_node::recover::{apply, plan, sign, RecoverError};
use assent_proto::v1::get_slot_receipt_request::Subject;
use assent_proto::v1::node_service_client::NodeServiceClient;
use assent_proto::v1::receipt_service_client::ReceiptServiceClient;
use assent_proto::v1::{GetSlotReceiptRequest, GetStatusRequest, SlotName};

use crate::kill::set_policy;
use crate::net::{Net, CHAIN};

/// Longest that anything here may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

async fn height(net: &Net, i: usize) -> u64 {
    let mut client = NodeServiceClient::new(net.client(i, "operator"));
    let status = client.get_status(GetStatusRequest {}).await;
    status.ok().and_then(|s| s.into_inner().answer).map_or(0, |answer| answer.height)
}

/// One policy through this node, acknowledged.
async fn write(net: &Net, i: usize, n: u64) {
    let begin = Instant::now();
    loop {
        match set_policy(net, i, n).await {
            Ok(seq) => return assert_eq!(seq, n, "lost, or done twice"),
            Err(status) => assert!(begin.elapsed() < PATIENCE, "{status}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn audit(export: &[u8], accepted: Option<Hash>) -> (ChainVerifier, Result<(), Fault>) {
    verify_export_by(ChainVerifier::new(Level::Full, None).accepting(accepted), export, |_| {})
}

fn reason(outcome: Result<String, RecoverError>) -> &'static str {
    match outcome {
        Err(RecoverError::Refused { reason, .. }) => reason,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_of_four_recover_with_every_committed_entry_and_go_on() {
    let mut net = Net::started(4).await;
    for i in 0..4 {
        net.ready(i).await;
        write(&net, i, 1).await;
    }
    write(&net, 0, 2).await;
    for i in [2, 3] {
        net.stop(i).await.unwrap();
    }
    // No quorum: this is voted on, and never decided.
    set_policy(&net, 0, 3).await.unwrap_err();
    let begin = Instant::now();
    while height(&net, 0).await != height(&net, 1).await {
        assert!(begin.elapsed() < PATIENCE, "the survivors are at different blocks");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let last = height(&net, 0).await;
    let before = net.export(0).await;
    let entries = audit(&before, None).0.counts.entries;
    let dirs: Vec<_> = net.members.iter().map(|m| m.dir.clone()).collect();
    let names: Vec<_> = net.members.iter().map(|m| m.id.clone()).collect();
    let file = dirs[0].join("recovery.plan");
    // Not while the node runs.
    assert!(matches!(plan(&dirs[0], &names[..2], "fire", &file), Err(RecoverError::Failed(_))));
    for i in [0, 1] {
        net.stop(i).await.unwrap();
    }
    plan(&dirs[0], &names[..2], "fire", &file).unwrap();
    assert_eq!(reason(plan(&dirs[0], &names[..2], "fire", &file)), "FILE_EXISTS");
    assert_eq!(reason(apply(&dirs[0], &file)), "RECOVERY_SIGNERS");
    sign(&dirs[0], &file).unwrap();
    assert_eq!(reason(apply(&dirs[0], &file)), "RECOVERY_SIGNERS");
    assert_eq!(
        reason(sign(&dirs[2], &file)),
        if height_of(&net, 2) == last { "NOT_REMAINING" } else { "RECOVERY_OTHER_TIP" }
    );
    let said = sign(&dirs[1], &file).unwrap();
    let hash: Hash = hex::decode(said.lines().next().unwrap().split_whitespace().last().unwrap())
        .unwrap()
        .try_into()
        .unwrap();
    for dir in &dirs[..2] {
        let said = apply(dir, &file).unwrap();
        assert!(said.contains("start the node"), "{said}");
        assert!(apply(dir, &file).unwrap().contains("nothing was changed"));
        assert!(dir.join(format!("data/consensus/wal/before-recovery-{last}.wal")).exists());
    }
    for i in [0, 1] {
        net.start(i).await;
    }
    for i in [0, 1] {
        net.ready(i).await;
    }
    // What waited comes, and more; what was there counts on.
    write(&net, 0, 3).await;
    write(&net, 1, 2).await;
    let export = net.export(1).await;
    let fault = audit(&export, None).1.unwrap_err();
    assert_eq!((fault.kind, fault.height), (RECOVERY, last + 1));
    let (verifier, outcome) = audit(&export, Some(hash));
    assert_eq!(outcome, Ok(()));
    assert!(verifier.counts.entries >= entries + 3, "the recovery and two policies");
    let mut gone = names[2..].to_vec();
    gone.sort();
    assert_eq!(verifier.recoveries[0].removed, gone);
    // The records of every block before are in the new export, byte for byte; the old one ends with a certificate.
    let same = before.iter().zip(&export).take_while(|(a, b)| a == b).count();
    assert!(before.len() - same < 1024, "{same} of {} bytes", before.len());
    // Receipts from behind it hold for who accepts the plan, and are not decided for others.
    let receipt = receipt(&net, 0).await;
    let trust = |accepted: &[Hash]| Trust::Genesis {
        hash: net.genesis.hash,
        accepted: accepted.iter().copied().collect(),
    };
    let verified = verify(&trust(&[hash]), &receipt).unwrap();
    assert!(verified.at.header.height > last);
    let Start::Genesis { recoveries, .. } = verified.at.start else { panic!("not from genesis") };
    assert_eq!((recoveries.len(), recoveries[0].height), (1, last + 1));
    let refused = verify(&trust(&[]), &receipt).unwrap_err().to_string();
    assert!(refused.contains(&format!("--accept-recovery {}", hex::encode(hash))), "{refused}");
    for i in [0, 1] {
        net.stop(i).await.unwrap();
    }
    whole_and_joined(&net, &names[2], hash);
}

/// Three of four never came: nothing is lost, and there is nothing to go on from.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn before_the_first_block_a_plan_is_refused_and_says_what_to_do() {
    let mut net = Net::new(4);
    net.start(0).await;
    net.says(0, "not ready", PATIENCE).await;
    net.stop(0).await.unwrap();
    assert_eq!(height_of(&net, 0), 0);
    let (dir, keep) = (net.members[0].dir.clone(), [net.members[0].id.clone()]);
    let file = dir.join("recovery.plan");
    match plan(&dir, &keep, "fire", &file) {
        Err(RecoverError::Refused { reason: "RECOVERY_NO_BLOCK", what }) => {
            assert!(what.contains("make a new genesis"), "{what}");
        }
        other => panic!("{other:?}"),
    }
    assert!(!file.exists());
}

/// That there is nothing under a handle, from genesis.
async fn receipt(net: &Net, i: usize) -> Vec<u8> {
    let slot = SlotName { custodian: net.members[i].id.clone(), handle: vec![9; 32] };
    let request =
        GetSlotReceiptRequest { subject: Some(Subject::Slot(slot)), opening: None, checkpoint_size: 0 };
    let mut client = ReceiptServiceClient::new(net.client(i, "auditor"));
    client.get_slot_receipt(request).await.unwrap().into_inner().receipt
}

/// The recovered ledger hangs together, and so does the one of who joins from its snapshot and accepts the plan.
fn whole_and_joined(net: &Net, joiner: &str, plan: Hash) {
    let store = store_of(net, 0);
    let tip = store.tip().unwrap();
    assert_eq!(whole::check(&store, &net.genesis).unwrap().height, tip.height);
    let view = store.view().unwrap();
    assert_eq!(view.accepted_recoveries().unwrap(), BTreeSet::from([plan]));
    let mut bytes = Vec::new();
    let take = |chunk: Vec<u8>| {
        bytes.extend(chunk);
        true
    };
    view.write_snapshot(joiner, 1 << 16, take).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let genesis_file = std::fs::read(&net.config(0).genesis).unwrap();
    let present = Store::open(&folder.path().join("present"), &genesis_file, &net.genesis).unwrap();
    let join = |into: &str, accepted: &BTreeSet<Hash>| -> Result<Store, ImportError> {
        let (genesis, genesis_file) = (&net.genesis, genesis_file.as_slice());
        let expected =
            Expected { genesis, genesis_file, own: joiner, handles: &[], accepted, present: &present };
        let mut import = Import::new(&folder.path().join(into), expected)?;
        import.bytes(&bytes)?;
        import.finish()?;
        Ok(Store::open(&folder.path().join(into), genesis_file, genesis)?)
    };
    for accepted in [BTreeSet::new(), BTreeSet::from([[9; 32]])] {
        match join("refused", &accepted).map(|_| ()) {
            Err(ImportError::Refused(refused)) => {
                assert_eq!(refused.reason, "recovery", "{refused}");
                let says = format!("with plan {}", hex::encode(plan));
                assert!(refused.sentence.contains(&says), "{refused}");
                assert!(refused.sentence.contains("accept_recoveries in assentd.toml"), "{refused}");
            }
            other => panic!("{other:?}"),
        }
        std::fs::remove_dir_all(folder.path().join("refused")).unwrap();
    }
    let joined = join("joined", &BTreeSet::from([plan])).unwrap();
    assert_eq!(whole::check(&joined, &net.genesis).unwrap().height, tip.height);
    let view = joined.view().unwrap();
    assert_eq!(view.accepted_recoveries().unwrap(), BTreeSet::from([plan]));
    // And it can show others the way.
    let start = assent_node::chain::receipts::StartAt::Genesis;
    let anchor = view.anchor(&net.genesis, tip.height, start).unwrap();
    let Some(assent_proto::ledger::v1::anchor::Start::Genesis(start)) = anchor.start else { panic!() };
    assert_eq!(start.changes.len(), 1);
    // Without its entries, too, the block says what it was.
    let recovered = view.recoveries().unwrap()[0].height + 1;
    store.prune(1, &net.members[0].id, u64::MAX).unwrap();
    for store in [&store, &joined] {
        let shown = store.view().unwrap().pruned(recovered).unwrap().unwrap().recovery.unwrap();
        assert_eq!(plan_hash(CHAIN, &shown), plan);
        assert!(shown.signatures.is_empty());
        assert_eq!(store.view().unwrap().pruned(recovered - 1).unwrap().unwrap().recovery, None);
    }
}

/// A stopped node's ledger.
fn store_of(net: &Net, i: usize) -> Store {
    let config = net.config(i);
    let file = std::fs::read(&config.genesis).unwrap();
    Store::open(&config.data_dir.join("ledger"), &file, &net.genesis).unwrap()
}

/// Its height.
fn height_of(net: &Net, i: usize) -> u64 {
    store_of(net, i).tip().unwrap().height
}
