//! Some of the last batches, as their rows reached the routes' plugins: what a new version is rehearsed on.

use crate::batch::{Batch, Row};
use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Enough to show what rows look like, little enough to rehearse in a moment.
const MAX_BATCHES: usize = 64;
/// Twice that may be held for a moment, while a rehearsal goes on.
const MAX_BYTES: usize = 8 << 20;
/// A full ring takes no more than one batch in this time: copying it stays far below a hundredth of a lane's work.
const INTERVAL: Duration = Duration::from_millis(100);

/// A batch before its plugins.
#[derive(Debug)]
pub struct Kept {
    pub batch: Batch,
    /// The routes' names: a reload may give them other places.
    names: Arc<[String]>,
    /// By route; empty where it has no plugins.
    rows: Vec<Vec<Row>>,
    bytes: usize,
}

impl Kept {
    /// The rows that came to the plugins of a route, by its name.
    pub fn rows(&self, route: &str) -> &[Row] {
        let at = self.names.iter().position(|name| name == route);
        at.and_then(|at| self.rows.get(at)).map_or(&[], Vec::as_slice)
    }
}

#[derive(Debug, Default)]
struct Inner {
    kept: VecDeque<Arc<Kept>>,
    bytes: usize,
    last: Option<Instant>,
}

#[derive(Debug, Default)]
pub struct Recent(Mutex<Inner>);

impl Recent {
    /// The batches that are kept, oldest first.
    pub fn batches(&self) -> Vec<Arc<Kept>> {
        self.lock().kept.iter().cloned().collect()
    }

    /// Forgets them: what routes let out is different from now on.
    pub fn clear(&self) {
        *self.lock() = Inner::default();
    }

    /// Copies the batch, received bytes included: their buffer isn't held for it.
    pub(super) fn keep<R: Iterator<Item = bool>>(
        &self,
        batch: &Batch,
        names: &Arc<[String]>,
        rows: &[Vec<Row>],
        of_plugins: impl Fn() -> R,
    ) {
        let wanted = rows
            .iter()
            .zip(of_plugins())
            .any(|(rows, plugins)| plugins && !rows.is_empty());
        if !wanted {
            return;
        }
        let bytes = batch.size_bytes() + rows.iter().map(|rows| rows.len() * size_of::<Row>()).sum::<usize>();
        let mut inner = self.lock();
        let full = inner.kept.len() >= MAX_BATCHES || inner.bytes + bytes > MAX_BYTES;
        if bytes > MAX_BYTES || full && inner.last.is_some_and(|last| last.elapsed() < INTERVAL) {
            return;
        }
        inner.last = Some(Instant::now());
        let copy = Batch {
            bytes: Bytes::copy_from_slice(&batch.bytes),
            ..batch.clone()
        };
        let rows = rows.iter().zip(of_plugins());
        let rows = rows.map(|(rows, plugins)| if plugins { rows.clone() } else { Vec::new() });
        let rows = rows.collect();
        inner.bytes += bytes;
        inner.kept.push_back(Arc::new(Kept {
            batch: copy,
            names: Arc::clone(names),
            rows,
            bytes,
        }));
        while inner.kept.len() > MAX_BATCHES || inner.bytes > MAX_BYTES {
            let Some(oldest) = inner.kept.pop_front() else { break };
            inner.bytes -= oldest.bytes;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
