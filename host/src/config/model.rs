//! The shape of pipeline.yaml after defaults and references have been filled in.
//!
//! Names keep the order in which the file has them.

use super::{ByteSize, Duration, Secret};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::num::NonZeroU64;
use std::path::PathBuf;

/// A pipeline: one source, its plugins, routes and sinks.
#[derive(Clone, Debug)]
pub struct Pipeline {
    /// `[a-z0-9_]{1,50}`: names slot, publication and state.
    pub name: String,
    pub source: Source,
    pub plugins: Vec<Plugin>,
    pub routes: Vec<Route>,
    pub sinks: Vec<Sink>,
    /// Where state, compiled plugins and spills live; `.rowmill/<name>` unless given.
    pub state_dir: PathBuf,
    pub console: Console,
    pub reload: Reload,
    /// Batches that go through the plugins at the same time; half of the cores.
    pub lanes: usize,
    pub dead_letters: DeadLetters,
    /// How long SIGTERM waits for what is under way; 30 s.
    pub drain_timeout: Duration,
    /// pipeline.yaml itself.
    pub file: PathBuf,
    /// The folder of pipeline.yaml: relative paths start here.
    pub base_dir: PathBuf,
    /// Where plugins' modules have to lie, with all links followed; [`Self::base_dir`] but in the demo.
    pub module_root: PathBuf,
}

impl Pipeline {
    /// The slot's name, given or made of the pipeline's.
    pub fn slot_name(&self) -> String {
        self.source
            .slot
            .clone()
            .unwrap_or_else(|| format!("rowmill_{}", self.name))
    }
}

#[derive(Clone, Debug)]
pub struct Source {
    /// libpq URL or keyword string.
    pub url: Secret,
    /// Names or globs, `schema.table`. Empty where a publication is adopted as it is.
    pub tables: Vec<TablePattern>,
    /// An existing publication to adopt, never altered; else `rowmill_<name>` is made for exactly the tables.
    pub publication: Option<String>,
    /// The slot's name; `rowmill_<name>` unless given.
    pub slot: Option<String>,
    pub snapshot: Snapshot,
    /// Whether large transactions are received while they are in progress.
    pub stream_transactions: bool,
    /// Bytes that the server may hold of transactions that it decodes; its own setting unless given.
    pub decoding_memory: Option<ByteSize>,
    /// Whether prepared transactions are received when they are prepared.
    pub two_phase: bool,
    /// Whether standbys keep the slot; where the server can unless given.
    pub failover_slot: Option<bool>,
    /// Bytes of both on disk; 4 GiB.
    pub spill: ByteSize,
    /// Whether values are received in binary form. What plugins and sinks get is the same.
    pub binary: bool,
    /// Bytes of one row as it is sent; 256 MiB.
    pub max_row: ByteSize,
    pub on_wal_pressure: OnWalPressure,
    /// Whether a start ends whoever streams from the slot.
    pub takeover: bool,
    /// How often a message is written to the source's WAL; never unless given.
    pub heartbeat: Option<Duration>,
}

/// What happens where the slot is about to be lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnWalPressure {
    /// It is told.
    Warn,
    /// Sinks that make no progress are left out as well, where others do.
    DetachSink,
}

/// `schema.table`, where `*` and `?` stand for anything in either part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TablePattern {
    pub schema: String,
    pub table: String,
}

#[derive(Clone, Debug)]
pub struct Snapshot {
    pub mode: SnapshotMode,
    /// Connections that copy at the same time; 4.
    pub connections: usize,
    /// Rows that a connection has under way, of tables with a key; 80,000.
    pub unit_rows: usize,
    /// Rows read in a second at most; `None` as fast as they come.
    pub rows_per_second: Option<NonZeroU64>,
    /// `schema.table` and what its copied rows must meet, as SQL.
    pub conditions: Vec<(String, String)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnapshotMode {
    /// Copy what is there on the first run.
    Initial,
    Never,
}

#[derive(Clone)]
pub struct Plugin {
    pub name: String,
    /// As resolved against `base_dir`.
    pub module: PathBuf,
    /// Its folder of golden samples, where the file names one; as resolved.
    pub samples: Option<PathBuf>,
    /// What the guest gets in `rowmill_init`; `Null` where the file has none. Variables are expanded.
    pub config: serde_json::Value,
    /// The same as the file has it, with its references: what may be stored.
    pub written: serde_json::Value,
    pub limits: Limits,
    /// Whether a reload may change the columns that come out.
    pub allow_schema_change: bool,
    pub policies: Policies,
}

/// What becomes of changes that a plugin doesn't take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policies {
    pub on_error: OnError,
    pub on_fault: OnFault,
    /// Faults within a minute beyond which the pipeline stops; 100.
    pub max_faults: u32,
}

/// What becomes of a change that a plugin rejects, or that can't be given to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnError {
    #[default]
    DeadLetter,
    Drop,
    /// It goes on as if there were no such plugin.
    Pass,
    Stop,
}

/// What becomes of a change that a plugin breaks on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnFault {
    /// It is set aside, and the batch's other changes go on.
    #[default]
    Isolate,
    /// It goes on as if there were no such plugin, and so do the others.
    Bypass,
    Stop,
}

impl Default for Policies {
    fn default() -> Self {
        Self {
            on_error: OnError::default(),
            on_fault: OnFault::default(),
            max_faults: 100,
        }
    }
}

/// When a changed module is taken up.
#[derive(Clone, Copy, Debug)]
pub struct Reload {
    /// How long a file must lie still; 300 ms.
    pub settle: Duration,
    /// The shortest time between two reloads of a plugin; 1 s.
    pub interval: Duration,
    /// How long a new version that breaks gives way to the one before; 60 s.
    pub probation: Duration,
    /// Batches after which it is trusted before that; 1,000.
    pub probation_batches: usize,
}

/// Changes that are set aside.
#[derive(Clone, Copy, Debug)]
pub struct DeadLetters {
    /// Bytes on disk; 1 GiB.
    pub quota: ByteSize,
    /// 30 days.
    pub retention: Duration,
    /// Changes of a table that may wait behind others; 10,000.
    pub max_behind: usize,
}

impl fmt::Debug for Plugin {
    /// A plugin's config may hold a salt or a key, so none of it is shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plugin")
            .field("name", &self.name)
            .field("module", &self.module)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

/// What a guest may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// 64 MiB.
    pub memory: ByteSize,
    /// CPU time per batch; 1 s. The wall clock may take ten times that.
    pub time: Duration,
    /// Bytes of one reply; 64 MiB.
    pub output: ByteSize,
    /// Bytes of the module; 16 MiB.
    pub module: ByteSize,
    /// 30 s.
    pub compile_time: Duration,
    /// Keys and values of its entries, 64 MiB; `None` where its `features` don't name `kv`.
    pub kv: Option<ByteSize>,
    /// CPU time for finding the changes of one batch that it breaks on; 30 s. The wall clock may take ten times that.
    pub isolation: Duration,
    /// Rows that it makes of all rows of one batch, where it makes several of one; 262,144.
    #[serde(default = "rows_default")]
    pub rows: u64,
}

/// Of versions that were recorded before there was this limit, and of those whose file doesn't name it: some 25 MB of rows
/// of twelve columns, and a hundred for each row of a usual batch.
pub const ROWS_DEFAULT: u64 = 1 << 18;

const fn rows_default() -> u64 {
    ROWS_DEFAULT
}

#[derive(Clone, Debug)]
pub struct Route {
    pub tables: Vec<TablePattern>,
    /// Only these leave. `None`: those that were there at the first start.
    pub columns: Option<Vec<String>>,
    pub on_new_column: OnNewColumn,
    pub on_schema_change: OnSchemaChange,
    pub filter: FilterMode,
    /// Names of plugins, in the order in which rows go through them.
    pub plugins: Vec<String>,
    pub sinks: Vec<String>,
    /// The name under which what belongs to it is stored, once that was looked up; none in a file.
    pub known_as: Option<String>,
}

/// What happens to a column that was not there at the first start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnNewColumn {
    /// The pipeline stops and names it.
    Stop,
    /// It doesn't leave: the default where the route has plugins.
    Drop,
    /// It leaves like the others: the default where the route has no plugins.
    Pass,
}

/// What happens where a table gets other columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnSchemaChange {
    /// The route takes them up, and Postgres sinks add those that have come: the default.
    Evolve,
    /// The route goes on with what there was: what has come stays, what has gone is missing.
    Ignore,
    /// The pipeline stops and says what is different.
    Stop,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FilterMode {
    /// A row that leaves the set is deleted at the sink, one that enters it is inserted.
    Membership,
    /// Each change is judged by its newest image alone.
    Event,
}

#[derive(Clone, Debug)]
pub struct Sink {
    pub name: String,
    pub kind: SinkKind,
    /// Bytes of the queue before the sink; 32 MiB.
    pub queue: ByteSize,
    /// Whether it gets the messages of the source's DDL trigger.
    pub schema_messages: bool,
}

#[derive(Clone, Debug)]
pub enum SinkKind {
    Postgres(PostgresSink),
    File(FileSink),
    Stdout,
    Discard,
}

impl Sink {
    /// Whether it writes copied rows in the binary form in which another Postgres has sent them.
    pub fn takes_binary(&self) -> bool {
        match &self.kind {
            SinkKind::Postgres(sink) => sink.audit.is_none() && sink.mode != WriteMode::Append,
            SinkKind::File(_) | SinkKind::Stdout | SinkKind::Discard => false,
        }
    }
}

#[derive(Clone, Debug)]
pub struct PostgresSink {
    pub url: Secret,
    /// The longest that rows wait for their commit at the target; 200 ms.
    pub flush_interval: Duration,
    pub mode: WriteMode,
    pub conflict: OnConflict,
    /// Whether tables and columns that the target lacks are made there.
    pub create_tables: bool,
    /// Every change goes to one table instead, with `mode: audit`.
    pub audit: Option<Audit>,
    /// Others read from the target.
    pub relay: Option<Relay>,
    /// Connections that write at the same time, so that parts of a transaction may be seen before others; `None` where
    /// transactions stay whole.
    pub relaxed: Option<usize>,
}

/// What a target needs for others to read from it by logical replication.
#[derive(Clone, Debug)]
pub struct Relay {
    pub publication: String,
    /// Whether tables get REPLICA IDENTITY FULL.
    pub full: bool,
    /// Whether a publication that is made passes TRUNCATE on.
    pub truncate: bool,
}

/// The table of changes.
#[derive(Clone, Debug)]
pub struct Audit {
    pub schema: String,
    pub table: String,
    pub context: ContextRule,
    /// Whether it is made with indexes for looking changes up.
    pub indexes: bool,
}

/// Which message of a transaction is the context of its rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContextRule {
    /// The transaction's first, for all its rows.
    First,
    /// The latest before the row.
    Latest,
    None,
}

/// What the tables of a Postgres sink hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteMode {
    /// What the source has, as a subscription would keep it: the default where no plugin is on the way.
    Mirror,
    /// The same, but rows are written whether they were there or not: the default behind plugins, whose filters may
    /// come to let a row pass whose first changes they kept.
    Upsert,
    /// Every change as a row of its own.
    Append,
}

/// What becomes of a change that meets a row with the same values of a unique key, in [`WriteMode::Mirror`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnConflict {
    /// The sink stops.
    Error,
    /// The target's row stays, and the change is counted.
    Skip,
    /// The source's row takes its place.
    Overwrite,
}

#[derive(Clone, Debug)]
pub struct FileSink {
    /// As resolved against `base_dir`.
    pub path: PathBuf,
    /// A file that has grown beyond this is closed and the next one begun; 256 MiB.
    pub rotate: ByteSize,
    /// The longest that lines wait for their fsync; 100 ms.
    pub flush_interval: Duration,
}

#[derive(Clone, Debug)]
pub struct Console {
    /// 127.0.0.1:7070; `None` switches it off.
    pub listen: Option<std::net::SocketAddr>,
}
