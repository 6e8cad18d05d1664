//! What every call goes through, within its time: identity, quota, role, and refusals turned into statuses.
//!
//! ```text
//! request ─▶ certificate, quota, role ─▶ border checks ─▶ work ─▶ answer, or Refusal ─▶ Status with ErrorInfo
//! ```

use std::future::Future;
use std::sync::Arc;
use std::time::Instant;

use rustls::pki_types::CertificateDer;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::auth::{Authority, Client};
use super::consents::watch::Watches;
use super::error;
use super::node::LastSigned;
use super::proof::Gate;
use super::quota::Quota;
use crate::app::App;
use crate::chain::now_ms;
use crate::refusal::Refusal;

/// Serves every service of `assent.v1`. Cheap to clone.
#[derive(Clone)]
pub struct Api {
    pub(super) app: App,
    authority: Arc<Authority>,
    pub(super) quota: Arc<Quota>,
    pub(super) gate: Arc<Gate>,
    pub(super) last_signed: LastSigned,
    pub(super) watches: Watches,
    /// Cancelled when the node stops: streams without end end then.
    pub(super) stopping: CancellationToken,
}

/// Whoever sent a request; nothing of it is checked yet.
pub struct Caller {
    method: &'static str,
    certificates: Option<Arc<Vec<CertificateDer<'static>>>>,
}

impl Caller {
    /// Its certificates, leaf first; none without.
    fn chain(&self) -> &[CertificateDer<'static>] {
        self.certificates.as_deref().map_or(&[][..], Vec::as_slice)
    }
}

impl Api {
    /// Over the node's parts.
    pub(super) fn new(
        app: App,
        authority: Arc<Authority>,
        quota: Quota,
        last_signed: LastSigned,
        stopping: CancellationToken,
    ) -> Self {
        let (quota, watches) = (Arc::new(quota), Watches::new(&app.parts.limits));
        let gate = app.custodian.gate.clone();
        Self { app, authority, quota, gate, last_signed, watches, stopping }
    }

    /// The client behind a request, when its quota lasts and its role may call the method.
    pub(super) fn client(&self, caller: &Caller) -> Result<Client, Refusal> {
        let client = self.authority.identify(caller.chain(), now_ms())?;
        self.quota.take(&client.id)?;
        self.authority.authorize(caller.method, &client)?;
        Ok(client)
    }

    /// Whether the client behind a request that goes on for long would still be taken. Costs no token of its quota.
    pub(super) fn still_client(&self, caller: &Caller) -> Result<(), Refusal> {
        let client = self.authority.identify(caller.chain(), now_ms())?;
        self.authority.authorize(caller.method, &client)
    }

    /// A call of a client with a certificate: identity, quota and role are checked before `work` begins.
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
        let caller = Caller { method, certificates: request.peer_certs() };
        let outcome = match self.authority.not_revoked(caller.chain(), now_ms()) {
            Ok(()) => work(self.clone(), caller, request.into_inner()).await,
            Err(refusal) => Err(refusal),
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
