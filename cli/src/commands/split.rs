//! `assent verify` of a split view: two signed checkpoints that can't be of one log.

use assent_ledger::checkpoint::VerifierKey;
use assent_ledger::split::{verify_split, SplitError, SplitView};
use serde_json::json;

use crate::commands::verify::does_not_hold;
use crate::exit::{printable, Exit, Failure};
use crate::output::Report;

/// Verifies what stands behind the magic. The keys are the anchor: without them it is anybody's word.
pub fn verify(known: &[VerifierKey], body: &[u8]) -> Result<Report, Failure> {
    let SplitView { origin, size, roots, signed_by } = verify_split(body, known).map_err(|e| match e {
        SplitError::UnknownKeys { .. } => {
            Failure::new(Exit::Undecided, "UNKNOWN_CHECKPOINT_KEY", e.to_string())
                .help("give the keys of the nodes with --checkpoint-key")
        }
        _ => does_not_hold(e),
    })?;
    let mut text = format!("holds: two roots are signed for {size} leaves of {}\n", printable(&origin));
    for (root, names) in roots.iter().zip(&signed_by) {
        text += &format!("root {}\n  signed by {}\n", hex::encode(root), printable(&names.join(", ")));
    }
    let sides = [0, 1].map(|n| json!({ "root": hex::encode(roots[n]), "signed_by": signed_by[n] }));
    Ok(Report::ok(
        text,
        json!({ "ok": true, "kind": "split", "origin": origin, "size": size, "sides": sides }),
    ))
}
