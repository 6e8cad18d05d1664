//! Waiting for a run's nodes: until they settle, until one is back, until a write is committed after healing.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use assent_proto::v1::GetStatusResponse;

use super::observed::{CutOff, HealedSeen};
use super::world::{World, NODES, POLL, SETTLE_LIMIT};
use super::writes::What;
use crate::error::{failed, Error};
use crate::net::cluster::status;
use crate::net::description::Network;

/// How long a first write after healing is waited for, far beyond the limit that it is judged by.
const HEAL_WAIT: Duration = Duration::from_secs(60);

impl World {
    /// A node's status; an error when it does not answer.
    pub async fn status(&self, organization: &str) -> Result<GetStatusResponse, Error> {
        let limit = Duration::from_secs(3);
        match tokio::time::timeout(limit, status(&self.network, organization)).await {
            Ok(status) => status,
            Err(_) => failed(format!("{organization} does not answer")),
        }
    }

    /// A node's height.
    pub async fn height(&self, organization: &str) -> Result<u64, Error> {
        Ok(self.status(organization).await?.answer.map_or(0, |answer| answer.height))
    }

    /// Waits until a node gives answers from where the others are, or further: seconds from now.
    pub async fn wait_back(&self, organization: &str, height: u64) -> Result<f64, Error> {
        let begin = Instant::now();
        loop {
            match self.status(organization).await {
                Ok(s) if s.fresh && s.answer.as_ref().is_some_and(|a| a.height >= height) => {
                    return Ok(begin.elapsed().as_secs_f64())
                }
                _ if begin.elapsed() < SETTLE_LIMIT => tokio::time::sleep(POLL).await,
                other => return failed(format!("{organization} is not back: {}", told(other))),
            }
        }
    }

    /// Waits until every node runs, is fresh, connected to all others and at the height of all others.
    pub async fn settle(&self) -> Result<(), Error> {
        let (begin, all) = (Instant::now(), self.organizations());
        loop {
            let mut heights = Vec::new();
            let mut waiting = Vec::new();
            for organization in &all {
                let whole =
                    |s: &GetStatusResponse| all.iter().all(|o| o == organization || s.connected.contains(o));
                match self.status(organization).await {
                    Ok(s) if s.fresh && whole(&s) && s.mempool_entries == 0 => {
                        heights.push(s.answer.map_or(0, |a| a.height));
                    }
                    other => waiting.push(format!("{organization}: {}", told(other))),
                }
            }
            let level = heights.iter().min() == heights.iter().max();
            if heights.len() == all.len() && level {
                return Ok(());
            }
            if begin.elapsed() >= SETTLE_LIMIT {
                return failed(format!("not settled: heights {heights:?}; {}", waiting.join("; ")));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Healed just now: how long until a new write through one of these nodes is committed. Judged by L1.
    pub async fn heal(&mut self, what: &str, through: &[String], limit: f64) -> Result<f64, Error> {
        let begin = Instant::now();
        let id = format!("healed-{}", self.next_probe());
        let tries = through.iter().map(|organization| {
            let (world, id) = (&*self, &id);
            Box::pin(async move {
                let late = || begin.elapsed() >= HEAL_WAIT;
                let writer = loop {
                    match world.writer(organization).await {
                        Ok(writer) => break writer,
                        Err(_) if late() => return Err(()),
                        Err(_) => tokio::time::sleep(POLL).await,
                    }
                };
                writer.write(id, &What::One, late).await.ok_or(())
            })
        });
        let first = futures::future::select_ok(tries).await;
        let seconds = first.ok().map(|((at, _), _)| (at - begin).as_secs_f64());
        self.healed.push(HealedSeen { what: what.to_owned(), seconds, limit });
        Ok(seconds.unwrap_or(HEAL_WAIT.as_secs_f64()))
    }

    /// From now on these have no quorum within reach, or stand still.
    pub fn cut(&mut self, organizations: &[String]) {
        let from = Instant::now();
        let cut = |o: &String| CutOff { organization: o.clone(), from, to: None, joined: None };
        lock(&self.cut_off).extend(organizations.iter().map(cut));
    }

    /// Those that were cut off no longer are. When each is connected to a quorum again is noted as it happens.
    pub fn uncut(&mut self) {
        for (index, cut) in lock(&self.cut_off).iter_mut().enumerate().filter(|(_, c)| c.to.is_none()) {
            cut.to = Some(Instant::now());
            let (all, network) = (self.cut_off.clone(), self.network.clone());
            let late = cut.organization.clone();
            tokio::spawn(async move {
                if joined(&network, &late).await {
                    lock(&all)[index].joined = Some(Instant::now());
                }
            });
        }
    }
}

/// Waits until a node is connected to so many that together they are a quorum; false when it never is.
async fn joined(network: &Network, organization: &str) -> bool {
    let begin = Instant::now();
    while begin.elapsed() < SETTLE_LIMIT {
        let status = tokio::time::timeout(Duration::from_secs(3), status(network, organization)).await;
        if status.is_ok_and(|s| s.is_ok_and(|s| (s.connected.len() + 1) * 3 > NODES * 2)) {
            return true;
        }
        tokio::time::sleep(POLL).await;
    }
    false
}

fn lock(cut_off: &Mutex<Vec<CutOff>>) -> MutexGuard<'_, Vec<CutOff>> {
    cut_off.lock().unwrap_or_else(PoisonError::into_inner)
}

fn told(status: Result<GetStatusResponse, Error>) -> String {
    match status {
        Ok(s) if !s.fresh => format!("not fresh: {}", s.not_fresh_reason),
        Ok(s) => format!("connected to {}, {} entries wait", s.connected.join(", "), s.mempool_entries),
        Err(error) => error.to_string(),
    }
}
