//! The console of all pipelines of the process.

use super::run::Running;
use crate::console::{Readiness, Status};
use crate::dead_letter::{self, Action, Selection};
use crate::problem::Problem;
use serde_json::{Value, json};
use std::sync::Arc;

/// What the console asks.
pub struct Pipelines(Vec<Arc<super::process::Process>>);

impl Pipelines {
    /// Reads the files of all of them again; what stands in the way is logged. Blocks; not to be called on a runtime's
    /// thread.
    pub fn reload_all(&self) {
        for process in &self.0 {
            let _ = super::reconfigure::reconfigure(process);
        }
    }

    pub fn of(running: &[Running]) -> Self {
        Self(running.iter().map(|running| Arc::clone(&running.process)).collect())
    }
}

impl Status for Pipelines {
    fn ready(&self) -> Readiness {
        let stuck = self.0.iter().find_map(|process| {
            let reason = process.status.not_ready()?;
            Some(format!("{}: {reason}", process.name))
        });
        match stuck {
            Some(reason) => Readiness { ready: false, reason },
            None => Readiness {
                ready: true,
                reason: "streaming".into(),
            },
        }
    }

    fn roll_back(&self, plugin: &str) -> Result<Value, Box<Problem>> {
        let of = |process: &&Arc<super::process::Process>| process.modules.newest(plugin).is_some();
        // A name that none has is told by the first.
        let process = self.0.iter().find(of).or(self.0.first());
        match process {
            Some(process) => super::reload::roll_back(process, plugin),
            None => Err(Box::new(super::failure::bug("a console without a pipeline"))),
        }
    }

    fn status(&self) -> Value {
        let pipelines: Vec<Value> = self.0.iter().map(|process| process.status.json(process)).collect();
        json!({ "pipelines": pipelines })
    }

    fn pause_copies(&self, pipeline: &str, paused: bool) -> Option<Value> {
        let process = self.0.iter().find(|process| process.name == pipeline)?;
        process.pace.pause(paused);
        tracing::info!(paused, "the copy was paused or let go on");
        Some(process.status.copy_json(process))
    }

    fn resync(&self, pipeline: &str, table: &str) -> Option<Result<Value, Box<Problem>>> {
        let process = self.0.iter().find(|process| process.name == pipeline)?;
        Some(super::resync::resync(process, table))
    }

    fn reload(&self, pipeline: &str) -> Option<Result<Value, Vec<Problem>>> {
        let process = self.0.iter().find(|process| process.name == pipeline)?;
        Some(super::reconfigure::reconfigure(process))
    }

    fn dead_letters(
        &self,
        pipeline: &str,
        action: Action,
        selection: &Selection,
        force: bool,
    ) -> Option<Result<Value, Box<Problem>>> {
        let process = self.0.iter().find(|process| process.name == pipeline)?;
        Some(dead_letter::carry_out(&process.dead_letters, action, selection, force))
    }
}

/// From now on SIGHUP has the files of these pipelines read again. To be called on a runtime.
pub fn reload_on_hangup(pipelines: Arc<Pipelines>) -> std::io::Result<()> {
    let mut hangup = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup())?;
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            let pipelines = Arc::clone(&pipelines);
            // One after the other; a panic has been told by the hook.
            let _ = tokio::task::spawn_blocking(move || pipelines.reload_all()).await;
        }
    });
    Ok(())
}
