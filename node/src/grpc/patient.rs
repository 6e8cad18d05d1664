//! The patient: sees and stops every use. With the control key and no client certificate, or through the portal.
//!
//! ```text
//! proof ─▶ rate ─▶ form ─▶ time ±5 min ─▶ slot's control key signed it? ─▶ nonce unused ─▶ answer
//! ```
//! Whoever can't sign learns nothing: an unknown slot, one without a control key and a bad signature are one answer. Nonces
//! are kept only of proofs that hold, so that nobody else can fill their set.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use assent_ledger::entry::withdraw_sign_bytes;
use assent_ledger::hash::{framed, Context};
use assent_ledger::keys;
use assent_proto::ledger::v1::Slot;
use assent_proto::v1::patient_service_server::PatientService;
use assent_proto::v1::{
    Answer, CancelReplacementRequest, CancelReplacementResponse, CommitGrantRequest, CommitGrantResponse,
    ControlProof, GetHistoryRequest, GetHistoryResponse, GetSlotRequest, GetSlotResponse, ListNoticesRequest,
    ListNoticesResponse, Patient, PrepareGrantRequest, PrepareGrantResponse, ReplaceControlKeyRequest,
    ReplaceControlKeyResponse, WithdrawRequest, WithdrawResponse,
};
use tonic::{Request, Response, Status};

use super::call::Caller;
use super::quota::{Bucket, Rate};
use super::{answer, border, Api};
use crate::chain::now_ms;
use crate::custodian::blocking;
use crate::refusal::{Kind, Refusal};

/// Furthest that a proof's time may be from this node's clock.
const MAX_PROOF_DISTANCE_MS: u64 = 5 * 60 * 1000;
/// How long a nonce is remembered: as long as its proof can count, from the earliest clock to the latest.
const NONCE_LIFE: Duration = Duration::from_secs(11 * 60);
/// Most nonces remembered: more than the rate lets through in their life.
const MAX_NONCES: usize = 40_000;
/// Calls without a certificate that this process takes in a second; reads and withdrawals have as much each.
const CALLS_PER_SECOND: u32 = 50;
const RATE: Rate = Rate { per_second: CALLS_PER_SECOND, burst: CALLS_PER_SECOND };

/// Nonces of proofs that counted. In memory: a restart forgets them.
#[derive(Default)]
struct Nonces {
    used: BTreeSet<[u8; 48]>,
    order: VecDeque<(Instant, [u8; 48])>,
}

/// What became of a nonce.
#[derive(Debug, PartialEq, Eq)]
enum Nonce {
    New,
    Used,
    Full,
}

impl Nonces {
    fn take(&mut self, now: Instant, handle: &[u8; 32], nonce: &[u8; 16]) -> Nonce {
        while let Some((_, old)) =
            self.order.front().filter(|(at, _)| now.saturating_duration_since(*at) > NONCE_LIFE)
        {
            self.used.remove(old);
            self.order.pop_front();
        }
        let mut key = [0; 48];
        key[..32].copy_from_slice(handle);
        key[32..].copy_from_slice(nonce);
        if self.used.contains(&key) {
            return Nonce::Used;
        }
        if self.used.len() >= MAX_NONCES {
            return Nonce::Full;
        }
        self.used.insert(key);
        self.order.push_back((now, key));
        Nonce::New
    }
}

/// What stands between callers without a certificate and this node. Withdrawals have their own bucket: no flood of questions
/// holds up a patient's "no".
pub struct Gate {
    reads: Mutex<Bucket>,
    withdrawals: Mutex<Bucket>,
    nonces: Mutex<Nonces>,
}

impl Default for Gate {
    fn default() -> Self {
        let now = Instant::now();
        Self {
            reads: Mutex::new(Bucket::new(RATE, now)),
            withdrawals: Mutex::new(Bucket::new(RATE, now)),
            nonces: Mutex::default(),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn rate_limited() -> Refusal {
    let message = format!("this node takes {CALLS_PER_SECOND} such calls a second: retry in a second");
    Refusal::new(Kind::ResourceExhausted, "RATE_LIMITED", message)
}

fn slot_not_found() -> Refusal {
    Refusal::new(Kind::NotFound, "SLOT_NOT_FOUND", "no such slot, or not yours")
}

/// True when the slot's control key signed. Costs the same when there is no slot: then nobody's key is tried.
fn signed_by_control_key(
    slot: Option<&Slot>,
    message: &[u8],
    signature: &[u8; 64],
    decoy: &[u8; 32],
) -> bool {
    let key = slot.and_then(|s| s.control_key.as_deref()).and_then(|key| key.try_into().ok());
    let holds = keys::verify(key.as_ref().unwrap_or(decoy), message, signature);
    holds && key.is_some()
}

/// A patient whose proof holds.
struct Proven {
    custodian: String,
    handle: [u8; 32],
    slot: Slot,
    answer: Answer,
}

impl Api {
    fn decoy(&self) -> [u8; 32] {
        self.app.parts.entry_key.verifying_key().to_bytes()
    }

    fn prove(&self, method: &str, proof: Option<ControlProof>) -> Result<Proven, Refusal> {
        if lock(&self.gate.reads).take(RATE, Instant::now()).is_err() {
            return Err(rate_limited());
        }
        let proof = proof.ok_or_else(|| border::malformed("proof", "missing"))?;
        border::organization("proof.custodian", &proof.custodian)?;
        let handle = border::bytes::<32>("proof.handle", &proof.handle)?;
        let nonce = border::bytes::<16>("proof.nonce", &proof.nonce)?;
        let signature = border::bytes::<64>("proof.signature", &proof.signature)?;
        let distance_ms = now_ms().abs_diff(proof.time_ms);
        if distance_ms > MAX_PROOF_DISTANCE_MS {
            let seconds = distance_ms / 1000;
            let message = format!("proof.time_ms is {seconds} s from this node's clock, at most 300 s: set the clock and sign again");
            return Err(Refusal::new(Kind::Unauthenticated, "PROOF_OUT_OF_TIME", message)
                .with("field", "proof.time_ms"));
        }
        let time = proof.time_ms.to_be_bytes();
        let message = framed(
            Context::PatientRequest,
            self.app.parts.chain_id(),
            &[method.as_bytes(), proof.custodian.as_bytes(), &handle, &nonce, &time],
        );
        let view = self.app.parts.store.view()?;
        let slot = view.slot(&proof.custodian, &handle)?;
        if !signed_by_control_key(slot.as_ref(), &message, &signature, &self.decoy()) {
            return Err(slot_not_found());
        }
        match lock(&self.gate.nonces).take(Instant::now(), &handle, &nonce) {
            Nonce::New => {}
            Nonce::Used => {
                let message = "this proof was used before: sign again with a fresh nonce";
                return Err(
                    Refusal::new(Kind::Unauthenticated, "NONCE_USED", message).with("field", "proof.nonce")
                );
            }
            Nonce::Full => return Err(rate_limited()),
        }
        let slot = slot.ok_or_else(slot_not_found)?;
        Ok(Proven { custodian: proof.custodian, handle, slot, answer: answer::at(&view.tip) })
    }

    async fn withdraw_slot(&self, body: WithdrawRequest) -> Result<WithdrawResponse, Refusal> {
        if lock(&self.gate.withdrawals).take(RATE, Instant::now()).is_err() {
            return Err(rate_limited());
        }
        border::request_id(&body.request_id)?;
        let withdraw = body.withdraw.ok_or_else(|| border::malformed("withdraw", "missing"))?;
        border::organization("withdraw.custodian", &withdraw.custodian)?;
        let handle = border::bytes::<32>("withdraw.handle", &withdraw.handle)?;
        let signature = border::bytes::<64>("withdraw.patient_signature", &withdraw.patient_signature)?;
        let parts = &self.app.parts;
        let message =
            withdraw_sign_bytes(parts.chain_id(), &withdraw.custodian, &handle, withdraw.withdraw_seq);
        // Checked before anything is stored for a caller that nobody knows. The ledger checks it again.
        let slot = parts.store.view()?.slot(&withdraw.custodian, &handle)?;
        if !signed_by_control_key(slot.as_ref(), &message, &signature, &self.decoy()) {
            return Err(slot_not_found());
        }
        let height = self.app.custodian.withdraw(&body.request_id, withdraw).await?;
        Ok(WithdrawResponse { answer: Some(self.answer_from(height).await?), height })
    }

    /// The subject of this custodian whom a call is about: with a control proof for the method, or named by the portal.
    pub(super) fn subject_of(
        &self,
        caller: &Caller,
        method: &str,
        proof: Option<ControlProof>,
        patient: Option<Patient>,
    ) -> Result<([u8; 32], Answer), Refusal> {
        match (proof, patient) {
            (Some(proof), None) => {
                let proven = blocking(|| self.prove(method, Some(proof)))?;
                self.own_custodian("proof.custodian", &proven.custodian)?;
                Ok((proven.handle, proven.answer))
            }
            (None, patient) => {
                self.client(caller)?;
                let name = self.own_patient(patient)?;
                let message = "no such patient here: check identifier and birth date";
                let not_found = || Refusal::new(Kind::NotFound, "PATIENT_NOT_FOUND", message);
                Ok((blocking(|| self.app.custodian.handle_of(&name))?.ok_or_else(not_found)?, self.answer()))
            }
            (Some(_), Some(_)) => Err(border::malformed("proof", "give a proof or a patient, not both")),
        }
    }

    async fn history_for(
        &self,
        caller: Caller,
        body: GetHistoryRequest,
    ) -> Result<GetHistoryResponse, Refusal> {
        let (handle, answer) = self.subject_of(&caller, "GetHistory", body.proof, body.patient)?;
        let history = self.app.custodian.history(handle).await?;
        Ok(GetHistoryResponse { answer: Some(answer), history })
    }
}

#[tonic::async_trait]
impl PatientService for Api {
    async fn get_slot(&self, request: Request<GetSlotRequest>) -> Result<Response<GetSlotResponse>, Status> {
        let work = |api: Self, _, body: GetSlotRequest| async move {
            let proven = blocking(|| api.prove("GetSlot", body.proof))?;
            Ok(GetSlotResponse { answer: Some(proven.answer), slot: Some(proven.slot) })
        };
        self.open("PatientService/GetSlot", request, work).await
    }

    async fn withdraw(
        &self,
        request: Request<WithdrawRequest>,
    ) -> Result<Response<WithdrawResponse>, Status> {
        let work = |api: Self, _, body| async move { api.withdraw_slot(body).await };
        self.open("PatientService/Withdraw", request, work).await
    }

    async fn get_history(
        &self,
        request: Request<GetHistoryRequest>,
    ) -> Result<Response<GetHistoryResponse>, Status> {
        let work = |api: Self, caller, body| async move { api.history_for(caller, body).await };
        self.open("PatientService/GetHistory", request, work).await
    }

    async fn prepare_grant(
        &self,
        request: Request<PrepareGrantRequest>,
    ) -> Result<Response<PrepareGrantResponse>, Status> {
        let work = |api: Self, caller, body| async move { api.prepare_grant_for(caller, body).await };
        self.open("PatientService/PrepareGrant", request, work).await
    }

    async fn commit_grant(
        &self,
        request: Request<CommitGrantRequest>,
    ) -> Result<Response<CommitGrantResponse>, Status> {
        let work = |api: Self, caller, body| async move { api.commit_grant_for(caller, body).await };
        self.open("PatientService/CommitGrant", request, work).await
    }

    async fn cancel_replacement(
        &self,
        request: Request<CancelReplacementRequest>,
    ) -> Result<Response<CancelReplacementResponse>, Status> {
        let work = |api: Self, caller, body| async move { api.cancel_replacement_for(caller, body).await };
        self.open("PatientService/CancelReplacement", request, work).await
    }

    async fn list_notices(
        &self,
        request: Request<ListNoticesRequest>,
    ) -> Result<Response<ListNoticesResponse>, Status> {
        let work = |api: Self, caller, body| async move { api.list_notices_for(caller, body).await };
        self.open("PatientService/ListNotices", request, work).await
    }

    async fn replace_control_key(
        &self,
        request: Request<ReplaceControlKeyRequest>,
    ) -> Result<Response<ReplaceControlKeyResponse>, Status> {
        let work = |api: Self, client, body| async move { api.replace_control_key_for(client, body).await };
        self.call("PatientService/ReplaceControlKey", request, work).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use assent_ledger::keys::{sign, SigningKey};

    #[test]
    fn a_nonce_counts_once_and_is_forgotten_when_its_proof_is_void() {
        let start = Instant::now();
        let mut nonces = Nonces::default();
        assert_eq!(nonces.take(start, &[1; 32], &[2; 16]), Nonce::New);
        assert_eq!(nonces.take(start, &[1; 32], &[2; 16]), Nonce::Used);
        assert_eq!(nonces.take(start, &[3; 32], &[2; 16]), Nonce::New);
        let twice = Duration::from_millis(2 * MAX_PROOF_DISTANCE_MS);
        assert_eq!(nonces.take(start + twice, &[1; 32], &[2; 16]), Nonce::Used);
        assert_eq!(nonces.take(start + NONCE_LIFE * 2, &[1; 32], &[2; 16]), Nonce::New);
        assert_eq!((nonces.used.len(), nonces.order.len()), (1, 1));
    }

    #[test]
    fn the_set_of_nonces_is_bounded() {
        let start = Instant::now();
        let mut nonces = Nonces::default();
        for n in 0..MAX_NONCES as u128 {
            assert_eq!(nonces.take(start, &[0; 32], &n.to_be_bytes()), Nonce::New);
        }
        assert_eq!(nonces.take(start, &[0; 32], &[0xff; 16]), Nonce::Full);
    }

    #[test]
    fn only_the_slots_own_key_counts() {
        let (patient, decoy) = (SigningKey::from_bytes(&[1; 32]), SigningKey::from_bytes(&[2; 32]));
        let decoy_key = decoy.verifying_key().to_bytes();
        let slot =
            Slot { control_key: Some(patient.verifying_key().to_bytes().to_vec()), ..Default::default() };
        let (by_patient, by_decoy) = (sign(&patient, b"m"), sign(&decoy, b"m"));
        assert!(signed_by_control_key(Some(&slot), b"m", &by_patient, &decoy_key));
        assert!(!signed_by_control_key(Some(&slot), b"n", &by_patient, &decoy_key));
        assert!(!signed_by_control_key(Some(&slot), b"m", &by_decoy, &decoy_key));
        // Not even the decoy's owner gets at a slot that isn't there, or that has no key.
        assert!(!signed_by_control_key(None, b"m", &by_decoy, &decoy_key));
        assert!(!signed_by_control_key(Some(&Slot::default()), b"m", &by_decoy, &decoy_key));
    }
}
