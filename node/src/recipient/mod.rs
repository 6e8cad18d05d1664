//! This organization as recipient: asks custodians on behalf of its clients.
//!
//! ```text
//! check:   decision kept and standing? ─▶ answer, else ask the custodian ─▶ keep its signed decision ─▶ answer
//! request: ask the custodian ─▶ receipt, records, every digest checked ─▶ bundle and a line of history durable ─▶ answer
//! late:    the same without quorum ─▶ promise and records durable ─▶ answer; a retry asks for the receipt
//! ```

mod accesses;
mod asks;
mod check;
mod decisions;
mod late;
mod many;
mod receipts;
mod request;

use std::sync::Arc;
use std::time::Instant;

use assent_ledger::consent::{Reference, Request};
use assent_ledger::hash::Context;
use assent_ledger::receipt::{request_hash, sign_message};
use assent_ledger::Hash;
use assent_proto::ledger::v1::{DataRequest, Signed};
use prost::Message;
use tokio::sync::Mutex;

use crate::app::Parts;
use crate::chain::now_ms;
use crate::custodian::{fresh_bytes, Custodian};
use crate::exchange::client::{ask, Answered};
use crate::exchange::Proof;
use crate::refusal::Refusal;

pub use asks::{AskMade, AskStanding, NewAsk};
use decisions::Decisions;

/// Life of a request: a retry within it gets the same release again.
const REQUEST_LIFE_MS: u64 = 3_600_000;

/// What a client asks for.
#[derive(Clone)]
pub struct Query {
    /// Organization that holds the records.
    pub custodian: String,
    /// Identifier system of the patient.
    pub system: String,
    /// Identifier value of the patient.
    pub value: String,
    /// Birth date of the patient.
    pub birth_date: String,
    /// Purpose of use.
    pub purpose: String,
    /// Person acting, as asserted.
    pub actor: String,
    /// Consent action; empty means access.
    pub action: String,
    /// Resource types; empty means all.
    pub resource_types: Vec<String>,
    /// Reason for breaking the glass; empty means it isn't broken.
    pub break_glass_reason: String,
}

/// A permit.
#[derive(Debug, Clone)]
pub struct Permit {
    /// PERMIT or PERMIT_OVERRIDE.
    pub outcome: String,
    /// Obligations.
    pub obligations: Vec<String>,
    /// The custodian's signed decision; empty when none was asked for.
    pub decision: Signed,
    /// Height that the permit is known to stand at.
    pub height: u64,
    /// Block time of that height, in milliseconds since the Unix epoch.
    pub time_ms: u64,
    /// Block time that the custodian decided at, in milliseconds since the Unix epoch.
    pub decided_time_ms: u64,
    /// Milliseconds since the Unix epoch from which it no longer counts.
    pub not_after_ms: u64,
    /// True when it comes from a decision that this node holds.
    pub cached: bool,
}

/// Released records.
#[derive(Clone)]
pub struct Release {
    /// The receipt; of a release without quorum the custodian's promise.
    pub proof: Proof,
    /// The resources.
    pub resources: Vec<Vec<u8>>,
}

opaque_debug!(Query, Release);

/// The recipient's side. Cheap to clone.
#[derive(Clone)]
pub struct Recipient {
    parts: Arc<Parts>,
    custodian: Custodian,
    /// Held while a request is named: one request id leads to one nonce, whoever races.
    preparing: Arc<Mutex<()>>,
    decisions: Arc<Decisions>,
    many: Arc<many::Many>,
}

impl Recipient {
    /// `custodian` answers what this organization asks itself.
    pub fn new(parts: Arc<Parts>, custodian: Custodian) -> Self {
        let (preparing, decisions, many) = Default::default();
        Self { parts, custodian, preparing, decisions, many }
    }

    /// What is asked, without what makes one request of it: nonce and expiry.
    fn question(&self, client: &str, query: &Query, check_only: bool) -> Result<DataRequest, Refusal> {
        if self.parts.known(&query.custodian).is_none() {
            return Err(Refusal::invalid(
                "UNKNOWN_CUSTODIAN",
                "patient.custodian",
                format!("{:?} is not an organization of this network", query.custodian),
            ));
        }
        let action = if query.action.is_empty() { "access" } else { &query.action };
        let itself = Reference::Literal(format!("Organization/{}", self.parts.organization));
        let mut asked = Request::access(vec![itself], &query.purpose);
        asked.action = action.to_owned();
        asked.check().map_err(|e| Refusal::invalid("BAD_QUERY", "query", e.to_string()))?;
        Ok(DataRequest {
            chain_id: self.parts.chain_id().to_owned(),
            custodian: query.custodian.clone(),
            recipient: self.parts.organization.clone(),
            client: client.to_owned(),
            actor: query.actor.clone(),
            identifier_system: query.system.clone(),
            identifier_value: query.value.clone(),
            birth_date: query.birth_date.clone(),
            purpose: query.purpose.clone(),
            action: action.to_owned(),
            resource_types: query.resource_types.clone(),
            nonce: Vec::new(),
            not_after_ms: 0,
            check_only,
            break_glass_reason: query.break_glass_reason.clone(),
            outreach_channel: String::new(),
        })
    }

    /// One request out of a question, with its name.
    fn sign(&self, question: DataRequest) -> (Hash, Signed) {
        let chain_id = self.parts.chain_id();
        let request = DataRequest {
            nonce: fresh_bytes().to_vec(),
            not_after_ms: now_ms() + REQUEST_LIFE_MS,
            ..question
        };
        let signed = sign_message(
            Context::Request,
            chain_id,
            &self.parts.organization,
            &self.parts.entry_key(),
            request.encode_to_vec(),
        );
        (request_hash(chain_id, &signed.body), signed)
    }

    fn must_be_fresh(&self) -> Result<(), Refusal> {
        match self.parts.freshness.stale() {
            None => Ok(()),
            Some(reason) => {
                Err(Refusal::unavailable("NOT_FRESH", format!("this node is not fresh: {reason}")))
            }
        }
    }

    async fn answer(
        &self,
        custodian: &str,
        hash: &Hash,
        signed: &Signed,
        check_only: bool,
    ) -> Result<Answered, Refusal> {
        if custodian == self.parts.organization {
            return self.answer_locally(signed, check_only).await;
        }
        let Some(peers) = &self.parts.peers else {
            return Err(Refusal::unavailable(
                "CUSTODIAN_UNREACHABLE",
                "this node runs alone and has no peers",
            ));
        };
        ask(&self.parts, peers, custodian, hash, signed).await
    }

    /// The same steps without the wire: this node is the custodian.
    async fn answer_locally(&self, signed: &Signed, check_only: bool) -> Result<Answered, Refusal> {
        let custodian = &self.custodian;
        let started = Instant::now();
        let checked = custodian.check_request(&self.parts.organization, signed.clone())?;
        if check_only {
            if let Some(decision) = custodian.decide(&checked).await? {
                return Ok(Answered::Permit(decision));
            }
        } else if let Some(released) = custodian.release(&checked).await? {
            if custodian.still_stands(&released)? {
                return Ok(match released.proof {
                    Proof::Receipt(receipt) => Answered::Released(receipt, released.resources),
                    Proof::Late(proof) => Answered::ReleasedLate(proof, released.resources),
                });
            }
        }
        let answer = custodian.not_released_since(started, &checked.hash).await;
        Ok(Answered::NotReleased(answer))
    }
}
