//! OpenDecisions of a running network: what the officer gets, decided again against the ledger's export.

use assent_ledger::audit::{parse_head, ChainVerifier, Level};
use assent_ledger::decisions::{decode_openings, replay, Opened, Records, Replay, SlotHistory, Verdict};
use assent_proto::ledger::v1::DecisionOpenings;
use assent_proto::v1::audit_service_client::AuditServiceClient;
use assent_proto::v1::decision_service_client::DecisionServiceClient;
use assent_proto::v1::{ExportLedgerRequest, OpenDecisionsRequest};
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::grpc::is;
use crate::net::Net;
use crate::patient::*;

async fn open(
    channel: Channel,
    custodian: &str,
    value: &str,
    omit_records: bool,
) -> Result<DecisionOpenings, Status> {
    let request = OpenDecisionsRequest { patient: Some(patient(custodian, value)), omit_records };
    let mut stream = DecisionServiceClient::new(channel).open_decisions(request).await?.into_inner();
    let mut bytes = Vec::new();
    while let Some(message) = stream.message().await? {
        bytes.extend(message.chunk);
    }
    Ok(decode_openings(&bytes).unwrap())
}

async fn export(net: &Net, node: usize) -> Vec<u8> {
    let mut client = AuditServiceClient::new(net.client(node, "auditor"));
    let mut stream = client.export_ledger(ExportLedgerRequest {}).await.unwrap().into_inner();
    let mut bytes = Vec::new();
    while let Some(message) = stream.message().await.unwrap() {
        bytes.extend(message.chunk);
    }
    bytes
}

/// Against the export of another organization's node.
async fn again(net: &Net, file: &DecisionOpenings, records: Records) -> Replay {
    let export = export(net, net.index("birch")).await;
    let mut verifier = ChainVerifier::new(Level::Full, Some(net.genesis.hash));
    let mut history = SlotHistory::of(file);
    let mut rest = &export[8..];
    while !rest.is_empty() {
        let (kind, len) = parse_head(rest[..5].try_into().unwrap()).unwrap();
        verifier.record(kind, &rest[5..5 + len]).unwrap();
        history.read(kind, &rest[5..5 + len], &verifier).unwrap();
        rest = &rest[5 + len..];
    }
    history.finish(&verifier).unwrap();
    replay(&history, &Opened::of(file, &history, records))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_a_node_decided_is_decided_again_from_what_it_opens() {
    let net = Net::started(2).await;
    let (cedar, birch) = (net.index("cedar"), net.index("birch"));
    enrolled(&net, "mrn-1", "2030-12-31").await;
    let first = request(net.client(birch, "crm"), "r-1", "mrn-1").await.unwrap();
    let second = consent("Patient/mrn-1", "c-second", "2031-12-31");
    import(net.client(cedar, "portal"), "i-2", "mrn-1", second).await.unwrap();
    request(net.client(birch, "crm"), "r-2", "mrn-1").await.unwrap();

    let officer = || net.client(cedar, "officer");
    let file = open(officer(), "cedar", "mrn-1", false).await.unwrap();
    assert_eq!((file.accesses.len(), file.sets.len()), (2, 3));
    assert_eq!(file.patient_reference, "Patient/mrn-1");
    // Both released the same records, which are there once; what was withheld is not.
    assert_eq!(file.accesses[0].digests, file.accesses[1].digests);
    assert_eq!(file.records, first.resources);
    let found = again(&net, &file, Records::default()).await;
    assert_eq!(found.verdict(), Verdict::Agrees, "{found:?}");

    // Without records, or after one has changed and others came, the recipient's bundle has them.
    let bare = open(officer(), "cedar", "mrn-1", true).await.unwrap();
    assert!(bare.records.is_empty() && bare.accesses == file.accesses);
    let mut newer = records("Patient/mrn-1");
    newer[1] = String::from_utf8(newer[1].clone()).unwrap().replace("final", "amended").into_bytes();
    load(net.client(cedar, "ehr"), "l-2", newer).await.unwrap();
    let file = open(officer(), "cedar", "mrn-1", false).await.unwrap();
    assert_eq!(file.records.len(), first.resources.len() - 1);
    let found = again(&net, &file, Records::default()).await;
    assert_eq!(found.verdict(), Verdict::Undecided);
    assert_eq!(found.accesses[0].missing, ["1 of 2 records as they were released"]);
    for file in [&bare, &file] {
        let mut bundle = Records::default();
        bundle.add_bundle(&first.resources);
        assert_eq!(again(&net, file, bundle).await.verdict(), Verdict::Agrees);
    }

    for (channel, custodian, value, code, reason) in [
        (net.client(cedar, "auditor"), "cedar", "mrn-1", Code::PermissionDenied, "WRONG_ROLE"),
        (net.client(cedar, "portal"), "cedar", "mrn-1", Code::PermissionDenied, "WRONG_ROLE"),
        (officer(), "cedar", "mrn-9", Code::NotFound, "PATIENT_NOT_FOUND"),
        (officer(), "birch", "mrn-1", Code::FailedPrecondition, "FOREIGN_CUSTODIAN"),
    ] {
        is(&open(channel, custodian, value, false).await.unwrap_err(), code, reason);
    }
}
