//! Requests to stop: SIGTERM and SIGINT drain, a second one stops at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

/// How urgently.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stop {
    /// Keep running.
    No,
    /// Take in nothing more, deliver what is there.
    Drain,
    /// At once: what isn't durable is sent again at the next start.
    Now,
}

/// Seen by every part that has to end.
#[derive(Clone, Debug)]
pub struct StopRequest {
    state: watch::Receiver<Stop>,
    signal: Arc<AtomicI32>,
}

impl StopRequest {
    /// Listens to SIGTERM and SIGINT from now on.
    pub fn on_signals() -> std::io::Result<Self> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let (send, state) = watch::channel(Stop::No);
        let last = Arc::new(AtomicI32::new(0));
        let request = Self {
            state,
            signal: Arc::clone(&last),
        };
        tokio::spawn(async move {
            for urgency in [Stop::Drain, Stop::Now] {
                let number = either(&mut terminate, &mut interrupt).await;
                last.store(number, Ordering::Relaxed);
                match urgency {
                    Stop::Drain => {
                        tracing::info!("asked to stop: what was received is delivered; another signal ends it")
                    }
                    _ => tracing::info!("asked again: what isn't delivered comes again with the next start"),
                }
                send.send_replace(urgency);
            }
            std::future::pending::<()>().await;
        });
        Ok(request)
    }

    /// A request that the holder of the sender makes.
    pub fn channel() -> (watch::Sender<Stop>, Self) {
        let (send, state) = watch::channel(Stop::No);
        (
            send,
            Self {
                state,
                signal: Arc::new(AtomicI32::new(0)),
            },
        )
    }

    pub fn urgency(&self) -> Stop {
        *self.state.borrow()
    }

    /// Returns once it is at least as urgent as `urgency`.
    pub async fn requested(&mut self, urgency: Stop) {
        if self.state.wait_for(|now| *now >= urgency).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// The number of the last signal, for the exit code.
    pub fn signal(&self) -> i32 {
        self.signal.load(Ordering::Relaxed)
    }
}

async fn either(terminate: &mut Signal, interrupt: &mut Signal) -> i32 {
    tokio::select! {
        _ = terminate.recv() => libc::SIGTERM,
        _ = interrupt.recv() => libc::SIGINT,
    }
}
