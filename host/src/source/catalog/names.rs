//! From patterns to OIDs. Patterns travel as parameters, never as part of a statement.

use super::Unsupported;
use crate::config::TablePattern;
use crate::problem::Problem;
use crate::source::failure::refused;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Row};

/// One row per pattern and relation that it matches. Partitions are told from the tables above them by the walk up
/// `pg_inherits`; `pg_partition_ancestors` would do it too, but only from version 12 on.
const MATCHING: &str = r"
WITH RECURSIVE matched AS (
    SELECT p.ordinal, c.oid, n.nspname::text AS schema, c.relname::text AS name,
           format('%I.%I', n.nspname, c.relname) AS sql_name,
           c.relkind::text AS kind, c.relpersistence::text AS persistence
    FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS p(schema, name, ordinal)
    JOIN pg_catalog.pg_namespace n ON n.nspname LIKE p.schema
    JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname LIKE p.name
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
      AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname NOT LIKE 'pg\_toast%'
), ancestors AS (
    SELECT m.oid, i.inhparent AS ancestor
    FROM matched m JOIN pg_catalog.pg_class c ON c.oid = m.oid AND c.relispartition
    JOIN pg_catalog.pg_inherits i ON i.inhrelid = m.oid
    UNION
    SELECT a.oid, i.inhparent FROM ancestors a JOIN pg_catalog.pg_inherits i ON i.inhrelid = a.ancestor
)
SELECT ordinal, oid, schema, name, sql_name, kind, persistence,
       EXISTS (SELECT FROM ancestors a JOIN matched r ON r.oid = a.ancestor WHERE a.oid = matched.oid) AS covered
FROM matched ORDER BY schema, name, ordinal";

const PUBLISHED: &str = r"
SELECT c.oid
FROM pg_catalog.pg_publication_tables p
JOIN pg_catalog.pg_namespace n ON n.nspname = p.schemaname
JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = p.tablename
WHERE p.pubname = $1";

#[derive(Default)]
pub(super) struct Found {
    pub(super) oids: Vec<u32>,
    pub(super) missing: Vec<TablePattern>,
    pub(super) unmatched: Vec<TablePattern>,
    pub(super) unsupported: Vec<Unsupported>,
}

pub(super) async fn matching(client: &Client, patterns: &[TablePattern]) -> Result<Found, Box<Problem>> {
    let schemas: Vec<String> = patterns.iter().map(|pattern| like(&pattern.schema)).collect();
    let names: Vec<String> = patterns.iter().map(|pattern| like(&pattern.table)).collect();
    let rows = client
        .query_typed(MATCHING, &[(&schemas, Type::TEXT_ARRAY), (&names, Type::TEXT_ARRAY)])
        .await
        .map_err(|error| refused("read the catalog of the source", &error))?;
    let mut found = Found::default();
    let mut hit = vec![false; patterns.len()];
    for row in &rows {
        let at = usize::try_from(row.get::<_, i64>("ordinal") - 1).unwrap_or(usize::MAX);
        let Some(pattern) = patterns.get(at) else { continue };
        if take(&mut found, row, has_wildcard(pattern)) {
            hit[at] = true;
        }
    }
    for (pattern, _) in patterns.iter().zip(hit).filter(|(_, hit)| !hit) {
        match has_wildcard(pattern) {
            true => found.unmatched.push(pattern.clone()),
            false => found.missing.push(pattern.clone()),
        }
    }
    Ok(found)
}

/// Sorts one match in; false where the pattern did not mean it.
fn take(found: &mut Found, row: &Row, wildcard: bool) -> bool {
    let (kind, persistence): (&str, &str) = (row.get("kind"), row.get("persistence"));
    if wildcard && (kind == "S" || persistence == "t") {
        return false;
    }
    let oid = row.get("oid");
    match unsupported_kind(kind, persistence) {
        Some(kind) => {
            let entry = Unsupported {
                schema: row.get("schema"),
                name: row.get("name"),
                sql_name: row.get("sql_name"),
                kind,
                by_name: !wildcard,
            };
            let known = found
                .unsupported
                .iter_mut()
                .find(|known| known.schema == entry.schema && known.name == entry.name);
            match known {
                Some(known) => known.by_name |= entry.by_name,
                None => found.unsupported.push(entry),
            }
        }
        None if !row.get::<_, bool>("covered") && !found.oids.contains(&oid) => found.oids.push(oid),
        None => {}
    }
    true
}

fn unsupported_kind(kind: &str, persistence: &str) -> Option<&'static str> {
    match (kind, persistence) {
        ("r" | "p", "p") => None,
        ("r" | "p", "u") => Some("unlogged table"),
        ("r" | "p", _) => Some("temporary table"),
        ("v", _) => Some("view"),
        ("m", _) => Some("materialized view"),
        ("f", _) => Some("foreign table"),
        _ => Some("sequence"),
    }
}

pub(super) async fn published(client: &Client, name: &str) -> Result<Vec<u32>, Box<Problem>> {
    let rows = client
        .query_typed(PUBLISHED, &[(&name, Type::TEXT)])
        .await
        .map_err(|error| refused("read the tables of the publication", &error))?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

fn has_wildcard(pattern: &TablePattern) -> bool {
    let wild = |text: &str| text.contains(['*', '?']);
    wild(&pattern.schema) || wild(&pattern.table)
}

/// A glob as a LIKE pattern: `*` and `?` mean something, all else means itself.
fn like(glob: &str) -> String {
    let mut pattern = String::with_capacity(glob.len() + 4);
    for c in glob.chars() {
        match c {
            '*' => pattern.push('%'),
            '?' => pattern.push('_'),
            '%' | '_' | '\\' => pattern.extend(['\\', c]),
            _ => pattern.push(c),
        }
    }
    pattern
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_stars_and_question_marks_are_wild() {
        assert_eq!(like("orders"), "orders");
        assert_eq!(like("order_*"), "order\\_%");
        assert_eq!(like("a?100%\\"), "a_100\\%\\\\");
    }
}
