//! ReviewService: releases under break-glass, waiting for an officer's judgement.

use assent_proto::v1::review_service_server::ReviewService;
use assent_proto::v1::{CloseReviewRequest, CloseReviewResponse, ListReviewsRequest, ListReviewsResponse};
use tonic::{Request, Response, Status};

use super::auth::Client;
use super::Api;
use crate::refusal::Refusal;

impl Api {
    async fn list_reviews_for(
        &self,
        _client: Client,
        _body: ListReviewsRequest,
    ) -> Result<ListReviewsResponse, Refusal> {
        Err(Refusal::unavailable("NOT_BUILT", "not built yet"))
    }

    async fn close_review_for(
        &self,
        _client: Client,
        _body: CloseReviewRequest,
    ) -> Result<CloseReviewResponse, Refusal> {
        Err(Refusal::unavailable("NOT_BUILT", "not built yet"))
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
