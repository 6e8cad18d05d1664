//! The members' certificate authorities, as the ledger has them now: for connections, and for each call. While the ledger does not
//! know this node's organization, the authority in its own folder too, for its operator alone.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use assent_proto::ledger::v1::Organization;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::WebPkiClientVerifier;
use rustls::{DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme};

use crate::members::{Members, Present};

/// Judges client certificates of one authority, or of several.
pub type Verifier = Arc<dyn ClientCertVerifier>;

/// This node's own organization, and its authority as its folder has it.
#[derive(Debug, Clone)]
pub struct Own {
    /// Id of the organization.
    pub organization: String,
    /// Its authority; none when there is no file.
    pub authority: Option<CertificateDer<'static>>,
}

/// Verifiers over the authorities of one membership.
pub struct Built {
    of: Arc<Present>,
    /// By organization: with its authority as the only root.
    pub each: BTreeMap<String, Verifier>,
    /// While the ledger does not know this node's organization: over the authority in its folder.
    pub applicant: Option<Verifier>,
    /// Over all of them; none when none can be used.
    all: Option<Verifier>,
}

/// The authorities. Verifiers are made anew when the membership has changed since the last look.
pub struct Cas {
    members: Members,
    own: Own,
    provider: Arc<CryptoProvider>,
    built: RwLock<Arc<Built>>,
}

impl Built {
    /// Block that made this membership.
    pub fn since(&self) -> u64 {
        self.of.since
    }
}

impl Cas {
    /// Of these members.
    pub fn new(members: Members, own: Own) -> Arc<Self> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let built = build(&members.present(), &own, &provider);
        Arc::new(Self { members, own, provider, built: RwLock::new(Arc::new(built)) })
    }

    /// Over the present members.
    pub fn present(&self) -> Arc<Built> {
        let present = self.members.present();
        let built = self.built.read().unwrap_or_else(PoisonError::into_inner).clone();
        if Arc::ptr_eq(&built.of, &present) {
            return built;
        }
        let built = Arc::new(build(&present, &self.own, &self.provider));
        *self.built.write().unwrap_or_else(PoisonError::into_inner) = built.clone();
        built
    }

    fn all(&self) -> Result<Verifier, Error> {
        self.present()
            .all
            .clone()
            .ok_or_else(|| Error::General("no authority on the ledger can be used".into()))
    }
}

/// One that can't be used is left out, and the log says so: its organization's clients are refused, nobody else's.
fn build(present: &Arc<Present>, own: &Own, provider: &Arc<CryptoProvider>) -> Built {
    let over = |roots: RootCertStore| {
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build()
    };
    let mut everybody = RootCertStore::empty();
    let mut verifier = |organization: &str, der: CertificateDer<'static>, whose: &str| -> Option<Verifier> {
        let unusable = |error: &dyn fmt::Display| {
            tracing::error!(%organization, %error, "a CA certificate {whose} can't be used");
        };
        let mut roots = RootCertStore::empty();
        roots.add(der.clone()).map_err(|error| unusable(&error)).ok()?;
        let verifier = over(roots).map_err(|error| unusable(&error)).ok()?;
        // Taken before, so it is taken here.
        let _ = everybody.add(der);
        Some(verifier)
    };
    let mut each = BTreeMap::new();
    for Organization { id, ca_certificate, .. } in &present.membership.organizations {
        if let Some(of) = verifier(id, ca_certificate.clone().into(), "of the ledger") {
            each.insert(id.clone(), of);
        }
    }
    let is_stranger = present.organization(&own.organization).is_none();
    let authority = own.authority.clone().filter(|_| is_stranger);
    let applicant = authority.and_then(|der| verifier(&own.organization, der, "of this node's folder"));
    Built { of: present.clone(), each, applicant, all: over(everybody).ok() }
}

impl fmt::Debug for Cas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cas").finish_non_exhaustive()
    }
}

/// For connections: a certificate of any member's authority is taken, and so is none.
impl ClientCertVerifier for Cas {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    // A hint would have to live as long as this; clients send the one certificate that they have.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.all()?.verify_client_cert(leaf, intermediates, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.all()?.verify_tls12_signature(message, leaf, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.all()?.verify_tls13_signature(message, leaf, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
