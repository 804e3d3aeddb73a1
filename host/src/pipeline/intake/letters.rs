//! Dead letters on the way of the stream: those that are sent again, and what has to wait behind the others.

use super::{HOLD_POLL, Intake, LaneEnd, RouteState};
use crate::batch::{Batch, Row};
use crate::checkpoint::Mark;
use crate::dead_letter::Held;
use crate::pipeline::job::Job;
use crate::snapshot::Mergers;

impl Intake {
    /// Dead letters that somebody wants to be sent again. Where the store says so, the stream waits until that is
    /// settled. They go through the plugins as they are now: where the stream has still to come to where these begin, they wait.
    pub(super) fn replay(&mut self) -> Result<(), LaneEnd> {
        if self.waits_for_version() {
            return Ok(());
        }
        let Some(mut replay) = self.letters.take_replay(self.position).map_err(LaneEnd::Problem)? else {
            return Ok(());
        };
        let mut rows: Vec<Vec<Row>> = vec![Vec::new(); self.states.len()];
        for (id, of_route) in &replay.rows {
            if let Some(route) = self.states.iter().position(|state| state.id == *id) {
                rows[route].clone_from(of_route);
            }
        }
        let batch = std::mem::take(&mut replay.batch);
        // What they do to a state is stored together with the news that they have arrived: now, or with the next state.
        let stateful = self.has_state(&rows);
        if stateful {
            self.letters.is_counted(replay.ticket);
        }
        let mut released = self.hold.pass(&batch, stateful, false, 0, &self.stats.states);
        if stateful && self.may_checkpoint() {
            released = self.hold.checkpoint();
        } else if stateful {
            replay.waits_for_state = true;
            released.marks = self.hold.mark(vec![Mark::Replayed(replay.ticket.0)]);
        }
        // The stream must go on for there to be a state.
        let hold = replay.hold && !replay.waits_for_state;
        let job = Job {
            copying: self.tables_where(&batch, Mergers::is_copying),
            spared: self.tables_where(&batch, Mergers::fills_in),
            batch,
            rows,
            waiting: Vec::new(),
            keep_rows: false,
            marks: released.marks,
            position: released.position,
            checkpoint: released.checkpoint,
            replay: Some(Box::new(replay)),
        };
        self.process(job)?;
        while hold && self.letters.is_under_way() && !self.queue.is_closed() {
            std::thread::sleep(HOLD_POLL);
        }
        Ok(())
    }

    /// Changes that have to wait behind dead letters, by route; nothing at all where there are no letters.
    pub(super) fn waiting(&self, batch: &Batch, rows: &[Vec<Row>]) -> Vec<Held> {
        if self.letters.is_empty() {
            return Vec::new();
        }
        let of_route = |(state, rows): (&RouteState, &Vec<Row>)| {
            if state.has_plugins {
                self.letters.waiting(state.id, batch, rows)
            } else {
                Held::default()
            }
        };
        self.states.iter().zip(rows).map(of_route).collect()
    }
}
