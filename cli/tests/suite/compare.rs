//! `assent audit compare`: nodes over real mutual TLS that have one ledger, two, or don't say.

use assent_proto::v1::ExportLedgerResponse;
use serde_json::{json, Value};
use tonic::Status;

use crate::chain::Chain;
use crate::evidence::fork;
use crate::node::Node;
use crate::program::{assent, Run};

/// A node that has a chain, and the profile of a client of its own.
fn node(chain: &Chain) -> (Node, String) {
    let node = Node::start();
    let chunk = chain.export().0;
    node.told.set(|script| {
        script.blocks = chain.blocks();
        script.export = vec![Ok(ExportLedgerResponse { answer: None, chunk })];
    });
    let files = "birch/clients/crm-desk";
    let file = |name: &str| node.text(&format!("{files}/{name}"));
    let profile = format!(
        "node = {:?}\ncert = {:?}\nkey = {:?}\nca = {:?}\ntimeout_seconds = 5\n",
        node.url,
        file("cert.pem"),
        file("key.pem"),
        file("ca.pem")
    );
    std::fs::write(node.path("profile.toml"), profile).unwrap();
    let profile = node.text("profile.toml");
    (node, profile)
}

fn compare(profiles: &[&str], more: &[&str]) -> Run {
    assent(&[&["audit", "compare", "--output", "json"], profiles, more].concat())
}

#[test]
fn nodes_with_one_ledger_agree_however_long_theirs_is() {
    let [mut longer, same] = fork((&[0, 1, 2, 3], 0), (&[0, 1, 2], 1));
    longer.branch("Dr Yew", &[0, 1, 2], 0);
    let short = Chain::new(1, [3; 32], None);
    let nodes = [node(&longer), node(&short), node(&longer)];
    let profiles = nodes.each_ref().map(|(_, profile)| profile.as_str());
    let json = compare(&profiles, &[]).exits(0).json();
    let alike: Vec<&Value> = json["alike"].as_array().unwrap().iter().map(|a| &a["alike_to"]).collect();
    assert_eq!(alike, [&json!(4), &json!(6)]);
    drop(same);
    // One that does not answer: the others are compared all the same, and nothing is proven.
    nodes[2].0.told.set(|script| script.blocks[5].block = b"garbage".to_vec());
    let json = compare(&profiles, &[]).exits(4).json();
    assert_eq!(
        (&json["alike"][0]["alike_to"], &json["suspicions"][0]["node"]),
        (&4.into(), &profiles[2].into())
    );
    let gone = nodes[0].0.text("gone.toml");
    let profile = std::fs::read_to_string(profiles[0]).unwrap();
    std::fs::write(&gone, profile.replace(&nodes[0].0.url, "https://127.0.0.1:1")).unwrap();
    let json = compare(&[profiles[0], profiles[1], &gone], &[]).exits(4).json();
    assert_eq!((&json["ok"], &json["suspicions"][0]["node"]), (&false.into(), &gone.as_str().into()));
    assert!(assent(&["audit", "compare", profiles[0], &gone]).exits(4).out.contains("proves nothing"));
    compare(&[profiles[0]], &[]).exits(2);
    compare(&[profiles[0], "/nonexistent"], &[]).exits(2);
}

/// Cedar and Dogwood, more than f = 1, sign two blocks of height 5.
#[test]
fn a_fork_is_found_by_bisection_with_those_who_signed_both() {
    let folder = tempfile::tempdir().unwrap();
    let mut chains = fork((&[0, 1, 2], 0), (&[1, 2, 3], 0));
    let hash = chains[0].genesis_hash();
    for chain in &mut chains {
        for _ in 0..20 {
            chain.branch("Dr Yew", &[0, 1, 2], 0);
        }
    }
    let nodes = chains.each_ref().map(node);
    let profiles = nodes.each_ref().map(|(_, profile)| profile.as_str());
    let out = folder.path().join("out");
    let flags = ["--genesis-hash", &hash, "--out", out.to_str().unwrap()];
    let json = compare(&profiles, &flags).exits(3).json();
    assert_eq!((&json["compared"]["differ_from"], &json["fork"]["height"]), (&5.into(), &5.into()));
    assert_eq!(json["fork"]["signed_both"], json!(["cedar", "dogwood"]));
    for who in ["cedar", "dogwood"] {
        let file = out.join(format!("evidence/{who}-5-0-precommits.evidence"));
        assent(&["verify", file.to_str().unwrap(), "--genesis-hash", &hash]).exits(0);
    }
    for export in ["one.export", "other.export"] {
        let file = out.join(export);
        assent(&["audit", "verify", file.to_str().unwrap(), "--genesis-hash", &hash]).exits(0);
    }
    compare(&profiles, &flags).exits(1);
}

#[test]
fn a_node_that_says_otherwise_than_its_export_is_suspected() {
    let chains = fork((&[0, 1, 2], 0), (&[1, 2, 3], 0));
    let nodes = [node(&chains[0]), node(&chains[0])];
    nodes[1].0.told.set(|script| script.blocks = chains[1].blocks());
    let profiles = nodes.each_ref().map(|(_, profile)| profile.as_str());
    let json = compare(&profiles, &["--genesis-hash", &chains[0].genesis_hash()]).exits(4).json();
    assert_eq!(
        (&json["ok"], &json["fork"], &json["compared"]["differ_from"]),
        (&false.into(), &Value::Null, &5.into())
    );
    // And one that gives no export.
    let nodes = chains.each_ref().map(node);
    nodes[1].0.told.set(|script| script.export = vec![Err(Status::unavailable("gone"))]);
    let profiles = nodes.each_ref().map(|(_, profile)| profile.as_str());
    let json = compare(&profiles, &[]).exits(4).json();
    assert_eq!(json["suspicions"].as_array().unwrap().len(), 1);
}
