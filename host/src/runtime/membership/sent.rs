//! What a publication sends of a table, compared with the last look: what it left out before, nothing brings but another
//! copy.
//!
//! Within one publication a row filter or a column list only becomes another together with its table's entry, which has the
//! table copied anew. So they are compared where the publication is another one, and not with each look: the server's text of
//! them is another one where a column is renamed.

use crate::checkpoint::{PublishedTable, SentOf};
use crate::source::publication::{PublicationState, Published};

/// What is sent of a table now.
pub(super) fn of(state: &PublicationState, table: &Published) -> SentOf {
    let kinds = [
        (state.inserts, "inserts"),
        (state.updates, "updates"),
        (state.deletes, "deletes"),
        (state.truncates, "truncates"),
        (state.generated, "generated columns"),
    ];
    let kinds = kinds.iter().filter(|(are_sent, _)| *are_sent);
    SentOf {
        kinds: kinds.map(|(_, name)| (*name).to_owned()).collect(),
        filter: table.row_filter.clone(),
        columns: table.column_list.clone(),
    }
}

/// Tells what is different, by the table's name; nothing where it isn't known what was sent before.
pub(super) fn tell(before: &PublishedTable, publication: u32, now: &SentOf) {
    let Some(sent) = &before.sent else { return };
    let changes = changes(sent, now, before.publication != publication);
    if changes.is_empty() {
        return;
    }
    let (table, changed) = (&before.table, changes.join("; "));
    let help = format!("rowmill resync {table}");
    tracing::warn!(
        table,
        changed,
        help,
        "the publication sends something else of the table: what it left out before is missing at the targets, and what it \
         leaves out now grows old there"
    );
}

fn changes(before: &SentOf, now: &SentOf, is_other: bool) -> Vec<String> {
    let mut changes = differences(&before.kinds, &now.kinds, "sent");
    if !is_other {
        return changes;
    }
    match (&before.filter, &now.filter) {
        (Some(_), None) => changes.push("without its row filter".to_owned()),
        (None, Some(_)) => changes.push("with a row filter".to_owned()),
        (before, now) if before != now => changes.push("with another row filter".to_owned()),
        _ => {}
    }
    match (&before.columns, &now.columns) {
        (Some(_), None) => changes.push("without its column list".to_owned()),
        (None, Some(_)) => changes.push("with a column list".to_owned()),
        (Some(before), Some(now)) => changes.extend(differences(before, now, "in the column list")),
        (None, None) => {}
    }
    changes
}

fn differences(before: &[String], now: &[String], what: &str) -> Vec<String> {
    let lacks = |of: &[String], other: &[String]| {
        let lacking = of.iter().filter(|name| !other.contains(name));
        lacking.cloned().collect::<Vec<String>>().join(", ")
    };
    let (come, gone) = (lacks(now, before), lacks(before, now));
    let mut differences = Vec::new();
    if !come.is_empty() {
        differences.push(format!("now {what}: {come}"));
    }
    if !gone.is_empty() {
        differences.push(format!("no longer {what}: {gone}"));
    }
    differences
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(of: &[&str]) -> Vec<String> {
        of.iter().map(|name| (*name).to_owned()).collect()
    }

    fn sent(kinds: &[&str], filter: Option<&str>, columns: Option<&[&str]>) -> SentOf {
        SentOf {
            kinds: names(kinds),
            filter: filter.map(str::to_owned),
            columns: columns.map(names),
        }
    }

    #[test]
    fn what_has_changed_is_named() {
        let before = sent(&["inserts", "updates"], None, None);
        assert_eq!(changes(&before, &before, false), [""; 0]);
        assert_eq!(
            changes(&before, &sent(&["inserts", "deletes"], None, None), false),
            ["now sent: deletes", "no longer sent: updates"]
        );
        let listed = sent(&["inserts", "updates"], Some("(id > 1)"), Some(&["id", "secret"]));
        assert_eq!(
            changes(&before, &listed, false),
            [""; 0],
            "copied anew, or a column's new name"
        );
        assert_eq!(
            changes(&before, &listed, true),
            ["with a row filter", "with a column list"]
        );
        assert_eq!(
            changes(&listed, &before, true),
            ["without its row filter", "without its column list"]
        );
        let wider = sent(&["inserts", "updates"], Some("(id > 0)"), Some(&["id", "name"]));
        assert_eq!(
            changes(&listed, &wider, true),
            [
                "with another row filter",
                "now in the column list: name",
                "no longer in the column list: secret"
            ]
        );
    }
}
