//! `POST /api/pipelines/NAME/reload`: pipeline.yaml is read again.

use super::Status;
use super::dead_letters::{NOT_OWN, is_own};
use crate::problem::Problem;
use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use std::sync::Arc;

pub(super) async fn carry_out(
    State(status): State<Arc<dyn Status>>,
    Path(pipeline): Path<String>,
    headers: HeaderMap,
) -> Response {
    if !is_own(&headers) {
        return (StatusCode::FORBIDDEN, NOT_OWN).into_response();
    }
    // It compiles plugins, and asks source and sinks.
    match tokio::task::spawn_blocking(move || status.reload(&pipeline)).await {
        Ok(Some(Ok(value))) => Json(value).into_response(),
        Ok(Some(Err(problems))) => {
            let problems: Vec<Value> = problems.iter().map(Problem::to_json).collect();
            (StatusCode::CONFLICT, Json(json!({ "errors": problems }))).into_response()
        }
        Ok(None) => (StatusCode::NOT_FOUND, "no such pipeline\n").into_response(),
        Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, "a bug\n").into_response(),
    }
}
