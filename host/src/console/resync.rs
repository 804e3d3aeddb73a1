//! `POST /api/pipelines/NAME/resync`: a table is copied again.

use super::Status;
use super::dead_letters::{NOT_OWN, is_own};
use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use std::sync::Arc;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Order {
    /// `schema.table`.
    table: String,
}

pub(super) async fn carry_out(
    State(status): State<Arc<dyn Status>>,
    Path(pipeline): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if !is_own(&headers) {
        return (StatusCode::FORBIDDEN, NOT_OWN).into_response();
    }
    let order: Order = match serde_json::from_slice(&body) {
        Ok(order) => order,
        Err(error) => return (StatusCode::BAD_REQUEST, format!("{error}\n")).into_response(),
    };
    // It waits for the disk.
    let done = tokio::task::spawn_blocking(move || status.resync(&pipeline, &order.table));
    match done.await {
        Ok(Some(Ok(value))) => Json(value).into_response(),
        Ok(Some(Err(problem))) => (StatusCode::CONFLICT, Json(problem.to_json())).into_response(),
        Ok(None) => (StatusCode::NOT_FOUND, "no such pipeline\n").into_response(),
        Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, "a bug\n").into_response(),
    }
}
