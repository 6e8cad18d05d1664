//! The resources of one release as encrypted chunks: ChaCha20-Poly1305, one key per release, the chunk number as nonce.

use chacha20poly1305::aead::Aead;
use chacha20poly1305::{ChaCha20Poly1305, Key, KeyInit, Nonce};
use prost::Message;
use sha2::{Digest, Sha256};

use super::{CHUNK_BYTES, MAX_RELEASE_BYTES};

/// The plain form: what the chunks hold together.
#[derive(Clone, PartialEq, prost::Message)]
struct Plain {
    #[prost(bytes = "vec", repeated, tag = "1")]
    resources: Vec<Vec<u8>>,
}

/// A sealed release does not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the encrypted records do not open under the key that was sent")]
pub struct DoesNotOpen;

fn nonce(number: usize) -> Nonce {
    let mut bytes = [0; 12];
    bytes[4..].copy_from_slice(&(number as u64).to_be_bytes());
    bytes.into()
}

/// Encrypts resources under a key that is used for nothing else.
pub fn seal(key: &[u8; 32], resources: &[Vec<u8>]) -> Result<Vec<Vec<u8>>, DoesNotOpen> {
    let plain = Plain { resources: resources.to_vec() }.encode_to_vec();
    let cipher = ChaCha20Poly1305::new(Key::from_slice(key));
    plain
        .chunks(CHUNK_BYTES)
        .enumerate()
        .map(|(n, c)| cipher.encrypt(&nonce(n), c).map_err(|_| DoesNotOpen))
        .collect()
}

/// Decrypts what [`seal`] made.
pub fn open(key: &[u8; 32], chunks: &[Vec<u8>]) -> Result<Vec<Vec<u8>>, DoesNotOpen> {
    let cipher = ChaCha20Poly1305::new(Key::from_slice(key));
    let mut plain = Vec::new();
    for (n, chunk) in chunks.iter().enumerate() {
        plain.extend(cipher.decrypt(&nonce(n), chunk.as_slice()).map_err(|_| DoesNotOpen)?);
        if plain.len() > MAX_RELEASE_BYTES {
            return Err(DoesNotOpen);
        }
    }
    Ok(Plain::decode(plain.as_slice()).map_err(|_| DoesNotOpen)?.resources)
}

/// Digest that the recipient signs for.
pub fn digest(chunks: &[Vec<u8>]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    for chunk in chunks {
        hasher.update((chunk.len() as u64).to_be_bytes());
        hasher.update(chunk);
    }
    hasher.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_only_untouched_and_in_order() {
        let resources = vec![vec![1; CHUNK_BYTES], vec![2; 10], Vec::new()];
        let chunks = seal(&[3; 32], &resources).unwrap();
        assert_eq!(chunks.len(), 2);
        assert_eq!(open(&[3; 32], &chunks), Ok(resources));
        assert_eq!(open(&[4; 32], &chunks), Err(DoesNotOpen));
        let swapped: Vec<_> = chunks.iter().rev().cloned().collect();
        assert_eq!(open(&[3; 32], &swapped), Err(DoesNotOpen));
        let mut flipped = chunks.clone();
        flipped[1][0] ^= 1;
        assert_eq!(open(&[3; 32], &flipped), Err(DoesNotOpen));
        assert_ne!(digest(&chunks), digest(&flipped));
    }
}
