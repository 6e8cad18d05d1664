//! What is claimed of changed bits: pure functions of what was seen.

use std::collections::BTreeSet;

use super::seen::{Flip, ObjectSeen, Place};
use crate::demo::claim::{Checks, Claim};

/// Ids of the claims.
pub const IDS: [&str; 4] = ["replica", "export", "receipt", "pack"];
/// Exit code of a node that found corruption.
const CORRUPT: i32 = 9;
/// Exit code of a verifier.
const DOES_NOT_HOLD: i32 = 3;

/// Fewest changed bits that say something: of a replica each takes a start of the node.
fn least(id: &str) -> u64 {
    match id {
        "replica" => 2,
        _ => 6,
    }
}

/// Whether one change was found, and its place named.
pub fn is_found(id: &str, flip: &Flip) -> bool {
    let exit = if id == "replica" { CORRUPT } else { DOES_NOT_HOLD };
    flip.exit == Some(exit) && names(&flip.place, &flip.named)
}

/// A record's height must be the one; a range must hold the byte. A message's verifier says what does not match: to compare
/// that word by word with a field's name would be a second verifier.
fn names(place: &Place, named: &Place) -> bool {
    match (place, named) {
        (Place::Height(place), Place::Height(named)) => place == named,
        (
            Place::Bytes { file, first, end },
            Place::Bytes { file: named, first: named_first, end: named_end },
        ) => file == named && named_first <= first && end <= named_end,
        (Place::Field(place), Place::Field(said)) => !place.is_empty() && !said.trim().is_empty(),
        _ => false,
    }
}

/// Each change was found.
pub fn found(o: &ObjectSeen) -> Claim {
    let mut c = Checks::default();
    c.holds(IDS.contains(&o.id), || format!("{} is nothing that is changed here", o.id));
    c.same("exit before anything was changed", &0, &o.whole_exit);
    c.same("exit with the bits put back", &0, &o.healed_exit);
    c.at_least("changed bits", least(o.id), o.flips.len() as u64);
    let places: BTreeSet<_> = o.flips.iter().map(|flip| (&flip.file, flip.byte, flip.bit)).collect();
    c.same("different bits", &o.flips.len(), &places.len());
    for flip in &o.flips {
        let Flip { file, byte, bit, place, exit, named } = flip;
        c.holds(is_found(o.id, flip), || {
            format!("bit {bit} of byte {byte} of {file} ({place}): exit {exit:?}, named {named}")
        });
    }
    let found = o.flips.iter().filter(|flip| is_found(o.id, flip)).count();
    let shows = format!("of {} changed, found by {}", o.flips.len(), o.finder);
    c.claim(o.id, found as u64, "bits", shows)
}
