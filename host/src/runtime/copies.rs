//! What is still to be copied: planned at the first start, kept in the state store, given to the snapshot stage.

use super::process::Process;
use super::source::Ready;
use crate::batch::{Column, Relation, ReplicaIdentity};
use crate::checkpoint::{self, CopyState};
use crate::decode::{ColumnHint, TableHint};
use crate::postgres::sql;
use crate::problem::Problem;
use crate::snapshot::{self, Copier, Merger, Plan};
use crate::source::catalog::Table;
use std::sync::Arc;

/// Starts to copy what isn't copied yet, on the workers. A copy that was cut off starts over, as the next one of its
/// table: what it left at the sinks is overwritten by key.
pub(super) fn start(process: &Arc<Process>, ready: &Ready) -> Result<(Copier, Merger), Box<Problem>> {
    let mut tables = Vec::new();
    for copy in process.store.copies()? {
        if copy.state == CopyState::Finished {
            continue;
        }
        let Some(table) = ready.catalog.tables.iter().find(|table| table.oid == copy.table_oid) else {
            tracing::warn!(table = copy.table, "the table is gone; its copy is given up");
            process.store.remove_copy(copy.table_oid)?;
            continue;
        };
        // What is stored is the copy under way: the marks that say how far it has come name it by this number.
        let epoch = copy.epoch + 1;
        process.store.set_copy(&checkpoint::TableCopy { epoch, ..copy })?;
        tables.push(table_copy(table, epoch));
    }
    process
        .stats
        .copying
        .store(!tables.is_empty(), std::sync::atomic::Ordering::Release);
    let settings = &process.config.source.snapshot;
    let plan = Plan {
        tables,
        connections: settings.connections,
        unit_rows: settings.unit_rows,
    };
    let source = process.source.clone();
    let application = process.application_name();
    let _runtime = process.workers.enter();
    Ok(snapshot::start(plan, move || {
        let (source, application) = (source.clone(), application.clone());
        async move { Ok(sql::connect(&source, &application).await?) }
    }))
}

/// The columns that the stream sends, all of them as the catalog has them now.
fn table_copy(table: &Table, epoch: u32) -> snapshot::TableCopy {
    let relation = relation(table);
    // Without a primary key, REPLICA IDENTITY FULL means all columns: values that may be NULL and repeat. Such a table
    // is copied as one unit.
    let keyless = table.replica_identity == ReplicaIdentity::Full && !by_primary_key(table);
    let key = if keyless {
        Vec::new()
    } else {
        relation.key_columns().map(|column| column.name.clone()).collect()
    };
    snapshot::TableCopy {
        relation: Arc::new(relation),
        key,
        partitioned: table.partitioned,
        epoch,
    }
}

/// Under REPLICA IDENTITY FULL every column identifies; a primary key says it with fewer.
fn by_primary_key(table: &Table) -> bool {
    table.replica_identity == ReplicaIdentity::Full && table.primary_key().next().is_some()
}

/// The relation that the table's rows have, as the catalog has it now.
pub(crate) fn relation(table: &Table) -> Relation {
    let by_primary_key = by_primary_key(table);
    let sent = table.columns.iter().filter(|column| !column.generated);
    let columns = sent.enumerate().map(|(at, column)| Column {
        name: column.name.clone(),
        type_oid: column.type_oid,
        typmod: column.typmod,
        type_name: column.type_name.clone(),
        nullable: column.nullable,
        key: if by_primary_key {
            column.primary_key
        } else {
            column.identity
        },
        slot: at as u16,
    });
    let columns: Vec<Column> = columns.collect();
    Relation {
        index: Relation::next_index(),
        version: 1,
        oid: table.oid,
        schema: table.schema.clone(),
        table: table.table.clone(),
        replica_identity: table.replica_identity,
        slots: columns.len() as u16,
        columns,
    }
}

/// What the decoder can't learn from the stream.
pub(super) fn hint(table: &Table) -> TableHint {
    let columns = table.columns.iter().map(|column| ColumnHint {
        name: column.name.clone(),
        type_oid: column.type_oid,
        type_name: column.type_name.clone(),
        nullable: column.nullable,
        primary_key: column.primary_key,
    });
    TableHint {
        oid: table.oid,
        columns: columns.collect(),
    }
}
