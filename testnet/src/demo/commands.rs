//! The CLI as the people of the story use it. Nothing else here knows its flags.

use std::path::Path;

use assent_ledger::keyfile;
use assent_ledger::keys::SigningKey;

use super::stage::{Stage, CUSTODIAN};
use crate::binaries::{Binaries, Ran};
use crate::error::{Error, While};
use crate::net::create::text;
use crate::net::description::Client;

/// The patient makes a wallet; returns its control key.
pub async fn new_wallet(binaries: &Binaries, wallet: &Path) -> Result<SigningKey, Error> {
    binaries
        .assent_ok(&["wallet", "new", "--out", text(wallet)?])
        .await?;
    let pem = std::fs::read_to_string(wallet).during(|| format!("reading {}", wallet.display()))?;
    keyfile::from_pem(&pem).during(|| format!("reading {}", wallet.display()))
}

impl Stage {
    /// `assent verify`: exit status.
    pub async fn verify(&self, file: &Path, genesis_hash: &str) -> Result<i32, Error> {
        let ran = self
            .binaries
            .assent(&["verify", text(file)?, "--genesis-hash", genesis_hash])
            .await?;
        Ok(ran.exit)
    }

    /// `assent withdraw` through an organization's node: exit status.
    pub async fn withdraw(&self, through: &str) -> Result<i32, Error> {
        let (node, ca) = self.reach(through)?;
        let wallet = text(&self.patient.wallet)?;
        let ran = self
            .binaries
            .assent(&[
                "withdraw",
                "--wallet",
                wallet,
                "--custodian",
                CUSTODIAN,
                "--node",
                &node,
                "--ca",
                &ca,
            ])
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
        self.export(&self.network().node(through)?.grpc, auditor, out)
            .await
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
            .assent(&[
                "audit",
                "verify",
                file,
                "--genesis-hash",
                genesis_hash,
                "--output",
                "json",
            ])
            .await
    }

    /// URL and certificate authority of a node, for who has no client certificate.
    fn reach(&self, organization: &str) -> Result<(String, String), Error> {
        let ca = &self.network().client(organization, "operator")?.ca;
        Ok((
            self.network().node(organization)?.grpc.clone(),
            text(ca)?.to_owned(),
        ))
    }
}
