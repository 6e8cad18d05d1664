//! The patient's wallet: grants through any node, and the control key's life.

mod dishonest;
mod grants;
mod keys;

use assent_ledger::commitment::{slot_commitment, ConsentLeaf};
use assent_ledger::consent::consent_commitment;
use assent_ledger::entry::{cancel_sign_bytes, control_sign_bytes};
use assent_ledger::hash::{framed, sha256, Context};
use assent_ledger::keys::{sign, SigningKey};
use assent_proto::ledger::v1::{CancelReplacement, ConsentBody, Slot};
use assent_proto::v1::patient_service_client::PatientServiceClient;
use assent_proto::v1::*;
use prost::Message;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::net::{Net, CHAIN};
use crate::patient::*;

fn public(key: &SigningKey) -> Vec<u8> {
    key.verifying_key().to_bytes().to_vec()
}

fn other_key() -> SigningKey {
    SigningKey::from_bytes(&[77; 32])
}

/// A patient without a certificate, at some node.
struct Wallet {
    client: PatientServiceClient<Channel>,
    custodian: &'static str,
    handle: Vec<u8>,
    key: SigningKey,
}

impl Wallet {
    fn new(net: &Net, node: &str, handle: &[u8]) -> Self {
        let client = PatientServiceClient::new(net.client_with(net.index(node), None));
        Self { client, custodian: "cedar", handle: handle.to_vec(), key: control_key() }
    }

    fn proof(&self, method: &str) -> ControlProof {
        let nonce: [u8; 16] = rand::random();
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let time_ms = now.as_millis() as u64;
        let parts: [&[u8]; 5] =
            [method.as_bytes(), self.custodian.as_bytes(), &self.handle, &nonce, &time_ms.to_be_bytes()];
        ControlProof {
            custodian: self.custodian.into(),
            handle: self.handle.clone(),
            nonce: nonce.to_vec(),
            time_ms,
            signature: sign(&self.key, &framed(Context::PatientRequest, CHAIN, &parts)).to_vec(),
        }
    }

    async fn slot(&mut self) -> Result<Slot, Status> {
        let request = GetSlotRequest { proof: Some(self.proof("GetSlot")) };
        Ok(self.client.get_slot(request).await?.into_inner().slot.unwrap())
    }

    /// The slot once it is so: a node lags by a block.
    async fn slot_when(&mut self, so: impl Fn(&Slot) -> bool) -> Slot {
        for _ in 0..1000 {
            match self.slot().await {
                Ok(slot) if so(&slot) => return slot,
                _ => pause().await,
            }
        }
        panic!("the slot is not so after 20 s");
    }

    async fn prepare(&mut self, request_id: &str, grant: &Grant) -> Result<PrepareGrantResponse, Status> {
        let method = format!("PrepareGrant/{}", hex::encode(sha256(&grant.encode_to_vec())));
        let request = PrepareGrantRequest {
            request_id: request_id.into(),
            proof: Some(self.proof(&method)),
            grant: Some(grant.clone()),
        };
        Ok(self.client.prepare_grant(request).await?.into_inner())
    }

    fn signed(&self, request_id: &str, grant: &Grant, prepared: &PrepareGrantResponse) -> CommitGrantRequest {
        let key = (!grant.new_control_key.is_empty()).then_some(grant.new_control_key.as_slice());
        let message = control_sign_bytes(
            CHAIN,
            self.custodian,
            &self.handle,
            prepared.consent_seq,
            &prepared.commitment,
            key,
        );
        CommitGrantRequest {
            request_id: request_id.into(),
            custodian: self.custodian.into(),
            handle: self.handle.clone(),
            commitment: prepared.commitment.clone(),
            control_signature: sign(&self.key, &message).to_vec(),
            consent_seq: prepared.consent_seq,
            new_control_key: grant.new_control_key.clone(),
        }
    }

    async fn commit(&mut self, request: CommitGrantRequest) -> Result<CommitGrantResponse, Status> {
        Ok(self.client.commit_grant(request).await?.into_inner())
    }

    /// Both steps; what was prepared too.
    async fn grant(
        &mut self,
        id: &str,
        grant: &Grant,
    ) -> Result<(PrepareGrantResponse, CommitGrantResponse), Status> {
        let prepared = self.prepare(&format!("p-{id}"), grant).await?;
        let request = self.signed(&format!("g-{id}"), grant, &prepared);
        let committed = self.commit(request).await?;
        Ok((prepared, committed))
    }

    async fn cancel(
        &mut self,
        request_id: &str,
        consent_seq: u64,
        waiting: &SigningKey,
    ) -> Result<CancelReplacementResponse, Status> {
        let message = cancel_sign_bytes(CHAIN, self.custodian, &self.handle, consent_seq, &public(waiting));
        let cancel = CancelReplacement {
            custodian: self.custodian.into(),
            handle: self.handle.clone(),
            consent_seq,
            patient_signature: sign(&self.key, &message).to_vec(),
        };
        let request = CancelReplacementRequest { request_id: request_id.into(), cancel: Some(cancel) };
        Ok(self.client.cancel_replacement(request).await?.into_inner())
    }
}

async fn pause() {
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
}

fn array(bytes: &[u8]) -> [u8; 32] {
    bytes.try_into().unwrap()
}

/// What a wallet checks before it signs: the opening is whole, and the new consent stands in it. Its body.
fn opened(prepared: &PrepareGrantResponse) -> Option<ConsentBody> {
    let leaves: Vec<ConsentLeaf> = prepared
        .consents
        .iter()
        .map(|c| ConsentLeaf { id: c.consent_id.clone(), commitment: array(&c.commitment) })
        .collect();
    let commitment = slot_commitment(CHAIN, &array(&prepared.salt), &leaves);
    assert_eq!(commitment.to_vec(), prepared.commitment);
    if prepared.body.is_empty() {
        return None;
    }
    let body = ConsentBody::decode(prepared.body.as_slice()).unwrap();
    let leaf = leaves.iter().find(|leaf| leaf.id == body.id).unwrap();
    assert_eq!(leaf.commitment, consent_commitment(CHAIN, &array(&prepared.body_salt), &body));
    Some(body)
}

fn is(status: &Status, code: Code, why: &str) {
    assert_eq!((status.code(), reason(status).as_str()), (code, why), "{status:?}");
    assert_eq!(error_infos(status), 1);
}

/// Waits until a permit is given, or is given no more: the recipient's ledger lags by a block.
async fn permitted(net: &Net, expected: bool) {
    for _ in 0..200 {
        let permit = check(net.client(net.index("birch"), "crm"), "mrn-1", "TREAT").await;
        if permit.is_ok() == expected {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(25)).await;
    }
    panic!("permitted is not {expected} within 5 s");
}
