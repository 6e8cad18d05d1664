//! Ordering with one node and no peers: the embedded default for a developer's laptop. Same blocks, same certificates, made by
//! the one validator there is.

use std::time::Duration;

use assent_ledger::certificate::{precommit, vote_sign_bytes};
use assent_ledger::keys::{sign, SigningKey};
use assent_proto::ledger::v1::{Certificate, CommitSignature, Validator};
use tokio_util::sync::CancellationToken;

use super::{Fatal, Replica, Verdict};

/// How often the heartbeat is looked at when nothing else happens.
const TICK: Duration = Duration::from_millis(200);

/// True when an organization is the only one that votes.
pub fn orders_alone(validators: &[Validator], organization: &str) -> bool {
    matches!(validators, [only] if only.organization == organization)
}

/// Makes a block whenever there is work, until shut down. `key` gives the key of this node's that has a public key: it may change
/// with the membership.
pub async fn run<R: Replica>(
    mut replica: R,
    organization: String,
    key: impl Fn(&[u8]) -> Option<SigningKey> + Send,
    shutdown: CancellationToken,
) -> Result<(), Fatal> {
    let wake = replica.wake();
    loop {
        if replica.has_work() {
            let set = replica.validators().validators;
            if !orders_alone(&set, &organization) {
                let sentence = "ordering single can't go on: the ledger has other validators now; set ordering = \"malachite\"";
                return Err(Fatal::Engine(sentence.into()));
            }
            let vote_key = set.first().and_then(|only| key(&only.vote_key)).ok_or_else(|| {
                Fatal::Engine("no file in keys/ holds the vote key that the ledger has for this node".into())
            })?;
            let address = vote_key.verifying_key().to_bytes();
            tokio::task::block_in_place(|| one_block(&mut replica, &vote_key, address))?;
            if shutdown.is_cancelled() {
                return Ok(());
            }
            continue;
        }
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            () = wake.notified() => {}
            () = tokio::time::sleep(TICK) => {}
        }
    }
}

fn one_block(replica: &mut impl Replica, key: &SigningKey, address: [u8; 32]) -> Result<(), Fatal> {
    let height = replica.tip() + 1;
    let candidate = replica.build(height, 0)?;
    match replica.validate(&candidate, true)? {
        Verdict::Valid(hash) => {
            let vote = precommit(height, 0, &hash, &address);
            let signature = sign(key, &vote_sign_bytes(&replica.chain_id(), &vote)).to_vec();
            let signatures = vec![CommitSignature { address: address.to_vec(), signature }];
            replica.commit(Certificate { height, round: 0, header_hash: hash.to_vec(), signatures })
        }
        Verdict::Invalid(reason) => {
            Err(Fatal::Engine(format!("own block at height {height} is invalid: {reason}")))
        }
    }
}
