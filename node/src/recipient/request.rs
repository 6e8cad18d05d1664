//! Records: asked for under the client's request id, kept with their receipt.

use assent_ledger::hash::{framed, sha256, Context};
use assent_ledger::receipt::request_hash;
use assent_ledger::Hash;
use assent_proto::ledger::v1::{DataRequest, Receipt, RecordBundle, Signed};
use prost::Message;

use super::{Query, Recipient, Release};
use crate::chain::now_ms;
use crate::custodian::blocking;
use crate::exchange::client::Answered;
use crate::exchange::Proof;
use crate::refusal::{Kind, Refusal};
use crate::vault::{Pending, RequestRecord};

impl Recipient {
    /// Asks for records. A retry with the same request id within the hour asks with the same nonce, and gets the same release.
    pub async fn request(&self, client: &str, request_id: &str, query: Query) -> Result<Release, Refusal> {
        // Whoever breaks the glass is answered without quorum too: the custodian judges, and its word is verified.
        if query.break_glass_reason.is_empty() {
            self.must_be_fresh()?;
        }
        let texts = [
            &query.custodian,
            &query.system,
            &query.value,
            &query.birth_date,
            &query.purpose,
            &query.actor,
            &query.action,
            &query.break_glass_reason,
        ];
        let mut fields: Vec<&[u8]> = texts.iter().map(|t| t.as_bytes()).collect();
        fields.extend(query.resource_types.iter().map(|t| t.as_bytes()));
        let body_hash = sha256(&framed(Context::Request, "client", &fields));
        let guard = self.preparing.lock().await;
        let signed = match self.asked_before(client, request_id, &body_hash)? {
            Some(signed) => signed,
            None => {
                let (_, signed) = self.sign(self.question(client, &query, false)?);
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
            if let Some(receipt) = bundle.proof {
                return Ok(Release { proof: Proof::Receipt(Box::new(receipt)), resources: bundle.resources });
            }
        }
        if let Some(release) = self.held(client, request_id, &hash, &signed).await? {
            return Ok(release);
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
                self.keep(client, request_id, &hash, &signed, *receipt, resources)
            }
            Answered::ReleasedLate(promise, resources) => self.hold(&hash, *promise, resources),
            Answered::NotReleased(signed) => Err(Refusal::not_released(signed)),
            Answered::Permit(_) => {
                Err(Refusal::unavailable("BAD_ANSWER", "a decision in answer to a request for records"))
            }
        }
    }

    /// Keeps a release with its receipt.
    pub(super) fn keep(
        &self,
        client: &str,
        request_id: &str,
        hash: &Hash,
        signed: &Signed,
        receipt: Receipt,
        resources: Vec<Vec<u8>>,
    ) -> Result<Release, Refusal> {
        let access = self.own_access(request_id, hash, signed, &receipt)?;
        let bundle = RecordBundle { proof: Some(receipt.clone()), resources };
        let bytes = bundle.encode_to_vec();
        blocking(|| {
            self.parts.vault.put_pending(&[
                Pending::Release { request_hash: hash, bytes: &bytes },
                Pending::OwnAccess { client, access: &access },
                Pending::LateReleaseDone { request_hash: hash },
            ])
        })?;
        Ok(Release { proof: Proof::Receipt(Box::new(receipt)), resources: bundle.resources })
    }

    pub(super) fn asked_before(
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
