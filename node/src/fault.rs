//! Fault points for crash tests: the process ends on the spot, as by kill -9, when it passes an armed point for the n-th time;
//! or a write fails from its n-th time on, as on a full or broken disk.
//!
//! Armed by `--fault POINT:N` or `--fault WRITE:KIND:N`, which is refused unless the chain id starts with `testnet-`.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::OnceLock;

use nix::errno::Errno;

/// All points.
pub const POINTS: [&str; 5] =
    ["proposal-stored", "block-validated", "before-commit", "after-commit", "request-stored"];
/// All writes that can be made to fail.
pub const WRITES: [&str; 3] = ["ledger-write", "vault-write", "vault-sync"];
/// How: as the operating system would.
const KINDS: [(&str, Errno); 2] = [("enospc", Errno::ENOSPC), ("eio", Errno::EIO)];

struct Armed {
    point: String,
    error: Option<Errno>,
    passes: u64,
    passed: AtomicU64,
}

static ARMED: OnceLock<Armed> = OnceLock::new();

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

/// Arms a point, `POINT:N`, or a write, `WRITE:KIND:N`.
pub fn arm(text: &str, chain_id: &str) -> Result<(), String> {
    if !chain_id.starts_with("testnet-") {
        return Err(format!("--fault is for chains whose id starts with testnet-, this one is {chain_id}"));
    }
    ARMED.set(parse(text)?).map_err(|_| "--fault is armed already".to_owned())
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
}
