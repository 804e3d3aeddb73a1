//! Filters that read what the server may leave out of an update.

use super::routes::{Started, Way};
use crate::batch::ReplicaIdentity;
use crate::source::catalog::Table;
use crate::source::preflight::{Level, Notice, codes};

/// A value that is stored out of line and that an update leaves alone isn't sent, unless the whole old row is: a filter
/// that reads it can't judge the row.
pub(super) fn unjudged(tables: &[Table], ways: &[Way], started: &mut [Started]) -> Vec<Notice> {
    let mut notices: Vec<Notice> = Vec::new();
    for way in ways {
        let table = &tables[way.table];
        let Started::Chain(chain) = &mut started[way.route] else {
            continue;
        };
        if table.replica_identity == ReplicaIdentity::Full {
            continue;
        }
        // A plugin that refuses the table has been told of.
        for (filter, reads) in chain.filters_read(&way.relation).unwrap_or_default() {
            let left_out = table.columns.iter().filter(|column| column.toastable);
            let left_out: Vec<&str> = left_out
                .map(|column| column.name.as_str())
                .filter(|name| reads.iter().any(|read| read == name))
                .collect();
            if left_out.is_empty() {
                continue;
            }
            let notice = notice(table, &filter, &left_out);
            // Several routes with the same filter say the same.
            if !notices.iter().any(|said| said.headline == notice.headline) {
                notices.push(notice);
            }
        }
    }
    notices
}

fn notice(table: &Table, filter: &str, columns: &[&str]) -> Notice {
    Notice {
        code: codes::UNCHANGED_TOAST,
        level: Level::Warning,
        headline: format!(
            "filter {filter} reads what updates of {} leave out where it is large and doesn't change",
            table.full_name()
        ),
        detail: Some(format!("{}: such a row is an error of its own", columns.join(", "))),
        help: Some(format!("ALTER TABLE {} REPLICA IDENTITY FULL;", table.sql_name)),
    }
}
