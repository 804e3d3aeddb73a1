//! What a lane knows of dead letters.
//!
//! What is shown to a plugin that keeps something is kept; so a lane with such plugins has to know beforehand what can't go
//! on. The outflow writes the letters, a batch or more behind the lane: where such a lane has set something aside, it
//! waits until that is written before it looks at the next batch.

use super::job::Done;
use super::lane::LaneChain;
use super::late;
use crate::batch::{Batch, Op, Row};
use crate::dead_letter::{Behind, DeadLetters, Held, ReplayBatch, RouteId};
use crate::plugin::{Chain, Processed};
use rustc_hash::FxHashSet;
use std::convert::Infallible;
use std::sync::mpsc::{self, Receiver};

/// Where a lane looks.
#[derive(Clone)]
pub(super) struct LaneLetters {
    pub letters: DeadLetters,
    /// The routes as they are known there.
    pub routes: Vec<RouteId>,
    /// Tables whose copied rows go to some sinks alone.
    pub only: late::Only,
}

impl LaneLetters {
    /// Whether there are any.
    pub(super) fn any(&self) -> bool {
        !self.letters.is_empty()
    }

    /// What waits of a route's rows. Where plugins may keep truncates `back`, none frees a key for certain.
    fn behind(&self, route: usize, batch: &Batch, rows: &[Row], back: bool) -> Behind {
        let Some(route) = self.routes.get(route) else {
            return Behind::default();
        };
        self.letters
            .behind(*route, batch, rows, |row| !back && !is_partial(&self.only, batch, row))
    }
}

/// The news that what a lane has set aside is written.
#[derive(Debug, Default)]
pub(super) struct Noted(Option<Receiver<Infallible>>);

impl Noted {
    /// Has whoever takes `done` on tell.
    pub(super) fn of(done: &mut Done) -> Self {
        let (noted, told) = mpsc::channel();
        done.noted = Some(noted);
        Self(Some(told))
    }

    /// Until it is. Where nobody will tell any more, there is nothing to wait for either.
    pub(super) fn wait(&mut self) {
        if let Some(told) = self.0.take() {
            let _ = told.recv();
        }
    }
}

impl LaneChain {
    /// Whether anything of what it runs keeps something.
    pub(super) fn keeps(&self) -> bool {
        self.all().any(Chain::is_stateful)
    }

    /// Also the version that waits for the end of a probation.
    fn all(&self) -> impl Iterator<Item = &Chain> {
        let waits = self
            .probation
            .as_ref()
            .and_then(|probation| probation.fallback.as_ref());
        self.chains().chain(waits)
    }

    /// What of its rows waits. `known` is what was known when the batch came.
    pub(super) fn behind(
        &self,
        route: usize,
        letters: Option<&LaneLetters>,
        replay: Option<&ReplayBatch>,
        batch: &Batch,
        rows: &[Row],
        known: Held,
    ) -> Behind {
        match (replay, letters) {
            (Some(replay), _) => replay.behind(),
            (None, Some(letters)) if self.keeps() => {
                let back = !batch.truncates.is_empty() && self.all().any(Chain::wants_truncates);
                letters.behind(route, batch, rows, back)
            }
            _ => Behind::holding(known),
        }
    }
}

/// Of the rows, those that a chain has taken: neither set aside nor behind such.
pub(super) fn taken(batch: &Batch, mut rows: Vec<Row>, processed: &Processed, behind: &mut Behind) -> Vec<Row> {
    use crate::plugin::Waits;
    if processed.aside.is_empty() && behind.is_idle() {
        return rows;
    }
    let change = |row: &Row| (row.transaction, row.ordinal);
    let asides: FxHashSet<_> = processed.aside.iter().map(|aside| change(&aside.row)).collect();
    rows.retain(|row| match asides.contains(&change(row)) {
        true => {
            behind.set_aside(batch, row);
            false
        }
        false => !behind.waits(batch, row),
    });
    rows
}

/// Whether a truncate is for some sinks alone: the others lack the letters' changes as before.
fn is_partial(only: &late::Only, batch: &Batch, row: &Row) -> bool {
    row.op == Op::Truncate && late::sinks_of(only, batch, row).is_some()
}
