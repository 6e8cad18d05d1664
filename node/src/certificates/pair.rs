//! Whether a certificate and a key can be served together.

use std::path::Path;
use std::time::Duration;

use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, RootCertStore};
use x509_parser::prelude::{FromDer, X509Certificate};

/// Most certificates in one file.
const MAX_CHAIN: usize = 8;

/// Why a pair is not served.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// The certificate file.
    #[error("{0}")]
    Certificate(String),
    /// The key file.
    #[error("{0}")]
    Key(String),
    /// They hold, but not now.
    #[error("{reason}")]
    Time {
        /// What would be served.
        served: Box<CertifiedKey>,
        /// Which end.
        reason: String,
    },
}

impl Unusable {
    /// With the file's name.
    pub(super) fn at(self, certificate: &Path, key: &Path) -> Self {
        match self {
            Self::Certificate(why) => {
                Self::Certificate(format!("grpc.certificate: {}: {why}", certificate.display()))
            }
            Self::Key(why) => Self::Key(format!("grpc.key: {}: {why}", key.display())),
            Self::Time { served, reason } => Self::Time {
                served,
                reason: format!("grpc.certificate: {}: {reason}", certificate.display()),
            },
        }
    }
}

/// End of a certificate, in milliseconds since 1970; nothing when it does not parse.
pub fn end_ms(der: &[u8]) -> Option<u64> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    Some(u64::try_from(certificate.validity().not_after.timestamp()).ok()?.saturating_mul(1000))
}

/// The certificates of a file.
pub(super) fn chain(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Unusable> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).take(MAX_CHAIN + 1).collect();
    let certificates =
        certificates.map_err(|e| Unusable::Certificate(format!("not certificates in PEM: {e}")))?;
    match certificates.len() {
        0 => Err(Unusable::Certificate("holds no certificate in PEM".into())),
        n if n > MAX_CHAIN => Err(Unusable::Certificate(format!("more than {MAX_CHAIN} certificates"))),
        _ => Ok(certificates),
    }
}

/// Judges a pair for an organization whose authority this is.
pub(super) fn judge(
    certificate: &[u8],
    key: &[u8],
    authority: &[u8],
    now_ms: u64,
) -> Result<CertifiedKey, Unusable> {
    let provider = rustls::crypto::ring::default_provider();
    let chain = chain(certificate)?;
    let key = PrivateKeyDer::from_pem_slice(key)
        .map_err(|e| Unusable::Key(format!("not a private key in PEM (PKCS#8): {e}")))?;
    let key = provider
        .key_provider
        .load_private_key(key)
        .map_err(|e| Unusable::Key(format!("can't be used as a private key: {e}")))?;
    let served = CertifiedKey::new(chain, key);
    served.keys_match().map_err(|_| {
        Unusable::Key("is not the key of the certificate beside it: put both in place".into())
    })?;
    let wrong = |why: &str| Unusable::Certificate(why.to_owned());
    let leaf = served.end_entity_cert().map_err(|e| Unusable::Certificate(e.to_string()))?;
    let parsed = ParsedCertificate::try_from(leaf).map_err(|_| wrong("the certificate does not parse"))?;
    if authority.is_empty() {
        return Ok(served);
    }
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(authority.to_vec())).map_err(|e| {
        Unusable::Certificate(format!("the ledger: the organization's authority can't be used: {e}"))
    })?;
    let verified = verify_server_cert_signed_by_trust_anchor(
        &parsed,
        &roots,
        served.cert.get(1..).unwrap_or_default(),
        UnixTime::since_unix_epoch(Duration::from_millis(now_ms)),
        provider.signature_verification_algorithms.all,
    );
    let time = |reason: &str, served: CertifiedKey| Unusable::Time {
        served: Box::new(served),
        reason: reason.into(),
    };
    match verified {
        Ok(()) => Ok(served),
        Err(rustls::Error::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. },
        )) => Err(time("the certificate, or its authority's, has expired", served)),
        Err(rustls::Error::InvalidCertificate(
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. },
        )) => Err(time("the certificate isn't valid yet", served)),
        Err(rustls::Error::InvalidCertificate(
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. },
        )) => Err(wrong("the certificate is not for servers")),
        Err(_) => Err(wrong("the certificate was not issued by the organization's authority in genesis")),
    }
}
