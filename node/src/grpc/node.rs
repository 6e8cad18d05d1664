//! What this node is and how it does.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use assent_proto::v1::node_service_server::NodeService;
use assent_proto::v1::{CertificateEnd, GetStatusRequest, GetStatusResponse, ValidatorStatus};
use tokio::sync::watch;
use tonic::{Request, Response, Status};

use super::{answer, Api};
use crate::chain::now_ms;
use crate::chain::replica::TipInfo;

/// Highest height, by validator address, of which this node holds a certificate with the validator's precommit. Since start:
/// whoever has it here has voted while this process ran.
#[derive(Clone, Default)]
pub struct LastSigned(Arc<Mutex<BTreeMap<Vec<u8>, u64>>>);

impl LastSigned {
    /// Follows the tip until the replica is gone. Tips that pass while this task waits are left out: the next one counts.
    pub async fn follow(self, mut tips: watch::Receiver<TipInfo>) {
        while tips.changed().await.is_ok() {
            let (height, signers) = {
                let info = tips.borrow_and_update();
                (info.tip.height, info.signers.clone())
            };
            self.note(height, signers);
        }
    }

    fn note(&self, height: u64, signers: Vec<Vec<u8>>) {
        let mut heights = self.0.lock().unwrap_or_else(|p| p.into_inner());
        for signer in signers {
            let last = heights.entry(signer).or_default();
            *last = height.max(*last);
        }
    }

    fn of(&self, address: &[u8]) -> u64 {
        self.0.lock().unwrap_or_else(|p| p.into_inner()).get(address).copied().unwrap_or_default()
    }
}

#[tonic::async_trait]
impl NodeService for Api {
    async fn get_status(
        &self,
        request: Request<GetStatusRequest>,
    ) -> Result<Response<GetStatusResponse>, Status> {
        self.call("NodeService/GetStatus", request, |api, _, _| async move { Ok(api.status()) }).await
    }
}

impl Api {
    fn status(&self) -> GetStatusResponse {
        let parts = &self.app.parts;
        let tip = parts.tip();
        let (stale, lacking) = (parts.freshness.stale(), parts.lacks.now());
        let validators = tip.validators.validators.iter().map(|validator| ValidatorStatus {
            organization: validator.organization.clone(),
            vote_key: validator.vote_key.clone(),
            power: validator.power,
            last_signed_height: self.last_signed.of(&validator.vote_key),
        });
        GetStatusResponse {
            answer: Some(answer::at(&tip)),
            chain_id: tip.chain_id.clone(),
            genesis_hash: parts.genesis.hash.to_vec(),
            organization: parts.organization.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ordering: parts.ordering.to_owned(),
            header_hash: tip.header_hash.to_vec(),
            state_root: tip.state_root.to_vec(),
            log_size: tip.log.size(),
            validators: validators.collect(),
            fresh: stale.is_none(),
            not_fresh_reason: stale.unwrap_or_default(),
            mempool_entries: parts.mempool.len() as u64,
            connected: parts.peers.as_ref().map(|peers| peers.connected()).unwrap_or_default(),
            role: parts.role().to_string(),
            members: parts.members.present().membership.organizations.len() as u64,
            // Every leaf of the log is an entry or one block's header.
            entries: tip.log.size().saturating_sub(tip.height),
            certificate_ends: parts
                .certificates
                .ends()
                .list(now_ms())
                .into_iter()
                .map(|end| CertificateEnd { which: end.which.into(), end_ms: end.end_ms })
                .collect(),
            vault_missing_consents: lacking.consents,
            vault_missing_accesses: lacking.accesses,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heights_only_grow() {
        let last = LastSigned::default();
        last.note(5, vec![vec![1], vec![2]]);
        last.note(4, vec![vec![1]]);
        last.note(6, vec![vec![2]]);
        assert_eq!((last.of(&[1]), last.of(&[2]), last.of(&[3])), (5, 6, 0));
    }
}
