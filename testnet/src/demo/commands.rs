//! The CLI as the people of the story use it. Nothing else here knows its flags.

use std::path::Path;

use assent_ledger::hash::sha256;
use assent_ledger::keys::SigningKey;
use serde_json::Value;

use super::stage::{Stage, CUSTODIAN};
use crate::binaries::{Binaries, Ran};
use crate::error::{failed, Error, While};
use crate::net::create::text;
use crate::net::description::Client;

/// What the CLI hashes before the seed and the custodian's id to get a control key.
const KEY_TAG: &[u8] = b"assent/1/wallet/control-key";

/// The patient makes a wallet; returns its control key for Cedar.
///
/// The key is derived here as the CLI does it, because the demo asks for the slot more often than a process can be
/// started; `assent wallet show` must agree.
pub async fn new_wallet(binaries: &Binaries, wallet: &Path, chain_id: &str) -> Result<SigningKey, Error> {
    let file = text(wallet)?;
    binaries.assent_ok(&["wallet", "create", "--out", file, "--chain-id", chain_id]).await?;
    let shown =
        binaries.assent_ok(&["wallet", "show", file, "--custodian", CUSTODIAN, "--output", "json"]).await?;
    let read = std::fs::read_to_string(wallet).during(|| format!("reading {file}"))?;
    let parse = |text: &str| serde_json::from_str::<Value>(text).during(|| format!("reading {file}"));
    let (shown, content) = (parse(&shown.stdout)?, parse(&read)?);
    let seed = hex::decode(content["seed"].as_str().unwrap_or_default())
        .during(|| "reading the wallet's seed".into())?;
    let key = SigningKey::from_bytes(&sha256(&[KEY_TAG, seed.as_slice(), CUSTODIAN.as_bytes()].concat()));
    if shown["control_key"] != hex::encode(key.verifying_key().to_bytes()) {
        return failed("`assent wallet show` names another control key than the wallet's seed gives");
    }
    Ok(key)
}

impl Stage {
    /// `assent verify`: exit status.
    pub async fn verify(&self, file: &Path, genesis_hash: &str) -> Result<i32, Error> {
        let ran = self.binaries.assent(&["verify", text(file)?, "--genesis-hash", genesis_hash]).await?;
        Ok(ran.exit)
    }

    /// The same, as JSON.
    pub async fn verify_json(&self, file: &Path, genesis_hash: &str) -> Result<Ran, Error> {
        let arguments = ["verify", text(file)?, "--genesis-hash", genesis_hash, "--output", "json"];
        self.binaries.assent(&arguments).await
    }

    /// `assent receipt access` of one access, by the patient.
    pub async fn receipt(&self, through: &str, number: u64, out: &Path) -> Result<(), Error> {
        self.by_patient(&["receipt", "access", "--number", &number.to_string()], through, out).await
    }

    /// `assent patient pack`.
    pub async fn pack(&self, through: &str, out: &Path) -> Result<(), Error> {
        self.by_patient(&["patient", "pack"], through, out).await
    }

    async fn by_patient(&self, command: &[&str], through: &str, out: &Path) -> Result<(), Error> {
        let (node, ca) = self.reach(through)?;
        let (wallet, genesis_hash) = (text(&self.patient.wallet)?, hex::encode(self.genesis.hash));
        let who = ["--wallet", wallet, "--custodian", CUSTODIAN, "--out", text(out)?];
        let how = ["--node", &node, "--ca", &ca, "--genesis-hash", &genesis_hash];
        self.binaries.assent_ok(&[command, &who, &how].concat()).await.map(drop)
    }

    /// `assent wallet add`: the patient notes the handle that Cedar gave.
    pub async fn note_handle(&self) -> Result<(), Error> {
        let (wallet, handle) = (text(&self.patient.wallet)?, hex::encode(&self.patient.handle));
        self.binaries
            .assent_ok(&["wallet", "add", wallet, "--custodian", CUSTODIAN, "--handle", &handle])
            .await
            .map(drop)
    }

    /// `assent withdraw` through an organization's node: exit status.
    pub async fn withdraw(&self, through: &str) -> Result<i32, Error> {
        let (node, ca) = self.reach(through)?;
        let wallet = text(&self.patient.wallet)?;
        let ran = self
            .binaries
            .assent(&["withdraw", "--wallet", wallet, "--custodian", CUSTODIAN, "--node", &node, "--ca", &ca])
            .await?;
        if ran.exit != 0 {
            eprintln!("{}", ran.stderr.trim());
        }
        Ok(ran.exit)
    }

    /// `assent history` through an organization's node, as JSON.
    pub async fn history(&self, through: &str, out: &Path) -> Result<Ran, Error> {
        let (node, ca) = self.reach(through)?;
        let (wallet, out) = (text(&self.patient.wallet)?, text(out)?);
        let genesis_hash = hex::encode(self.genesis.hash);
        let ran = self
            .binaries
            .assent(&[
                "history",
                "--wallet",
                wallet,
                "--custodian",
                CUSTODIAN,
                "--node",
                &node,
                "--ca",
                &ca,
                "--out",
                out,
                "--genesis-hash",
                &genesis_hash,
                "--output",
                "json",
            ])
            .await?;
        if ran.exit != 0 {
            eprintln!("{}", ran.stderr.trim());
        }
        Ok(ran)
    }

    /// `assent audit export` from an organization's node by its auditor.
    pub async fn audit_export(&self, through: &str, out: &Path) -> Result<(), Error> {
        let auditor = self.network().client(through, "auditor")?;
        self.export(&self.network().node(through)?.grpc, auditor, out).await
    }

    /// The same from any node.
    pub async fn export(&self, node: &str, auditor: &Client, out: &Path) -> Result<(), Error> {
        let (cert, key, ca) = (text(&auditor.cert)?, text(&auditor.key)?, text(&auditor.ca)?);
        self.binaries
            .assent_ok(&[
                "audit",
                "export",
                "--node",
                node,
                "--cert",
                cert,
                "--key",
                key,
                "--ca",
                ca,
                "--out",
                text(out)?,
            ])
            .await?;
        Ok(())
    }

    /// `assent audit verify`, as JSON.
    pub async fn audit_verify(&self, file: &Path, genesis_hash: &str) -> Result<Ran, Error> {
        let file = text(file)?;
        self.binaries
            .assent(&["audit", "verify", file, "--genesis-hash", genesis_hash, "--output", "json"])
            .await
    }

    /// URL and certificate authority of a node, for who has no client certificate.
    fn reach(&self, organization: &str) -> Result<(String, String), Error> {
        let ca = &self.network().client(organization, "operator")?.ca;
        Ok((self.network().node(organization)?.grpc.clone(), text(ca)?.to_owned()))
    }
}
