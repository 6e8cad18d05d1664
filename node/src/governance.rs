//! Steps of governance of this organization: each becomes an entry, once for each request id.

use assent_ledger::hash::{framed, sha256, Context};
use assent_ledger::membership;
use assent_proto::ledger::v1::govern::Step;
use assent_proto::ledger::v1::scheduled_change::Kind;
use assent_proto::ledger::v1::{operation, Govern, Membership, Operation, ProposeChange, ScheduledChange};
use prost::Message;

use crate::app::App;
use crate::custodian::blocking;
use crate::refusal::Refusal;

/// What became of a proposal: its number, and the height it is scheduled for; both 0 when it is neither open nor scheduled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Proposed {
    /// Its number.
    pub number: u64,
    /// First height at which it holds; 0 while it is open.
    pub effective_height: u64,
}

/// Commits a step; the height of its block.
pub async fn commit(app: &App, client: &str, request_id: &str, step: Step) -> Result<u64, Refusal> {
    let operation = Operation { kind: Some(operation::Kind::Govern(Govern { step: Some(step) })) };
    // What the request is; the chain id is that of every request here.
    let body_hash = sha256(&framed(Context::StateMembership, "govern", &[&operation.encode_to_vec()]));
    app.custodian.write_once(client, request_id, body_hash, vec![operation]).await
}

/// The membership after the newest block.
pub fn members(app: &App) -> Result<Membership, Refusal> {
    blocking(|| {
        let view = app.parts.store.view()?;
        membership::membership(&view, &view.tip.chain_id).map_err(|error| {
            tracing::error!(%error, "membership not readable");
            Refusal::unavailable(
                "NODE_FAILING",
                "the node's store failed; its operator finds the cause in the log; retry later",
            )
        })
    })
}

/// The newest proposal of an organization for a change, open or scheduled.
pub fn proposal_of(membership: &Membership, organization: &str, change: &ProposeChange) -> Proposed {
    let own = |p: &assent_proto::ledger::v1::OpenProposal| {
        p.proposer == organization && p.change.as_ref() == Some(change)
    };
    let open = membership.proposals.iter().filter(|p| own(p));
    let open = open.map(|p| Proposed { number: p.number, effective_height: 0 });
    let scheduled = membership.scheduled.iter().filter_map(|c| match &c.kind {
        Some(Kind::Proposal(p)) if own(p) => {
            Some(Proposed { number: p.number, effective_height: c.effective_height })
        }
        _ => None,
    });
    open.chain(scheduled).max_by_key(|p| p.number).unwrap_or_default()
}

/// First height at which a scheduled change holds; 0 when none like it is scheduled.
pub fn scheduled_for(membership: &Membership, wanted: impl Fn(&Kind) -> bool) -> u64 {
    let found = |c: &&ScheduledChange| c.kind.as_ref().is_some_and(&wanted);
    membership.scheduled.iter().find(found).map_or(0, |c| c.effective_height)
}
