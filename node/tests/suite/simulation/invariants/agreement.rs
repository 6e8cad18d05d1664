//! Agreement: at every height all validators have the same header, and with it the same entries and state.

use std::collections::BTreeMap;

use assent_ledger::Hash;

use crate::simulation::keys::short;

/// What was committed at each height: by whom first, header hash and state root.
#[derive(Default)]
pub struct Agreement {
    first: BTreeMap<u64, (usize, Hash, Vec<u8>)>,
}

impl Agreement {
    /// A validator has committed a block.
    pub fn commit(
        &mut self,
        who: usize,
        height: u64,
        header: Hash,
        state_root: Vec<u8>,
    ) -> Result<(), String> {
        let (other, known, root) =
            self.first.entry(height).or_insert_with(|| (who, header, state_root.clone()));
        if (*known, &*root) == (header, &state_root) {
            return Ok(());
        }
        Err(format!(
            "at height {height} validator {other} has {} with state {}, validator {who} {} with state {}",
            short(known),
            short(root),
            short(&header),
            short(&state_root)
        ))
    }
}

#[test]
fn two_headers_at_a_height_are_found() {
    let mut agreement = Agreement::default();
    agreement.commit(0, 1, [1; 32], vec![1]).unwrap();
    agreement.commit(1, 1, [1; 32], vec![1]).unwrap();
    agreement.commit(1, 2, [2; 32], vec![1]).unwrap();
    assert!(agreement.commit(2, 1, [2; 32], vec![1]).unwrap_err().contains("height 1"));
    assert!(agreement.commit(0, 2, [2; 32], vec![2]).is_err(), "one header, two states");
}
