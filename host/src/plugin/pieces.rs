//! Chains that keep something: what is set aside, and what has to wait behind it, leaves no trace in what they keep.
//!
//! A change that is set aside goes through the whole chain when it is sent again. So nothing of it may be kept now, in
//! whatever plugin, or it would count twice; and whether it counts must not depend on where batches are cut. The same
//! goes for the later changes of its key, which a plugin may well take.
//!
//! ```text
//!   rows              1  2  3  4  5  6        2 is refused, 4 has the same key, 6 is refused too
//!   all at once       +  !  +  +  +  !        what the plugins keep has 2 and 4 in it: that is put back
//!   again, up to 6    1  -  3  -  5           it has 1, 3 and 5
//!   the rest                         !        6 was refused with 2 and 4 kept: it has to be seen again
//! ```
//!
//! The first change that is refused is refused in any case: up to there nothing was kept that doesn't belong there. So
//! rows are taken as far as that is certain, and then further, in pieces that grow as long as nothing is refused. Where
//! nothing is, and that is nearly always, all rows are one piece, which costs a note of where things stand.

use super::aside::{Aside, AsideCause, Processed, Waits};
use super::chain::Chain;
use super::error::PluginError;
use crate::batch::{Batch, Extent, Row};
use rustc_hash::{FxHashMap, FxHashSet};

/// What a piece begins with behind one that was cut: fewer rows aren't worth a call.
const PIECE_ROWS_MIN: usize = 16;

/// A change, by its transaction and ordinal.
type Change = (u32, u64);

/// The rows of a batch in front of a piece that plugins have, and those behind it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Around<'a> {
    pub before: &'a [Row],
    pub behind: &'a [Row],
}

/// The transactions that go on across a piece's ends.
pub(super) type Across = (Option<u32>, Option<u32>);

impl Around<'_> {
    /// For whoever gets those rows of which this is so.
    pub fn across(&self, rows: &[Row], own: impl Fn(&Row) -> bool) -> Across {
        let (Some(first), Some(last)) = (rows.first(), rows.last()) else {
            return (None, None);
        };
        let before = self.before.iter().rev();
        let mut before = before.take_while(|row| row.transaction == first.transaction);
        let mut behind = self.behind.iter().take_while(|row| row.transaction == last.transaction);
        (
            before.find(|row| own(row)).map(|row| row.transaction),
            behind.find(|row| own(row)).map(|row| row.transaction),
        )
    }
}

/// A batch as it was in front of a piece.
struct Before {
    changes: usize,
    extent: Extent,
    message_rows: Vec<Row>,
}

impl Before {
    fn of(batch: &Batch) -> Self {
        Self {
            changes: batch.changes(),
            extent: batch.extent(),
            message_rows: batch.message_rows.clone(),
        }
    }

    /// No row may point to what has come since then.
    fn put_back(self, batch: &mut Batch) {
        batch.take_back(self.changes);
        batch.cut(self.extent);
        batch.message_rows = self.message_rows;
    }
}

/// What came of a piece in which changes were refused.
struct Judged {
    /// Those that are refused in any case.
    settled: Vec<Aside>,
    /// Those that have to be seen again, from the first of them on.
    open: FxHashMap<Change, Aside>,
    first_open: Option<Change>,
    /// Whether plugins keep something that doesn't belong there.
    traces: bool,
}

/// What the rows of a batch have come to.
#[derive(Default)]
struct Walk {
    /// As they came.
    came: Vec<Row>,
    at: usize,
    /// So many rows are tried next.
    step: usize,
    /// Those that the plugins have.
    taken: Vec<Row>,
    /// Changes from `at` on that are set aside already.
    settled: FxHashSet<Change>,
    shortened: bool,
}

impl Chain {
    /// [`Chain::process`] for one that keeps something.
    pub(super) fn in_pieces(
        &mut self,
        batch: &mut Batch,
        rows: &mut Vec<Row>,
        processed: &mut Processed,
        waits: &mut dyn Waits,
    ) -> Result<(), PluginError> {
        let mut walk = Walk {
            step: rows.len(),
            ..Walk::default()
        };
        let before = Before::of(batch);
        let (asides, waiting, counts) = (processed.aside.len(), processed.waiting.len(), processed.counts);
        let done = self.walk(&mut walk, batch, rows, processed, waits);
        if done.is_err() {
            before.put_back(batch);
            processed.aside.truncate(asides);
            processed.waiting.truncate(waiting);
            processed.counts = counts;
            if !walk.came.is_empty() {
                rows.clone_from(&walk.came);
            }
        }
        if !walk.came.is_empty() {
            processed.aside[asides..].sort_by_key(|aside| change(&aside.row));
            self.original = walk.came;
        }
        done
    }

    fn walk(
        &mut self,
        walk: &mut Walk,
        batch: &mut Batch,
        rows: &mut Vec<Row>,
        processed: &mut Processed,
        waits: &mut dyn Waits,
    ) -> Result<(), PluginError> {
        let mut piece = std::mem::take(rows);
        let count = piece.len();
        if !waits.is_idle() {
            walk.came.clone_from(&piece);
        }
        let mut waiting = Vec::new();
        let mut made = Processed::default();
        while walk.at < count {
            let end = walk.end(count);
            // Where nobody waits, the first piece is all there is.
            if !walk.came.is_empty() {
                piece.clear();
                waiting.clear();
                for row in &walk.came[walk.at..end] {
                    match walk.settled.contains(&change(row)) {
                        true => {}
                        false if waits.waits(batch, row) => waiting.push(*row),
                        false => piece.push(*row),
                    }
                }
            }
            if !piece.is_empty() && !self.take(walk, end, batch, &mut piece, processed, &mut made, waits)? {
                continue;
            }
            match rows.is_empty() {
                true => std::mem::swap(rows, &mut piece),
                false => rows.append(&mut piece),
            }
            processed.waiting.append(&mut waiting);
            walk.step = (end - walk.at).saturating_mul(2).max(PIECE_ROWS_MIN);
            walk.at = end;
        }
        Ok(())
    }

    /// Takes a piece through the plugins: it becomes what is left of it. `false` where it has to be taken in another way, and
    /// never was.
    #[expect(clippy::too_many_arguments, reason = "a step of one walk")]
    fn take(
        &mut self,
        walk: &mut Walk,
        end: usize,
        batch: &mut Batch,
        piece: &mut Vec<Row>,
        processed: &mut Processed,
        made: &mut Processed,
        waits: &mut dyn Waits,
    ) -> Result<bool, PluginError> {
        let before = Before::of(batch);
        made.clear();
        self.save();
        let around = Around {
            before: &walk.taken,
            behind: walk.came.get(end..).unwrap_or_default(),
        };
        if let Err(error) = self.once(batch, piece, made, around) {
            self.keep();
            if walk.came.is_empty() {
                // They are what they were.
                walk.came = std::mem::take(piece);
            }
            return Err(error);
        }
        let settled = match made.aside.is_empty() {
            true => Vec::new(),
            false => {
                if walk.came.is_empty() {
                    walk.came.clone_from(&self.original);
                }
                let judged = judge(&batch.as_it_came(), &self.original, &mut made.aside, waits);
                if judged.traces {
                    self.put_back()?;
                    before.put_back(batch);
                    self.undone(walk, end, judged, made, processed);
                    return Ok(false);
                }
                judged.settled
            }
        };
        self.keep();
        if end < walk.came.len() {
            walk.taken.extend_from_slice(&self.original);
        }
        processed.counts += made.counts;
        processed.aside.extend(settled);
        Ok(true)
    }

    /// What is certain of a piece that was put back.
    #[cold]
    fn undone(&mut self, walk: &mut Walk, end: usize, judged: Judged, made: &Processed, processed: &mut Processed) {
        if !walk.shortened {
            // Going back again won't mean to go through the batches before.
            walk.shortened = true;
            self.all_stages().for_each(super::stage::Stage::shorten_journal);
        }
        let is_fault = |aside: &&Aside| matches!(aside.cause, AsideCause::Fault(_));
        for aside in judged.open.values().filter(is_fault) {
            // Of a divided one the first division's, with whom the others count.
            self.all_stages()
                .nth(aside.traces.stage)
                .iter_mut()
                .for_each(|stage| stage.forgive());
        }
        let counts = &mut processed.counts;
        counts.retries += made.counts.retries;
        counts.instances_made += made.counts.instances_made;
        for aside in judged.settled {
            match aside.cause {
                AsideCause::Fault(_) => counts.faults += 1,
                AsideCause::Row(_) => counts.rejected += 1,
            }
            walk.settled.insert(change(&aside.row));
            processed.aside.push(aside);
        }
        let mut rest = walk.came[walk.at..end].iter();
        let first_open = judged.first_open;
        let step = first_open.and_then(|open| rest.position(|row| change(row) == open));
        walk.step = step.unwrap_or(end - walk.at);
    }
}

impl Walk {
    /// Where the next piece ends: all rows of a change are in one.
    fn end(&self, count: usize) -> usize {
        let mut end = self.at.saturating_add(self.step).min(count);
        while 0 < end && end < self.came.len() && change(&self.came[end]) == change(&self.came[end - 1]) {
            end += 1;
        }
        end
    }
}

/// Looks through the rows that plugins have seen, in order. What they failed at is certain up to where something is kept
/// that doesn't belong there, and beyond that where what is kept has nothing to do with it.
fn judge(batch: &Batch, shown: &[Row], asides: &mut Vec<Aside>, waits: &mut dyn Waits) -> Judged {
    let mut judged = Judged {
        settled: Vec::new(),
        open: asides.drain(..).map(|aside| (change(&aside.row), aside)).collect(),
        first_open: None,
        traces: false,
    };
    for row in shown {
        let own = change(row);
        // What has come behind one of them should not have been seen, whatever became of it.
        if waits.waits(batch, row) {
            judged.traces = true;
            continue;
        }
        match judged.open.remove(&own) {
            Some(aside) if judged.traces && aside.traces.met => {
                judged.open.insert(own, aside);
                judged.first_open = Some(own);
                break;
            }
            Some(aside) => {
                waits.set_aside(batch, row);
                judged.traces |= aside.traces.left;
                judged.settled.push(aside);
            }
            None => {}
        }
    }
    judged
}

fn change(row: &Row) -> Change {
    (row.transaction, row.ordinal)
}
