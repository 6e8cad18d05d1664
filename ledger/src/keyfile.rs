//! Key files: PKCS#8 version 1 in PEM, as `openssl genpkey -algorithm ed25519` writes and `openssl pkey` reads.

use ed25519_dalek::pkcs8::{spki::der::pem::LineEnding, DecodePrivateKey, EncodePrivateKey, KeypairBytes};
use ed25519_dalek::SigningKey;

/// Why a key file can't be used. Says nothing of its content.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an Ed25519 key in PKCS#8 PEM: {0}")]
pub struct KeyFileError(String);

/// PEM text of a key. Version 1, without the public key: OpenSSL 3.0 refuses version 2.
pub fn to_pem(key: &SigningKey) -> Result<String, KeyFileError> {
    let bytes = KeypairBytes { secret_key: key.to_bytes(), public_key: None };
    let pem = bytes.to_pkcs8_pem(LineEnding::LF).map_err(|e| KeyFileError(e.to_string()))?;
    Ok(pem.as_str().to_owned())
}

/// Key of a PEM text.
pub fn from_pem(text: &str) -> Result<SigningKey, KeyFileError> {
    SigningKey::from_pkcs8_pem(text).map_err(|e| KeyFileError(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip_and_openssl_form() {
        let key = SigningKey::from_bytes(&[9; 32]);
        let pem = to_pem(&key).unwrap();
        // RFC 8410: SEQUENCE { version 0, AlgorithmIdentifier id-Ed25519, OCTET STRING { OCTET STRING (32) } }.
        assert!(pem.starts_with("-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEI"));
        assert_eq!(from_pem(&pem).unwrap().to_bytes(), key.to_bytes());
        assert!(from_pem("nonsense").is_err());
    }
}
