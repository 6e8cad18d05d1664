//! Requests as INTERFACES.md writes them.

use super::*;

const FULL: &str = r#"{"recipient":{"organization":"urn:assent:organization|birch","practitioner":"Practitioner/1",
    "groups":["Group/er"],"role":"nurse"},"purpose":"ETREAT","action":"use","break_glass":{"reason":"unconscious"},
    "required_by_law":{"citation":"statute 1","approver":"Practitioner/9"}}"#;

#[test]
fn every_member_arrives() {
    let literal = |text: &str| Reference::Literal(text.to_owned());
    let expected = Request {
        recipient: vec![organization("birch")],
        actor: Some(literal("Practitioner/1")),
        groups: Some(vec![literal("Group/er")]),
        known_groups: None,
        role: Some("nurse".into()),
        purpose: "ETREAT".into(),
        action: "use".into(),
        break_glass: Some(BreakGlassReason { reason: "unconscious".into() }),
        required_by_law: Some(RequiredByLaw {
            citation: "statute 1".into(),
            approver: literal("Practitioner/9"),
        }),
        recipient_is_plan: false,
    };
    assert_eq!(Request::parse(FULL.as_bytes()), Ok(expected));
    let short = r#"{"recipient":{"organization":"Organization/b"},"purpose":"TREAT"}"#;
    assert_eq!(
        Request::parse(short.as_bytes()),
        Ok(Request::access(vec![literal("Organization/b")], "TREAT"))
    );
}

/// "Exactly one purpose", and every other way to ask badly.
#[test]
fn malformed_requests_are_refused() {
    for (from, to) in [
        (r#""ETREAT""#, r#"["ETREAT","HPAYMT"]"#),
        (r#""ETREAT""#, r#""ETREAT","purpose":"HPAYMT""#),
        (r#""ETREAT""#, r#""ETREAT HPAYMT""#),
        (r#""ETREAT""#, r#""etreat""#),
        (r#""ETREAT""#, r#""PurposeOfUse""#),
        (r#""ETREAT""#, "null"),
        (r#""purpose":"ETREAT","#, ""),
        (r#""use""#, r#""delete""#),
        (r#""unconscious""#, r#"" ""#),
        (r#""statute 1""#, r#""""#),
        (r#""approver":"Practitioner/9""#, r#""approver":"Dr. Nine""#),
        (r#","approver":"Practitioner/9""#, ""),
        (r#""nurse""#, r#""""#),
        (r#""Practitioner/1""#, r#""Dr. One""#),
        (r#""urn:assent:organization|birch""#, r#""birch""#),
        (r#"["Group/er"]"#, r#""Group/er""#),
        (r#"["Group/er"]"#, r#"["er"]"#),
        (r#""role":"nurse""#, r#""role":"nurse","plan":true"#),
    ] {
        assert!(FULL.contains(from), "{from}");
        let text = FULL.replacen(from, to, 1);
        assert!(Request::parse(text.as_bytes()).is_err(), "{from} -> {to}");
    }
    assert!(Request::parse(b"").is_err() && Request::parse(b"[]").is_err());
    assert!(Request::parse(format!("{FULL} {FULL}").as_bytes()).is_err());
    assert!(Request::parse("[".repeat(60_000).as_bytes()).is_err());
}
