//! `demo --tamper`: single bits changed where the product's promises lie. Each must be found, and its place named.
//!
//! ```text
//! stop a node ─▶ flip a bit of its ledger ─▶ start it, export ─▶ exit 9, its log names file and bytes     replica
//! export, receipt, pack ─▶ flip a bit of a copy ─▶ `assent audit verify`, `assent verify` ─▶ exit 3        files
//! fields     in which field of a file a byte lies        seen, judge, report    as observed, claims, report of the story
//! ```

mod fields;
mod files;
pub mod judge;
mod replica;
pub mod report;
pub mod seen;

use rand::rngs::StdRng;
use rand::SeedableRng;

use self::seen::TamperSeen;
use super::observe::{consent, load, release};
use super::stage::Stage;
use super::story::{set_up, step};
use crate::error::Error;
use crate::net::up::Claimed;

/// Starts the network, has one record released, changes bits, stops the network.
pub async fn tell(claimed: &Claimed, seed: u64) -> Result<TamperSeen, Error> {
    let mut stage = set_up(claimed, true).await?;
    let outcome = steps(&mut stage, seed).await;
    step("stopping the nodes");
    stage.cluster.stop().await;
    outcome
}

async fn steps(stage: &mut Stage, seed: u64) -> Result<TamperSeen, Error> {
    let mut rng = StdRng::seed_from_u64(seed);
    step("load, consent, release: as in the demo, so that there is something to change");
    load::observe(stage).await?;
    consent::observe(stage).await?;
    release::observe(stage).await?;
    step("a ledger export, a receipt and a patient pack, each with one bit changed");
    let export = files::export(stage, &mut rng).await?;
    let receipt = files::receipt(stage, &mut rng).await?;
    let pack = files::pack(stage, &mut rng).await?;
    step("the ledger of Elm's stopped node, with one bit changed");
    let replica = replica::observe(stage, &mut rng).await?;
    Ok(TamperSeen { seed, objects: vec![replica, export, receipt, pack] })
}
