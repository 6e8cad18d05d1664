//! The node's certificate, its clients' and the list of those that are revoked: read again while the node runs.
//!
//! ```text
//! tls/node.pem, node.key ─▶ fit, of the own authority, not expired? ─▶ served to new connections     no: the old one stays,
//! tls/revoked            ─▶ every line understood? ─▶ judged at each call                             `certificate-refused`
//! ends of the node's, the authority's, the clients' ─▶ from 30 days before: WARN once a day, metric, status
//! ```
//! Files are looked at every two seconds and at SIGHUP, and judged once they were the same at two looks: whoever replaces a
//! certificate and its key does it one after the other.

mod ends;
mod pair;
mod revoked;

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::RootCertStore;
use tokio::signal::unix::{signal, SignalKind};
use tokio_util::sync::CancellationToken;

use crate::chain::now_ms;
use crate::config::ConfigError;
pub use ends::{End, Ends, WARN_MS};
pub use pair::{end_ms, Unusable};
pub use revoked::{fingerprint, Revoked};

/// Longest certificate, key or list, in bytes.
pub const MAX_FILE_BYTES: u64 = 4 << 20;
/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(2);
/// How often ends are judged: a warning comes once a day.
const JUDGE_ENDS: Duration = Duration::from_secs(60);

/// Which files, and whose authority must have issued the node's certificate.
#[derive(Debug, Clone)]
pub struct Files {
    /// The node's certificate, and intermediates if any: PEM.
    pub certificate: PathBuf,
    /// Its key: PEM.
    pub key: PathBuf,
    /// Revoked clients' certificates, one a line; no file is an empty list.
    pub revoked: PathBuf,
    /// The organization's authority, DER; empty while it is not known, and then the issuer isn't judged.
    pub authority: Authority,
}

/// The organization's authority, as the ledger has it now. All clones see the same.
#[derive(Debug, Clone, Default)]
pub struct Authority(Arc<RwLock<Vec<u8>>>);

impl From<Vec<u8>> for Authority {
    fn from(der: Vec<u8>) -> Self {
        Self(Arc::new(RwLock::new(der)))
    }
}

impl Authority {
    fn der(&self) -> Vec<u8> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Content of the files at one look.
#[derive(Clone, PartialEq, Eq)]
struct Look {
    pair: Result<(Vec<u8>, Vec<u8>), String>,
    revoked: Result<Option<Vec<u8>>, String>,
}

#[derive(Default)]
struct Seen {
    last: Option<Look>,
    /// What was judged last: it is judged once, however long it lies there.
    judged: Option<Look>,
}

struct Inner {
    files: Files,
    served: RwLock<Arc<CertifiedKey>>,
    revoked: RwLock<Arc<Revoked>>,
    seen: Mutex<Seen>,
    /// Refused by now: the pair, the list.
    refused: Mutex<(bool, bool)>,
    ends: Ends,
}

/// What is served and who is revoked, now. Cheap to clone.
#[derive(Clone)]
pub struct Certificates(Arc<Inner>);

impl std::fmt::Debug for Certificates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Certificates")
    }
}

fn read(key: &str, path: &Path) -> Result<Vec<u8>, String> {
    let named = |e: std::io::Error| format!("{key}: {}: {e}", path.display());
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(named)?;
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(named)?;
    match bytes.len() as u64 > MAX_FILE_BYTES {
        true => Err(format!("{key}: {}: longer than {MAX_FILE_BYTES} bytes", path.display())),
        false => Ok(bytes),
    }
}

/// The one authority in a file; none when there is no file.
pub fn authority(path: &Path) -> Result<Option<CertificateDer<'static>>, ConfigError> {
    if matches!(path.try_exists(), Ok(false)) {
        return Ok(None);
    }
    let named = |why: String| ConfigError(format!("grpc.authority: {}: {why}", path.display()));
    let bytes = read("grpc.authority", path).map_err(ConfigError)?;
    match pair::chain(&bytes).map_err(|e| named(e.to_string()))?.as_slice() {
        [only] => {
            let usable = RootCertStore::empty().add(only.clone());
            usable.map_err(|e| named(format!("not a certificate that can be an authority: {e}")))?;
            Ok(Some(only.clone()))
        }
        several => Err(named(format!("holds {} certificates, not one", several.len()))),
    }
}

impl Files {
    fn look(&self) -> Look {
        let pair = read("grpc.certificate", &self.certificate)
            .and_then(|certificate| read("grpc.key", &self.key).map(|key| (certificate, key)));
        let revoked = match self.revoked.try_exists() {
            Ok(false) => Ok(None),
            _ => read("grpc.revoked", &self.revoked).map(Some),
        };
        Look { pair, revoked }
    }

    fn pair(&self, certificate: &[u8], key: &[u8]) -> Result<CertifiedKey, Unusable> {
        pair::judge(certificate, key, &self.authority.der(), now_ms())
            .map_err(|e| e.at(&self.certificate, &self.key))
    }

    fn list(&self, text: &[u8]) -> Result<Revoked, String> {
        Revoked::parse(text).map_err(|e| format!("grpc.revoked: {}: {e}", self.revoked.display()))
    }
}

impl Certificates {
    /// The ledger names this authority: pairs are judged by it from now on. Whether the pair that is served was issued by it.
    pub fn set_authority(&self, der: &[u8]) -> Result<(), ConfigError> {
        *self.0.files.authority.0.write().unwrap_or_else(PoisonError::into_inner) = der.to_vec();
        let (certificate, key) = self.0.files.look().pair.map_err(ConfigError)?;
        match self.0.files.pair(&certificate, &key) {
            Ok(_) | Err(Unusable::Time { .. }) => {}
            Err(unusable) => return Err(ConfigError(unusable.to_string())),
        }
        Ok(())
    }

    /// Reads everything. A pair that does not fit, or that the organization's authority did not issue, and a malformed list are
    /// errors. One that has expired, or isn't valid yet, is served: clients say so, and the node goes on voting.
    pub fn open(files: Files) -> Result<Self, ConfigError> {
        let look = files.look();
        let (certificate, key) = look.pair.clone().map_err(ConfigError)?;
        let (served, late) = match files.pair(&certificate, &key) {
            Ok(served) => (served, None),
            Err(Unusable::Time { served, reason }) => (*served, Some(reason)),
            Err(unusable) => return Err(ConfigError(unusable.to_string())),
        };
        let list = look.revoked.clone().map_err(ConfigError)?;
        let revoked =
            list.map_or_else(|| Ok(Revoked::default()), |text| files.list(&text)).map_err(ConfigError)?;
        let ends = Ends::default();
        ends.own(&served, &files.authority.der());
        if let Some(reason) = &late {
            tracing::error!(
                alarm = "certificate-refused",
                "served all the same, as there is no better: {reason}"
            );
        }
        Ok(Self(Arc::new(Inner {
            files,
            served: RwLock::new(Arc::new(served)),
            revoked: RwLock::new(Arc::new(revoked)),
            seen: Mutex::new(Seen { last: Some(look.clone()), judged: Some(look) }),
            refused: Mutex::new((late.is_some(), false)),
            ends,
        })))
    }

    /// Who is revoked now.
    pub fn revoked(&self) -> Arc<Revoked> {
        self.0.revoked.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// When certificates end.
    pub fn ends(&self) -> &Ends {
        &self.0.ends
    }

    /// Whether the files that lie there now are not those that count: the pair, the list.
    pub fn refused(&self) -> (bool, bool) {
        *self.0.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at the files, and takes what has changed and was the same at the last look; at once when `asked`.
    pub fn look(&self, asked: bool) {
        let look = self.0.files.look();
        let before = {
            let mut seen = self.0.seen.lock().unwrap_or_else(PoisonError::into_inner);
            let settled = asked || seen.last.as_ref() == Some(&look);
            seen.last = Some(look.clone());
            if !settled {
                return;
            }
            if !asked && seen.judged.as_ref() == Some(&look) {
                drop(seen);
                return self.time_has_come(&look);
            }
            seen.judged.replace(look.clone())
        };
        let changed =
            |same: fn(&Look, &Look) -> bool| asked || before.as_ref().is_none_or(|b| !same(b, &look));
        if changed(|a, b| a.pair == b.pair) {
            let outcome = self.take_pair(&look);
            self.0.refused.lock().unwrap_or_else(PoisonError::into_inner).0 = refused("certificate", outcome);
        }
        if changed(|a, b| a.revoked == b.revoked) {
            let outcome = self.take_list(&look);
            self.0.refused.lock().unwrap_or_else(PoisonError::into_inner).1 = refused("revoked", outcome);
        }
    }

    /// One that wasn't valid yet may be now.
    fn time_has_come(&self, look: &Look) {
        if self.refused().0 && self.take_pair(look).is_ok() {
            self.0.refused.lock().unwrap_or_else(PoisonError::into_inner).0 = false;
        }
    }

    fn take_pair(&self, look: &Look) -> Result<(), String> {
        let (certificate, key) = look.pair.clone()?;
        let served = self.0.files.pair(&certificate, &key).map_err(|e| e.to_string())?;
        self.0.ends.own(&served, &self.0.files.authority.der());
        let before = std::mem::replace(
            &mut *self.0.served.write().unwrap_or_else(PoisonError::into_inner),
            Arc::new(served),
        );
        if before.cert != self.served().cert {
            tracing::info!("new connections get the certificate that was put in place");
        }
        Ok(())
    }

    fn take_list(&self, look: &Look) -> Result<(), String> {
        let path = self.0.files.revoked.display();
        let list = match look.revoked.clone()? {
            Some(text) => self.0.files.list(&text)?,
            None if self.revoked().is_empty() => Revoked::default(),
            // Whoever wants everybody back says so with an empty file.
            None => return Err(format!("{path}: the file is gone; an empty one revokes nobody")),
        };
        tracing::info!(certificates = list.len(), "the list of revoked certificates counts from now on");
        *self.0.revoked.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(list);
        Ok(())
    }

    fn served(&self) -> Arc<CertifiedKey> {
        self.0.served.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Looks every two seconds, and at SIGHUP, until the shutdown; warns of ends.
    pub async fn follow(self, shutdown: CancellationToken) {
        let mut hangup = match signal(SignalKind::hangup()) {
            Ok(hangup) => hangup,
            Err(error) => return tracing::error!(%error, "certificates are not followed"),
        };
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut ends = tokio::time::interval(JUDGE_ENDS);
        loop {
            let asked = tokio::select! {
                () = shutdown.cancelled() => return,
                _ = ends.tick() => {
                    self.ends().warn(now_ms());
                    continue;
                }
                _ = looks.tick() => false,
                _ = hangup.recv() => true,
            };
            tokio::task::block_in_place(|| self.look(asked));
        }
    }
}

/// Says why a file is kept out; true when it is.
fn refused(which: &str, outcome: Result<(), String>) -> bool {
    let Err(reason) = outcome else { return false };
    tracing::error!(alarm = "certificate-refused", which, "the one before stays: {reason}");
    true
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.served())
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use rcgen::{CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, KeyPair};
    use time::{Duration, OffsetDateTime};

    type Ca = CertifiedIssuer<'static, KeyPair>;

    fn authority() -> Ca {
        let mut params = CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    }

    /// A pair that ends in so many days.
    fn pair(ca: &Ca, days: i64) -> (String, String) {
        let mut params = CertificateParams::default();
        params.not_before = OffsetDateTime::now_utc() - Duration::days(60);
        params.not_after = OffsetDateTime::now_utc() + Duration::days(days);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, ca).unwrap().pem(), key.serialize_pem())
    }

    fn put(folder: &Path, (certificate, key): &(String, String)) {
        std::fs::write(folder.join("node.pem"), certificate).unwrap();
        std::fs::write(folder.join("node.key"), key).unwrap();
    }

    fn files(folder: &Path, ca: &Ca) -> Files {
        Files {
            certificate: folder.join("node.pem"),
            key: folder.join("node.key"),
            revoked: folder.join("revoked"),
            authority: ca.der().to_vec().into(),
        }
    }

    /// With a pair by this authority, which is made in a folder.
    pub fn opened(folder: &Path, ca: &Ca) -> Certificates {
        put(folder, &pair(ca, 90));
        Certificates::open(files(folder, ca)).unwrap()
    }

    fn leaf(certificates: &Certificates) -> Vec<u8> {
        certificates.served().cert[0].to_vec()
    }

    #[test]
    fn a_pair_that_fits_is_taken_once_it_lies_still() {
        let (folder, ca) = (tempfile::tempdir().unwrap(), authority());
        let certificates = opened(folder.path(), &ca);
        let first = leaf(&certificates);
        let next = pair(&ca, 400);
        std::fs::write(folder.path().join("node.pem"), &next.0).unwrap();
        certificates.look(false);
        // Half of it is there at one look: nobody is alarmed.
        assert_eq!((leaf(&certificates), certificates.refused()), (first.clone(), (false, false)));
        put(folder.path(), &next);
        certificates.look(false);
        assert_eq!(leaf(&certificates), first);
        certificates.look(false);
        assert_ne!(leaf(&certificates), first);
        let end = certificates.ends().list(now_ms()).into_iter().find(|end| end.which == "node").unwrap();
        assert!((end.end_ms - now_ms()).abs_diff(400 * 24 * 3_600_000) < 60_000);
    }

    #[test]
    fn what_does_not_fit_is_kept_out_and_the_old_pair_stays() {
        let (folder, ca) = (tempfile::tempdir().unwrap(), authority());
        let certificates = opened(folder.path(), &ca);
        let (first, good) = (leaf(&certificates), pair(&ca, 400));
        let mut not_yet = CertificateParams::default();
        not_yet.not_before = OffsetDateTime::now_utc() + Duration::days(1);
        let key = KeyPair::generate().unwrap();
        let not_yet = (not_yet.signed_by(&key, &ca).unwrap().pem(), key.serialize_pem());
        for (what, bad) in [
            ("is not the key", (good.0.clone(), pair(&ca, 400).1)),
            ("has expired", pair(&ca, -1)),
            ("isn't valid yet", not_yet),
            ("was not issued by", pair(&authority(), 400)),
            ("no certificate", (good.1.clone(), good.1.clone())),
            ("not a private key", (good.0.clone(), good.0.clone())),
            ("no certificate", (String::new(), good.1.clone())),
            ("not a private key", (good.0.clone(), "garbage".into())),
        ] {
            put(folder.path(), &bad);
            let why = certificates.take_pair(&certificates.0.files.look()).unwrap_err();
            assert!(why.contains(what), "{what}: {why}");
            for _ in 0..3 {
                certificates.look(false);
            }
            assert_eq!(
                (leaf(&certificates), certificates.refused()),
                (first.clone(), (true, false)),
                "{what}"
            );
        }
        std::fs::remove_file(folder.path().join("node.key")).unwrap();
        (0..2).for_each(|_| certificates.look(false));
        assert_eq!((leaf(&certificates), certificates.refused().0), (first.clone(), true));
        put(folder.path(), &good);
        (0..2).for_each(|_| certificates.look(false));
        assert_ne!(leaf(&certificates), first);
        assert_eq!(certificates.refused(), (false, false));
    }

    #[test]
    fn at_the_start_a_wrong_pair_is_an_error_and_an_expired_one_is_served() {
        let (folder, ca) = (tempfile::tempdir().unwrap(), authority());
        let open = |pair: &(String, String)| {
            put(folder.path(), pair);
            Certificates::open(files(folder.path(), &ca))
        };
        let good = pair(&ca, 400);
        let error = open(&pair(&authority(), 400)).unwrap_err().to_string();
        assert!(error.contains("node.pem") && error.contains("was not issued by"), "{error}");
        let error = open(&(good.0.clone(), pair(&ca, 400).1)).unwrap_err().to_string();
        assert!(error.contains("node.key") && error.contains("is not the key"), "{error}");
        assert_eq!(open(&pair(&ca, -1)).unwrap().refused(), (true, false));
        std::fs::write(folder.path().join("revoked"), "01\nsomebody\n").unwrap();
        let error = open(&good).unwrap_err().to_string();
        assert!(error.contains("revoked: line 2 is neither") && !error.contains("somebody"), "{error}");
    }

    #[test]
    fn a_list_that_is_malformed_or_gone_changes_nothing() {
        let (folder, ca) = (tempfile::tempdir().unwrap(), authority());
        let certificates = opened(folder.path(), &ca);
        let path = folder.path().join("revoked");
        let list = |text: &str| {
            std::fs::write(&path, text).unwrap();
            (0..2).for_each(|_| certificates.look(false));
            (certificates.revoked().len(), certificates.refused().1)
        };
        assert_eq!(list("01\n02\n"), (2, false));
        assert_eq!(list("01\nsomebody\n"), (2, true));
        assert_eq!(list("01\n02\n03 # now\n"), (3, false));
        std::fs::remove_file(&path).unwrap();
        (0..2).for_each(|_| certificates.look(false));
        assert_eq!((certificates.revoked().len(), certificates.refused().1), (3, true));
        assert_eq!(list(""), (0, false));
    }
}
