//! Genesis files. Nobody signs them, so that changed ones may well be right.

use assent_ledger::block::apply_genesis;
use assent_ledger::genesis::{check_genesis, check_genesis_file, make_genesis_file};
use assent_ledger::hash::{hash, Context};
use assent_ledger::membership::members_root;
use assent_proto::ledger::v1::{Genesis, GenesisFile, OrganizationList};
use prost::Message;

use super::edit::Form;
use super::{given, good};

/// By members without addresses, and by such as nodes make.
pub(super) const GOOD: &[&[u8]] = good!["genesis/plain", "genesis/governed"];

/// An accepted file is the one that is made of what it says, and leads to a state.
pub fn genesis(input: &[u8]) {
    let Some(given) = given(input, Form::Message, GOOD) else { return };
    judge(&given.bytes);
    if let Some(mended) = mended(&given.bytes) {
        judge(&mended);
    }
}

/// The file with the hashes put right that its parts have to name, so that changed organizations come to be looked at.
fn mended(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut file = GenesisFile::decode(bytes).ok()?;
    let mut genesis = Genesis::decode(file.genesis.as_slice()).ok()?;
    let list = OrganizationList::decode(file.organizations.as_slice()).ok()?;
    genesis.organizations_hash =
        hash(Context::Organizations, &genesis.chain_id, &[&file.organizations]).to_vec();
    genesis.validators.as_mut()?.members_root = members_root(&list.organizations).to_vec();
    file.genesis = genesis.encode_to_vec();
    Some(file.encode_to_vec())
}

fn judge(bytes: &[u8]) {
    let short = check_genesis(bytes);
    let checked = match check_genesis_file(bytes) {
        Ok(checked) => checked,
        Err(error) => return assert_eq!(short, Err(error)),
    };
    let (made, again) = make_genesis_file(
        &checked.chain_id,
        checked.time_ms,
        checked.validators.clone(),
        checked.organizations.clone(),
    )
    .expect("what was accepted can be made");
    assert_eq!((made.as_slice(), &again), (bytes, &checked));
    assert_eq!(short.map(|(_, set, hash)| (set, hash)), Ok((checked.validators.clone(), checked.hash)));
    let (tip, ..) = apply_genesis(&checked).expect("a genesis that was accepted has a state");
    assert_eq!((tip.header_hash, tip.height), (checked.hash, 0));
}
