//! Whether a connection's request is worked on: what is silent then is the console, and not its client.

use super::guard::MAX_BODY_BYTES;
use super::listener::GuardedListener;
use axum::body::{Body, to_bytes};
use axum::extract::connect_info::Connected;
use axum::extract::{ConnectInfo, Request};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::serve::IncomingStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// One connection's; it has one request at a time.
#[derive(Clone, Default)]
pub(super) struct Work(Arc<AtomicBool>);

impl Work {
    pub(super) fn is_under_way(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

impl Connected<IncomingStream<'_, GuardedListener>> for Work {
    fn connect_info(stream: IncomingStream<'_, GuardedListener>) -> Self {
        stream.io().work()
    }
}

struct UnderWay(Work);

impl UnderWay {
    fn begin(work: Work) -> Self {
        work.0.store(true, Ordering::Release);
        Self(work)
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.0.store(false, Ordering::Release);
    }
}

/// Reads the request to its end, for which a client has as long as it may be silent; what is asked for then takes its time.
pub(super) async fn at_work(ConnectInfo(work): ConnectInfo<Work>, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    let Ok(body) = to_bytes(body, MAX_BODY_BYTES).await else {
        return (StatusCode::BAD_REQUEST, "the body can't be read\n").into_response();
    };
    let _under_way = UnderWay::begin(work);
    next.run(Request::from_parts(parts, Body::from(body))).await
}
