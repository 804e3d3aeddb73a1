//! What a target lacks, each with the statement that brings it.

use super::target::{MISSING_COLUMN, MISSING_KEY, MISSING_TABLE, TYPMOD_HEADER, VARCHAR, qualified, quoted};
use crate::batch::{Column, Relation, ReplicaIdentity};
use crate::problem::{Exit, Problem};
use crate::sink::SinkContext;

/// OID of `character`, the one type whose name without a length means something else.
const BPCHAR: u32 = 1042;

pub(super) fn table(relation: &Relation, context: &SinkContext) -> Problem {
    let mut lines: Vec<String> = relation
        .columns
        .iter()
        .map(|column| {
            let not_null = if column.nullable { "" } else { " NOT NULL" };
            format!("{} {}{not_null}", quoted(&column.name), type_name(column))
        })
        .collect();
    if let Some(key) = told_key(relation) {
        lines.push(format!("PRIMARY KEY ({key})"));
    }
    let headline = format!("table {} is missing at sink {}", relation.full_name(), context.sink);
    let help = format!("CREATE TABLE {} ({})", qualified(relation), lines.join(", "));
    Problem::new(MISSING_TABLE, Exit::Sink, headline, help)
}

pub(super) fn columns(relation: &Relation, missing: &[&Column], context: &SinkContext) -> Problem {
    let (table, sink) = (relation.full_name(), &context.sink);
    let names: Vec<&str> = missing.iter().map(|column| column.name.as_str()).collect();
    let headline = match names.as_slice() {
        [name] => format!("column {name} of {table} is missing at sink {sink}"),
        names => format!("columns {} of {table} are missing at sink {sink}", names.join(", ")),
    };
    let added = missing
        .iter()
        .map(|column| format!("ADD COLUMN {} {}", quoted(&column.name), type_name(column)));
    let added: Vec<String> = added.collect();
    let help = format!("ALTER TABLE {} {}", qualified(relation), added.join(", "));
    Problem::new(MISSING_COLUMN, Exit::Sink, headline, help)
}

/// Of a table that rows are found in by the source's key.
pub(super) fn key(relation: &Relation, context: &SinkContext) -> Problem {
    let names = key_names(relation);
    let help = format!("ALTER TABLE {} ADD UNIQUE ({names})", qualified(relation));
    let cause = format!("rows are found by ({names}), which no unique index has");
    Problem::new(MISSING_KEY, Exit::Sink, without_key(relation, context), help).with_cause(cause)
}

/// Of a table whose rows can come twice because it is copied by its key at the source: by the stream and by a unit, by two
/// units, or by one that is sent again.
pub(super) fn key_to_copy(relation: &Relation, context: &SinkContext) -> Problem {
    let names = key_names(relation);
    let help = match names.is_empty() {
        true => format!(
            "have the plugins declare a key of {}, and give it a unique index over that",
            relation.full_name()
        ),
        false => format!("ALTER TABLE {} ADD PRIMARY KEY ({names})", qualified(relation)),
    };
    Problem::new(MISSING_KEY, Exit::Sink, without_key(relation, context), help)
        .with_cause("while it is copied, rows are found by key")
}

/// The key's columns, quoted, where it is known that they are one. Under REPLICA IDENTITY FULL all columns may stand for one.
pub(super) fn told_key(relation: &Relation) -> Option<String> {
    let is_whole_row = || relation.key_columns().count() == relation.columns.len();
    let told = relation.replica_identity != ReplicaIdentity::Full || !is_whole_row();
    Some(key_names(relation)).filter(|names| told && !names.is_empty())
}

fn key_names(relation: &Relation) -> String {
    let names: Vec<String> = relation.key_columns().map(|column| quoted(&column.name)).collect();
    names.join(", ")
}

fn without_key(relation: &Relation, context: &SinkContext) -> String {
    format!("{} at sink {} has no unique key", relation.full_name(), context.sink)
}

/// The source's type in SQL; text where the source's name for it says nothing to a target.
fn type_name(column: &Column) -> String {
    match column.type_oid {
        BPCHAR | VARCHAR if column.typmod >= TYPMOD_HEADER => {
            format!("{}({})", column.type_name, column.typmod - TYPMOD_HEADER)
        }
        BPCHAR => "bpchar".to_owned(),
        _ if column.type_name.starts_with("oid:") => "text".to_owned(),
        _ => column.type_name.clone(),
    }
}
