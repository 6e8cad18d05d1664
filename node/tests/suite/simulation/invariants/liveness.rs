//! Liveness: once all validators run and hear each other, a new write is on every one of them within a bounded time.

/// Bound, in milliseconds of virtual time. A node's own aim is 15 s after rounds diverged (FAULTS, B8).
pub const LIMIT_MS: u64 = 15_000;

/// Judged at the bound: heights at which validators have the write.
pub fn check(places: &[Option<u64>]) -> Result<(), String> {
    let without: Vec<String> =
        (0..places.len()).filter(|who| places[*who].is_none()).map(|who| who.to_string()).collect();
    match without.is_empty() {
        true => Ok(()),
        false => Err(format!(
            "{LIMIT_MS} ms after all was well a new write is not on validator {}",
            without.join(", ")
        )),
    }
}

#[test]
fn a_validator_without_the_write_is_named() {
    assert!(check(&[Some(4), Some(4)]).is_ok());
    assert!(check(&[Some(4), None, Some(4)]).unwrap_err().ends_with("validator 1"));
}
