//! Who calls: the identity in a client certificate, and what its role may do.
//!
//! ```text
//! certificate ─▶ one SAN URI spiffe://<chain>/org/<org>/<role>/<name> ─▶ issued by the CA that the ledger gives that <org>? ─▶ role
//! ```
//! TLS takes a certificate of any organization's CA, so that a client at the wrong node learns what is wrong. Which
//! organization a certificate may name is decided here, per request, against that one organization's CA.

use std::sync::Arc;
use std::time::Duration;

use assent_ledger::encoding::is_id;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::CertificateError;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::cas::{Cas, Verifier};
use super::known::KnownClients;
pub use super::roles::{Role, APPLICANT, CONTROL_KEY_ONLY, ROLES};
use crate::certificates::Certificates;
use crate::refusal::{Kind, Refusal};

/// Longest name of a client, in bytes.
pub const MAX_NAME_BYTES: usize = 64;

/// A client whose certificate holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    /// SPIFFE id: names the client in requests and request ids.
    pub id: String,
    /// Organization that issued the certificate.
    pub organization: String,
    /// Role.
    pub role: Role,
    /// The ledger does not know its organization: taken by the authority in this node's folder, for [`APPLICANT`] alone.
    pub applicant: bool,
}

/// Judges certificates: by one verifier per organization, with that organization's CA as its only root.
pub struct Authority {
    chain_id: String,
    organization: String,
    cas: Arc<Cas>,
    certificates: Certificates,
    known: KnownClients,
}

fn revoked() -> Refusal {
    let message = "this client certificate was revoked by its organization: ask its operator for a new one";
    Refusal::new(Kind::Unauthenticated, "CERTIFICATE_REVOKED", message)
}

fn bad(what: &str) -> Refusal {
    Refusal::new(
        Kind::Unauthenticated,
        "BAD_CLIENT_CERTIFICATE",
        format!("the client certificate {what}: issue a new one with `assent keys issue`"),
    )
}

/// Parts of a SPIFFE id of this system.
struct Name<'a> {
    chain_id: &'a str,
    organization: &'a str,
    role: &'a str,
}

fn parse_id(id: &str) -> Option<Name<'_>> {
    let parts: Vec<&str> = id.strip_prefix("spiffe://")?.split('/').collect();
    let [chain_id, "org", organization, role, name] = parts[..] else {
        return None;
    };
    let name_fits = (1..=MAX_NAME_BYTES).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
    (is_id(chain_id) && is_id(organization) && is_id(role) && name_fits).then_some(Name {
        chain_id,
        organization,
        role,
    })
}

/// The one SAN URI of a certificate, and its end in milliseconds since 1970. Other kinds of names are of no account.
fn spiffe_id(leaf: &[u8]) -> Result<(String, u64), Refusal> {
    let (rest, certificate) = X509Certificate::from_der(leaf).map_err(|_| bad("does not parse"))?;
    if !rest.is_empty() {
        return Err(bad("has bytes behind its end"));
    }
    let end_s = certificate.validity().not_after.timestamp();
    let end_ms = u64::try_from(end_s).unwrap_or_default().saturating_mul(1000);
    let names =
        certificate.subject_alternative_name().map_err(|_| bad("has a broken subject alternative name"))?;
    let names = names.map(|extension| extension.value.general_names.as_slice()).unwrap_or_default();
    let mut uris = names.iter().filter_map(|name| match name {
        GeneralName::URI(uri) => Some(*uri),
        _ => None,
    });
    match (uris.next(), uris.next()) {
        (Some(uri), None) => Ok((uri.to_owned(), end_ms)),
        (None, _) => Err(bad("names nobody: it has no SAN URI")),
        (Some(_), Some(_)) => Err(bad("has several SAN URIs, exactly one is needed")),
    }
}

impl Authority {
    /// Over the members' CA certificates, for the node of `organization`.
    pub fn new(chain_id: &str, organization: &str, cas: Arc<Cas>, certificates: Certificates) -> Self {
        let (chain_id, organization) = (chain_id.to_owned(), organization.to_owned());
        Self { chain_id, organization, cas, certificates, known: KnownClients::default() }
    }

    /// Who presents this chain of certificates, leaf first.
    pub fn identify(&self, chain: &[CertificateDer<'_>], now_ms: u64) -> Result<Client, Refusal> {
        let (leaf, intermediates) = chain.split_first().ok_or_else(|| {
            Refusal::new(
                Kind::Unauthenticated,
                "NO_CLIENT_CERTIFICATE",
                format!(
                    "this method needs a client certificate of {}: give --cert and --key",
                    self.organization
                ),
            )
        })?;
        let cas = self.cas.present();
        self.known.of_members(cas.since());
        let list = self.certificates.revoked();
        if let Some(client) = self.known.get(leaf, now_ms, &list) {
            return Ok(client);
        }
        let (id, end_ms) = spiffe_id(leaf)?;
        let name = parse_id(&id)
            .ok_or_else(|| bad("has a SAN URI that is not spiffe://<chain>/org/<org>/<role>/<name>"))?;
        if name.chain_id != self.chain_id {
            return Err(Refusal::new(
                Kind::Unauthenticated,
                "WRONG_NETWORK",
                format!(
                    "the client certificate is for the network {}, this node's is {}",
                    name.chain_id, self.chain_id
                ),
            )
            .with("network", &self.chain_id));
        }
        // Until the ledger names an authority for this organization, its own folder does, and for its operator only.
        let is_own_operator = name.organization == self.organization && name.role == Role::Operator.name();
        let applicant = cas.applicant.as_ref().filter(|_| is_own_operator);
        let verifier = cas.each.get(name.organization).or(applicant);
        check_issuer(verifier, name.organization, leaf, intermediates, now_ms)?;
        if name.organization != self.organization {
            let other = name.organization;
            return Err(Refusal::new(
                Kind::PermissionDenied,
                "FOREIGN_CLIENT",
                format!("this is the node of {}: ask the node of {other}", self.organization),
            )
            .with("organization", other));
        }
        let role = Role::ALL.into_iter().find(|role| role.name() == name.role);
        let role = role.ok_or_else(|| bad(&format!("has the role {:?}, which no client has", name.role)))?;
        let applicant = !cas.each.contains_key(name.organization);
        let client = Client { organization: name.organization.to_owned(), role, id: id.clone(), applicant };
        // Serial numbers are the authority's own: who issued it comes first.
        if list.holds(leaf) {
            return Err(revoked());
        }
        self.known.put(leaf, &client, now_ms, end_ms, &list);
        self.certificates.ends().saw(leaf, end_ms);
        Ok(client)
    }

    /// Refuses who shows a revoked certificate where none is needed: it comes from somebody else's hands.
    pub fn not_revoked(&self, chain: &[CertificateDer<'_>], now_ms: u64) -> Result<(), Refusal> {
        let list = self.certificates.revoked();
        let Some(leaf) = chain.first().filter(|_| !list.is_empty()) else { return Ok(()) };
        match self.known.get(leaf, now_ms, &list).is_none() && list.holds(leaf) {
            true => Err(revoked()),
            false => Ok(()),
        }
    }

    /// Refuses a client whose role may not call the method; `method` is `Service/Method`.
    pub fn authorize(&self, method: &str, client: &Client) -> Result<(), Refusal> {
        let roles = ROLES.iter().find(|(name, _)| *name == method).map_or(&[][..], |(_, roles)| roles);
        if client.applicant && !APPLICANT.contains(&method) {
            let message = format!(
                "{} is no member of this network as of this node's newest block: until it is, its operator may call {}",
                self.organization,
                APPLICANT.join(" and ")
            );
            return Err(Refusal::new(Kind::PermissionDenied, "NOT_A_MEMBER", message)
                .with("organization", &self.organization));
        }
        if roles.contains(&client.role) {
            return Ok(());
        }
        let needed = roles.iter().map(|role| role.name()).collect::<Vec<_>>().join(" or ");
        Err(Refusal::new(
            Kind::PermissionDenied,
            "WRONG_ROLE",
            format!("{method} needs the role {needed}, the client certificate has {}", client.role.name()),
        )
        .with("needed", needed)
        .with("role", client.role.name()))
    }
}

/// The organization that a certificate names must be the one whose CA issued it. Judged for requests, not for connections:
/// a certificate that expires ends also on a connection that stays open, and so does one whose CA was replaced.
fn check_issuer(
    verifier: Option<&Verifier>,
    organization: &str,
    leaf: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    now_ms: u64,
) -> Result<(), Refusal> {
    let other =
        |message: String| Refusal::new(Kind::Unauthenticated, "CERTIFICATE_OF_OTHER_ORGANIZATION", message);
    let Some(verifier) = verifier else {
        return Err(other(format!(
            "the client certificate names {organization}, which is no member of this network"
        )));
    };
    let now = UnixTime::since_unix_epoch(Duration::from_millis(now_ms));
    match verifier.verify_client_cert(leaf, intermediates, now) {
        Ok(_) => Ok(()),
        Err(rustls::Error::InvalidCertificate(
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. },
        )) => Err(bad("has expired or isn't valid yet")),
        Err(rustls::Error::InvalidCertificate(
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. },
        )) => Err(bad("is not for clients")),
        Err(_) => Err(other(format!(
            "the client certificate names {organization}, but the certificate authority of {organization} did not issue it"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grpc::cas::Own;
    use crate::members::Members;
    use assent_proto::ledger::v1::{Membership, Organization};
    use rcgen::string::Ia5String;
    use rcgen::{
        BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair, SanType,
    };

    type Ca = CertifiedIssuer<'static, KeyPair>;

    fn ca() -> Ca {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // Both have the same distinguished name: only the key tells them apart.
        CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    }

    fn leaf(ca: &Ca, uris: &[&str]) -> CertificateDer<'static> {
        leaf_until(ca, uris, 2040)
    }

    fn leaf_until(ca: &Ca, uris: &[&str], year: i32) -> CertificateDer<'static> {
        let mut params = CertificateParams::default();
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let uri = |uri: &&str| SanType::URI(Ia5String::try_from(*uri).unwrap());
        params.subject_alt_names = uris.iter().map(uri).collect();
        params.signed_by(&KeyPair::generate().unwrap(), ca).unwrap().der().clone()
    }

    struct World {
        cedar: Ca,
        birch: Ca,
        members: Members,
        authority: Authority,
        certificates: Certificates,
        folder: tempfile::TempDir,
    }

    fn membership(cas: &[(&str, &Ca)]) -> Membership {
        let organization = |(id, ca): &(&str, &Ca)| Organization {
            id: (*id).into(),
            ca_certificate: ca.der().to_vec(),
            ..Default::default()
        };
        Membership { organizations: cas.iter().map(organization).collect(), ..Default::default() }
    }

    fn world_authority(members: &Members, folder: Option<&Ca>, certificates: &Certificates) -> Authority {
        let own = Own { organization: "cedar".into(), authority: folder.map(|ca| ca.der().clone()) };
        Authority::new("net-1", "cedar", Cas::new(members.clone(), own), certificates.clone())
    }

    fn world() -> World {
        let (cedar, birch) = (ca(), ca());
        let members = Members::new(membership(&[("cedar", &cedar), ("birch", &birch)]), 0);
        let folder = tempfile::tempdir().unwrap();
        let certificates = crate::certificates::tests::opened(folder.path(), &cedar);
        let authority = world_authority(&members, None, &certificates);
        World { cedar, birch, members, authority, certificates, folder }
    }

    /// 2026-01-01.
    const NOW_MS: u64 = 1_767_225_600_000;

    impl World {
        fn reason(&self, leaf: CertificateDer<'_>) -> &'static str {
            self.authority.identify(&[leaf], NOW_MS).unwrap_err().reason
        }
    }

    #[test]
    fn a_good_certificate_names_its_client() {
        let world = world();
        let id = "spiffe://net-1/org/cedar/crm/frontdesk";
        let client = world.authority.identify(&[leaf(&world.cedar, &[id])], NOW_MS).unwrap();
        let organization = "cedar".into();
        assert_eq!(client, Client { id: id.into(), organization, role: Role::Crm, applicant: false });
        assert!(world.authority.authorize("DecisionService/CheckConsent", &client).is_ok());
        let refusal = world.authority.authorize("PolicyService/SetPolicy", &client).unwrap_err();
        assert_eq!((refusal.reason, refusal.metadata["needed"].as_str()), ("WRONG_ROLE", "officer"));
        assert_eq!(
            world.authority.authorize("NoService/NoMethod", &client).unwrap_err().reason,
            "WRONG_ROLE"
        );
    }

    #[test]
    fn each_fault_has_its_reason() {
        let world = world();
        let good = "spiffe://net-1/org/cedar/crm/a";
        let refusal = world.authority.identify(&[], NOW_MS).unwrap_err();
        assert_eq!(refusal.reason, "NO_CLIENT_CERTIFICATE");
        assert_eq!(world.reason(leaf(&world.cedar, &[])), "BAD_CLIENT_CERTIFICATE");
        assert_eq!(
            world.reason(leaf(&world.cedar, &[good, "spiffe://net-1/org/cedar/ehr/a"])),
            "BAD_CLIENT_CERTIFICATE"
        );
        assert_eq!(world.reason(CertificateDer::from(vec![0x30, 0])), "BAD_CLIENT_CERTIFICATE");
        for bad in [
            "https://net-1/org/cedar/crm/a",
            "spiffe://net-1/org/cedar/crm",
            "spiffe://net-1/org/cedar/crm/",
            "spiffe://net-1/org/cedar/crm/a/b",
            "spiffe://net-1/cedar/crm/a/b",
            "spiffe://NET/org/cedar/crm/a",
            "spiffe://net-1/org/cedar/crm/a%2fb",
            "spiffe://net-1/org/cedar/node/cedar",
            "spiffe://net-1/org/cedar/root/a",
        ] {
            assert_eq!(world.reason(leaf(&world.cedar, &[bad])), "BAD_CLIENT_CERTIFICATE", "{bad}");
        }
        assert_eq!(world.reason(leaf(&world.cedar, &["spiffe://net-2/org/cedar/crm/a"])), "WRONG_NETWORK");
        assert_eq!(world.reason(leaf(&world.birch, &["spiffe://net-1/org/birch/crm/a"])), "FOREIGN_CLIENT");
        assert_eq!(world.reason(leaf_until(&world.cedar, &[good], 2025)), "BAD_CLIENT_CERTIFICATE");
    }

    #[test]
    fn a_known_client_is_refused_from_its_certificates_end_on() {
        let world = world();
        let chain = [leaf_until(&world.cedar, &["spiffe://net-1/org/cedar/crm/a"], 2026)];
        for _ in 0..2 {
            world.authority.identify(&chain, NOW_MS - 1_000).unwrap();
        }
        let refusal = world.authority.identify(&chain, NOW_MS + 1_000).unwrap_err();
        assert_eq!(refusal.reason, "BAD_CLIENT_CERTIFICATE");
    }

    #[test]
    fn a_revoked_client_is_refused_also_when_it_is_known_and_where_no_certificate_is_needed() {
        let world = world();
        let chain = [leaf(&world.cedar, &["spiffe://net-1/org/cedar/crm/a"])];
        let other = [leaf(&world.cedar, &["spiffe://net-1/org/cedar/crm/b"])];
        world.authority.identify(&chain, NOW_MS).unwrap();
        world.authority.not_revoked(&chain, NOW_MS).unwrap();
        let list = |text: String| {
            std::fs::write(world.folder.path().join("revoked"), text).unwrap();
            world.certificates.look(true);
        };
        list(hex::encode(crate::certificates::fingerprint(&chain[0])));
        for refused in [
            world.authority.identify(&chain, NOW_MS).err(),
            world.authority.not_revoked(&chain, NOW_MS).err(),
        ] {
            let refused = refused.unwrap();
            assert_eq!((refused.kind, refused.reason), (Kind::Unauthenticated, "CERTIFICATE_REVOKED"));
        }
        world.authority.identify(&other, NOW_MS).unwrap();
        world.authority.not_revoked(&other, NOW_MS).unwrap();
        list(String::new());
        world.authority.identify(&chain, NOW_MS).unwrap();
    }

    #[test]
    fn a_ca_speaks_for_its_own_organization_only() {
        let world = world();
        for (ca, uri) in [
            (&world.birch, "spiffe://net-1/org/cedar/crm/a"),
            (&world.cedar, "spiffe://net-1/org/birch/crm/a"),
            (&world.cedar, "spiffe://net-1/org/elm/crm/a"),
            (&ca(), "spiffe://net-1/org/cedar/crm/a"),
        ] {
            assert_eq!(world.reason(leaf(ca, &[uri])), "CERTIFICATE_OF_OTHER_ORGANIZATION", "{uri}");
        }
    }

    #[test]
    fn authorities_are_those_of_the_newest_block() {
        let world = world();
        let id = "spiffe://net-1/org/cedar/crm/a";
        let before = [leaf(&world.cedar, &[id])];
        world.authority.identify(&before, NOW_MS).unwrap();
        // A new authority: its clients are taken at once, those of the old one refused, remembered or not.
        let new = ca();
        let mut changed = membership(&[("cedar", &new)]);
        changed.organizations.push(Organization {
            id: "elm".into(),
            ca_certificate: vec![1],
            ..Default::default()
        });
        world.members.replace(changed, 9);
        assert_eq!(world.reason(before[0].clone()), "CERTIFICATE_OF_OTHER_ORGANIZATION");
        world.authority.identify(&[leaf(&new, &[id])], NOW_MS).unwrap();
        // Birch is gone, and what the ledger has for elm is no certificate.
        assert_eq!(
            world.reason(leaf(&world.birch, &["spiffe://net-1/org/birch/crm/a"])),
            "CERTIFICATE_OF_OTHER_ORGANIZATION"
        );
        assert_eq!(
            world.reason(leaf(&ca(), &["spiffe://net-1/org/elm/crm/a"])),
            "CERTIFICATE_OF_OTHER_ORGANIZATION"
        );
    }

    /// Every role, every method, before, while and after the ledger knows the organization.
    #[test]
    fn an_applicants_operator_alone_is_taken_by_the_folders_authority_and_for_two_methods() {
        let world = world();
        let id = |role: Role| format!("spiffe://net-1/org/cedar/{}/a", role.name());
        let taken = |authority: &Authority, ca: &Ca, role| {
            authority.identify(&[leaf(ca, &[&id(role)])], NOW_MS).map_err(|refusal| refusal.reason)
        };
        let other = Err("CERTIFICATE_OF_OTHER_ORGANIZATION");
        // The ledger knows it: what lies in the folder counts for nothing.
        let folder = ca();
        let authority = world_authority(&world.members, Some(&folder), &world.certificates);
        for role in Role::ALL {
            assert_eq!(taken(&authority, &folder, role), other, "{role:?}");
            assert!(!taken(&authority, &world.cedar, role).unwrap().applicant, "{role:?}");
        }
        // It does not.
        world.members.replace(membership(&[("birch", &world.birch)]), 5);
        for role in Role::ALL {
            let client = taken(&authority, &folder, role);
            if role != Role::Operator {
                assert_eq!(client, other, "{role:?}");
                continue;
            }
            let client = client.unwrap();
            for (method, _) in ROLES {
                let allowed = authority.authorize(method, &client).map_err(|refusal| refusal.reason);
                let wanted = if APPLICANT.contains(method) { Ok(()) } else { Err("NOT_A_MEMBER") };
                assert_eq!(allowed, wanted, "{method}");
            }
        }
        assert!(APPLICANT.iter().all(|method| ROLES.iter().any(|(name, _)| name == method)));
        // Another's authority, one of the ledger's of before, and no file at all.
        assert_eq!(taken(&authority, &world.birch, Role::Operator), other);
        assert_eq!(taken(&authority, &world.cedar, Role::Operator), other);
        let without = world_authority(&world.members, None, &world.certificates);
        assert_eq!(taken(&without, &folder, Role::Operator), other);
        // Another organization's operator is none of this node's, whoever issued the certificate.
        for by in [&folder, &world.birch] {
            let birchs = leaf(by, &["spiffe://net-1/org/birch/operator/a"]);
            assert!(authority.identify(&[birchs], NOW_MS).is_err());
        }
        // An authority on the ledger that can't be used is no reason to fall back on the folder's.
        let mut broken = membership(&[("cedar", &world.cedar), ("birch", &world.birch)]);
        broken.organizations[0].ca_certificate = vec![1];
        world.members.replace(broken, 6);
        assert_eq!(taken(&authority, &folder, Role::Operator), other);
    }

    #[test]
    fn a_changed_certificate_does_not_hold() {
        let world = world();
        let mut der = leaf(&world.cedar, &["spiffe://net-1/org/cedar/crm/a"]).to_vec();
        let at = der.windows(5).position(|w| w == b"crm/a").unwrap();
        der[at..at + 5].copy_from_slice(b"ehr/a");
        assert_eq!(world.reason(CertificateDer::from(der)), "CERTIFICATE_OF_OTHER_ORGANIZATION");
    }
}
