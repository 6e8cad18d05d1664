//! What a CRM asks its hospital's node: records, and whether a bundle holds.

use assent_ledger::block::header_hash;
use assent_ledger::receipts::{check_bundle, VerifiedAccess};
use assent_proto::ledger::v1::{DataRequest, RecordBundle};
use assent_proto::v1::exchange_service_server::ExchangeService;
use assent_proto::v1::{
    ListAccessesRequest, ListAccessesResponse, Outcome, OwnAccess, Patient, RequestRecordsRequest,
    RequestRecordsResponse, VerifyRecordsRequest, VerifyRecordsResponse,
};
use futures::stream;
use prost::Message;
use tonic::{Request, Response, Status};

use super::auth::Client;
use super::{answer, border, Api};
use crate::app::Parts;
use crate::chain::receipts::StartAt;
use crate::custodian::blocking;
use crate::exchange::Proof;
use crate::recipient::Query;
use crate::refusal::Refusal;
use crate::vault;

/// Most resource bytes in one message of a release, unless a single resource is longer.
const MAX_CHUNK_BYTES: usize = 1 << 20;

/// Puts resources into messages, in order.
fn chunks(resources: Vec<Vec<u8>>) -> Vec<Vec<Vec<u8>>> {
    let mut chunks: Vec<Vec<Vec<u8>>> = Vec::new();
    let mut room = 0;
    for resource in resources {
        match chunks.last_mut() {
            Some(chunk) if resource.len() <= room => {
                room -= resource.len();
                chunk.push(resource);
            }
            _ => {
                room = MAX_CHUNK_BYTES.saturating_sub(resource.len());
                chunks.push(vec![resource]);
            }
        }
    }
    chunks
}

pub(super) fn outcome(name: &str) -> Option<Outcome> {
    match name {
        "PERMIT" => Some(Outcome::Permit),
        "PERMIT_OVERRIDE" => Some(Outcome::PermitOverride),
        _ => None,
    }
}

fn own_access(access: vault::OwnAccess) -> Result<OwnAccess, Refusal> {
    let request = DataRequest::decode(access.request.as_slice())
        .map_err(|_| Refusal::unavailable("NODE_FAILING", "a stored access does not decode"))?;
    let patient = Patient {
        custodian: request.custodian,
        identifier_system: request.identifier_system,
        identifier_value: request.identifier_value,
        birth_date: request.birth_date,
    };
    let query = assent_proto::v1::Query {
        patient: Some(patient),
        purpose: request.purpose,
        actor: request.actor,
        action: request.action,
        resource_types: request.resource_types,
        break_glass_reason: request.break_glass_reason,
    };
    Ok(OwnAccess {
        request_id: access.request_id,
        query: Some(query),
        outcome: outcome(&access.outcome).unwrap_or_default().into(),
        resources: access.resources,
        time_ms: access.time_ms,
        height: access.height,
        entry_hash: access.entry_hash.to_vec(),
        request_hash: access.request_hash.to_vec(),
    })
}

/// True when a bundle's block is the one that this node has; none when this node isn't there yet.
fn is_our_block(parts: &Parts, access: &VerifiedAccess) -> Result<Option<bool>, Refusal> {
    let view = parts.store.view()?;
    let sealed = view.sealed(access.height)?;
    Ok(sealed.map(|own| header_hash(parts.chain_id(), &own.header_bytes) == access.header_hash))
}

impl Api {
    /// A query to an organization of this network.
    pub(super) fn known_query(&self, query: Option<assent_proto::v1::Query>) -> Result<Query, Refusal> {
        let query = border::query(query)?;
        self.known_custodian("query.patient.custodian", &query.custodian)?;
        Ok(query)
    }

    /// Refuses a custodian that is no organization of this network.
    pub(super) fn known_custodian(&self, field: &str, custodian: &str) -> Result<(), Refusal> {
        if self.app.parts.known(custodian).is_some() {
            return Ok(());
        }
        let message = format!("{field}: {custodian} is no member of this network");
        Err(Refusal::invalid("UNKNOWN_CUSTODIAN", field, message))
    }

    fn list(&self, client: &Client, body: &ListAccessesRequest) -> Result<ListAccessesResponse, Refusal> {
        let recipient = &self.app.recipient;
        let (accesses, next) = recipient.accesses(&client.id, body.page_size, &body.page_token)?;
        Ok(ListAccessesResponse {
            answer: Some(self.answer()),
            accesses: accesses.into_iter().map(own_access).collect::<Result<_, _>>()?,
            next_page_token: next,
        })
    }

    async fn request(
        &self,
        client: Client,
        body: RequestRecordsRequest,
    ) -> Result<Vec<RequestRecordsResponse>, Refusal> {
        border::request_id(&body.request_id)?;
        let query = self.known_query(body.query)?;
        // A release has a block of its own that comes later: only where this node stands now can be too old.
        answer::meets(body.consistency.as_ref(), &self.app.parts.tip())?;
        let (parts, start) = (&self.app.parts, StartAt::of(body.checkpoint_size));
        // Before anything is released.
        blocking(|| parts.store.view()?.must_hold(start))?;
        let release = self.app.recipient.request(&client.id, &body.request_id, query).await?;
        let first = RequestRecordsResponse { answer: Some(self.answer()), ..Default::default() };
        let first = blocking(|| {
            let view = parts.store.view()?;
            Ok::<_, Refusal>(match release.proof {
                Proof::Receipt(receipt) => {
                    let proof = Some(view.receipt_from(&parts.genesis, *receipt, start)?);
                    RequestRecordsResponse { proof, ..first }
                }
                Proof::Late(proof) => {
                    let late = Some(view.late_from(&parts.genesis, *proof, start)?);
                    RequestRecordsResponse { late, ..first }
                }
            })
        })?;
        let rest = chunks(release.resources)
            .into_iter()
            .map(|resources| RequestRecordsResponse { resources, ..Default::default() });
        Ok(std::iter::once(first).chain(rest).collect())
    }

    fn verify(&self, bundle: Option<RecordBundle>) -> Result<VerifyRecordsResponse, Refusal> {
        let bundle = bundle.ok_or_else(|| border::malformed("bundle", "missing"))?;
        let parts = &self.app.parts;
        let response = VerifyRecordsResponse { answer: Some(self.answer()), ..Default::default() };
        let trust = parts.store.view()?.trust(&parts.genesis)?;
        let access = match check_bundle(&trust, &bundle) {
            Ok((_, access)) => access,
            Err(fault) => return Ok(VerifyRecordsResponse { fault: fault.to_string(), ..response }),
        };
        match is_our_block(parts, &access)? {
            None => Err(Refusal::unavailable(
                "BEHIND_MIN_HEIGHT",
                format!("the bundle's block {} has not reached this node yet: retry later", access.height),
            )
            .with("min_height", access.height)),
            Some(false) => {
                // Two certificates for one height: more than 1/3 of the validators signed twice.
                let fault = format!(
                    "block {} has a valid certificate but is not the one in this node's ledger",
                    access.height
                );
                tracing::error!(height = access.height, "a certified block contradicts this node's ledger");
                Ok(VerifyRecordsResponse { fault, ..response })
            }
            Some(true) => Ok(VerifyRecordsResponse {
                holds: true,
                access_height: access.height,
                custodian: access.event.custodian,
                resources: access.event.resources,
                ..response
            }),
        }
    }
}

#[tonic::async_trait]
impl ExchangeService for Api {
    type RequestRecordsStream = stream::Iter<std::vec::IntoIter<Result<RequestRecordsResponse, Status>>>;

    async fn request_records(
        &self,
        request: Request<RequestRecordsRequest>,
    ) -> Result<Response<Self::RequestRecordsStream>, Status> {
        let work = |api: Self, client, body| async move {
            let messages = api.request(client, body).await?;
            Ok(stream::iter(messages.into_iter().map(Ok).collect::<Vec<_>>()))
        };
        self.call("ExchangeService/RequestRecords", request, work).await
    }

    async fn verify_records(
        &self,
        request: Request<VerifyRecordsRequest>,
    ) -> Result<Response<VerifyRecordsResponse>, Status> {
        let work =
            |api: Self, _, body: VerifyRecordsRequest| async move { blocking(|| api.verify(body.bundle)) };
        self.call("ExchangeService/VerifyRecords", request, work).await
    }

    async fn list_accesses(
        &self,
        request: Request<ListAccessesRequest>,
    ) -> Result<Response<ListAccessesResponse>, Status> {
        let work = |api: Self, client, body: ListAccessesRequest| async move { api.list(&client, &body) };
        self.call("ExchangeService/ListAccesses", request, work).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_keep_order_and_stay_small() {
        let sizes = [10, MAX_CHUNK_BYTES - 10, 1, MAX_CHUNK_BYTES + 5, 0, 7];
        let made = chunks(sizes.iter().map(|n| vec![*n as u8; *n]).collect());
        let found: Vec<Vec<usize>> = made.iter().map(|c| c.iter().map(Vec::len).collect()).collect();
        assert_eq!(found, [vec![10, MAX_CHUNK_BYTES - 10], vec![1], vec![MAX_CHUNK_BYTES + 5, 0], vec![7]]);
        assert!(chunks(Vec::new()).is_empty());
    }
}
