//! `assent patient pack`: everything that a custodian holds about one patient's consents and accesses, in a file that proves to
//! anybody that it is everything. With the wallet, or by the portal in the patient's name.

use std::path::PathBuf;

use assent_ledger::pack::{decode_pack, history_of, verify_pack, VerifiedPack, MAX_PACK_BYTES, PACK_MAGIC};
use assent_ledger::receipts::genesis_hash_in;
use assent_proto::v1::patient_service_client::PatientServiceClient;
use assent_proto::v1::{GetPackRequest, Patient};
use serde_json::json;

use crate::commands::packed;
use crate::commands::trust::{sent, TrustArgs};
use crate::commands::wallet::{ControlKey, Wallet};
use crate::connect::{self, Node, NodeArgs};
use crate::exit::Failure;
use crate::files::{self, PRIVATE};
use crate::output::Report;
use crate::profile::{ChainArgs, Profile};
use crate::text::PatientArgs;

/// What is about one patient.
#[derive(Debug, clap::Subcommand)]
pub enum PatientCommand {
    /// Keep all consents and accesses at a custodian, with proof
    Pack(PackArgs),
}

impl PatientCommand {
    /// Does it.
    pub fn run(&self, profile: &Profile) -> Result<Report, Failure> {
        let Self::Pack(args) = self;
        args.run(profile)
    }
}

/// Arguments of `assent patient pack`.
#[derive(Debug, clap::Args)]
#[command(
    next_line_help = true,
    override_usage = "assent patient pack --custodian <ID> --wallet <FILE>\n       --out <FILE> [OPTIONS]\n       assent patient pack --custodian <ID> --identifier <SYSTEM|VALUE>\n       --birth-date <DATE> --out <FILE> [OPTIONS]"
)]
pub struct PackArgs {
    /// Organization that holds the records; its node is asked
    #[arg(long, value_name = "ID")]
    custodian: String,
    /// Wallet; needs no client certificate
    #[arg(long, value_name = "FILE", conflicts_with_all = ["identifier", "birth_date"])]
    #[arg(required_unless_present = "identifier")]
    wallet: Option<PathBuf>,
    /// For the portal: patient's identifier, SYSTEM|VALUE
    #[arg(long, value_name = "SYSTEM|VALUE", requires = "birth_date")]
    identifier: Option<String>,
    /// For the portal: patient's birth date, YYYY-MM-DD
    #[arg(long, value_name = "DATE", requires = "identifier")]
    birth_date: Option<String>,
    /// File to write; whoever has it reads all that is in it
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    chain: ChainArgs,
    #[command(flatten)]
    trust: TrustArgs,
    #[command(flatten)]
    node: NodeArgs,
}

/// Who asks.
enum Asker {
    Patient(Box<ControlKey>),
    Portal(Patient),
}

impl PackArgs {
    /// Asks the custodian's node and verifies what it says. Nothing is written unless everything holds.
    fn run(&self, profile: &Profile) -> Result<Report, Failure> {
        let against = self.trust.resolve(profile)?;
        let asker = self.asker(profile)?;
        files::refuse_existing(&self.out)?;
        let bytes = connect::run(async {
            let node = match asker {
                Asker::Patient(_) => self.node.connect_without_certificate(profile).await?,
                Asker::Portal(_) => self.node.connect(profile).await?,
            };
            fetch(&node, &asker, against.checkpoint_size()).await
        })?;
        let history = decode_pack(&bytes).and_then(|pack| history_of(&pack)).map_err(|e| lie(&e))?;
        let own = genesis_hash_in(history.anchor.as_ref()).map_err(|e| lie(&e))?;
        let pack = verify_pack(&against.trust(own), &bytes).map_err(|e| sent(e, lie))?;
        self.must_be_asked_for(&asker, &pack)?;
        files::write_new(&self.out, &[PACK_MAGIC.as_slice(), &bytes].concat(), PRIVATE)?;
        let mut json = packed::json(&pack);
        json["file"] = json!(self.out);
        let text = format!("{}\nkept in {}", packed::text(&pack).trim_end(), self.out.display());
        Ok(against.verdict(&pack.at.start, text, json))
    }

    fn asker(&self, profile: &Profile) -> Result<Asker, Failure> {
        match (&self.wallet, &self.identifier, &self.birth_date) {
            (Some(wallet), ..) => {
                let wallet = Wallet::load(wallet)?;
                let key = wallet.control_key(&self.custodian, self.chain.resolve(profile)?)?;
                Ok(Asker::Patient(Box::new(key)))
            }
            (None, Some(identifier), Some(birth_date)) => {
                PatientArgs::of(&self.custodian, identifier, birth_date).parse().map(Asker::Portal)
            }
            _ => Err(Failure::usage("NO_PATIENT", "give --wallet FILE, or --identifier and --birth-date")),
        }
    }

    /// The wallet knows the handle. To the portal the custodian's own node says whose it is.
    fn must_be_asked_for(&self, asker: &Asker, pack: &VerifiedPack) -> Result<(), Failure> {
        let handle = match asker {
            Asker::Patient(control) => control.handle,
            Asker::Portal(_) => pack.handle,
        };
        match pack.custodian == self.custodian && pack.handle == handle {
            true => Ok(()),
            false => Err(lie(&"it is somebody else's")),
        }
    }
}

fn lie(why: &dyn std::fmt::Display) -> Failure {
    Failure::verification("BAD_PACK", format!("the pack that the node sent does not hold: {why}"))
        .help("do not rely on it; ask again, and tell the custodian and the other organizations")
}

async fn fetch(node: &Node, asker: &Asker, checkpoint_size: u64) -> Result<Vec<u8>, Failure> {
    let mut client =
        PatientServiceClient::new(node.channel.clone()).max_decoding_message_size(MAX_PACK_BYTES + 1024);
    let (proof, patient) = match asker {
        Asker::Patient(control) => (Some(control.proof("GetPack")), None),
        Asker::Portal(patient) => (None, Some(patient.clone())),
    };
    let request = GetPackRequest { proof, patient, checkpoint_size };
    Ok(node.answer(client.get_pack(request)).await?.pack)
}
