//! Changes that a sink can't take: set aside by hand.
//!
//! Plugins refuse a row before it is handed over, a sink long after: others have it by then, and more has followed. So
//! the pipeline stops, and whoever wants the row out of the way says so while it stands. The server sends the change
//! again at the next start, as the sink's position is before it, and there it is set aside like one that a plugin refuses: no
//! plugin is shown it, later changes of its key wait behind it.

use super::index::ChangeId;
use super::line::{Record, Refused};
use super::store::DeadLetters;
use super::store::State;
use crate::batch::Lsn;
use crate::problem::Problem;

impl DeadLetters {
    /// Has a streamed change set aside by a route when it comes again. On return that is durable. `false` where it stands
    /// in a letter already, or stood in one.
    ///
    /// # Errors
    /// No room, or a disk that can't be used.
    pub fn refuse(&self, route: &str, lsn: Lsn, ordinal: u64, sink: &str) -> Result<bool, Box<Problem>> {
        let id = self.route(route);
        self.with(|state| {
            if !state.index.refuse((id.0, lsn.0, ordinal), sink.to_owned()) {
                return Ok(false);
            }
            let refused = Refused {
                route: route.to_owned(),
                lsn: lsn.0,
                ordinal,
                sink: sink.to_owned(),
                forgotten: false,
            };
            state.append(vec![Record::Refused(refused)])?;
            Ok(true)
        })
    }
}

impl State {
    /// What was to be set aside and never comes again, as it was skipped.
    pub(super) fn forget_refused(&mut self, passed: Vec<(ChangeId, String)>) {
        let records = passed.into_iter().map(|((route, lsn, ordinal), sink)| {
            Record::Refused(Refused {
                route: self.routes[route as usize].clone(),
                lsn,
                ordinal,
                sink,
                forgotten: true,
            })
        });
        let records = records.collect();
        if let Err(problem) = self.append(records) {
            tracing::warn!(%problem, "changes that were to be set aside have been passed over");
        }
    }
}
