//! A table without a key, read by several workers: parts of its heap under one snapshot, so that they are one unit.
//!
//! Without a key nothing could mend a row that two snapshots show differently. So the worker that comes first keeps its
//! transaction open until all parts have been read, and exports its snapshot; each of the others reads a part in a short
//! transaction of its own, under that snapshot. The first one's lock keeps the table in its file for as long. If it is
//! lost once rows may be out, the copy breaks off, as that of such a table does.

use super::cut::{self, Task};
use super::fault::{self, Fault};
use super::read::{self, Rows, View};
use super::sql;
use super::worker::{End, Worker};
use crate::batch::Batch;
use crate::postgres::Reader;
use anyhow::Context;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::{Mutex, watch};

/// What the workers share that read parts of a table.
#[derive(Debug, Default)]
pub(super) struct Parts {
    /// Of the newest generation that has begun.
    kept: Mutex<Option<Kept>>,
    open: Arc<watch::Sender<usize>>,
}

impl Parts {
    /// A part is cut, while nobody else can cut one.
    pub(super) fn begin(&self) -> Open {
        self.open.send_modify(|open| *open += 1);
        Open(Arc::clone(&self.open))
    }
}

/// A part that has been cut, and is neither handed over nor given up.
#[derive(Debug)]
pub(super) struct Open(Arc<watch::Sender<usize>>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.send_modify(|open| *open = open.saturating_sub(1));
    }
}

/// A snapshot that a worker's transaction keeps.
#[derive(Clone, Debug)]
struct Kept {
    generation: u32,
    view: View,
    exported: String,
    /// Others read under it, or rows that it shows were handed over: it can't be exchanged for another one.
    is_used: bool,
}

/// What a worker is to do with a part.
enum Role {
    /// It keeps the snapshot.
    Keeper(View),
    Other(Kept),
    /// The copy has started over.
    Stale,
}

impl Worker {
    /// Reads a part; as the first one, all that others leave too.
    pub(super) async fn read_parts(&self, task: &mut Task, reader: &mut Reader) -> Result<(), End> {
        loop {
            let view = match self.join(task, reader).await? {
                Role::Stale => return Ok(()),
                Role::Other(kept) => return self.read_under(task, &kept, reader).await,
                Role::Keeper(view) => view,
            };
            match self.keep(task, &view, reader).await {
                Ok(None) => return Ok(()),
                Ok(Some(next)) => *task = next,
                Err(End::Fault(Fault::Transient(error))) => return Err(self.lost(task, error).await),
                Err(end) => return Err(end),
            }
        }
    }

    async fn join(&self, task: &Task, reader: &mut Reader) -> Result<Role, Fault> {
        let table = &self.shared.tables[task.id.table];
        let mut kept = table.parts.kept.lock().await;
        match &mut *kept {
            Some(kept) if kept.generation > task.id.generation => return Ok(Role::Stale),
            Some(kept) if kept.generation == task.id.generation => {
                kept.is_used = true;
                return Ok(Role::Other(kept.clone()));
            }
            _ => {}
        }
        let (view, exported) = read::begin_exported(table, reader).await?;
        *kept = Some(Kept {
            generation: task.id.generation,
            view: view.clone(),
            exported,
            is_used: false,
        });
        Ok(Role::Keeper(view))
    }

    /// Reads parts until there are no more, and waits for those of others. Returns one that is of the next generation.
    async fn keep(&self, task: &mut Task, view: &View, reader: &mut Reader) -> Result<Option<Task>, End> {
        let shared = &self.shared;
        let table = &shared.tables[task.id.table];
        let generation = task.id.generation;
        let next = loop {
            let batches = self.part(task, "", reader).await?;
            if let Some(kept) = table.parts.kept.lock().await.as_mut() {
                kept.is_used = true;
            }
            self.send(task, task.id.number, false, view, batches, None).await?;
            task.open = None;
            match cut::next_unit(shared, task.id.table, reader).await? {
                Some(next) if next.id.generation == generation => *task = next,
                next => break next,
            }
        };
        if next.is_none() {
            let mut open = table.parts.open.subscribe();
            let is_stale = || table.generation.load(Ordering::SeqCst) != generation;
            // It can't fail: the sender is the table's.
            let _ = open.wait_for(|open| *open == 0 || is_stale()).await;
            let number = cut::parts_cut(shared, task.id.table).await;
            self.send(task, number, true, view, Vec::new(), None).await?;
        }
        cut::rows(&table.copy, reader, "COMMIT").await?;
        Ok(next)
    }

    /// The keeper's transaction is gone, and its snapshot with it. Where nothing rests on that, another one will do.
    async fn lost(&self, task: &Task, error: anyhow::Error) -> End {
        let table = &self.shared.tables[task.id.table];
        let mut kept = table.parts.kept.lock().await;
        match &*kept {
            Some(kept) if kept.generation != task.id.generation => End::Void,
            Some(kept) if kept.is_used => Fault::from(fault::unreachable(&table.copy, &error)).into(),
            _ => {
                *kept = None;
                Fault::Transient(error).into()
            }
        }
    }

    /// Reads a part in a transaction of its own, under the snapshot of another.
    async fn read_under(&self, task: &Task, kept: &Kept, reader: &mut Reader) -> Result<(), End> {
        let table = &self.shared.tables[task.id.table];
        let begun = reader.rows(&sql::begin_under(&table.copy, &kept.exported)).await;
        // Where the keeper is gone it says so itself, or another one is there the next time.
        begun.context("no snapshot to read under").map_err(Fault::Transient)?;
        let batches = self.part(task, "; COMMIT", reader).await?;
        self.send(task, task.id.number, false, &kept.view, batches, None).await
    }

    /// The rows of a part. All of them are read before any is handed over: so it can be read again.
    async fn part(&self, task: &Task, behind: &str, reader: &mut Reader) -> Result<Vec<Batch>, End> {
        let shared = &self.shared;
        let copy = &shared.tables[task.id.table].copy;
        let paid = shared.unit_rows as u64;
        shared.pace.pay(paid).await;
        let sql = sql::copy_range(copy, &task.key, &task.range) + behind;
        let mut rows = Rows::open(copy, shared.name_unit(task.id), reader, &sql).await?;
        let mut batches = Vec::new();
        while let Some(batch) = rows.next().await? {
            batches.push(batch);
        }
        self.learn(task, paid, &batches).await;
        Ok(batches)
    }
}
