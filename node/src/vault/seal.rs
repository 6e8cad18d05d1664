//! How rows are hidden: keyed hashes for keys, ChaCha20-Poly1305 for values.
//!
//! ```text
//! key   = table ‖ HMAC-SHA256(index key, table ‖ length ‖ part ‖ length ‖ part ...)
//! value = 1 ‖ nonce (12, random) ‖ ChaCha20-Poly1305(cipher key, nonce, plain, associated data: 1 ‖ key)
//! ```
//! The key is part of what is authenticated, so a value moved to another row does not open. Random nonces are safe for
//! far more values under one key (2^32) than a vault holds.

use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{ChaCha20Poly1305, KeyInit, Nonce};
use rand::rngs::OsRng;
use rand::RngCore;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::{Result, VaultError};

const VERSION: u8 = 1;
const NONCE_BYTES: usize = 12;
const TAG_BYTES: usize = 16;
const BLOCK_BYTES: usize = 64;

/// First byte of every key. The numbers are the format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Table {
    Check = 0,
    Subject = 1,
    SubjectByIdentifier = 2,
    SubjectByReference = 3,
    Record = 4,
    RecordBySubject = 5,
    ConsentSet = 6,
    Policy = 7,
    Access = 8,
    Acknowledgement = 9,
    Request = 10,
    RequestByTime = 11,
    Release = 12,
    Decoy = 13,
    OwnAccess = 14,
    PageToken = 15,
    Ask = 30,
    AskOfSubject = 31,
    AskPlaces = 32,
    OwnAsk = 33,
    Token = 34,
    Review = 35,
    ReviewByTime = 36,
    ReviewOpen = 37,
    ReviewBySubject = 38,
    LateAccess = 39,
    LateRelease = 40,
    PendingGrant = 41,
    Released = 42,
}

/// The vault's keys.
pub(super) struct Sealer {
    cipher: ChaCha20Poly1305,
    index_key: Zeroizing<[u8; 32]>,
}

impl Sealer {
    pub(super) fn new(secret: &[u8; 32]) -> Self {
        let cipher_key = Zeroizing::new(hmac(secret, &[b"assent/1/vault/cipher"]));
        let index_key = Zeroizing::new(hmac(secret, &[b"assent/1/vault/index"]));
        Self { cipher: ChaCha20Poly1305::new((&*cipher_key).into()), index_key }
    }

    /// The row of `parts` in a table; no two lists of parts share one. The check row alone is the same under every
    /// secret, else a wrong secret would look like a new vault.
    pub(super) fn key(&self, table: Table, parts: &[&[u8]]) -> Vec<u8> {
        let mut key = vec![table as u8];
        if table != Table::Check {
            key.extend_from_slice(&self.tag(table, parts));
        }
        key
    }

    /// The keyed hash alone, for keys made of more than one.
    pub(super) fn tag(&self, table: Table, parts: &[&[u8]]) -> [u8; 32] {
        let lengths: Vec<[u8; 8]> = parts.iter().map(|part| (part.len() as u64).to_be_bytes()).collect();
        let table = [table as u8];
        let mut framed: Vec<&[u8]> = vec![&table];
        for (length, part) in lengths.iter().zip(parts) {
            framed.push(length);
            framed.push(part);
        }
        hmac(&self.index_key, &framed)
    }

    pub(super) fn seal(&self, key: &[u8], plain: &[u8]) -> Result<Vec<u8>> {
        let mut nonce = [0; NONCE_BYTES];
        OsRng.try_fill_bytes(&mut nonce).map_err(|error| VaultError::Storage {
            what: format!("no random bytes from the system: {error}"),
        })?;
        let sealed = self
            .cipher
            .encrypt(Nonce::from_slice(&nonce), Payload { msg: plain, aad: &associated(key) })
            .map_err(|_| VaultError::Storage { what: "a value could not be encrypted".into() })?;
        let mut out = Vec::with_capacity(1 + NONCE_BYTES + sealed.len());
        out.push(VERSION);
        out.extend_from_slice(&nonce);
        out.extend_from_slice(&sealed);
        Ok(out)
    }

    pub(super) fn open(&self, key: &[u8], sealed: &[u8]) -> Result<Vec<u8>> {
        let table = key.first().copied().unwrap_or_default();
        let corrupt = |what: &str| VaultError::Corrupt { what: format!("{what} (table {table})") };
        match sealed.split_first() {
            Some((&VERSION, rest)) if rest.len() >= NONCE_BYTES + TAG_BYTES => {
                let (nonce, body) = rest.split_at(NONCE_BYTES);
                self.cipher
                    .decrypt(Nonce::from_slice(nonce), Payload { msg: body, aad: &associated(key) })
                    .map_err(|_| corrupt("a value does not open under this key in this place"))
            }
            Some((&VERSION, _)) | None => Err(corrupt("a value is too short")),
            Some(_) => Err(corrupt("a value of an unknown version")),
        }
    }
}

fn associated(key: &[u8]) -> Vec<u8> {
    let mut out = vec![VERSION];
    out.extend_from_slice(key);
    out
}

/// HMAC-SHA256 (RFC 2104) under a 32-byte key.
fn hmac(key: &[u8; 32], parts: &[&[u8]]) -> [u8; 32] {
    let pad = |byte: u8| {
        let mut block = Zeroizing::new([byte; BLOCK_BYTES]);
        block.iter_mut().zip(key).for_each(|(b, k)| *b ^= k);
        block
    };
    let mut inner = Sha256::new_with_prefix(pad(0x36).as_slice());
    parts.iter().for_each(|part| inner.update(part));
    let mut outer = Sha256::new_with_prefix(pad(0x5c).as_slice());
    outer.update(inner.finalize());
    outer.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 4231, test case 1, whose 20-byte key equals the 32-byte key with 12 zero bytes after it.
    #[test]
    fn hmac_is_the_rfcs() {
        let mut key = [0; 32];
        key[..20].fill(0x0b);
        assert_eq!(
            hex::encode(hmac(&key, &[b"Hi ", b"There"])),
            "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"
        );
    }

    #[test]
    fn a_value_opens_only_in_its_place_and_whole() {
        let sealer = Sealer::new(&[7; 32]);
        let key = sealer.key(Table::Record, &[b"Observation/1"]);
        let sealed = sealer.seal(&key, b"plain").unwrap();
        assert_eq!(sealer.open(&key, &sealed).unwrap(), b"plain");
        let elsewhere = sealer.key(Table::Record, &[b"Observation/2"]);
        assert!(matches!(sealer.open(&elsewhere, &sealed), Err(VaultError::Corrupt { .. })));
        for at in 0..sealed.len() {
            let mut bad = sealed.clone();
            bad[at] ^= 1;
            assert!(matches!(sealer.open(&key, &bad), Err(VaultError::Corrupt { .. })), "byte {at}");
            assert!(
                matches!(sealer.open(&key, &sealed[..at]), Err(VaultError::Corrupt { .. })),
                "cut at {at}"
            );
        }
        let other = Sealer::new(&[8; 32]);
        assert!(matches!(other.open(&key, &sealed), Err(VaultError::Corrupt { .. })));
        assert_ne!(other.key(Table::Record, &[b"Observation/1"]), key);
    }

    #[test]
    fn parts_cannot_be_shifted() {
        let sealer = Sealer::new(&[7; 32]);
        assert_ne!(sealer.key(Table::Request, &[b"ab", b"c"]), sealer.key(Table::Request, &[b"a", b"bc"]));
        assert_ne!(sealer.key(Table::Request, &[b"a"]), sealer.key(Table::Release, &[b"a"]));
    }
}
