//! Receipts of what this organization asked: its clients' own accesses, and permits.

use assent_ledger::receipt::request_hash;
use assent_ledger::state::policy_key;
use assent_ledger::tree;
use assent_proto::ledger::v1::{receipt, Decision, DecisionClaim, PolicyShown, RecordBundle, Signed};
use prost::Message;

use super::{Query, Recipient};
use crate::chain::receipts::StartAt;
use crate::exchange::client::{check_decision, Answered};
use crate::order::Fatal;
use crate::refusal::{Kind, Refusal};

/// Longest receipt of a permit that shows the custodian's policy slot as well.
const MAX_WITH_POLICY: usize = 4096 - 8;

/// A permit with its question, not yet proven.
pub struct Decided {
    request: Vec<u8>,
    signed: Signed,
    /// The permit.
    pub decision: Decision,
}

impl Recipient {
    /// Encoded receipt of an access that a client got under its own request id.
    pub fn access_receipt(&self, client: &str, request_id: &str, start: StartAt) -> Result<Vec<u8>, Refusal> {
        let not_found = || {
            let message = "this client got no records under this request_id";
            Refusal::new(Kind::NotFound, "ACCESS_NOT_FOUND", message)
        };
        let record = self.parts.vault.get_request(client, request_id)?.ok_or_else(not_found)?;
        let signed = Signed::decode(record.reply.as_slice()).map_err(|_| not_found())?;
        let hash = request_hash(self.parts.chain_id(), &signed.body);
        let bundle = self.parts.vault.release(&hash)?.ok_or_else(not_found)?;
        let bundle = RecordBundle::decode(bundle.as_slice()).map_err(|_| not_found())?;
        let receipt = bundle.proof.ok_or_else(not_found)?;
        self.parts.store.view()?.access_receipt(&self.parts.genesis, receipt, start)
    }

    /// Asks the custodian anew: a kept decision has no question that could be shown.
    pub async fn decide_for_receipt(&self, client: &str, query: &Query) -> Result<Decided, Refusal> {
        self.must_be_fresh()?;
        let custodian = query.custodian.clone();
        let (hash, signed) = self.sign(self.question(client, query, true)?);
        let request = signed.body.clone();
        match self.answer(&custodian, &hash, &signed, true).await? {
            Answered::Permit(signed) => {
                let decision = check_decision(&self.parts, &custodian, &hash, &signed)?;
                Ok(Decided { request, signed, decision })
            }
            Answered::NotReleased(signed) => Err(Refusal::not_released(signed)),
            Answered::Released(..) | Answered::ReleasedLate(..) => {
                Err(Refusal::unavailable("BAD_ANSWER", "records in answer to a check"))
            }
        }
    }

    /// Encoded receipt of a permit at this node's tip, which must have come to the permit's height.
    pub fn decision_receipt(&self, decided: Decided, start: StartAt) -> Result<Vec<u8>, Refusal> {
        let Decided { request, signed, decision } = decided;
        let genesis = &self.parts.genesis;
        let view = self.parts.store.view()?;
        let slot = view.slot(&decision.custodian, &decision.handle)?.unwrap_or_default();
        if slot.consent_seq != decision.consent_seq {
            let message = "the patient's consent changed while the custodian decided: ask again";
            return Err(Refusal::unavailable("STALE_DECISION", message));
        }
        let tip = view.tip.height;
        let anchor = view.anchor(genesis, tip, start)?;
        let custodian = Some(view.member_proof(genesis, tip, &decision.custodian)?);
        let state_proof = view.prove_slot(&decision.custodian, &decision.handle, Some(&slot))?;
        let policy = view.policy(&decision.custodian)?;
        let key = policy_key(&view.tip.chain_id, &decision.custodian);
        let policy_slot = (policy.policy_seq > 0).then_some(policy);
        let value = policy_slot.as_ref().map(Message::encode_to_vec);
        let proof = tree::prove(&view, view.tip.state_version, &key, value.as_deref())
            .map_err(|e| Fatal::Corrupt(e.to_string()))?;
        let claim = |policy: Option<PolicyShown>| {
            receipt::Claim::Decision(DecisionClaim {
                request: request.clone(),
                decision: Some(signed.clone()),
                custodian: custodian.clone(),
                slot: Some(slot.clone()),
                state_proof: state_proof.clone(),
                policy,
            })
        };
        // The policy too, where it is still the same and a small receipt has room for it.
        let same = policy_slot.as_ref().map_or(0, |slot| slot.policy_seq) == decision.policy_seq;
        let shown = PolicyShown { slot: policy_slot, state_proof: proof };
        if same {
            let whole = view.checked(genesis, anchor.clone(), claim(Some(shown)))?;
            if whole.len() <= MAX_WITH_POLICY {
                return Ok(whole);
            }
        }
        view.checked(genesis, anchor, claim(None))
    }
}
