//! What a patient's control key grants, and how it is replaced.
//!
//! ```text
//! any node ─▶ proof or signature, by its own ledger ─▶ its own patient? ─ yes ─▶ custodian
//!                                                      └─ no ─▶ relayed to the custodian's node (exchange::patient)
//! ```

use assent_ledger::hash::Hash;
use assent_ledger::replacement::control_key_at;
use assent_proto::v1::{
    CancelReplacementRequest, CancelReplacementResponse, CommitGrantRequest, CommitGrantResponse,
    PrepareGrantRequest, PrepareGrantResponse, ReplaceControlKeyRequest, ReplaceControlKeyResponse,
};

use super::auth::Client;
use super::call::Caller;
use super::proof::{signed_by_control_key, slot_not_found};
use super::{border, Api};
use crate::custodian::{blocking, check_grant, prepare_method, SignedGrant};
use crate::exchange::client::misbehaves;
use crate::exchange::patient::{relay, COMMIT_GRANT, PREPARE_GRANT};
use crate::refusal::Refusal;

impl Api {
    pub(super) async fn prepare_grant_for(
        &self,
        _caller: Caller,
        body: PrepareGrantRequest,
    ) -> Result<PrepareGrantResponse, Refusal> {
        border::request_id(&body.request_id)?;
        let grant = body.grant.as_ref().ok_or_else(|| border::malformed("grant", "missing"))?;
        check_grant(grant)?;
        let custodian = body.proof.as_ref().map(|proof| proof.custodian.clone()).unwrap_or_default();
        if custodian == self.app.parts.organization {
            return self.app.custodian.prepare_grant(body).await;
        }
        // Nobody's node is asked on behalf of a stranger.
        let method = prepare_method(grant);
        blocking(|| self.prove(&method, body.proof.clone()))?;
        relay(&self.app.parts, &custodian, PREPARE_GRANT, &body).await
    }

    pub(super) async fn commit_grant_for(
        &self,
        _caller: Caller,
        body: CommitGrantRequest,
    ) -> Result<CommitGrantResponse, Refusal> {
        self.gate.admit_read()?;
        let (grant, custodian) = (SignedGrant::read(&body)?, body.custodian.clone());
        if custodian == self.app.parts.organization {
            let response = self.app.custodian.commit_grant(body).await?;
            let answer = Some(self.answer_from(response.height).await?);
            return Ok(CommitGrantResponse { answer, ..response });
        }
        blocking(|| self.must_be_signed(&custodian, &grant))?;
        let response: CommitGrantResponse = relay(&self.app.parts, &custodian, COMMIT_GRANT, &body).await?;
        // From this node's own ledger: whatever is asked of it next sees the grant, and the custodian's word is checked.
        let answer = Some(self.answer_from(response.height).await?);
        blocking(|| self.must_be_committed(&custodian, &grant))?;
        Ok(CommitGrantResponse { answer, ..response })
    }

    fn must_be_committed(&self, custodian: &str, grant: &SignedGrant) -> Result<(), Refusal> {
        let slot = self.app.parts.store.view()?.slot(custodian, &grant.handle)?.unwrap_or_default();
        match grant.may_stand_in(&slot) {
            true => Ok(()),
            false => Err(misbehaves(custodian, "a grant that the ledger does not hold")),
        }
    }

    /// Relays a grant only when the control key signed it, or when the slot's key is the one that it made so: a retry.
    fn must_be_signed(&self, custodian: &str, grant: &SignedGrant) -> Result<(), Refusal> {
        let parts = &self.app.parts;
        let view = parts.store.view()?;
        let (slot, time_ms) = (view.slot(custodian, &grant.handle)?, view.tip.time_ms);
        let message = grant.message(parts.chain_id(), custodian);
        let signed = signed_by_control_key(parts, slot.as_ref(), time_ms, &message, grant.signature());
        let made = grant.made(slot.as_ref().and_then(|slot| control_key_at(slot, time_ms)));
        match signed || made {
            true => Ok(()),
            false => Err(slot_not_found()),
        }
    }

    pub(super) async fn cancel_replacement_for(
        &self,
        _caller: Caller,
        body: CancelReplacementRequest,
    ) -> Result<CancelReplacementResponse, Refusal> {
        self.gate.admit_withdrawal()?;
        border::request_id(&body.request_id)?;
        let cancel = body.cancel.ok_or_else(|| border::malformed("cancel", "missing"))?;
        border::organization("cancel.custodian", &cancel.custodian)?;
        let _: Hash = border::bytes("cancel.handle", &cancel.handle)?;
        let signature = border::bytes::<64>("cancel.patient_signature", &cancel.patient_signature)?;
        let custodian = &self.app.custodian;
        let height = custodian.cancel_replacement(&body.request_id, cancel, &signature).await?;
        Ok(CancelReplacementResponse { answer: Some(self.answer_from(height).await?), height })
    }

    pub(super) async fn replace_control_key_for(
        &self,
        client: Client,
        body: ReplaceControlKeyRequest,
    ) -> Result<ReplaceControlKeyResponse, Refusal> {
        border::request_id(&body.request_id)?;
        let name = self.own_patient(body.patient)?;
        let key = border::control_key("control_key", &body.control_key)?
            .ok_or_else(|| border::malformed("control_key", "0 bytes, 32 needed"))?;
        let custodian = &self.app.custodian;
        let waiting = custodian.replace_control_key(&client.id, &body.request_id, name, key).await?;
        Ok(ReplaceControlKeyResponse {
            answer: Some(self.answer_from(waiting.height).await?),
            effective_ms: waiting.effective_ms,
        })
    }
}
