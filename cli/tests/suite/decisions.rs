//! `assent audit openings` and `assent audit decisions`: on the files that the ledger's tests keep, and lies about them.

use std::path::PathBuf;

use assent_ledger::audit::{parse_head, write_record, RecordKind, EXPORT_MAGIC};
use assent_ledger::decisions::DECISIONS_MAGIC;
use assent_ledger::hash::sha256;
use assent_ledger::receipts::BUNDLE_MAGIC;
use assent_proto::ledger::v1::{DecisionOpenings, RecordBundle};
use prost::Message;
use serde_json::Value;

use crate::audit;
use crate::node::Node;
use crate::program::{assent, Run};

macro_rules! kept {
    ($name:literal) => {
        include_bytes!(concat!("../../../ledger/tests/fixtures/decisions/", $name))
    };
}

const EXPORT: &[u8] = kept!("good.export");
const OPENINGS: &[u8] = kept!("good.decisions");
const WRONG_EXPORT: &[u8] = kept!("wrong.export");
const WRONG_OPENINGS: &[u8] = kept!("wrong.decisions");
const GENESIS: &[u8] = kept!("genesis-hash.txt");
const RECOVERED_EXPORT: &[u8] = kept!("recovered.export");
const RECOVERED_OPENINGS: &[u8] = kept!("recovered.decisions");
/// Genesis hash and plan.
const RECOVERED: &str = include_str!("../../../ledger/tests/fixtures/decisions/recovered.txt");

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, bytes: &[u8]) -> String {
        let path = self.0.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// Without an anchor.
    fn bare(&self, openings: &[u8], export: &[u8], more: &[&str]) -> Run {
        let (openings, export) = (self.write("openings", openings), self.write("export", export));
        assent(&[&["audit", "decisions", &openings, "--export", &export], more].concat())
    }

    fn decisions(&self, openings: &[u8], export: &[u8], more: &[&str]) -> Run {
        let hash = std::str::from_utf8(GENESIS).unwrap().trim();
        self.bare(openings, export, &[more, &["--genesis-hash", hash]].concat())
    }

    fn json(&self, exit: i32, openings: &[u8], export: &[u8], more: &[&str]) -> Value {
        self.decisions(openings, export, &[more, &["--output", "json"]].concat()).exits(exit).json()
    }
}

fn edited(edit: impl Fn(&mut DecisionOpenings)) -> Vec<u8> {
    let mut file = DecisionOpenings::decode(&OPENINGS[8..]).unwrap();
    edit(&mut file);
    [DECISIONS_MAGIC.as_slice(), &file.encode_to_vec()].concat()
}

fn fits_80_columns(run: &Run) {
    for line in run.out.lines() {
        assert!(line.chars().count() <= 80, "{line}");
    }
}

#[test]
fn decisions_that_were_right_agree() {
    let folder = Folder::new();
    let run = folder.decisions(OPENINGS, EXPORT, &[]).exits(0);
    fits_80_columns(&run);
    for said in [
        "agrees: all 7 accesses were decided as the rules say",
        "PERMIT_OVERRIDE late",
        "It does not show:\n- that something was withheld which should have been given",
    ] {
        assert!(run.out.contains(said), "{said}: {}", run.out);
    }
    let json = folder.json(0, OPENINGS, EXPORT, &[]);
    assert_eq!((&json["ok"], &json["verdict"], &json["to"]), (&true.into(), &"agrees".into(), &13.into()));
    assert_eq!((json["accesses"].as_array().unwrap().len(), &json["fault"]), (7, &Value::Null));
    let (late, after) = (&json["accesses"][4], &json["accesses"][5]);
    assert_eq!((&late["event"]["late"], &late["event"]["consent_seq"]), (&true.into(), &2.into()));
    assert_eq!(
        (&after["event"]["outcome"], &after["event"]["consent_seq"]),
        (&"PERMIT_OVERRIDE".into(), &3.into())
    );
}

#[test]
fn a_record_that_went_out_wrongly_is_named_with_the_rule_that_withholds_it() {
    let folder = Folder::new();
    let run = folder.decisions(WRONG_OPENINGS, WRONG_EXPORT, &[]).exits(3);
    fits_80_columns(&run);
    for said in [
        "differs: 1 of 1 accesses",
        "access 1 differs: NOT_PERMITTED, Observation/phq9",
        "rules say: DENY by c1/1",
    ] {
        assert!(run.out.contains(said), "{said}: {}", run.out);
    }
    let json = folder.json(3, WRONG_OPENINGS, WRONG_EXPORT, &[]);
    assert_eq!((&json["ok"], &json["verdict"]), (&false.into(), &"differs".into()));
    let difference = &json["accesses"][0]["differences"][0];
    assert_eq!(
        (&difference["reason"], &difference["what"]),
        (&"NOT_PERMITTED".into(), &"Observation/phq9".into())
    );
    assert_eq!((&difference["expected"], &difference["found"]), (&"DENY by c1/1".into(), &"released".into()));
}

#[test]
fn openings_that_do_not_match_the_ledger_are_named() {
    let folder = Folder::new();
    let lie = edited(|file| file.policies[1].body[10] ^= 1);
    let run = folder.decisions(&lie, EXPORT, &[]).exits(3);
    assert!(run.out.contains("policy 2: the opening does not match the ledger"), "{run:?}");
    fits_80_columns(&run);
    let json = folder.json(3, &lie, EXPORT, &[]);
    assert_eq!(
        (&json["mismatches"][0]["reason"], &json["mismatches"][0]["what"]),
        (&"OPENING_MISMATCH".into(), &"policy 2".into())
    );
    // What it would have opened is missing elsewhere.
    assert_eq!(json["accesses"][3]["missing"][0], "policy 2");
}

#[test]
fn what_is_not_opened_is_asked_for_and_bundles_help() {
    let folder = Folder::new();
    let without = edited(|file| {
        file.records.clear();
        file.accesses.iter_mut().for_each(|access| access.digests.clear());
    });
    let run = folder.decisions(&without, EXPORT, &[]).exits(4);
    assert!(
        run.out.contains("access 1 is not decided, not opened: 1 of 1") && run.out.contains("--bundle"),
        "{run:?}"
    );
    fits_80_columns(&run);
    let file = DecisionOpenings::decode(&OPENINGS[8..]).unwrap();
    let bundles: Vec<String> = file
        .accesses
        .iter()
        .map(|access| {
            let of = |digest: &Vec<u8>| {
                file.records.iter().find(|r| sha256(r).as_slice() == digest).unwrap().clone()
            };
            let resources = access.digests.iter().map(of).collect();
            let bundle = RecordBundle { proof: None, resources };
            folder.write(
                &format!("bundle-{}", access.access_seq),
                &[BUNDLE_MAGIC.as_slice(), &bundle.encode_to_vec()].concat(),
            )
        })
        .collect();
    let more: Vec<&str> = bundles.iter().flat_map(|path| ["--bundle", path.as_str()]).collect();
    folder.decisions(&without, EXPORT, &more).exits(0);
    let json = folder.json(4, &without, EXPORT, &more[..2]);
    assert_eq!(
        (&json["verdict"], &json["accesses"][6]["verdict"]),
        (&"undecided".into(), &"undecided".into())
    );
    let run = folder.decisions(&without, EXPORT, &["--bundle", &folder.write("none", b"ASSENTB?")]).exits(2);
    assert!(run.err.contains("MALFORMED_BUNDLE"), "{run:?}");
}

#[test]
fn malformed_openings_are_usage_errors_and_a_bad_export_decides_nothing() {
    let folder = Folder::new();
    for bad in
        [&b""[..], b"ASSENTD1?", &OPENINGS[8..], &OPENINGS[..OPENINGS.len() - 1], &[OPENINGS, b"\0"].concat()]
    {
        let run = folder.decisions(bad, EXPORT, &[]).exits(2);
        assert!(run.err.contains("MALFORMED_OPENINGS"), "{run:?}");
    }
    let missing = PathBuf::from("missing");
    let path = folder.write("openings", OPENINGS);
    assent(&["audit", "decisions", &path, "--export", missing.to_str().unwrap()]).exits(2);

    let mut flipped = EXPORT.to_vec();
    flipped[EXPORT.len() / 2] ^= 1;
    let json = folder.json(3, OPENINGS, &flipped, &[]);
    assert!(json["fault"]["height"].as_u64().unwrap() > 0 && json["accesses"].is_null(), "{json}");
    // Another patient's, or another chain's: nothing of it is on this ledger.
    let json = folder.json(3, &edited(|file| file.handle[0] ^= 1), EXPORT, &[]);
    assert_eq!(json["mismatches"].as_array().unwrap().len(), 11, "{json}");
    let json = folder.json(3, &edited(|file| file.chain_id = "testnet-other-1".into()), EXPORT, &[]);
    assert_eq!((&json["fault"]["kind"], &json["fault"]["height"]), (&"openings".into(), &0.into()));
    let run = folder.bare(OPENINGS, EXPORT, &[]).exits(4);
    assert!(run.out.contains("consistent, not anchored") && run.out.contains("--genesis-hash"), "{run:?}");
    fits_80_columns(&run);
    folder.bare(OPENINGS, EXPORT, &["--genesis-hash", &"1".repeat(64)]).exits(3);
}

/// The export with the entries of its first blocks gone, as a node gives it that keeps only newer ones.
fn pruned(export: &[u8], blocks: usize) -> Vec<u8> {
    let (mut out, mut rest, mut height) = (EXPORT_MAGIC.to_vec(), &export[EXPORT_MAGIC.len()..], 0);
    while let Some((head, behind)) = rest.split_first_chunk::<5>() {
        let (kind, len) = parse_head(*head).unwrap();
        let (payload, behind) = behind.split_at(len);
        height += usize::from(kind == RecordKind::Block);
        if kind == RecordKind::Block && height <= blocks {
            write_record(&mut out, RecordKind::Pruned, &audit::pruned(payload, "testnet-cedar-1"));
        } else {
            write_record(&mut out, kind, payload);
        }
        rest = behind;
    }
    out
}

#[test]
fn a_pruned_export_decides_nothing_and_says_where_the_entries_are_missing() {
    let folder = Folder::new();
    assert_eq!(pruned(EXPORT, 0), EXPORT);
    for blocks in [1, 5, 13] {
        let export = pruned(EXPORT, blocks);
        let run = folder.decisions(OPENINGS, &export, &[]).exits(4);
        assert!(run.out.starts_with("can't be decided by") && run.out.contains("pruned"), "{run:?}");
        fits_80_columns(&Run { out: run.out.replace(folder.0.path().to_str().unwrap(), "F"), ..run });
        let json = folder.json(4, OPENINGS, &export, &[]);
        assert_eq!((&json["ok"], &json["verdict"]), (&false.into(), &"undecided".into()));
        assert_eq!((&json["fault"]["kind"], &json["fault"]["height"]), (&"pruned".into(), &1.into()));
        assert!(json["accesses"].is_null(), "{json}");
    }
}

#[test]
fn behind_a_recovery_the_auditor_has_to_accept_its_plan() {
    let folder = Folder::new();
    let (genesis, plan) = RECOVERED.trim().split_once('\n').unwrap();
    let run = |more: &[&str]| {
        folder.bare(RECOVERED_OPENINGS, RECOVERED_EXPORT, &[more, &["--genesis-hash", genesis]].concat())
    };
    for more in [&[][..], &["--accept-recovery", genesis]] {
        let undecided = run(more).exits(4);
        for part in ["can't be decided by", "--accept-recovery", plan] {
            assert!(undecided.out.replace('\n', " ").contains(part), "{part}: {undecided:?}");
        }
        let json = run(&[more, &["--output", "json"]].concat()).exits(4).json();
        assert_eq!((&json["verdict"], &json["fault"]["kind"]), (&"undecided".into(), &"recovery".into()));
    }
    // What was decided wrongly behind it is found, and nothing else.
    let accepted = run(&["--accept-recovery", plan]).exits(3);
    for part in ["differs: 1 of 3 accesses", "access 3 differs: NOT_PERMITTED, Observation/phq9"] {
        assert!(accepted.out.contains(part), "{part}: {accepted:?}");
    }
    assert!(
        accepted.out.contains("RECOVERY of a lost quorum, NOT certified by the set before"),
        "{accepted:?}"
    );
    fits_80_columns(&accepted);
    let json = run(&["--accept-recovery", plan, "--output", "json"]).exits(3).json();
    let verdicts: Vec<_> = json["accesses"].as_array().unwrap().iter().map(|a| &a["verdict"]).collect();
    assert_eq!(verdicts, ["agrees", "agrees", "differs"]);
    assert_eq!(json["recoveries"][0]["plan"], plan);
    assert_eq!(json["recoveries"][0]["removed"], serde_json::json!(["dogwood", "elm"]));
    assert_eq!(folder.json(0, OPENINGS, EXPORT, &[])["recoveries"], serde_json::json!([]));
}

#[test]
fn an_officer_keeps_the_openings_that_the_node_sends() {
    let node = Node::start();
    let out = node.text("openings");
    let openings = |more: &[&str]| {
        let who = ["--identifier", "urn:x:mrn|17", "--birth-date", "2000-02-29", "--out", &out];
        node.crm(&[&["audit", "openings", "--custodian", "cedar"], &who[..], more].concat())
    };
    let other = edited(|file| file.custodian = "birch".into());
    for lie in [&b"?"[..], OPENINGS, &other[8..]] {
        node.told.set(|script| script.openings = lie.to_vec());
        let run = openings(&[]).exits(3);
        assert!(run.err.contains("BAD_OPENINGS") && !node.path("openings").exists(), "{run:?}");
    }
    node.told.set(|script| script.openings = OPENINGS[8..].to_vec());
    let run = openings(&["--without-records"]).exits(0);
    assert!(
        run.out.contains("compared with no ledger yet")
            && run.out.contains("2, byte by byte as they were released"),
        "{run:?}"
    );
    fits_80_columns(&Run { out: run.out.replace(&out, "FILE"), ..run });
    assert_eq!(std::fs::read(&out).unwrap(), OPENINGS);
    let asked = node.told.0.lock().unwrap().openings_asked.take().unwrap();
    assert!(asked.omit_records && asked.patient.unwrap().identifier_value == "17");
    openings(&[]).exits(1);
    std::fs::remove_file(&out).unwrap();
    let json = openings(&["--output", "json"]).exits(0).json();
    assert_eq!((&json["accesses"], &json["sets"], &json["policies"]), (&7.into(), &3.into(), &2.into()));
}
