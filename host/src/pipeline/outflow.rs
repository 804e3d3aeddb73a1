//! The ordered end of the lanes: what plugins couldn't take is set aside, the rest is numbered and handed to the sinks.

use super::intake::{Input, LaneEnd, Tap};
use super::job::{Done, Side};
use super::lane_letters::LaneLetters;
use super::late;
use super::notices::Notices;
use super::queue::Queue;
use super::stats::LaneStats;
use crate::batch::{Batch, DDL_PREFIX, Delivery, Lsn, Op, Row};
use crate::checkpoint::{Frontier, Mark};
use crate::dead_letter::{self, Cause, DeadLetters, PluginName, ReplayBatch, RouteId};
use crate::decode::straight;
use crate::plugin::{Aside, AsideCause};
use crate::problem::{Exit, Problem};
use crate::sink::driver::SinkHandle;
use rustc_hash::FxHashSet;
use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Where deliveries for one sink go.
pub struct Outlet {
    pub handle: SinkHandle,
    /// The sink's.
    name: String,
    /// Whether it was given a part of a transaction that hasn't ended.
    inside: bool,
    schema_messages: bool,
    takes_binary: bool,
}

impl Outlet {
    pub fn new(handle: SinkHandle) -> Self {
        Self {
            handle,
            name: String::new(),
            inside: false,
            schema_messages: false,
            takes_binary: false,
        }
    }

    /// By what dead letters know the sink.
    pub fn with_name(self, name: &str) -> Self {
        Self {
            name: name.to_owned(),
            ..self
        }
    }

    /// Whether it takes copied rows in binary form.
    pub fn with_binary(self, takes_binary: bool) -> Self {
        Self { takes_binary, ..self }
    }

    /// Whether it gets the messages of the source's DDL trigger.
    pub fn with_schema_messages(self, schema_messages: bool) -> Self {
        Self {
            schema_messages,
            ..self
        }
    }
}

pub(super) struct Outflow {
    /// Closed when nothing can be delivered any more, so that the intake ends too.
    pub(super) queue: Arc<Queue<Input>>,
    /// Indexes of each route's sinks.
    pub(super) sinks: Vec<Vec<usize>>,
    /// The routes as the dead letters know them.
    pub(super) routes: Vec<RouteId>,
    pub(super) letters: DeadLetters,
    pub(super) outlets: Vec<Outlet>,
    /// Tables whose copied rows go to these sinks alone.
    pub(super) only: late::Only,
    pub(super) frontier: Arc<Frontier<Mark>>,
    pub(super) stats: Arc<LaneStats>,
    /// Called with what each sink is about to get, while somebody watches.
    pub(super) tap: Tap,
    pub(super) notices: Notices,
    pub(super) sequence: u64,
}

impl Outflow {
    /// What lanes have to know of the letters that it writes.
    pub(super) fn lane_letters(&self) -> LaneLetters {
        LaneLetters {
            letters: self.letters.clone(),
            routes: self.routes.clone(),
            only: self.only.clone(),
        }
    }

    pub(super) fn deliver(&mut self, mut done: Done) -> Result<(), LaneEnd> {
        self.stats.plugins(&done.counts);
        let sides = std::mem::take(&mut done.sides);
        let replay = done.replay.take();
        match &replay {
            Some(replay) => self.keep_back(&mut done, sides, replay),
            None => self.set_aside(&done.batch, &mut done.rows, sides),
        }
        .map_err(LaneEnd::Problem)?;
        drop(done.noted.take());
        done.batch.forget_changes();
        self.hand_over(done, replay.filter(|replay| replay.is_for_some()).as_deref())
    }

    /// What plugins couldn't take, and what has to wait behind it, leaves the rows and is durable on return.
    fn set_aside(&mut self, batch: &Batch, rows: &mut [Vec<Row>], sides: Vec<Side>) -> Result<(), Box<Problem>> {
        // Letters have the rows as they came, and so the keys that wait behind them are known.
        let looked_at = |side: &Side| !side.asides.is_empty() || !side.waiting.is_empty();
        let original = match sides.iter().any(looked_at) || !self.letters.is_empty() {
            true => batch.as_it_came(),
            false => Cow::Borrowed(batch),
        };
        let of_routes = self.routes.iter().zip(&self.sinks);
        for ((rows, mut side), (route, sinks)) in rows.iter_mut().zip(sides).zip(of_routes) {
            // A sink that is emptied for a copy of its own frees no key: the others lack the letters' changes as before.
            if !self.only.is_empty() {
                side.before
                    .retain(|row| row.op != Op::Truncate || late::sinks_of(&self.only, batch, row).is_none());
            }
            if side.before.is_empty() {
                continue;
            }
            if !batch.truncates.is_empty() {
                leave_out_kept_back(&mut side, rows);
            }
            let asides = self.notices.tell(side.asides);
            let (before, waiting) = (&side.before, &side.waiting);
            let lacking = |row: &Row| {
                let only = late::sinks_of(&self.only, batch, row)?.iter();
                let of_route = only.filter(|sink| sinks.contains(sink));
                Some(of_route.map(|sink| self.outlets[*sink].name.clone()).collect())
            };
            let held = self
                .letters
                .set_aside_for(*route, &original, before, asides, waiting, &lacking)?;
            held.retain_rest(rows);
        }
        Ok(())
    }

    /// Of letters that were sent again, those that failed again stay where they are.
    fn keep_back(&mut self, done: &mut Done, sides: Vec<Side>, replay: &ReplayBatch) -> Result<(), Box<Problem>> {
        let (mut asides, mut waiting) = (Vec::new(), Vec::new());
        for side in sides {
            asides.extend(self.notices.tell(side.asides));
            waiting.push(side.waiting);
        }
        asides.extend(strangers(replay, &self.routes));
        asides.extend(self.without_sink(replay));
        let held = self.letters.failed_again(replay, asides, &waiting)?;
        done.rows.iter_mut().for_each(|rows| held.retain_rest(rows));
        if !replay.waits_for_state {
            done.marks.push(Mark::Replayed(replay.ticket.0));
        }
        Ok(())
    }

    /// Letters whose sinks aren't in the file any more, or no route's: the route's others have them.
    fn without_sink(&self, replay: &ReplayBatch) -> Vec<dead_letter::Aside> {
        if !replay.is_for_some() {
            return Vec::new();
        }
        let lost = |id: &RouteId, row: &&Row| {
            let mut of_route = self.routes.iter().zip(&self.sinks).filter(|(route, _)| *route == id);
            of_route.any(|(_, sinks)| !sinks.iter().any(|sink| replay.is_for(row, &self.outlets[*sink].name)))
        };
        let rows = replay.rows.iter();
        let lost = rows.flat_map(|(id, rows)| rows.iter().filter(move |row| lost(id, row)));
        lost.map(|row| nowhere(row, "the sink that it is for isn't in the file any more"))
            .collect()
    }

    /// `letters` are those of a round that aren't for all sinks of their routes.
    fn hand_over(&mut self, done: Done, letters: Option<&ReplayBatch>) -> Result<(), LaneEnd> {
        let Done {
            batch,
            mut rows,
            copying,
            spared,
            marks,
            position,
            ..
        } = done;
        self.stats.states.checkpointed(&marks);
        self.sequence += 1;
        let sequence = self.sequence;
        let inside = !batch.ends_at_commit();
        let batch = Arc::new(batch);
        let mut deliveries = Vec::with_capacity(self.outlets.len());
        for (sink, outlet) in self.outlets.iter_mut().enumerate() {
            let mut rows = rows_for(sink, &self.sinks, &mut rows);
            let (mut copying, mut spared) = (copying.clone(), spared.clone());
            if !self.only.is_empty() {
                late::keep_own(&self.only, sink, &batch, &mut rows);
                late::keep_own_tables(&self.only, sink, &mut copying);
                late::keep_own_tables(&self.only, sink, &mut spared);
            }
            if let Some(letters) = letters {
                rows.retain(|row| letters.is_for(row, &outlet.name));
            }
            if !spared.is_empty() {
                late::spare(&batch, &mut rows, &spared);
            }
            if outlet.schema_messages {
                put_schema_messages(&batch, &mut rows);
            }
            // The end of a transaction is told to whoever has seen its beginning, with or without rows; so is what was said
            // in one, which may belong to rows that are still to come.
            if rows.is_empty() && !outlet.inside && batch.message_rows.is_empty() {
                continue;
            }
            outlet.inside = inside;
            self.stats
                .rows_delivered
                .fetch_add(rows.len() as u64, Ordering::Relaxed);
            (self.tap)(&batch, &rows);
            let batch = match batch.straight && !outlet.takes_binary {
                true => Arc::new(as_text(&batch, &rows)?),
                false => Arc::clone(&batch),
            };
            let delivery = Delivery {
                sequence,
                batch,
                rows,
                copying,
            };
            deliveries.push((sink, delivery));
        }
        let to = deliveries.iter().map(|(sink, _)| *sink);
        self.frontier.sent(sequence, to, position, marks);
        for (sink, delivery) in deliveries {
            let sent = self.outlets[sink].handle.send(delivery);
            sent.map_err(|_| LaneEnd::SinkGone)?;
        }
        Ok(())
    }

    /// Marks without a batch, to be stored behind what was sent before.
    pub(super) fn mark(&mut self, marks: Vec<Mark>) {
        self.sequence += 1;
        self.frontier.sent(self.sequence, [], Lsn(0), marks);
    }
}

/// A truncate that the plugins keep back empties nothing: what was set aside before is wanted as before. `left` are the rows that
/// have left them.
fn leave_out_kept_back(side: &mut Side, left: &[Row]) {
    let change = |row: &Row| (row.transaction, row.ordinal);
    let left = left.iter().filter(|row| row.op == Op::Truncate).map(change);
    // One that is refused can't stand in a letter, which is for the letters to say.
    let refused = side.asides.iter().map(|aside| change(&aside.row));
    let counts: FxHashSet<(u32, u64)> = left.chain(refused).collect();
    side.before
        .retain(|row| row.op != Op::Truncate || counts.contains(&change(row)));
}

/// For plugins and sinks that have come since the copy was planned.
pub(super) fn as_text(batch: &Batch, rows: &[Row]) -> Result<Batch, LaneEnd> {
    let told = straight::as_text(batch, rows).map_err(|(at, error)| {
        let table = batch.relation(&rows[at]).full_name();
        let headline = format!("the copy of table {table} broke off");
        let help = "start again once the server answers: the copy goes on where it was";
        let problem = Problem::new("E0602", Exit::Preflight, headline, help);
        LaneEnd::Problem(Box::new(problem.with_cause(error.to_string())))
    })?;
    Ok(told.into_owned())
}

/// However it ends, by a panic too: nobody waits for it any more.
impl Drop for Outflow {
    fn drop(&mut self) {
        self.queue.close();
        for outlet in &self.outlets {
            outlet.handle.close();
        }
    }
}

/// Letters of routes that aren't in the file any more: there is nowhere to send them.
fn strangers<'a>(replay: &'a ReplayBatch, routes: &'a [RouteId]) -> impl Iterator<Item = dead_letter::Aside> + use<'a> {
    let unknown = replay.rows.iter().filter(|(route, _)| !routes.contains(route));
    let rows = unknown.flat_map(|(_, rows)| rows);
    rows.map(|row| nowhere(row, "its route isn't in the file any more"))
}

fn nowhere(row: &Row, why: &str) -> dead_letter::Aside {
    dead_letter::Aside {
        row: *row,
        cause: Cause::new("no_route", why),
        plugin: PluginName::default(),
    }
}

impl From<Aside> for dead_letter::Aside {
    fn from(aside: Aside) -> Self {
        Self {
            row: aside.row,
            cause: match &aside.cause {
                AsideCause::Row(kind) => Cause::from(kind),
                AsideCause::Fault(fault) => Cause::from(&**fault),
            },
            plugin: PluginName {
                name: aside.plugin,
                version: aside.version,
                hash: aside.hash,
            },
        }
    }
}

/// Puts what the DDL trigger has said among the rows, each message at its place in its transaction.
fn put_schema_messages(batch: &Batch, rows: &mut Vec<Row>) {
    let place = |row: &Row| (row.transaction, row.ordinal);
    for said in &batch.message_rows {
        let message = &batch.messages[said.extra as usize];
        if message.transactional && message.prefix == DDL_PREFIX {
            let at = rows.partition_point(|row| place(row) < place(said));
            rows.insert(at, *said);
        }
    }
}

/// What a sink gets: the rows of its routes, in the order of the changes.
fn rows_for(sink: usize, sinks: &[Vec<usize>], rows: &mut [Vec<Row>]) -> Vec<Row> {
    let own: Vec<usize> = (0..sinks.len()).filter(|route| sinks[*route].contains(&sink)).collect();
    let [route] = own[..] else {
        let mut merged: Vec<Row> = own.iter().flat_map(|route| rows[*route].iter().copied()).collect();
        merged.sort_by_key(|row| (row.transaction, row.ordinal));
        return merged;
    };
    let last_reader = sinks[route].iter().max() == Some(&sink);
    if last_reader {
        std::mem::take(&mut rows[route])
    } else {
        rows[route].clone()
    }
}
