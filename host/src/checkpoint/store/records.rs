//! What is stored, as its users see it.

use crate::batch::{CopyUnit, Lsn};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

/// Whose position it is. Everything here is compared before anything streams.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    pub pipeline: String,
    pub system_identifier: u64,
    pub timeline: u32,
    /// Where that timeline began, in bytes. `None` for the first of a cluster, and before that was kept.
    #[serde(default)]
    pub began: Option<u64>,
    pub database: String,
    pub slot: String,
    pub publication: String,
}

/// How far the target of a sink was known to have come by what it had committed itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SinkPosition {
    pub sink: String,
    /// The position that lies at the target, in bytes; `None` where it had none of the stream's transactions.
    pub position: Option<u64>,
    /// How many of its commits brought what the stream doesn't bring again; 0 before that was counted.
    #[serde(default)]
    pub unstreamed: u64,
}

/// The plugins that a route's rows go through, in this order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainVersion {
    pub plugins: Vec<PluginVersion>,
    /// What it gives way to where it breaks, for as long as it is on probation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<Vec<PluginVersion>>,
    /// Whether it is what another gave way to: until what it keeps is stored as the route's, it goes on with what was stored
    /// while it waited.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub went_back: bool,
}

impl ChainVersion {
    /// Whether rows go through the same code with the same configuration.
    pub fn is_same(&self, other: &Self) -> bool {
        same_plugins(&self.plugins, &other.plugins)
    }
}

/// Whether both are the same code with the same configuration.
pub fn same_plugins(left: &[PluginVersion], right: &[PluginVersion]) -> bool {
    left.len() == right.len() && left.iter().zip(right).all(|(left, right)| left.is_same(right))
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PluginVersion {
    pub name: String,
    /// SHA-256 of the module, in hex: the name under which the module store has it.
    pub module: String,
    /// Keyed hash of the config that it was started with, in hex.
    pub config: String,
    /// The config as the file had it: secrets are references.
    #[serde(default)]
    pub written: serde_json::Value,
    /// Its limits, so that it can be run again once it is out of the file.
    #[serde(default)]
    pub limits: serde_json::Value,
}

impl PluginVersion {
    pub fn is_same(&self, other: &Self) -> bool {
        self.name == other.name && self.module == other.module && self.config == other.config
    }
}

/// What is known of a plugin's versions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PluginRecord {
    /// Those that ran well, the newest last.
    pub good: Vec<RanVersion>,
    /// Not taken up again.
    #[serde(default)]
    pub set_aside: Option<SetAside>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RanVersion {
    pub version: PluginVersion,
    /// Seconds since 1970.
    pub since: u64,
}

/// A version that broke, or that somebody went back from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetAside {
    pub version: PluginVersion,
    pub reason: String,
    /// Seconds since 1970.
    pub since: u64,
}

/// The columns of a table at some position, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableShape(pub Vec<ShapeColumn>);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShapeColumn {
    pub name: String,
    pub type_oid: u32,
    pub typmod: i32,
}

/// What is below a partitioned table, and has its rows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Partitions {
    pub root: u32,
    pub partitions: Vec<Partition>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Partition {
    pub oid: u32,
    /// `pg_class.relfilenode`; 0 where it is partitioned itself.
    pub file: u32,
    /// As SQL writes it.
    pub name: String,
}

/// A table of the publication, as it was at the last look.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishedTable {
    pub oid: u32,
    /// `schema.table`, for people.
    pub table: String,
    /// The OID of the publication.
    pub publication: u32,
    /// The OID of its entry there: another one where it was taken out and put in again. `None` where it is published with
    /// others.
    pub entry: Option<u32>,
    /// `None` before that was kept.
    #[serde(default)]
    pub sent: Option<SentOf>,
}

/// What a publication sends of a table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SentOf {
    /// Of which operations, and whether generated columns: in words for people.
    pub kinds: Vec<String>,
    /// Its row filter, as SQL.
    pub filter: Option<String>,
    /// Its column list; `None` where all columns are sent.
    pub columns: Option<Vec<String>>,
}

/// A table that a route takes, as it was called at the last start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoutedTable {
    pub oid: u32,
    pub schema: String,
    pub table: String,
}

impl RoutedTable {
    /// `schema.table`, for people; not quoted.
    pub fn full_name(&self) -> String {
        format!("{}.{}", self.schema, self.table)
    }
}

/// A column with its number in the source's catalog.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NumberedColumn {
    pub number: i16,
    /// The newest last.
    pub names: Vec<String>,
}

/// The versions of a table that a route has taken up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteShapes {
    pub route: String,
    /// "schema.table".
    pub table: String,
    /// The newest last.
    pub shapes: Vec<TableShape>,
}

/// How far the copy of a table has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CopyState {
    Planned,
    Finished,
    /// It isn't streamed any more: what is at the targets grows old.
    Left,
}

/// One copy of one table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableCopy {
    pub table_oid: u32,
    /// `schema.table`, for people.
    pub table: String,
    /// Which copy of the table is under way, or was the last; 0 before the first has begun. Every start and every
    /// TRUNCATE begins another, so that a copied row's id is never given twice.
    pub epoch: u32,
    /// The epoch that this copy began as, before any TRUNCATE: the one under which it has the targets emptied.
    #[serde(default)]
    pub began: u32,
    pub state: CopyState,
    /// What the ranges that are copied rest on: the table's columns and file, the sinks. A copy only goes on from them
    /// where it is the same still.
    #[serde(default)]
    pub basis: String,
    /// The targets are to be emptied before its first row goes out, which isn't durable yet.
    #[serde(default)]
    pub empties: bool,
    /// It came while the pipeline ran: transactions that had begun by then may have changed it unseen by the stream.
    #[serde(default)]
    pub joined: bool,
    /// It had other columns while this copy was under way, and the stream may be before that still.
    #[serde(default)]
    pub altered: bool,
    #[serde(default)]
    pub reach: Reach,
}

/// The sinks that a table's rows go to, by their names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reach {
    /// Those that have the table, or get it by the copy that is under way; `None` before that was kept.
    pub has: Option<Vec<String>>,
    /// Those that had it once and got nothing of it since.
    pub gone: Vec<String>,
    /// The copy is for these alone, as the others have the table; empty: for all.
    pub only: Vec<String>,
}

/// A range of a table's key that is copied: its rows are durable everywhere, and the stored position is behind all
/// that they show.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopiedRange {
    /// Orders the ranges of a table as the server orders their keys: the gap of the start that it lies in, and its
    /// number there.
    #[serde(skip)]
    pub place: (u32, u32),
    /// The key behind which it begins, and the one with which it ends, as texts; `None` where it is open. These are
    /// row values: never shown, never logged.
    pub after: Option<Vec<String>>,
    pub up_to: Option<Vec<String>>,
    /// What it was made of.
    pub units: u64,
    pub rows: u64,
    pub bytes: u64,
}

impl fmt::Debug for CopiedRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CopiedRange")
            .field("place", &self.place)
            .field("units", &self.units)
            .field("rows", &self.rows)
            .finish_non_exhaustive()
    }
}

impl CopiedRange {
    /// Appends the range that begins where this one ends.
    fn append(&mut self, next: Self) {
        self.up_to = next.up_to;
        self.units += next.units;
        self.rows += next.rows;
        self.bytes += next.bytes;
    }

    /// Whether `next` begins where this one ends.
    fn meets(&self, next: &Self) -> bool {
        self.up_to.is_some() && self.up_to == next.after
    }

    /// Makes one of those that meet; they are in order.
    pub(crate) fn join(ranges: impl IntoIterator<Item = Self>) -> Vec<Self> {
        let mut joined: Vec<Self> = Vec::new();
        for range in ranges {
            match joined.last_mut() {
                Some(last) if last.meets(&range) => last.append(range),
                _ => joined.push(range),
            }
        }
        joined
    }
}

/// A unit that is copied, for the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopiedUnit {
    pub unit: CopyUnit,
    pub range: CopiedRange,
    pub turn: Turn,
}

/// Copied rows that go out before the stream has passed what they show.
#[derive(Clone, PartialEq, Eq)]
pub struct RowsAhead {
    pub table_oid: u32,
    /// `pg_current_snapshot()` under which they were read.
    pub snapshot: String,
    /// Once the stored position is here, they are ahead of nothing.
    pub finish: Lsn,
    /// In the words of the snapshot stage. They are row values: never shown, never logged.
    pub keys: Vec<Box<[u8]>>,
    /// Whether they have to be read again where they didn't arrive.
    pub repair: bool,
}

impl fmt::Debug for RowsAhead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RowsAhead")
            .field("table_oid", &self.table_oid)
            .field("finish", &self.finish)
            .field("keys", &self.keys.len())
            .finish_non_exhaustive()
    }
}

/// Something that is let go of once the ledger has the unit: so readers are never far ahead of it.
#[derive(Clone, Default)]
pub struct Turn(#[expect(dead_code, reason = "held until it is dropped")] Option<Arc<dyn Send + Sync>>);

impl Turn {
    pub fn new(held: impl Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(held)))
    }
}

impl PartialEq for Turn {
    /// It is no part of what is stored.
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Turn {}

impl fmt::Debug for Turn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Turn")
    }
}

/// What one instance of a plugin keeps, as of a position.
#[derive(Clone, PartialEq, Eq)]
pub struct PluginState {
    /// The key of its route.
    pub route: String,
    pub plugin: String,
    /// Which part of the rows the instance sees; 0 where it sees all.
    pub shard: u32,
    /// The `state_version` of the module that gave the bytes.
    pub version: u32,
    /// The plugin's business; may hold row values: never shown, never logged.
    pub bytes: Arc<[u8]>,
}

/// What stands behind the route's name for the state of a version that waits for the end of a probation.
const BEFORE: &str = " ~before";

impl PluginState {
    /// The name under which a version is stored that waits for the end of a probation on a route.
    pub fn before(route: &str) -> String {
        format!("{route}{BEFORE}")
    }

    pub fn is_before(&self) -> bool {
        is_of_before(&self.route)
    }
}

/// Whether the name is of a version that waits for the end of a probation.
pub(super) fn is_of_before(name: &str) -> bool {
    name.ends_with(BEFORE)
}

impl fmt::Debug for PluginState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PluginState")
            .field("route", &self.route)
            .field("plugin", &self.plugin)
            .field("shard", &self.shard)
            .field("version", &self.version)
            .field("bytes", &self.bytes.len())
            .finish()
    }
}

/// A key or a value of a plugin's entry.
pub type EntryBytes = Box<[u8]>;

/// What a plugin has written by key since the last time; `None` for a key that it has deleted.
#[derive(Clone, PartialEq, Eq)]
pub struct PluginEntries {
    /// Its name, or with [`PluginState::before`] that of a version of it that waits for the end of a probation.
    pub plugin: String,
    /// Whether what is stored under that name goes first.
    pub anew: bool,
    pub writes: Vec<(EntryBytes, Option<EntryBytes>)>,
}

impl fmt::Debug for PluginEntries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PluginEntries")
            .field("plugin", &self.plugin)
            .field("writes", &self.writes.len())
            .finish()
    }
}

/// What a batch stands for besides its position, stored together with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mark {
    /// What a plugin keeps, all rows up to this batch included.
    State(PluginState),
    Entries(Arc<PluginEntries>),
    /// The rows of the unit are durable everywhere, and the stream has passed what they show.
    UnitDone(Arc<CopiedUnit>),
    /// The last unit of the table is.
    TableDone {
        table_oid: u32,
        epoch: u32,
    },
    /// The targets have been emptied for the copy of the table.
    Emptied {
        table_oid: u32,
        epoch: u32,
    },
    /// The round of dead letters with this ticket is. The state store keeps nothing of it but what [`Mark::Sent`] says.
    Replayed(u64),
    /// These dead letters are, by their numbers: what plugins keep has them, and the position. Their own file is told
    /// behind that; where it wasn't, a start tells it, before they would be sent and counted once more.
    Sent(Arc<[u64]>),
}
