//! What this node is among the members, and what follows from it: the keys that it uses, the peers that it talks to, and, when
//! its vote was approved, the word that it is ready.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use assent_ledger::governance::ready_sign_bytes;
use assent_ledger::keys::{sign, SigningKey};
use assent_ledger::Hash;
use assent_proto::ledger::v1::govern::Step;
use assent_proto::ledger::v1::operation::Kind;
use assent_proto::ledger::v1::{Govern, Operation, ValidatorReady};
use tokio_util::sync::CancellationToken;

use crate::app::Parts;
use crate::fault::{self, Swarm};
use crate::health::{Condition, Health};
use crate::members::{Present, Role};
use crate::own_keys::{named, Named, OwnKeys, Purpose};
use crate::peers::KnownPeer;
use crate::told::{self, Said};

/// Looked at this often, and at every change of the membership.
const LOOK: Duration = Duration::from_secs(1);
/// The word that it is ready has this long to be committed; then it is said again.
const READY_WAIT: Duration = Duration::from_secs(10);

/// Follows the membership until the node stops, whose stores it does not keep open. `exchange` is the secret that the exchange
/// swarm runs with.
pub async fn follow(parts: Weak<Parts>, health: Health, mut exchange: Hash, shutdown: CancellationToken) {
    let Some(mut changes) = parts.upgrade().map(|parts| parts.members.subscribe()) else { return };
    let mut known: Option<Arc<Present>> = None;
    while let Some(parts) = parts.upgrade() {
        let own = parts.organization.as_str();
        let present = changes.borrow_and_update().clone();
        let tip = parts.tip();
        let said = parts.told.look(&tip.validators, tip.height, Instant::now());
        tokio::task::block_in_place(|| {
            report(&present, &parts.keys, own, &health);
            report_others(&said, &present, &parts.keys, own, &health);
        });
        if known.as_ref().is_none_or(|known| !Arc::ptr_eq(known, &present)) {
            if let Some(peers) = &parts.peers {
                peers.set_known(known_peers(&present, own));
            }
            known = Some(present.clone());
        }
        // Also when its file was put there after its height.
        if let (Some(peers), Some(key)) = (&parts.peers, exchange_key(&parts.keys, &present, own)) {
            if key.to_bytes() != exchange {
                exchange = key.to_bytes();
                peers.set_key(exchange);
            }
        }
        if present.role(own) == Role::Joining {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = say_ready(&parts, &present) => {}
            }
        }
        drop(parts);
        tokio::select! {
            () = shutdown.cancelled() => return,
            changed = changes.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

/// The other members as the exchange swarm is told of them.
pub fn known_peers(present: &Present, own: &str) -> Vec<KnownPeer> {
    let known = present.others(own).map(|o| KnownPeer {
        organization: o.id.clone(),
        peer_id: o.exchange_peer_id.clone(),
        address: fault::address(&o.id, Swarm::Exchange, &o.exchange_address),
    });
    known.collect()
}

/// The key that this node's exchange swarm is reached under, if one of its files holds what the ledger names.
pub fn exchange_key(keys: &OwnKeys, present: &Present, own: &str) -> Option<SigningKey> {
    keys.reached_by(Purpose::ExchangePeer, named(present, own, Purpose::ExchangePeer)?)
}

/// Says what keeps this node from acting for its organization. Puts next keys in place whose height has come.
fn report(present: &Present, keys: &OwnKeys, own: &str, health: &Health) {
    match present.organization(own) {
        None => {
            let members: Vec<&str> = present.membership.organizations.iter().map(|o| o.id.as_str()).collect();
            let sentence = format!(
                "{own} is no member as of the block that made the present ones ({}): {}; check `organization` in assentd.toml, or \
                 wait until the others have approved it",
                present.since,
                members.join(", ")
            );
            health.report(Condition::NotAMember, sentence);
            health.clear(Condition::NoKey);
        }
        Some(organization) => {
            health.clear(Condition::NotAMember);
            let missing = keys.missing(present, own);
            match missing.first() {
                None => health.clear(Condition::NoKey),
                Some(Purpose::Entry) if organization.entry_key.is_empty() => {
                    let sentence =
                        format!("the entry key of {own} is suspended: the others have to approve a new one");
                    health.report(Condition::NoKey, sentence);
                }
                Some(_) => health.report(Condition::NoKey, sentence_of(&missing, own)),
            }
        }
    }
}

/// Says that the others, who are ahead, name a key of this node that it does not have: what it does with its own is to no effect.
fn report_others(said: &Said, present: &Present, keys: &OwnKeys, own: &str, health: &Health) {
    let missing = told::missing(said, present, own, keys);
    let Some(first) = missing.first() else { return health.clear(Condition::OtherKey) };
    let wrong = wrong_files(&missing, own);
    let sentence = format!(
        "{wrong} by the blocks of {}, who are ahead of this node: put the key that the ledger names into keys/{}.next.pem, or have \
         the others replace it",
        said.by.join(", "),
        first.file()
    );
    health.report(Condition::OtherKey, sentence);
}

/// Which files are wrong, and what to do.
pub fn sentence_of(missing: &[Purpose], own: &str) -> String {
    let wrong = wrong_files(missing, own);
    format!("{wrong}, nor is there a next one that is: put the right one back, or have the others replace it")
}

fn wrong_files(missing: &[Purpose], own: &str) -> String {
    let files: Vec<String> = missing.iter().map(|purpose| format!("keys/{}.pem", purpose.file())).collect();
    let (is, keys) = if files.len() == 1 { ("is not", "the one") } else { ("are not", "those") };
    format!("{} {is} {keys} that the ledger has for {own}", files.join(", "))
}

/// Approved, in sync, and connected with more than 2/3 of the power: it says so, and votes from the height that the ledger gives.
async fn say_ready(parts: &Parts, present: &Present) {
    let own = &parts.organization;
    let Some(vote_key) = present.vote_key(own) else { return };
    let Some(key) = parts.keys.find(Purpose::Vote, Named::Key(vote_key)) else { return };
    let connected = parts.peers.as_ref().map(|peers| peers.connected()).unwrap_or_default();
    if parts.freshness.stale().is_some() || !present.is_quorum(&connected) {
        return;
    }
    let height = parts.tip().height;
    let message = ready_sign_bytes(parts.chain_id(), own, vote_key, height);
    let vote_signature = sign(&key, &message).to_vec();
    let step = Step::ValidatorReady(ValidatorReady { height, vote_signature });
    let operation = Operation { kind: Some(Kind::Govern(Govern { step: Some(step) })) };
    match parts.submitter.submit(vec![operation], READY_WAIT).await {
        Ok(at) => tracing::info!(at, "said that this validator is ready"),
        Err(error) => {
            tracing::warn!(%error, "the word that this validator is ready was not committed: it is said again")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::members::tests::membership;

    fn words(health: &Health) -> Vec<String> {
        health.reasons().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn it_says_which_key_is_missing_and_that_it_is_no_member() {
        let key = SigningKey::from_bytes(&[1; 32]);
        let mut of = membership(&["a", "b"], 0);
        of.organizations[0].entry_key = key.verifying_key().to_bytes().to_vec();
        let keys = OwnKeys::from(key);
        let health = Health::default();
        let stranger = Present { membership: of.clone(), since: 3 };
        report(&stranger, &keys, "c", &health);
        let said = words(&health);
        assert!(said.len() == 1 && said[0].starts_with("not-a-member: c is no member"), "{said:?}");
        assert!(said[0].contains("(3): a, b;"), "{said:?}");
        // Its entry key is there; of the others there are no files.
        report(&stranger, &keys, "a", &health);
        let said = words(&health);
        assert!(
            said[0].starts_with(
                "no-key: keys/consensus-peer.pem, keys/exchange-peer.pem, keys/checkpoint.pem are not"
            ),
            "{said:?}"
        );
        of.organizations[0].entry_key.clear();
        report(&Present { membership: of, since: 4 }, &keys, "a", &health);
        assert!(words(&health)[0].contains("suspended"));
    }
}
