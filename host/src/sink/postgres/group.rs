//! Brings the rows of each table together.

use super::target::Target;
use crate::batch::{Batch, Op, Row};
use rustc_hash::FxHashMap;
use std::sync::Arc;

/// Rows by table, in their order within each, and where each stood. A truncate stays where it is, and nothing passes
/// it. `None` where the rows stand like that already.
pub(super) fn by_table(
    batch: &Batch,
    rows: &[Row],
    targets: &FxHashMap<u32, Arc<Target>>,
) -> Option<(Vec<Row>, Vec<usize>)> {
    let table = |index: &u32| targets.get(index).map_or(u32::MAX, |target| target.table);
    // Looked up once for each relation, not for each row.
    let tables: Vec<u32> = batch.relations.iter().map(|relation| table(&relation.index)).collect();
    let mut segment = 0_u32;
    let mut keys: Vec<(u32, u32, u32)> = Vec::with_capacity(rows.len());
    for (at, row) in rows.iter().enumerate() {
        if row.op == Op::Truncate {
            keys.push((segment + 1, 0, at as u32));
            segment += 2;
            continue;
        }
        if row.op == Op::Message {
            continue;
        }
        keys.push((segment, tables[row.relation as usize], at as u32));
    }
    if keys.is_sorted() {
        return None;
    }
    keys.sort_unstable();
    let from: Vec<usize> = keys.iter().map(|(_, _, at)| *at as usize).collect();
    Some((from.iter().map(|at| rows[*at]).collect(), from))
}
