//! The cases of FAULTS.md that run here, and those that do not, with the reason.
//!
//! Each case is a function with a fixed script; whom it hits and when comes from the seed. What the case's own text forbids goes to
//! `world.wrong`; all else is judged by the invariants afterwards.

mod byzantine;
mod clients;
mod collusion;
mod crash;
mod disk;
mod governing;
mod liars;
mod links;
mod members;
mod not_covered;
mod pruning;
mod quorum;
mod rates;
mod rotation;
mod snapshots;
mod stores;
mod time;
mod turns;
mod twins;

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
}

const fn case(id: &'static str, does: &'static str, figure: &'static str, unit: &'static str) -> Case {
    Case { id, does, figure, unit }
}

/// All that run, in the order in which they run.
pub const ALL: &[Case] = &[
    case("A1", "kill -9 one of four, restart after 0.25 to 10 s", "start to caught up", "s"),
    case(
        "A2",
        "end a node at its five fault points (none between the votes), restart by its supervisor",
        "start to caught up",
        "s",
    ),
    case("A3", "kill two of four, then start one", "first write after", "s"),
    case("A4", "kill all four, start all in random order", "first write after", "s"),
    case("A5", "short lives of one node, killed before or after it is ready", "last start to caught up", "s"),
    case("A6", "SIGSTOP one for 10 s", "first write through it after", "s"),
    case("A6-long", "SIGSTOP one for 120 s", "first write through it after", "s"),
    case(
        "A7",
        "SIGSTOP the one whose turn to propose comes, until its round has passed",
        "first write through it after",
        "s",
    ),
    case("A8", "SIGTERM one under load", "until it has ended", "s"),
    case("A9", "kill -9 one and start it at once", "start to caught up", "s"),
    case("A10", "wipe ledger and votes of one, keep keys and vault", "start to caught up", "s"),
    case("A11", "two processes with one validator's keys, both alive for 30 s", "slowest write", "s"),
    case(
        "B1",
        "isolate custodian or recipient for 60 s (40 s with --short)",
        "healed to the first write through it",
        "s",
    ),
    case("B2", "split two and two", "first write after", "s"),
    case("B3", "a line: each node reaches only its neighbours", "slowest probe", "s"),
    case("B4", "nobody hears one node, which hears all", "slowest probe", "s"),
    case("B5", "the links of one node flap", "slowest probe", "s"),
    case("B6", "every link takes 200 ms", "slowest probe", "s"),
    case("B8", "partitions that move every 1.5 s, then two and two", "first write after", "s"),
    case("B9", "the links of one node carry 10 kB/s", "slowest probe", "s"),
    case("C1", "cut the tail of the engine's write-ahead log", "start to caught up", "s"),
    case(
        "C2",
        "flip bits in the ledger's files of one node until one is found, then empty its folder",
        "emptied to caught up",
        "s",
    ),
    case("C3", "fill one node's disk, then free it", "back once there is space", "s"),
    case(
        "C5",
        "each store's writes fail on one node, restart by its supervisor",
        "started to caught up",
        "s",
    ),
    case("C7", "put an old ledger and old votes of one back", "start to caught up", "s"),
    case(
        "C9",
        "prune on all nodes, empty one's ledger: it joins from a snapshot and the blocks since",
        "start to caught up",
        "s",
    ),
    case(
        "C10",
        "one serves snapshots with a wrong root, without a chunk, with one too long, to a node that joins",
        "start to caught up",
        "s",
    ),
    case("D1", "one clock off by an hour, then by ten years", "slowest probe", "s"),
    case("D3", "two clocks off by ten minutes", "slowest probe", "s"),
    case(
        "D4",
        "a consent that ends at t, asked about at t-1, t, t+1 on all four",
        "answers compared",
        "answers",
    ),
    case("E1", "one votes twice in every round", "slowest write", "s"),
    case("E2", "one proposes twice", "slowest write", "s"),
    case("E3", "one is silent, to all and then to one", "slowest write", "s"),
    case("E4", "one proposes invalid blocks of eight kinds", "slowest write", "s"),
    case("E5", "one withholds, reorders or repeats the parts of its blocks", "slowest write", "s"),
    case("E6", "one ignores its locks while the network splits", "first write after", "s"),
    case("E7", "one lies in five ways to a node that catches up", "start to caught up", "s"),
    case(
        "E8",
        "two of four run twice, one on each side of a split: both sides go on, and their exports convict both",
        "until both sides had gone on",
        "s",
    ),
    case(
        "F1",
        "add three validators under load, one by one, and remove them",
        "longest without a commit",
        "s",
    ),
    case(
        "F2",
        "register a validator with another's peer id, and one with wrong addresses",
        "rate that the others lose",
        "%",
    ),
    case(
        "F4",
        "one is dead and benched: remove a live one, which is put off until the dead one is back",
        "back to removed",
        "s",
    ),
    case(
        "F5",
        "rotate each validator's vote key, and one's consensus peer key",
        "longest without a commit",
        "s",
    ),
    case(
        "F9",
        "two of four are gone for ever: the others agree to a recovery and go on",
        "first write after",
        "s",
    ),
    case(
        "G4",
        "replay writes over a restart, a withdrawal through all nodes, a proof at one node",
        "replays",
        "requests",
    ),
    case("G9", "one request id from 100 tasks, and through another node", "tries", "requests"),
    case("H2", "peers that are not on the list knock at both ports", "knocks", "peers"),
    case("L1-rate", "two of four down for 10 s: how soon 90% of the rate is back", "healed to the rate", "s"),
    case("R1", "steady load: memory of the node that has most, and its growth", "most memory", "MB"),
];

/// The cases of `--short`, as issue 5 lists them.
pub const SHORT: [&str; 18] = [
    "A1", "A2", "A3", "A4", "A9", "B1", "B2", "B8", "C1", "C3", "D1", "D4", "E1", "E4", "E7", "G4", "G9",
    "H2",
];

/// How long cases take that may take long.
#[derive(Debug, Clone, Copy)]
pub struct Length {
    /// Shorter where a case allows it.
    pub short: bool,
    /// Lives of A5.
    pub lives: u64,
    /// Seconds of R1.
    pub steady_seconds: u64,
}

/// Whether this machine lets a case run; if not, why.
pub fn possible(id: &str, dir: &Path) -> Result<(), String> {
    if id == "C3" {
        return disk::can_mount(dir).map_err(|error| error.to_string());
    }
    Ok(())
}

/// Whether the invariants are judged after a case. After a fork only those mean something that are about each node by itself.
pub fn judged(id: &str, invariant: &str) -> bool {
    id != "E8" || ["S6", "S7"].contains(&invariant)
}

/// Runs a case's script: its figure.
pub async fn run(id: &str, world: &mut World, length: Length) -> Result<f64, Error> {
    match id {
        "A1" => crash::kill_one(world).await,
        "A2" => crash::fault_points(world).await,
        "A3" => crash::kill_two(world).await,
        "A4" => crash::kill_all(world).await,
        "A5" => crash::short_lives(world, length.lives).await,
        "A6" => crash::stop_one(world, 10).await,
        "A6-long" => crash::stop_one(world, 120).await,
        "A7" => turns::stop_proposers(world).await,
        "A8" => crash::terminate_one(world).await,
        "A9" => crash::kill_and_start(world).await,
        "A10" => stores::wipe(world).await,
        "A11" => twins::one_key_twice(world).await,
        "B1" => links::isolate(world, if length.short { 40 } else { 60 }).await,
        "B2" => links::split(world).await,
        "B3" => links::line(world).await,
        "B4" => links::one_way(world).await,
        "B5" => links::flap(world).await,
        "B6" => links::slow(world).await,
        "B8" => links::moving(world).await,
        "B9" => links::thin(world).await,
        "C1" => disk::truncate_log(world).await,
        "C2" => stores::flip_bits(world).await,
        "C3" => disk::fill(world).await,
        "C5" => stores::failing_writes(world).await,
        "C7" => stores::old_copy(world).await,
        "C9" => pruning::join_from_snapshot(world).await,
        "C10" => snapshots::bad_snapshots(world).await,
        "D1" => time::one_clock(world).await,
        "D3" => time::two_clocks(world).await,
        "D4" => time::end_of_consent(world).await,
        "E1" => byzantine::twice(world, "vote-twice").await,
        "E2" => byzantine::twice(world, "propose-twice").await,
        "E3" => byzantine::silence(world).await,
        "E4" => byzantine::bad_blocks(world).await,
        "E5" => byzantine::bad_parts(world).await,
        "E6" => byzantine::unlocked(world).await,
        "E7" => byzantine::bad_answers(world).await,
        "E8" => collusion::two_collude(world).await,
        "F1" => members::grow_and_shrink(world).await,
        "F2" => members::badly_registered(world).await,
        "F4" => quorum::no_quorum_left(world).await,
        "F5" => rotation::rotate_keys(world).await,
        "F9" => quorum::lost_for_ever(world).await,
        "G4" => clients::replays(world).await,
        "G9" => clients::one_id(world).await,
        "L1-rate" => rates::recovery(world).await,
        "R1" => rates::memory(world, length.steady_seconds).await,
        _ => clients::knock(world).await,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn all_of_the_short_set_runs() {
        let runs = |id: &&str| ALL.iter().any(|case| case.id == *id);
        let missing: Vec<&str> = SHORT.into_iter().filter(|id| !runs(id)).collect();
        assert_eq!(missing, [""; 0]);
    }

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
