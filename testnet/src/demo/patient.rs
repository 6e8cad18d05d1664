//! The patient: a control key in a wallet, and requests that only it can sign.

use std::path::PathBuf;

use assent_ledger::hash::{framed, Context};
use assent_ledger::keys::{sign, SigningKey};
use assent_proto::ledger::v1::Slot;
use assent_proto::v1::patient_service_client::PatientServiceClient;
use assent_proto::v1::{ControlProof, GetSlotRequest, Patient};
use tonic::transport::Channel;
use tonic::{Code, Status};

use super::stage::{named, now_ms, CUSTODIAN};
use crate::client::{self, code};
use crate::error::{failed, Error};
use crate::net::description::Network;
use crate::slice::{SamplePatient, Slice};

/// The patient of the story.
#[derive(Clone)]
pub struct DemoPatient {
    /// FHIR id, identifier and birth date.
    pub sample: SamplePatient,
    /// The wallet's file.
    pub wallet: PathBuf,
    /// The wallet's control key.
    pub key: SigningKey,
    /// The handle at Cedar, once known.
    pub handle: Vec<u8>,
}

/// What a node showed of the slot.
pub enum SlotSeen {
    /// The slot.
    Slot(Slot),
    /// The node asks for patience.
    Later,
}

impl DemoPatient {
    /// The sample's demo patient, with a wallet.
    pub fn new(slice: &Slice, wallet: PathBuf, key: SigningKey) -> Result<Self, Error> {
        let id = &slice.manifest.demo_patient.id;
        match slice.patients.iter().find(|patient| patient.id == *id) {
            Some(sample) => Ok(Self { sample: sample.clone(), wallet, key, handle: Vec::new() }),
            None => failed("the sample lacks its demo patient"),
        }
    }

    /// As a node is told.
    pub fn named(&self) -> Patient {
        named(&self.sample)
    }

    /// A proof that the control key asks for the slot, usable once.
    fn proof(&self, chain_id: &str, method: &str) -> ControlProof {
        let nonce: [u8; 16] = rand::random();
        let time_ms = now_ms();
        let parts: [&[u8]; 5] =
            [method.as_bytes(), CUSTODIAN.as_bytes(), &self.handle, &nonce, &time_ms.to_be_bytes()];
        let signature = sign(&self.key, &framed(Context::PatientRequest, chain_id, &parts));
        ControlProof {
            custodian: CUSTODIAN.into(),
            handle: self.handle.clone(),
            nonce: nonce.to_vec(),
            time_ms,
            signature: signature.to_vec(),
        }
    }

    /// The slot, as a node shows it to the patient, who has no client certificate.
    pub async fn slot(&self, network: &Network, organization: &str) -> Result<Slot, Error> {
        let channel = client::connect_as_patient(network, organization).await?;
        match self.ask_slot(&mut PatientServiceClient::new(channel), &network.chain_id).await {
            Ok(SlotSeen::Slot(slot)) => Ok(slot),
            Ok(SlotSeen::Later) => failed("GetSlot: asked too often"),
            Err(status) => Err(code("GetSlot", &status)),
        }
    }

    /// The same over an open connection.
    pub async fn ask_slot(
        &self,
        client: &mut PatientServiceClient<Channel>,
        chain_id: &str,
    ) -> Result<SlotSeen, Status> {
        let request = GetSlotRequest { proof: Some(self.proof(chain_id, "GetSlot")) };
        match client.get_slot(request).await {
            Ok(answer) => match answer.into_inner().slot {
                Some(slot) => Ok(SlotSeen::Slot(slot)),
                None => Err(Status::internal("an answer without a slot")),
            },
            Err(status) if status.code() == Code::ResourceExhausted => Ok(SlotSeen::Later),
            Err(status) => Err(status),
        }
    }
}
