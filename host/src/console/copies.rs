//! `POST /api/pipelines/NAME/copies/pause` and `/resume`.

use super::Status;
use super::dead_letters::{NOT_OWN, is_own};
use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use std::sync::Arc;

pub(super) async fn carry_out(
    State(status): State<Arc<dyn Status>>,
    Path((pipeline, action)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    if !is_own(&headers) {
        return (StatusCode::FORBIDDEN, NOT_OWN).into_response();
    }
    let paused = match action.as_str() {
        "pause" => true,
        "resume" => false,
        _ => return (StatusCode::NOT_FOUND, "no such action\n").into_response(),
    };
    match status.pause_copies(&pipeline, paused) {
        Some(value) => Json(value).into_response(),
        None => (StatusCode::NOT_FOUND, "no such pipeline\n").into_response(),
    }
}
