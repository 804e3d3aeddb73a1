//! What stands behind the exports: reads the host's calls, runs the plugin, writes the replies. The same on Wasm and
//! natively, so that a test goes the way that production goes.

use crate::batch::Rows;
use crate::patch::{self, Scratch};
use crate::plugin::{Filter, Transform};
use crate::projection::{Choice, Projection};
use crate::relation::Relation;
use crate::row::{Row, Transaction};
use crate::walk::{Offsets, Shown, Visit, each, rowless};
use crate::{Error, Patch, Result, Stateful, Verdict, config, export};
use rowmill_abi::{Writer, action, default, op, reply, schema_action};

pub use crate::walk::{Known, Stop};

/// A filter or a transform, as the exports need it.
pub trait Plugin: Sized + 'static {
    /// What it keeps of a table.
    type Table: 'static;
    #[doc(hidden)]
    const MESSAGES: bool;
    #[doc(hidden)]
    const TRUNCATES: bool;

    /// Starts with a config that is MessagePack.
    fn start(config: &[u8]) -> Result<Self>;
    /// Chooses what it reads of a table.
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

/// A batch with the tables that its rows come from.
pub struct Batch<'a, T> {
    rows: Rows<'a>,
    known: &'a [Known<T>],
    buffers: &'a mut Buffers,
}

/// What is kept from batch to batch, so that a steady state allocates nothing.
#[derive(Debug, Default)]
struct Buffers {
    offsets: Offsets,
    truncated: Vec<u32>,
    bitmap: Vec<u8>,
    rejects: Writer,
    scratch: Scratch,
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
        let Batch { rows, known, buffers } = batch;
        let Buffers {
            offsets,
            truncated,
            bitmap,
            rejects,
            ..
        } = &mut **buffers;
        let (bytes, count) = (rows.bytes, rows.count);
        bitmap.clear();
        bitmap.resize(count.div_ceil(8) as usize, 0);
        rejects.clear();
        let mut judge = Judge {
            filter: &mut self.0,
            bytes,
            known,
            truncated,
            bitmap,
            rejects,
            rejected: 0,
        };
        each(rows, known, offsets, &mut judge)?;
        let rejected = judge.rejected;
        match bitmap.iter().map(|eight| eight.count_ones()).sum::<u32>() {
            0 => out.bool(false),
            matching if matching == count => out.bool(true),
            _ => out.bin(bitmap),
        }
        if rejected == 0 {
            out.nil();
        } else {
            out.array(rejected);
            out.raw(rejects.as_slice());
        }
        Ok(())
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
        let Batch { rows, known, buffers } = batch;
        let Buffers {
            offsets,
            truncated,
            scratch,
            ..
        } = &mut **buffers;
        let bytes = rows.bytes;
        let mut change = Change {
            transform: &mut self.0,
            bytes,
            known,
            truncated,
            scratch,
            out,
            count: 0,
        };
        each(rows, known, offsets, &mut change)?;
        let count = change.count;
        out.close_array(actions, count);
        Ok(())
    }
}

/// A filter at work on a batch.
struct Judge<'a, F: Filter> {
    filter: &'a mut F,
    bytes: &'a [u8],
    known: &'a [Known<F::Table>],
    truncated: &'a mut Vec<u32>,
    /// Of all rows; no bit is set yet.
    bitmap: &'a mut [u8],
    rejects: &'a mut Writer,
    rejected: usize,
}

impl<F: Filter> Judge<'_, F> {
    #[inline(always)]
    fn judged(&mut self, index: u32, judged: Result<bool>) {
        let matches = judged.unwrap_or_else(|error| {
            self.rejected += 1;
            reject(self.rejects, index, &error);
            false
        });
        if let Some(eight) = self.bitmap.get_mut(index as usize / 8) {
            *eight |= u8::from(matches) << (index % 8);
        }
    }
}

impl<F: Filter> Visit<F::Table> for Judge<'_, F> {
    #[inline(always)]
    fn row(&mut self, index: u32, row: Row<'_>, of: &Known<F::Table>, absent: bool) {
        let judged = match absent {
            // Can't be judged: the host knows that too, and doesn't look at this verdict.
            true => Ok(false),
            false => self.filter.matches(&row, &of.table),
        };
        self.judged(index, judged);
    }

    #[inline(always)]
    fn rowless(&mut self, index: u32, start: usize, transaction: &Transaction) -> Result<(), Stop> {
        let judged = if F::MESSAGES || F::TRUNCATES {
            rowless(
                self.bytes,
                start,
                transaction,
                self.known,
                self.truncated,
                |shown| match shown {
                    Shown::Message(message) => self.filter.message(&message),
                    Shown::Truncate(truncate) => self.filter.truncate(&truncate).map(|()| true),
                },
            )?
        } else {
            Ok(true)
        };
        self.judged(index, judged);
        Ok(())
    }
}

/// A transform at work on a batch.
struct Change<'a, T: Transform> {
    transform: &'a mut T,
    bytes: &'a [u8],
    known: &'a [Known<T::Table>],
    truncated: &'a mut Vec<u32>,
    scratch: &'a mut Scratch,
    /// The reply.
    out: &'a mut Writer,
    /// Actions in it.
    count: u32,
}

impl<T: Transform> Visit<T::Table> for Change<'_, T> {
    #[inline(always)]
    fn row(&mut self, index: u32, row: Row<'_>, of: &Known<T::Table>, _: bool) {
        let mut patch = Patch::new(self.scratch, &of.writes, index, self.out);
        let result = self.transform.transform(&row, &of.table, &mut patch);
        self.count += u32::from(self.scratch.finish(index, result, self.out));
    }

    #[inline(always)]
    fn rowless(&mut self, index: u32, start: usize, transaction: &Transaction) -> Result<(), Stop> {
        if T::MESSAGES || T::TRUNCATES {
            let verdict = rowless(
                self.bytes,
                start,
                transaction,
                self.known,
                self.truncated,
                |shown| match shown {
                    Shown::Message(message) => self.transform.message(&message),
                    Shown::Truncate(truncate) => self.transform.truncate(&truncate),
                },
            )?;
            self.count += u32::from(settle(verdict, index, self.out));
        }
        Ok(())
    }
}

/// Appends what becomes of a truncate or message, where it doesn't just go on.
#[cold]
fn settle(verdict: Result<Verdict>, index: u32, out: &mut Writer) -> bool {
    match verdict {
        Ok(Verdict::Pass) => return false,
        Ok(Verdict::Drop) => patch::header(out, index, action::DROP, 2),
        Ok(Verdict::Stop(reason)) => {
            patch::header(out, index, action::STOP, 3);
            out.str(&reason);
        }
        Ok(Verdict::To(places)) => {
            patch::header(out, index, action::FAN_OUT, 3);
            out.array(places.len());
            for place in places {
                out.array(4);
                out.uint(op::TRUNCATE.into());
                out.uint(0);
                out.nil();
                out.str(&place);
            }
        }
        Err(error) => patch::reject(out, index, &error),
    }
    true
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
    /// By the relation's number: a database may have thousands.
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
    #[cold]
    #[inline(never)]
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
    #[cold]
    #[inline(never)]
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
    #[cold]
    #[inline(never)]
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
    #[cold]
    #[inline(never)]
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
        let at = self
            .known
            .binary_search_by_key(&relation.index, |known| known.relation.index);
        if let Ok(old) = at {
            self.known.remove(old);
        }
        if let Choice::Use {
            read, writes, table, ..
        } = projection.0
        {
            let of = Known {
                relation,
                read,
                writes,
                table,
            };
            self.known.insert(at.unwrap_or_else(|at| at), of);
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
