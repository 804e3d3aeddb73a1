//! What workers and merger share.

use super::cut::Cut;
use super::floors::Floors;
use super::pace::Pace;
use super::parts::Parts;
use super::plan::{Plan, TableCopy};
use super::sql::KeyColumn;
use super::visibility::Snapshot;
use super::waiting::WaitingRoom;
use crate::batch::{CopyUnit, Lsn};
use crate::postgres::Reader;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;
use tokio::sync::{OnceCell, Semaphore, watch};

pub(super) type Connecting = Pin<Box<dyn Future<Output = anyhow::Result<Reader>> + Send>>;
/// Makes a connection with the settings that all connections have, an empty search_path among them.
pub(super) type Connect = Arc<dyn Fn() -> Connecting + Send + Sync>;

/// Bytes of units that were read and wait to be merged, in permits of [`PERMIT_BYTES`].
const READY_BYTES: usize = 32 << 20;
pub(super) const PERMIT_BYTES: usize = 1024;
pub(super) const READY_PERMITS: usize = READY_BYTES / PERMIT_BYTES;

/// A unit under way. A copy that starts over is another generation of its table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct UnitId {
    pub table: usize,
    pub generation: u32,
    pub number: u32,
}

#[derive(Debug)]
pub(super) struct TableShared {
    pub copy: TableCopy,
    pub generation: AtomicU32,
    /// Nothing is read yet, see [`TableCopy::altered`].
    pub held: AtomicBool,
    /// Workers that read it now.
    pub active: AtomicUsize,
    /// Kept by whoever asks the server for the next unit, and so waits for others' locks on the table.
    pub cut: tokio::sync::Mutex<Cut>,
    /// The key's columns, once they are known.
    pub key: OnceCell<Arc<[KeyColumn]>>,
    /// The columns in the catalog as the first unit met them.
    pub shape: OnceLock<String>,
    /// What the publication lets out of it, as the first unit met that.
    pub published: OnceLock<String>,
    /// Of a table without a key.
    pub parts: Parts,
    /// Of a heap: the file that a generation's ranges are of.
    file: Mutex<Option<(u32, u32)>>,
}

impl TableShared {
    /// Whether ranges of the heap that this generation has read are still of the file in which the table lies now. The
    /// first to ask says so where nobody knows.
    pub(super) fn is_same_file(&self, generation: u32, file: u32) -> bool {
        if self.copy.file.is_none() {
            return true;
        }
        let mut known = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        match *known {
            // Nobody waits for units of an earlier one any more.
            Some((of, _)) if of > generation => true,
            Some((of, first)) if of == generation => first == file,
            _ => {
                *known = Some((generation, file));
                true
            }
        }
    }
}

pub(super) struct Shared {
    pub tables: Vec<TableShared>,
    pub unit_rows: usize,
    pub patience: Duration,
    pub pace: Arc<Pace>,
    pub room: WaitingRoom,
    pub patient: bool,
    /// The stream stands where the copy begins. Nothing is asked of the server before.
    pub is_begun: watch::Sender<bool>,
    /// Where the server's WAL ended when the copy began: no earlier run has read anything that shows more.
    pub begun: OnceLock<Lsn>,
    pub connect: Connect,
    pub floors: Mutex<Floors<UnitId>>,
    pub budget: Arc<Semaphore>,
    /// [`Plan::units_under_way`] turns for each worker, each given back when the ledger has its unit: a crash costs those.
    pub turns: Arc<Semaphore>,
    /// Whether all is merged; sent again whenever a table starts over.
    pub is_done: watch::Sender<bool>,
}

impl Shared {
    pub(super) fn new(plan: Plan, connect: Connect, newest: Snapshot) -> Self {
        let table = |copy: TableCopy| TableShared {
            cut: tokio::sync::Mutex::new(Cut::new(&copy.copied)),
            key: OnceCell::new(),
            shape: copy.shape.clone().map_or_else(OnceLock::new, OnceLock::from),
            published: OnceLock::new(),
            file: Mutex::new(copy.file.map(|file| (0, file))),
            held: AtomicBool::new(copy.altered),
            parts: Parts::default(),
            copy,
            generation: AtomicU32::new(0),
            active: AtomicUsize::new(0),
        };
        Self {
            tables: plan.tables.into_iter().map(table).collect(),
            unit_rows: plan.pace.unit_rows(plan.unit_rows).max(1),
            patience: plan.patience,
            pace: plan.pace,
            room: plan.room,
            patient: plan.patient,
            is_begun: watch::Sender::new(false),
            begun: OnceLock::new(),
            connect,
            floors: Mutex::new(Floors::new(newest)),
            budget: Arc::new(Semaphore::new(READY_PERMITS)),
            turns: Arc::new(Semaphore::new(plan.connections.max(1) * plan.units_under_way.max(1))),
            is_done: watch::Sender::new(false),
        }
    }

    pub(super) fn floors(&self) -> MutexGuard<'_, Floors<UnitId>> {
        self.floors.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the copy of a table start over.
    pub(super) fn restart(&self, table: usize) {
        self.tables[table].generation.fetch_add(1, Ordering::SeqCst);
        self.is_done.send_replace(false);
    }

    /// Lets the copy of a table begin that had other columns.
    pub(super) fn let_go(&self, table: usize) {
        self.tables[table].held.store(false, Ordering::SeqCst);
        self.is_done.send_replace(false);
    }

    /// Nothing of the table is read any more; units that are on their way are of a generation that is over.
    pub(super) fn give_up(&self, table: usize) {
        self.tables[table].held.store(true, Ordering::SeqCst);
        self.tables[table].generation.fetch_add(1, Ordering::SeqCst);
        self.floors().end_all(|open| open.table == table);
    }

    pub(super) fn name_unit(&self, id: UnitId) -> CopyUnit {
        let copy = &self.tables[id.table].copy;
        CopyUnit {
            epoch: copy.epoch + id.generation,
            table_oid: copy.relation.oid,
            unit: id.number,
        }
    }
}
