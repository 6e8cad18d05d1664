//! ReviewService: releases under break-glass, waiting for an officer's judgement.

use assent_proto::v1::review_service_server::ReviewService;
use assent_proto::v1::{
    CloseReviewRequest, CloseReviewResponse, ListReviewsRequest, ListReviewsResponse, Review,
};
use tonic::{Request, Response, Status};

use super::auth::Client;
use super::{border, Api};
use crate::custodian::{blocking, Listed};
use crate::refusal::Refusal;
use crate::vault::ReviewList;

/// Longest note, in characters.
const MAX_NOTE_CHARS: usize = 2000;

fn review(listed: Listed) -> Review {
    let Listed { review, request, height, patient_reference } = listed;
    let (closed_by, note) = review.closed.map(|closed| (closed.by, closed.note)).unwrap_or_default();
    Review {
        review_id: review.request_hash.to_vec(),
        time_ms: review.time_ms,
        recipient: request.recipient,
        client: request.client,
        actor: request.actor,
        purpose: request.purpose,
        reason: request.break_glass_reason,
        patient_reference,
        resources: review.resources,
        late: review.late,
        height,
        closed_by,
        note,
    }
}

impl Api {
    async fn list_reviews_for(
        &self,
        client: Client,
        body: ListReviewsRequest,
    ) -> Result<ListReviewsResponse, Refusal> {
        let answer = self.answer();
        // A token of one list is none of the other.
        let (list, name) = match body.include_closed {
            true => (ReviewList::All, "all"),
            false => (ReviewList::Open, "open"),
        };
        let reader = format!("reviews-{name}:{}", client.id);
        let custodian = &self.app.custodian;
        let (listed, next_page_token) =
            blocking(|| custodian.reviews(list, &reader, body.page_size, &body.page_token))?;
        let reviews = listed.into_iter().map(review).collect();
        Ok(ListReviewsResponse { answer: Some(answer), reviews, next_page_token })
    }

    async fn close_review_for(
        &self,
        client: Client,
        body: CloseReviewRequest,
    ) -> Result<CloseReviewResponse, Refusal> {
        border::request_id(&body.request_id)?;
        let review_id = border::bytes::<32>("review_id", &body.review_id)?;
        let note = body.note.trim();
        let control = |c: char| c.is_control() && c != '\n' && c != '\t';
        if !(1..=MAX_NOTE_CHARS).contains(&note.chars().count()) || note.chars().any(control) {
            return Err(border::malformed(
                "note",
                "1 to 2,000 characters, no control characters but line breaks",
            ));
        }
        let custodian = &self.app.custodian;
        custodian.close_review(&client.id, &body.request_id, review_id, note.to_owned()).await?;
        Ok(CloseReviewResponse { answer: Some(self.answer()) })
    }
}

#[tonic::async_trait]
impl ReviewService for Api {
    async fn list_reviews(
        &self,
        request: Request<ListReviewsRequest>,
    ) -> Result<Response<ListReviewsResponse>, Status> {
        let work = |api: Self, client, body| async move { api.list_reviews_for(client, body).await };
        self.call("ReviewService/ListReviews", request, work).await
    }

    async fn close_review(
        &self,
        request: Request<CloseReviewRequest>,
    ) -> Result<Response<CloseReviewResponse>, Status> {
        let work = |api: Self, client, body| async move { api.close_review_for(client, body).await };
        self.call("ReviewService/CloseReview", request, work).await
    }
}
