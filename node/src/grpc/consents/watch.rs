//! Every change of consents at this custodian, in order.
//!
//! ```text
//! pull ─▶ client, node and deadline still there? ─▶ next change on the ledger ─▶ change, with the token behind it
//!                     ▲                       none ─▶ time for a sign of life? ─▶ heartbeat, with the same token
//!                     └──────────────────────────────────── wait for a block
//! ```
//! Nothing runs unless the client reads: a slow reader costs a place among the watches and no memory. A watch may go on for hours;
//! what ends it is the client's own `grpc-timeout`, its certificate, and the end of the node.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use assent_proto::v1::{ConsentChange, WatchConsentsRequest, WatchConsentsResponse};
use futures::stream::{self, BoxStream, StreamExt};
use tokio::sync::watch;
use tokio::time::Instant;
use tonic::Status;

use crate::chain::replica::TipInfo;
use crate::custodian::{blocking, patient_not_found, Found, Watch, WatchPlace};
use crate::grpc::auth::Client;
use crate::grpc::call::Caller;
use crate::grpc::{border, error, Api};
use crate::limits::Limits;
use crate::refusal::{Kind, Refusal};

/// When the client names no interval.
const DEFAULT_HEARTBEAT: Duration = Duration::from_secs(10);
/// Shortest and longest interval of heartbeats, in milliseconds.
const HEARTBEAT_MS: std::ops::RangeInclusive<u32> = 1_000..=3_600_000;

/// The places for watches. Cheap to clone.
#[derive(Clone)]
pub struct Watches {
    most: u32,
    most_of_client: u32,
    held: Arc<Mutex<BTreeMap<String, u32>>>,
}

/// One watch's place, until it is dropped.
struct WatchHeld {
    watches: Watches,
    client: String,
}

impl Watches {
    /// All free.
    pub fn new(limits: &Limits) -> Self {
        let (most, most_of_client) = (limits.watch_streams, limits.watch_streams_per_client);
        Self { most, most_of_client, held: Arc::default() }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, u32>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, client: &str) -> Result<WatchHeld, Refusal> {
        let mut held = self.lock();
        let of_client = held.get(client).copied().unwrap_or_default();
        let full = match (of_client >= self.most_of_client, held.values().sum::<u32>() >= self.most) {
            (true, _) => format!("{of_client} watches of this client are open, as many as one may have"),
            (_, true) => format!("{} watches are open, as many as this node takes", self.most),
            (false, false) => {
                held.insert(client.to_owned(), of_client + 1);
                return Ok(WatchHeld { watches: self.clone(), client: client.to_owned() });
            }
        };
        let message = format!("{full}: close one, or wait");
        Err(Refusal::new(Kind::ResourceExhausted, "TOO_MANY_WATCHES", message))
    }
}

impl Drop for WatchHeld {
    fn drop(&mut self) {
        let mut held = self.watches.lock();
        match held.get_mut(&self.client) {
            Some(of_client) if *of_client > 1 => *of_client -= 1,
            _ => drop(held.remove(&self.client)),
        }
    }
}

/// One client's watch.
struct Open {
    api: Api,
    caller: Caller,
    watch: Watch,
    /// What tokens are bound to: network, and whose changes.
    scope: [Vec<u8>; 2],
    tips: watch::Receiver<TipInfo>,
    heartbeat: Duration,
    due: Instant,
    deadline: Option<Instant>,
    _place: WatchHeld,
}

fn heartbeat(ms: u32) -> Result<Duration, Refusal> {
    match ms {
        0 => Ok(DEFAULT_HEARTBEAT),
        ms if HEARTBEAT_MS.contains(&ms) => Ok(Duration::from_millis(ms.into())),
        _ => Err(border::malformed("heartbeat_ms", "1,000 to 3,600,000, or 0 for 10,000")),
    }
}

fn binding(scope: &[Vec<u8>; 2]) -> [&[u8]; 3] {
    [b"WatchConsents", &scope[0], &scope[1]]
}

impl Api {
    pub(in crate::grpc) async fn watch_consents_for(
        &self,
        caller: Caller,
        client: Client,
        body: WatchConsentsRequest,
        limit: Option<Duration>,
    ) -> Result<BoxStream<'static, Result<WatchConsentsResponse, Status>>, Refusal> {
        let parts = &self.app.parts;
        let heartbeat = heartbeat(body.heartbeat_ms)?;
        let only = match body.patient {
            None => None,
            Some(patient) => {
                let name = self.own_patient(Some(patient))?;
                Some(blocking(|| self.app.custodian.handle_of(&name))?.ok_or_else(patient_not_found)?)
            }
        };
        let scope = [parts.genesis.hash.to_vec(), only.map_or_else(Vec::new, |handle| handle.to_vec())];
        let place = match body.resume_token.as_str() {
            "" => WatchPlace { height: parts.tip().height + 1, done: 0 },
            token => {
                let place = parts.vault.open_token(&binding(&scope), token);
                WatchPlace::from_bytes(place.ok_or_else(bad_token)?)
            }
        };
        let now = Instant::now();
        let open = Open {
            _place: self.watches.take(&client.id)?,
            api: self.clone(),
            caller,
            watch: Watch::new(self.app.custodian.clone(), only, place),
            scope,
            tips: parts.tips.clone(),
            heartbeat,
            // At once: the client has a token from then on.
            due: now,
            deadline: limit.map(|limit| now + limit),
        };
        Ok(stream::unfold(Some(open), |open| async {
            let mut open = open?;
            match open.next().await {
                Ok(message) => Some((Ok(message), Some(open))),
                Err(refusal) => {
                    tracing::info!(reason = refusal.reason, "watch ended");
                    Some((Err(error::status(refusal)), None))
                }
            }
        })
        .boxed())
    }
}

impl Open {
    async fn next(&mut self) -> Result<WatchConsentsResponse, Refusal> {
        loop {
            self.may_go_on()?;
            // What comes while this looks is seen as a change of the tip.
            self.tips.mark_unchanged();
            let found = blocking(|| self.watch.advance())?;
            if let Found::Change(change) = found {
                return self.message(Some(*change)).await;
            }
            if Instant::now() >= self.due {
                return self.message(None).await;
            }
            if matches!(found, Found::Nothing) {
                self.wait().await?;
            }
        }
    }

    /// Every message says where to go on, and counts as a sign of life.
    async fn message(&mut self, change: Option<ConsentChange>) -> Result<WatchConsentsResponse, Refusal> {
        let answer = self.api.answer_from(change.as_ref().map_or(0, |c| c.height)).await?;
        self.due = Instant::now() + self.heartbeat;
        let place = self.watch.place().to_bytes();
        let resume_token = self.api.app.parts.vault.seal_token(&binding(&self.scope), &place)?;
        Ok(WatchConsentsResponse { answer: Some(answer), resume_token, change })
    }

    /// Until there may be something to tell.
    async fn wait(&mut self) -> Result<(), Refusal> {
        let until = self.deadline.map_or(self.due, |deadline| deadline.min(self.due));
        tokio::select! {
            () = self.api.stopping.cancelled() => Ok(()),
            () = tokio::time::sleep_until(until) => Ok(()),
            changed = self.tips.changed() => changed.map_err(|_| stopping()),
        }
    }

    fn may_go_on(&self) -> Result<(), Refusal> {
        if self.api.stopping.is_cancelled() {
            return Err(stopping());
        }
        if self.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            let message = "the time that the client gave is over: go on behind the last resume_token";
            return Err(Refusal::new(Kind::DeadlineExceeded, "DEADLINE_EXCEEDED", message));
        }
        self.api.still_client(&self.caller)
    }
}

fn stopping() -> Refusal {
    Refusal::unavailable(
        "NODE_STOPPING",
        "the node stops: go on behind the last resume_token when it is back",
    )
}

fn bad_token() -> Refusal {
    Refusal::invalid(
        "BAD_RESUME_TOKEN",
        "resume_token",
        "resume_token: not one that this node gave for this watch: start again without, and list the consents",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals() {
        assert_eq!(heartbeat(0).unwrap(), DEFAULT_HEARTBEAT);
        assert_eq!(heartbeat(1_000).unwrap(), Duration::from_secs(1));
        for bad in [1, 999, 3_600_001, u32::MAX] {
            assert_eq!(heartbeat(bad).unwrap_err().metadata["field"], "heartbeat_ms");
        }
    }

    #[test]
    fn places_are_given_back() {
        let limits = Limits { watch_streams: 5, watch_streams_per_client: 3, ..Limits::default() };
        let watches = Watches::new(&limits);
        let mut taken: Vec<_> = (0..3).map(|_| watches.take("a").unwrap()).collect();
        let refused = watches.take("a").err().unwrap();
        assert!(refused.reason == "TOO_MANY_WATCHES" && refused.message.contains("of this client"));
        taken.extend((0..2).map(|_| watches.take("b").unwrap()));
        assert!(watches.take("c").err().unwrap().message.contains("this node"));
        taken.remove(0);
        taken.push(watches.take("c").unwrap());
        assert_eq!(watches.take("a").err().unwrap().reason, "TOO_MANY_WATCHES");
        drop(taken);
        assert!(watches.lock().is_empty());
    }
}
