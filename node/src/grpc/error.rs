//! Refusals as gRPC statuses: the only place where codes are made.
//!
//! Every error carries exactly one `google.rpc.ErrorInfo` of domain "assent". `NOT_RELEASED` carries the custodian's signed
//! `NotReleased` as second detail, `QUOTA_EXCEEDED` a `google.rpc.RetryInfo`. Internal error text never gets here: [`Refusal`]
//! holds sentences meant for callers.

use std::time::Duration;

use assent_proto::ledger::v1::Signed;
use axum::http::HeaderMap;
use prost::Message;
use prost_types::Any;
use tonic::{Code, Status};
use tonic_types::pb;

use crate::refusal::{Kind, Refusal};

/// Domain of every `ErrorInfo`.
pub const DOMAIN: &str = "assent";
const ERROR_INFO_URL: &str = "type.googleapis.com/google.rpc.ErrorInfo";
const RETRY_INFO_URL: &str = "type.googleapis.com/google.rpc.RetryInfo";
const SIGNED_URL: &str = "type.googleapis.com/assent.ledger.v1.Signed";

fn code(kind: Kind) -> Code {
    match kind {
        Kind::InvalidArgument => Code::InvalidArgument,
        Kind::NotFound => Code::NotFound,
        Kind::AlreadyExists => Code::AlreadyExists,
        Kind::PermissionDenied => Code::PermissionDenied,
        Kind::Unauthenticated => Code::Unauthenticated,
        Kind::FailedPrecondition => Code::FailedPrecondition,
        Kind::Aborted => Code::Aborted,
        Kind::ResourceExhausted => Code::ResourceExhausted,
        Kind::Unavailable => Code::Unavailable,
        Kind::DeadlineExceeded => Code::DeadlineExceeded,
        Kind::Internal => Code::Internal,
    }
}

fn error_info(reason: &str, metadata: impl IntoIterator<Item = (String, String)>) -> Any {
    let info = pb::ErrorInfo {
        reason: reason.to_owned(),
        domain: DOMAIN.to_owned(),
        metadata: metadata.into_iter().collect(),
    };
    Any { type_url: ERROR_INFO_URL.to_owned(), value: info.encode_to_vec() }
}

fn signed(message: &Signed) -> Any {
    Any { type_url: SIGNED_URL.to_owned(), value: message.encode_to_vec() }
}

fn retry_info(wait: Duration) -> Any {
    let retry_delay = prost_types::Duration::try_from(wait).ok();
    Any { type_url: RETRY_INFO_URL.to_owned(), value: pb::RetryInfo { retry_delay }.encode_to_vec() }
}

fn detailed(code: Code, message: String, details: Vec<Any>) -> Status {
    let status = pb::Status { code: code.into(), message: message.clone(), details };
    Status::with_details(code, message, status.encode_to_vec().into())
}

/// The status of a refusal.
pub fn status(refusal: Refusal) -> Status {
    let mut details = vec![error_info(refusal.reason, refusal.metadata)];
    details.extend(refusal.retry_after.map(retry_info));
    details.extend(refusal.not_released.as_deref().map(signed));
    detailed(code(refusal.kind), refusal.message, details)
}

/// The refusal that a failed request stream is: its status comes from the transport and has no details.
pub fn broken_stream(error: &Status) -> Refusal {
    let (code, reason, message) = transport_error(error.code());
    let kind = match code {
        Code::InvalidArgument => Kind::InvalidArgument,
        Code::ResourceExhausted => Kind::ResourceExhausted,
        _ => Kind::Aborted,
    };
    Refusal::new(kind, reason, message)
}

/// Gives an error that the transport made by itself its code, reason and sentence.
fn transport_error(code: Code) -> (Code, &'static str, &'static str) {
    match code {
        Code::OutOfRange | Code::ResourceExhausted => (
            Code::ResourceExhausted,
            "MESSAGE_TOO_LARGE",
            "the message is larger than this method takes: send smaller ones",
        ),
        Code::Unimplemented => (
            Code::Unimplemented,
            "NO_SUCH_METHOD",
            "this node has no such method, or not with this compression",
        ),
        Code::Internal | Code::InvalidArgument => (
            Code::InvalidArgument,
            "MALFORMED_REQUEST",
            "the request does not decode as its protobuf message",
        ),
        Code::NotFound => (Code::NotFound, "NO_SUCH_SERVICE", "this node has no such service"),
        Code::DeadlineExceeded => {
            (Code::DeadlineExceeded, "DEADLINE_EXCEEDED", "not done in time: retry with the same request_id")
        }
        Code::Unavailable => (Code::Unavailable, "UNAVAILABLE", "the node can't answer now: retry later"),
        other => (other, "REQUEST_BROKEN_OFF", "the request broke off"),
    }
}

/// Completes a response that failed before it reached a service (too large, undecodable, unknown method): those statuses come
/// from tonic without details and with its own words.
pub fn complete(headers: &mut HeaderMap) {
    let Some(found) = Status::from_header_map(headers) else {
        return;
    };
    if found.code() == Code::Ok || !found.details().is_empty() {
        return;
    }
    let (code, reason, message) = transport_error(found.code());
    let completed = detailed(code, message.to_owned(), vec![error_info(reason, [])]);
    // Fails only for a message that is no header value; ours are constants.
    let _ = completed.add_header(headers);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn details(status: &Status) -> Vec<Any> {
        pb::Status::decode(status.details()).unwrap().details
    }

    #[test]
    fn a_refusal_has_one_error_info() {
        let status = status(Refusal::invalid("MALFORMED_REQUEST", "request_id", "request_id is empty"));
        assert_eq!(status.code(), Code::InvalidArgument);
        let details = details(&status);
        assert_eq!(details.len(), 1);
        let info = pb::ErrorInfo::decode(details[0].value.as_slice()).unwrap();
        assert_eq!((info.reason.as_str(), info.domain.as_str()), ("MALFORMED_REQUEST", "assent"));
        assert_eq!(info.metadata["field"], "request_id");
    }

    #[test]
    fn not_released_is_alike_but_for_the_signed_message() {
        let made = |body: &[u8]| {
            let signed = Signed { body: body.to_vec(), organization: "cedar".into(), signature: vec![0; 64] };
            status(Refusal::not_released(signed))
        };
        let (a, b) = (made(&[1, 2]), made(&[3]));
        assert_eq!((a.code(), a.message()), (b.code(), b.message()));
        assert_eq!(details(&a)[0], details(&b)[0]);
        assert_eq!(details(&a).len(), 2);
        assert_eq!(details(&a)[1].type_url, SIGNED_URL);
        assert_eq!(Signed::decode(details(&a)[1].value.as_slice()).unwrap().body, [1, 2]);
    }

    #[test]
    fn transport_errors_are_completed_and_say_nothing_internal() {
        let mut headers = HeaderMap::new();
        Status::internal("failed to decode Protobuf message: secret").add_header(&mut headers).unwrap();
        complete(&mut headers);
        let status = Status::from_header_map(&headers).unwrap();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(!status.message().contains("secret"));
        assert_eq!(details(&status).len(), 1);
        let mut fine = HeaderMap::new();
        complete(&mut fine);
        assert!(fine.is_empty());
    }
}
