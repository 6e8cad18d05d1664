//! Asks a node for a receipt.

use std::path::PathBuf;

use assent_ledger::receipts::{Claim, Verified, MAX_BYTES, RECEIPT_MAGIC};
use assent_proto::v1::get_access_receipt_request::Access;
use assent_proto::v1::get_slot_receipt_request::{Opening, Subject};
use assent_proto::v1::receipt_service_client::ReceiptServiceClient;
use assent_proto::v1::{
    GetAccessReceiptRequest, GetDecisionReceiptRequest, GetSlotReceiptRequest, Patient, Query, SlotName,
};

use super::show::judge;
use crate::commands::check::QueryArgs;
use crate::commands::recoveries::NOT_ACCEPTED;
use crate::commands::trust::{Against, TrustArgs};
use crate::commands::wallet::{ControlKey, Wallet};
use crate::connect::{self, Node, NodeArgs};
use crate::exit::Failure;
use crate::files::{self, PRIVATE};
use crate::output::Report;
use crate::profile::{ChainArgs, Profile};
use crate::text::{self, PatientArgs};

/// What every receipt needs.
#[derive(Debug, clap::Args)]
pub struct CommonArgs {
    /// File to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    trust: TrustArgs,
    #[command(flatten)]
    node: NodeArgs,
}

/// Arguments of `assent receipt slot`.
#[derive(Debug, clap::Args)]
#[command(
    next_line_help = true,
    override_usage = "assent receipt slot --custodian <ID> --wallet <FILE>\n       --out <FILE> [OPTIONS]\n       assent receipt slot --custodian <ID> --identifier <SYSTEM|VALUE>\n       --birth-date <DATE> --out <FILE> [OPTIONS]\n       assent receipt slot --custodian <ID> --handle <HEX>\n       --out <FILE> [OPTIONS]"
)]
pub struct SlotArgs {
    #[command(flatten)]
    whose: WhoseArgs,
    /// For the auditor: the subject's handle, in hex
    #[arg(long, value_name = "HEX", conflicts_with_all = ["wallet", "identifier"])]
    handle: Option<String>,
    /// Show this consent among all, with its latest revision
    #[arg(long, value_name = "ID", conflicts_with_all = ["all_consents", "handle"])]
    consent: Option<String>,
    /// List all consents: what is not listed is not there
    #[arg(long, conflicts_with = "handle")]
    all_consents: bool,
    #[command(flatten)]
    common: CommonArgs,
}

/// Arguments of `assent receipt access`.
#[derive(Debug, clap::Args)]
#[command(
    next_line_help = true,
    override_usage = "assent receipt access --request-id <ID> --out <FILE> [OPTIONS]\n       assent receipt access --custodian <ID> --wallet <FILE> --number <N>\n       --out <FILE> [OPTIONS]\n       assent receipt access --custodian <ID> --identifier <SYSTEM|VALUE>\n       --birth-date <DATE> --number <N> --out <FILE> [OPTIONS]"
)]
pub struct AccessArgs {
    /// For who got the records: the request id that they came under
    #[arg(long, value_name = "ID", conflicts_with_all = ["wallet", "identifier", "number"])]
    #[arg(required_unless_present_any = ["wallet", "identifier"])]
    request_id: Option<String>,
    #[command(flatten)]
    whose: AtArgs,
    /// Number of the access, from 1, as `assent history` counts
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    #[arg(required_unless_present = "request_id")]
    number: Option<u64>,
    #[command(flatten)]
    common: CommonArgs,
}

/// Arguments of `assent receipt decision`.
#[derive(Debug, clap::Args)]
#[command(
    next_line_help = true,
    override_usage = "assent receipt decision --custodian <ID> --identifier <SYSTEM|VALUE>\n       --birth-date <DATE> --purpose <CODE> --out <FILE> [OPTIONS]"
)]
pub struct DecisionArgs {
    #[command(flatten)]
    query: QueryArgs,
    #[command(flatten)]
    common: CommonArgs,
}

/// A patient at a custodian that must be named.
#[derive(Debug, clap::Args)]
pub struct WhoseArgs {
    /// Organization that holds the records
    #[arg(long, value_name = "ID")]
    custodian: String,
    #[command(flatten)]
    who: WhoArgs,
}

/// A patient at a custodian, if one is named.
#[derive(Debug, clap::Args)]
pub struct AtArgs {
    /// Organization that holds the records
    #[arg(long, value_name = "ID", required_unless_present = "request_id")]
    custodian: Option<String>,
    #[command(flatten)]
    who: WhoArgs,
}

/// With the wallet, or by the patient's name.
#[derive(Debug, clap::Args)]
pub struct WhoArgs {
    /// For the patient: wallet; needs no client certificate
    #[arg(long, value_name = "FILE", conflicts_with_all = ["identifier", "birth_date"])]
    wallet: Option<PathBuf>,
    /// For portal and officer: patient's identifier, SYSTEM|VALUE
    #[arg(long, value_name = "SYSTEM|VALUE", requires = "birth_date")]
    identifier: Option<String>,
    /// For portal and officer: patient's birth date, YYYY-MM-DD
    #[arg(long, value_name = "DATE", requires = "identifier")]
    birth_date: Option<String>,
    #[command(flatten)]
    chain: ChainArgs,
}

enum Asker {
    Patient(Box<ControlKey>),
    Named(Patient),
}

impl WhoArgs {
    fn asker(&self, custodian: &str, profile: &Profile) -> Result<Option<Asker>, Failure> {
        match (&self.wallet, &self.identifier, &self.birth_date) {
            (Some(wallet), ..) => {
                let wallet = Wallet::load(wallet)?;
                let key = wallet.control_key(custodian, self.chain.resolve(profile)?)?;
                Ok(Some(Asker::Patient(Box::new(key))))
            }
            (None, Some(identifier), Some(birth_date)) => PatientArgs::of(custodian, identifier, birth_date)
                .parse()
                .map(|name| Some(Asker::Named(name))),
            _ => Ok(None),
        }
    }
}

/// Writes what holds and is what was asked for.
fn keep(
    out: &std::path::Path,
    against: &Against,
    body: &[u8],
    asked: impl Fn(&Verified) -> bool,
) -> Result<Report, Failure> {
    let lie = |why: &str| {
        Failure::verification("BAD_RECEIPT", format!("the receipt that the node sent does not hold: {why}"))
            .help("do not rely on it; ask again, or another node")
    };
    let (verified, report) = judge(against, None, body).map_err(|failure| match failure.reason.as_str() {
        NOT_ACCEPTED => failure,
        _ => lie(&failure.what),
    })?;
    if !asked(&verified) {
        return Err(lie("it is about something else than was asked for"));
    }
    files::write_new(out, &[RECEIPT_MAGIC.as_slice(), body].concat(), PRIVATE)?;
    Ok(report)
}

fn client(node: &Node) -> ReceiptServiceClient<tonic::transport::Channel> {
    ReceiptServiceClient::new(node.channel.clone()).max_decoding_message_size(2 * MAX_BYTES)
}

impl SlotArgs {
    /// Asks, verifies, writes.
    pub fn run(&self, profile: &Profile) -> Result<Report, Failure> {
        let against = self.common.trust.resolve(profile)?;
        let custodian = self.whose.custodian.as_str();
        text::id("--custodian", custodian)?;
        files::refuse_existing(&self.common.out)?;
        let asker = self.whose.who.asker(custodian, profile)?;
        let handle = self.handle.as_deref().map(|hex| text::hash("--handle", hex)).transpose()?;
        let (subject, handle) = match (&asker, handle) {
            (Some(Asker::Patient(key)), _) => (Subject::Proof(key.proof("GetSlotReceipt")), Some(key.handle)),
            (Some(Asker::Named(name)), _) => (Subject::Patient(name.clone()), None),
            (None, Some(handle)) => (
                Subject::Slot(SlotName { custodian: custodian.into(), handle: handle.to_vec() }),
                Some(handle),
            ),
            (None, None) => {
                let what = "give --wallet FILE, or --identifier and --birth-date, or --handle HEX";
                return Err(Failure::usage("NO_PATIENT", what));
            }
        };
        let opening = match (&self.consent, self.all_consents) {
            (Some(id), _) => Some(Opening::ConsentId(id.clone())),
            (None, true) => Some(Opening::AllConsents(true)),
            (None, false) => None,
        };
        let request = GetSlotReceiptRequest {
            subject: Some(subject),
            opening,
            checkpoint_size: against.checkpoint_size(),
        };
        let body = connect::run(async {
            let node = match asker {
                Some(Asker::Patient(_)) => self.common.node.connect_without_certificate(profile).await?,
                _ => self.common.node.connect(profile).await?,
            };
            Ok(node.answer(client(&node).get_slot_receipt(request)).await?.receipt)
        })?;
        keep(&self.common.out, &against, &body, |verified| match &verified.claim {
            Claim::Slot(slot) => {
                slot.custodian == custodian && handle.is_none_or(|handle| handle == slot.handle)
            }
            _ => false,
        })
    }
}

impl AccessArgs {
    /// Asks, verifies, writes.
    pub fn run(&self, profile: &Profile) -> Result<Report, Failure> {
        let against = self.common.trust.resolve(profile)?;
        files::refuse_existing(&self.common.out)?;
        let custodian = self.whose.custodian.as_deref();
        let asker = match custodian {
            Some(custodian) => {
                text::id("--custodian", custodian)?;
                self.whose.who.asker(custodian, profile)?
            }
            None => None,
        };
        let (access, handle) = match (&self.request_id, &asker) {
            (Some(id), _) => (Access::RequestId(id.clone()), None),
            (None, Some(Asker::Patient(key))) => {
                (Access::Proof(key.proof("GetAccessReceipt")), Some(key.handle))
            }
            (None, Some(Asker::Named(name))) => (Access::Patient(name.clone()), None),
            (None, None) => {
                let what = "give --request-id ID, or --custodian with --wallet or --identifier";
                return Err(Failure::usage("NO_PATIENT", what));
            }
        };
        let request = GetAccessReceiptRequest {
            access: Some(access),
            access_seq: self.number.unwrap_or_default(),
            checkpoint_size: against.checkpoint_size(),
        };
        let body = connect::run(async {
            let node = match asker {
                Some(Asker::Patient(_)) => self.common.node.connect_without_certificate(profile).await?,
                _ => self.common.node.connect(profile).await?,
            };
            Ok(node.answer(client(&node).get_access_receipt(request)).await?.receipt)
        })?;
        keep(&self.common.out, &against, &body, |verified| match &verified.claim {
            Claim::Access(access) => {
                custodian.is_none_or(|custodian| custodian == access.event.custodian)
                    && handle.is_none_or(|handle| handle.as_slice() == access.event.handle)
            }
            _ => false,
        })
    }
}

impl DecisionArgs {
    /// Asks, verifies, writes.
    pub fn run(&self, profile: &Profile) -> Result<Report, Failure> {
        let query = self.query.parse()?;
        let against = self.common.trust.resolve(profile)?;
        files::refuse_existing(&self.common.out)?;
        let request = GetDecisionReceiptRequest {
            query: Some(query.clone()),
            checkpoint_size: against.checkpoint_size(),
        };
        let body = connect::run(async {
            let node = self.common.node.connect(profile).await?;
            Ok(node.answer(client(&node).get_decision_receipt(request)).await?.receipt)
        })?;
        keep(&self.common.out, &against, &body, |verified| match &verified.claim {
            Claim::Decision(decision) => answers(&decision.request, &query),
            _ => false,
        })
    }
}

/// True when a signed question is what was asked for here.
fn answers(request: &assent_proto::ledger::v1::DataRequest, query: &Query) -> bool {
    let patient = query.patient.clone().unwrap_or_default();
    request.custodian == patient.custodian
        && request.identifier_system == patient.identifier_system
        && request.identifier_value == patient.identifier_value
        && request.birth_date == patient.birth_date
        && request.purpose == query.purpose
        && request.actor == query.actor
        && request.resource_types == query.resource_types
}
