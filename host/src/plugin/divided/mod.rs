//! A chain whose plugins keep something of each key alone: divided by key, on several threads.
//!
//! ```text
//!              +--> division 0: instances, state --+
//!   rows ------+--> division 1: instances, state --+--> rows in the order in which they came
//!   by key     +--> ...                            |
//!              +--> division 15 -------------------+
//! ```
//!
//! There are always [`DIVISIONS`] of them, whatever the number of lanes is: each has instances of its own, and a state that
//! is stored under its number. So all changes of a key meet the same instance, in commit order, and a start with
//! another number of lanes goes on with the same states. The lanes are threads that take shares of the divisions; all of
//! a batch is through before the next one begins, so that whoever exchanges, watches or asks a chain sees one thing.
//!
//! What has no key is shown to all divisions, since any of them may keep what it puts an end to; what the first makes of it
//! counts.

mod crew;
mod key;
mod kept;
mod share;

use super::aside::{Aside, Processed};
use super::chain::Chain;
use super::error::PluginError;
use super::pieces::{Across, Around};
use crate::batch::{Batch, Op, Row};
use crew::Crew;
use std::cmp::Reverse;

pub use kept::PluginKept;
pub(super) use kept::not_together;

/// How many instances share the keys. Stored states are counted by it, so it stays.
pub const DIVISIONS: usize = 16;
/// Fewer rows aren't worth a thread's waking.
const SHARED_ROWS_MIN: usize = 64;
/// What a call costs beside its rows, in rows.
const CALL_ROWS: usize = 8;
/// In the place of a division: all of them.
const ALL: u8 = u8::MAX;

#[derive(Debug)]
pub(super) struct Divided {
    /// `None` while another thread has it.
    divisions: Vec<Option<Division>>,
    crew: Crew,
    /// By row of the batch at hand.
    of_row: Vec<u8>,
}

/// One part of the keys.
#[derive(Debug)]
pub(super) struct Division {
    pub chain: Chain,
    rows: Vec<Row>,
    processed: Processed,
    failed: Option<PluginError>,
    is_first: bool,
    /// The transactions that go on across the ends of what it has of the batch.
    across: Across,
}

impl Division {
    fn work(&mut self, batch: &mut Batch) {
        // Which messages are gone is for the first to say.
        let others = (!self.is_first).then(|| std::mem::take(&mut batch.message_rows));
        let done = self
            .chain
            .through(batch, &mut self.rows, &mut self.processed, self.across);
        self.failed = done.err();
        if let Some(message_rows) = others {
            batch.message_rows = message_rows;
        }
    }
}

impl Divided {
    /// Of one chain for each division; up to `threads` work on them, the caller's included.
    pub fn new(chains: impl Iterator<Item = Chain>, threads: usize) -> Self {
        let division = |(at, chain)| Division {
            chain,
            rows: Vec::new(),
            processed: Processed::default(),
            failed: None,
            is_first: at == 0,
            across: Across::default(),
        };
        Self {
            divisions: chains.enumerate().map(division).map(Some).collect(),
            crew: Crew::start(threads.clamp(1, DIVISIONS) - 1),
            of_row: Vec::new(),
        }
    }

    pub fn chains(&self) -> impl Iterator<Item = &Chain> {
        self.divisions.iter().flatten().map(|division| &division.chain)
    }

    pub fn chains_mut(&mut self) -> impl Iterator<Item = &mut Chain> {
        self.divisions.iter_mut().flatten().map(|division| &mut division.chain)
    }

    /// From `came` to `out`, which are empty.
    ///
    /// # Errors
    ///
    /// As [`Chain::process`]. The divisions that didn't fail have counted their rows then.
    pub fn process(
        &mut self,
        batch: &mut Batch,
        came: &[Row],
        out: &mut Vec<Row>,
        processed: &mut Processed,
        around: Around<'_>,
    ) -> Result<(), PluginError> {
        self.divide(batch, came);
        self.reach_across(batch, around);
        if self.crew.len() > 0 && came.len() >= SHARED_ROWS_MIN {
            self.work_together(batch);
        } else {
            self.divisions
                .iter_mut()
                .flatten()
                .filter(|division| !division.rows.is_empty())
                .for_each(|division| division.work(batch));
        }
        let failed = self.divisions.iter_mut().flatten().find_map(|it| it.failed.take());
        if let Some(error) = failed {
            return Err(error);
        }
        self.gather_asides(processed);
        self.gather(came, out);
        Ok(())
    }

    fn divide(&mut self, batch: &Batch, came: &[Row]) {
        for division in self.divisions.iter_mut().flatten() {
            division.rows.clear();
            division.processed.clear();
            division.failed = None;
        }
        self.of_row.clear();
        for row in came {
            match key::division(batch, row) {
                Some(at) => {
                    self.of_row.push(at as u8);
                    if let Some(Some(division)) = self.divisions.get_mut(at) {
                        division.rows.push(*row);
                    }
                }
                None => {
                    self.of_row.push(ALL);
                    let all = self.divisions.iter_mut().flatten();
                    all.for_each(|division| division.rows.push(*row));
                }
            }
        }
    }

    fn reach_across(&mut self, batch: &Batch, around: Around<'_>) {
        for (at, division) in self.divisions.iter_mut().enumerate() {
            if let Some(division) = division {
                let own = |row: &Row| key::division(batch, row).is_none_or(|of| of == at);
                division.across = around.across(&division.rows, own);
            }
        }
    }

    /// The first division stays on this thread: what becomes of truncates and messages is written to the batch itself.
    fn work_together(&mut self, batch: &mut Batch) {
        let members = self.crew.len();
        let rows = |at: usize| {
            self.divisions
                .get(at)
                .and_then(Option::as_ref)
                .map(|division| division.rows.len())
        };
        let thread_of = shared_out(std::array::from_fn(|at| rows(at).unwrap_or(0)), members + 1);
        for member in 0..members {
            let share = self.crew.share(member);
            for at in (0..DIVISIONS).filter(|at| thread_of[*at] == member + 1) {
                let busy = self.divisions[at].take_if(|division| !division.rows.is_empty());
                share.divisions.extend(busy.map(|division| (at, division)));
            }
            if !share.divisions.is_empty() {
                share.take_batch(batch);
            }
        }
        let has_work = |member: &usize| !self.crew.share(*member).divisions.is_empty();
        let at_work: Vec<usize> = (0..members).filter(has_work).collect();
        at_work.iter().for_each(|member| self.crew.begin(*member));
        self.divisions
            .iter_mut()
            .flatten()
            .filter(|division| !division.rows.is_empty())
            .for_each(|division| division.work(batch));
        for member in at_work {
            let share = self.crew.finished(member);
            share.give_back(batch);
            for (at, division) in share.divisions.drain(..) {
                self.divisions[at] = Some(division);
            }
        }
    }

    /// In the order of the changes.
    fn gather_asides(&mut self, processed: &mut Processed) {
        let before = processed.aside.len();
        for division in self.divisions.iter_mut().flatten() {
            processed.counts += division.processed.counts;
            let own = |aside: &Aside| division.is_first || has_key(&aside.row);
            processed.aside.extend(division.processed.aside.drain(..).filter(own));
        }
        processed.aside[before..].sort_by_key(|aside| change(&aside.row));
    }

    /// What is left, in the order in which it came: what became of a change stands together in its division.
    fn gather(&self, came: &[Row], out: &mut Vec<Row>) {
        let mut rest: Vec<&[Row]> = self
            .divisions
            .iter()
            .map(|division| division.as_ref().map_or(&[][..], |division| &division.rows))
            .collect();
        let take = |rest: &mut &[Row], row: &Row, out: Option<&mut Vec<Row>>| {
            let own = rest.iter().take_while(|made| change(made) == change(row)).count();
            let (made, behind) = rest.split_at(own);
            *rest = behind;
            out.into_iter().for_each(|out| out.extend_from_slice(made));
        };
        for (row, of) in came.iter().zip(&self.of_row) {
            match *of {
                ALL => {
                    for (at, rest) in rest.iter_mut().enumerate() {
                        take(rest, row, (at == 0).then_some(&mut *out));
                    }
                }
                of => take(&mut rest[usize::from(of)], row, Some(out)),
            }
        }
        assert!(
            rest.iter().all(|rest| rest.is_empty()),
            "rows of a division out of order"
        );
    }
}

/// Which thread takes each division, by the rows that they have: the largest first, each to whoever has the least so far.
/// The first one is thread 0's.
fn shared_out(rows: [usize; DIVISIONS], threads: usize) -> [usize; DIVISIONS] {
    let mut order: [usize; DIVISIONS] = std::array::from_fn(|at| at);
    order[1..].sort_by_key(|at| Reverse(rows[*at]));
    let mut loads = [0; DIVISIONS];
    let mut thread_of = [0; DIVISIONS];
    for at in order.into_iter().filter(|at| rows[*at] > 0) {
        let threads = loads.iter().enumerate().take(if at == 0 { 1 } else { threads });
        let least = threads.min_by_key(|(_, load)| **load).map_or(0, |(thread, _)| thread);
        loads[least] += rows[at] + CALL_ROWS;
        thread_of[at] = least;
    }
    thread_of
}

fn has_key(row: &Row) -> bool {
    !matches!(row.op, Op::Truncate | Op::Message)
}

fn change(row: &Row) -> (u32, u64) {
    (row.transaction, row.ordinal)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loads(rows: [usize; DIVISIONS], threads: usize) -> Vec<usize> {
        let thread_of = shared_out(rows, threads);
        assert_eq!(thread_of[0], 0);
        let of = |thread| {
            (0..DIVISIONS)
                .filter(|at| thread_of[*at] == thread)
                .map(|at| rows[at])
                .sum()
        };
        (0..threads).map(of).collect()
    }

    #[test]
    fn divisions_are_shared_out_by_their_rows() {
        let mut rows = [10; DIVISIONS];
        rows[4] = 150;
        // The others' calls cost something, too.
        assert_eq!(loads(rows, 2), [120, 180]);
        assert_eq!(loads([10; DIVISIONS], 4), [40; 4]);
        assert_eq!(loads([10; DIVISIONS], 1), [160]);
        assert_eq!(loads([10; DIVISIONS], 16), [10; 16]);
        // What has no rows takes nobody's time.
        let mut few = [0; DIVISIONS];
        (few[3], few[7], few[8]) = (30, 20, 20);
        assert_eq!(loads(few, 2).iter().sum::<usize>(), 70);
        assert_eq!(shared_out(few, 2)[3], 0);
    }
}
