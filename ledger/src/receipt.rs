//! Offline verification of one access: event, commitment, entry, log, header, certificate, genesis.
//!
//! ```text
//! resources ─digests─▶ AccessEvent ─salt─▶ commitment ─▶ Entry ─inclusion─▶ Header ◀─certificate─ validators ◀─ genesis hash
//!                      request ◀─signature─ recipient's entry key ◀─ organizations ◀───────────────────────── genesis hash
//! ```
//! The field `genesis` of receipts and histories holds the whole `GenesisFile`: the recipient's key stands there, so that no
//! custodian can make up who asked. (Keys are those of genesis as long as nothing rotates them.)

use assent_proto::ledger::v1::operation::Kind;
use assent_proto::ledger::v1::{
    AccessEvent, AccessHistory, AccessReceipt, Certificate, DataRequest, Header, RecordAccess, RecordBundle,
    Signed, Slot,
};
use prost::Message;

use crate::block::header_hash;
use crate::certificate::{validator_set_hash, verify_certificate};
use crate::commitment::{commit, digests_root, next_access_head};
use crate::encoding::{array, decode, fields, EncodingError};
use crate::entry::{check_entry, MAX_ENTRY_BYTES};
use crate::genesis::{check_genesis_file, CheckedGenesis, MAX_GENESIS_BYTES};
use crate::hash::{framed, hash, Context, Hash};
use crate::keys::{sign, verify, PublicKey, SigningKey};
use crate::late::may_be_late;
use crate::log::{tagged_leaf_hash, verify_inclusion, LEAF_ENTRY};
use crate::state::slot_key;
use crate::tree;

/// First bytes of a bundle file.
pub const BUNDLE_MAGIC: &[u8; 8] = b"ASSENTB1";
/// First bytes of a history file.
pub const HISTORY_MAGIC: &[u8; 8] = b"ASSENTH1";
/// Longest bundle.
pub const MAX_BUNDLE_BYTES: usize = 256 << 20;
/// Longest history.
pub const MAX_HISTORY_BYTES: usize = 64 << 20;
/// Longest receipt: a genesis file, and everything else of it.
pub const MAX_RECEIPT_BYTES: usize = MAX_GENESIS_BYTES + (1 << 20);
/// Most resources in a bundle, and most accesses in a history.
pub const MAX_PARTS: usize = 1 << 16;

/// What is wrong with a proof.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReceiptError {
    #[error(transparent)]
    Encoding(#[from] EncodingError),
    #[error("genesis: {0}")]
    Genesis(String),
    #[error("genesis hash is {found}, expected {expected}")]
    GenesisHash { expected: String, found: String },
    #[error("certificate: {0}")]
    Certificate(String),
    #[error("{what} does not match: expected {expected}, found {found}")]
    Mismatch { what: &'static str, expected: String, found: String },
    #[error("the entry is not in the log that the header commits to")]
    NotIncluded,
    #[error("the slot is not in the state that the header commits to")]
    StateProof,
    #[error("{0}")]
    Rule(&'static str),
}

pub(crate) fn same(what: &'static str, expected: &[u8], found: &[u8]) -> Result<(), ReceiptError> {
    if expected == found {
        return Ok(());
    }
    Err(ReceiptError::Mismatch { what, expected: hex::encode(expected), found: hex::encode(found) })
}

pub(crate) fn same_text(what: &'static str, expected: &str, found: &str) -> Result<(), ReceiptError> {
    if expected == found {
        return Ok(());
    }
    // A stranger's text does not go into messages as it is.
    let shown = |text: &str| text.chars().take(64).flat_map(char::escape_debug).collect();
    Err(ReceiptError::Mismatch { what, expected: shown(expected), found: shown(found) })
}

/// Signs a message of an organization.
pub fn sign_message(
    context: Context,
    chain_id: &str,
    organization: &str,
    key: &SigningKey,
    body: Vec<u8>,
) -> Signed {
    let signature = sign(key, &framed(context, chain_id, &[organization.as_bytes(), &body])).to_vec();
    Signed { body, organization: organization.to_owned(), signature }
}

/// Checks the signature of an organization's message against its entry key.
pub fn verify_message(context: Context, chain_id: &str, key: &PublicKey, signed: &Signed) -> bool {
    let message = framed(context, chain_id, &[signed.organization.as_bytes(), &signed.body]);
    signed.signature.as_slice().try_into().is_ok_and(|signature| verify(key, &message, signature))
}

/// Name of a request: decisions, answers and acknowledgements are bound to it.
pub fn request_hash(chain_id: &str, request_body: &[u8]) -> Hash {
    hash(Context::Request, chain_id, &[request_body])
}

/// Name of an ask for consent: what the custodian says of it is bound to it.
pub fn ask_hash(chain_id: &str, ask_body: &[u8]) -> Hash {
    hash(Context::Ask, chain_id, &[ask_body])
}

/// A header whose certificate leads back to the genesis that the verifier trusts.
#[derive(Debug, Clone, PartialEq)]
pub struct AnchoredHeader {
    /// The header.
    pub header: Header,
    /// Its hash.
    pub hash: Hash,
    /// The genesis.
    pub genesis: CheckedGenesis,
}

/// Checks a genesis file against the expected hash, and header and certificate against the validators of genesis.
pub fn anchor(
    expected_genesis: &Hash,
    genesis_file: &[u8],
    header_bytes: &[u8],
    certificate: Option<&Certificate>,
) -> Result<AnchoredHeader, ReceiptError> {
    anchored_header(&anchored_genesis(expected_genesis, genesis_file)?, header_bytes, certificate)
}

pub(crate) fn anchored_genesis(expected: &Hash, file: &[u8]) -> Result<CheckedGenesis, ReceiptError> {
    let genesis = check_genesis_file(file).map_err(|e| ReceiptError::Genesis(e.to_string()))?;
    if genesis.hash != *expected {
        let (expected, found) = (hex::encode(expected), hex::encode(genesis.hash));
        return Err(ReceiptError::GenesisHash { expected, found });
    }
    Ok(genesis)
}

fn anchored_header(
    genesis: &CheckedGenesis,
    bytes: &[u8],
    certificate: Option<&Certificate>,
) -> Result<AnchoredHeader, ReceiptError> {
    let chain_id = genesis.chain_id.as_str();
    let header: Header = decode("Header", bytes, MAX_ENTRY_BYTES)?;
    same_text("chain id of the header", chain_id, &header.chain_id)?;
    same(
        "validator set of the header",
        &validator_set_hash(chain_id, &genesis.validators),
        &header.validator_set_hash,
    )?;
    let hash = header_hash(chain_id, bytes);
    let certificate = certificate.ok_or(ReceiptError::Rule("the certificate is missing"))?;
    verify_certificate(chain_id, &genesis.validators, header.height, &hash, certificate)
        .map_err(|e| ReceiptError::Certificate(e.to_string()))?;
    Ok(AnchoredHeader { header, hash, genesis: genesis.clone() })
}

/// The form in which a receipt stands alone: with the genesis file, without the number that only a history proves.
pub fn lone_receipt(genesis: &CheckedGenesis, receipt: AccessReceipt) -> AccessReceipt {
    AccessReceipt {
        genesis: genesis.bytes.clone(),
        access_seq: 0,
        previous_access_head: Vec::new(),
        ..receipt
    }
}

/// What a verified receipt shows.
#[derive(Debug, Clone, PartialEq)]
pub struct VerifiedAccess {
    /// The event.
    pub event: AccessEvent,
    /// The request that led to it.
    pub request: DataRequest,
    /// Height of the block that holds it.
    pub height: u64,
    /// Block time in milliseconds since the Unix epoch.
    pub time_ms: u64,
    /// Hash of that block's header.
    pub header_hash: Hash,
    /// Its number among the subject's accesses at the custodian, from 1; 0 when nothing proves it: only a history does.
    pub access_seq: u64,
    /// The commitment on the ledger.
    pub commitment: Hash,
}

/// Verifies a receipt against a genesis hash. Which number the access has only an [`AccessHistory`] proves: 0 is reported.
pub fn verify_receipt(
    expected_genesis: &Hash,
    receipt: &AccessReceipt,
) -> Result<VerifiedAccess, ReceiptError> {
    let anchored = anchor(expected_genesis, &receipt.genesis, &receipt.header, receipt.certificate.as_ref())?;
    Ok(VerifiedAccess { access_seq: 0, ..verify_access(&anchored, receipt)? })
}

fn verify_access(anchored: &AnchoredHeader, receipt: &AccessReceipt) -> Result<VerifiedAccess, ReceiptError> {
    let AnchoredHeader { header, hash, genesis } = anchored;
    verify_access_under(header, hash, receipt, |id| genesis_key(genesis, id))
}

/// An access in the log of a header that is trusted; `key_of` tells an organization's entry key.
pub(crate) fn verify_access_under(
    header: &Header,
    hash: &Hash,
    receipt: &AccessReceipt,
    key_of: impl Fn(&str) -> Result<PublicKey, ReceiptError>,
) -> Result<VerifiedAccess, ReceiptError> {
    let chain_id = header.chain_id.as_str();
    let inclusion = receipt.inclusion.as_ref().ok_or(ReceiptError::Rule("the inclusion proof is missing"))?;
    let path: Vec<Hash> =
        inclusion.path.iter().map(|h| array("InclusionProof", "path", h)).collect::<Result<_, _>>()?;
    if inclusion.size != header.log_size {
        return Err(ReceiptError::Rule("the inclusion proof is for another log size than the header's"));
    }
    let root = array("Header", "log_root", &header.log_root)?;
    let leaf = tagged_leaf_hash(LEAF_ENTRY, &receipt.entry);
    if !verify_inclusion(&leaf, inclusion.index, inclusion.size, &root, &path) {
        return Err(ReceiptError::NotIncluded);
    }
    let entry = check_entry(chain_id, &receipt.entry)?;
    let operation = entry.body.operations.get(receipt.operation as usize).and_then(|o| o.kind.as_ref());
    let Some(Kind::RecordAccess(operation)) = operation else {
        return Err(ReceiptError::Rule("the operation that the receipt names is not a RecordAccess"));
    };
    let salt = array("AccessReceipt", "salt", &receipt.salt)?;
    let commitment = commit(Context::AccessCommitment, chain_id, &salt, &receipt.event);
    same("commitment of the access", &operation.commitment, &commitment)?;
    let event: AccessEvent = decode("AccessEvent", &receipt.event, MAX_ENTRY_BYTES)?;
    array::<32>("AccessEvent", "reasons", &event.reasons)?;
    same_text("custodian", &operation.custodian, &event.custodian)?;
    same_text("author of the entry", &operation.custodian, &entry.body.author)?;
    same("handle", &operation.handle, &event.handle)?;
    let (_, request) = verified_request(chain_id, key_of, &event)?;
    if !recorded_in_time(&event, &request, operation) {
        return Err(ReceiptError::Rule(
            "the event was decided under other sequences than the operation names",
        ));
    }
    Ok(VerifiedAccess {
        event,
        request,
        height: header.height,
        time_ms: header.time_ms,
        header_hash: *hash,
        access_seq: receipt.access_seq,
        commitment,
    })
}

/// An access is recorded under the sequences that it was decided under. Only one that was released under break-glass without
/// quorum is recorded late, under those of that moment, which may be newer.
fn recorded_in_time(event: &AccessEvent, request: &DataRequest, operation: &RecordAccess) -> bool {
    let (consent_seq, policy_seq) = (operation.expected_consent_seq, operation.expected_policy_seq);
    match event.late {
        false => (consent_seq, policy_seq) == (event.consent_seq, event.policy_seq),
        true => {
            may_be_late(event, request) && event.consent_seq <= consent_seq && event.policy_seq <= policy_seq
        }
    }
}

/// The entry key that genesis gives a recipient.
pub(crate) fn genesis_key(genesis: &CheckedGenesis, id: &str) -> Result<PublicKey, ReceiptError> {
    let recipient = genesis.organizations.iter().find(|o| o.id == id);
    let recipient =
        recipient.ok_or(ReceiptError::Rule("the recipient is not among the organizations of genesis"))?;
    Ok(array("Organization", "entry_key", &recipient.entry_key)?)
}

/// The request that an event holds, signed by the recipient that it names, for this chain and custodian.
pub(crate) fn verified_request(
    chain_id: &str,
    key_of: impl Fn(&str) -> Result<PublicKey, ReceiptError>,
    event: &AccessEvent,
) -> Result<(Signed, DataRequest), ReceiptError> {
    let signed: Signed = decode("Signed", &event.request, MAX_ENTRY_BYTES)?;
    let request: DataRequest = decode("DataRequest", &signed.body, MAX_ENTRY_BYTES)?;
    same_text("chain id of the request", chain_id, &request.chain_id)?;
    same_text("custodian of the request", &event.custodian, &request.custodian)?;
    same_text("recipient of the request", &request.recipient, &signed.organization)?;
    if !verify_message(Context::Request, chain_id, &key_of(&request.recipient)?, &signed) {
        return Err(ReceiptError::Rule("the recipient's signature over the request does not verify"));
    }
    Ok((signed, request))
}

/// Verifies the resources against the event of a verified receipt.
pub fn verify_resources(access: &VerifiedAccess, resources: &[Vec<u8>]) -> Result<(), ReceiptError> {
    verify_digests(&access.event, resources)
}

/// Verifies the resources against an event.
pub fn verify_digests(event: &AccessEvent, resources: &[Vec<u8>]) -> Result<(), ReceiptError> {
    if event.resources != resources.len() as u64 {
        return Err(ReceiptError::Mismatch {
            what: "number of resources",
            expected: event.resources.to_string(),
            found: resources.len().to_string(),
        });
    }
    same("digests of the resources", &event.digests_root, &digests_root(resources.iter().map(Vec::as_slice)))
}

/// Decodes and verifies a bundle (without its magic). Every byte of it is covered by the proof; so a receipt that claims an
/// access sequence, which nothing in a bundle proves, is refused: [`lone_receipt`] makes the form that is accepted.
pub fn verify_bundle(
    expected_genesis: &Hash,
    bytes: &[u8],
) -> Result<(VerifiedAccess, RecordBundle), ReceiptError> {
    if bytes.len() <= MAX_BUNDLE_BYTES {
        let parts = fields("RecordBundle", bytes, MAX_PARTS + 1)?;
        let receipt = parts.iter().find(|(tag, len)| *tag == 1 && *len > MAX_RECEIPT_BYTES);
        if let Some((_, len)) = receipt {
            return Err(EncodingError::TooLong {
                message: "AccessReceipt",
                len: *len,
                max: MAX_RECEIPT_BYTES,
            }
            .into());
        }
    }
    let bundle: RecordBundle = decode("RecordBundle", bytes, MAX_BUNDLE_BYTES)?;
    let receipt = bundle.receipt.as_ref().ok_or(ReceiptError::Rule("the bundle has no receipt"))?;
    if receipt.access_seq != 0 || !receipt.previous_access_head.is_empty() {
        return Err(ReceiptError::Rule(
            "a receipt outside a history claims an access sequence, which it can't prove",
        ));
    }
    let access = verify_receipt(expected_genesis, receipt)?;
    verify_resources(&access, &bundle.resources)?;
    Ok((access, bundle))
}

/// Decodes and verifies a history (without its magic): the slot in the state, and receipts for all n of n accesses, whose
/// commitments give the slot's access head.
pub fn verify_history(
    expected_genesis: &Hash,
    bytes: &[u8],
) -> Result<(AnchoredHeader, Slot, Vec<VerifiedAccess>), ReceiptError> {
    if bytes.len() <= MAX_HISTORY_BYTES {
        fields("AccessHistory", bytes, MAX_PARTS + 7)?;
    }
    let history: AccessHistory = decode("AccessHistory", bytes, MAX_HISTORY_BYTES)?;
    let genesis = anchored_genesis(expected_genesis, &history.genesis)?;
    let anchored = anchored_header(&genesis, &history.header, history.certificate.as_ref())?;
    let chain_id = anchored.genesis.chain_id.clone();
    let slot = history.slot.clone().ok_or(ReceiptError::Rule("the history has no slot"))?;
    let root = array("Header", "state_root", &anchored.header.state_root)?;
    let key = slot_key(&chain_id, &history.custodian, &history.handle);
    if !tree::verify(&root, &key, Some(&slot.encode_to_vec()), &history.state_proof) {
        return Err(ReceiptError::StateProof);
    }
    if slot.access_seq != history.receipts.len() as u64 {
        return Err(ReceiptError::Mismatch {
            what: "number of accesses",
            expected: slot.access_seq.to_string(),
            found: history.receipts.len().to_string(),
        });
    }
    let mut head: Option<Hash> = None;
    let mut accesses = Vec::with_capacity(history.receipts.len());
    for (n, receipt) in (1u64..).zip(&history.receipts) {
        if !receipt.genesis.is_empty() {
            return Err(ReceiptError::Rule("a receipt inside a history carries its own genesis"));
        }
        let at = anchored_header(&genesis, &receipt.header, receipt.certificate.as_ref())?;
        let access = verify_access(&at, receipt)?;
        same_text("custodian of an access", &history.custodian, &access.event.custodian)?;
        same("handle of an access", &history.handle, &access.event.handle)?;
        if access.access_seq != n {
            return Err(ReceiptError::Rule("accesses are not numbered from 1 without a gap"));
        }
        same(
            "access head before an access",
            head.as_ref().map_or(&[][..], |h| h),
            &receipt.previous_access_head,
        )?;
        head = Some(next_access_head(&chain_id, head.as_ref().map(|h| &h[..]), n, &access.commitment));
        accesses.push(access);
    }
    same(
        "access head",
        slot.access_head.as_deref().unwrap_or_default(),
        head.as_ref().map_or(&[][..], |h| h),
    )?;
    Ok((anchored, slot, accesses))
}
