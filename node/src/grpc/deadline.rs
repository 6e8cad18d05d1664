//! How long a call may take: the one place where time ends it, and the last that its answer goes through.
//!
//! ```text
//! headers ─▶ deadline past already? ─▶ service, until the time is over ─▶ answer, its status completed
//! ```
//! Time begins with the headers, so that a body that never comes is covered too. The transport has a timer of its own for
//! `grpc-timeout`, which lets a call begin before it looks at the clock, and says CANCELLED without a reason: this one is
//! always first. A stream is under way once its head is sent, and no longer this one's: [`asked`] tells a stream without end its
//! client's own limit.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::http::{HeaderMap, Request, Response};
use tonic::body::Body;
use tonic::metadata::MetadataMap;
use tower::Service;

use super::error;
use crate::refusal::{Kind, Refusal};

/// A shorter time than this is no time: nothing is begun.
const SHORTEST: Duration = Duration::from_millis(1);
/// How much earlier than the transport this node gives up: 1/10 of the time, this at most.
const MAX_HEAD_START: Duration = Duration::from_millis(20);

/// Time that calls have.
#[derive(Debug, Clone, Copy)]
pub struct Deadlines {
    /// When the client names none.
    pub default: Duration,
    /// Whatever the client names.
    pub max: Duration,
}

impl Default for Deadlines {
    /// The maximum leaves room for a stream of LoadRecords.
    fn default() -> Self {
        Self { default: Duration::from_secs(60), max: Duration::from_secs(600) }
    }
}

impl Deadlines {
    /// Time for a call: the client's `grpc-timeout` up to the maximum, less the head start. None: it is over.
    fn limit(&self, headers: &HeaderMap) -> Option<Duration> {
        let limit = asked_in(headers).unwrap_or(self.default).min(self.max);
        (limit >= SHORTEST).then(|| limit - (limit / 10).min(MAX_HEAD_START))
    }
}

fn asked_in(headers: &HeaderMap) -> Option<Duration> {
    headers.get("grpc-timeout").and_then(|v| v.to_str().ok()).and_then(parse_timeout)
}

/// The time that a client itself gives a call, for a stream that may go on longer than the answer takes to begin.
pub fn asked(metadata: &MetadataMap) -> Option<Duration> {
    asked_in(metadata.as_ref())
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

fn late(path: &str, message: impl Into<String>) -> Response<Body> {
    tracing::info!(path, reason = "DEADLINE_EXCEEDED", "refused");
    error::status(Refusal::new(Kind::DeadlineExceeded, "DEADLINE_EXCEEDED", message)).into_http()
}

/// All services, within their time.
#[derive(Clone)]
pub struct Timed<S> {
    inner: S,
    deadlines: Deadlines,
}

impl<S> Timed<S> {
    /// Around a service.
    pub fn new(inner: S, deadlines: Deadlines) -> Self {
        Self { inner, deadlines }
    }
}

impl<S, B> Service<Request<B>> for Timed<S>
where
    S: Service<Request<B>, Response = Response<Body>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let path = request.uri().path().to_owned();
        let Some(limit) = self.deadlines.limit(request.headers()) else {
            let answer = late(&path, "the deadline was over before the call began: nothing was done");
            return Box::pin(std::future::ready(Ok(answer)));
        };
        let answering = tokio::time::timeout(limit, self.inner.call(request));
        Box::pin(async move {
            match answering.await {
                Ok(answer) => answer.map(|mut answer| {
                    error::complete(answer.headers_mut());
                    answer
                }),
                Err(_) => Ok(late(
                    &path,
                    format!("not done within {limit:?}; a write may still take effect: retry with the same request_id"),
                )),
            }
        })
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
            let mut headers = HeaderMap::new();
            if let Some(timeout) = timeout {
                headers.insert("grpc-timeout", timeout.parse().unwrap());
            }
            deadlines.limit(&headers)
        };
        assert_eq!(limit(None), Some(Duration::from_millis(29_980)));
        assert_eq!(limit(Some("100m")), Some(Duration::from_millis(90)));
        assert_eq!(limit(Some("9H")), Some(Duration::from_millis(59_980)));
        assert_eq!(limit(Some("nonsense")), Some(Duration::from_millis(29_980)));
        for past in ["0n", "0m", "0H", "1n", "999u"] {
            assert_eq!(limit(Some(past)), None, "{past}");
        }
    }
}
