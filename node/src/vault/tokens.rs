//! Tokens that this node gives out and takes back: a place in a list or a stream, as a text that only this vault reads, and
//! only for what it was made for.

use super::seal::Table;
use super::{Result, Vault};

/// Longest token that is looked at.
const MAX_TOKEN_BYTES: usize = 512;

impl Vault {
    /// A place as a token, bound to what it is a place in.
    pub fn seal_token(&self, bound_to: &[&[u8]], place: &[u8]) -> Result<String> {
        Ok(hex::encode(self.inner.sealer.seal(&self.key(Table::Token, bound_to), place)?))
    }

    /// The place in a token of that binding; none for anything else.
    pub fn open_token<const N: usize>(&self, bound_to: &[&[u8]], token: &str) -> Option<[u8; N]> {
        if token.len() > MAX_TOKEN_BYTES {
            return None;
        }
        let sealed = hex::decode(token).ok()?;
        let place = self.inner.sealer.open(&self.key(Table::Token, bound_to), &sealed).ok()?;
        place.try_into().ok()
    }
}
