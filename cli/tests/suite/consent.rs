//! `assent consent lint` and `evaluate`: offline, the node's own functions.

use std::path::PathBuf;

use serde_json::{json, Value};

use crate::program::{assent, Run};

const EXAMPLE: &str = include_str!("../../examples/consent.json");
const RECORDS: &str = include_str!("../../examples/records.ndjson");
const REQUEST: &str = include_str!("../../examples/request.json");
const NOW: &str = "2026-06-01T12:00:00Z";

/// A folder of files, and runs over them.
struct Desk {
    folder: tempfile::TempDir,
}

impl Desk {
    /// With the example's consent, records and a request that they permit.
    fn new() -> Self {
        let desk = Self { folder: tempfile::tempdir().unwrap() };
        desk.put("consent.json", EXAMPLE);
        desk.put("records.ndjson", RECORDS);
        desk.put("request.json", REQUEST);
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn put(&self, name: &str, text: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), text).unwrap();
    }

    /// Arguments that name a file of this folder are its path.
    fn run(&self, arguments: &[&str]) -> Run {
        let full = |argument: &&str| match self.path(argument).exists() && !argument.is_empty() {
            true => self.path(argument).into_os_string(),
            false => argument.into(),
        };
        let arguments: Vec<_> =
            ["consent"].iter().chain(arguments).chain(&["--output", "json"]).map(full).collect();
        assent(&arguments)
    }

    fn evaluate(&self, more: &[&str]) -> Run {
        let usual = ["evaluate", "--resource", "records.ndjson", "--request", "request.json", "--at", NOW];
        self.run(&[&usual, more].concat())
    }
}

fn changed(change: impl FnOnce(&mut Value)) -> String {
    let mut consent: Value = serde_json::from_str(EXAMPLE).unwrap();
    change(&mut consent);
    consent.to_string()
}

fn outcomes(json: &Value) -> Vec<(&str, &str)> {
    let rows = json["resources"].as_array().unwrap().iter();
    rows.map(|r| (r["resource"].as_str().unwrap(), r["outcome"].as_str().unwrap())).collect()
}

#[test]
fn the_example_releases_all_but_psychiatry() {
    let desk = Desk::new();
    let json = desk.evaluate(&["--consent", "consent.json"]).exits(0).json();
    let expected = json!({
        "ok": true,
        "algorithm": "CDA-1",
        "tables": json["tables"],
        "at": NOW,
        "outcome": "PERMIT",
        "resources": [
            { "resource": "Patient/ada", "outcome": "PERMIT", "decided_by": [{ "consent": "ada-1", "rule": "0" }], "obligations": [] },
            { "resource": "Observation/bp", "outcome": "PERMIT", "decided_by": [{ "consent": "ada-1", "rule": "0" }], "obligations": [] },
            { "resource": "Observation/phq9", "outcome": "DENY", "decided_by": [{ "consent": "ada-1", "rule": "1" }], "obligations": [] },
        ],
        "refused": [],
        "notes": json["notes"],
    });
    assert_eq!(json, expected);
    assert_eq!(json["tables"].as_str().map(str::len), Some(64));
    assert_eq!(json["notes"][0]["issue"][0]["details"]["coding"][0]["code"], "root-type-is-base");
}

#[test]
fn every_outcome_has_its_exit_code() {
    let desk = Desk::new();
    let one = |line: usize| RECORDS.lines().nth(line).unwrap();
    desk.put("psy.json", one(2));
    desk.put("bare.json", one(1).replace("\"meta\"", "\"was\""));
    desk.put("other.json", REQUEST.replace("TREAT", "HMARKT"));
    let run = |record: &str, request: &str, more: &[&str]| {
        let usual = ["evaluate", "--resource", record, "--request", request, "--at", NOW];
        desk.run(&[&usual, more].concat())
    };
    let with = ["--consent", "consent.json"];
    assert_eq!(run("psy.json", "request.json", &with).exits(5).json()["outcome"], "DENY");
    assert_eq!(run("bare.json", "request.json", &with).exits(4).json()["outcome"], "INDETERMINATE");
    let json = run("records.ndjson", "other.json", &with).exits(5).json();
    assert_eq!(outcomes(&json)[0], ("Patient/ada", "NO_CONSENT"));
    let json = run("records.ndjson", "request.json", &[]).exits(5).json();
    assert_eq!((&json["outcome"], &json["resources"][0]["decided_by"]), (&json!("NO_CONSENT"), &json!([])));
    let json = desk
        .run(&[
            "evaluate",
            "--resource",
            "records.ndjson",
            "--request",
            "request.json",
            "--consent",
            "consent.json",
            "--at",
            "2031-01-01T00:00:00Z",
        ])
        .exits(5)
        .json();
    assert_eq!(json["outcome"], "NO_CONSENT", "its end is over");
}

#[test]
fn the_default_policy_speaks_where_no_consent_does() {
    let desk = Desk::new();
    let policy = json!({
        "id": "cedar", "version": 3, "rules": [{ "effect": "PERMIT", "purposes": ["TREAT"] }],
        "break_glass": { "groups": ["Group/er"], "purposes": ["ETREAT"], "overrides_deny": true, "overrides_frozen": false },
        "unlabelled": { "assume": "N", "purposes": ["TREAT"] },
    });
    desk.put("policy.json", policy.to_string());
    let json = desk.evaluate(&["--default-policy", "policy.json"]).exits(0).json();
    assert_eq!(json["resources"][0]["decided_by"], json!([{ "default_policy": "cedar" }]));

    desk.put("bare.json", RECORDS.lines().nth(1).unwrap().replace("\"meta\"", "\"was\""));
    let usual = [
        "evaluate",
        "--resource",
        "bare.json",
        "--request",
        "request.json",
        "--at",
        NOW,
        "--consent",
        "consent.json",
    ];
    let json = desk.run(&[&usual[..], &["--default-policy", "policy.json"]].concat()).exits(0).json();
    assert_eq!(json["resources"][0]["assumed_labels"], true);

    let emergency = json!({
        "recipient": { "organization": "Organization/elm", "practitioner": "Practitioner/1", "groups": ["Group/er"] },
        "purpose": "ETREAT", "break_glass": { "reason": "unconscious" },
    });
    desk.put("request.json", emergency.to_string());
    let json =
        desk.evaluate(&["--consent", "consent.json", "--default-policy", "policy.json"]).exits(0).json();
    assert_eq!(json["outcome"], "PERMIT_OVERRIDE");

    for bad in ["{}", "[]", r#"{"id":"x","version":1,"rules":[]}"#, "not json"] {
        desk.put("policy.json", bad);
        desk.evaluate(&["--default-policy", "policy.json"]).exits(2);
    }
}

#[test]
fn own_requests_and_hard_rules() {
    let desk = Desk::new();
    desk.put("deny.json", changed(|c| c["provision"] = json!({ "type": "deny" })));
    let own = r#"{"recipient":{"organization":"Organization/app","practitioner":"Patient/ada"},"purpose":"PATRQT"}"#;
    desk.put("request.json", own);
    let json = desk.evaluate(&["--consent", "deny.json"]).exits(0).json();
    assert_eq!(
        (&json["resources"][0]["decided_by"], &json["resources"][0]["hard_rule"]),
        (&json!([]), &json!("PATRQT"))
    );
    let law = r#"{"recipient":{"organization":"Organization/court"},"purpose":"HLEGAL",
        "required_by_law":{"citation":"statute 1","approver":"Practitioner/9"}}"#;
    desk.put("request.json", law);
    let json = desk.evaluate(&["--consent", "deny.json"]).exits(0).json();
    assert_eq!(json["resources"][0]["hard_rule"], "REQUIRED_BY_LAW");
}

#[test]
fn consents_and_records_come_in_bundles_and_ndjson() {
    let desk = Desk::new();
    let entries = |lines: Vec<Value>| lines.into_iter().map(|r| json!({ "resource": r })).collect::<Vec<_>>();
    let records = RECORDS.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    desk.put(
        "bundle.json",
        json!({ "resourceType": "Bundle", "type": "collection", "entry": entries(records) }).to_string(),
    );
    let second = changed(|c| {
        c["id"] = "ada-2".into();
        c["provision"] = json!({ "type": "deny", "provision": [{ "type": "deny" }] });
    });
    let one_line = serde_json::from_str::<Value>(EXAMPLE).unwrap().to_string();
    desk.put("consents.ndjson", format!("{one_line}\n\n{second}\n"));
    let usual = ["evaluate", "--resource", "bundle.json", "--request", "request.json", "--at", NOW];
    let json = desk.run(&[&usual[..], &["--consent", "consents.ndjson"]].concat()).exits(5).json();
    assert_eq!(json["resources"].as_array().map(Vec::len), Some(3), "in input order");
    assert_eq!(
        json["resources"][2]["decided_by"],
        json!([{ "consent": "ada-1", "rule": "1" }, { "consent": "ada-2", "rule": "1" }])
    );
    // The same consents as several files.
    desk.put("second.json", second);
    let json =
        desk.run(&[&usual[..], &["--consent", "consent.json", "second.json"]].concat()).exits(5).json();
    assert_eq!(json["outcome"], "DENY");
}

#[test]
fn a_refused_consent_decides_nothing() {
    let desk = Desk::new();
    desk.put(
        "bad.json",
        changed(|c| {
            c["id"] = "bad".into();
            c["provision"]["provision"][0]["type"] = "permit".into();
        }),
    );
    let json = desk.evaluate(&["--consent", "consent.json", "bad.json"]).exits(4).json();
    assert_eq!((&json["outcome"], &json["resources"]), (&Value::Null, &json!([])));
    assert_eq!(json["refused"].as_array().map(Vec::len), Some(1));
    assert!(json["refused"][0]["file"].as_str().unwrap().ends_with("bad.json"));
    let issue = &json["refused"][0]["issue"][0];
    assert_eq!(issue["details"]["coding"][0]["code"], "ambiguous-nesting");
    assert_eq!((&issue["severity"], &issue["code"]), (&json!("error"), &json!("business-rule")));
    // What is malformed comes first.
    desk.put("twin.json", changed(|c| c["provision"]["type"] = Value::Null));
    desk.evaluate(&["--consent", "consent.json", "twin.json"]).exits(2);
}

#[test]
fn malformed_input_exits_2() {
    let desk = Desk::new();
    let consent = ["--consent", "consent.json"];
    desk.evaluate(&consent).exits(0);
    desk.evaluate(&["--consent", "no-such-file.json"]).exits(2);
    desk.evaluate(&["--consent", "consent.json", "consent.json"]).exits(2);
    desk.evaluate(&["--default-policy"]).exits(2);
    desk.evaluate(&["--no-such-flag"]).exits(2);
    desk.run(&["evaluate", "--request", "request.json", "--at", NOW]).exits(2);
    desk.run(&["evaluate", "--resource", "records.ndjson", "--at", NOW]).exits(2);
    for at in ["now", "2026-06-01", "2026-06-01T12:00:00", "10000-01-01T00:00:00Z", ""] {
        let run =
            desk.run(&["evaluate", "--resource", "records.ndjson", "--request", "request.json", "--at", at]);
        assert_eq!(run.exits(2).json()["ok"], false);
    }
    desk.put("stranger.json", changed(|c| c["patient"]["reference"] = "Patient/eve".into()));
    let run = desk.evaluate(&["--consent", "stranger.json"]).exits(2);
    assert_eq!(run.json()["error"]["reason"], "NOT_A_SUBJECT");
    for bad in ["", "{", "not json", "\u{feff}{}", "{}\n{"] {
        desk.put("bad.json", bad);
        desk.evaluate(&["--consent", "bad.json"]).exits(2);
        desk.run(&["lint", "bad.json"]).exits(2);
    }
    for bad in
        ["{}", "[]", "1", r#"{"resourceType":"Observation"}"#, r#"{"resourceType":"Bundle","type":"batch"}"#]
    {
        desk.put("bad.json", bad);
        desk.run(&["evaluate", "--resource", "bad.json", "--request", "request.json", "--at", NOW]).exits(2);
    }
    let two = r#"{"recipient":{"organization":"Organization/x"},"purpose":["TREAT","HPAYMT"]}"#;
    for bad in ["", "{}", "[]", two, &REQUEST.replace("TREAT", "TREATMENT"), &REQUEST.replace('|', "/")] {
        desk.put("request.json", bad);
        let run = desk.evaluate(&consent).exits(2);
        assert_eq!(run.json()["error"]["reason"], "MALFORMED_REQUEST", "{bad}");
    }
}

#[test]
fn lint_says_what_consents_mean_and_why_they_are_refused() {
    let desk = Desk::new();
    let json = desk.run(&["lint", "consent.json"]).exits(0).json();
    let file = &json["files"][0];
    assert_eq!((&file["ok"], file["rules"].as_array().map(Vec::len)), (&json!(true), Some(2)));
    assert_eq!(file["rules"][1], "Rule 1: deny records labelled PSY.");
    assert_eq!(file["issues"][0]["severity"], "information");

    desk.put("bad.json", changed(|c| c["modifierExtension"] = json!([{ "url": "urn:x" }])));
    let json = desk.run(&["lint", "consent.json", "bad.json"]).exits(4).json();
    assert_eq!(
        (&json["ok"], &json["files"][0]["ok"], &json["files"][1]["ok"]),
        (&json!(false), &json!(true), &json!(false))
    );
    let issue = &json["files"][1]["issues"][0];
    assert_eq!(issue["details"]["coding"][0]["code"], "modifier-extension");
    assert_eq!(
        (&issue["code"], &issue["expression"]),
        (&json!("extension"), &json!(["Consent.modifierExtension"]))
    );
    assert_eq!(json["files"][1]["rules"], json!([]));

    // For people it is the same object, on more lines.
    let text = assent(&["consent".as_ref(), "lint".as_ref(), desk.path("consent.json").as_os_str()]).exits(0);
    let shown: Value = serde_json::from_str(&text.out).unwrap();
    assert!(shown["files"][0]["ok"] == true && text.out.lines().count() > 5);
    desk.run(&["lint"]).exits(2);
    desk.run(&["lint", "no-such-file.json"]).exits(2);
}

#[test]
fn leniency_is_off_unless_asked_for_and_reported() {
    let desk = Desk::new();
    let old = changed(|c| {
        c["scope"] = Value::Null;
        c.as_object_mut().unwrap().remove("scope");
        let scope = json!({ "coding": [{ "system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": "patient-privacy" }] });
        c["category"].as_array_mut().unwrap().push(scope);
        c["provision"]["purpose"][0]["system"] = "http://hl7.org/fhir/v3/ActReason".into();
    });
    desk.put("old.json", old);
    let reasons = |json: &Value| -> Vec<String> {
        let issues = json["files"][0]["issues"].as_array().unwrap().iter();
        issues.map(|i| i["details"]["coding"][0]["code"].as_str().unwrap().to_owned()).collect()
    };
    let json = desk.run(&["lint", "old.json"]).exits(4).json();
    assert_eq!(reasons(&json), ["missing-field", "unknown-code-system", "unknown-code-system"]);
    let json = desk.run(&["lint", "old.json", "--lenient"]).exits(0).json();
    assert_eq!(reasons(&json), ["lenient-scope", "lenient-code-system", "root-type-is-base"]);
    desk.evaluate(&["--consent", "old.json"]).exits(4);
    let json = desk.evaluate(&["--consent", "old.json", "--lenient"]).exits(0).json();
    assert_eq!(json["notes"][0]["issue"].as_array().map(Vec::len), Some(3));
}

/// Deep, long and large input is answered, and soon.
#[test]
fn hostile_input_is_bounded() {
    let desk = Desk::new();
    desk.put("deep.json", [b"[".repeat(200_000), b"]".repeat(200_000)].concat());
    let json = desk.run(&["lint", "deep.json"]).exits(4).json();
    assert_eq!(json["files"][0]["issues"][0]["details"]["coding"][0]["code"], "too-deep");
    desk.put(
        "many.json",
        changed(|c| c["provision"]["provision"] = json!(vec![json!({ "type": "deny" }); 10_000])),
    );
    let json = desk.run(&["lint", "many.json"]).exits(4).json();
    assert_eq!(json["files"][0]["issues"][0]["details"]["coding"][0]["code"], "too-many-rules");
    let huge = RECORDS.lines().next().unwrap().replace("ada", &"a".repeat(50 << 20));
    desk.put("huge.json", huge);
    let run =
        desk.run(&["evaluate", "--resource", "huge.json", "--request", "request.json", "--at", NOW]).exits(2);
    assert!(run.err.contains("too-large") && run.err.len() < 1000, "{}", run.err.len());
    desk.put("future.json", changed(|c| c["provision"]["period"]["end"] = "10000-01-01".into()));
    let json = desk.run(&["lint", "future.json"]).exits(4).json();
    assert_eq!(json["files"][0]["issues"][0]["details"]["coding"][0]["code"], "bad-date");
}
