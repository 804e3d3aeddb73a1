//! `POST /api/plugins/NAME/rollback`.

use super::Status;
use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use std::sync::Arc;

/// A page of another site can't set it without asking first, and nobody is ever told yes.
const PROGRAM: &str = "x-rowmill";

pub(super) async fn roll_back(
    State(status): State<Arc<dyn Status>>,
    Path(plugin): Path<String>,
    headers: HeaderMap,
) -> Response {
    let origin = headers.get(header::ORIGIN).map(|origin| origin.as_bytes());
    let host = headers.get(header::HOST).map(|host| host.as_bytes());
    let own = origin.is_none_or(|origin| host.is_some_and(|host| origin.strip_prefix(b"http://") == Some(host)));
    if !own || !headers.contains_key(PROGRAM) {
        let why = "asked by a page of another site, or without X-Rowmill\n";
        return (StatusCode::FORBIDDEN, why).into_response();
    }
    // It waits until the lanes have taken over.
    match tokio::task::spawn_blocking(move || status.roll_back(&plugin)).await {
        Ok(Ok(value)) => Json(value).into_response(),
        Ok(Err(problem)) => (StatusCode::CONFLICT, Json(problem.to_json())).into_response(),
        Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, "a bug\n").into_response(),
    }
}
