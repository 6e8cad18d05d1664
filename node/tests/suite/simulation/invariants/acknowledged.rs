//! Nothing is lost: a write that a client was told of is on every validator, at the height that the client was told.

use std::collections::BTreeMap;

use assent_ledger::Hash;

use crate::simulation::keys::short;
use crate::simulation::world::World;

pub fn check(world: &World) -> Result<(), String> {
    for (who, store) in world.stores().enumerate() {
        let place = |hash: &Hash| store.entry_place(hash).ok().flatten().map(|place| place.height);
        all_there(&world.clients.acknowledged, place).map_err(|e| format!("validator {who}: {e}"))?;
    }
    Ok(())
}

fn all_there(told: &BTreeMap<Hash, Option<u64>>, place: impl Fn(&Hash) -> Option<u64>) -> Result<(), String> {
    for (hash, height) in told {
        match place(hash) {
            Some(found) if height.is_none_or(|height| height == found) => {}
            found => {
                let name = short(hash);
                return Err(format!("entry {name} was acknowledged at {height:?} and is at {found:?}"));
            }
        }
    }
    Ok(())
}

#[test]
fn a_lost_or_moved_write_is_found() {
    let told = BTreeMap::from([([1; 32], None), ([2; 32], Some(5))]);
    let ledger = |second: Option<u64>| move |hash: &Hash| if hash[0] == 1 { Some(3) } else { second };
    assert!(all_there(&told, ledger(Some(5))).is_ok());
    assert!(all_there(&told, ledger(None)).unwrap_err().contains("None"));
    assert!(all_there(&told, ledger(Some(6))).is_err());
}
