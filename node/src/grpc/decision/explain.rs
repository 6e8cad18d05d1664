//! Why a decision is as it is, for the custodian's own staff.

use assent_ledger::consent::{
    tables_sha256, Kleene, Reference, Request, ResourceDecision, ResourceExplanation, ALGORITHM,
};
use assent_proto::ledger::v1::DataRequest;
use assent_proto::v1::{
    ExplainDecisionRequest, ExplainDecisionResponse, Query, ResourceExplanation as Told, TriedRule,
};

use crate::custodian::blocking;
use crate::grpc::auth::Client;
use crate::grpc::{answer, border, Api};
use crate::refusal::Refusal;

fn told(decision: ResourceDecision, why: ResourceExplanation) -> Told {
    let tried = why.tried.into_iter().map(|tried| TriedRule {
        consent_id: tried.consent,
        rule: tried.rule,
        effect: tried.effect.to_owned(),
        holds: match tried.holds {
            Kleene::True => "TRUE",
            Kleene::False => "FALSE",
            Kleene::Unknown => "UNKNOWN",
        }
        .to_owned(),
        because: tried.because.into_iter().map(str::to_owned).collect(),
    });
    Told {
        resource: decision.reference,
        outcome: decision.outcome.as_str().to_owned(),
        decided_by: decision.decided_by.iter().map(ToString::to_string).collect(),
        obligations: decision.obligations,
        assumed_labels: decision.assumed_labels,
        tried: tried.collect(),
        would_change: why.would_change.iter().map(ToString::to_string).collect(),
    }
}

impl Api {
    /// The request that the recipient would make.
    fn request_to_explain(
        &self,
        client: &Client,
        body: ExplainDecisionRequest,
    ) -> Result<DataRequest, Refusal> {
        let query = border::query(Some(Query {
            patient: body.patient,
            purpose: body.purpose,
            actor: body.actor,
            action: body.action,
            resource_types: body.resource_types,
            break_glass_reason: body.break_glass_reason,
        }))?;
        self.own_custodian("patient.custodian", &query.custodian)?;
        border::organization("recipient", &body.recipient)?;
        if self.app.parts.known(&body.recipient).is_none() {
            let message = format!("recipient: {} is no member of this network", body.recipient);
            return Err(Refusal::invalid("UNKNOWN_RECIPIENT", "recipient", message));
        }
        let action = if query.action.is_empty() { "access".to_owned() } else { query.action };
        let itself = Reference::Literal(format!("Organization/{}", body.recipient));
        let mut asked = Request::access(vec![itself], &query.purpose);
        asked.action.clone_from(&action);
        asked.check().map_err(|e| Refusal::invalid("BAD_QUERY", "query", e.to_string()))?;
        Ok(DataRequest {
            chain_id: self.app.parts.chain_id().to_owned(),
            custodian: query.custodian,
            recipient: body.recipient,
            client: client.id.clone(),
            actor: query.actor,
            identifier_system: query.system,
            identifier_value: query.value,
            birth_date: query.birth_date,
            purpose: query.purpose,
            action,
            resource_types: query.resource_types,
            break_glass_reason: query.break_glass_reason,
            ..DataRequest::default()
        })
    }

    pub(in crate::grpc) async fn explain_decision_for(
        &self,
        client: Client,
        body: ExplainDecisionRequest,
    ) -> Result<ExplainDecisionResponse, Refusal> {
        let (height, consistency) = (body.height, body.consistency);
        let request = self.request_to_explain(&client, body)?;
        let tip = self.app.parts.tip();
        answer::meets(consistency.as_ref(), &tip)?;
        let explained = blocking(|| self.app.custodian.explain(&request, height))?;
        let (outcome, decisions) = (explained.why.decision.outcome, explained.why.decision.resources);
        Ok(ExplainDecisionResponse {
            answer: Some(answer::at(&tip)),
            decided_height: explained.height,
            decided_time_ms: explained.time_ms,
            outcome: outcome.as_str().to_owned(),
            algorithm: ALGORITHM.to_owned(),
            tables: tables_sha256().to_vec(),
            consent_seq: explained.consent_seq,
            policy_seq: explained.policy_seq,
            frozen: explained.frozen,
            resources: decisions.into_iter().zip(explained.why.resources).map(|(d, w)| told(d, w)).collect(),
        })
    }
}
