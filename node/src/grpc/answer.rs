//! What stands in every answer: the state of the ledger that it was given from, and demands on it.

use std::time::Duration;

use assent_ledger::block::Tip;
use assent_proto::v1::{Answer, Consistency};

use super::Api;
use crate::chain::now_ms;
use crate::refusal::Refusal;

/// Longest wait until this node's own tip shows a block that it has committed already.
const TIP_WAIT: Duration = Duration::from_secs(5);

/// The answer's frame at a tip. The token is opaque to callers; equal tokens mean equal states.
pub fn at(tip: &Tip) -> Answer {
    let token = format!("{}:{}:{}", tip.chain_id, tip.height, hex::encode(&tip.header_hash[..8]));
    Answer { height: tip.height, time_ms: tip.time_ms, token }
}

/// Refuses to answer from a tip that is not what the caller demands: a block that it has seen, a block that is not too old.
pub fn meets(consistency: Option<&Consistency>, tip: &Tip) -> Result<(), Refusal> {
    meets_at(consistency, tip.height, tip.time_ms)
}

/// The same for a state of the ledger that is not this node's tip: a custodian's, when it decided.
pub fn meets_at(consistency: Option<&Consistency>, height: u64, time_ms: u64) -> Result<(), Refusal> {
    demand(consistency, height, time_ms, now_ms())
}

fn demand(consistency: Option<&Consistency>, height: u64, time_ms: u64, now_ms: u64) -> Result<(), Refusal> {
    let Consistency { min_height, max_staleness_ms } = consistency.copied().unwrap_or_default();
    if height < min_height {
        let message = format!("the answer would come from height {height}, before the height {min_height} that was asked for: retry later");
        return Err(Refusal::unavailable("BEHIND_MIN_HEIGHT", message)
            .with("height", height)
            .with("min_height", min_height));
    }
    // Block time may lie up to two seconds ahead of a clock: such a block is no old one.
    let age_ms = now_ms.saturating_sub(time_ms);
    // 0 is the node's own bound, which every answer is under anyway.
    if max_staleness_ms > 0 && age_ms > max_staleness_ms {
        let message = format!("the newest block that the answer would come from is {age_ms} ms old, at most {max_staleness_ms} ms were asked for: retry later, or ask for less");
        return Err(Refusal::unavailable("TOO_STALE", message)
            .with("age_ms", age_ms)
            .with("max_staleness_ms", max_staleness_ms));
    }
    Ok(())
}

impl Api {
    /// From the newest tip.
    pub(super) fn answer(&self) -> Answer {
        at(&self.app.parts.tip())
    }

    /// From a tip at or after `height`, which this node has committed: waiters hear of a commit just before the tip moves.
    pub(super) async fn answer_from(&self, height: u64) -> Result<Answer, Refusal> {
        let mut tips = self.app.parts.tips.clone();
        let reached = tokio::time::timeout(TIP_WAIT, tips.wait_for(|info| info.tip.height >= height)).await;
        let answer = reached.ok().and_then(Result::ok).map(|info| at(&info.tip));
        let message = "committed, but this node's tip does not move: retry with the same request_id";
        answer.ok_or_else(|| Refusal::unavailable("NODE_FAILING", message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_meets_both_demands_or_says_which_it_does_not() {
        let ask = |min_height, max_staleness_ms| Some(Consistency { min_height, max_staleness_ms });
        let meets = |ask: Option<Consistency>| demand(ask.as_ref(), 7, 10_000, 10_500);
        assert!(meets(None).is_ok() && meets(ask(7, 500)).is_ok() && meets(ask(0, 0)).is_ok());
        let refusal = meets(ask(8, 0)).unwrap_err();
        assert_eq!((refusal.reason, refusal.metadata["min_height"].as_str()), ("BEHIND_MIN_HEIGHT", "8"));
        let refusal = meets(ask(7, 499)).unwrap_err();
        assert_eq!((refusal.reason, refusal.metadata["age_ms"].as_str()), ("TOO_STALE", "500"));
        // A block from a clock that is ahead is not old.
        assert!(demand(ask(0, 1).as_ref(), 7, 10_000, 9_000).is_ok());
    }
}
