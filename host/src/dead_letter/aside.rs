//! Which changes of a batch are set aside, and behind what.
//!
//! Order per key holds across letters: a change waits behind an earlier letter of its old or its new key, and blocks
//! both of them in turn. What an earlier run has set aside is set aside again when the server sends it again, whatever
//! the plugin makes of it this time; what came before a letter is never blocked by it. So a change is delivered or
//! stands in a letter, however often the stream is read again.

use super::cause::{Cause, PluginName};
use super::fault;
use super::index::{Asked, ChangeId, Index};
use super::key;
use super::letter::{Change, Letter};
use super::line::Record;
use super::replay::Selection;
use super::store::{DeadLetters, RouteId, State, now_us};
use crate::batch::{Batch, Op, Origin, Row};
use crate::problem::Problem;
use std::sync::Arc;

/// Letters that are kept: some hundred bytes of memory each.
const LETTERS_MAX: usize = 1_000_000;

/// A change that a plugin couldn't take through.
#[derive(Clone, Debug)]
pub struct Aside {
    /// Told by its transaction and ordinal: which of the plugin's rows it was doesn't matter.
    pub row: Row,
    pub cause: Cause,
    pub plugin: PluginName,
}

/// Names the sinks that lack a row.
pub type Lacking<'a> = &'a dyn Fn(&Row) -> Option<Vec<String>>;

/// Changes of a batch that are not to be delivered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Transaction's index and ordinal, ascending.
    changes: Vec<(u32, u64)>,
}

impl Held {
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    pub fn len(&self) -> usize {
        self.changes.len()
    }

    /// Whether the row is, or was made of, a change that is held.
    pub fn holds(&self, row: &Row) -> bool {
        self.changes.binary_search(&(row.transaction, row.ordinal)).is_ok()
    }

    /// Takes the held ones out of what the plugins made.
    pub fn retain_rest(&self, rows: &mut Vec<Row>) {
        if !self.is_empty() {
            rows.retain(|row| !self.holds(row));
        }
    }

    /// Further ones are held.
    pub fn add(&mut self, rows: &[Row]) {
        if !rows.is_empty() {
            let more = rows.iter().map(|row| (row.transaction, row.ordinal));
            *self = Self::of(self.changes.drain(..).chain(more).collect());
        }
    }

    pub(super) fn changes(&self) -> &[(u32, u64)] {
        &self.changes
    }

    pub(super) fn of(mut changes: Vec<(u32, u64)>) -> Self {
        changes.sort_unstable();
        changes.dedup();
        Self { changes }
    }
}

impl DeadLetters {
    /// Sets aside `asides` and what has to wait behind them or behind earlier letters. `rows` are the rows of the route
    /// as they went into its plugins, in order. `lacking` names the sinks that lack a row, where that isn't all of the
    /// route's. On return all of it is durable, and what is held must not be delivered.
    ///
    /// # Errors
    /// No room, or too many that wait: the pipeline has to stop, nothing of the batch may go on.
    pub fn set_aside_for(
        &self,
        route: RouteId,
        batch: &Batch,
        rows: &[Row],
        asides: Vec<Aside>,
        waiting: &Held,
        lacking: Lacking<'_>,
    ) -> Result<Held, Box<Problem>> {
        if asides.is_empty() && waiting.is_empty() && self.is_empty() {
            return Ok(Held::default());
        }
        self.with(|state| {
            let walked = Walk::new(state, route, batch, waiting, lacking).walk(rows, asides);
            // What is in memory is ahead of what is on disk now.
            state.broken |= walked.is_err();
            walked
        })
    }

    /// The same where all sinks of the route lack them.
    #[cfg(test)]
    pub fn set_aside(
        &self,
        route: RouteId,
        batch: &Batch,
        rows: &[Row],
        asides: Vec<Aside>,
        waiting: &Held,
    ) -> Result<Held, Box<Problem>> {
        self.set_aside_for(route, batch, rows, asides, waiting, &|_| None)
    }

    /// Which of the rows of a route have to wait behind letters that are there now: it is no use to show them to the
    /// plugins, which may break on every change of a row. So it is with changes that stand in a letter themselves. Nothing
    /// is recorded: hand the result to [`Self::set_aside_for`], which holds them whatever has become of those letters
    /// meanwhile.
    pub fn waiting(&self, route: RouteId, batch: &Batch, rows: &[Row]) -> Held {
        self.behind(route, batch, rows, |_| true).into_held()
    }
}

/// Whether any row of the batch can be blocked or known.
pub(super) fn is_concerned(index: &Index, route: RouteId, batch: &Batch) -> bool {
    let mut tables = batch.relations.iter();
    let first = batch.transactions.first();
    first.is_some_and(|first| first.commit_lsn <= index.newest())
        || tables.any(|relation| index.concerns(route.0, relation.oid))
}

/// Whether the change stands in a letter, stood in one, or is to stand in one.
pub(super) fn is_known(index: &Index, route: RouteId, batch: &Batch, row: &Row) -> bool {
    change_id(index, route, batch, row).is_some_and(|id| index.knows(id))
}

/// Whether the change is to stand in a letter.
pub(super) fn is_refused(index: &Index, route: RouteId, batch: &Batch, row: &Row) -> bool {
    let id = change_id(index, route, batch, row);
    id.is_some_and(|id| index.refused_by(id).is_some())
}

/// What the change is known by, where any such change is known.
fn change_id(index: &Index, route: RouteId, batch: &Batch, row: &Row) -> Option<ChangeId> {
    let transaction = batch.transaction(row);
    let may_be = transaction.origin == Origin::Stream && transaction.commit_lsn <= index.newest();
    may_be.then_some((route.0, transaction.commit_lsn.0, row.ordinal))
}

/// The letter that a row has to wait behind.
pub(super) fn blocker(index: &Index, asked: Asked, batch: &Batch, row: &Row, scratch: &mut Vec<u8>) -> Option<u64> {
    if index.concerns_all(asked.route, asked.oid, asked.shape) {
        // Also where the table has lost its key since: which of its rows are in the letters isn't known.
        return index.blocker(asked, None);
    }
    let mut blocker = None;
    let known = key::each(batch, row, scratch, |key| {
        blocker = blocker.or_else(|| index.blocker(asked, Some(key)));
    });
    match known {
        true => blocker,
        false => blocker.or_else(|| index.blocker(asked, None)),
    }
}

struct Walk<'a> {
    state: &'a mut State,
    route: RouteId,
    batch: &'a Batch,
    /// Changes that the plugins haven't seen, so they can't go on.
    waiting: &'a Held,
    lacking: Lacking<'a>,
    records: Vec<Record>,
    /// Letters that waited behind others which have gone since: nobody else would have them sent.
    left_alone: Vec<u64>,
    held: Vec<(u32, u64)>,
    now_us: i64,
    /// By the relation's index in the batch: the shape of its key, and whether letters are there.
    shapes: Vec<Option<u64>>,
}

impl<'a> Walk<'a> {
    fn new(state: &'a mut State, route: RouteId, batch: &'a Batch, waiting: &'a Held, lacking: Lacking<'a>) -> Self {
        Self {
            state,
            route,
            batch,
            waiting,
            lacking,
            records: Vec::new(),
            left_alone: Vec::new(),
            held: Vec::new(),
            now_us: now_us(),
            shapes: vec![None; batch.relations.len()],
        }
    }

    fn walk(mut self, rows: &[Row], mut asides: Vec<Aside>) -> Result<Held, Box<Problem>> {
        if asides.is_empty() && self.waiting.is_empty() && !is_concerned(&self.state.index, self.route, self.batch) {
            return Ok(Held::default());
        }
        asides.sort_by_key(|aside| (aside.row.transaction, aside.row.ordinal));
        let mut asides = asides.into_iter().peekable();
        for row in rows {
            let place = (row.transaction, row.ordinal);
            while asides
                .next_if(|aside| (aside.row.transaction, aside.row.ordinal) < place)
                .is_some()
            {}
            let of_row = |aside: &Aside| (aside.row.transaction, aside.row.ordinal) == place;
            let mut aside = asides.next_if(of_row);
            // The first stage that refused it has said why.
            while asides.next_if(of_row).is_some() {}
            self.change(row, aside.take())?;
        }
        self.state.append(std::mem::take(&mut self.records))?;
        self.send_left_alone();
        Ok(Held::of(self.held))
    }

    fn send_left_alone(&mut self) {
        let entries = &self.state.index.entries;
        let is_due = |number: &u64| entries.get(number).is_some_and(|entry| !entry.superseded);
        self.left_alone.retain(is_due);
        if self.left_alone.is_empty() {
            return;
        }
        let letters = std::mem::take(&mut self.left_alone);
        if let Err(problem) = self.state.request(&Selection::Numbers(letters), false) {
            tracing::warn!(%problem, "changes that waited behind dead letters stay where they are: `rowmill dead-letter replay --all`");
        }
    }

    fn change(&mut self, row: &Row, aside: Option<Aside>) -> Result<(), Box<Problem>> {
        match (row.op, aside) {
            (Op::Truncate, None) => self.truncate(row),
            (Op::Message, None) => {}
            (Op::Truncate | Op::Message, Some(aside)) => return Err(fault::no_row(&aside.plugin.name)),
            (_, aside) => return self.row_change(row, aside),
        }
        Ok(())
    }

    fn truncate(&mut self, row: &Row) {
        let Some(truncate) = self.batch.truncates.get(row.extra as usize) else {
            return;
        };
        let order = Change::of(self.batch, row).order();
        for at in &truncate.relations {
            let Some(relation) = self.batch.relations.get(*at as usize) else {
                continue;
            };
            let letters = self.state.index.supersede(self.route.0, relation.oid, order);
            if !letters.is_empty() {
                let table = relation.full_name();
                tracing::warn!(
                    table,
                    letters = letters.len(),
                    "the table was truncated: its dead letters block nothing"
                );
                self.records.push(Record::Superseded { letters });
            }
        }
    }

    fn row_change(&mut self, row: &Row, aside: Option<Aside>) -> Result<(), Box<Problem>> {
        let id = change_id(&self.state.index, self.route, self.batch, row);
        if let Some(sink) = id.and_then(|id| self.state.index.refused_by(id)) {
            let cause = Cause::new("refused", format!("sink {sink} can't take it"));
            let behind = self.blocker(row);
            self.held.push((row.transaction, row.ordinal));
            return self.letter(row, Some((cause, None)), behind);
        }
        if is_known(&self.state.index, self.route, self.batch, row) {
            self.held.push((row.transaction, row.ordinal));
            return Ok(());
        }
        let behind = self.blocker(row);
        if aside.is_none() && behind.is_none() && !self.waiting.holds(row) {
            return Ok(());
        }
        self.held.push((row.transaction, row.ordinal));
        let why = aside.map(|aside| (aside.cause, Some(aside.plugin)));
        self.letter(row, why, behind)
    }

    fn blocker(&mut self, row: &Row) -> Option<u64> {
        let relation = self.batch.relation(row);
        if !self.state.index.concerns(self.route.0, relation.oid) {
            return None;
        }
        let shape = *self.shapes[row.relation as usize].get_or_insert_with(|| key::shape_of(relation));
        let asked = Asked {
            route: self.route.0,
            oid: relation.oid,
            shape,
            order: Change::of(self.batch, row).order(),
            // Those before a truncate were let go of on the way.
            since: None,
        };
        let mut scratch = std::mem::take(&mut self.state.scratch);
        let blocker = blocker(&self.state.index, asked, self.batch, row, &mut scratch);
        self.state.scratch = scratch;
        blocker
    }

    /// A copied row that stands in a letter comes again, for sinks that may be others.
    fn widen(&mut self, number: u64, more: Option<Vec<String>>) -> Result<(), Box<Problem>> {
        let Some(entry) = self.state.index.entries.get_mut(&number) else {
            return Ok(());
        };
        let Some(before) = &entry.sinks else { return Ok(()) };
        let lacks = |name: &String| !before.contains(name);
        let wider = match more {
            Some(more) if !more.iter().any(lacks) => return Ok(()),
            Some(more) => {
                let more: Vec<String> = more.into_iter().filter(lacks).collect();
                Some([before.to_vec(), more].concat())
            }
            None => None,
        };
        entry.sinks = wider.as_deref().map(Arc::from);
        // Where it is on its way it goes again, to all of them.
        if let Some(flight) = &mut self.state.flight {
            flight.leave_out(number);
        }
        let mut letter = self.state.letter(number)?;
        letter.sinks = wider;
        self.records.push(Record::Letter(Box::new(letter)));
        Ok(())
    }

    fn letter(
        &mut self,
        row: &Row,
        why: Option<(Cause, Option<PluginName>)>,
        behind: Option<u64>,
    ) -> Result<(), Box<Problem>> {
        let route = self.state.routes[self.route.0 as usize].clone();
        let mut letter = Letter::of(self.batch, row, &route, self.now_us);
        if let Some((cause, plugin)) = why {
            (letter.cause, letter.plugin) = (Some(cause), plugin);
        }
        letter.sinks = (self.lacking)(row);
        if letter.sinks.as_ref().is_some_and(Vec::is_empty) {
            return Ok(());
        }
        let is_left_alone = letter.cause.is_none() && behind.is_none();
        letter.behind = behind;
        letter.number = self.state.next_letter;
        let entry = self.state.entry(&letter, super::line::Place { offset: 0, len: 0 });
        if let Some(known) = entry.digest.and_then(|digest| self.state.index.copied(&digest)) {
            return self.widen(known, letter.sinks);
        }
        let max = self.state.limits.max_behind;
        if behind.is_some() && self.state.index.behind(entry.route, entry.oid) >= max {
            return Err(fault::behind(&entry.table, max));
        }
        if self.state.index.entries.len() >= LETTERS_MAX {
            return Err(fault::too_many(LETTERS_MAX));
        }
        self.state.next_letter += 1;
        self.state.counts.set_aside += 1;
        self.state.index.insert(letter.number, entry);
        if is_left_alone {
            self.left_alone.push(letter.number);
        }
        self.records.push(Record::Letter(Box::new(letter)));
        Ok(())
    }
}
