//! Certificates: one authority per organization, its node's certificate, its clients'.
//!
//! gRPC's C core (Python) is the strictest reader: authority and leaves need distinct subject names, the authority key
//! usage keyCertSign, and every leaf the authority key identifier. ECDSA P-256, which every TLS library knows.

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType, PKCS_ECDSA_P256_SHA256,
};
use time::{Duration, OffsetDateTime};

use crate::exit::Failure;

/// Days that the authority's certificate holds.
const CA_DAYS: i64 = 3650;
/// Days that a leaf holds, unless told otherwise.
pub const LEAF_DAYS: u16 = 825;
/// Clocks differ: certificates hold from this many minutes ago.
const CLOCK_SLACK_MINUTES: i64 = 5;

/// A certificate with its key, both PEM.
pub struct Issued {
    /// The certificate.
    pub certificate: String,
    /// Its key, PKCS#8.
    pub key: String,
}

/// What a leaf is for.
pub struct Leaf<'a> {
    /// Subject name for people.
    pub name: &'a str,
    /// SPIFFE id: what the node goes by.
    pub id: &'a str,
    /// DNS names and IP addresses.
    pub hosts: &'a [String],
    /// Server or client.
    pub purpose: ExtendedKeyUsagePurpose,
    /// Days that it holds.
    pub days: u16,
}

/// The certificate authority of an organization.
pub struct Authority {
    chain_id: String,
    organization: String,
    issuer: Issuer<'static, KeyPair>,
}

fn failed(error: rcgen::Error) -> Failure {
    Failure::error("CERTIFICATE", format!("certificate can't be made: {error}"))
}

fn subject(params: &mut CertificateParams, chain_id: &str, organization: &str, name: &str) {
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, organization);
    params.distinguished_name.push(DnType::OrganizationalUnitName, chain_id);
    params.distinguished_name.push(DnType::CommonName, name);
}

fn validity(params: &mut CertificateParams, days: i64) {
    let now = OffsetDateTime::now_utc();
    params.not_before = now - Duration::minutes(CLOCK_SLACK_MINUTES);
    params.not_after = now + Duration::days(days);
}

/// The authority's own certificate; its name depends on chain and organization alone, so that it can be issued from later.
fn authority_params(chain_id: &str, organization: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    subject(&mut params, chain_id, organization, "certificate authority");
    validity(&mut params, CA_DAYS);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

impl Authority {
    /// A new authority and its own certificate.
    pub fn create(chain_id: &str, organization: &str) -> Result<(Self, Issued), Failure> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(failed)?;
        let params = authority_params(chain_id, organization);
        let certificate = params.self_signed(&key).map_err(failed)?.pem();
        let issued = Issued { certificate, key: key.serialize_pem() };
        Ok((Self::new(chain_id, organization, params, key), issued))
    }

    /// The authority of an initialized folder. Its key must be the one in its certificate.
    pub fn load(chain_id: &str, organization: &str, certificate: &str, key: &str) -> Result<Self, Failure> {
        let key = KeyPair::from_pem(key)
            .map_err(|e| Failure::usage("MALFORMED_KEY", format!("the certificate authority's key: {e}")))?;
        let der = certificate_der(certificate)?;
        let public = key.public_key_raw();
        if !der.windows(public.len()).any(|window| window == public) {
            return Err(Failure::error("KEY_MISMATCH", "tls/ca.key is not the key of tls/ca.pem")
                .help("put back the two files that `assent init` made together"));
        }
        Ok(Self::new(chain_id, organization, authority_params(chain_id, organization), key))
    }

    fn new(chain_id: &str, organization: &str, params: CertificateParams, key: KeyPair) -> Self {
        Self {
            chain_id: chain_id.to_owned(),
            organization: organization.to_owned(),
            issuer: Issuer::new(params, key),
        }
    }

    /// Issues a certificate with a key of its own.
    pub fn issue(&self, leaf: &Leaf) -> Result<Issued, Failure> {
        let mut params = CertificateParams::new(leaf.hosts.to_vec()).map_err(failed)?;
        params.subject_alt_names.push(SanType::URI(leaf.id.try_into().map_err(failed)?));
        subject(&mut params, &self.chain_id, &self.organization, leaf.name);
        validity(&mut params, leaf.days.into());
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![leaf.purpose.clone()];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(failed)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(failed)?.pem();
        Ok(Issued { certificate, key: key.serialize_pem() })
    }
}

/// DER of a certificate in PEM.
pub fn certificate_der(pem: &str) -> Result<Vec<u8>, Failure> {
    match pkcs8::Document::from_pem(pem.trim_start()) {
        Ok(("CERTIFICATE", der)) => Ok(der.into_vec()),
        Ok((label, _)) => {
            Err(Failure::usage("MALFORMED_CERTIFICATE", format!("PEM of {label:?}, not CERTIFICATE")))
        }
        Err(e) => Err(Failure::usage("MALFORMED_CERTIFICATE", format!("not a certificate in PEM: {e}"))),
    }
}

/// SPIFFE id of an organization's client or node.
pub fn spiffe_id(chain_id: &str, organization: &str, role: &str, name: &str) -> String {
    format!("spiffe://{chain_id}/org/{organization}/{role}/{name}")
}
