//! `POST /api/pipelines/NAME/dead-letters/ACTION`: drop letters, or have them sent again.

use super::Status;
use crate::dead_letter::{Action, Order};
use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use std::sync::Arc;

/// A page of another site can't set it without asking first, and nobody is ever told yes.
const PROGRAM: &str = "x-rowmill";

pub(super) const NOT_OWN: &str = "asked by a page of another site, or without X-Rowmill\n";

/// Whether a program on this machine asks, or a page that the console itself has served: no other page of a browser.
pub(super) fn is_own(headers: &HeaderMap) -> bool {
    let site = headers.get("sec-fetch-site").map(|site| site.as_bytes());
    let same_site = matches!(site, None | Some(b"same-origin" | b"none"));
    // A page that was served from here names this host; `null` and others don't.
    let origin = headers.get(header::ORIGIN).map(|origin| origin.as_bytes());
    let host = headers.get(header::HOST).map(|host| host.as_bytes());
    let same_origin =
        origin.is_none_or(|origin| host.is_some_and(|host| origin.strip_prefix(b"http://") == Some(host)));
    headers.contains_key(PROGRAM) && same_site && same_origin
}

pub(super) async fn carry_out(
    State(status): State<Arc<dyn Status>>,
    Path((pipeline, action)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if !is_own(&headers) {
        return (StatusCode::FORBIDDEN, NOT_OWN).into_response();
    }
    let Some(action) = Action::from_name(&action) else {
        return (StatusCode::NOT_FOUND, "no such action\n").into_response();
    };
    let order: Order = match serde_json::from_slice(&body) {
        Ok(order) => order,
        Err(error) => return (StatusCode::BAD_REQUEST, format!("{error}\n")).into_response(),
    };
    let Some(selection) = order.selection() else {
        return (StatusCode::BAD_REQUEST, "name `letters`, a `table`, or `all`\n").into_response();
    };
    // It waits for the disk.
    let done = tokio::task::spawn_blocking(move || status.dead_letters(&pipeline, action, &selection, order.force));
    match done.await {
        Ok(Some(Ok(value))) => Json(value).into_response(),
        Ok(Some(Err(problem))) => (StatusCode::CONFLICT, Json(problem.to_json())).into_response(),
        Ok(None) => (StatusCode::NOT_FOUND, "no such pipeline\n").into_response(),
        Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, "a bug\n").into_response(),
    }
}
