//! The tables of the database, and how it is made and opened.

use super::failure::{self, Failure};
use super::folder::{FILE_MODE, StateFolder};
use crate::problem::Problem;
use redb::{Builder, Database, ReadTransaction, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;

/// Grows by one with every change that an older version could not read.
pub(super) const FORMAT: u64 = 4;

/// The whole state is a few MB at most; redb's own default is 1 GiB.
const CACHE_BYTES: usize = 4 << 20;

pub(super) const NUMBERS: TableDefinition<&str, u64> = TableDefinition::new("numbers");
pub(super) const DOCUMENTS: TableDefinition<&str, &[u8]> = TableDefinition::new("documents");
/// (route, "schema.table") -> column names.
pub(super) const ROUTE_COLUMNS: TableDefinition<(&str, &str), &[u8]> = TableDefinition::new("route_columns");
/// The name of the document that has the columns of a table on a route.
pub(super) fn shapes(route: &str, table: &str) -> String {
    // No name has the character in between.
    format!("shapes\0{route}\0{table}")
}

/// The name of the document that has the numbers of a table's columns.
pub(super) fn numbers(table: u32) -> String {
    format!("numbers\0{table}")
}

/// (route, first commit) -> chain version.
pub(super) const CHAINS: TableDefinition<(&str, u64), &[u8]> = TableDefinition::new("chains");
/// table oid -> copy.
pub(super) const COPIES: TableDefinition<u32, &[u8]> = TableDefinition::new("copies");
/// (table oid, gap, number) -> copied range, in the order of the table's key.
pub(super) const RANGES: TableDefinition<(u32, u32, u32), &[u8]> = TableDefinition::new("copied_ranges");
/// (table oid, number) -> (snapshot, finish, repair, keys each behind its length) of rows ahead.
pub(super) const AHEAD: TableDefinition<(u32, u64), AheadValue<'static>> = TableDefinition::new("rows_ahead");
/// What format 2 had in place of the ranges: nothing that a copy could go on from.
pub(super) const UNITS: TableDefinition<(u32, u32, u32), OldUnit<'static>> = TableDefinition::new("copy_units");

/// (route, plugin, shard) -> (version, position, when it was stored, in ms since 1970, bytes).
pub(super) const PLUGIN_STATES: TableDefinition<(&str, &str, u32), StateValue<'static>> =
    TableDefinition::new("plugin_states");
/// (plugin, key) -> value.
pub(super) const PLUGIN_ENTRIES: TableDefinition<(&str, &[u8]), &[u8]> = TableDefinition::new("plugin_entries");

pub(super) type AheadValue<'a> = (&'a str, u64, bool, &'a [u8]);
type OldUnit<'a> = (&'a [u8], &'a str, u64, bool);
pub(super) type StateValue<'a> = (u32, u64, u64, &'a [u8]);

pub(super) const POSITION: &str = "position";
pub(super) const IDENTITY_DOCUMENT: &str = "identity";
/// The tables that routes took at the last start.
pub(super) const ROUTED_DOCUMENT: &str = "routed_tables";
/// The partitions below published tables at the last look.
pub(super) const PARTITIONS_DOCUMENT: &str = "partitions";
/// The publication's tables at the last look.
pub(super) const PUBLISHED_DOCUMENT: &str = "published_tables";
pub(super) const CONFIG_KEY_DOCUMENT: &str = "config_key";
pub(super) const OWN_SLOT_DOCUMENT: &str = "own_slot";
pub(super) const DETACHED_DOCUMENT: &str = "detached_sinks";
pub(super) const PREPARED_DOCUMENT: &str = "prepared";
/// The last commit with rows before the position, where it is known.
pub(super) const LAST_COMMIT_DOCUMENT: &str = "last_commit";
pub(super) const FOREIGN_UNTIL_DOCUMENT: &str = "foreign_until";
/// Dead letters that were sent last.
pub(super) const SENT_DOCUMENT: &str = "letters_sent";
/// How far the sinks' targets had come; older states have none.
pub(super) const SINK_POSITIONS_DOCUMENT: &str = "sink_positions";
/// Where the slot was made that this state began with; older states, and those that took over a slot, have none.
pub(super) const BEGUN_DOCUMENT: &str = "begun";
/// The sinks that are still to be seen on the stored timeline.
pub(super) const PARTINGS_DOCUMENT: &str = "partings";
/// The routes that there were.
pub(super) const KNOWN_ROUTES_DOCUMENT: &str = "known_routes";
const FORMAT_NUMBER: &str = "format";
const PIPELINE_DOCUMENT: &str = "pipeline";

/// Opens the database of a locked folder, and makes it where there is none.
pub(super) fn open(folder: &StateFolder, pipeline: &str) -> Result<Database, Problem> {
    let path = folder.database_path();
    let io_failed = |error: io::Error| failure::io_failed(folder, &error);
    match fs::metadata(&path) {
        Ok(found) if found.len() == 0 => return Err(failure::damaged(folder, "the file is empty")),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => make(folder, pipeline)?,
        Err(error) => return Err(io_failed(error)),
    }
    let database = open_checked(&path).map_err(|failure| match failure {
        Some(failure) => failure.into_problem(folder),
        None => failure::damaged(folder, "its pages contradict each other"),
    })?;
    check(&database, folder, pipeline)?;
    Ok(database)
}

/// Made under another name and renamed once it is whole: an empty or torn file under the real name is damage, and
/// never taken for a first run.
fn make(folder: &StateFolder, pipeline: &str) -> Result<(), Problem> {
    let path = folder.database_path();
    let fresh = path.with_extension("redb.new");
    let io_failed = |error: io::Error| failure::io_failed(folder, &error);
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(FILE_MODE)
        .open(&fresh)
        .map_err(io_failed)?;
    fill(&fresh, pipeline).map_err(|failure| failure.into_problem(folder))?;
    fs::rename(&fresh, &path).map_err(io_failed)?;
    folder.sync().map_err(io_failed)
}

fn fill(path: &Path, pipeline: &str) -> Result<(), Failure> {
    let database = Builder::new().set_cache_size(CACHE_BYTES).create(path)?;
    super::write(&database, |transaction| {
        transaction.open_table(NUMBERS)?.insert(FORMAT_NUMBER, FORMAT)?;
        put_document(transaction, PIPELINE_DOCUMENT, pipeline)?;
        // Made now, so that reading never meets a table that is missing.
        transaction.open_table(ROUTE_COLUMNS)?;
        transaction.open_table(CHAINS)?;
        transaction.open_table(COPIES)?;
        transaction.open_table(RANGES)?;
        transaction.open_table(AHEAD)?;
        transaction.open_table(PLUGIN_STATES)?;
        transaction.open_table(PLUGIN_ENTRIES)?;
        Ok(())
    })?;
    database.close()?;
    Ok(())
}

/// Every page's checksum is verified. redb may panic on pages that were altered behind its back; that is a damaged
/// file (`None`), no bug of ours.
fn open_checked(path: &Path) -> Result<Database, Option<Failure>> {
    let open = || {
        Builder::new()
            .set_cache_size(CACHE_BYTES)
            .set_check_integrity_on_open(true)
            .open(path)
    };
    match panic::catch_unwind(AssertUnwindSafe(open)) {
        Ok(opened) => opened.map_err(|error| Some(error.into())),
        Err(_) => Err(None),
    }
}

/// A state of format 1 has no plugin state, one of format 2 no ranges that are copied, one of
/// format 3 no rows ahead. It becomes one of this format by
/// having the tables for them, and from then on a version that doesn't know them keeps off: it would move the position
/// and leave the rest behind.
fn upgrade(database: &Database) -> Result<(), Failure> {
    super::write(database, |transaction| {
        let mut numbers = transaction.open_table(NUMBERS)?;
        let stored = numbers.get(FORMAT_NUMBER)?.map(|stored| stored.value());
        if matches!(stored, Some(1..FORMAT)) {
            transaction.open_table(PLUGIN_STATES)?;
            transaction.open_table(PLUGIN_ENTRIES)?;
            transaction.open_table(RANGES)?;
            transaction.open_table(AHEAD)?;
            transaction.delete_table(UNITS)?;
            numbers.insert(FORMAT_NUMBER, FORMAT)?;
        }
        Ok(())
    })
}

fn check(database: &Database, folder: &StateFolder, pipeline: &str) -> Result<(), Problem> {
    let read = || read_header(database).map_err(|failure| failure.into_problem(folder));
    let mut found = read()?;
    if matches!(found.0, Some(1..FORMAT)) {
        upgrade(database).map_err(|failure| failure.into_problem(folder))?;
        found = read()?;
    }
    match found {
        (Some(FORMAT), Some(found)) if found == pipeline => Ok(()),
        (Some(FORMAT), Some(found)) => Err(failure::other_pipeline(folder, pipeline, &found)),
        (Some(format), _) if format > FORMAT => Err(failure::newer(folder, &format!("format {format}"))),
        _ => Err(failure::damaged(folder, "it doesn't say which format it has")),
    }
}

/// The format, and the pipeline where the format is known.
fn read_header(database: &Database) -> Result<(Option<u64>, Option<String>), Failure> {
    let transaction = database.begin_read()?;
    let format = transaction
        .open_table(NUMBERS)?
        .get(FORMAT_NUMBER)?
        .map(|stored| stored.value());
    let pipeline = match format {
        Some(FORMAT) => document(&transaction, PIPELINE_DOCUMENT)?,
        _ => None,
    };
    Ok((format, pipeline))
}

pub(super) fn document<T: DeserializeOwned>(transaction: &ReadTransaction, name: &str) -> Result<Option<T>, Failure> {
    let documents = transaction.open_table(DOCUMENTS)?;
    documents.get(name)?.map(|stored| decode(stored.value())).transpose()
}

pub(super) fn put_document<T: Serialize + ?Sized>(
    transaction: &WriteTransaction,
    name: &str,
    document: &T,
) -> Result<(), Failure> {
    transaction
        .open_table(DOCUMENTS)?
        .insert(name, encode(document)?.as_slice())?;
    Ok(())
}

/// Records are JSON: a few bytes more, and readable by a later version that knows more fields.
pub(super) fn encode<T: Serialize + ?Sized>(record: &T) -> Result<Vec<u8>, Failure> {
    Ok(serde_json::to_vec(record)?)
}

pub(super) fn decode<T: DeserializeOwned>(stored: &[u8]) -> Result<T, Failure> {
    Ok(serde_json::from_slice(stored)?)
}
