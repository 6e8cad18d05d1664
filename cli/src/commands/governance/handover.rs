//! `assent governance handover`: a member signs for a new key that the others shall vote for.

use std::path::{Path, PathBuf};

use assent_ledger::governance::{handover_sign_bytes, present_key};
use assent_ledger::keys::sign;
use assent_proto::ledger::v1::{KeyPurpose, Membership, ReplaceKey};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{chain_id, load_key, membership, purpose, PURPOSES};
use crate::connect::{self, NodeArgs};
use crate::exit::Failure;
use crate::files::{self, PUBLIC};
use crate::output::Report;
use crate::pki;
use crate::profile::Profile;
use crate::text;

/// What a member sends to those who shall vote for its new key.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct HandoverFile {
    organization: String,
    purpose: String,
    new_key: String,
    new_signature: String,
}

/// A replacement from a handover file, a key file, or a certificate.
pub fn handover(
    members: &Membership,
    chain_id: &str,
    organization: &str,
    name: &str,
    file: &Path,
) -> Result<ReplaceKey, Failure> {
    text::id("ORGANIZATION", organization)?;
    let (purpose, text) = (purpose(name), files::read_text(file)?);
    let made = |new_key: Vec<u8>, new_signature: Vec<u8>| ReplaceKey {
        organization: organization.to_owned(),
        purpose: purpose.into(),
        new_key,
        new_signature,
    };
    if purpose == KeyPurpose::CertificateAuthority {
        return Ok(made(pki::certificate_der(&text)?, Vec::new()));
    }
    if text.trim_start().starts_with('{') {
        let malformed =
            |why: String| Failure::usage("MALFORMED_HANDOVER", format!("{}: {why}", file.display()));
        let read: HandoverFile = serde_json::from_str(&text).map_err(|e| malformed(e.to_string()))?;
        if (read.organization.as_str(), read.purpose.as_str()) != (organization, name) {
            return Err(malformed(format!("it is for {} of {}", read.purpose, read.organization)));
        }
        let signature = hex::decode(&read.new_signature).map_err(|e| malformed(e.to_string()))?;
        return Ok(made(text::hash("new_key", &read.new_key)?.to_vec(), signature));
    }
    let key = load_key(file)?;
    let new_key = key.verifying_key().to_bytes();
    let old = present_key(members, organization, purpose).ok_or_else(|| {
        Failure::usage("NO_SUCH_KEY", format!("{organization} has no {name} key on the ledger"))
    })?;
    let message = handover_sign_bytes(chain_id, organization, purpose, &old, &new_key, 0);
    Ok(made(new_key.to_vec(), sign(&key, &message).to_vec()))
}

/// Arguments of `assent governance handover`.
#[derive(Debug, clap::Args)]
#[command(next_line_help = true)]
pub struct HandoverArgs {
    /// The member whose key it is
    #[arg(value_name = "ORG")]
    organization: String,
    /// entry, vote, consensus-peer, exchange-peer or checkpoint
    #[arg(value_name = "PURPOSE", value_parser = PURPOSES[..5].to_vec(), hide_possible_values = true)]
    purpose: String,
    /// The new key (PEM): `assent keys generate` makes one
    #[arg(value_name = "KEY")]
    key: PathBuf,
    /// File to write, for those who propose it; holds no secret
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    node: NodeArgs,
}

impl HandoverArgs {
    /// Writes the file.
    pub fn run(&self, profile: &Profile) -> Result<Report, Failure> {
        files::refuse_existing(&self.out)?;
        let (members, chain_id) = connect::run(async {
            let node = self.node.connect(profile).await?;
            Ok((membership(&node).await?.0, chain_id(&node).await?))
        })?;
        let made = handover(&members, &chain_id, &self.organization, &self.purpose, &self.key)?;
        let file = HandoverFile {
            organization: made.organization,
            purpose: self.purpose.clone(),
            new_key: hex::encode(made.new_key),
            new_signature: hex::encode(made.new_signature),
        };
        let json = serde_json::to_string_pretty(&file).map_err(|e| Failure::error("HANDOVER", e))?;
        files::write_new(&self.out, (json + "\n").as_bytes(), PUBLIC)?;
        let text = format!(
            "{} written.\nA validator's organization proposes it: assent governance propose replace-key {} {} {}",
            self.out.display(),
            self.organization,
            self.purpose,
            self.out.display()
        );
        Ok(Report::ok(text, json!({ "ok": true, "file": self.out, "new_key": file.new_key })))
    }
}
