//! What stands behind the exports: reads the host's calls, runs the plugin, writes the replies. The same on Wasm and
//! natively, so that a test goes the way that production goes.

use crate::batch::{Head, Rows};
use crate::patch::{self, Scratch};
use crate::plugin::{Filter, Transform};
use crate::projection::{Choice, Named, Projection};
use crate::relation::Relation;
use crate::row::Row;
use crate::rowless::{self, Rowless};
use crate::{Error, Message, Patch, Result, Stateful, Truncate, Verdict, config, export};
use rowmill_abi::{Malformed, Writer, action, default, reply, schema_action};

/// A filter or a transform, as the exports need it.
pub trait Plugin: Sized + 'static {
    type Table: 'static;
    #[doc(hidden)]
    const MESSAGES: bool;
    #[doc(hidden)]
    const TRUNCATES: bool;

    /// Starts with a config that is MessagePack.
    fn start(config: &[u8]) -> Result<Self>;
    fn schema(&mut self, relation: &Relation) -> Result<Projection<Self::Table>>;
    /// Where it has state.
    fn stateful(&mut self) -> Option<&mut dyn Stateful>;
    /// Writes the elements of the reply that follow its status.
    #[doc(hidden)]
    fn batch(&mut self, batch: &mut Batch<'_, Self::Table>, out: &mut Writer) -> Result<(), Stop>;
}

/// A [`Filter`] as a [`Plugin`].
#[derive(Debug)]
pub struct FilterPlugin<F>(F);

/// A [`Transform`] as a [`Plugin`].
#[derive(Debug)]
pub struct TransformPlugin<T>(T);

/// A table that rows may come from.
#[derive(Debug)]
pub struct Known<T> {
    relation: Relation,
    read: Vec<Named>,
    writes: Vec<Named>,
    table: T,
}

/// Why a whole batch can't be answered.
#[derive(Debug)]
pub enum Stop {
    Malformed(Malformed),
    UnknownRelation(u32),
}

impl From<Malformed> for Stop {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed)
    }
}

/// A batch with the tables that its rows come from.
pub struct Batch<'a, T> {
    rows: Rows<'a>,
    known: &'a [Known<T>],
    /// The table that the last row came from, in `known`: the next one is mostly of the same.
    current: usize,
    buffers: &'a mut Buffers,
}

/// What is kept from batch to batch, so that a steady state allocates nothing.
#[derive(Debug, Default)]
struct Buffers {
    offsets: Vec<u32>,
    truncated: Vec<u32>,
    bitmap: Vec<u8>,
    rejects: Writer,
    scratch: Scratch,
}

/// What is shown beside rows.
enum Shown<'a> {
    Message(Message<'a>),
    Truncate(Truncate<'a>),
}

impl<T> Batch<'_, T> {
    #[inline]
    fn find(&mut self, relation: u32) -> Result<usize, Stop> {
        let is = |known: &Known<T>| known.relation.index == relation;
        if self.known.get(self.current).is_none_or(|known| !is(known)) {
            self.current = self.known.iter().position(is).ok_or(Stop::UnknownRelation(relation))?;
        }
        Ok(self.current)
    }

    /// Has the truncate or message that begins at `start` looked at. Never inlined: it is rare.
    #[inline(never)]
    fn rowless<R>(&mut self, start: usize, look: impl FnOnce(Shown<'_>) -> R) -> Result<R, Stop> {
        let transaction = &self.rows.transaction;
        match rowless::read(self.rows.bytes, start, &mut self.buffers.truncated)? {
            Rowless::Message {
                is_transactional,
                prefix,
                content,
            } => Ok(look(Shown::Message(Message {
                is_transactional,
                prefix,
                content,
                transaction,
            }))),
            Rowless::Truncate(read) => {
                let known = |relation: &u32| {
                    let found = self.known.iter().find(|known| known.relation.index == *relation);
                    found
                        .map(|known| &known.relation)
                        .ok_or(Stop::UnknownRelation(*relation))
                };
                let relations: Vec<_> = self.buffers.truncated.iter().map(known).collect::<Result<_, _>>()?;
                Ok(look(Shown::Truncate(Truncate::new(read, transaction, &relations))))
            }
        }
    }
}

/// Puts a row together from what is known of it.
macro_rules! row {
    ($batch:ident, $known:ident, $head:ident, $index:ident) => {
        Row {
            bytes: $batch.rows.bytes,
            offsets: &$batch.buffers.offsets,
            relation: &$known.relation,
            read: &$known.read,
            transaction: &$batch.rows.transaction,
            index: $index,
            op: $head.op,
            image: $head.image,
            gaps: $head.gaps,
        }
    };
}

impl<F: Filter> Plugin for FilterPlugin<F> {
    type Table = F::Table;
    const MESSAGES: bool = F::MESSAGES;
    const TRUNCATES: bool = F::TRUNCATES;

    fn start(config: &[u8]) -> Result<Self> {
        F::start(config).map(Self)
    }

    fn stateful(&mut self) -> Option<&mut dyn Stateful> {
        self.0.stateful()
    }

    fn schema(&mut self, relation: &Relation) -> Result<Projection<F::Table>> {
        self.0.schema(relation)
    }

    /// `verdict, rejects`
    fn batch(&mut self, batch: &mut Batch<'_, F::Table>, out: &mut Writer) -> Result<(), Stop> {
        let count = batch.rows.count;
        let (mut matching, mut rejected) = (0, 0);
        batch.buffers.bitmap.clear();
        batch.buffers.bitmap.resize(count.div_ceil(8) as usize, 0);
        batch.buffers.rejects.clear();
        for index in 0..count {
            export::at_row(index as i32);
            let start = batch.rows.position();
            let head = batch.rows.read(index, &mut batch.buffers.offsets)?;
            let judged = match head.relation {
                None if F::MESSAGES || F::TRUNCATES => self.judge_rowless(batch, start)?,
                _ => self.judge(batch, &head, index)?,
            };
            let matches = match judged {
                Ok(matches) => matches,
                Err(error) => {
                    rejected += 1;
                    reject(&mut batch.buffers.rejects, index, &error);
                    false
                }
            };
            matching += u32::from(matches);
            batch.buffers.bitmap[(index / 8) as usize] |= u8::from(matches) << (index % 8);
        }
        match matching {
            0 => out.bool(false),
            _ if matching == count => out.bool(true),
            _ => out.bin(&batch.buffers.bitmap),
        }
        if rejected == 0 {
            out.nil();
        } else {
            out.array(rejected);
            out.raw(batch.buffers.rejects.as_slice());
        }
        Ok(())
    }
}

impl<F: Filter> FilterPlugin<F> {
    #[inline(never)]
    fn judge_rowless(&mut self, batch: &mut Batch<'_, F::Table>, start: usize) -> Result<Result<bool>, Stop> {
        batch.rowless(start, |shown| match shown {
            Shown::Message(message) => self.0.message(&message),
            Shown::Truncate(truncate) => self.0.truncate(&truncate).map(|()| true),
        })
    }

    #[inline]
    fn judge(&mut self, batch: &mut Batch<'_, F::Table>, head: &Head, index: u32) -> Result<Result<bool>, Stop> {
        let Some(relation) = head.relation else {
            return Ok(Ok(true));
        };
        if head.absent {
            // Can't be judged: the host knows that too, and doesn't look at this verdict.
            return Ok(Ok(false));
        }
        let at = batch.find(relation)?;
        let known = &batch.known[at];
        Ok(self.0.matches(&row!(batch, known, head, index), &known.table))
    }
}

impl<T: Transform> Plugin for TransformPlugin<T> {
    type Table = T::Table;
    const MESSAGES: bool = T::MESSAGES;
    const TRUNCATES: bool = T::TRUNCATES;

    fn start(config: &[u8]) -> Result<Self> {
        T::start(config).map(Self)
    }

    fn stateful(&mut self) -> Option<&mut dyn Stateful> {
        self.0.stateful()
    }

    fn schema(&mut self, relation: &Relation) -> Result<Projection<T::Table>> {
        self.0.schema(relation)
    }

    /// `default, actions`
    fn batch(&mut self, batch: &mut Batch<'_, T::Table>, out: &mut Writer) -> Result<(), Stop> {
        out.uint(default::PASS.into());
        let actions = out.open_array();
        let mut count = 0;
        // Taken out, so that a patch can borrow it beside the rest.
        let mut scratch = std::mem::take(&mut batch.buffers.scratch);
        for index in 0..batch.rows.count {
            export::at_row(index as i32);
            let start = batch.rows.position();
            let head = batch.rows.read(index, &mut batch.buffers.offsets)?;
            let Some(relation) = head.relation else {
                if T::MESSAGES || T::TRUNCATES {
                    count += u32::from(self.judge(batch, start, index, out)?);
                }
                continue;
            };
            let at = batch.find(relation)?;
            let known = &batch.known[at];
            let row = row!(batch, known, head, index);
            let mut patch = Patch::new(&mut scratch, &known.writes);
            let result = self.0.transform(&row, &known.table, &mut patch);
            count += u32::from(scratch.finish(index, result, out));
        }
        batch.buffers.scratch = scratch;
        out.close_array(actions, count);
        Ok(())
    }
}

impl<T: Transform> TransformPlugin<T> {
    /// Appends what becomes of the truncate or message at hand, where it doesn't just go on.
    #[inline(never)]
    fn judge(
        &mut self,
        batch: &mut Batch<'_, T::Table>,
        start: usize,
        index: u32,
        out: &mut Writer,
    ) -> Result<bool, Stop> {
        let verdict = batch.rowless(start, |shown| match shown {
            Shown::Message(message) => self.0.message(&message),
            Shown::Truncate(truncate) => self.0.truncate(&truncate),
        })?;
        match verdict {
            Ok(Verdict::Pass) => return Ok(false),
            Ok(Verdict::Drop) => patch::header(out, index, action::DROP, 2),
            Ok(Verdict::Stop(reason)) => {
                patch::header(out, index, action::STOP, 3);
                out.str(&reason);
            }
            Err(error) => patch::reject(out, index, &error),
        }
        Ok(true)
    }
}

#[cold]
fn reject(out: &mut Writer, row: u32, error: &Error) {
    out.array(3);
    out.uint(row.into());
    out.str(error.code());
    out.str(error.reason());
}

/// An instance of a plugin, with the memory of its replies.
pub struct Guest<P: Plugin> {
    plugin: Option<P>,
    known: Vec<Known<P::Table>>,
    buffers: Buffers,
    out: Writer,
}

impl<P: Plugin> Default for Guest<P> {
    fn default() -> Self {
        Self {
            plugin: None,
            known: Vec::new(),
            buffers: Buffers::default(),
            out: Writer::new(),
        }
    }
}

impl<P: Plugin> Guest<P> {
    /// Whether it gives state.
    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) fn is_stateful(&mut self) -> bool {
        self.plugin.as_mut().and_then(P::stateful).is_some()
    }

    /// `rowmill_init`; the reply stays as it is until the next call.
    pub fn init(&mut self, input: &[u8]) -> &[u8] {
        let started = config::find(input).and_then(P::start).and_then(|mut plugin| {
            if let (Some(stateful), Some(state)) = (plugin.stateful(), config::find_state(input)?) {
                stateful.restore(state)?;
            }
            Ok(plugin)
        });
        match started {
            Ok(plugin) => {
                self.plugin = Some(plugin);
                self.done()
            }
            Err(error) => self.fail(error.reason()),
        }
    }

    /// `rowmill_checkpoint`: `[0, state]`.
    pub fn checkpoint(&mut self) -> &[u8] {
        let Some(stateful) = self.plugin.as_mut().and_then(P::stateful) else {
            return self.fail(NOT_STARTED);
        };
        let mut state = Writer::new();
        stateful.checkpoint(&mut state);
        self.out.clear();
        self.out.array(2);
        self.out.uint(reply::DONE.into());
        self.out.bin(state.as_slice());
        self.out.as_slice()
    }

    /// `rowmill_migrate`
    pub fn migrate(&mut self, old_version: u32, state: &[u8]) -> &[u8] {
        let Some(stateful) = self.plugin.as_mut().and_then(P::stateful) else {
            return self.fail(NOT_STARTED);
        };
        match stateful.migrate(old_version, state) {
            Ok(()) => self.done(),
            Err(error) => self.fail(error.reason()),
        }
    }

    /// `rowmill_schema`
    pub fn schema(&mut self, input: &[u8]) -> &[u8] {
        let relation = match Relation::parse(input) {
            Ok(relation) => relation,
            Err(malformed) => return self.fail(&malformed.to_string()),
        };
        let Some(plugin) = &mut self.plugin else {
            return self.fail(NOT_STARTED);
        };
        let projection = match plugin.schema(&relation) {
            Ok(projection) => projection,
            Err(error) => return self.refuse(error.reason()),
        };
        self.out.clear();
        projection.encode(&mut self.out);
        if let Some(old) = self
            .known
            .iter()
            .position(|known| known.relation.index == relation.index)
        {
            self.known.swap_remove(old);
        }
        if let Choice::Use {
            read, writes, table, ..
        } = projection.0
        {
            self.known.push(Known {
                relation,
                read,
                writes,
                table,
            });
        }
        self.out.as_slice()
    }

    /// `rowmill_batch`
    pub fn batch(&mut self, input: &[u8]) -> &[u8] {
        let Some(plugin) = &mut self.plugin else {
            return self.fail(NOT_STARTED);
        };
        self.out.clear();
        self.out.array(3);
        self.out.uint(reply::DONE.into());
        let result = match Rows::open(input) {
            Ok(rows) => {
                let buffers = &mut self.buffers;
                let mut batch = Batch {
                    rows,
                    known: &self.known,
                    current: 0,
                    buffers,
                };
                plugin.batch(&mut batch, &mut self.out)
            }
            Err(malformed) => Err(malformed.into()),
        };
        export::at_row(rowmill_abi::NO_ROW);
        match result {
            Ok(()) => self.out.as_slice(),
            Err(Stop::Malformed(malformed)) => self.fail(&format!("the batch can't be read: {malformed}")),
            Err(Stop::UnknownRelation(index)) => self.fail(&format!("relation {index} was never announced")),
        }
    }

    fn done(&mut self) -> &[u8] {
        self.out.clear();
        self.out.array(1);
        self.out.uint(reply::DONE.into());
        self.out.as_slice()
    }

    #[cold]
    fn refuse(&mut self, reason: &str) -> &[u8] {
        self.out.clear();
        self.out.array(3);
        self.out.uint(reply::DONE.into());
        self.out.uint(schema_action::REFUSE.into());
        self.out.str(reason);
        self.out.as_slice()
    }

    #[cold]
    fn fail(&mut self, message: &str) -> &[u8] {
        self.out.clear();
        self.out.array(2);
        self.out.uint(reply::FATAL.into());
        self.out.str(message);
        self.out.as_slice()
    }
}

const NOT_STARTED: &str = "called before rowmill_init was through";
