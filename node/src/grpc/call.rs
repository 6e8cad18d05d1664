//! What every call goes through: identity, role, deadline, and refusals turned into statuses.
//!
//! ```text
//! request ─▶ deadline starts ─▶ certificate, role ─▶ border checks ─▶ work ─▶ answer, or Refusal ─▶ Status with ErrorInfo
//! ```

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::CertificateDer;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status};

use super::auth::{Authority, Client};
use super::node::LastSigned;
use super::patient::Gate;
use super::{error, Deadlines};
use crate::app::App;
use crate::chain::now_ms;
use crate::refusal::{Kind, Refusal};

/// How much earlier than the transport this node gives up, so that the answer is a status with a reason: 1/10 of the time,
/// this at most.
const MAX_HEAD_START: Duration = Duration::from_millis(20);

/// Serves every service of `assent.v1`. Cheap to clone.
#[derive(Clone)]
pub struct Api {
    pub(super) app: App,
    authority: Arc<Authority>,
    deadlines: Deadlines,
    pub(super) gate: Arc<Gate>,
    pub(super) last_signed: LastSigned,
}

/// Whoever sent a request; nothing of it is checked yet.
pub struct Caller {
    method: &'static str,
    certificates: Option<Arc<Vec<CertificateDer<'static>>>>,
}

impl Api {
    /// Over the node's parts.
    pub(super) fn new(app: App, authority: Authority, deadlines: Deadlines, last_signed: LastSigned) -> Self {
        Self { app, authority: Arc::new(authority), deadlines, gate: Arc::default(), last_signed }
    }

    /// The client behind a request, when its role may call the method.
    pub(super) fn client(&self, caller: &Caller) -> Result<Client, Refusal> {
        let chain = caller.certificates.as_deref().map_or(&[][..], Vec::as_slice);
        let client = self.authority.identify(chain, now_ms())?;
        self.authority.authorize(caller.method, &client)?;
        Ok(client)
    }

    /// A call of a client with a certificate: identity and role are checked before `work` begins.
    pub(super) async fn call<B, T, F>(
        &self,
        method: &'static str,
        request: Request<B>,
        work: impl FnOnce(Self, Client, B) -> F,
    ) -> Result<Response<T>, Status>
    where
        F: Future<Output = Result<T, Refusal>>,
    {
        self.open(method, request, |api, caller, body| async move {
            let client = api.client(&caller)?;
            work(api, client, body).await
        })
        .await
    }

    /// A call that `work` itself must authorize: for patients with a control key.
    pub(super) async fn open<B, T, F>(
        &self,
        method: &'static str,
        request: Request<B>,
        work: impl FnOnce(Self, Caller, B) -> F,
    ) -> Result<Response<T>, Status>
    where
        F: Future<Output = Result<T, Refusal>>,
    {
        let started = Instant::now();
        let limit = self.deadlines.limit(request.metadata());
        let caller = Caller { method, certificates: request.peer_certs() };
        let outcome = match tokio::time::timeout(limit, work(self.clone(), caller, request.into_inner())).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Refusal::new(
                Kind::DeadlineExceeded,
                "DEADLINE_EXCEEDED",
                format!("not done within {limit:?}; a write may still take effect: retry with the same request_id"),
            )),
        };
        let ms = started.elapsed().as_millis() as u64;
        match outcome {
            Ok(answer) => {
                tracing::debug!(method, ms, "answered");
                Ok(Response::new(answer))
            }
            Err(refusal) => {
                // The reason only: messages may name organizations and fields, metadata more.
                tracing::info!(method, ms, reason = refusal.reason, "refused");
                Err(error::status(refusal))
            }
        }
    }
}

impl Deadlines {
    /// Time for a call: the client's `grpc-timeout` up to the maximum, less the head start.
    fn limit(&self, metadata: &MetadataMap) -> Duration {
        let asked = metadata.get("grpc-timeout").and_then(|v| v.to_str().ok()).and_then(parse_timeout);
        let limit = asked.unwrap_or(self.default).min(self.max);
        limit - (limit / 10).min(MAX_HEAD_START)
    }
}

/// `grpc-timeout`: at most 8 digits and a unit, see the gRPC over HTTP/2 specification.
fn parse_timeout(value: &str) -> Option<Duration> {
    let unit = value.chars().last()?;
    let digits = value.strip_suffix(unit)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let amount: u64 = digits.parse().ok()?;
    match unit {
        'H' => Some(Duration::from_secs(amount * 3600)),
        'M' => Some(Duration::from_secs(amount * 60)),
        'S' => Some(Duration::from_secs(amount)),
        'm' => Some(Duration::from_millis(amount)),
        'u' => Some(Duration::from_micros(amount)),
        'n' => Some(Duration::from_nanos(amount)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts() {
        assert_eq!(parse_timeout("2S"), Some(Duration::from_secs(2)));
        assert_eq!(parse_timeout("99999999H"), Some(Duration::from_secs(99_999_999 * 3600)));
        assert_eq!(parse_timeout("500m"), Some(Duration::from_millis(500)));
        for bad in ["", "S", "2", "+2S", "123456789S", "2s", "-1S", "2ß"] {
            assert_eq!(parse_timeout(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_clients_deadline_counts_up_to_the_maximum() {
        let deadlines = Deadlines { default: Duration::from_secs(30), max: Duration::from_secs(60) };
        let limit = |timeout: Option<&'static str>| {
            let mut metadata = MetadataMap::new();
            if let Some(timeout) = timeout {
                metadata.insert("grpc-timeout", timeout.parse().unwrap());
            }
            deadlines.limit(&metadata)
        };
        assert_eq!(limit(None), Duration::from_millis(29_980));
        assert_eq!(limit(Some("100m")), Duration::from_millis(90));
        assert_eq!(limit(Some("9H")), Duration::from_millis(59_980));
        assert_eq!(limit(Some("nonsense")), Duration::from_millis(29_980));
    }
}
