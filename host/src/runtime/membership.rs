//! Tables that leave the publication and come back, though the file names them all the time: what was changed in between
//! was never streamed.
//!
//! ```text
//!   the publication as it is  --compared with the last look-->  left, in the ledger  -->  put back, where it is ours
//!                                                                                           |
//!                                                              planned to be copied anew  <--
//! ```
//!
//! A table that isn't there has left. So has one whose entry in the publication is another than at the last look: it was taken
//! out and put in again since, whether a session ran meanwhile or not. The ledger has it before anything is done about it,
//! so that an end of the process in between changes nothing; `tables` plans its copy, as of any table that comes back.
//! The entries are those from before that copy begins: what happens to them later is found by the next look.
//!
//! A publication that is dropped and made again has other entries. Those that it was made with miss nothing: the server refuses
//! to stream what was changed while it wasn't there, which ends the session. Which those are isn't known any more where it was given
//! another owner behind that, before a look: then all are copied anew (`source/publication.rs`).
//!
//! What is sent of a table that was there all the time may still be something else than it was (`sent`).
//!
//! What has no entry of its own can't be told from what was there all the time, unless a look finds it gone: tables that
//! are published with all others, with their schema, or with a partitioned table above them.

mod sent;

use super::process::Process;
use super::tables;
use crate::checkpoint::{CopyState, PublishedTable, TableCopy};
use crate::config::SnapshotMode;
use crate::failpoint;
use crate::problem::Problem;
use crate::source::catalog::Table;
use crate::source::publication::{self, Publication, PublicationState, Published};
use std::collections::{HashMap, HashSet};
use tokio_postgres::Client;

/// How a table isn't what it was in the publication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Missed {
    /// It isn't there.
    Gone,
    /// It was taken out and put in again.
    Meanwhile,
    /// It is in another publication now, and hasn't been there from the first.
    Elsewhere,
}

/// The publication to stream from. What has left it is in the ledger before it is put back. Says whether anything has.
pub(super) async fn ensure(
    process: &Process,
    client: &Client,
    tables: &[Table],
    first_run: bool,
) -> Result<(Publication, bool), Box<Problem>> {
    let config = process.config();
    let adopted = config.source.publication.as_deref();
    let name = publication::name(&config.name, adopted);
    let selected = tables.iter().map(|table| table.oid).collect();
    let found = publication::state(client, &name).await?;
    let mut has_left = false;
    match &found {
        Some(found) if !first_run => has_left = follow(process, found, &selected)?,
        Some(found) => process.store.set_published(&entries(found, &selected))?,
        None if first_run => process.store.set_published(&[])?,
        None => {}
    }
    let publication = publication::ensure(client, &config.name, adopted, found.as_ref(), tables, !first_run).await?;
    if publication.altered {
        failpoint::pass(failpoint::AFTER_PUBLICATION_ALTERED);
        if let Some(now) = publication::state(client, &name).await? {
            came(process, &now, &selected)?;
        }
    }
    Ok((publication, has_left))
}

/// Compares the publication with the last look, and enters in the ledger what has left since. Says whether anything has.
pub(super) fn follow(process: &Process, state: &PublicationState, selected: &HashSet<u32>) -> Result<bool, Problem> {
    let before = process.store.published()?.unwrap_or_default();
    let known: HashMap<u32, &PublishedTable> = before.iter().map(|table| (table.oid, table)).collect();
    let now: HashMap<u32, &Published> = state.tables.iter().map(|table| (table.oid, table)).collect();
    let mut copies = process.store.copies()?;
    copies.retain(|copy| copy.state != CopyState::Left);
    let copies: HashMap<u32, TableCopy> = copies.into_iter().map(|copy| (copy.table_oid, copy)).collect();
    let config = process.config();
    let name = publication::name(&config.name, config.source.publication.as_deref());
    let is_other = process
        .store
        .identity()?
        .is_some_and(|identity| identity.publication != name);
    let of_publication = config.source.tables.is_empty();
    let mut has_left = false;
    let mut met = HashSet::new();
    let in_ledger = copies.values().map(|copy| (copy.table_oid, copy.table.as_str()));
    for (oid, table) in in_ledger.chain(before.iter().map(|table| (table.oid, table.table.as_str()))) {
        if !met.insert(oid) {
            continue;
        }
        let (before, now) = (known.get(&oid).copied(), now.get(&oid).copied());
        let Some(missed) = missed(before, now, is_other) else {
            if let (Some(before), Some(now)) = (before, now) {
                sent::tell(before, now.publication, &sent::of(state, now));
            }
            continue;
        };
        let copy = copies.get(&oid).filter(|_| missed != Missed::Elsewhere);
        if let Some(copy) = copy {
            tables::leave(process, copy)?;
            has_left = true;
        }
        // What the file doesn't ask for any more is no news.
        if copy.is_some() || selected.contains(&oid) || of_publication {
            tell(table, missed, config.source.snapshot.mode == SnapshotMode::Never);
        }
    }
    let entries = entries(state, selected);
    if entries != before {
        process.store.set_published(&entries)?;
    }
    Ok(has_left)
}

/// Tables that have been put into the publication just now: the entries of the others are those of the last look.
fn came(process: &Process, state: &PublicationState, selected: &HashSet<u32>) -> Result<(), Problem> {
    let mut known = process.store.published()?.unwrap_or_default();
    let before: HashSet<u32> = known.iter().map(|table| table.oid).collect();
    let mut entries = entries(state, selected);
    entries.retain(|table| !before.contains(&table.oid));
    known.extend(entries);
    process.store.set_published(&known)
}

fn entries(state: &PublicationState, selected: &HashSet<u32>) -> Vec<PublishedTable> {
    let tables = state.tables.iter().filter(|table| selected.contains(&table.oid));
    let entry = |table: &Published| PublishedTable {
        oid: table.oid,
        table: table.full_name.clone(),
        publication: table.publication,
        entry: table.entry,
        sent: Some(sent::of(state, table)),
    };
    tables.map(entry).collect()
}

/// `is_other`: the file names another publication than it did.
fn missed(before: Option<&PublishedTable>, now: Option<&Published>, is_other: bool) -> Option<Missed> {
    let (before, now) = match (before, now) {
        (_, None) => return Some(Missed::Gone),
        (None, Some(_)) => return None,
        (Some(before), Some(now)) => (before, now),
    };
    if before.publication == now.publication {
        return (before.entry != now.entry).then_some(Missed::Meanwhile);
    }
    match now.entry.is_some() && !now.from_the_first {
        true if is_other => Some(Missed::Elsewhere),
        true => Some(Missed::Meanwhile),
        false => None,
    }
}

fn tell(table: &str, missed: Missed, never_copied: bool) {
    let help = format!("rowmill resync {table}");
    match (missed, never_copied) {
        (Missed::Gone, false) => tracing::warn!(
            table,
            "the table isn't published any more: what the targets have of it grows old, and is copied anew once it is back"
        ),
        (Missed::Meanwhile, false) => tracing::warn!(
            table,
            "the table was out of the publication: what was changed meanwhile wasn't streamed, and it is copied anew"
        ),
        (Missed::Gone, true) => tracing::warn!(
            table,
            help,
            "the table isn't published any more: what is changed until it is back is missing at the targets then"
        ),
        (Missed::Meanwhile, true) => tracing::warn!(
            table,
            help,
            "the table was out of the publication: what was changed meanwhile is missing at the targets"
        ),
        (Missed::Elsewhere, _) => tracing::warn!(
            table,
            help,
            "the table came into this publication after it was made: what was changed before isn't streamed, and is missing at the \
             targets where the other publication didn't bring it"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn before(publication: u32, entry: Option<u32>) -> PublishedTable {
        PublishedTable {
            oid: 16_400,
            table: "public.orders".to_owned(),
            publication,
            entry,
            sent: None,
        }
    }

    fn now(publication: u32, entry: Option<u32>, from_the_first: bool) -> Published {
        Published {
            oid: 16_400,
            sql_name: "public.orders".to_owned(),
            full_name: "public.orders".to_owned(),
            publication,
            entry,
            from_the_first,
            row_filter: None,
            column_list: None,
        }
    }

    #[test]
    fn another_entry_is_a_table_that_was_out() {
        let of = |from: &PublishedTable, to: &Published| missed(Some(from), Some(to), false);
        let known = before(1, Some(10));
        assert_eq!(of(&known, &now(1, Some(10), false)), None);
        assert_eq!(of(&known, &now(1, Some(11), false)), Some(Missed::Meanwhile));
        assert_eq!(
            of(&known, &now(1, None, false)),
            Some(Missed::Meanwhile),
            "by its schema"
        );
        assert_eq!(of(&before(1, None), &now(1, None, false)), None, "with all tables");
        assert_eq!(missed(Some(&known), None, false), Some(Missed::Gone));
        assert_eq!(
            missed(None, None, false),
            Some(Missed::Gone),
            "of a state from before entries were kept"
        );
        assert_eq!(missed(None, Some(&now(1, Some(10), true)), false), None);
    }

    #[test]
    fn a_publication_that_is_made_again_misses_nothing_of_what_it_is_made_with() {
        let of = |to: &Published, is_other| missed(Some(&before(1, Some(10))), Some(to), is_other);
        assert_eq!(of(&now(2, Some(11), true), false), None);
        assert_eq!(of(&now(2, None, false), false), None, "for all tables");
        assert_eq!(
            of(&now(2, Some(11), false), false),
            Some(Missed::Meanwhile),
            "put in later"
        );
        assert_eq!(of(&now(2, Some(11), false), true), Some(Missed::Elsewhere));
        assert_eq!(of(&now(2, Some(11), true), true), None);
    }
}
