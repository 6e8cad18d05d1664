//! Asks for consent: what form they must have, on both ends, and the recipient's end of telling them.

use std::collections::BTreeSet;

use assent_ledger::consent::{is_resource_type, Reference, Request};
use assent_ledger::hash::Context;
use assent_ledger::receipt::verify_message;
use assent_ledger::Hash;
use assent_proto::ledger::v1::{ConsentAsk, ConsentAskState, Signed};
use prost::Message;

use super::client::{custodian_unavailable, entry_key, hear, misbehaves, unreachable_custodian};
use super::{Frame, Say};
use crate::app::Parts;
use crate::peers::{Peers, Protocol};
use crate::refusal::Refusal;

/// Most purposes in an ask.
pub const MAX_PURPOSES: usize = 16;
/// Most resource types in an ask.
pub const MAX_TYPES: usize = 64;
/// Longest code, in bytes.
const MAX_CODE_BYTES: usize = 64;
/// Longest reason, in characters.
pub const MAX_REASON_CHARS: usize = 1000;
/// The last moment that FHIR can write, in milliseconds since the Unix epoch: the end of the year 9999.
pub const LAST_MOMENT_MS: u64 = 253_402_300_800_000;

/// What is wrong with an ask.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {what}")]
pub struct AskFault {
    /// Field of the ask.
    pub field: &'static str,
    /// What was seen, and what is needed.
    pub what: String,
}

fn fault<T>(field: &'static str, what: impl Into<String>) -> Result<T, AskFault> {
    Err(AskFault { field, what: what.into() })
}

fn distinct(field: &'static str, codes: &[String], most: usize) -> Result<(), AskFault> {
    if codes.len() > most {
        return fault(field, format!("{} codes, at most {most}", codes.len()));
    }
    let is_code = |code: &String| {
        (1..=MAX_CODE_BYTES).contains(&code.len()) && code.bytes().all(|b| b.is_ascii_alphanumeric())
    };
    if let Some(n) = codes.iter().position(|code| !is_code(code)) {
        return fault(field, format!("number {} is no code", n + 1));
    }
    match codes.iter().collect::<BTreeSet<_>>().len() == codes.len() {
        true => Ok(()),
        false => fault(field, "a code twice"),
    }
}

/// What reorders or hides text would show the patient another reason than the one that was written.
fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// Checks what an ask asks for. Both ends do: the recipient names the field to its client, the custodian trusts nobody.
pub fn check_form(ask: &ConsentAsk) -> Result<(), AskFault> {
    distinct("purposes", &ask.purposes, MAX_PURPOSES)?;
    distinct("actions", &ask.actions, 8)?;
    distinct("resource_types", &ask.resource_types, MAX_TYPES)?;
    let itself = Reference::Literal(format!("Organization/{}", ask.recipient));
    let asked = |purpose: &str| Request::access(vec![itself.clone()], purpose);
    for purpose in &ask.purposes {
        asked(purpose).check().map_err(|e| AskFault { field: "purposes", what: e.to_string() })?;
    }
    let Some(purpose) = ask.purposes.first() else {
        return fault("purposes", "none: at least one code of v3 ActReason is needed");
    };
    for action in &ask.actions {
        let request = Request { action: action.clone(), ..asked(purpose) };
        request.check().map_err(|e| AskFault { field: "actions", what: e.to_string() })?;
    }
    if let Some(unknown) = ask.resource_types.iter().find(|kind| !is_resource_type(kind)) {
        return fault("resource_types", format!("{unknown:?} is no resource type of FHIR R4"));
    }
    let chars = ask.reason.chars().count();
    if !(1..=MAX_REASON_CHARS).contains(&chars) {
        return fault("reason", format!("{chars} characters, 1 to {MAX_REASON_CHARS} needed"));
    }
    if ask.reason.chars().any(is_hidden) || ask.reason.trim() != ask.reason {
        return fault("reason", "holds a control character, or white space at an end");
    }
    if ask.valid_until_ms == 0 || ask.valid_until_ms > LAST_MOMENT_MS {
        return fault("valid_until_ms", "no moment before the year 10000");
    }
    Ok(())
}

/// What a custodian says about an ask counts when it signed that for this very ask.
pub fn check_state(
    parts: &Parts,
    custodian: &str,
    hash: &Hash,
    signed: &Signed,
) -> Result<ConsentAskState, Refusal> {
    let key = entry_key(parts, custodian)?;
    let state = ConsentAskState::decode(signed.body.as_slice())
        .map_err(|_| misbehaves(custodian, "an undecodable answer to an ask"))?;
    let genuine =
        signed.organization == custodian && verify_message(Context::AskState, parts.chain_id(), &key, signed);
    if !genuine || state.ask_hash != hash {
        return Err(misbehaves(custodian, "an answer that is not for this ask"));
    }
    Ok(state)
}

/// Tells a custodian an ask, for the first time or again; what comes back is not yet checked.
pub async fn tell(peers: &Peers, custodian: &str, ask: &Signed) -> Result<Signed, Refusal> {
    let lost = |e| unreachable_custodian(custodian, e);
    let mut stream = peers.open(custodian, Protocol::Exchange).await.map_err(lost)?;
    let frame = Frame { say: Some(Say::Ask(ask.clone())) }.encode_to_vec();
    let heard = match stream.send(&frame).await {
        Ok(()) => hear(custodian, &mut stream).await,
        Err(error) => Err(lost(error)),
    };
    // The other side may have hung up first.
    let _ = stream.close().await;
    match heard? {
        Say::AskState(state) => Ok(state),
        Say::Unavailable(why) => Err(custodian_unavailable(custodian, why)),
        _ => Err(misbehaves(custodian, "a frame out of order")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask() -> ConsentAsk {
        ConsentAsk {
            recipient: "birch".into(),
            purposes: vec!["TREAT".into()],
            valid_until_ms: 1,
            reason: "why".into(),
            ..Default::default()
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert_eq!(check_form(&ask()), Ok(()));
        let texts = |texts: &[&str]| texts.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>();
        let many = |n: usize| (0..n).map(|n| n.to_string()).collect::<Vec<_>>();
        for (field, bad) in [
            ("purposes", ConsentAsk { purposes: Vec::new(), ..ask() }),
            ("purposes", ConsentAsk { purposes: texts(&["TREAT", "TREAT"]), ..ask() }),
            ("purposes", ConsentAsk { purposes: texts(&["TREAT", "NONSENSE"]), ..ask() }),
            ("purposes", ConsentAsk { purposes: texts(&["PurposeOfUse"]), ..ask() }),
            ("purposes", ConsentAsk { purposes: many(17), ..ask() }),
            ("purposes", ConsentAsk { purposes: vec!["x".repeat(65)], ..ask() }),
            ("purposes", ConsentAsk { purposes: texts(&[""]), ..ask() }),
            ("actions", ConsentAsk { actions: texts(&["peek"]), ..ask() }),
            ("actions", ConsentAsk { actions: texts(&["use", "use"]), ..ask() }),
            ("resource_types", ConsentAsk { resource_types: texts(&["Observation", "Diary"]), ..ask() }),
            ("resource_types", ConsentAsk { resource_types: many(65), ..ask() }),
            ("reason", ConsentAsk { reason: String::new(), ..ask() }),
            ("reason", ConsentAsk { reason: "ü".repeat(1001), ..ask() }),
            ("reason", ConsentAsk { reason: "a\nb".into(), ..ask() }),
            ("reason", ConsentAsk { reason: "a \u{202e}b".into(), ..ask() }),
            ("reason", ConsentAsk { reason: " a".into(), ..ask() }),
            ("valid_until_ms", ConsentAsk { valid_until_ms: 0, ..ask() }),
            ("valid_until_ms", ConsentAsk { valid_until_ms: u64::MAX, ..ask() }),
        ] {
            assert_eq!(check_form(&bad).unwrap_err().field, field, "{bad:?}");
        }
        assert_eq!(check_form(&ConsentAsk { reason: "ü".repeat(1000), ..ask() }), Ok(()));
        assert_eq!(check_form(&ConsentAsk { actions: texts(&["use", "access"]), ..ask() }), Ok(()));
    }
}
