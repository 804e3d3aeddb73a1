//! Cuts tables into units, by asking the server where the next one ends.

use super::fault::Fault;
use super::heap::{self, Heap};
use super::parts::Open;
use super::plan::{self, Gap, KeyRange, TableCopy};
use super::shared::{Shared, TableShared, UnitId};
use super::sql::{self, KeyColumn};
use crate::postgres::{Reader, TextRow};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Bytes that a unit is meant to have at most: units are held in memory until they are merged.
pub(super) const UNIT_BYTES: u64 = 8 << 20;

/// How far a table has been cut.
#[derive(Debug, Default)]
pub(super) struct Cut {
    generation: u32,
    next_number: u32,
    /// What is left, in the key's order.
    gaps: VecDeque<Gap>,
    /// The number of the last unit of the first gap.
    place: u32,
    /// Bytes of a row as last seen, or as the statistics say; `None` before anybody has asked.
    row_bytes: Option<u64>,
    heap: Heap,
}

/// A unit to be read, or a part of one.
#[derive(Debug)]
pub(super) struct Task {
    pub id: UnitId,
    pub place: (u32, u32),
    pub range: KeyRange,
    pub key: Arc<[KeyColumn]>,
    pub is_last: bool,
    /// Of a part: until it is handed over.
    pub open: Option<Open>,
}

impl Cut {
    /// For a table of which this has been copied before.
    pub(super) fn new(copied: &[KeyRange]) -> Self {
        Self {
            gaps: plan::gaps(copied),
            ..Self::default()
        }
    }

    /// A unit had so many rows and bytes.
    pub(super) fn saw(&mut self, task: &Task, wanted_rows: usize, rows: u64, bytes: u64) {
        if let Some(row_bytes) = bytes.checked_div(rows) {
            self.row_bytes = Some(row_bytes);
        }
        if self.generation == task.id.generation {
            self.heap.saw(&task.range, wanted_rows as u64, rows, bytes);
        }
    }

    /// The key at which the next unit of `range` ends; `None` where it is the last.
    async fn next_key(
        &self,
        unit_rows: usize,
        key: &[KeyColumn],
        range: &KeyRange,
        table: &TableCopy,
        reader: &mut Reader,
    ) -> Result<Option<Vec<String>>, Fault> {
        let fitting = UNIT_BYTES.checked_div(self.row_bytes.unwrap_or(0)).unwrap_or(u64::MAX);
        let rows = unit_rows.min(usize::try_from(fitting).unwrap_or(usize::MAX)).max(1);
        let row = first_row(table, reader, &sql::upper_bound(table, key, range, rows)).await?;
        Ok(row.map(|row| row.into_iter().map(Option::unwrap_or_default).collect()))
    }

    /// The same of the heap.
    async fn next_place(
        &mut self,
        unit_rows: usize,
        range: &KeyRange,
        table: &TableCopy,
        reader: &mut Reader,
    ) -> Result<Option<Vec<String>>, Fault> {
        let end = self.heap.next_end(range, unit_rows as u64);
        // It may have grown: its last unit must not be larger than the others.
        if range.up_to.is_none() && end >= self.heap.blocks {
            let row = first_row(table, reader, &sql::heap_blocks(table)).await?;
            self.heap.blocks = row.and_then(|row| text(&row, 0)?.parse().ok()).unwrap_or(0);
        }
        let last = match &range.up_to {
            Some(bound) => heap::block(Some(bound)),
            None => self.heap.blocks,
        };
        Ok((end < last).then(|| heap::bound(end)))
    }

    /// Takes the rows up to this key off the first gap, which is `gap`, or all of it where it has no more; with the
    /// unit's number in it.
    fn take(&mut self, gap: &Gap, up_to: Option<Vec<String>>) -> (KeyRange, u32) {
        self.place += 1;
        let number = self.place;
        let up_to = up_to.or_else(|| gap.range.up_to.clone());
        if up_to == gap.range.up_to {
            self.gaps.pop_front();
            self.place = 0;
        } else if let Some(first) = self.gaps.front_mut() {
            first.range.after.clone_from(&up_to);
        }
        let after = gap.range.after.clone();
        (KeyRange { after, up_to }, number)
    }

    async fn ask_row_bytes(&mut self, table: &TableCopy, reader: &mut Reader) -> Result<(), Fault> {
        if self.row_bytes.is_none() {
            let row = first_row(table, reader, &sql::row_bytes(table)).await?;
            self.row_bytes = Some(row.and_then(|row| text(&row, 0)?.parse().ok()).unwrap_or(0));
        }
        Ok(())
    }
}

/// The columns of a table's key, in its order. Asked of the catalog alone: no lock on the table is waited for.
pub(super) async fn key_columns(of: &TableShared, reader: &mut Reader) -> Result<Arc<[KeyColumn]>, Fault> {
    let key = of.key.get_or_try_init(|| operators(&of.copy, reader)).await?;
    Ok(Arc::clone(key))
}

/// The next unit of a table; `None` where none is left.
pub(super) async fn next_unit(shared: &Shared, table: usize, reader: &mut Reader) -> Result<Option<Task>, Fault> {
    let of = &shared.tables[table];
    if of.held.load(Ordering::SeqCst) {
        return Ok(None);
    }
    let mut cut = of.cut.lock().await;
    let generation = of.generation.load(Ordering::SeqCst);
    if cut.generation != generation {
        cut.generation = generation;
        (cut.next_number, cut.place, cut.gaps) = (0, 0, plan::gaps(&[]));
        cut.heap = Heap::default();
    }
    let Some(gap) = cut.gaps.front().cloned() else {
        return Ok(None);
    };
    let key = match of.copy.file {
        Some(_) => sql::place(),
        None => {
            cut.ask_row_bytes(&of.copy, reader).await?;
            key_columns(of, reader).await?
        }
    };
    let up_to = match () {
        () if of.copy.file.is_some() => cut.next_place(shared.unit_rows, &gap.range, &of.copy, reader).await?,
        () if key.is_empty() => None,
        () => {
            cut.next_key(shared.unit_rows, &key, &gap.range, &of.copy, reader)
                .await?
        }
    };
    let number = cut.next_number;
    cut.next_number += 1;
    let (range, place) = cut.take(&gap, up_to);
    Ok(Some(Task {
        id: UnitId {
            table,
            generation,
            number,
        },
        place: (gap.index, place),
        range,
        key,
        is_last: cut.gaps.is_empty(),
        open: of.copy.key.is_empty().then(|| of.parts.begin()),
    }))
}

/// How many parts of a table have been cut.
pub(super) async fn parts_cut(shared: &Shared, table: usize) -> u32 {
    shared.tables[table].cut.lock().await.next_number
}

async fn operators(table: &TableCopy, reader: &mut Reader) -> Result<Arc<[KeyColumn]>, Fault> {
    let found = rows(table, reader, &sql::key_operators(table)).await?;
    let mut key = Vec::new();
    for name in &table.key {
        let row = found
            .iter()
            .find(|row| text(row, 0) == Some(name))
            .ok_or_else(|| super::fault::changed(table))?;
        key.push(KeyColumn {
            name: name.clone(),
            operators: text(row, 1).unwrap_or("pg_catalog").to_owned(),
        });
    }
    Ok(key.into())
}

pub(super) async fn rows(table: &TableCopy, reader: &mut Reader, sql: &str) -> Result<Vec<TextRow>, Fault> {
    reader.rows(sql).await.map_err(|error| Fault::of(table, error))
}

async fn first_row(table: &TableCopy, reader: &mut Reader, sql: &str) -> Result<Option<TextRow>, Fault> {
    Ok(rows(table, reader, sql).await?.into_iter().next())
}

/// The value at `at`; `None` where it is NULL.
pub(super) fn text(row: &TextRow, at: usize) -> Option<&str> {
    row.get(at)?.as_deref()
}
