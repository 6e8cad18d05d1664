//! FHIR out again (CONSENT.md, FHIR R4 Consent, "Export"): the consent as it came, every value written as it was, with one
//! extension that says where it stands in the ledger.

use std::fmt;

use serde::de::{Deserializer, MapAccess, Visitor};
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use super::issue::Refusal;

/// The extension that an exported consent carries.
pub const LEDGER_EXTENSION: &str = "urn:assent:ledger";

/// Where a consent stands in the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    pub consent_id: String,
    pub revision: u64,
    /// Height of the block that recorded this revision.
    pub height: u64,
    /// What the slot's commitment covers of it.
    pub commitment: [u8; 32],
}

/// The same FHIR with the extension. One that an earlier export left is replaced. Refuses what is no JSON object.
pub fn export_consent(fhir: &[u8], recorded: &Recorded) -> Result<Vec<u8>, Refusal> {
    let malformed = |error: serde_json::Error| Refusal::new("not-json", "Consent", error.to_string());
    let members: Members = serde_json::from_slice(fhir).map_err(malformed)?;
    let mut extensions: Vec<String> = Vec::new();
    let mut texts: Vec<String> = Vec::new();
    for (key, value) in members.0 {
        if key == "extension" {
            let present: Vec<&RawValue> = serde_json::from_str(value.get()).map_err(malformed)?;
            let kept = present.into_iter().filter(|extension| !is_ours(extension));
            extensions.extend(kept.map(|extension| extension.get().to_owned()));
        } else {
            texts.push(format!("{}:{}", json!(key), value.get()));
        }
    }
    let part = |url: &str, text: String| json!({ "url": url, "valueString": text });
    let ours = json!({
        "url": LEDGER_EXTENSION,
        "extension": [
            part("consent", recorded.consent_id.clone()),
            part("revision", recorded.revision.to_string()),
            part("height", recorded.height.to_string()),
            part("commitment", hex::encode(recorded.commitment)),
        ],
    });
    extensions.push(ours.to_string());
    texts.push(format!("\"extension\":[{}]", extensions.join(",")));
    Ok(format!("{{{}}}", texts.join(",")).into_bytes())
}

fn is_ours(extension: &RawValue) -> bool {
    #[derive(Deserialize)]
    struct Url {
        url: String,
    }
    serde_json::from_str::<Url>(extension.get()).is_ok_and(|found| found.url == LEDGER_EXTENSION)
}

/// An object's members in their order, their values untouched.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Vec<(String, &'de RawValue)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(members)
            }
        }
        deserializer.deserialize_map(InOrder).map(Members)
    }
}
