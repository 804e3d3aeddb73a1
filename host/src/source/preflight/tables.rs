//! The selected tables: there, of a kind that is logged, readable, and with an identity.

use super::publication::Operations;
use super::{Findings, Level, Server, codes};
use crate::batch::ReplicaIdentity;
use crate::config::TablePattern;
use crate::problem::{Exit, Problem};
use crate::source::catalog::{Catalog, Leaf, Table};
use crate::source::failure::{headline, shown};
use std::collections::HashSet;

pub(super) fn check(
    server: &Server,
    catalog: &Catalog,
    operations: Operations,
    copied: &[u32],
    findings: &mut Findings,
) {
    selection(catalog, findings);
    let copied: HashSet<&u32> = copied.iter().collect();
    let read = || catalog.tables.iter().filter(|table| !copied.contains(&table.oid));
    let denied: Vec<&Table> = read()
        .filter(|table| !table.select_granted || !table.usage_granted)
        .collect();
    if !denied.is_empty() {
        findings.problem(select_denied(server, &denied));
    }
    let hidden: Vec<&Table> = read().filter(|table| table.row_security).collect();
    if !hidden.is_empty() {
        findings.problem(row_security(server, &hidden));
    }
    if operations.updates_or_deletes {
        findings.problems.extend(no_identity(&catalog.tables));
    }
    notes(catalog, findings);
}

fn selection(catalog: &Catalog, findings: &mut Findings) {
    for pattern in &catalog.missing {
        findings.problem(missing(pattern));
    }
    for entry in catalog.unsupported.iter().filter(|entry| entry.by_name) {
        let (full, kind) = (format!("{}.{}", entry.schema, entry.name), entry.kind);
        let help = match kind {
            "unlogged table" => format!("`ALTER TABLE {} SET LOGGED;`", entry.sql_name),
            _ => format!("name the tables behind it instead of `{full}` in source.postgres.tables"),
        };
        let article = if kind.starts_with('u') { "an" } else { "a" };
        findings.problem(
            Problem::new(
                codes::NOT_REPLICATED,
                Exit::Preflight,
                headline(format!(
                    "{} is {article} {kind}, tables only are replicated",
                    shown(&full)
                )),
                help,
            )
            .with_cause(format!(
                "changes of {full} are not in the WAL, {article} {kind} has none to decode"
            )),
        );
    }
    for pattern in &catalog.unmatched {
        let text = format!("pattern {} matches no table", shown(&written(pattern)));
        findings.note(Level::Warning, codes::PATTERN_UNMATCHED, text, None, None);
    }
    let left_out: Vec<String> = catalog
        .unsupported
        .iter()
        .filter(|entry| !entry.by_name)
        .map(|entry| format!("{} ({})", entry.sql_name, entry.kind))
        .collect();
    if !left_out.is_empty() {
        let text = format!("{} matches of a pattern are not replicated", left_out.len());
        findings.note(Level::Info, codes::LEFT_OUT, text, Some(left_out.join(", ")), None);
    }
    if catalog.is_empty()
        && findings
            .problems
            .iter()
            .all(|found| found.code != codes::PUBLICATION_MISSING)
    {
        findings.problem(
            Problem::new(
                codes::NOTHING_SELECTED,
                Exit::Preflight,
                "no table is selected",
                "name the tables in pipeline.yaml: `source.postgres.tables: [public.orders]`",
            )
            .with_cause("no pattern of source.postgres.tables, nor the publication, has a table"),
        );
    }
}

fn written(pattern: &TablePattern) -> String {
    format!("{}.{}", pattern.schema, pattern.table)
}

fn missing(pattern: &TablePattern) -> Problem {
    let name = written(pattern);
    Problem::new(
        codes::TABLE_MISSING,
        Exit::Preflight,
        headline(format!("table {} does not exist", shown(&name))),
        format!("correct `{name}` in source.postgres.tables, `\\dt *.*` in psql lists the tables"),
    )
    .with_cause(format!("relation \"{name}\" does not exist (42P01)"))
}

/// Tables as SQL writes them, with what a headline says of them.
fn listed(tables: &[&Table]) -> (String, String) {
    let names: Vec<&str> = tables.iter().map(|table| table.sql_name.as_str()).collect();
    let what = match tables {
        [table] => format!("table {}", shown(&table.full_name())),
        _ => format!("{} tables", tables.len()),
    };
    (what, names.join(", "))
}

fn select_denied(server: &Server, tables: &[&Table]) -> Problem {
    let (what, names) = listed(tables);
    let role = &server.role_sql;
    let mut schemas: Vec<String> = tables
        .iter()
        .filter(|table| !table.usage_granted)
        .map(|table| schema_sql(table))
        .collect();
    schemas.sort_unstable();
    schemas.dedup();
    let mut grants = Vec::new();
    if !schemas.is_empty() {
        grants.push(format!("GRANT USAGE ON SCHEMA {} TO {role};", schemas.join(", ")));
    }
    let unread: Vec<&str> = tables
        .iter()
        .filter(|table| !table.select_granted)
        .map(|table| table.sql_name.as_str())
        .collect();
    if !unread.is_empty() {
        grants.push(format!("GRANT SELECT ON {} TO {role};", unread.join(", ")));
    }
    Problem::new(
        codes::SELECT_DENIED,
        Exit::Preflight,
        headline(format!("role {} may not read {what}", shown(&server.role))),
        format!("`{}`", grants.join(" ")),
    )
    .with_cause(format!("permission denied for {names} (42501)"))
}

/// The schema as SQL writes it, always quoted.
fn schema_sql(table: &Table) -> String {
    postgres_protocol::escape::escape_identifier(&table.schema)
}

fn row_security(server: &Server, tables: &[&Table]) -> Problem {
    let (what, names) = listed(tables);
    Problem::new(
        codes::ROW_SECURITY,
        Exit::Preflight,
        headline(format!("row-level security hides rows of {what}")),
        format!("`ALTER ROLE {} BYPASSRLS;`", server.role_sql),
    )
    .with_cause(format!(
        "a copy by role {} would silently lack rows of {names}; the stream has them all",
        server.role
    ))
}

/// All tables that would break: one problem with one line that heals them all.
fn no_identity(tables: &[Table]) -> Option<Problem> {
    let mut names = Vec::new();
    let mut fixes = Vec::new();
    for table in tables {
        // A partitioned table has no rows, but its identity is the key under which its leaves' rows are sent.
        if !table.identity_usable {
            names.push(format!("{} ({})", table.sql_name, reason(table)));
            fixes.push(table_fix(table));
        }
        for leaf in &table.leaves_without_identity {
            names.push(format!("{} (partition of {})", leaf.sql_name, table.sql_name));
            fixes.push(leaf_fix(leaf));
        }
    }
    let headline = match names.len() {
        0 => return None,
        1 => {
            let one = tables
                .iter()
                .find(|table| !table.identity_usable || !table.leaves_without_identity.is_empty())
                .map(Table::full_name)
                .unwrap_or_default();
            headline(format!("table {} has no usable replica identity", shown(&one)))
        }
        count => format!("{count} tables have no usable replica identity"),
    };
    Some(
        Problem::new(
            codes::NO_IDENTITY,
            Exit::Preflight,
            headline,
            format!("`{}`", fixes.join(" ")),
        )
        .with_cause(format!(
            "once published, the application's own UPDATE and DELETE would fail (55000): {}",
            names.join(", ")
        )),
    )
}

fn reason(table: &Table) -> &'static str {
    match table.replica_identity {
        ReplicaIdentity::Nothing => "REPLICA IDENTITY NOTHING",
        ReplicaIdentity::Index => "the index of its replica identity is gone",
        _ if table.primary_key().next().is_some() => "its primary key is deferrable",
        _ => "no primary key",
    }
}

fn table_fix(table: &Table) -> String {
    let identity = match (&table.identity_candidate, table.default_identity) {
        (_, true) => "DEFAULT".to_owned(),
        (Some(index), false) => format!("USING INDEX {index}"),
        (None, false) => "FULL".to_owned(),
    };
    format!("ALTER TABLE {} REPLICA IDENTITY {identity};", table.sql_name)
}

fn leaf_fix(leaf: &Leaf) -> String {
    let identity = if leaf.default_identity { "DEFAULT" } else { "FULL" };
    format!("ALTER TABLE {} REPLICA IDENTITY {identity};", leaf.sql_name)
}

fn notes(catalog: &Catalog, findings: &mut Findings) {
    let named = |of: fn(&Table) -> bool| {
        let names: Vec<&str> = catalog
            .tables
            .iter()
            .filter(|table| of(table))
            .map(|table| table.sql_name.as_str())
            .collect();
        (!names.is_empty()).then(|| names.join(", "))
    };
    if let Some(tables) = named(|table| table.toastable && table.replica_identity != ReplicaIdentity::Full) {
        findings.note(
            Level::Info,
            codes::UNCHANGED_TOAST,
            "updates leave out large values that they don't change".into(),
            Some(tables),
            None,
        );
    }
    if let Some(tables) = named(|table| table.partitioned) {
        findings.note(
            Level::Info,
            codes::PARTITIONS,
            "partitions that come, go or are emptied alone aren't streamed".into(),
            Some(tables),
            Some("behind ATTACH, DETACH, DROP or TRUNCATE of one: `rowmill resync` its table".into()),
        );
    }
    if let Some(tables) = named(|table| table.has_sequence) {
        findings.note(
            Level::Info,
            codes::SEQUENCES,
            "sequences are not replicated, their tables' rows are".into(),
            Some(tables),
            Some("for a Postgres target: `rowmill cutover` sets its sequences".into()),
        );
    }
}
