//! Quiet: when nobody writes any more, an idle ledger grows by heartbeats only. Without this a stale entry in one mempool keeps all
//! validators busy with empty blocks.
//!
//! Known to break it: a good entry whose author forgot it in a crash, in the mempool of one validator alone, while that one is benched.

/// Empty blocks may come at most this often while nobody writes, beside [`SPARE`].
const BLOCK_MS: u64 = 5_000;
/// Heights that began for an entry which another block held already, or that turned out to be stale.
const SPARE: u64 = 6;

/// Judged after healing, when this many empty blocks were made in `passed_ms` of virtual time.
pub fn check(blocks: u64, passed_ms: u64) -> Result<(), String> {
    match blocks <= SPARE + passed_ms / BLOCK_MS {
        true => Ok(()),
        false => Err(format!("{blocks} empty blocks in {passed_ms} ms in which nobody wrote")),
    }
}

#[test]
fn a_storm_is_found() {
    assert!(check(3, 15_000).is_ok());
    assert!(check(30, 15_000).is_err());
}
