//! How far each sink's target had come, kept with the position: where a target holds less at a start, its rows are missing,
//! and the stream that begins at the position wouldn't bring them.

use super::process::Process;
use crate::batch::Lsn;
use crate::checkpoint::SinkPosition;
use crate::problem::Problem;
use crate::sink::{Held, Known, Standing};
use std::sync::Arc;

/// What is known of each sink, in the order of the configuration.
pub(super) struct Standings(Vec<(String, Arc<Known>)>);

impl Standings {
    /// For a session whose stream begins at `start`. What was known of a sink that takes no part is forgotten: when it
    /// comes back it gets a copy of its own, whatever it holds then.
    pub(super) fn load(process: &Process, start: Lsn) -> Result<Self, Problem> {
        let config = process.config();
        let mut stored = process.store.sink_positions()?;
        let count = stored.len();
        stored.retain(|of| config.sinks.iter().any(|sink| sink.name == of.sink));
        if stored.len() < count {
            process.store.set_sink_positions(&stored)?;
        }
        let known = |name: &str| {
            let found = stored.iter().find(|of| of.sink == name)?;
            let position = found.position.map(|position| Standing::At(Lsn(position)));
            Some(Held {
                standing: position.unwrap_or(Standing::Begun),
                unstreamed: found.unstreamed,
            })
        };
        let begun = process.store.begun()?;
        let partings = process.store.partings()?;
        let parts_at = |name: &str| partings.iter().find(|parting| parting.sink == name);
        let sinks = config.sinks.iter().map(|sink| {
            let parts_at = parts_at(&sink.name).map(|parting| Lsn(parting.at));
            let known = Known::new(known(&sink.name), start).since(begun).parted(parts_at);
            (sink.name.clone(), Arc::new(known))
        });
        Ok(Self(sinks.collect()))
    }

    /// Of the sink with this index.
    pub(super) fn of(&self, sink: usize) -> Arc<Known> {
        self.0.get(sink).map(|(_, known)| Arc::clone(known)).unwrap_or_default()
    }

    /// What is to be stored: of the sinks whose targets hold something themselves.
    pub(super) fn positions(&self) -> Vec<SinkPosition> {
        let known = self.0.iter().filter_map(|(sink, known)| {
            let Held { standing, unstreamed } = known.standing()?;
            let position = match standing {
                Standing::Nothing => return None,
                Standing::Begun => None,
                Standing::At(position) => Some(position.0),
            };
            let sink = sink.clone();
            Some(SinkPosition {
                sink,
                position,
                unstreamed,
            })
        });
        known.collect()
    }
}
