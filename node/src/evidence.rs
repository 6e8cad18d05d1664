//! Evidence against validators on its way to the ledger: an alarm, and an entry of this organization.
//!
//! ```text
//! engine ─▶ queue (64) ─▶ new? ─▶ alarm, metric ─▶ within the allowance? ─▶ submit until it stands in the ledger
//! ```
//! Each node reports what it sees, so it is there in spite of crashes and of nodes that keep silent; the ledger takes the first
//! and calls the rest EVIDENCE_KNOWN. A validator that lies at each height would else have the others write for ever: each entry
//! makes a block, in which it lies again. Hence the allowance.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;
use std::time::Duration;

use assent_ledger::evidence::{verify_evidence, Offence, OffenceKind};
use assent_ledger::execute::ExecuteError;
use assent_ledger::membership::membership;
use assent_ledger::Hash;
use assent_proto::ledger::v1::operation::Kind;
use assent_proto::ledger::v1::{Operation, ReportEvidence};
use tokio::sync::mpsc;
use tokio::time::{sleep, Instant};
use tokio_util::sync::CancellationToken;

use crate::app::Parts;
use crate::chain::submit::SubmitError;

/// Pieces of evidence that wait to be reported.
pub const MAX_WAITING: usize = 64;
/// Pieces against one validator that this node reports in an hour.
pub const MAX_REPORTS_PER_HOUR: u32 = 16;
/// Pieces that are remembered as seen.
const MAX_REMEMBERED: usize = 4096;
const HOUR: Duration = Duration::from_secs(3600);
/// Attempts that the ledger's rules may refuse: a height that is not decided yet soon is, any other refusal stays.
const REFUSALS: u32 = 8;
/// How long one attempt waits for its block.
const WAIT: Duration = Duration::from_secs(30);
/// Pause after the first attempt; doubled up to the longest.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Number of pieces that this node has seen since it started. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct EvidenceSeen(Arc<AtomicU64>);

impl EvidenceSeen {
    /// The number.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What is done with a piece.
#[derive(Debug, PartialEq, Eq)]
enum Use {
    /// Seen before.
    Known,
    /// New.
    Report,
    /// New, and enough was reported of this validator.
    Count,
}

/// What was seen, and what may still be reported.
#[derive(Default)]
struct Allowance {
    seen: BTreeSet<(u64, u32, OffenceKind, Hash)>,
    /// Begin of the hour, and reports in it.
    reports: BTreeMap<Hash, (Option<Instant>, u32)>,
}

impl Allowance {
    fn judge(&mut self, offence: &Offence, now: Instant) -> Use {
        if !self.seen.insert((offence.height, offence.round, offence.kind, offence.validator)) {
            return Use::Known;
        }
        if self.seen.len() > MAX_REMEMBERED {
            self.seen.pop_first();
        }
        let (since, reports) = self.reports.entry(offence.validator).or_default();
        if since.is_none_or(|since| now.duration_since(since) >= HOUR) {
            (*since, *reports) = (Some(now), 0);
        }
        *reports += 1;
        match *reports <= MAX_REPORTS_PER_HOUR {
            true => Use::Report,
            false => Use::Count,
        }
    }
}

/// Reports what the engine finds until the node stops. Its validators are few, so everything here is bounded.
pub async fn report(
    parts: Arc<Parts>,
    mut queue: mpsc::Receiver<ReportEvidence>,
    shutdown: CancellationToken,
) {
    let mut allowance = Allowance::default();
    while let Some(Some(evidence)) = shutdown.run_until_cancelled(queue.recv()).await {
        let Ok(offence) = verify_evidence(parts.chain_id(), &evidence) else { continue };
        let what = allowance.judge(&offence, Instant::now());
        if what == Use::Known {
            continue;
        }
        parts.evidence.0.fetch_add(1, Ordering::Relaxed);
        if what == Use::Count {
            tracing::warn!(
                validator = %hex::encode(offence.validator),
                "further equivocation is counted, not reported"
            );
            continue;
        }
        alarm(&parts, &offence);
        if shutdown.run_until_cancelled(commit(&parts, evidence)).await.is_none() {
            return;
        }
    }
}

/// Organization that a vote key is or was of; none when the ledger can't be read or doesn't know it.
fn organization_of(parts: &Parts, key: &Hash) -> Option<String> {
    tokio::task::block_in_place(|| {
        let view = parts.store.view().ok()?;
        let members = membership(&view, parts.chain_id()).ok()?;
        let present = members.validators.unwrap_or_default().validators.into_iter();
        let present = present.chain(members.joining).map(|v| (v.organization, v.vote_key));
        let former = members.former_vote_keys.into_iter().map(|f| (f.organization, f.vote_key));
        present.chain(former).find(|(_, vote_key)| vote_key == key).map(|(organization, _)| organization)
    })
}

fn alarm(parts: &Parts, offence: &Offence) {
    let organization = organization_of(parts, &offence.validator).unwrap_or_else(|| "nobody known".into());
    let (kind, height, round) = (offence.kind.word(), offence.height, offence.round);
    let advice = match organization == parts.organization {
        true => "this node's own vote key is in use elsewhere, or data/ is an old copy: stop, and find out",
        false => "its key is in two places, or in wrong hands: ask its operators",
    };
    tracing::error!(
        alarm = "equivocation",
        %organization,
        kind,
        height,
        round,
        "the validator of {organization} signed two {kind} of block {height}, round {round}: {advice}"
    );
}

/// Tries until the ledger has it, from this node or another.
async fn commit(parts: &Parts, evidence: ReportEvidence) {
    let operation = Operation { kind: Some(Kind::ReportEvidence(evidence)) };
    let (mut pause, mut refusals) = (PAUSE, 0);
    loop {
        match parts.submitter.submit(vec![operation.clone()], WAIT).await {
            Ok(height) => return tracing::info!(height, "evidence stands in the ledger"),
            Err(SubmitError::Refused(error)) if error.reason() == "EVIDENCE_KNOWN" => {
                return tracing::info!("another node reported the same evidence");
            }
            Err(SubmitError::Refused(error)) if error.reason() == "EVIDENCE_AT_RECOVERY" => {
                return tracing::info!("no evidence: {error}");
            }
            Err(SubmitError::Refused(ExecuteError::Governance(error))) if refusals == REFUSALS => {
                return tracing::error!(reason = error.reason(), "evidence is not taken: {error}");
            }
            Err(SubmitError::Fatal(_)) => return,
            Err(error) => {
                refusals += u32::from(matches!(error, SubmitError::Refused(ExecuteError::Governance(_))));
                tracing::warn!(%error, "evidence is not in the ledger yet");
                sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offence(validator: u8, height: u64) -> Offence {
        Offence {
            validator: [validator; 32],
            kind: OffenceKind::Prevotes,
            height,
            round: 0,
            first: None,
            second: Some([1; 32]),
        }
    }

    #[test]
    fn each_piece_once_and_so_many_an_hour_of_one_validator() {
        let (mut allowance, now) = (Allowance::default(), Instant::now());
        for height in 0..u64::from(MAX_REPORTS_PER_HOUR) {
            assert_eq!(allowance.judge(&offence(1, height), now), Use::Report);
            assert_eq!(allowance.judge(&offence(1, height), now), Use::Known);
        }
        assert_eq!(allowance.judge(&offence(1, 100), now), Use::Count);
        assert_eq!(allowance.judge(&offence(2, 100), now), Use::Report);
        assert_eq!(allowance.judge(&offence(1, 101), now + HOUR), Use::Report);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut allowance = Allowance::default();
        for height in 0..2 * MAX_REMEMBERED as u64 {
            allowance.judge(&offence(1, height), Instant::now());
        }
        assert_eq!(allowance.seen.len(), MAX_REMEMBERED);
    }
}
