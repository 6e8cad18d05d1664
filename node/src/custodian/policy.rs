//! The policy slot: the custodian's default policy and its registry, versioned, recorded together.

use assent_ledger::commitment::commit;
use assent_ledger::consent::{DefaultPolicy, Registry};
use assent_ledger::hash::{framed, sha256, Context};
use assent_ledger::Hash;
use assent_proto::ledger::v1::{operation::Kind as OperationKind, Operation, PolicyBody, SetPolicy};
use prost::Message;

use super::{blocking, fresh_bytes, Custodian, Queued, RecordedPolicy};
use crate::refusal::{Kind, Refusal};
use crate::vault::Pending;

/// The rules of a version.
#[derive(Debug, Clone, Default)]
pub struct StoredPolicy {
    /// Sequence of the policy slot; 0 before the first.
    pub policy_seq: u64,
    /// Height of the block that recorded it.
    pub height: u64,
    /// Default policy and registry.
    pub body: PolicyBody,
}

impl Custodian {
    /// Replaces the default policy and the registry; an empty registry is none.
    pub async fn set_policy(
        &self,
        client: &str,
        request_id: &str,
        body: PolicyBody,
    ) -> Result<RecordedPolicy, Refusal> {
        DefaultPolicy::parse(&body.policy)
            .map_err(|e| Refusal::invalid("POLICY_REFUSED", "policy", e.to_string()))?;
        self.check_registry(&body.registry)?;
        let body_hash = sha256(&framed(Context::PolicyCommitment, "set", &[&body.policy, &body.registry]));
        let guard = self.preparing.lock().await;
        let queued = match self.queued(client, request_id, &body_hash)? {
            Some(queued) => queued,
            None => blocking(|| self.prepare_policy(client, request_id, body_hash, &body))?,
        };
        drop(guard);
        let height = self.commit(client, request_id, body_hash, &queued).await?;
        let policy_seq = queued.reply.try_into().map_or(0, u64::from_be_bytes);
        Ok(RecordedPolicy { policy_seq, height })
    }

    fn check_registry(&self, json: &[u8]) -> Result<(), Refusal> {
        if json.is_empty() {
            return Ok(());
        }
        let refused = |why: String| Refusal::invalid("REGISTRY_REFUSED", "registry", why);
        let registry = Registry::parse(json).map_err(|e| refused(e.to_string()))?;
        // A misspelt organization would have members that never count.
        let stranger = registry.organizations().into_iter().find(|id| self.parts.known(id).is_none());
        stranger.map_or(Ok(()), |id| Err(refused(format!("{id:?} is not an organization of this network"))))
    }

    fn prepare_policy(
        &self,
        client: &str,
        request_id: &str,
        body_hash: Hash,
        body: &PolicyBody,
    ) -> Result<Queued, Refusal> {
        let slot = self.parts.store.view()?.policy(self.organization())?;
        let (salt, body) = (fresh_bytes(), body.encode_to_vec());
        let commitment = commit(Context::PolicyCommitment, self.chain_id(), &salt, &body);
        let operation = SetPolicy { expected_policy_seq: slot.policy_seq, commitment: commitment.to_vec() };
        let reply = (slot.policy_seq + 1).to_be_bytes().to_vec();
        let operations = vec![Operation { kind: Some(OperationKind::SetPolicy(operation)) }];
        let (queued, record) = self.queue(body_hash, operations, reply)?;
        self.parts.vault.stage_pending(&[
            Pending::Policy { commitment: &commitment, salt: &salt, body: &body },
            Pending::Request { client, request_id, record: &record },
        ])?;
        Ok(queued)
    }

    /// The rules of a version; 0 is the present one.
    pub fn policy(&self, policy_seq: u64) -> Result<StoredPolicy, Refusal> {
        let view = self.parts.store.view()?;
        let wanted = match policy_seq {
            0 => view.policy(self.organization())?.policy_seq,
            given => given,
        };
        if wanted == 0 {
            return Ok(StoredPolicy::default());
        }
        let change = view.policy_change(self.organization(), wanted)?;
        if let (None, Some((height, _))) = (&change, view.own_gap()?) {
            return Err(Refusal::pruned(height, view.whole_from()?));
        }
        let change = change.ok_or_else(|| {
            Refusal::new(Kind::NotFound, "POLICY_NOT_FOUND", "there is no such version of the policy")
                .with("policy_seq", wanted)
        })?;
        let body = self.open_policy(&change.commitment)?.unwrap_or_default();
        Ok(StoredPolicy { policy_seq: wanted, height: change.height, body })
    }
}
