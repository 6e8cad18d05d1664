//! Ed25519 by one verification rule everywhere, single and batch: [ZIP-215](https://zips.z.cash/zip-0215).
//!
//! Keys and signing are ed25519-dalek's; verification is ed25519-zebra's, which answers alike both ways. (dalek's strict
//! and batch verification accept different sets of signatures, which would split consensus.)

use ed25519_dalek::Signer;
pub use ed25519_dalek::SigningKey;
use ed25519_zebra::{batch, Signature, VerificationKey, VerificationKeyBytes};
use sha2::{Digest, Sha256, Sha512};

use crate::hash::Hash;

/// 32 bytes of a public key.
pub type PublicKey = [u8; 32];

/// One signature to be checked: key, message, signature.
#[derive(Debug, Clone)]
pub struct Check {
    /// The signer's key.
    pub public_key: PublicKey,
    /// The exact bytes that were signed.
    pub message: Vec<u8>,
    /// The signature.
    pub signature: [u8; 64],
}

impl Check {
    /// Names exactly this key, message and signature.
    pub fn id(&self) -> Hash {
        let mut hasher = Sha256::new();
        hasher.update(self.public_key);
        hasher.update(self.signature);
        hasher.update(&self.message);
        hasher.finalize().into()
    }

    /// Checks this one alone.
    pub fn holds(&self) -> bool {
        verify(&self.public_key, &self.message, &self.signature)
    }
}

/// Signs with dalek; the result verifies by ZIP-215.
pub fn sign(key: &SigningKey, message: &[u8]) -> [u8; 64] {
    key.sign(message).to_bytes()
}

/// ZIP-215 verification of one signature. The key is not screened: see [`screen`].
pub fn verify(public_key: &PublicKey, message: &[u8], signature: &[u8; 64]) -> bool {
    VerificationKey::try_from(*public_key)
        .is_ok_and(|key| key.verify(&Signature::from(*signature), message).is_ok())
}

/// ZIP-215 verification of many signatures at once: true when all hold.
///
/// The batch coefficients come from a hash over everything that is checked, so that nobody who chooses the signatures can
/// know them beforehand and no random source is needed.
pub fn verify_batch(checks: &[Check]) -> bool {
    if checks.len() < 2 {
        return checks.iter().all(Check::holds);
    }
    let mut transcript = Sha512::new();
    let mut verifier = batch::Verifier::new();
    for check in checks {
        transcript.update(check.public_key);
        transcript.update(check.signature);
        transcript.update((check.message.len() as u64).to_be_bytes());
        transcript.update(&check.message);
        verifier.queue((
            VerificationKeyBytes::from(check.public_key),
            Signature::from(check.signature),
            &check.message.as_slice(),
        ));
    }
    verifier
        .verify(Transcript { seed: transcript.finalize().into(), block: [0; 64], used: 64, counter: 0 })
        .is_ok()
}

/// Refuses a key that must not be registered: undecodable, not canonical, of small order or with a torsion part.
pub fn screen(public_key: &PublicKey) -> Result<(), &'static str> {
    let compressed = curve25519_dalek::edwards::CompressedEdwardsY(*public_key);
    let point = compressed.decompress().ok_or("not a point of the curve")?;
    if point.compress().0 != *public_key {
        return Err("not the canonical encoding of its point");
    }
    if point.is_small_order() {
        return Err("a point of small order");
    }
    if !point.is_torsion_free() {
        return Err("a point with a torsion part");
    }
    Ok(())
}

/// Expands the transcript hash: SHA-512 over seed and counter.
struct Transcript {
    seed: [u8; 64],
    block: [u8; 64],
    used: usize,
    counter: u64,
}

impl rand_core::RngCore for Transcript {
    fn next_u32(&mut self) -> u32 {
        let mut bytes = [0; 4];
        self.fill_bytes(&mut bytes);
        u32::from_le_bytes(bytes)
    }
    fn next_u64(&mut self) -> u64 {
        let mut bytes = [0; 8];
        self.fill_bytes(&mut bytes);
        u64::from_le_bytes(bytes)
    }
    fn fill_bytes(&mut self, dest: &mut [u8]) {
        for byte in dest {
            if self.used == 64 {
                let mut hasher = Sha512::new();
                hasher.update(self.seed);
                hasher.update(self.counter.to_be_bytes());
                self.block = hasher.finalize().into();
                self.counter += 1;
                self.used = 0;
            }
            *byte = self.block[self.used];
            self.used += 1;
        }
    }
    fn try_fill_bytes(&mut self, dest: &mut [u8]) -> Result<(), rand_core::Error> {
        self.fill_bytes(dest);
        Ok(())
    }
}

impl rand_core::CryptoRng for Transcript {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batch_and_single_agree() {
        let key = SigningKey::from_bytes(&[7; 32]);
        let mut checks: Vec<Check> = (0..5u8)
            .map(|i| Check {
                public_key: key.verifying_key().to_bytes(),
                message: vec![i; 3],
                signature: sign(&key, &[i; 3]),
            })
            .collect();
        assert!(verify_batch(&checks));
        checks[3].signature[2] ^= 1;
        assert!(!verify_batch(&checks));
        assert!(!checks[3].holds());
    }

    #[test]
    fn small_order_and_non_canonical_keys_are_screened() {
        assert!(screen(&SigningKey::from_bytes(&[1; 32]).verifying_key().to_bytes()).is_ok());
        let mut identity = [0u8; 32];
        identity[0] = 1;
        assert_eq!(screen(&identity), Err("a point of small order"));
        let mut non_canonical = [0xff; 32];
        non_canonical[0] = 0xee;
        non_canonical[31] = 0x7f;
        assert_eq!(screen(&non_canonical), Err("not the canonical encoding of its point"));
        assert!(screen(&[2; 32]).is_err());
    }
}
