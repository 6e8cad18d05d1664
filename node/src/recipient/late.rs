//! Records that came without quorum: held with the custodian's promise, until a retry gets the receipt.

use assent_ledger::receipt::verify_digests;
use assent_ledger::Hash;
use assent_proto::ledger::v1::{LateBundle, LateProof, Receipt, Signed};
use prost::Message;

use super::{Recipient, Release};
use crate::custodian::blocking;
use crate::exchange::client::{ask_receipt, check_receipt};
use crate::exchange::Proof;
use crate::refusal::Refusal;
use crate::vault::Pending;

impl Recipient {
    /// Holds a checked late release for retries.
    pub(super) fn hold(
        &self,
        hash: &Hash,
        promise: LateProof,
        resources: Vec<Vec<u8>>,
    ) -> Result<Release, Refusal> {
        let bundle = LateBundle { proof: Some(promise.clone()), resources };
        let bytes = bundle.encode_to_vec();
        blocking(|| {
            self.parts.vault.put_pending(&[Pending::LateRelease { request_hash: hash, bytes: &bytes }])
        })?;
        Ok(Release { proof: Proof::Late(Box::new(promise)), resources: bundle.resources })
    }

    /// A late release of before: with its receipt once the custodian has one, else as it came. However long ago that was:
    /// asking for a receipt releases nothing.
    pub(super) async fn held(
        &self,
        client: &str,
        request_id: &str,
        hash: &Hash,
        signed: &Signed,
    ) -> Result<Option<Release>, Refusal> {
        let Some(bytes) = blocking(|| self.parts.vault.late_release(hash))? else {
            return Ok(None);
        };
        let bundle = LateBundle::decode(bytes.as_slice()).unwrap_or_default();
        let Some(promise) = bundle.proof else {
            return Ok(None);
        };
        let custodian = promise.late_access.as_ref().map(|l| l.organization.clone()).unwrap_or_default();
        match self.receipt_for(&custodian, hash, signed, &bundle.resources).await {
            Ok(receipt) => self.keep(client, request_id, hash, signed, receipt, bundle.resources).map(Some),
            Err(refusal) => {
                tracing::info!(reason = refusal.reason, "no receipt for a late release yet");
                Ok(Some(Release { proof: Proof::Late(Box::new(promise)), resources: bundle.resources }))
            }
        }
    }

    async fn receipt_for(
        &self,
        custodian: &str,
        hash: &Hash,
        signed: &Signed,
        resources: &[Vec<u8>],
    ) -> Result<Receipt, Refusal> {
        let receipt = if custodian == self.parts.organization {
            let checked = self.custodian.check_form(&self.parts.organization, signed.clone())?;
            blocking(|| self.custodian.late_receipt(&checked))?
        } else {
            let peers = self.parts.peers.as_ref().ok_or_else(|| {
                Refusal::unavailable("CUSTODIAN_UNREACHABLE", "this node runs alone and has no peers")
            })?;
            ask_receipt(&self.parts, peers, custodian, hash, signed).await?
        };
        let bad = |what: &str| {
            tracing::warn!(%custodian, what, "receipt of a late release refused");
            Refusal::unavailable("BAD_ANSWER", "the custodian's receipt was refused")
                .with("custodian", custodian)
        };
        let receipt = receipt.ok_or_else(|| bad("the custodian denies its own late release"))?;
        let access = check_receipt(&self.parts, custodian, signed, &receipt)?;
        verify_digests(&access.event, resources).map_err(|e| bad(&e.to_string()))?;
        Ok(receipt)
    }
}
