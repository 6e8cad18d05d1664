//! Checks: answered from a signed decision while it stands, else asked of the custodian.

use std::time::Duration;

use assent_ledger::Hash;
use assent_proto::ledger::v1::{DataRequest, Decision, Signed};

use super::decisions::{question_key, Kept, Turn};
use super::{Permit, Query, Recipient};
use crate::chain::now_ms;
use crate::exchange::client::{check_decision, Answered};
use crate::refusal::Refusal;

/// Reason of a permit that this node's ledger contradicts.
const STALE_DECISION: &str = "STALE_DECISION";
/// How often a custodian is asked whose ledger lags, with a pause in between.
const MAX_CHECKS: usize = 10;
const LAG_PAUSE: Duration = Duration::from_millis(50);

impl Permit {
    fn new(decision: &Decision, signed: Signed) -> Self {
        Self {
            outcome: decision.outcome.clone(),
            obligations: decision.obligations.clone(),
            decision: signed,
            height: decision.height,
            time_ms: decision.time_ms,
            decided_time_ms: decision.time_ms,
            not_after_ms: decision.not_after_ms,
            cached: false,
        }
    }
}

impl Recipient {
    /// Asks whether the custodian would release anything. A permit of another custodian is kept and answered from while it
    /// stands; everything else is asked anew each time. With `unsigned`, a permit of this organization's own carries no signed
    /// decision.
    pub async fn check(&self, client: &str, query: Query, unsigned: bool) -> Result<Permit, Refusal> {
        self.must_be_fresh()?;
        let question = self.question(client, &query, true)?;
        self.check_question(question, unsigned).await
    }

    /// Asks whether the custodian would let this patient be contacted so. Its permit says nothing of other channels.
    pub async fn check_outreach(
        &self,
        client: &str,
        query: Query,
        channel: String,
    ) -> Result<Permit, Refusal> {
        self.must_be_fresh()?;
        let question = DataRequest { outreach_channel: channel, ..self.question(client, &query, true)? };
        self.check_question(question, true).await
    }

    async fn check_question(&self, question: DataRequest, unsigned: bool) -> Result<Permit, Refusal> {
        if question.custodian == self.parts.organization {
            if unsigned {
                if let Some(permit) = self.own_permit(&question)? {
                    return Ok(permit);
                }
            }
            return self.ask_custodian(&question).await.map(|(permit, _)| permit);
        }
        let key = question_key(&question);
        if let Some(permit) = self.kept_permit(&key)? {
            return Ok(permit);
        }
        let _asking = match self.decisions.turn(key) {
            Turn::First(asking) => Some(asking),
            Turn::After(done) => {
                done.cancelled().await;
                if let Some(permit) = self.kept_permit(&key)? {
                    return Ok(permit);
                }
                // Not a permit, or no answer: neither is kept, so everybody asks, and nobody waits a second time.
                None
            }
        };
        let (permit, kept) = self.ask_custodian(&question).await?;
        if let Some(kept) = kept {
            self.decisions.put(key, kept);
        }
        Ok(permit)
    }

    /// This organization's own permit, kept too: it stands while consent, policy and the patient's records are unchanged.
    pub(super) fn own_permit(&self, question: &DataRequest) -> Result<Option<Permit>, Refusal> {
        let key = question_key(question);
        if let Some(permit) = self.kept_permit(&key)? {
            return Ok(Some(permit));
        }
        let Some((decision, record_changes)) = self.custodian.decide_unsigned(question)? else {
            return Ok(None);
        };
        let permit = Permit::new(&decision, Signed::default());
        if let Some(kept) = Kept::own(&permit, &decision, record_changes) {
            self.decisions.put(key, kept);
        }
        Ok(Some(permit))
    }

    /// The permit for a question out of a decision that still stands in this node's own ledger.
    pub(super) fn kept_permit(&self, key: &Hash) -> Result<Option<Permit>, Refusal> {
        let Some(kept) = self.decisions.get(key) else {
            return Ok(None);
        };
        self.must_be_fresh()?;
        let permit = match kept.records_stand(&self.parts.vault) {
            true => kept.standing(&self.parts.store.view()?, now_ms())?,
            false => None,
        };
        if permit.is_none() {
            self.decisions.forget(key, &kept);
        }
        Ok(permit)
    }

    /// Asks, again while the custodian's ledger lags behind this node's.
    async fn ask_custodian(&self, question: &DataRequest) -> Result<(Permit, Option<Kept>), Refusal> {
        let mut attempts = 0;
        loop {
            attempts += 1;
            match self.ask_once(question.clone()).await {
                Err(refusal) if refusal.reason == STALE_DECISION && attempts < MAX_CHECKS => {
                    tokio::time::sleep(LAG_PAUSE).await;
                }
                outcome => return outcome,
            }
        }
    }

    async fn ask_once(&self, question: DataRequest) -> Result<(Permit, Option<Kept>), Refusal> {
        self.must_be_fresh()?;
        let custodian = question.custodian.clone();
        let (hash, signed) = self.sign(question);
        match self.answer(&custodian, &hash, &signed, true).await? {
            Answered::Permit(signed) => {
                let decision = check_decision(&self.parts, &custodian, &hash, &signed)?;
                let time_ms = self.must_be_current(&decision)?;
                let permit = Permit::new(&decision, signed);
                let kept = Kept::new(&permit, &decision, time_ms);
                Ok((permit, kept))
            }
            Answered::NotReleased(signed) => Err(Refusal::not_released(signed)),
            Answered::Released(..) | Answered::ReleasedLate(..) => {
                Err(Refusal::unavailable("BAD_ANSWER", "records in answer to a check"))
            }
        }
    }

    /// A permit counts only while this node's own ledger knows of nothing newer: the custodian's may lag behind a withdrawal.
    /// Returns the block time that it was compared at.
    fn must_be_current(&self, decision: &Decision) -> Result<u64, Refusal> {
        let view = self.parts.store.view()?;
        let slot = view.slot(&decision.custodian, &decision.handle)?.unwrap_or_default();
        let policy = view.policy(&decision.custodian)?;
        let newer = slot.consent_seq > decision.consent_seq || policy.policy_seq > decision.policy_seq;
        if newer || view.tip.time_ms >= decision.not_after_ms {
            return Err(Refusal::unavailable(
                STALE_DECISION,
                "the custodian decided on an older state than this node's ledger has: retry",
            )
            .with("custodian", &decision.custodian));
        }
        Ok(view.tip.time_ms)
    }
}
