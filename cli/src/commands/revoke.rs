//! `assent keys revoke`: puts a client's certificate on the list that its node keeps.

use std::path::{Path, PathBuf};

use assent_ledger::hash::sha256;
use serde_json::json;

use crate::card::Card;
use crate::exit::Failure;
use crate::files::{self, NewFile, MAX_TEXT_BYTES, PUBLIC};
use crate::output::{time, Report};
use crate::pki::certificate_der;
use crate::text;

/// Longest list, in bytes; the node reads as much.
const MAX_LIST_BYTES: u64 = 4 * MAX_TEXT_BYTES;

/// Arguments of `assent keys revoke`.
#[derive(Debug, clap::Args)]
pub struct RevokeArgs {
    /// The node's folder
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// The client's certificate (cert.pem)
    #[arg(value_name = "CERT")]
    certificate: PathBuf,
}

/// Where a node's configuration has its list.
fn list_of(dir: &Path) -> Result<PathBuf, Failure> {
    let path = dir.join("assentd.toml");
    let malformed =
        |why: &str| Failure::usage("MALFORMED_CONFIGURATION", format!("{}: {why}", path.display()));
    let table: toml::Table =
        files::read_text(&path)?.parse().map_err(|e: toml::de::Error| malformed(e.message()))?;
    match table.get("grpc").and_then(|grpc| grpc.get("revoked")) {
        None => Ok(dir.join("tls/revoked")),
        Some(toml::Value::String(revoked)) => Ok(dir.join(revoked)),
        Some(_) => Err(malformed("grpc.revoked is not a path")),
    }
}

/// The name in a client's certificate of this organization. The node goes by the bytes; this keeps a wrong file off its list.
fn client_id(der: &[u8], card: &Card, path: &Path) -> Result<String, Failure> {
    let prefix = format!("spiffe://{}/org/{}/", card.chain_id, card.id);
    let at = der.windows(prefix.len()).position(|window| window == prefix.as_bytes());
    let name = at.filter(|at| *at > 0).and_then(|at| {
        let length = usize::from(der[at - 1]);
        std::str::from_utf8(der.get(at..at + length)?).ok().map(str::to_owned)
    });
    name.ok_or_else(|| {
        let (path, organization, chain_id) = (path.display(), &card.id, &card.chain_id);
        Failure::usage(
            "NOT_OUR_CLIENT",
            format!("{path} is no certificate of a client of {organization} on {chain_id}"),
        )
        .help("name the client's cert.pem, as `assent keys issue` made it")
    })
}

impl RevokeArgs {
    /// Adds a line to the list, once.
    pub fn run(&self) -> Result<Report, Failure> {
        let card = Card::load(&self.dir.join("card.json"))?;
        let der = certificate_der(&files::read_text(&self.certificate)?)?;
        let id = client_id(&der, &card, &self.certificate)?;
        let list = list_of(&self.dir)?;
        let mut text = match list.exists() {
            true => files::read(&list, MAX_LIST_BYTES)?,
            false => b"# Clients' certificates that count no longer: SHA-256 or serial number, one a line.\n"
                .to_vec(),
        };
        let fingerprint = hex::encode(sha256(&der));
        let listed = String::from_utf8_lossy(&text)
            .lines()
            .filter_map(|line| line.split('#').next())
            .any(|line| line.trim().replace(':', "").eq_ignore_ascii_case(&fingerprint));
        if !listed {
            if text.last().is_some_and(|last| *last != b'\n') {
                text.push(b'\n');
            }
            text.extend(format!("{fingerprint}  # {id}, {}\n", time(text::now_ms())).into_bytes());
            let mut file = NewFile::create(&list, PUBLIC)?;
            file.write(&text)?;
            file.replace()?;
        }
        let (shown, ending) = (list.display(), if listed { " since before" } else { "" });
        let said = format!(
            "{id} is revoked{ending}.\n{shown} names it; a running node takes that up within 5 seconds,\n\
             also for connections that are open."
        );
        let json = json!({ "ok": true, "id": id, "fingerprint": fingerprint, "list": list, "listed_before": listed });
        Ok(Report::ok(said, json))
    }
}
