//! Load: open loop (calls start when they are due, however slow the answers) and closed loop (a lane calls again when answered).

use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

/// Most calls under way in an open loop: more are not started, and count as failed.
const MAX_UNDER_WAY: usize = 50_000;
/// How often due calls are started.
const STEP: Duration = Duration::from_millis(1);

/// What a load saw.
#[derive(Debug, Clone, Default)]
pub struct Samples {
    /// Time of each answered call in microseconds, ascending; in an open loop from when it was due.
    pub micros: Vec<u32>,
    /// Calls that failed or were not started.
    pub failed: u64,
    /// Why the first of them failed.
    pub first_failure: Option<String>,
    /// From the first call due to the last answer, in seconds.
    pub seconds: f64,
}

impl Samples {
    /// A percentile in milliseconds, by nearest rank; 0 without samples.
    pub fn percentile_ms(&self, percent: f64) -> f64 {
        let rank = (percent / 100.0 * self.micros.len() as f64).ceil() as usize;
        self.micros.get(rank.saturating_sub(1)).map_or(0.0, |micros| f64::from(*micros) / 1000.0)
    }

    /// Answered calls per second.
    pub fn per_second(&self) -> f64 {
        self.micros.len() as f64 / self.seconds.max(f64::EPSILON)
    }
}

#[derive(Default)]
struct Collector {
    micros: Vec<u32>,
    failed: u64,
    first_failure: Option<String>,
}

type Shared = Arc<Mutex<Collector>>;

fn note(shared: &Shared, since: Instant, outcome: Result<(), String>) {
    let mut collector = shared.lock().unwrap_or_else(PoisonError::into_inner);
    match outcome {
        Ok(()) => collector.micros.push(u32::try_from(since.elapsed().as_micros()).unwrap_or(u32::MAX)),
        Err(reason) => {
            collector.failed += 1;
            collector.first_failure.get_or_insert(reason);
        }
    }
}

fn finish(shared: Shared, seconds: f64) -> Samples {
    let mut collector = shared.lock().unwrap_or_else(PoisonError::into_inner);
    let mut micros = std::mem::take(&mut collector.micros);
    micros.sort_unstable();
    Samples { micros, failed: collector.failed, first_failure: collector.first_failure.take(), seconds }
}

/// Starts `rate` calls a second for `time`, evenly, and waits for every answer. `call` gets the call's number.
pub async fn open_loop<F, O>(rate: f64, time: Duration, call: F) -> Samples
where
    F: Fn(u64) -> O,
    O: Future<Output = Result<(), String>> + Send + 'static,
{
    let shared = Shared::default();
    let mut under_way = JoinSet::new();
    let begin = Instant::now();
    let total = (rate * time.as_secs_f64()) as u64;
    let mut number = 0;
    while number < total {
        let due = begin + Duration::from_secs_f64(number as f64 / rate);
        if due > Instant::now() {
            tokio::time::sleep(STEP).await;
            continue;
        }
        while under_way.try_join_next().is_some() {}
        if under_way.len() >= MAX_UNDER_WAY {
            note(&shared, due, Err(format!("{MAX_UNDER_WAY} calls were under way")));
        } else {
            let (work, shared) = (call(number), shared.clone());
            under_way.spawn(async move { note(&shared, due, work.await) });
        }
        number += 1;
    }
    while under_way.join_next().await.is_some() {}
    finish(shared, begin.elapsed().as_secs_f64())
}

/// `lanes` callers, each of whom calls again as soon as it is answered, for `time`. Numbers are unique over all lanes.
pub async fn closed_loop<F, O>(lanes: usize, time: Duration, call: F) -> Samples
where
    F: Fn(usize, u64) -> O + Clone + Send + 'static,
    O: Future<Output = Result<(), String>> + Send,
{
    let (shared, stop, numbers) =
        (Shared::default(), Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let begin = Instant::now();
    let mut under_way = JoinSet::new();
    for lane in 0..lanes {
        let (call, shared, stop, numbers) = (call.clone(), shared.clone(), stop.clone(), numbers.clone());
        under_way.spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                let number = numbers.fetch_add(1, Ordering::Relaxed);
                let since = Instant::now();
                note(&shared, since, call(lane, number).await);
            }
        });
    }
    tokio::time::sleep(time).await;
    stop.store(true, Ordering::Relaxed);
    while under_way.join_next().await.is_some() {}
    finish(shared, begin.elapsed().as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_nearest_rank() {
        let samples = Samples { micros: (1..=100).map(|n| n * 1000).collect(), ..Samples::default() };
        assert_eq!(samples.percentile_ms(50.0), 50.0);
        assert_eq!(samples.percentile_ms(99.0), 99.0);
        assert_eq!(samples.percentile_ms(100.0), 100.0);
        assert_eq!(Samples::default().percentile_ms(50.0), 0.0);
    }

    #[tokio::test]
    async fn a_slow_answer_counts_from_when_its_call_was_due() {
        // One call at a time gets through: the tenth waits for nine others, though it was due after 9 ms.
        let gate = Arc::new(tokio::sync::Mutex::new(()));
        let samples = open_loop(1000.0, Duration::from_millis(10), |_| {
            let gate = gate.clone();
            async move {
                let _one = gate.lock().await;
                tokio::time::sleep(Duration::from_millis(20)).await;
                Ok(())
            }
        })
        .await;
        assert_eq!(samples.micros.len(), 10);
        assert!(samples.percentile_ms(100.0) > 180.0, "{:?}", samples.micros);
    }

    #[tokio::test]
    async fn failures_are_counted_with_their_reason() {
        let samples = open_loop(1000.0, Duration::from_millis(10), |number| async move {
            if number == 3 {
                Err("refused".to_owned())
            } else {
                Ok(())
            }
        })
        .await;
        assert_eq!((samples.micros.len(), samples.failed), (9, 1));
        assert_eq!(samples.first_failure.as_deref(), Some("refused"));
    }
}
