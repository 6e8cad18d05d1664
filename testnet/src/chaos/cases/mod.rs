//! The cases of FAULTS.md that run here, and those that do not, with the reason.
//!
//! Each case is a function with a fixed script; whom it hits and when comes from the seed. What the case's own text forbids goes to
//! `world.wrong`; all else is judged by the invariants afterwards.

mod clients;
mod crash;
mod disk;
mod links;
mod not_covered;
mod time;

pub use not_covered::NOT_COVERED;

use std::path::Path;

use super::world::World;
use crate::error::Error;

/// A case.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    /// Its id in FAULTS.md.
    pub id: &'static str,
    /// What is done.
    pub does: &'static str,
    /// What its figure tells.
    pub figure: &'static str,
    /// Unit of the figure.
    pub unit: &'static str,
    /// Part of `--short`.
    pub short: bool,
}

const fn case(
    id: &'static str,
    short: bool,
    does: &'static str,
    figure: &'static str,
    unit: &'static str,
) -> Case {
    Case { id, does, figure, unit, short }
}

/// All that run, in the order in which they run.
pub const ALL: [Case; 23] = [
    case("A1", true, "kill -9 one of four, restart after 0.25 to 10 s", "start to caught up", "s"),
    case(
        "A2",
        true,
        "end a node at its five fault points (none between the votes), restart by its supervisor",
        "start to caught up",
        "s",
    ),
    case("A3", true, "kill two of four, then start one", "first write after", "s"),
    case("A4", true, "kill all four, start all in random order", "first write after", "s"),
    case("A6", false, "SIGSTOP one for 10 s", "first write through it after", "s"),
    case("A8", true, "SIGTERM one under load", "until it has ended", "s"),
    case("A9", true, "kill -9 one and start it at once", "start to caught up", "s"),
    case("B1", true, "isolate custodian or recipient for 60 s", "healed to caught up", "s"),
    case("B2", true, "split two and two", "first write after", "s"),
    case("B3", false, "a line: each node reaches only its neighbours", "slowest probe", "s"),
    case("B4", false, "nobody hears one node, which hears all", "slowest probe", "s"),
    case("B5", false, "the links of one node flap", "slowest probe", "s"),
    case("B6", false, "every link takes 200 ms", "slowest probe", "s"),
    case("B8", true, "partitions that move every 1.5 s, then two and two", "first write after", "s"),
    case("B9", false, "the links of one node carry 10 kB/s", "slowest probe", "s"),
    case("C1", true, "cut the tail of the engine's write-ahead log", "start to caught up", "s"),
    case("C3", true, "fill one node's disk, then free it", "back once there is space", "s"),
    case("D1", true, "one clock off by an hour, then by ten years", "slowest probe", "s"),
    case("D3", false, "two clocks off by ten minutes", "slowest probe", "s"),
    case(
        "D4",
        true,
        "a consent that ends at t, asked about at t-1, t, t+1 on all four",
        "answers compared",
        "answers",
    ),
    case(
        "G4",
        true,
        "replay writes over a restart, a withdrawal through all nodes, a proof at one node",
        "replays",
        "requests",
    ),
    case("G9", true, "one request id from 100 tasks, and through another node", "tries", "requests"),
    case("H2", true, "peers that are not on the list knock at both ports", "knocks", "peers"),
];

/// Whether this machine lets a case run; if not, why.
pub fn possible(id: &str, dir: &Path) -> Result<(), String> {
    if id == "C3" {
        return disk::can_mount(dir).map_err(|error| error.to_string());
    }
    Ok(())
}

/// Runs a case's script: its figure.
pub async fn run(id: &str, world: &mut World, short: bool) -> Result<f64, Error> {
    match id {
        "A1" => crash::kill_one(world).await,
        "A2" => crash::fault_points(world).await,
        "A3" => crash::kill_two(world).await,
        "A4" => crash::kill_all(world).await,
        "A6" => crash::stop_one(world).await,
        "A8" => crash::terminate_one(world).await,
        "A9" => crash::kill_and_start(world).await,
        "B1" => links::isolate(world, if short { 40 } else { 60 }).await,
        "B2" => links::split(world).await,
        "B3" => links::line(world).await,
        "B4" => links::one_way(world).await,
        "B5" => links::flap(world).await,
        "B6" => links::slow(world).await,
        "B8" => links::moving(world).await,
        "B9" => links::thin(world).await,
        "C1" => disk::truncate_log(world).await,
        "C3" => disk::fill(world).await,
        "D1" => time::one_clock(world).await,
        "D3" => time::two_clocks(world).await,
        "D4" => time::end_of_consent(world).await,
        "G4" => clients::replays(world).await,
        "G9" => clients::one_id(world).await,
        _ => clients::knock(world).await,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_id_stands_in_one_list_once() {
        let ids: Vec<&str> = ALL.iter().map(|c| c.id).chain(NOT_COVERED.iter().map(|(id, _)| *id)).collect();
        let different: BTreeSet<&str> = ids.iter().copied().collect();
        assert_eq!(different.len(), ids.len());
        for group in [("A", 11), ("B", 9), ("D", 4), ("E", 8), ("F", 9), ("G", 12), ("H", 8), ("I", 5)] {
            for n in 1..=group.1 {
                let id = format!("{}{n}", group.0);
                let in_no_list = ["D2", "F8", "G11", "H7"].contains(&id.as_str());
                assert_eq!(different.contains(id.as_str()), !in_no_list, "{id}");
            }
        }
        for id in ["C1", "C2", "C3", "C5", "C6", "C7", "C9", "C10", "R1"] {
            assert!(different.contains(id), "{id}");
        }
        assert!(NOT_COVERED.iter().all(|(_, why)| why.len() > 20));
    }
}
