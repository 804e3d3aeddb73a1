//! The console: health, metrics and a live view over HTTP, on the loopback interface alone.
//!
//! | path | what it answers |
//! | --- | --- |
//! | `/healthz` | 200 while the process is alive |
//! | `/readyz` | 200 while it makes progress, else 503 with the reason |
//! | `/metrics` | OpenMetrics text |
//! | `/api/status` | state, lag, copies, versions as JSON |
//! | `POST /api/plugins/NAME/rollback` | goes back to the version before of a plugin |
//! | `POST /api/pipelines/NAME/copies/pause`, `/resume` | begins no further unit of a copy, or goes on |
//! | `POST /api/pipelines/NAME/resync` | has the table of the body copied again, `{"table": "public.orders"}` |
//! | `POST /api/pipelines/NAME/reload` | reads pipeline.yaml again |
//! | `POST /api/pipelines/NAME/dead-letters/drop`, `/replay` | drops dead letters, or has them sent again |
//! | `/api/tail` | rows as they leave: JSON lines, or server-sent events where these are asked for |

mod copies;
mod dead_letters;
mod guard;
mod listener;
mod plugins;
mod reload;
mod resync;
mod routes;
mod tail;
mod work;

pub use tail::Tail;

use crate::dead_letter::{Action, Selection};
use crate::problem::{Code, Exit, Problem};
use crate::telemetry::Registry;
use listener::{GuardedListener, SILENCE};
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use work::Work;

pub const CODES: &[Code] = &[Code {
    code: "E0910",
    title: "the console can't listen",
    explanation: "The console's address is taken, mostly by another Rowmill on this machine, or can't be used. Give it \
                  another one in pipeline.yaml, `console: 127.0.0.1:7071`, or switch it off, `console: off`.",
}];

/// Whether there is progress, and why not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Readiness {
    pub ready: bool,
    /// A few words for a person: `streaming`, `waiting for the server`.
    pub reason: String,
}

/// What the runtime tells the console.
pub trait Status: Send + Sync {
    /// Ready means that it makes progress; being alive is not enough.
    fn ready(&self) -> Readiness;
    /// State, positions, lag, copies and versions. No row's value and no secret.
    fn status(&self) -> serde_json::Value;
    /// Goes back to the version before of a plugin; blocks until it counts.
    fn roll_back(&self, plugin: &str) -> Result<serde_json::Value, Box<Problem>>;
    /// Pauses the copies of a pipeline, or lets them go on, and says how far they are. `None` where there is no such
    /// pipeline.
    fn pause_copies(&self, pipeline: &str, paused: bool) -> Option<serde_json::Value>;
    /// Has a table of a pipeline copied again; waits for the disk. `None` where there is no such pipeline.
    fn resync(&self, pipeline: &str, table: &str) -> Option<Result<serde_json::Value, Box<Problem>>>;
    /// Reads a pipeline's file again and says what was different; blocks until it is known to be good. `None` where there
    /// is no such pipeline.
    fn reload(&self, pipeline: &str) -> Option<Result<serde_json::Value, Vec<Problem>>>;
    /// Drops letters of a pipeline or has them sent again; waits for the disk. `None` where there is no such pipeline.
    fn dead_letters(
        &self,
        pipeline: &str,
        action: Action,
        selection: &Selection,
        force: bool,
    ) -> Option<Result<serde_json::Value, Box<Problem>>>;
}

/// A console that has its port but doesn't answer yet.
pub struct Console {
    listener: TcpListener,
    address: SocketAddr,
    silence: Duration,
}

impl Console {
    /// Takes the port, so that a start fails before anything else has happened.
    ///
    /// # Errors
    /// E0910 where the address is taken.
    pub async fn bind(address: SocketAddr) -> Result<Self, Problem> {
        let failed = |error: std::io::Error| {
            Problem::new(
                CODES[0].code,
                Exit::Usage,
                format!("the console can't listen on {address}"),
                "choose another port in pipeline.yaml: `console: 127.0.0.1:7071`",
            )
            .with_cause(error)
        };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self {
            listener,
            address,
            silence: SILENCE,
        })
    }

    /// Where it listens, with the port that the kernel chose where 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until `stop` is through, then ends live views and lets requests finish.
    pub async fn serve(
        self,
        status: Arc<dyn Status>,
        metrics: Arc<Registry>,
        tail: Tail,
        stop: impl Future<Output = ()> + Send + 'static,
    ) {
        let (stopping, stopped) = watch::channel(false);
        let router = routes::router(status, metrics, tail, stopped);
        let shutdown = async move {
            stop.await;
            let _ = stopping.send(true);
        };
        let listener = GuardedListener::new(self.listener, self.silence);
        let service = router.into_make_service_with_connect_info::<Work>();
        let served = axum::serve(listener, service).with_graceful_shutdown(shutdown).await;
        if let Err(error) = served {
            tracing::warn!(%error, "the console has stopped");
        }
    }
}

#[cfg(test)]
mod tests;
