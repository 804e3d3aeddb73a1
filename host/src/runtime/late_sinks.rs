//! Sinks that come while the pipeline lives: each start compares where a table goes now with the ledger.
//!
//! A sink that a table goes to and that doesn't have it gets a copy of its own, beside the stream. The copied rows go to
//! it alone: the others have them. What may differ between sinks is only what stands still: units go out once the
//! stream has passed what they show, however long that takes, so that no change is left out for their sake. Keys that
//! the stream changed meanwhile are read again and may show changes that are still to come; these rows go to every sink,
//! as what they show is left out for every sink. A start that doesn't know whether they arrived reads them once more, as a
//! unit that is read again wouldn't bring them to all.
//!
//! That rests on keys. A table without one is copied again for all its sinks, which are emptied first.

use super::copies;
use super::process::Process;
use crate::checkpoint::{CopyState, TableCopy};
use crate::config::{Pipeline, SnapshotMode};
use crate::pipeline::takes;
use crate::problem::Problem;
use crate::source::catalog::{Catalog, Table};
use rustc_hash::FxHashMap;

/// Enters in the ledger which sinks lack a table that goes to them now.
pub(super) fn follow(process: &Process, catalog: &Catalog) -> Result<(), Problem> {
    let config = process.config();
    if config.source.snapshot.mode == SnapshotMode::Never {
        return Ok(());
    }
    for copy in process.store.copies()? {
        let Some(table) = catalog.tables.iter().find(|table| table.oid == copy.table_oid) else {
            continue;
        };
        let fresh = reached(&copy, table, goes_to(&config, table));
        if fresh != copy {
            let is_other = fresh.state != copy.state || fresh.reach.only != copy.reach.only;
            // What was counted is of the same copy, unless this is another.
            let ranges = if is_other {
                Vec::new()
            } else {
                process.store.copied_ranges(copy.table_oid)?
            };
            process.store.set_copy(&fresh, &ranges)?;
        }
    }
    Ok(())
}

/// The copy as it is to be where its table goes to these sinks.
fn reached(copy: &TableCopy, table: &Table, sinks: Vec<String>) -> TableCopy {
    let mut fresh = copy.clone();
    let reach = &mut fresh.reach;
    let had = reach.has.replace(sinks.clone()).unwrap_or_else(|| sinks.clone());
    reach
        .gone
        .extend(had.iter().filter(|name| !sinks.contains(name)).cloned());
    reach.gone.sort_unstable();
    reach.gone.dedup();
    reach.only.retain(|name| sinks.contains(name));
    let late: Vec<String> = sinks.into_iter().filter(|name| !had.contains(name)).collect();
    let returns = late.iter().any(|name| reach.gone.contains(name));
    reach.gone.retain(|name| !late.contains(name));
    let is_for_all = copy.state == CopyState::Planned && copy.reach.only.is_empty();
    if late.is_empty() && !copy.reach.only.is_empty() && reach.only.is_empty() {
        // Whom it was for has gone.
        fresh.state = CopyState::Finished;
    } else if !late.is_empty() && copy.state != CopyState::Left && !is_for_all {
        let keyless = !copies::has_key(table);
        tracing::info!(table = copy.table, sinks = ?late, keyless, "the table is copied for sinks that have come");
        fresh.state = CopyState::Planned;
        fresh.basis = String::new();
        // Nobody took away from one that returns what the source lost meanwhile.
        fresh.empties |= returns || keyless;
        reach.only.extend(late);
        if keyless {
            reach.only.clear();
        }
    }
    fresh
}

/// The names of the sinks that the table's rows go to.
fn goes_to(config: &Pipeline, table: &Table) -> Vec<String> {
    let relation = copies::relation(table);
    let routes = config.routes.iter().filter(|route| takes(route, &relation));
    let mut names: Vec<String> = routes.flat_map(|route| route.sinks.iter().cloned()).collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// Tables whose copied rows go to some of their sinks alone, with the indexes of these.
pub(super) fn only(process: &Process) -> Result<FxHashMap<u32, Vec<usize>>, Problem> {
    let config = process.config();
    let index = |name: &String| config.sinks.iter().position(|sink| sink.name == *name);
    let under_way = |copy: &TableCopy| copy.state == CopyState::Planned && !copy.reach.only.is_empty();
    let copies = process.store.copies()?.into_iter().filter(under_way);
    Ok(copies
        .map(|copy| (copy.table_oid, copy.reach.only.iter().filter_map(index).collect()))
        .collect())
}
