//! What is still to be copied: planned at the first start, kept in the state store, given to the snapshot stage.

use super::copy_order::{self, Order};
use super::process::Process;
use super::source::{Ready, Streamed};
use crate::batch::{Column, OwnTypes, Relation, ReplicaIdentity};
use crate::checkpoint::{self, CopiedRange, CopyState, RowsAhead};
use crate::config::Pipeline;
use crate::decode::{ColumnHint, TableHint, is_alike_everywhere};
use crate::postgres::Reader;
use crate::problem::Problem;
use crate::snapshot::{self, Ahead, Copier, KeyRange, Merger, NotASnapshot, Plan, Tally, WaitingRoom};
use crate::source::catalog::Table;
use crate::source::publication;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

/// How long a unit waits for the stream to pass it. Long enough that it only doesn't where the stream lags for other
/// reasons than the copy itself.
const UNIT_PATIENCE: Duration = Duration::from_secs(2);

/// In so many units a connection reads the rows that it may have under way (`unit_rows`): one is read while the others go
/// through plugins and sinks and into the ledger, which takes two to three times as long as to read one.
const UNITS_UNDER_WAY: usize = 4;

/// Starts to copy what isn't copied yet, on the workers. A copy that was cut off goes on with the ranges of the key that
/// aren't counted yet: what it left of those at the sinks is overwritten by key.
pub(super) fn start(process: &Arc<Process>, ready: &Ready) -> Result<(Copier, Merger), Box<Problem>> {
    let streamed = ready.streamed();
    let mut planned = Planned::default();
    for copy in process.store.copies()? {
        if copy.state != CopyState::Planned {
            continue;
        }
        let Some(table) = streamed.table(copy.table_oid) else {
            tracing::warn!(table = copy.table, "the table is gone; its copy is given up");
            process.store.remove_copy(copy.table_oid)?;
            continue;
        };
        planned.add(process, copy, table, &streamed)?;
    }
    process
        .stats
        .copying
        .store(!planned.tables.is_empty(), std::sync::atomic::Ordering::Release);
    let _runtime = process.workers.enter();
    let (copier, merger) = snapshot::start(planned.plan(process), connect(process));
    process.status.copies(merger.progress());
    Ok((copier, merger))
}

/// The copies in the ledger that no session has planned yet.
pub(super) fn fresh(process: &Process) -> Result<Vec<checkpoint::TableCopy>, Problem> {
    let mut copies = process.store.copies()?;
    copies.retain(|copy| copy.state == CopyState::Planned && !copy_order::is_planned(&copy.basis));
    Ok(copies)
}

/// Plans those for the running session: they are read once the merger has joined the stream. What an earlier copy let out
/// before the stream had passed it is gone with what the targets had, see `snapshot/mod.rs`.
pub(super) fn beside(
    process: &Arc<Process>,
    copies: Vec<checkpoint::TableCopy>,
    streamed: &Streamed<'_>,
) -> Result<(Copier, Merger), Box<Problem>> {
    let mut planned = Planned::default();
    for copy in copies {
        if let Some(table) = streamed.table(copy.table_oid) {
            planned.add(process, copy, table, streamed)?;
        }
    }
    planned.tables.iter_mut().for_each(|table| table.ahead.clear());
    let _runtime = process.workers.enter();
    Ok(snapshot::prepare(planned.plan(process), connect(process)))
}

/// Tables that are to be copied, as the ledger has them by now.
#[derive(Default)]
struct Planned {
    tables: Vec<snapshot::TableCopy>,
    patient: bool,
}

impl Planned {
    fn add(
        &mut self,
        process: &Process,
        copy: checkpoint::TableCopy,
        table: &Table,
        streamed: &Streamed<'_>,
    ) -> Result<(), Box<Problem>> {
        // What is stored is the copy under way: the marks that say how far it has come name it by this number.
        let epoch = copy.epoch + 1;
        let Order { basis, file } = copy_order::of(table, &copy.basis, process, streamed);
        let ranges = copied_before(process, &copy, &basis)?;
        let config = process.config();
        let publication = publication::name(&config.name, config.source.publication.as_deref());
        let planned = snapshot::TableCopy {
            types: streamed.types.cloned(),
            publication,
            ..table_copy(table, epoch, ranges.clone())
        };
        let mut ahead = process.store.rows_ahead(copy.table_oid)?;
        let is_keyless = planned.key.is_empty();
        // One that has lost its key since can't be copied for some sinks alone.
        let mut reach = copy.reach.clone();
        let was_late = is_keyless && !std::mem::take(&mut reach.only).is_empty();
        let empties = copy.empties || was_late || is_keyless && is_out(process, &copy, &ahead)?;
        // The stream may still be before what made it another.
        let altered =
            copy.altered || !copy.basis.is_empty() && copy_order::differ_in_more_than_file(&copy.basis, &basis);
        self.patient |= copy.joined;
        if !is_keyless && (empties || !copy_order::have_same_key(&copy.basis, &basis)) {
            // Where the targets are emptied they have none of them. Under another key none could be read again, nor would the
            // stream be judged by them; the table is copied anew, by snapshots that see what they show.
            process.store.forget_ahead(copy.table_oid)?;
            ahead.clear();
        }
        let copy = checkpoint::TableCopy {
            epoch,
            began: epoch,
            basis,
            empties,
            altered,
            reach,
            ..copy
        };
        process.store.set_copy(&copy, &ranges)?;
        let ahead = ahead.into_iter().filter(|rows| !rows.keys.is_empty());
        self.tables.push(snapshot::TableCopy {
            ahead: ahead.map(rows_ahead).collect::<Result<_, _>>()?,
            empties,
            altered,
            file,
            late: !copy.reach.only.is_empty(),
            filtered: is_filtered(&process.config(), &planned.relation),
            straight: goes_straight(&process.config(), &planned),
            ..planned
        });
        Ok(())
    }

    fn plan(self, process: &Process) -> Plan {
        let config = process.config();
        let settings = &config.source.snapshot;
        Plan {
            tables: self.tables,
            connections: settings.connections,
            unit_rows: settings.unit_rows.div_ceil(UNITS_UNDER_WAY),
            units_under_way: UNITS_UNDER_WAY,
            patience: UNIT_PATIENCE,
            pace: Arc::clone(&process.pace),
            room: WaitingRoom::new(&config.state_dir, config.source.spill.0, Arc::clone(&process.spill)),
            patient: self.patient,
        }
    }
}

/// Whether rows of a table without a key are out, which nothing would tell from those that are read now. One that has come may
/// have been streamed before anybody knew of it.
fn is_out(process: &Process, copy: &checkpoint::TableCopy, ahead: &[RowsAhead]) -> Result<bool, Problem> {
    Ok(!ahead.is_empty() || copy.joined && process.store.has_met(&copy.table)?)
}

fn is_filtered(config: &Pipeline, relation: &Relation) -> bool {
    let mut routes = config.routes.iter().filter(|route| !route.plugins.is_empty());
    routes.any(|route| crate::pipeline::takes(route, relation))
}

/// Whether nothing between the source and its targets looks at more of the table's copied rows than the key.
fn goes_straight(config: &Pipeline, copy: &snapshot::TableCopy) -> bool {
    let relation = &copy.relation;
    let takes_binary = |name: &String| {
        config
            .sinks
            .iter()
            .any(|sink| sink.name == *name && sink.takes_binary())
    };
    let mut routes = config
        .routes
        .iter()
        .filter(|route| crate::pipeline::takes(route, relation));
    let plain = routes.all(|route| route.plugins.is_empty() && route.sinks.iter().all(takes_binary));
    let mut columns = relation.columns.iter();
    plain && !copy.key.is_empty() && columns.all(|column| is_alike_everywhere(copy.own_types.read_as(column.type_oid)))
}

fn own_types(table: &Table) -> OwnTypes {
    let columns = table.columns.iter();
    columns
        .filter_map(|column| Some((column.type_oid, column.own_type?)))
        .collect()
}

type Connecting = Pin<Box<dyn Future<Output = anyhow::Result<Reader>> + Send>>;

fn connect(process: &Arc<Process>) -> impl Fn() -> Connecting + Send + Sync + use<> {
    let (of, application) = (Arc::clone(process), process.application_name());
    move || {
        let (source, application) = (of.source(), application.clone());
        Box::pin(async move { Ok(Reader::connect(&source, &application).await?) })
    }
}

/// A copy met a table that was altered: those that aren't through wait until the stream has passed where the next session
/// finds the end of the WAL. It may be behind what a unit has seen, and without rows that know the key of now.
pub(super) fn altered(process: &Process) -> Result<(), Problem> {
    for copy in process.store.copies()? {
        if copy.state == CopyState::Planned && !copy.altered {
            let ranges = process.store.copied_ranges(copy.table_oid)?;
            let copy = checkpoint::TableCopy { altered: true, ..copy };
            process.store.set_copy(&copy, &ranges)?;
        }
    }
    Ok(())
}

/// The tables whose copy is through: they aren't read any more.
pub(super) fn finished(process: &Process) -> Result<Vec<u32>, Problem> {
    let copies = process.store.copies()?.into_iter();
    let finished = copies.filter(|copy| copy.state == CopyState::Finished);
    Ok(finished.map(|copy| copy.table_oid).collect())
}

/// What is counted of a table, as the ranges of this start; nothing where it rests on something else than it would now.
fn copied_before(
    process: &Process,
    copy: &checkpoint::TableCopy,
    basis: &str,
) -> Result<Vec<CopiedRange>, Box<Problem>> {
    if copy.empties {
        return Ok(Vec::new());
    }
    let mut ranges = CopiedRange::join(process.store.copied_ranges(copy.table_oid)?);
    let units: u64 = ranges.iter().map(|range| range.units).sum();
    let rows: u64 = ranges.iter().map(|range| range.rows).sum();
    if units > 0 && copy.basis == basis {
        tracing::info!(table = copy.table, units, rows, "the copy goes on where it was");
    } else if units > 0 {
        let why = "the table was rewritten, or the sinks are others";
        tracing::warn!(table = copy.table, units, rows, why, "the copy starts over");
        ranges.clear();
    }
    for (range, at) in ranges.iter_mut().zip(0..) {
        range.place = (2 * at + 1, 0);
    }
    Ok(ranges)
}

fn rows_ahead(rows: RowsAhead) -> Result<Ahead, Box<Problem>> {
    let unreadable = |error: NotASnapshot| Box::new(super::failure::bug(&format!("rows ahead: {error}")));
    Ok(Ahead {
        table_oid: rows.table_oid,
        snapshot: rows.snapshot.parse().map_err(unreadable)?,
        finish: rows.finish,
        keys: rows.keys,
        repair: rows.repair,
    })
}

/// The columns that the stream sends, all of them as the catalog has them now.
fn table_copy(table: &Table, epoch: u32, copied: Vec<CopiedRange>) -> snapshot::TableCopy {
    let relation = relation(table);
    snapshot::TableCopy {
        relation: Arc::new(relation),
        key: key(table),
        partitioned: table.partitioned,
        file: None,
        epoch,
        rows_estimated: table.rows_estimated,
        shape: Some(copy_order::shape(table)),
        publication: String::new(),
        tally: Tally {
            units: copied.iter().map(|range| range.units).sum(),
            rows: copied.iter().map(|range| range.rows).sum(),
            bytes: copied.iter().map(|range| range.bytes).sum(),
        },
        ahead: Vec::new(),
        empties: false,
        altered: false,
        late: false,
        filtered: false,
        types: None,
        straight: false,
        own_types: Arc::new(own_types(table)),
        filter: table.row_filter.clone(),
        condition: table.condition.clone(),
        copied: copied
            .into_iter()
            .map(|CopiedRange { after, up_to, .. }| KeyRange { after, up_to })
            .collect(),
    }
}

/// The columns that tell its rows apart, in their order; none where nothing does. Without a primary key, REPLICA IDENTITY
/// FULL means all columns: values that may be NULL and repeat. A table of which only inserts are published may have no
/// identity at all. Without a key a table is copied as one unit.
pub(super) fn key(table: &Table) -> Vec<String> {
    if table.replica_identity == ReplicaIdentity::Full && !by_primary_key(table) {
        return Vec::new();
    }
    let relation = relation(table);
    relation.key_columns().map(|column| column.name.clone()).collect()
}

/// Under REPLICA IDENTITY FULL every column identifies; a primary key says it with fewer.
fn by_primary_key(table: &Table) -> bool {
    table.replica_identity == ReplicaIdentity::Full && table.primary_key().next().is_some()
}

/// The relation that the table's rows have, as the catalog has it now.
pub(crate) fn relation(table: &Table) -> Relation {
    let by_primary_key = by_primary_key(table);
    let sent = table
        .columns
        .iter()
        .filter(|column| !column.generated && !column.withheld);
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
