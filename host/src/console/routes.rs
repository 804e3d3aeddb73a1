//! What each path answers.

use super::Status;
use super::copies;
use super::dead_letters;
use super::guard::guard;
use super::plugins;
use super::reload;
use super::resync;
use super::tail::Tail;
use super::work::at_work;
use crate::telemetry::Registry;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router, middleware};
use futures_util::stream;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast::{Receiver, error::RecvError};
use tokio::sync::watch;

/// A live view without rows is written to this often, so that both ends know that the other is there.
const KEEPALIVE: Duration = Duration::from_secs(5);
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const JSON_LINES: &str = "application/x-ndjson";
const EVENTS: &str = "text/event-stream";

#[derive(Clone)]
struct Shared {
    status: Arc<dyn Status>,
    metrics: Arc<Registry>,
    tail: Tail,
    stopped: watch::Receiver<bool>,
}

impl axum::extract::FromRef<Shared> for Arc<dyn Status> {
    fn from_ref(shared: &Shared) -> Self {
        Arc::clone(&shared.status)
    }
}

pub(super) fn router(
    status: Arc<dyn Status>,
    metrics: Arc<Registry>,
    tail: Tail,
    stopped: watch::Receiver<bool>,
) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "alive\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics_text))
        .route("/api/status", get(status_json))
        .route("/api/plugins/{plugin}/rollback", post(plugins::roll_back))
        .route("/api/tail", get(tail_lines))
        .route(
            "/api/pipelines/{pipeline}/dead-letters/{action}",
            post(dead_letters::carry_out),
        )
        .route("/api/pipelines/{pipeline}/copies/{action}", post(copies::carry_out))
        .route("/api/pipelines/{pipeline}/reload", post(reload::carry_out))
        .route("/api/pipelines/{pipeline}/resync", post(resync::carry_out))
        .layer(middleware::from_fn(at_work))
        .layer(middleware::from_fn(guard))
        .with_state(Shared {
            status,
            metrics,
            tail,
            stopped,
        })
}

async fn readyz(State(shared): State<Shared>) -> Response {
    let readiness = shared.status.ready();
    let code = if readiness.ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (code, format!("{}\n", readiness.reason)).into_response()
}

async fn metrics_text(State(shared): State<Shared>) -> Response {
    ([(header::CONTENT_TYPE, OPEN_METRICS)], shared.metrics.encode()).into_response()
}

async fn status_json(State(shared): State<Shared>) -> Response {
    Json(shared.status.status()).into_response()
}

async fn tail_lines(State(shared): State<Shared>, headers: HeaderMap) -> Response {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    let form = if accept.is_some_and(|accept| accept.contains(EVENTS)) {
        Form::Events
    } else {
        Form::Lines
    };
    let view = View {
        lines: shared.tail.subscribe(),
        stopped: shared.stopped,
        form,
    };
    let lines = stream::unfold(view, |mut view| async {
        let text = view.next().await?;
        Some((Ok::<_, Infallible>(text), view))
    });
    ([(header::CONTENT_TYPE, form.content_type())], Body::from_stream(lines)).into_response()
}

#[derive(Clone, Copy)]
enum Form {
    Lines,
    Events,
}

impl Form {
    fn content_type(self) -> &'static str {
        match self {
            Self::Lines => JSON_LINES,
            Self::Events => EVENTS,
        }
    }

    fn row(self, line: &str) -> String {
        match self {
            Self::Lines => format!("{line}\n"),
            Self::Events => format!("data: {line}\n\n"),
        }
    }

    /// Passed over by readers of either form.
    fn keepalive(self) -> String {
        match self {
            Self::Lines => "\n".to_owned(),
            Self::Events => ": keepalive\n\n".to_owned(),
        }
    }
}

struct View {
    lines: Receiver<Arc<str>>,
    stopped: watch::Receiver<bool>,
    form: Form,
}

impl View {
    /// `None` when the process stops.
    async fn next(&mut self) -> Option<String> {
        tokio::select! {
            line = self.lines.recv() => match line {
                Ok(line) => Some(self.form.row(&line)),
                Err(RecvError::Lagged(missed)) => Some(self.form.row(&format!("{{\"missed\":{missed}}}"))),
                Err(RecvError::Closed) => None,
            },
            _ = self.stopped.wait_for(|stopped| *stopped) => None,
            () = tokio::time::sleep(KEEPALIVE) => Some(self.form.keepalive()),
        }
    }
}
