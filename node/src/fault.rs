//! Fault points for crash tests: the process ends on the spot, as by kill -9, when it passes an armed point for the n-th time.
//!
//! Armed by `--fault POINT:N`, which is refused unless the chain id starts with `testnet-`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::OnceLock;

/// All points.
pub const POINTS: [&str; 5] =
    ["proposal-stored", "block-validated", "before-commit", "after-commit", "request-stored"];

struct Armed {
    point: String,
    passes: u64,
    passed: AtomicU64,
}

static ARMED: OnceLock<Armed> = OnceLock::new();

/// Arms a point, `POINT:N`.
pub fn arm(text: &str, chain_id: &str) -> Result<(), String> {
    if !chain_id.starts_with("testnet-") {
        return Err(format!("--fault is for chains whose id starts with testnet-, this one is {chain_id}"));
    }
    let (point, passes) = text.split_once(':').unwrap_or((text, "1"));
    let passes: u64 = passes.parse().map_err(|_| format!("--fault {text}: POINT:N with a number N"))?;
    if !POINTS.contains(&point) {
        return Err(format!("--fault {point}: no such point; there are {}", POINTS.join(", ")));
    }
    let armed = Armed { point: point.to_owned(), passes, passed: AtomicU64::new(0) };
    ARMED.set(armed).map_err(|_| "--fault is armed already".to_owned())
}

/// Ends the process here if this point is armed and its time has come. No destructor runs, nothing is flushed.
pub fn point(name: &'static str) {
    if let Some(armed) = ARMED.get().filter(|a| a.point == name) {
        if armed.passed.fetch_add(1, Ordering::SeqCst) + 1 == armed.passes {
            std::process::abort();
        }
    }
}
