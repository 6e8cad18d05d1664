//! What stands in every answer: the state of the ledger that it was given from, and demands on it.

use std::time::Duration;

use assent_ledger::block::Tip;
use assent_proto::v1::Answer;

use super::Api;
use crate::refusal::Refusal;

/// Longest wait until this node's own tip shows a block that it has committed already.
const TIP_WAIT: Duration = Duration::from_secs(5);

/// The answer's frame at a tip. The token is opaque to callers; equal tokens mean equal states.
pub fn at(tip: &Tip) -> Answer {
    let token = format!("{}:{}:{}", tip.chain_id, tip.height, hex::encode(&tip.header_hash[..8]));
    Answer { height: tip.height, time_ms: tip.time_ms, token }
}

/// Refuses to answer from a state that is older than the caller has seen.
pub fn not_behind(height: u64, min_height: u64) -> Result<(), Refusal> {
    if height >= min_height {
        return Ok(());
    }
    let message = format!("the answer would come from height {height}, before the height {min_height} that was asked for: retry later");
    Err(Refusal::unavailable("BEHIND_MIN_HEIGHT", message)
        .with("height", height)
        .with("min_height", min_height))
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
    fn behind() {
        assert!(not_behind(7, 7).is_ok() && not_behind(7, 0).is_ok());
        let refusal = not_behind(6, 7).unwrap_err();
        assert_eq!((refusal.reason, refusal.metadata["min_height"].as_str()), ("BEHIND_MIN_HEIGHT", "7"));
    }
}
