//! In which order a table is copied, and what its copied ranges rest on.

use super::copies::{key, relation};
use super::process::Process;
use super::source::Streamed;
use crate::config::{Pipeline, SinkKind, WriteMode};
use crate::pipeline::takes;
use crate::source::catalog::Table;

/// The first version that finds a range of `ctid` without reading the whole table.
const TID_RANGE_SCANS: u32 = 140_000;
/// Rows that are larger on average are copied in the order of their key: a block of the heap may hold two hundred of them.
const WIDE_ROW_BYTES: u64 = 32 << 10;
/// How it begins what copied ranges rest on, before the number of the table's file: ranges of the key, or of the heap.
const BY_KEY: &str = "file";
const BY_PLACE: &str = "blocks of file";

/// How it begins where the copy has got more sinks, and no session has planned it for them yet.
const FOR_MORE: &str = "for more sinks, ";

/// How a table is copied.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Order {
    /// What its ranges rest on: where that is another than it was, they count for nothing.
    pub(super) basis: String,
    /// In the order of its heap: the number of the file with that.
    pub(super) file: Option<u32>,
}

/// In the order of its heap where that can be, which costs the server least by far. Ranges that are copied already, with
/// the basis `stored`, go on as what they are.
pub(super) fn of(table: &Table, stored: &str, process: &Process, streamed: &Streamed<'_>) -> Order {
    let config = process.config();
    let mut sinks: Vec<&str> = config.sinks.iter().map(|sink| sink.name.as_str()).collect();
    sinks.sort_unstable();
    let sinks = sinks.join(", ");
    let has_places = has_places(table, streamed.sends_updates, streamed.server_version)
        && (key(table).is_empty() || may_repeat(table, process, &config));
    choose(table, stored, &sinks, has_places)
}

/// Whether a row may be brought by two units, as one is that an update moves from a block that has been read into one that
/// is yet to be: it is where it is written over by its key, and no plugin counts it.
fn may_repeat(table: &Table, process: &Process, config: &Pipeline) -> bool {
    let relation = relation(table);
    let mut routes = config.routes.iter().filter(|route| takes(route, &relation));
    routes.all(|route| {
        let mut sinks = config.sinks.iter().filter(|sink| route.sinks.contains(&sink.name));
        let mut plugins = route.plugins.iter().filter_map(|name| process.modules.newest(name));
        sinks.all(|sink| writes_over(&sink.kind)) && !plugins.any(|plugin| plugin.module.manifest().keeps_state())
    })
}

fn writes_over(sink: &SinkKind) -> bool {
    match sink {
        SinkKind::Postgres(postgres) => postgres.audit.is_none() && postgres.mode != WriteMode::Append,
        SinkKind::Discard => true,
        SinkKind::File(_) | SinkKind::Stdout => false,
    }
}

fn choose(table: &Table, stored: &str, sinks: &str, has_places: bool) -> Order {
    let by_key = basis(BY_KEY, table, sinks);
    let by_place = basis(BY_PLACE, table, sinks);
    match has_places && (stored == by_place || (stored != by_key && !is_wide(table))) {
        true => Order {
            basis: by_place,
            file: Some(table.file),
        },
        false => Order {
            basis: by_key,
            file: None,
        },
    }
}

/// Whether ranges of its heap can be its units, or without a key the parts of its only one. A row that an update moves to a
/// block that another unit has read comes with that update alone.
fn has_places(table: &Table, sends_updates: bool, server_version: u32) -> bool {
    let is_one_heap = table.heap && !table.partitioned && table.file != 0;
    is_one_heap && server_version >= TID_RANGE_SCANS && (sends_updates || key(table).is_empty())
}

fn is_wide(table: &Table) -> bool {
    let rows = table.rows_estimated;
    let row_bytes = rows.and_then(|rows| table.bytes_estimated.checked_div(rows));
    row_bytes.is_some_and(|bytes| bytes > WIDE_ROW_BYTES)
}

/// Columns of other types and a file of another number are a rewrite, which the stream doesn't bring (VACUUM FULL and
/// CLUSTER look the same); a new sink has none of the rows.
fn basis(order: &str, table: &Table, sinks: &str) -> String {
    let filters = [&table.row_filter, &table.condition].into_iter().flatten();
    let filter: String = filters.map(|filter| format!("; where {filter}")).collect();
    let withheld = table.columns.iter().filter(|column| column.withheld);
    let without: String = withheld.map(|column| format!("; without {}", column.name)).collect();
    format!(
        "{order} {}; {}; key {}; sinks {sinks}{filter}{without}",
        table.file,
        shape(table),
        key(table).join(",")
    )
}

/// What a copy rests on that is to go to more sinks than its ranges went to. It is kept: what the others have of it is by its key.
pub(super) fn for_more_sinks(basis: &str) -> String {
    match is_planned(basis) {
        true => format!("{FOR_MORE}{basis}"),
        false => basis.to_owned(),
    }
}

/// Whether a session has planned a copy that rests on this.
pub(super) fn is_planned(basis: &str) -> bool {
    !basis.is_empty() && !basis.starts_with(FOR_MORE)
}

/// Whether two bases differ in more than the file and the order. Where only these are others, the stream brings no row
/// that isn't as the rows of now are.
pub(super) fn differ_in_more_than_file(one: &str, other: &str) -> bool {
    let rest = |basis| str::split_once(basis, "; ").map_or(basis, |(_, rest)| rest);
    rest(one) != rest(other)
}

/// Whether keys that were written down under one basis are keys under the other: of columns of the same names and types.
pub(super) fn have_same_key(one: &str, other: &str) -> bool {
    // What follows, and what is before, may be others.
    let columns = |basis: &str| -> Option<(String, Vec<String>)> {
        let (_, rest) = basis.split_once("; ")?;
        let (shape, rest) = rest.split_once("; key ")?;
        let (key, _) = rest.split_once("; sinks ")?;
        let typed = |name: &str| {
            let of = |column: &str| {
                let (_, column) = column.split_once(' ')?;
                Some(column.strip_prefix(name)?.strip_prefix(' ')?.to_owned())
            };
            shape.split(',').find_map(of)
        };
        Some((key.to_owned(), key.split(',').map(typed).collect::<Option<_>>()?))
    };
    let of_one = columns(one);
    of_one.is_some() && of_one == columns(other)
}

/// The columns as `number name type typmod,...`.
pub(super) fn shape(table: &Table) -> String {
    let columns = table.columns.iter();
    let columns = columns.map(|column| {
        let (number, name) = (column.number, &column.name);
        format!("{number} {name} {} {}", column.type_oid, column.typmod)
    });
    columns.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::batch::ReplicaIdentity;
    use crate::source::catalog::Column;

    pub(in crate::runtime) fn orders() -> Table {
        let column = |name: &str, number, key: bool| Column {
            name: name.to_owned(),
            number,
            type_oid: 20,
            typmod: -1,
            type_name: "bigint".to_owned(),
            nullable: !key,
            primary_key: key,
            identity: key,
            generated: false,
            toastable: false,
            withheld: false,
            own_type: None,
        };
        Table {
            oid: 16_400,
            schema: "public".to_owned(),
            table: "orders".to_owned(),
            sql_name: "public.orders".to_owned(),
            partitioned: false,
            is_partition: false,
            replica_identity: ReplicaIdentity::Default,
            identity_usable: true,
            default_identity: true,
            identity_candidate: None,
            leaves_without_identity: Vec::new(),
            columns: vec![column("id", 1, true), column("n", 2, false)],
            rows_estimated: Some(1000),
            bytes_estimated: 100_000,
            select_granted: true,
            usage_granted: true,
            row_security: false,
            owned: true,
            file: 16_500,
            heap: true,
            toastable: true,
            has_sequence: false,
            row_filter: None,
            condition: None,
        }
    }

    #[test]
    fn ranges_of_the_heap_need_one_heap_and_a_server_that_finds_them() {
        let with = |change: fn(&mut Table)| {
            let mut table = orders();
            change(&mut table);
            has_places(&table, true, 170_000)
        };
        assert!(with(|_| {}));
        assert!(has_places(&orders(), true, 140_000) && !has_places(&orders(), true, 130_014));
        assert!(!has_places(&orders(), false, 170_000), "no update brings what moves");
        assert!(!with(|table| table.heap = false), "another access method");
        assert!(!with(|table| table.partitioned = true));
        assert!(!with(|table| table.file = 0));
        let mut keyless = orders();
        keyless.columns.iter_mut().for_each(|column| column.identity = false);
        assert!(has_places(&keyless, false, 170_000), "all of its parts show the same");
        assert!(with(|table| table.is_partition = true), "published as what it is");
    }

    #[test]
    fn copied_ranges_go_on_as_what_they_are_and_in_their_file_alone() {
        let table = orders();
        let chosen = |table: &Table, stored: &str| choose(table, stored, "feed", has_places(table, true, 170_000));
        let first = chosen(&table, "");
        assert_eq!(first.file, Some(16_500));
        assert_eq!(chosen(&table, &first.basis), first);
        let by_key = basis(BY_KEY, &table, "feed");
        let goes_on = chosen(&table, &by_key);
        assert_eq!(
            (&goes_on.basis, goes_on.file),
            (&by_key, None),
            "as a version before began it"
        );

        let wide = Table {
            bytes_estimated: 1000 * (WIDE_ROW_BYTES + 1),
            ..orders()
        };
        assert_eq!(chosen(&wide, "").file, None);
        assert_eq!(chosen(&wide, &first.basis).file, Some(16_500), "what grew meanwhile");

        let rewritten = Table {
            file: 16_600,
            ..orders()
        };
        for stored in [&first.basis, &by_key] {
            let anew = chosen(&rewritten, stored);
            assert_eq!(anew.file, Some(16_600));
            assert!(anew.basis != *stored && !differ_in_more_than_file(stored, &anew.basis));
        }
        let mut altered = orders();
        altered.columns[1].type_oid = 23;
        assert!(differ_in_more_than_file(
            &first.basis,
            &chosen(&altered, &first.basis).basis
        ));
    }

    #[test]
    fn keys_are_the_same_where_their_columns_are() {
        let of = |change: fn(&mut Table)| {
            let mut table = orders();
            change(&mut table);
            basis(BY_KEY, &table, "feed")
        };
        let same = |change| have_same_key(&of(|_| ()), &of(change));
        assert!(same(|_| ()));
        assert!(same(|table| table.file = 7));
        assert!(same(|table| table.columns[1].type_oid = 23));
        assert!(same(|table| table.columns.swap(0, 1)));
        assert!(!same(|table| table.columns[0].type_oid = 25));
        assert!(!same(|table| table.columns[1].identity = true));
        assert!(!same(|table| table.columns[0].name = "id n".to_owned()));
        assert!(!have_same_key("", &of(|_| ())), "nobody knows");
        let more = for_more_sinks(&of(|_| ()));
        assert!(have_same_key(&more, &of(|_| ())) && !is_planned(&more));
        assert!(!have_same_key(&more, &of(|table| table.columns[1].identity = true)));
        assert_eq!(
            (for_more_sinks(&more), for_more_sinks("")),
            (more.clone(), String::new())
        );
    }
}
