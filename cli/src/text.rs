//! Values that people type: ids, hashes, identifiers, dates.

use assent_ledger::encoding::is_id;
use assent_ledger::Hash;
use assent_proto::v1::Patient;

use crate::exit::{Exit, Failure};

/// 32 bytes in hex, in any case, without 0x.
pub fn hash(what: &str, text: &str) -> Result<Hash, Failure> {
    let mut out = [0; 32];
    hex::decode_to_slice(text, &mut out).map_err(|_| {
        Failure::usage("MALFORMED_HEX", format!("{what} must be 64 hex digits, not {text:?}"))
    })?;
    Ok(out)
}

/// 1 to 32 bytes of `[a-z0-9-]`.
pub fn id(what: &str, text: &str) -> Result<(), Failure> {
    if is_id(text) {
        return Ok(());
    }
    Err(Failure::usage(
        "MALFORMED_ID",
        format!("{what} must be 1 to 32 characters of a-z, 0-9 and -, not {text:?}"),
    ))
}

/// Names a patient on the command line.
#[derive(Debug, clap::Args)]
pub struct PatientArgs {
    /// Organization that holds the records
    #[arg(long, value_name = "ID")]
    custodian: String,
    /// Patient's identifier: SYSTEM|VALUE, such as 'urn:x:mrn|17'
    #[arg(long, value_name = "SYSTEM|VALUE")]
    identifier: String,
    /// Patient's birth date, YYYY-MM-DD
    #[arg(long, value_name = "DATE")]
    birth_date: String,
}

impl PatientArgs {
    /// For commands that name the patient in their own way.
    pub fn of(custodian: &str, identifier: &str, birth_date: &str) -> Self {
        let [custodian, identifier, birth_date] = [custodian, identifier, birth_date].map(str::to_owned);
        Self { custodian, identifier, birth_date }
    }

    /// Checks the form; whether there is such a patient is the custodian's business.
    pub fn parse(&self) -> Result<Patient, Failure> {
        id("--custodian", &self.custodian)?;
        let malformed = || {
            Failure::usage("MALFORMED_IDENTIFIER", "--identifier must be SYSTEM|VALUE")
                .help("quote it for the shell: --identifier 'urn:x:mrn|17'")
        };
        let (system, value) = self.identifier.split_once('|').ok_or_else(malformed)?;
        if system.is_empty() || value.is_empty() {
            return Err(malformed());
        }
        let format = time::macros::format_description!("[year]-[month]-[day]");
        time::Date::parse(&self.birth_date, format).map_err(|_| {
            Failure::usage(
                "MALFORMED_DATE",
                format!("--birth-date must be YYYY-MM-DD, not {:?}", self.birth_date),
            )
        })?;
        Ok(Patient {
            custodian: self.custodian.clone(),
            identifier_system: system.to_owned(),
            identifier_value: value.to_owned(),
            birth_date: self.birth_date.clone(),
        })
    }
}

/// Names a patient on the command line, or nobody.
#[derive(Debug, clap::Args)]
pub struct OptionalPatientArgs {
    /// Organization that holds the records
    #[arg(long, value_name = "ID", requires_all = ["identifier", "birth_date"])]
    custodian: Option<String>,
    /// Patient's identifier: SYSTEM|VALUE, such as 'urn:x:mrn|17'
    #[arg(long, value_name = "SYSTEM|VALUE", requires_all = ["custodian", "birth_date"])]
    identifier: Option<String>,
    /// Patient's birth date, YYYY-MM-DD
    #[arg(long, value_name = "DATE", requires_all = ["custodian", "identifier"])]
    birth_date: Option<String>,
}

impl OptionalPatientArgs {
    /// Checks the form. None when nobody is named.
    pub fn parse(&self) -> Result<Option<Patient>, Failure> {
        match (self.custodian.clone(), self.identifier.clone(), self.birth_date.clone()) {
            (Some(custodian), Some(identifier), Some(birth_date)) => {
                PatientArgs { custodian, identifier, birth_date }.parse().map(Some)
            }
            _ => Ok(None),
        }
    }
}

/// A moment in RFC 3339, in milliseconds since the Unix epoch.
pub fn moment(what: &str, text: &str) -> Result<u64, Failure> {
    let malformed = || {
        Failure::usage(
            "MALFORMED_TIME",
            format!("{what} must be a time such as 2027-01-31T00:00:00Z, not {text:?}"),
        )
    };
    let format = &time::format_description::well_known::Rfc3339;
    let at = time::OffsetDateTime::parse(text, format).map_err(|_| malformed())?;
    u64::try_from(at.unix_timestamp_nanos() / 1_000_000).map_err(|_| malformed())
}

/// Fresh bytes from the operating system.
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    rand::RngCore::fill_bytes(&mut rand::rngs::OsRng, &mut bytes);
    bytes
}

/// A new name for a write.
pub fn request_id(given: &Option<String>) -> Result<String, Failure> {
    match given {
        Some(id) if (1..=64).contains(&id.len()) => Ok(id.clone()),
        Some(_) => Err(Failure::usage("MALFORMED_REQUEST_ID", "--request-id must have 1 to 64 bytes")),
        None => Ok(hex::encode(random::<16>())),
    }
}

/// The clock in milliseconds since the Unix epoch.
pub fn now_ms() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64)
}

/// A write whose outcome is unknown is retried under its name, so that it happens once.
pub fn retry_hint(failure: Failure, request_id: &str) -> Failure {
    if failure.exit != Exit::Unavailable || failure.reason == "UNREACHABLE" {
        return failure;
    }
    let help = format!("{}; retry with --request-id {request_id} so that it happens once", failure.help);
    failure.help(help)
}
