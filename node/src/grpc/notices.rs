//! What a patient must know.

use assent_proto::v1::{ListNoticesRequest, ListNoticesResponse, Notice, NoticeKind};

use super::call::Caller;
use super::Api;
use crate::custodian::{blocking, Listed, WaitingKey};
use crate::refusal::Refusal;

fn break_glass(listed: Listed) -> Notice {
    let Listed { review, request, .. } = listed;
    Notice {
        kind: NoticeKind::BreakGlass.into(),
        time_ms: review.time_ms,
        recipient: request.recipient,
        actor: request.actor,
        purpose: request.purpose,
        reason: request.break_glass_reason,
        resources: review.resources,
        effective_ms: 0,
    }
}

fn key_replacement(waiting: WaitingKey) -> Notice {
    Notice {
        kind: NoticeKind::KeyReplacement.into(),
        time_ms: waiting.time_ms,
        effective_ms: waiting.effective_ms,
        ..Notice::default()
    }
}

impl Api {
    pub(super) async fn list_notices_for(
        &self,
        caller: Caller,
        body: ListNoticesRequest,
    ) -> Result<ListNoticesResponse, Refusal> {
        let (handle, answer) = self.subject_of(&caller, "ListNotices", body.proof, body.patient)?;
        let custodian = &self.app.custodian;
        let (waiting, listed, next_page_token) =
            blocking(|| custodian.notices(&handle, body.page_size, &body.page_token))?;
        let notices =
            waiting.map(key_replacement).into_iter().chain(listed.into_iter().map(break_glass)).collect();
        Ok(ListNoticesResponse { answer: Some(answer), notices, next_page_token })
    }
}
