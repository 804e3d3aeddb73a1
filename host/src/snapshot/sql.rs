//! The statements that cut and read units. Every name is qualified and quoted, every value a quoted literal of
//! unknown type, so that it takes the type of the column beside it.

use super::plan::{KeyRange, TableCopy};
use crate::batch::Relation;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

pub(super) fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

pub(super) fn literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    match quoted.contains('\\') {
        true => format!(" E'{}'", quoted.replace('\\', "\\\\")),
        false => format!("'{quoted}'"),
    }
}

/// A key column, and the schema of the operators that its index is ordered by (an extension's type has its own).
#[derive(Clone, Debug)]
pub(super) struct KeyColumn {
    pub name: String,
    pub operators: String,
}

/// The heap's own order, as a key: no row lies at offset 0 of a block, so that `(block,0)` is a bound between two blocks.
pub(super) fn place() -> Arc<[KeyColumn]> {
    let place = KeyColumn {
        name: "ctid".to_owned(),
        operators: "pg_catalog".to_owned(),
    };
    Arc::new([place])
}

/// Blocks of the table's heap.
pub(super) fn heap_blocks(table: &TableCopy) -> String {
    format!(
        "SELECT pg_catalog.pg_relation_size({}) / pg_catalog.current_setting('block_size')::int8",
        table.relation.oid
    )
}

/// `schema.table`, quoted.
pub(super) fn name(relation: &Relation) -> String {
    format!("{}.{}", identifier(&relation.schema), identifier(&relation.table))
}

/// The table as a source of rows: children of a plain table are tables of their own, partitions are not.
fn rows_of(table: &TableCopy) -> String {
    let only = if table.partitioned { "" } else { "ONLY " };
    format!("{only}{}", name(&table.relation))
}

/// The operators' schemas of the key's columns, in no particular order.
pub(super) fn key_operators(table: &TableCopy) -> String {
    format!(
        "SELECT a.attname, coalesce((SELECT n.nspname FROM pg_catalog.pg_opclass c \
           JOIN pg_catalog.pg_am m ON m.oid = c.opcmethod AND m.amname = 'btree' \
           JOIN pg_catalog.pg_amop o ON o.amopfamily = c.opcfamily AND o.amoplefttype = c.opcintype \
             AND o.amoprighttype = c.opcintype AND o.amopstrategy = 5 \
           JOIN pg_catalog.pg_operator p ON p.oid = o.amopopr \
           JOIN pg_catalog.pg_namespace n ON n.oid = p.oprnamespace \
           WHERE c.opcdefault AND c.opcintype = b.base LIMIT 1), 'pg_catalog') \
         FROM pg_catalog.pg_attribute a, \
         LATERAL (WITH RECURSIVE chain AS (SELECT oid AS base, typbasetype AS under FROM pg_catalog.pg_type \
             WHERE oid = a.atttypid UNION ALL SELECT u.oid, u.typbasetype FROM chain \
             JOIN pg_catalog.pg_type u ON u.oid = chain.under) SELECT base FROM chain WHERE under = 0) AS b \
         WHERE a.attrelid = {} AND a.attnum > 0 AND NOT a.attisdropped",
        table.relation.oid
    )
}

/// Bytes of a row as far as the statistics know; NULL where they don't.
pub(super) fn row_bytes(table: &TableCopy) -> String {
    format!(
        "SELECT (pg_catalog.pg_table_size(oid) / nullif(reltuples, 0))::int8 FROM pg_catalog.pg_class \
         WHERE oid = {} AND reltuples > 0",
        table.relation.oid
    )
}

/// Begins the transaction of a unit. The lock comes before the snapshot, so that no rewrite of the table can make
/// its rows invisible in between; F is read under S, and so behind every commit that S sees. Where there is a `limit` the
/// lock isn't waited for longer.
pub(super) fn begin(table: &TableCopy, limit: Option<Duration>) -> String {
    let (name, oid) = (name(&table.relation), table.relation.oid);
    let limits = limit.map(|limit| format!("SET LOCAL lock_timeout = {}; ", limit.as_millis().max(1)));
    let unlimited = if limit.is_some() {
        "SET LOCAL lock_timeout = 0; "
    } else {
        ""
    };
    format!(
        "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY; {}LOCK TABLE {} IN ACCESS SHARE MODE; {unlimited}\
         SELECT pg_catalog.pg_current_snapshot()::text, pg_catalog.pg_current_wal_insert_lsn()::text, \
           pg_catalog.to_regclass({})::pg_catalog.oid::text, \
           (SELECT pg_catalog.string_agg(attnum || ' ' || attname || ' ' || atttypid || ' ' || atttypmod, ',' ORDER BY attnum) \
              FROM pg_catalog.pg_attribute WHERE attrelid = {oid} AND attnum > 0 AND NOT attisdropped), \
           pg_catalog.pg_relation_filenode({oid})::text, {}",
        limits.unwrap_or_default(),
        rows_of(table),
        literal(&name),
        published(&table.publication, oid),
    )
}

/// Column lists and row filters of the publication, of the table and of what it is a part of; as JSON, since not every version
/// has them.
fn published(publication: &str, oid: u32) -> String {
    if publication.is_empty() {
        return "NULL::text".to_owned();
    }
    format!(
        "(SELECT pg_catalog.string_agg(pg_catalog.concat_ws(' ', r.prrelid, pg_catalog.to_jsonb(r)->>'prattrs', \
           pg_catalog.to_jsonb(r)->>'prqual'), ',' ORDER BY r.prrelid) \
         FROM pg_catalog.pg_publication_rel r JOIN pg_catalog.pg_publication p ON p.oid = r.prpubid \
         WHERE p.pubname = {} AND (r.prrelid = {oid} \
           OR r.prrelid IN (SELECT relid FROM pg_catalog.pg_partition_ancestors({oid}) relid)))",
        literal(publication)
    )
}

/// The same under a snapshot that another transaction has exported, and whose lock it has.
pub(super) fn begin_under(table: &TableCopy, exported: &str) -> String {
    format!(
        "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY; SET TRANSACTION SNAPSHOT {}; LOCK TABLE {} IN ACCESS SHARE MODE",
        literal(exported),
        rows_of(table),
    )
}

/// The rows of a range, with the relation's columns in its order.
pub(super) fn copy_range(table: &TableCopy, key: &[KeyColumn], range: &KeyRange) -> String {
    let mut conditions = in_range(key, range);
    for filter in [&table.filter, &table.condition].into_iter().flatten() {
        let keyword = if conditions.is_empty() { "WHERE" } else { "AND" };
        // A comment at its end must not take the bracket with it.
        let _ = write!(conditions, " {keyword} ({filter}\n)");
    }
    copy(table, &conditions, table.straight)
}

/// The rows with these keys, and maybe such whose keys are equal to one of them but written differently.
pub(super) fn copy_keys(table: &TableCopy, key: &[KeyColumn], keys: &[Vec<String>]) -> String {
    let list = |items: Vec<String>, separator: &str| items.join(separator);
    let condition = if key.iter().all(|column| column.operators == "pg_catalog") {
        let columns = list(key.iter().map(|column| identifier(&column.name)).collect(), ",");
        let tuple = |values: &Vec<String>| format!("({})", list(values.iter().map(|v| literal(v)).collect(), ","));
        format!("({columns}) IN ({})", list(keys.iter().map(tuple).collect(), ","))
    } else {
        let equals = |(column, value): (&KeyColumn, &String)| {
            let (name, schema) = (identifier(&column.name), identifier(&column.operators));
            format!("{name} OPERATOR({schema}.=) {}", literal(value))
        };
        let row = |values: &Vec<String>| list(key.iter().zip(values).map(equals).collect(), " AND ");
        list(keys.iter().map(row).collect(), " OR ")
    };
    let filter = table.filter.as_ref();
    let filter = filter.map_or_else(String::new, |filter| format!(" AND ({filter}\n)"));
    copy(table, &format!(" WHERE ({condition}){filter}"), false)
}

fn copy(table: &TableCopy, condition: &str, straight: bool) -> String {
    let types = table.types.as_ref().filter(|_| !straight);
    let is_sent_as_text = |oid| types.is_some_and(|types| types.is_sent_as_text(oid));
    let columns = table.relation.columns.iter().map(|column| {
        let name = identifier(&column.name);
        match is_sent_as_text(column.type_oid) {
            // As its output function writes it, which a cast need not do.
            true => format!("CASE WHEN {name} IS NOT NULL THEN pg_catalog.format('%s', {name}) END"),
            false => name,
        }
    });
    let columns: Vec<String> = columns.collect();
    let is_binary = straight || types.is_some();
    let form = if is_binary { " (FORMAT binary)" } else { "" };
    let rows = rows_of(table);
    format!(
        "COPY (SELECT {} FROM {rows}{condition}) TO STDOUT{form}",
        columns.join(",")
    )
}

/// The key at which a unit of the first `rows` rows of a range ends; no row where it has fewer.
pub(super) fn upper_bound(table: &TableCopy, key: &[KeyColumn], range: &KeyRange, rows: usize) -> String {
    let names: Vec<String> = key.iter().map(|column| identifier(&column.name)).collect();
    let names = names.join(",");
    format!(
        "SELECT {names} FROM {} {} ORDER BY {names} OFFSET {} LIMIT 1",
        rows_of(table),
        in_range(key, range),
        rows.saturating_sub(1)
    )
}

fn in_range(key: &[KeyColumn], range: &KeyRange) -> String {
    let mut condition = String::new();
    let bounds = [(&range.after, ">", ">="), (&range.up_to, "<", "<=")];
    for (bound, strict, equal) in bounds {
        if let Some(values) = bound {
            let keyword = if condition.is_empty() { " WHERE " } else { " AND " };
            condition.push_str(keyword);
            let last = if strict == ">" { strict } else { equal };
            compare(key, values, strict, equal, last, &mut condition);
        }
    }
    condition
}

/// `key > values` or `key <= values` in dictionary order. Rows are compared as such where the columns' operators
/// lie in one schema, as an index is used best then.
fn compare(key: &[KeyColumn], values: &[String], strict: &str, equal: &str, last: &str, out: &mut String) {
    let ([first, rest @ ..], [value, values_rest @ ..]) = (key, values) else {
        return;
    };
    let (column, schema) = (identifier(&first.name), identifier(&first.operators));
    let operator = |symbol| format!("OPERATOR({schema}.{symbol})");
    let value_text = literal(value);
    if rest.is_empty() {
        let _ = write!(out, "{column} {} {value_text}", operator(last));
    } else if key.iter().all(|column| column.operators == first.operators) {
        let columns: Vec<String> = key.iter().map(|column| identifier(&column.name)).collect();
        let values: Vec<String> = values.iter().map(|value| literal(value)).collect();
        let (columns, values) = (columns.join(","), values.join(","));
        let _ = write!(out, "ROW({columns}) {} ROW({values})", operator(last));
    } else {
        let (wide, narrow) = (operator(equal), operator(strict));
        let _ = write!(
            out,
            "({column} {wide} {value_text} AND ({column} {narrow} {value_text} OR "
        );
        compare(rest, values_rest, strict, equal, last, out);
        out.push_str("))");
    }
}
