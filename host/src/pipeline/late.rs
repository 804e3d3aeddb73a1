//! What sinks get of tables that are copied for some of them alone: those that have come get what the copy brings, and of
//! the stream what that doesn't show; the others all of the stream, as without the copy.

use crate::batch::{Batch, Op, Origin, Row, Value};
use rustc_hash::FxHashMap;

/// Tables that are copied for some sinks alone, with the indexes of these.
pub(super) type Only = FxHashMap<u32, Vec<usize>>;

/// The sinks that a copied row goes to, where these are some alone.
pub(super) fn sinks_of<'o>(only: &'o Only, batch: &Batch, row: &Row) -> Option<&'o [usize]> {
    match batch.transaction(row).origin {
        Origin::Copy(unit) => only.get(&unit.table_oid).map(Vec::as_slice),
        _ => None,
    }
}

/// Leaves those rows that are a sink's, and what of them is.
pub(super) fn keep_own(only: &Only, sink: usize, batch: &Batch, rows: &mut Vec<Row>) {
    let has_come = |oid: &u32| only.get(oid).is_some_and(|sinks| sinks.contains(&sink));
    rows.retain_mut(|row| {
        if sinks_of(only, batch, row).is_some_and(|sinks| !sinks.contains(&sink)) {
            return false;
        }
        let copied = batch.copied_of(row).filter(|copied| has_come(&copied.table_oid));
        let left = copied.map_or(Some(*row), |copied| copied.left.of(row));
        left.inspect(|left| *row = *left).is_some()
    });
}

/// Leaves of tables that are being copied those of which that is so for a sink.
pub(super) fn keep_own_tables(only: &Only, sink: usize, tables: &mut Vec<u32>) {
    tables.retain(|oid| only.get(oid).is_none_or(|sinks| sinks.contains(&sink)));
}

/// The row of an upsert, or of an insert that a publication's filter has made of an update, may not be there where its table
/// is being copied: it is read again, with the values that this change lacks.
pub(super) fn spare(batch: &Batch, rows: &mut [Row], spared: &[u32]) {
    for row in rows.iter_mut().filter(|row| row.op.is_of_a_table()) {
        if !spared.contains(&batch.relation(row).oid) {
            continue;
        }
        if row.op == Op::Upsert || row.op == Op::Insert && lacks_values(batch, row) {
            row.op = Op::Update;
        }
    }
}

fn lacks_values(batch: &Batch, row: &Row) -> bool {
    let mut columns = batch.relation(row).columns.iter();
    let is_unchanged = |slot| {
        row.new
            .is_some_and(|new| matches!(batch.value(new, slot), Value::Unchanged))
    };
    columns.any(|column| is_unchanged(column.slot))
}
