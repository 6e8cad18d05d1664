//! This organization as recipient: asks custodians on behalf of its clients.

use std::sync::Arc;
use std::time::{Duration, Instant};

use assent_ledger::consent::{Reference, Request};
use assent_ledger::hash::{framed, sha256, Context};
use assent_ledger::receipt::{request_hash, sign_message};
use assent_ledger::Hash;
use assent_proto::ledger::v1::{AccessReceipt, DataRequest, Decision, RecordBundle, Signed};
use prost::Message;
use tokio::sync::Mutex;

use crate::app::Parts;
use crate::chain::now_ms;
use crate::custodian::{blocking, fresh_bytes, Custodian};
use crate::exchange::client::{ask, check_decision, Answered};
use crate::refusal::{Kind, Refusal};
use crate::vault::{Pending, RequestRecord};

/// Life of a request: a retry within it gets the same release again.
const REQUEST_LIFE_MS: u64 = 3_600_000;

/// Reason of a permit that this node's ledger contradicts.
const STALE_DECISION: &str = "STALE_DECISION";
/// How often a custodian is asked whose ledger lags, with a pause in between.
const MAX_CHECKS: usize = 10;
const LAG_PAUSE: Duration = Duration::from_millis(50);

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
}

/// A permit.
#[derive(Debug, Clone)]
pub struct Permit {
    /// PERMIT or PERMIT_OVERRIDE.
    pub outcome: String,
    /// Obligations.
    pub obligations: Vec<String>,
    /// The custodian's signed decision.
    pub decision: Signed,
}

/// Released records.
#[derive(Clone)]
pub struct Release {
    /// The receipt.
    pub receipt: AccessReceipt,
    /// The resources.
    pub resources: Vec<Vec<u8>>,
}

opaque_debug!(Query, Release);

/// The recipient's side. Cheap to clone.
#[derive(Clone)]
pub struct Recipient {
    parts: Arc<Parts>,
    custodian: Custodian,
    preparing: Arc<Mutex<()>>,
}

impl Recipient {
    /// `custodian` answers what this organization asks itself.
    pub fn new(parts: Arc<Parts>, custodian: Custodian) -> Self {
        Self { parts, custodian, preparing: Arc::default() }
    }

    fn data_request(&self, client: &str, query: &Query, check_only: bool) -> Result<DataRequest, Refusal> {
        if self.parts.known(&query.custodian).is_none() {
            return Err(Refusal::invalid(
                "UNKNOWN_CUSTODIAN",
                "patient.custodian",
                format!("{:?} is not an organization of this network", query.custodian),
            ));
        }
        let action = if query.action.is_empty() { "access" } else { &query.action };
        let asked = Request {
            recipient: vec![Reference::Literal(format!("Organization/{}", self.parts.organization))],
            actor: None,
            purpose: query.purpose.clone(),
            action: action.to_owned(),
        };
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
            nonce: fresh_bytes().to_vec(),
            not_after_ms: now_ms() + REQUEST_LIFE_MS,
            check_only,
        })
    }

    fn sign(&self, request: &DataRequest) -> (Hash, Signed) {
        let chain_id = self.parts.chain_id();
        let signed = sign_message(
            Context::Request,
            chain_id,
            &self.parts.organization,
            &self.parts.entry_key,
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

    /// A permit counts only while this node's own ledger knows of nothing newer: the custodian's may lag behind a withdrawal.
    fn must_be_current(&self, decision: &Decision) -> Result<(), Refusal> {
        let view = self.parts.store.view()?;
        let slot = view.slot(&decision.custodian, &decision.handle)?.unwrap_or_default();
        let policy = view.policy(&decision.custodian)?;
        let newer = slot.consent_seq > decision.consent_seq || policy.policy_seq > decision.policy_seq;
        if newer || view.tip.time_ms >= decision.not_after_ms {
            return Err(Refusal::unavailable(
                STALE_DECISION,
                "the custodian decided on an older state than this node's ledger has: retry",
            )
            .with("custodian", &decision.custodian));
        }
        Ok(())
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
                return Ok(Answered::Released(Box::new(released.receipt), released.resources));
            }
        }
        let answer = custodian.not_released_since(started, &checked.hash).await;
        Ok(Answered::NotReleased(answer))
    }

    /// Asks whether the custodian would release anything; again while its ledger lags behind this node's.
    pub async fn check(&self, client: &str, query: Query) -> Result<Permit, Refusal> {
        let mut attempts = 0;
        loop {
            attempts += 1;
            match self.check_once(client, &query).await {
                Err(refusal) if refusal.reason == STALE_DECISION && attempts < MAX_CHECKS => {
                    tokio::time::sleep(LAG_PAUSE).await;
                }
                outcome => return outcome,
            }
        }
    }

    async fn check_once(&self, client: &str, query: &Query) -> Result<Permit, Refusal> {
        self.must_be_fresh()?;
        let request = self.data_request(client, query, true)?;
        let (hash, signed) = self.sign(&request);
        match self.answer(&query.custodian, &hash, &signed, true).await? {
            Answered::Permit(decision) => {
                let opened = check_decision(&self.parts, &query.custodian, &hash, &decision)?;
                self.must_be_current(&opened)?;
                Ok(Permit { outcome: opened.outcome, obligations: opened.obligations, decision })
            }
            Answered::NotReleased(signed) => Err(Refusal::not_released(signed)),
            Answered::Released(..) => Err(Refusal::unavailable("BAD_ANSWER", "records in answer to a check")),
        }
    }

    /// Asks for records. A retry with the same request id within the hour asks with the same nonce, and gets the same release.
    pub async fn request(&self, client: &str, request_id: &str, query: Query) -> Result<Release, Refusal> {
        self.must_be_fresh()?;
        let texts = [
            &query.custodian,
            &query.system,
            &query.value,
            &query.birth_date,
            &query.purpose,
            &query.actor,
            &query.action,
        ];
        let mut fields: Vec<&[u8]> = texts.iter().map(|t| t.as_bytes()).collect();
        fields.extend(query.resource_types.iter().map(|t| t.as_bytes()));
        let body_hash = sha256(&framed(Context::Request, "client", &fields));
        let guard = self.preparing.lock().await;
        let signed = match self.asked_before(client, request_id, &body_hash)? {
            Some(signed) => signed,
            None => {
                let (_, signed) = self.sign(&self.data_request(client, &query, false)?);
                let reply = signed.encode_to_vec();
                let record = RequestRecord { body_hash, reply, entry_hash: None, created_ms: now_ms() };
                blocking(|| self.parts.vault.put_request(client, request_id, &record))?;
                signed
            }
        };
        drop(guard);
        let hash = request_hash(self.parts.chain_id(), &signed.body);
        if let Some(bytes) = blocking(|| self.parts.vault.release(&hash))? {
            let bundle = RecordBundle::decode(bytes.as_slice()).unwrap_or_default();
            if let Some(receipt) = bundle.receipt {
                return Ok(Release { receipt, resources: bundle.resources });
            }
        }
        let request = DataRequest::decode(signed.body.as_slice()).unwrap_or_default();
        if now_ms() > request.not_after_ms {
            return Err(Refusal::new(
                Kind::FailedPrecondition,
                "REQUEST_EXPIRED",
                "a request and its retries are good for an hour: choose a new request_id",
            ));
        }
        match self.answer(&query.custodian, &hash, &signed, false).await? {
            Answered::Released(receipt, resources) => {
                let bundle = RecordBundle { receipt: Some((*receipt).clone()), resources };
                let bytes = bundle.encode_to_vec();
                blocking(|| {
                    self.parts.vault.put_pending(&[Pending::Release { request_hash: &hash, bytes: &bytes }])
                })?;
                Ok(Release { receipt: *receipt, resources: bundle.resources })
            }
            Answered::NotReleased(signed) => Err(Refusal::not_released(signed)),
            Answered::Permit(_) => {
                Err(Refusal::unavailable("BAD_ANSWER", "a decision in answer to a request for records"))
            }
        }
    }

    fn asked_before(
        &self,
        client: &str,
        request_id: &str,
        body_hash: &Hash,
    ) -> Result<Option<Signed>, Refusal> {
        let Some(record) = self.parts.vault.get_request(client, request_id)? else {
            return Ok(None);
        };
        if record.body_hash != *body_hash {
            return Err(Refusal::request_id_reused());
        }
        Ok(Signed::decode(record.reply.as_slice()).ok())
    }
}
