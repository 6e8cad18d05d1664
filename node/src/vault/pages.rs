//! Page tokens: a place in a list as a text that only this vault reads, and only for the same list.

use super::seal::Table;
use super::{Result, Vault};

impl Vault {
    /// A place in the list that `binding` names: method, patient, and whatever else chooses its items.
    pub fn seal_page(&self, binding: &[&[u8]], place: &[u8]) -> Result<String> {
        let row = self.key(Table::PageToken, binding);
        Ok(hex::encode(self.inner.sealer.seal(&row, place)?))
    }

    /// The place in a token of this list; none for anything else.
    pub fn open_page(&self, binding: &[&[u8]], token: &str) -> Option<Vec<u8>> {
        let row = self.key(Table::PageToken, binding);
        self.inner.sealer.open(&row, &hex::decode(token).ok()?).ok()
    }
}
