//! The list of clients' certificates that count no longer.
//!
//! ```text
//! # lost notebook, 2026-03-01                                    a comment, also behind an entry
//! 3f9a…c2                                                        SHA-256 of the certificate (DER): 64 hex digits
//! 0a:17:…:9b                                                     or its serial number: up to 40
//! ```

use std::collections::BTreeSet;

use rustls::pki_types::CertificateDer;
use sha2::{Digest, Sha256};
use x509_parser::prelude::{FromDer, X509Certificate};

/// Most certificates on the list.
pub const MAX_REVOKED: usize = 65_536;
/// Longest serial number, in bytes (RFC 5280), with the zero in front of a high bit.
const MAX_SERIAL_BYTES: usize = 21;

/// Which line is wrong, and how.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// One line.
    #[error("line {line} is neither a SHA-256 fingerprint (64 hex digits) nor a serial number (up to 40)")]
    Line {
        /// From 1. What stands there may name a client: it gets into no log.
        line: usize,
    },
    /// All of them.
    #[error("line {line}: more than {MAX_REVOKED} certificates: reissue the authority's clients instead")]
    TooMany {
        /// From 1.
        line: usize,
    },
}

/// Revoked certificates.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Revoked {
    fingerprints: BTreeSet<[u8; 32]>,
    /// Without zeros in front.
    serials: BTreeSet<Vec<u8>>,
}

/// SHA-256 of a certificate.
pub fn fingerprint(der: &[u8]) -> [u8; 32] {
    Sha256::digest(der).into()
}

fn without_zeros(serial: &[u8]) -> &[u8] {
    let first = serial.iter().position(|byte| *byte != 0).unwrap_or(serial.len());
    &serial[first..]
}

/// Hex digits, with colons between bytes or without; an odd digit in front stands for a byte of its own.
fn bytes(text: &str) -> Option<Vec<u8>> {
    let digits = match text.contains(':') {
        true if text.split(':').all(|byte| byte.len() == 2) => text.replace(':', ""),
        true => return None,
        false if text.len() % 2 == 1 => format!("0{text}"),
        false => text.to_owned(),
    };
    hex::decode(digits).ok().filter(|bytes| !bytes.is_empty())
}

impl Revoked {
    /// Reads a list. One wrong line, and none of it counts.
    pub fn parse(text: &[u8]) -> Result<Self, Malformed> {
        let mut list = Self::default();
        for (n, line) in text.split(|byte| *byte == b'\n').enumerate() {
            let line_number = n + 1;
            let malformed = || Malformed::Line { line: line_number };
            let words = std::str::from_utf8(line).map_err(|_| malformed())?;
            let words = words.split('#').next().unwrap_or_default().trim();
            if words.is_empty() {
                continue;
            }
            let found = bytes(words).ok_or_else(malformed)?;
            match <[u8; 32]>::try_from(found.as_slice()) {
                Ok(fingerprint) => drop(list.fingerprints.insert(fingerprint)),
                Err(_) if found.len() <= MAX_SERIAL_BYTES => {
                    list.serials.insert(without_zeros(&found).to_vec());
                }
                Err(_) => return Err(malformed()),
            }
            if list.len() > MAX_REVOKED {
                return Err(Malformed::TooMany { line: line_number });
            }
        }
        Ok(list)
    }

    /// Certificates on it.
    pub fn len(&self) -> usize {
        self.fingerprints.len() + self.serials.len()
    }

    /// True when nobody is revoked.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// True when this certificate is on the list. Serial numbers are an authority's own: only leaves of the organization's
    /// authority get as far as to be asked about.
    pub fn holds(&self, leaf: &CertificateDer<'_>) -> bool {
        if self.is_empty() {
            return false;
        }
        if self.fingerprints.contains(&fingerprint(leaf)) {
            return true;
        }
        let parsed = || X509Certificate::from_der(leaf).ok();
        !self.serials.is_empty()
            && parsed()
                .is_some_and(|(_, c)| self.serials.contains(without_zeros(c.tbs_certificate.raw_serial())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_read_whole_or_not_at_all() {
        let good = format!("# lost\n\n  {}  # ada\r\n0A:17\n1ff\n", "AB".repeat(32));
        let list = Revoked::parse(good.as_bytes()).unwrap();
        assert_eq!((list.len(), list.fingerprints.len()), (3, 1));
        assert!(list.serials.contains(&vec![0x0a, 0x17]) && list.serials.contains(&vec![1, 0xff]));
        assert!(Revoked::parse(b"").unwrap().is_empty());
        for (line, bad) in [
            (1, "zz".to_owned()),
            (2, "# fine\n0a 17".to_owned()),
            (3, format!("01\n02\n{}", "ab".repeat(33))),
            (1, "ab".repeat(31)),
            (1, "0a:1".to_owned()),
            (2, "01\n:".to_owned()),
            (1, "crm-frontdesk".to_owned()),
        ] {
            let error = Revoked::parse(bad.as_bytes()).unwrap_err();
            assert!(matches!(error, Malformed::Line { line: found } if found == line), "{bad}: {error}");
        }
        assert!(Revoked::parse(b"01\n\xff\n").unwrap_err().to_string().contains("line 2"));
        let many: String = (0..=MAX_REVOKED).map(|n| format!("{n:x}1\n")).collect();
        assert!(matches!(Revoked::parse(many.as_bytes()), Err(Malformed::TooMany { .. })));
    }

    #[test]
    fn a_certificate_is_found_by_either_name() {
        let mut params = rcgen::CertificateParams::default();
        params.serial_number = Some(rcgen::SerialNumber::from(vec![0x0a, 0x17, 0xff]));
        let leaf = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().der().clone();
        let holds = |text: String| Revoked::parse(text.as_bytes()).unwrap().holds(&leaf);
        assert!(holds(hex::encode(fingerprint(&leaf))));
        for serial in ["0a17ff", "A17FF", "0A:17:FF", "000a17ff"] {
            assert!(holds(serial.to_owned()), "{serial}");
        }
        assert!(!holds(String::new()) && !holds("0a17".into()) && !holds(hex::encode([7; 32])));
    }
}
