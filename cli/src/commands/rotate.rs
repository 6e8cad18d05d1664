//! `assent keys rotate`: a new key in place of one of the node's own, signed by both.

use std::path::{Path, PathBuf};

use assent_ledger::governance::{handover_sign_bytes, present_key};
use assent_ledger::keys::{sign, SigningKey};
use assent_proto::ledger::v1::{KeyPurpose, RotateKey};
use assent_proto::v1::RotateKeyRequest;
use serde_json::json;
use zeroize::Zeroizing;

use crate::card::Card;
use crate::commands::custodian::WriteArgs;
use crate::commands::governance::{height, load_key, membership, purpose, service, DEFAULT_LEAD, PURPOSES};
use crate::commands::init::write_key;
use crate::commands::status::{answer_json, answer_text};
use crate::connect;
use crate::exit::Failure;
use crate::files::{self, PRIVATE, PUBLIC};
use crate::output::{fields, Report};
use crate::pki::{self, Authority};
use crate::profile::Profile;
use crate::text;

/// Arguments of `assent keys rotate`.
#[derive(Debug, clap::Args)]
#[command(next_line_help = true)]
pub struct RotateArgs {
    /// Its purpose, such as entry or vote; a wrong one lists them all
    #[arg(value_name = "PURPOSE", value_parser = PURPOSES, hide_possible_values = true)]
    purpose: String,
    /// The node's folder
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// First height at which it holds; 100 from now by default
    #[arg(long, value_name = "N")]
    at_height: Option<u64>,
    #[command(flatten)]
    write: WriteArgs,
}

impl RotateArgs {
    /// Makes the key, signs the handover, submits it.
    pub fn run(&self, profile: &Profile) -> Result<Report, Failure> {
        let card = Card::load(&self.dir.join("card.json"))?;
        let request_id = text::request_id(&self.write.request_id)?;
        let next = self.dir.join("keys").join(format!("{}.next.pem", self.purpose));
        let answer = connect::run(async {
            let node = self.write.node.connect(profile).await?;
            let (members, now) = membership(&node).await?;
            let purpose = purpose(&self.purpose);
            let old = present_key(&members, &card.id, purpose).ok_or_else(|| {
                let what = format!("{} has no {} key on the ledger", card.id, self.purpose);
                Failure::usage("NO_SUCH_KEY", what)
            })?;
            let effective_height = self.at_height.unwrap_or_else(|| height(&now) + DEFAULT_LEAD);
            let rotation = match purpose {
                KeyPurpose::CertificateAuthority => {
                    let new_key = next_authority(&card, &self.dir, &next)?;
                    RotateKey { purpose: purpose.into(), new_key, effective_height, ..Default::default() }
                }
                _ => {
                    let path = self.dir.join("keys").join(format!("{}.pem", self.purpose));
                    let (present, new) = (own_key(&path, &old)?, next_key(&next)?);
                    let new_key = new.verifying_key().to_bytes().to_vec();
                    let message = handover_sign_bytes(
                        &card.chain_id,
                        &card.id,
                        purpose,
                        &old,
                        &new_key,
                        effective_height,
                    );
                    RotateKey {
                        purpose: purpose.into(),
                        new_key,
                        effective_height,
                        old_signature: sign(&present, &message).to_vec(),
                        new_signature: sign(&new, &message).to_vec(),
                    }
                }
            };
            let request = RotateKeyRequest { request_id: request_id.clone(), rotation: Some(rotation) };
            node.answer(service(&node).rotate_key(request)).await
        })
        .map_err(|failure| text::retry_hint(failure, &request_id))?;
        let rows = [
            ("new key", next.display().to_string()),
            ("recorded", format!("height {}", answer.height)),
            ("holds from", format!("height {}", answer.effective_height)),
            ("ledger", answer_text(&answer.answer)),
        ];
        let text = format!(
            "{}\nThe node takes the file at that height. Leave it where it is, and keep a copy.",
            fields(&rows)
        );
        let json = json!({
            "ok": true, "purpose": self.purpose, "file": next, "height": answer.height,
            "effective_height": answer.effective_height, "request_id": request_id,
            "answer": answer_json(&answer.answer),
        });
        Ok(Report::ok(text, json))
    }
}

/// The node's own key, which must be the one on the ledger.
fn own_key(path: &Path, on_ledger: &[u8]) -> Result<SigningKey, Failure> {
    let key = load_key(path)?;
    match key.verifying_key().to_bytes() == on_ledger {
        true => Ok(key),
        false => {
            Err(Failure::error("KEY_MISMATCH", format!("{} is not the key on the ledger", path.display()))
                .help("name the folder of this organization's node, as its node runs now"))
        }
    }
}

/// The next key: a new one, or the one of an attempt before that came to nothing.
fn next_key(path: &Path) -> Result<SigningKey, Failure> {
    if path.exists() {
        return load_key(path);
    }
    let key = SigningKey::from_bytes(&Zeroizing::new(text::random()));
    write_key(path, &key)?;
    Ok(key)
}

/// Certificate of the next authority, in DER; its key is written beside it, as `.next.key`.
fn next_authority(card: &Card, dir: &Path, path: &Path) -> Result<Vec<u8>, Failure> {
    if !path.exists() {
        let (_, issued) = Authority::create(&card.chain_id, &card.id)?;
        let key = dir.join("keys/certificate-authority.next.key");
        files::write_new(&key, Zeroizing::new(issued.key).as_bytes(), PRIVATE)?;
        files::write_new(path, issued.certificate.as_bytes(), PUBLIC)?;
    }
    pki::certificate_der(&files::read_text(path)?)
}
