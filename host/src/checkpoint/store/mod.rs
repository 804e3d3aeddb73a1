//! The state store: everything that Rowmill has to know again after a crash, in one redb database.
//!
//! What belongs together is stored in one transaction, and a transaction is on disk (fsync) before a call returns.
//! So the position never says more than the copy ledger beside it, and the other way round:
//!
//! ```text
//!   sinks durable -> frontier -> advance(position + marks) -> fsync -> only then acknowledged to Postgres
//! ```
//!
//! Calls block for the fsync (milliseconds). From async code they belong on a blocking thread.

mod ahead;
mod chains;
mod copies;
mod failure;
mod folder;
mod format;
mod plugin_states;
mod plugins;
mod records;
mod routes;
mod summary;
mod timeline;
#[cfg(test)]
mod tests;

pub use failure::{STATE_DISK_FULL, STATE_HELD};
pub use folder::StateFolder as FolderLock;
pub use plugin_states::StoredState;
pub use records::{
    ChainVersion, CopiedRange, CopiedUnit, CopyState, EntryBytes, Identity, Mark, NumberedColumn, Partition,
    Partitions, PluginEntries, PluginRecord, PluginState, PluginVersion, PublishedTable, RanVersion, Reach,
    RouteShapes, RoutedTable, RowsAhead, SentOf, SetAside, ShapeColumn, SinkPosition, TableCopy, TableShape, Turn,
    same_plugins,
};
pub use routes::KnownRoute;
pub use timeline::Parting;

use super::{Commit, LastCommit, Stored};
use crate::batch::Lsn;
use crate::failpoint;
use crate::problem::Problem;
use failure::Failure;
use folder::StateFolder;
use format::{IDENTITY_DOCUMENT, LAST_COMMIT_DOCUMENT, NUMBERS, POSITION};
use redb::{Database, ReadTransaction, ReadableDatabase, ReadableTable, WriteTransaction};
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The state of one pipeline. Clones share the same database; the lock on the folder is held until the last is gone.
#[derive(Clone)]
pub struct StateStore {
    shared: Arc<Shared>,
}

struct Shared {
    folder: StateFolder,
    pipeline: String,
    /// `None` after a failed write: redb takes nothing more then, and the next call opens the file anew.
    database: Mutex<Option<Database>>,
}

impl StateStore {
    /// The file in the state folder that holds it all.
    pub const FILE: &str = "state.redb";

    /// Opens the state of `pipeline`, makes it where there is none, and keeps every other host out.
    pub fn open(state_dir: &Path, pipeline: &str) -> Result<Self, Problem> {
        let folder = StateFolder::lock(state_dir)?;
        let database = format::open(&folder, pipeline)?;
        let shared = Shared {
            folder,
            pipeline: pipeline.to_owned(),
            database: Mutex::new(Some(database)),
        };
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    /// Which cluster, slot and publication the position belongs to; `None` before the first run.
    pub fn identity(&self) -> Result<Option<Identity>, Problem> {
        self.read(|transaction| format::document(transaction, IDENTITY_DOCUMENT))
    }

    /// What the last commit was is forgotten where another publication counts from now on: it says which transactions
    /// bring rows.
    pub fn set_identity(&self, identity: &Identity) -> Result<(), Problem> {
        let before = self.identity()?;
        self.write(|transaction| {
            if before.is_some_and(|before| before.publication != identity.publication) {
                forget_last_commit(transaction)?;
            }
            format::put_document(transaction, IDENTITY_DOCUMENT, identity)
        })
    }

    /// The position up to which everything is durable everywhere, as it was last stored.
    pub fn position(&self) -> Result<Option<Lsn>, Problem> {
        self.read(position)
    }

    /// What is compared with the slot and the server at a start; `None` before the first run has stored a position.
    pub fn stored(&self) -> Result<Option<Stored>, Problem> {
        self.read(|transaction| {
            let identity = format::document(transaction, IDENTITY_DOCUMENT)?;
            let lsn = position(transaction)?;
            Ok(identity.zip(lsn).map(|(identity, lsn)| Stored { identity, lsn }))
        })
    }

    /// Deletes the state, as if the pipeline had never run. Other clones make an empty one at their next call.
    pub fn delete(self) -> Result<(), Problem> {
        let mut database = self.database()?;
        *database = None;
        let removed = fs::remove_file(self.shared.folder.database_path()).and_then(|()| self.shared.folder.sync());
        removed.map_err(|error| failure::io_failed(&self.shared.folder, &error))
    }

    /// Stores what the frontier has passed, as one durable transaction. A position never goes back.
    pub fn advance(&self, lsn: Option<Lsn>, marks: &[Mark]) -> Result<(), Problem> {
        self.advance_behind(lsn, marks, LastCommit::Same)
    }

    /// The same, with the last commit that brought rows before `lsn`.
    pub fn advance_behind(&self, lsn: Option<Lsn>, marks: &[Mark], last: LastCommit) -> Result<(), Problem> {
        self.checkpoint(lsn, marks, last, &[])
    }

    /// The same, with how far the targets of `sinks` have come; empty: as it is stored.
    pub fn checkpoint(
        &self,
        lsn: Option<Lsn>,
        marks: &[Mark],
        last: LastCommit,
        sinks: &[SinkPosition],
    ) -> Result<(), Problem> {
        if lsn.is_none() && marks.is_empty() {
            return Ok(());
        }
        self.write(|transaction| {
            if let Some(lsn) = lsn {
                let mut numbers = transaction.open_table(NUMBERS)?;
                let stored = numbers.get(POSITION)?.map_or(0, |stored| stored.value());
                if lsn.0 > stored {
                    numbers.insert(POSITION, lsn.0)?;
                    match last {
                        LastCommit::Same => {}
                        LastCommit::Is(commit) => format::put_document(transaction, LAST_COMMIT_DOCUMENT, &commit)?,
                        LastCommit::Unknown => forget_last_commit(transaction)?,
                    }
                }
            }
            if !sinks.is_empty() {
                format::put_document(transaction, format::SINK_POSITIONS_DOCUMENT, sinks)?;
            }
            plugin_states::apply(transaction, marks)?;
            copies::apply(transaction, marks)?;
            failpoint::pass(failpoint::IN_CHECKPOINT);
            Ok(())
        })
    }

    /// The last commit that brought rows before the position; `None` where it isn't known.
    pub fn last_commit(&self) -> Result<Option<Commit>, Problem> {
        self.read(|transaction| format::document(transaction, LAST_COMMIT_DOCUMENT))
    }

    /// How far the sinks' targets had come when the position was stored last; none of those that weren't known then.
    pub fn sink_positions(&self) -> Result<Vec<SinkPosition>, Problem> {
        let positions = self.read(|transaction| format::document(transaction, format::SINK_POSITIONS_DOCUMENT))?;
        Ok(positions.unwrap_or_default())
    }

    pub fn set_sink_positions(&self, sinks: &[SinkPosition]) -> Result<(), Problem> {
        self.write(|transaction| format::put_document(transaction, format::SINK_POSITIONS_DOCUMENT, sinks))
    }

    /// Where the slot was made that the state began with: what committed before isn't streamed. `None` where that isn't
    /// known, or somebody had streamed from the slot before.
    pub fn begun(&self) -> Result<Option<Lsn>, Problem> {
        let begun: Option<u64> = self.read(|transaction| format::document(transaction, format::BEGUN_DOCUMENT))?;
        Ok(begun.map(Lsn))
    }

    pub fn set_begun(&self, at: Lsn) -> Result<(), Problem> {
        self.write(|transaction| format::put_document(transaction, format::BEGUN_DOCUMENT, &at.0))
    }

    /// Whether rows of `table` ("schema.table") have gone the way of any route.
    pub fn has_met(&self, table: &str) -> Result<bool, Problem> {
        self.read(|transaction| {
            for entry in transaction.open_table(format::ROUTE_COLUMNS)?.iter()? {
                if entry?.0.value().1 == table {
                    return Ok(true);
                }
            }
            Ok(false)
        })
    }

    /// The columns of `table` ("schema.table") that were there when `route` first met it.
    pub fn route_columns(&self, route: &str, table: &str) -> Result<Option<Vec<String>>, Problem> {
        self.read(|transaction| {
            let columns = transaction.open_table(format::ROUTE_COLUMNS)?;
            columns
                .get((route, table))?
                .map(|stored| format::decode(stored.value()))
                .transpose()
        })
    }

    /// Stores route, table and its columns, as one durable transaction.
    pub fn set_route_columns(&self, of: &[(&str, &str, &[String])]) -> Result<(), Problem> {
        self.write(|transaction| {
            let mut stored = transaction.open_table(format::ROUTE_COLUMNS)?;
            for (route, table, columns) in of {
                stored.insert((*route, *table), format::encode(*columns)?.as_slice())?;
            }
            Ok(())
        })
    }

    /// The columns that `table` ("schema.table") has had on `route`, the newest last.
    pub fn route_shapes(&self, route: &str, table: &str) -> Result<Vec<TableShape>, Problem> {
        let shapes = self.read(|transaction| format::document(transaction, &format::shapes(route, table)))?;
        Ok(shapes.unwrap_or_default())
    }

    pub fn set_route_shapes(&self, all: &[RouteShapes]) -> Result<(), Problem> {
        self.write(|transaction| {
            for of in all {
                format::put_document(transaction, &format::shapes(&of.route, &of.table), &of.shapes)?;
            }
            Ok(())
        })
    }

    /// The tables that routes took at the last start, as they were called then.
    pub fn routed_tables(&self) -> Result<Vec<RoutedTable>, Problem> {
        let tables = self.read(|transaction| format::document(transaction, format::ROUTED_DOCUMENT))?;
        Ok(tables.unwrap_or_default())
    }

    pub fn set_routed_tables(&self, tables: &[RoutedTable]) -> Result<(), Problem> {
        self.write(|transaction| format::put_document(transaction, format::ROUTED_DOCUMENT, tables))
    }

    /// The partitions below published tables at the last look.
    pub fn partitions(&self) -> Result<Vec<Partitions>, Problem> {
        let partitions = self.read(|transaction| format::document(transaction, format::PARTITIONS_DOCUMENT))?;
        Ok(partitions.unwrap_or_default())
    }

    pub fn set_partitions(&self, partitions: &[Partitions]) -> Result<(), Problem> {
        self.write(|transaction| format::put_document(transaction, format::PARTITIONS_DOCUMENT, partitions))
    }

    /// The publication's tables at the last look; `None` before the first.
    pub fn published(&self) -> Result<Option<Vec<PublishedTable>>, Problem> {
        self.read(|transaction| format::document(transaction, format::PUBLISHED_DOCUMENT))
    }

    pub fn set_published(&self, tables: &[PublishedTable]) -> Result<(), Problem> {
        self.write(|transaction| format::put_document(transaction, format::PUBLISHED_DOCUMENT, tables))
    }

    /// The columns of a table of the source, by its OID; none where nothing has told their numbers.
    pub fn column_numbers(&self, table: u32) -> Result<Vec<NumberedColumn>, Problem> {
        let columns = self.read(|transaction| format::document(transaction, &format::numbers(table)))?;
        Ok(columns.unwrap_or_default())
    }

    pub fn set_column_numbers(&self, table: u32, columns: &[NumberedColumn]) -> Result<(), Problem> {
        self.write(|transaction| format::put_document(transaction, &format::numbers(table), columns))
    }

    /// The sinks that are left out.
    pub fn detached(&self) -> Result<Vec<String>, Problem> {
        let detached = self.read(|transaction| format::document(transaction, format::DETACHED_DOCUMENT))?;
        Ok(detached.unwrap_or_default())
    }

    pub fn set_detached(&self, sinks: &[String]) -> Result<(), Problem> {
        self.write(|transaction| format::put_document(transaction, format::DETACHED_DOCUMENT, sinks))
    }

    /// The slot that was about to be made here last: where there is no position yet, nobody has streamed from it.
    pub fn own_slot(&self) -> Result<Option<String>, Problem> {
        self.read(|transaction| format::document(transaction, format::OWN_SLOT_DOCUMENT))
    }

    /// To be called before it is made.
    pub fn set_own_slot(&self, slot: &str) -> Result<(), Problem> {
        self.write(|transaction| format::put_document(transaction, format::OWN_SLOT_DOCUMENT, slot))
    }

    /// The ids of the transactions whose rows lie in the folder of prepared ones.
    pub fn prepared(&self) -> Result<Vec<u32>, Problem> {
        let prepared = self.read(|transaction| format::document(transaction, format::PREPARED_DOCUMENT))?;
        Ok(prepared.unwrap_or_default())
    }

    pub fn set_prepared(&self, xids: &[u32]) -> Result<(), Problem> {
        self.write(|transaction| format::put_document(transaction, format::PREPARED_DOCUMENT, xids))
    }

    /// Where the WAL ended at the first start with a slot that may have handed over rows of prepared transactions to
    /// somebody else; `Lsn(0)` where it hasn't.
    pub fn foreign_until(&self) -> Result<Lsn, Problem> {
        let until = self.read(|transaction| format::document(transaction, format::FOREIGN_UNTIL_DOCUMENT))?;
        Ok(Lsn(until.unwrap_or_default()))
    }

    pub fn set_foreign_until(&self, until: Lsn) -> Result<(), Problem> {
        self.write(|transaction| format::put_document(transaction, format::FOREIGN_UNTIL_DOCUMENT, &until.0))
    }

    fn read<T>(&self, job: impl FnOnce(&ReadTransaction) -> Result<T, Failure>) -> Result<T, Problem> {
        let mut guard = self.database()?;
        let outcome = match guard.as_ref() {
            Some(database) => database.begin_read().map_err(Failure::from).and_then(|read| job(&read)),
            None => return Err(failure::closed(&self.shared.folder)),
        };
        self.settle(&mut guard, outcome)
    }

    fn write<T>(&self, job: impl FnOnce(&WriteTransaction) -> Result<T, Failure>) -> Result<T, Problem> {
        let mut guard = self.database()?;
        let outcome = match guard.as_ref() {
            Some(database) => write(database, job),
            None => return Err(failure::closed(&self.shared.folder)),
        };
        self.settle(&mut guard, outcome)
    }

    /// The open database, opened anew where an earlier write had failed. A descriptor whose fsync failed is never
    /// used again: what the kernel still held for it may be gone.
    fn database(&self) -> Result<MutexGuard<'_, Option<Database>>, Problem> {
        let mut guard = self.shared.database.lock().unwrap_or_else(PoisonError::into_inner);
        if guard.is_none() {
            *guard = Some(format::open(&self.shared.folder, &self.shared.pipeline)?);
        }
        Ok(guard)
    }

    fn settle<T>(&self, guard: &mut Option<Database>, outcome: Result<T, Failure>) -> Result<T, Problem> {
        outcome.map_err(|failure| {
            *guard = None;
            failure.into_problem(&self.shared.folder)
        })
    }
}

/// redb's default durability is used: the transaction is on disk before `commit` returns.
fn write<T>(database: &Database, job: impl FnOnce(&WriteTransaction) -> Result<T, Failure>) -> Result<T, Failure> {
    let transaction = database.begin_write()?;
    let value = job(&transaction)?;
    transaction.commit()?;
    Ok(value)
}

fn forget_last_commit(transaction: &WriteTransaction) -> Result<(), Failure> {
    transaction
        .open_table(format::DOCUMENTS)?
        .remove(LAST_COMMIT_DOCUMENT)?;
    Ok(())
}

fn position(transaction: &ReadTransaction) -> Result<Option<Lsn>, Failure> {
    let numbers = transaction.open_table(NUMBERS)?;
    Ok(numbers.get(POSITION)?.map(|stored| Lsn(stored.value())))
}
