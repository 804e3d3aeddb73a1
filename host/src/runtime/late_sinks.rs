//! Sinks that come while the pipeline lives: each start compares where a table goes now with the ledger.
//!
//! A sink that a table goes to and that doesn't have it gets a copy of its own, beside the stream. The copied rows go to
//! it alone: the others have them, and get every change of the stream as without the copy. Keys that the stream changed
//! meanwhile are read again and may show changes that are still to come: these are left out for the sink that comes alone
//! (`pipeline/late.rs`). Its units go out once the stream has passed what they show, however long that takes, so that
//! there is little of that.
//!
//! That rests on keys. A table without one is copied again for all its sinks, which are emptied first.

use super::process::Process;
use super::{copies, copy_order};
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
    // Nobody took away from one that returns what the source lost meanwhile. A copy for all begins anew with one more sink.
    fresh.empties |= returns && copy.state != CopyState::Left;
    if late.is_empty() && !copy.reach.only.is_empty() && reach.only.is_empty() {
        // Whom it was for has gone.
        fresh.state = CopyState::Finished;
    } else if !late.is_empty() && copy.state != CopyState::Left && !is_for_all {
        let keyless = copies::key(table).is_empty();
        tracing::info!(table = copy.table, sinks = ?late, keyless, "the table is copied for sinks that have come");
        fresh.basis = match copy.state {
            CopyState::Planned => copy_order::for_more_sinks(&copy.basis),
            _ => String::new(),
        };
        fresh.state = CopyState::Planned;
        // Nobody has seen what became of its key, and the stream may still be before that.
        fresh.altered = true;
        fresh.empties |= keyless;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::Reach;
    use crate::runtime::copy_order::tests::orders;

    fn names(sinks: &[&str]) -> Vec<String> {
        sinks.iter().map(|name| (*name).to_owned()).collect()
    }

    fn copy(state: CopyState, has: &[&str]) -> TableCopy {
        TableCopy {
            table_oid: 16_400,
            table: "public.orders".to_owned(),
            epoch: 1,
            began: 1,
            state,
            basis: "of before".to_owned(),
            empties: false,
            joined: false,
            altered: false,
            reach: Reach {
                has: Some(names(has)),
                ..Reach::default()
            },
        }
    }

    /// One copy after another, as the table's sinks are others and others.
    fn followed(state: CopyState, has: &[&str], then: &[&[&str]]) -> TableCopy {
        then.iter()
            .fold(copy(state, has), |copy, sinks| reached(&copy, &orders(), names(sinks)))
    }

    #[test]
    fn a_sink_that_is_new_is_copied_to_and_one_that_returns_is_emptied_first() {
        let new = followed(CopyState::Finished, &["feed"], &[&["feed", "late"]]);
        assert_eq!((new.state, new.empties), (CopyState::Planned, false));
        assert_eq!(new.reach.only, ["late"]);
        let returned = followed(CopyState::Finished, &["feed", "late"], &[&["feed"], &["feed", "late"]]);
        assert_eq!((returned.state, returned.empties), (CopyState::Planned, true));
        assert_eq!(returned.reach.only, ["late"]);
    }

    #[test]
    fn what_a_copy_for_some_sinks_rests_on_is_kept_where_more_come() {
        let first = followed(CopyState::Finished, &["feed"], &[&["feed", "late"]]);
        assert!(first.altered && first.basis.is_empty(), "nothing is out");
        let under_way = TableCopy {
            basis: "file 1; columns; key id; sinks feed, late".to_owned(),
            ..first
        };
        let more = reached(&under_way, &orders(), names(&["feed", "later", "late"]));
        assert_eq!(more.reach.only, ["late", "later"]);
        assert!(more.altered && !copy_order::is_planned(&more.basis));
        assert!(more.basis.ends_with(&under_way.basis), "{}", more.basis);
    }

    #[test]
    fn one_that_returns_to_a_copy_for_all_is_emptied_too() {
        let both = ["feed", "late"];
        let new = followed(CopyState::Planned, &["feed"], &[&both]);
        assert_eq!((new.state, new.empties), (CopyState::Planned, false));
        let returned = followed(CopyState::Planned, &both, &[&["feed"], &both]);
        assert_eq!((returned.state, returned.empties), (CopyState::Planned, true));
        assert!(returned.reach.only.is_empty(), "for all, from its beginning");
        let left = followed(CopyState::Left, &both, &[&["feed"], &both]);
        assert_eq!((left.state, left.empties), (CopyState::Left, false));
    }

    #[test]
    fn without_an_identity_no_sink_is_copied_to_alone() {
        let mut table = orders();
        table.columns.iter_mut().for_each(|column| column.identity = false);
        let new = reached(&copy(CopyState::Finished, &["feed"]), &table, names(&["feed", "late"]));
        assert_eq!((new.state, new.empties), (CopyState::Planned, true));
        assert!(
            new.reach.only.is_empty(),
            "only inserts are published, and nothing tells the rows apart"
        );
    }
}
