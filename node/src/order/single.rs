//! Ordering with one node and no peers: the embedded default for a developer's laptop. Same blocks, same certificates, made by
//! the one validator there is.

use std::time::Duration;

use assent_ledger::certificate::{precommit, vote_sign_bytes};
use assent_ledger::keys::{sign, SigningKey};
use assent_proto::ledger::v1::{Certificate, CommitSignature};
use tokio_util::sync::CancellationToken;

use super::{Fatal, Replica, Verdict};

/// How often the heartbeat is looked at when nothing else happens.
const TICK: Duration = Duration::from_millis(200);

/// Makes a block whenever there is work, until shut down.
pub async fn run<R: Replica>(
    mut replica: R,
    vote_key: SigningKey,
    shutdown: CancellationToken,
) -> Result<(), Fatal> {
    let wake = replica.wake();
    let address = vote_key.verifying_key().to_bytes();
    loop {
        if replica.has_work() {
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
