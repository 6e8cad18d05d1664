//! What only a testnet may do to a node: fault points, another clock, other ways to its peers.
//!
//! - `--fault POINT:N`: the process ends on the spot, as by kill -9, when it passes the point for the n-th time.
//! - `--fault WRITE:KIND:N`: a write fails from its n-th time on, as on a full or broken disk.
//! - `--clock-offset-ms N`: its wall clock is off by that much.
//! - `--dial ORGANIZATION=CONSENSUS,EXCHANGE`: it dials these multiaddrs and not those on the ledger, so that each directed link
//!   between two nodes can be cut, delayed or stalled. Whom it talks to is still proven by the peer id on the ledger.
//! - `--lie LIE`: it lies to the other validators ([`crate::bft::lie`]).
//!
//! All are refused unless the chain id starts with `testnet-`.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::OnceLock;

use assent_ledger::entry::{check_entry, CheckedEntry};
use assent_proto::ledger::v1::Entry;
use libp2p::Multiaddr;
use nix::errno::Errno;
use prost::Message;

use crate::bft::lie::{Bad, Lie};

/// All points.
pub const POINTS: [&str; 5] =
    ["proposal-stored", "block-validated", "before-commit", "after-commit", "request-stored"];
/// All writes that can be made to fail.
pub const WRITES: [&str; 3] = ["ledger-write", "vault-write", "vault-sync"];
/// How: as the operating system would.
const KINDS: [(&str, Errno); 2] = [("enospc", Errno::ENOSPC), ("eio", Errno::EIO)];

/// The flags as they stand on the command line.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Flags {
    /// Testnets only: end the process at a point (see fault.rs).
    #[arg(long, hide = true)]
    pub fault: Option<String>,
    /// Testnets only: how far the wall clock is off.
    #[arg(long, hide = true, default_value_t = 0, allow_negative_numbers = true)]
    pub clock_offset_ms: i64,
    /// Testnets only: dial this organization there, ORGANIZATION=CONSENSUS,EXCHANGE.
    #[arg(long, hide = true)]
    pub dial: Vec<String>,
    /// Testnets only: lie to the other validators (see bft/lie.rs).
    #[arg(long, hide = true)]
    pub lie: Option<String>,
}

/// A swarm of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Swarm {
    Consensus,
    Exchange,
}

struct Armed {
    point: String,
    error: Option<Errno>,
    passes: u64,
    passed: AtomicU64,
}

/// By organization: where its consensus and exchange swarms are dialed.
type Ways = BTreeMap<String, [String; 2]>;

static ARMED: OnceLock<Armed> = OnceLock::new();
static CLOCK_OFFSET_MS: AtomicI64 = AtomicI64::new(0);
static WAYS: OnceLock<Ways> = OnceLock::new();
static LIE: OnceLock<Lie> = OnceLock::new();
static TURN: AtomicU64 = AtomicU64::new(0);

fn parse(text: &str) -> Result<Armed, String> {
    let (place, passes) = text.rsplit_once(':').unwrap_or((text, "1"));
    let passes: u64 =
        passes.parse().map_err(|_| format!("--fault {text}: POINT:N or WRITE:KIND:N with a number N"))?;
    let (point, error) = match place.split_once(':') {
        None => (place, None),
        Some((point, kind)) => match KINDS.iter().find(|(name, _)| *name == kind) {
            Some((_, errno)) => (point, Some(*errno)),
            None => return Err(format!("--fault {text}: KIND is enospc or eio")),
        },
    };
    let known = if error.is_some() { &WRITES[..] } else { &POINTS[..] };
    if !known.contains(&point) {
        return Err(format!("--fault {point}: no such point; there are {}", known.join(", ")));
    }
    Ok(Armed { point: point.to_owned(), error, passes, passed: AtomicU64::new(0) })
}

/// Takes the flags of this process.
pub fn arm(flags: &Flags, chain_id: &str) -> Result<(), String> {
    let given = [
        ("--fault", flags.fault.is_some()),
        ("--clock-offset-ms", flags.clock_offset_ms != 0),
        ("--dial", !flags.dial.is_empty()),
        ("--lie", flags.lie.is_some()),
    ];
    if let Some((flag, _)) = given.iter().find(|(_, given)| *given && !chain_id.starts_with("testnet-")) {
        return Err(format!("{flag} is for chains whose id starts with testnet-, this one is {chain_id}"));
    }
    let ways = flags.dial.iter().map(|text| way(text)).collect::<Result<Ways, _>>()?;
    let point = flags.fault.as_deref().map(parse).transpose()?;
    let lie = flags.lie.as_deref().map(str::parse).transpose()?;
    // A process that embeds several nodes passes no flags and must change nothing.
    if flags.clock_offset_ms != 0 {
        CLOCK_OFFSET_MS.store(flags.clock_offset_ms, Ordering::Relaxed);
    }
    if !ways.is_empty() && WAYS.set(ways).is_err() {
        return Err("--dial is set already".into());
    }
    if lie.is_some_and(|lie| LIE.set(lie).is_err()) {
        return Err("--lie is set already".into());
    }
    match point.map(|point| ARMED.set(point)) {
        Some(Err(_)) => Err("--fault is armed already".into()),
        _ => Ok(()),
    }
}

fn way(text: &str) -> Result<(String, [String; 2]), String> {
    let parts = text.split_once('=').and_then(|(who, to)| Some((who, to.split_once(',')?)));
    let Some((who, (consensus, exchange))) = parts else {
        return Err(format!("--dial {text}: ORGANIZATION=CONSENSUS,EXCHANGE with two multiaddrs"));
    };
    for address in [consensus, exchange] {
        address.parse::<Multiaddr>().map_err(|e| format!("--dial {text}: {address} is no multiaddr: {e}"))?;
    }
    Ok((who.to_owned(), [consensus.to_owned(), exchange.to_owned()]))
}

/// Ends the process here if this point is armed and its time has come. No destructor runs, nothing is flushed.
pub fn point(name: &'static str) {
    if let Some(armed) = ARMED.get().filter(|a| a.error.is_none() && a.point == name) {
        if armed.passed.fetch_add(1, Ordering::SeqCst) + 1 == armed.passes {
            std::process::abort();
        }
    }
}

/// The error that this write has to fail with, if it is armed and its time has come: a full disk stays full.
pub fn error(name: &'static str) -> io::Result<()> {
    if let Some((armed, errno)) = ARMED.get().filter(|a| a.point == name).and_then(|a| Some((a, a.error?))) {
        if armed.passed.fetch_add(1, Ordering::SeqCst) + 1 >= armed.passes {
            return Err(errno.into());
        }
    }
    Ok(())
}

/// A wall clock's time as this process is to see it.
pub fn shifted(now_ms: u64) -> u64 {
    now_ms.saturating_add_signed(CLOCK_OFFSET_MS.load(Ordering::Relaxed))
}

/// Where an organization's swarm is dialed, given its address on the ledger.
pub fn address(organization: &str, swarm: Swarm, listed: &str) -> String {
    let other = WAYS.get().and_then(|ways| ways.get(organization));
    other.map_or_else(|| listed.to_owned(), |ways| ways[swarm as usize].clone())
}

/// What this process lies about.
pub fn lie() -> Option<Lie> {
    LIE.get().copied()
}

/// How many blocks of its own a lying validator has built.
pub fn turn() -> u64 {
    TURN.load(Ordering::Relaxed)
}

/// Entries for a block of its own, and how their signatures are checked: a liar may spoil one and see nothing wrong in it.
pub fn candidates(mut entries: Vec<CheckedEntry>) -> (Vec<CheckedEntry>, bool) {
    let Some(Lie::BadBlock(bad)) = lie() else {
        return (entries, false);
    };
    let turn = TURN.fetch_add(1, Ordering::Relaxed) + 1;
    let spoils = bad.at(turn) == Some(Bad::Unsigned);
    if let Some(first) = entries.first_mut().filter(|_| spoils) {
        let spoiled = Entry::decode(first.bytes.as_slice()).ok().and_then(|mut entry| {
            entry.signature.iter_mut().for_each(|byte| *byte = !*byte);
            check_entry(&first.body.chain_id, &entry.encode_to_vec()).ok()
        });
        spoiled.into_iter().for_each(|spoiled| *first = spoiled);
    }
    (entries, spoils)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_armed() {
        let armed = |text: &str| parse(text).map(|a| (a.point, a.error, a.passes));
        assert_eq!(armed("after-commit:3"), Ok(("after-commit".into(), None, 3)));
        assert_eq!(armed("after-commit"), Ok(("after-commit".into(), None, 1)));
        assert_eq!(armed("vault-write:enospc:2"), Ok(("vault-write".into(), Some(Errno::ENOSPC), 2)));
        for (bad, says) in [
            ("vault-write:2", "no such point"),
            ("after-commit:eio:2", "no such point"),
            ("vault-write:full:2", "enospc or eio"),
            ("after-commit:x", "number"),
        ] {
            assert!(armed(bad).unwrap_err().contains(says), "{bad}");
        }
    }

    #[test]
    fn every_flag_is_refused_off_a_testnet_and_when_malformed() {
        let fault = |text: &str| Flags { fault: Some(text.into()), ..Flags::default() };
        let dial = |text: &str| Flags { dial: vec![text.into()], ..Flags::default() };
        let clock = Flags { clock_offset_ms: -1, ..Flags::default() };
        let lie = |text: &str| Flags { lie: Some(text.into()), ..Flags::default() };
        let way = "birch=/ip4/127.0.0.1/tcp/1,/ip4/127.0.0.1/tcp/2";
        for flags in [fault("before-commit:1"), dial(way), clock, lie("vote-twice")] {
            let said = arm(&flags, "hospitals").unwrap_err();
            assert!(said.contains("testnet-"), "{said}");
        }
        for (flags, says) in [
            (fault("nowhere:1"), "no such point"),
            (fault("before-commit:x"), "number"),
            (lie("vote-thrice"), "no such lie"),
            (dial("birch"), "ORGANIZATION=CONSENSUS,EXCHANGE"),
            (dial("birch=/ip4/127.0.0.1/tcp/1"), "two multiaddrs"),
            (dial("birch=127.0.0.1:1,/ip4/127.0.0.1/tcp/2"), "127.0.0.1:1 is no multiaddr"),
        ] {
            let said = arm(&flags, "testnet-1").unwrap_err();
            assert!(said.contains(says), "{said}");
        }
        assert_eq!(arm(&Flags::default(), "hospitals"), Ok(()));
        assert_eq!(address("birch", Swarm::Exchange, "listed"), "listed");
        assert_eq!(shifted(7), 7);
    }
}
