//! What is judged before a node takes part: its keys, its certificate, its folder.

use assent_ledger::genesis::CheckedGenesis;

use super::NEVER_VOTED;
use crate::bft;
use crate::certificates::{self, Certificates};
use crate::config::{Config, ConfigError, Ordering};
use crate::members::{Members, Present};
use crate::order::{single, Fatal};
use crate::own_keys::{OwnKeys, Purpose};
use crate::standing;

/// The files hold the keys that the ledger names. One that was replaced before may lie ahead of this node's ledger: then it
/// follows, and says so, until a block names it.
pub(crate) fn check_membership(
    config: &Config,
    keys: &OwnKeys,
    present: &Present,
    height: u64,
) -> Result<(), ConfigError> {
    let own = config.organization.as_str();
    let mut missing = keys.missing(present, own);
    if present.organization(own).is_some_and(|o| o.entry_key.is_empty()) {
        missing.retain(|purpose| *purpose != Purpose::Entry); // suspended, which is no mistake in the files
    }
    missing.retain(|purpose| !keys.was_replaced(*purpose));
    if !missing.is_empty() {
        let sentence = standing::sentence_of(&missing, own);
        return Err(ConfigError(format!("{sentence} (as of block {height})")));
    }
    if config.ordering == Ordering::Single && present.organization(own).is_none() {
        let known: Vec<&str> = present.membership.organizations.iter().map(|o| o.id.as_str()).collect();
        let sentence =
            format!("organization {own:?} is no member of this network, which has {}", known.join(", "));
        return Err(ConfigError(sentence));
    }
    if config.ordering == Ordering::Single && !single::orders_alone(present.validators(), own) {
        let count = present.validators().len();
        let sentence = format!(
            "ordering single needs {own} as the only validator, and at block {height} there are {count}: set ordering = \"malachite\""
        );
        return Err(ConfigError(sentence));
    }
    tracing::info!(height, role = %present.role(own), members = present.membership.organizations.len(), "the ledger's members");
    Ok(())
}

/// The node's own pair, and its organization's list: judged by the authority of genesis, before any data is touched. Where there
/// is a ledger another authority may stand on it: then only the form is judged here.
pub(super) fn open_certificates(
    config: &Config,
    genesis: &CheckedGenesis,
) -> Result<Certificates, ConfigError> {
    let open = |authority: Vec<u8>| {
        Certificates::open(certificates::Files {
            certificate: config.grpc.certificate.clone(),
            key: config.grpc.key.clone(),
            revoked: config.grpc.revoked.clone(),
            authority: authority.into(),
        })
    };
    let own = genesis.organizations.iter().find(|o| o.id == config.organization);
    match open(own.map(|o| o.ca_certificate.clone()).unwrap_or_default()) {
        Err(_) if config.data_dir.join("ledger").exists() => open(Vec::new()),
        opened => opened,
    }
}

/// Judges the node's certificate by the authority that the ledger names, now and whenever that changes.
pub(super) fn follow_authority(
    certificates: &Certificates,
    members: &Members,
    own: &str,
) -> Result<(), ConfigError> {
    let der =
        |present: &Present| present.organization(own).map(|o| o.ca_certificate.clone()).unwrap_or_default();
    let mut last = der(&members.present());
    certificates.set_authority(&last)?;
    let (certificates, mut changes, own) = (certificates.clone(), members.subscribe(), own.to_owned());
    tokio::spawn(async move {
        while changes.changed().await.is_ok() {
            let present = changes.borrow_and_update().clone();
            let now = present.organization(&own).map(|o| o.ca_certificate.clone()).unwrap_or_default();
            if now == last {
                continue;
            }
            if let Err(error) = certificates.set_authority(&now) {
                tracing::error!(alarm = "certificate-refused", %error, "issue the node's certificate anew");
            }
            last = now;
        }
    });
    Ok(())
}

/// Alone, the ledger itself says what was signed: without one, this must be a folder that never was in use.
pub(super) fn may_order_alone(config: &Config) -> Result<(), Fatal> {
    let (ledger, marker) = (config.data_dir.join("ledger"), config.data_dir.join(NEVER_VOTED));
    match ledger.exists() || marker.exists() {
        true => Ok(()),
        false => Err(bft::nobody_to_ask(&format!(
            "there is neither {} nor {}",
            ledger.display(),
            marker.display()
        ))),
    }
}
