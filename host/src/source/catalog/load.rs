//! From OIDs to tables and columns, in two queries for all of them.

use super::{Column, Leaf, Table};
use crate::batch::{OwnType, ReplicaIdentity};
use crate::problem::Problem;
use crate::source::failure::refused;
use std::collections::HashMap;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Row};

/// `tree` has every selected table and, below a partitioned one, its partitions; `keys` the indexes that an identity
/// can rest on. The server ignores indexes that are invalid or deferrable, and so does this. Sizes come from the
/// last VACUUM where there was one: asking for them now would wait behind an ALTER TABLE. Indexes are joined, not looked
/// up table by table: a WITH that is used twice has no index, and ten thousand tables took a minute. `is_selected` is a
/// column so that the planner expects many.
const TABLES: &str = r"
WITH RECURSIVE tree AS (
    SELECT c.oid AS root, c.oid, c.relkind FROM pg_catalog.pg_class c WHERE c.oid = ANY($1::oid[])
    UNION ALL
    SELECT t.root, c.oid, c.relkind
    FROM tree t
    JOIN pg_catalog.pg_inherits i ON i.inhparent = t.oid
    JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid
    WHERE t.relkind = 'p'
), indexes AS (
    SELECT i.indrelid, i.indexrelid, i.indisprimary, i.indisreplident,
           i.indisvalid AND i.indimmediate AND i.indisunique AND i.indpred IS NULL AS sound,
           i.indexprs IS NULL AND NOT EXISTS (
               SELECT FROM pg_catalog.pg_attribute a
               WHERE a.attrelid = i.indrelid AND a.attnum = ANY(i.indkey::int2[]) AND NOT a.attnotnull
           ) AS complete,
           (string_to_array(i.indkey::text, ' ')::int2[])
               [1:COALESCE((to_jsonb(i)->>'indnkeyatts')::int, i.indnatts::int)] AS columns
    FROM pg_catalog.pg_index i WHERE i.indrelid IN (SELECT oid FROM tree)
), members AS (
    SELECT t.root, c.*, t.oid AS member, t.oid = t.root AS is_selected,
           CASE c.relreplident WHEN 'f' THEN true WHEN 'd' THEN COALESCE(p.sound, false)
               WHEN 'i' THEN COALESCE(r.sound, false) ELSE false END AS identity_usable,
           COALESCE(p.sound, false) AS default_identity, p.columns AS primary_key,
           CASE WHEN c.relreplident = 'd' AND p.sound THEN p.columns
               WHEN c.relreplident = 'i' AND r.sound THEN r.columns END AS identity_columns
    FROM tree t
    JOIN pg_catalog.pg_class c ON c.oid = t.oid
    LEFT JOIN indexes p ON p.indrelid = c.oid AND p.indisprimary
    LEFT JOIN indexes r ON r.indrelid = c.oid AND r.indisreplident
), candidates AS (
    SELECT DISTINCT ON (i.indrelid) i.indrelid, quote_ident(x.relname) AS name
    FROM indexes i JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid
    WHERE i.sound AND i.complete AND NOT i.indisprimary
    ORDER BY i.indrelid, cardinality(i.columns), x.relname
), leaves AS (
    SELECT m.root,
           array_agg(format('%I.%I', n.nspname, m.relname) ORDER BY m.relname)
               FILTER (WHERE NOT m.identity_usable AND m.member <> m.root) AS bad,
           array_agg(m.default_identity ORDER BY m.relname)
               FILTER (WHERE NOT m.identity_usable AND m.member <> m.root) AS bad_default,
           bool_or(m.reltoastrelid <> 0) AS toastable,
           sum(m.reltuples::float8) AS rows,
           bool_or(m.reltuples < 0 OR (m.reltuples = 0 AND m.relpages = 0
               AND current_setting('server_version_num')::int < 140000)) AS rows_unknown,
           sum(CASE WHEN m.relpages > 0
               THEN (m.relpages + COALESCE(t.relpages, 0)) * current_setting('block_size')::bigint
               ELSE pg_catalog.pg_table_size(m.member) END)::bigint AS bytes
    FROM members m
    JOIN pg_catalog.pg_namespace n ON n.oid = m.relnamespace
    LEFT JOIN pg_catalog.pg_class t ON t.oid = m.reltoastrelid
    WHERE m.relkind = 'r'
    GROUP BY m.root
)
SELECT c.member AS oid, n.nspname::text AS schema, c.relname::text AS name,
       format('%I.%I', n.nspname, c.relname) AS sql_name,
       c.relfilenode AS file, c.relam = 2 AS heap, c.relkind = 'p' AS partitioned, c.relispartition AS is_partition,
       c.relreplident::text AS identity, c.identity_usable, c.default_identity,
       c.primary_key, c.identity_columns, k.name AS candidate,
       l.bad, l.bad_default, COALESCE(l.toastable, false) AS toastable,
       l.rows, COALESCE(l.rows_unknown, false) AS rows_unknown, COALESCE(l.bytes, 0) AS bytes,
       has_table_privilege(c.member, 'SELECT') AS granted,
       has_schema_privilege(n.oid, 'USAGE') AS usage_granted,
       row_security_active(c.member) AS row_security,
       pg_has_role(c.relowner, 'USAGE') AS owned,
       EXISTS (SELECT FROM pg_catalog.pg_depend d
           JOIN pg_catalog.pg_class s ON s.oid = d.objid AND s.relkind = 'S'
           WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.refclassid = 'pg_catalog.pg_class'::regclass
           AND d.refobjid = c.member AND d.deptype IN ('a', 'i')) AS has_sequence
FROM members c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN leaves l ON l.root = c.root
LEFT JOIN candidates k ON k.indrelid = c.member
WHERE c.is_selected
ORDER BY n.nspname, c.relname";

/// `attgenerated` is there from version 12 on. On older servers the name inside the lateral query finds no column
/// of pg_attribute, and so means that of `older`. `under` is what domains are made of, 0 for an enum; asked for the
/// database's own types alone, as it is asked for each column.
const COLUMNS: &str = r#"
SELECT c.*
FROM (SELECT ''::"char" AS attgenerated) AS older, LATERAL (
    SELECT a.attrelid AS oid, a.attname::text AS name, a.attnum AS number, a.atttypid AS type_oid,
           a.atttypmod AS typmod, format_type(a.atttypid, NULL) AS type_name, NOT a.attnotnull AS nullable,
           attgenerated <> '' AS generated, a.attlen = -1 AND a.attstorage <> 'p' AS toastable,
           CASE WHEN a.atttypid >= 16384 THEN (
               WITH RECURSIVE chain AS (
                   SELECT t.oid, t.typtype, t.typbasetype FROM pg_catalog.pg_type t WHERE t.oid = a.atttypid
                   UNION ALL
                   SELECT t.oid, t.typtype, t.typbasetype FROM chain c
                   JOIN pg_catalog.pg_type t ON t.oid = c.typbasetype WHERE c.typtype = 'd'
               ) SELECT CASE typtype WHEN 'e' THEN 0 ELSE oid END FROM chain WHERE typtype <> 'd'
           ) END AS under
    FROM pg_catalog.pg_attribute a
    WHERE a.attrelid = ANY($1::oid[]) AND a.attnum > 0 AND NOT a.attisdropped
) AS c
ORDER BY c.oid, c.number"#;

pub(super) async fn tables(client: &Client, oids: &[u32]) -> Result<Vec<Table>, Box<Problem>> {
    if oids.is_empty() {
        return Ok(Vec::new());
    }
    let failed = |error| refused("read the catalog of the source", &error);
    let parameters: &[(&(dyn tokio_postgres::types::ToSql + Sync), Type)] = &[(&oids, Type::OID_ARRAY)];
    let (tables, columns) = tokio::try_join!(
        client.query_typed(TABLES, parameters),
        client.query_typed(COLUMNS, parameters),
    )
    .map_err(failed)?;
    let mut by_table: HashMap<u32, Vec<Column>> = HashMap::with_capacity(oids.len());
    for row in &columns {
        by_table.entry(row.get("oid")).or_default().push(column(row));
    }
    Ok(tables
        .iter()
        .map(|row| table(row, by_table.remove(&row.get("oid")).unwrap_or_default()))
        .collect())
}

fn column(row: &Row) -> Column {
    let type_oid = row.get("type_oid");
    Column {
        name: row.get("name"),
        number: row.get("number"),
        own_type: match row.get("under") {
            Some(0) => Some(OwnType::Enum),
            Some(under) if under != type_oid => Some(OwnType::Under(under)),
            _ => None,
        },
        type_oid,
        typmod: row.get("typmod"),
        type_name: row.get("type_name"),
        nullable: row.get("nullable"),
        primary_key: false,
        identity: false,
        generated: row.get("generated"),
        toastable: row.get("toastable"),
        withheld: false,
    }
}

fn table(row: &Row, mut columns: Vec<Column>) -> Table {
    let primary_key: Vec<i16> = row.get::<_, Option<_>>("primary_key").unwrap_or_default();
    let identity: Vec<i16> = row.get::<_, Option<_>>("identity_columns").unwrap_or_default();
    // A letter that this version doesn't know is taken for an identity that can't be used.
    let replica_identity = row
        .get::<_, &str>("identity")
        .bytes()
        .next()
        .and_then(ReplicaIdentity::from_byte)
        .unwrap_or(ReplicaIdentity::Nothing);
    for column in &mut columns {
        column.primary_key = primary_key.contains(&column.number);
        column.identity = replica_identity == ReplicaIdentity::Full || identity.contains(&column.number);
    }
    let rows: f64 = row.get::<_, Option<_>>("rows").unwrap_or_default();
    Table {
        oid: row.get("oid"),
        schema: row.get("schema"),
        table: row.get("name"),
        sql_name: row.get("sql_name"),
        partitioned: row.get("partitioned"),
        is_partition: row.get("is_partition"),
        replica_identity,
        identity_usable: row.get("identity_usable"),
        default_identity: row.get("default_identity"),
        identity_candidate: row.get("candidate"),
        leaves_without_identity: leaves(row),
        columns,
        rows_estimated: (!row.get::<_, bool>("rows_unknown")).then_some(rows.max(0.0) as u64),
        bytes_estimated: u64::try_from(row.get::<_, i64>("bytes")).unwrap_or_default(),
        select_granted: row.get("granted"),
        usage_granted: row.get("usage_granted"),
        row_security: row.get("row_security"),
        owned: row.get("owned"),
        file: row.get("file"),
        heap: row.get("heap"),
        toastable: row.get("toastable"),
        has_sequence: row.get("has_sequence"),
        row_filter: None,
        condition: None,
    }
}

fn leaves(row: &Row) -> Vec<Leaf> {
    let names: Vec<String> = row.get::<_, Option<_>>("bad").unwrap_or_default();
    let defaults: Vec<bool> = row.get::<_, Option<_>>("bad_default").unwrap_or_default();
    names
        .into_iter()
        .zip(defaults)
        .map(|(sql_name, default_identity)| Leaf {
            sql_name,
            default_identity,
        })
        .collect()
}
