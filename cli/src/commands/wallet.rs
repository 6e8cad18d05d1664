//! `assent wallet`: the patient's control keys, all from one seed, in one file that only its owner may read.
//!
//! The key for a custodian is SHA-256 over a tag, the seed and the custodian's id: two custodians see different keys.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use assent_ledger::hash::{framed, sha256, Context};
use assent_ledger::keys::{sign, SigningKey};
use assent_proto::v1::ControlProof;
use serde::{Deserialize, Serialize};
use serde_json::json;
use zeroize::{Zeroize, Zeroizing};

use crate::exit::{Exit, Failure};
use crate::files::{self, NewFile, PRIVATE};
use crate::output::{fields, Report};
use crate::profile::{ChainArgs, Profile};
use crate::text;

/// Form of the file.
const VERSION: u32 = 1;
/// First bytes of what a control key is hashed from. Tag and seed have fixed lengths, so nothing can be shifted.
const KEY_TAG: &[u8] = b"assent/1/wallet/control-key";

/// The control keys.
#[derive(Debug, clap::Subcommand)]
pub enum WalletCommand {
    /// Make a wallet with a new seed
    #[command(alias = "new")]
    Create(CreateArgs),
    /// Show custodians, handles and public control keys
    Show(ShowArgs),
    /// Note the handle that a custodian gave
    Add(AddArgs),
}

/// Arguments of `assent wallet create`.
#[derive(Debug, clap::Args)]
pub struct CreateArgs {
    /// File to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    chain: ChainArgs,
}

/// Arguments of `assent wallet show`.
#[derive(Debug, clap::Args)]
pub struct ShowArgs {
    /// Wallet
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Show the key for this custodian, known or not
    #[arg(long, value_name = "ID")]
    custodian: Option<String>,
}

/// Arguments of `assent wallet add`.
#[derive(Debug, clap::Args)]
pub struct AddArgs {
    /// Wallet
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Organization that holds the records
    #[arg(long, value_name = "ID")]
    custodian: String,
    /// Handle that the custodian gave you, in hex
    #[arg(long, value_name = "HEX")]
    handle: String,
    #[command(flatten)]
    chain: ChainArgs,
}

impl WalletCommand {
    /// Does it.
    pub fn run(&self, profile: &Profile) -> Result<Report, Failure> {
        match self {
            Self::Create(args) => args.run(profile),
            Self::Show(args) => args.run(),
            Self::Add(args) => args.run(profile),
        }
    }
}

/// The wallet file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wallet {
    version: u32,
    /// 32 secret bytes in hex: whoever has them can withdraw and see the history.
    seed: String,
    /// Chain that signatures are for.
    #[serde(skip_serializing_if = "Option::is_none")]
    chain_id: Option<String>,
    /// Handles in hex, by custodian.
    #[serde(default)]
    custodians: BTreeMap<String, String>,
}

impl Drop for Wallet {
    fn drop(&mut self) {
        self.seed.zeroize();
    }
}

/// What signs for one patient at one custodian.
pub struct ControlKey {
    /// Chain that signatures are for.
    pub chain_id: String,
    /// Organization that holds the records.
    pub custodian: String,
    /// The subject's handle.
    pub handle: [u8; 32],
    /// The key.
    pub key: SigningKey,
}

impl Wallet {
    /// Reads and checks a wallet.
    pub fn load(path: &Path) -> Result<Self, Failure> {
        let text = Zeroizing::new(files::read_text(path)?);
        // The parser's message could repeat a part of the seed: say only where it stopped.
        let wallet: Self = serde_json::from_str(&text).map_err(|e| {
            let what =
                format!("{} is not a wallet: line {}, column {}", path.display(), e.line(), e.column());
            Failure::usage("MALFORMED_WALLET", what)
        })?;
        if wallet.version != VERSION {
            let what = format!("wallet of version {}, this program knows {VERSION}", wallet.version);
            return Err(Failure::usage("WALLET_VERSION", what));
        }
        wallet.seed()?;
        if let Some(chain_id) = &wallet.chain_id {
            text::id("the wallet's chain id", chain_id)?;
        }
        for (custodian, handle) in &wallet.custodians {
            text::id("a custodian in the wallet", custodian)?;
            text::hash("a handle in the wallet", handle)?;
        }
        Ok(wallet)
    }

    fn seed(&self) -> Result<Zeroizing<[u8; 32]>, Failure> {
        let mut seed = Zeroizing::new([0; 32]);
        hex::decode_to_slice(&self.seed, seed.as_mut())
            .map_err(|_| Failure::usage("MALFORMED_WALLET", "the wallet's seed is not 64 hex digits"))?;
        Ok(seed)
    }

    fn key(&self, custodian: &str) -> Result<SigningKey, Failure> {
        let mut message = Zeroizing::new(KEY_TAG.to_vec());
        message.extend_from_slice(self.seed()?.as_ref());
        message.extend_from_slice(custodian.as_bytes());
        Ok(SigningKey::from_bytes(&Zeroizing::new(sha256(&message))))
    }

    /// Public control key for a custodian, in hex.
    fn public_key(&self, custodian: &str) -> Result<String, Failure> {
        Ok(hex::encode(self.key(custodian)?.verifying_key().to_bytes()))
    }

    /// What signs at a custodian whose handle the wallet knows.
    pub fn control_key(&self, custodian: &str, chain_id: Option<String>) -> Result<ControlKey, Failure> {
        text::id("--custodian", custodian)?;
        let handle = self.custodians.get(custodian).ok_or_else(|| {
            Failure::new(Exit::NotFound, "NO_HANDLE", format!("the wallet knows no handle at {custodian}"))
                .help("ask the custodian for it, then: assent wallet add FILE --custodian ID --handle HEX")
        })?;
        let chain_id = match (chain_id, &self.chain_id) {
            (Some(given), Some(own)) if given != *own => {
                return Err(Failure::usage(
                    "CHAIN_ID",
                    format!("the wallet is for chain {own:?}, not {given:?}"),
                ));
            }
            (Some(given), _) => given,
            (None, Some(own)) => own.clone(),
            (None, None) => {
                return Err(Failure::usage(
                    "NO_CHAIN_ID",
                    "the wallet does not say for which chain it signs",
                )
                .help("give --chain-id ID"));
            }
        };
        let handle = text::hash("a handle in the wallet", handle)?;
        Ok(ControlKey { chain_id, custodian: custodian.to_owned(), handle, key: self.key(custodian)? })
    }

    fn json(&self) -> Result<Zeroizing<Vec<u8>>, Failure> {
        let mut bytes = serde_json::to_vec_pretty(self).map_err(|e| Failure::error("WALLET", e))?;
        bytes.push(b'\n');
        Ok(Zeroizing::new(bytes))
    }
}

impl ControlKey {
    /// Proves to a node that the patient asks: fresh nonce, the patient's clock.
    pub fn proof(&self, method: &str) -> ControlProof {
        let (nonce, time_ms) = (text::random::<16>(), text::now_ms());
        let parts: [&[u8]; 5] =
            [method.as_bytes(), self.custodian.as_bytes(), &self.handle, &nonce, &time_ms.to_be_bytes()];
        let signature = sign(&self.key, &framed(Context::PatientRequest, &self.chain_id, &parts));
        ControlProof {
            custodian: self.custodian.clone(),
            handle: self.handle.to_vec(),
            nonce: nonce.to_vec(),
            time_ms,
            signature: signature.to_vec(),
        }
    }
}

impl CreateArgs {
    fn run(&self, profile: &Profile) -> Result<Report, Failure> {
        files::refuse_existing(&self.out)?;
        let seed = Zeroizing::new(text::random::<32>());
        let wallet = Wallet {
            version: VERSION,
            seed: hex::encode(seed.as_ref()),
            chain_id: self.chain.resolve(profile)?,
            custodians: BTreeMap::new(),
        };
        files::write_new(&self.out, &wallet.json()?, PRIVATE)?;
        let path = self.out.display();
        let text = format!(
            "{path} holds your control key. Keep a copy: without it nobody can withdraw for you by signature.\n\
             Give each custodian the key for it:  assent wallet show {path} --custodian ID"
        );
        Ok(Report::ok(text, json!({ "ok": true, "file": self.out, "chain_id": wallet.chain_id })))
    }
}

impl ShowArgs {
    fn run(&self) -> Result<Report, Failure> {
        let wallet = Wallet::load(&self.file)?;
        if let Some(custodian) = &self.custodian {
            text::id("--custodian", custodian)?;
            let key = wallet.public_key(custodian)?;
            let json = json!({
                "ok": true, "custodian": custodian, "control_key": key,
                "handle": wallet.custodians.get(custodian), "chain_id": wallet.chain_id,
            });
            return Ok(Report::ok(key, json));
        }
        let (mut text, mut list) = (String::new(), Vec::new());
        for (custodian, handle) in &wallet.custodians {
            let key = wallet.public_key(custodian)?;
            text += &fields(&[
                ("custodian", custodian.clone()),
                ("handle", handle.clone()),
                ("key", key.clone()),
            ]);
            list.push(json!({ "custodian": custodian, "handle": handle, "control_key": key }));
        }
        if list.is_empty() {
            text = "The wallet knows no custodian yet.".to_owned();
        }
        Ok(Report::ok(text, json!({ "ok": true, "chain_id": wallet.chain_id, "custodians": list })))
    }
}

impl AddArgs {
    fn run(&self, profile: &Profile) -> Result<Report, Failure> {
        text::id("--custodian", &self.custodian)?;
        let handle = hex::encode(text::hash("--handle", &self.handle)?);
        let mut wallet = Wallet::load(&self.file)?;
        if let Some(known) = wallet.custodians.get(&self.custodian).filter(|known| **known != handle) {
            let what = format!("the wallet has another handle at {}: {known}", self.custodian);
            return Err(Failure::error("OTHER_HANDLE", what).help(
                "one wallet is for one patient; use another wallet, or correct the handle in the file",
            ));
        }
        if let Some(chain_id) = self.chain.resolve(profile)? {
            if wallet.chain_id.as_ref().is_some_and(|own| *own != chain_id) {
                return Err(Failure::usage("CHAIN_ID", format!("the wallet is not for chain {chain_id:?}")));
            }
            wallet.chain_id = Some(chain_id);
        }
        wallet.custodians.insert(self.custodian.clone(), handle.clone());
        let mut file = NewFile::create(&self.file, PRIVATE)?;
        file.write(&wallet.json()?)?;
        file.replace()?;
        let text = format!("{} knows your handle at {} now.", self.file.display(), self.custodian);
        Ok(Report::ok(text, json!({ "ok": true, "custodian": self.custodian, "handle": handle })))
    }
}
