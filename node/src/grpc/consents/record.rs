//! What a portal records, previews and reads.

use assent_ledger::consent::{export_consent, Recorded};
use assent_ledger::hash::{framed, sha256, Context};
use assent_ledger::Hash;
use assent_proto::v1::{
    preview_consent_request, Consistency, ExportConsentRequest, ExportConsentResponse, GetConsentRequest,
    GetConsentResponse, ListConsentRevisionsRequest, ListConsentRevisionsResponse, ListConsentsRequest,
    ListConsentsResponse, MarkConsentErrorRequest, MarkConsentErrorResponse, PreviewConsentRequest,
    PreviewConsentResponse, RecordConsentRequest, RecordConsentResponse, RevokeConsentRequest,
    RevokeConsentResponse,
};
use prost::Message;

use super::said;
use crate::custodian::{PageAsked, Trial, Wanted, MAX_PROBES};
use crate::grpc::auth::Client;
use crate::grpc::{answer, border, Api};
use crate::refusal::{Kind, Refusal};

/// Hash of all that a request asks for.
fn body_hash(method: &str, body: &impl Message) -> Hash {
    sha256(&framed(Context::Handle, method, &[&body.encode_to_vec()]))
}

impl Api {
    /// Refuses to read from a state that is older than the caller has seen, or than the height that is asked about.
    fn must_reach(&self, consistency: Option<&Consistency>, height: u64) -> Result<(), Refusal> {
        let demands = consistency.copied().unwrap_or_default();
        let demands = Consistency { min_height: demands.min_height.max(height), ..demands };
        answer::meets(Some(&demands), &self.app.parts.tip())
    }

    pub(in crate::grpc) async fn record_consent_for(
        &self,
        client: Client,
        body: RecordConsentRequest,
    ) -> Result<RecordConsentResponse, Refusal> {
        let hash = body_hash("record", &body);
        border::request_id(&body.request_id)?;
        let name = self.own_patient(body.patient)?;
        let new = said::new_consent(&client, body.consent, body.supersedes)?;
        let key = border::control_key("control_key", &body.control_key)?;
        let custodian = &self.app.custodian;
        let recorded = custodian.record_consent(&client.id, &body.request_id, hash, name, new, key).await?;
        Ok(RecordConsentResponse {
            answer: Some(self.answer_from(recorded.height).await?),
            consent_id: recorded.consent_id,
            revision: recorded.revision,
            consent_seq: recorded.consent_seq,
            rules: recorded.rules,
            handle: recorded.handle.to_vec(),
        })
    }

    pub(in crate::grpc) async fn preview_consent_for(
        &self,
        client: Client,
        body: PreviewConsentRequest,
    ) -> Result<PreviewConsentResponse, Refusal> {
        let name = self.own_patient(body.patient)?;
        let trial = match body.change {
            None => return Err(border::malformed("change", "nothing to record or revoke")),
            Some(preview_consent_request::Change::Record(consent)) => {
                Trial::Record(Box::new(said::new_consent(&client, Some(consent), body.supersedes)?))
            }
            Some(preview_consent_request::Change::Revoke(_)) if !body.supersedes.is_empty() => {
                return Err(border::malformed("supersedes", "a revocation supersedes nothing"));
            }
            Some(preview_consent_request::Change::Revoke(id)) => {
                said::consent_id("revoke", &id)?;
                Trial::Revoke(id)
            }
        };
        if body.probes.len() > MAX_PROBES {
            let found = body.probes.len();
            return Err(border::malformed("probes", format!("{found} accesses, at most {MAX_PROBES}")));
        }
        let probes = body.probes.into_iter().enumerate().map(|(n, probe)| said::probe(n, probe));
        let probes = probes.collect::<Result<_, _>>()?;
        self.must_reach(body.consistency.as_ref(), 0)?;
        let preview = self.app.custodian.preview(&name, &trial, probes)?;
        let answer = answer::at(&preview.tip);
        Ok(said::preview(preview, answer))
    }

    pub(in crate::grpc) async fn revoke_consent_for(
        &self,
        client: Client,
        body: RevokeConsentRequest,
    ) -> Result<RevokeConsentResponse, Refusal> {
        let hash = body_hash("revoke", &body);
        border::request_id(&body.request_id)?;
        let name = self.own_patient(body.patient)?;
        said::consent_id("consent_id", &body.consent_id)?;
        let custodian = &self.app.custodian;
        let revoked =
            custodian.revoke_consent(&client.id, &body.request_id, hash, name, &body.consent_id).await?;
        Ok(RevokeConsentResponse {
            answer: Some(self.answer_from(revoked.height).await?),
            consent_seq: revoked.consent_seq,
            still_denied: revoked.still_denied,
        })
    }

    pub(in crate::grpc) async fn mark_consent_error_for(
        &self,
        client: Client,
        body: MarkConsentErrorRequest,
    ) -> Result<MarkConsentErrorResponse, Refusal> {
        let hash = body_hash("mark-error", &body);
        border::request_id(&body.request_id)?;
        let name = self.own_patient(body.patient)?;
        said::consent_id("consent_id", &body.consent_id)?;
        let custodian = &self.app.custodian;
        let marked =
            custodian.mark_consent_error(&client.id, &body.request_id, hash, name, &body.consent_id).await?;
        Ok(MarkConsentErrorResponse {
            answer: Some(self.answer_from(marked.height).await?),
            consent_seq: marked.consent_seq,
        })
    }

    pub(in crate::grpc) async fn get_consent_for(
        &self,
        _client: Client,
        body: GetConsentRequest,
    ) -> Result<GetConsentResponse, Refusal> {
        let name = self.own_patient(body.patient)?;
        said::consent_id("consent_id", &body.consent_id)?;
        self.must_reach(body.consistency.as_ref(), body.height)?;
        let GetConsentRequest { revision, height, for_representative, .. } = body;
        let wanted = Wanted { revision, height, for_representative };
        let (tip, read) = self.app.custodian.get_consent(&name, &body.consent_id, wanted)?;
        Ok(GetConsentResponse { answer: Some(answer::at(&tip)), consent: Some(read.into()) })
    }

    pub(in crate::grpc) async fn list_consents_for(
        &self,
        _client: Client,
        body: ListConsentsRequest,
    ) -> Result<ListConsentsResponse, Refusal> {
        let name = self.own_patient(body.patient)?;
        self.must_reach(body.consistency.as_ref(), 0)?;
        let asked = PageAsked { size: body.page_size, token: body.page_token };
        let custodian = &self.app.custodian;
        let page = custodian.list_consents(&name, body.standing_only, body.for_representative, &asked)?;
        Ok(ListConsentsResponse {
            answer: Some(answer::at(&page.tip)),
            consents: page.consents.into_iter().map(Into::into).collect(),
            next_page_token: page.next,
            contact_preferences: page.contact,
        })
    }

    pub(in crate::grpc) async fn list_consent_revisions_for(
        &self,
        _client: Client,
        body: ListConsentRevisionsRequest,
    ) -> Result<ListConsentRevisionsResponse, Refusal> {
        let name = self.own_patient(body.patient)?;
        said::consent_id("consent_id", &body.consent_id)?;
        let asked = PageAsked { size: body.page_size, token: body.page_token };
        let custodian = &self.app.custodian;
        let page = custodian.list_revisions(&name, &body.consent_id, body.for_representative, &asked)?;
        Ok(ListConsentRevisionsResponse {
            answer: Some(answer::at(&page.tip)),
            revisions: page.consents.into_iter().map(Into::into).collect(),
            next_page_token: page.next,
        })
    }

    pub(in crate::grpc) async fn export_consent_for(
        &self,
        _client: Client,
        body: ExportConsentRequest,
    ) -> Result<ExportConsentResponse, Refusal> {
        let name = self.own_patient(body.patient)?;
        said::consent_id("consent_id", &body.consent_id)?;
        let wanted = Wanted { revision: body.revision, ..Wanted::default() };
        let (tip, read) = self.app.custodian.get_consent(&name, &body.consent_id, wanted)?;
        let recorded = Recorded {
            consent_id: read.body.id,
            revision: read.body.revision,
            height: read.change.height,
            commitment: read.commitment,
        };
        let consent = export_consent(&read.body.fhir, &recorded).map_err(|_| {
            let message = "the consent came from a feed and is no JSON object: there is no FHIR to export";
            Refusal::new(Kind::FailedPrecondition, "CONSENT_UNREADABLE", message)
        })?;
        Ok(ExportConsentResponse { answer: Some(answer::at(&tip)), consent })
    }
}
