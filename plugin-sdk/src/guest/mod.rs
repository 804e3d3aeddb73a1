//! What stands behind the exports: reads the host's calls, runs the plugin, writes the replies. The same on Wasm and
//! natively, so that a test goes the way that production goes.

mod filter;
mod transform;

use crate::batch::Rows;
use crate::patch::Scratch;
use crate::projection::{Choice, Projection};
use crate::relation::Relation;
use crate::walk::Offsets;
use crate::{Result, Stateful, config, export};
use rowmill_abi::{Writer, reply, schema_action};

pub use crate::walk::{Known, Stop};
pub use filter::FilterPlugin;
pub use transform::TransformPlugin;

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
