//! The source's own types, read where a sink makes tables.

use crate::config::{Pipeline, SinkKind};
use crate::sink::{UserType, UserTypeKind, UserTypes};
use tokio_postgres::{Client, Error, Row};

/// Row types are left out: every table has one.
const TYPES: &str = "SELECT t.oid, n.nspname::text, t.typname::text, t.typtype::text, t.typbasetype, t.typtypmod, \
    t.typnotnull, CASE WHEN e.typarray = t.oid THEN e.oid END, \
    ARRAY(SELECT l.enumlabel::text FROM pg_catalog.pg_enum l WHERE l.enumtypid = t.oid ORDER BY l.enumsortorder), \
    ARRAY(SELECT pg_catalog.pg_get_constraintdef(k.oid) FROM pg_catalog.pg_constraint k \
        WHERE k.contypid = t.oid AND k.contype = 'c' ORDER BY k.conname), \
    (SELECT x.extname::text FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_extension x ON x.oid = d.refobjid \
        WHERE d.classid = 'pg_catalog.pg_type'::regclass AND d.objid = t.oid AND d.deptype = 'e' LIMIT 1) \
    FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace \
    LEFT JOIN pg_catalog.pg_type e ON e.oid = t.typelem \
    WHERE t.oid >= 16384 AND t.typtype <> 'c' AND t.typtype <> 'p' AND COALESCE(e.typtype, 'b') <> 'c'";

/// Reads them; none where no sink of the pipeline makes tables.
pub(super) async fn load(client: &Client, config: &Pipeline) -> Result<UserTypes, Error> {
    let makes_tables =
        |sink: &crate::config::Sink| matches!(&sink.kind, SinkKind::Postgres(sink) if sink.create_tables);
    if !config.sinks.iter().any(makes_tables) {
        return Ok(UserTypes::default());
    }
    let rows = client.query(TYPES, &[]).await?;
    Ok(UserTypes(rows.iter().map(|row| (row.get(0), of(row))).collect()))
}

fn of(row: &Row) -> UserType {
    let element: Option<u32> = row.get(7);
    let kind = match (row.get::<_, &str>(3), element) {
        (_, Some(element)) => UserTypeKind::Array(element),
        ("e", _) => UserTypeKind::Enum(row.get(8)),
        ("d", _) => UserTypeKind::Domain {
            base_oid: row.get(4),
            base_typmod: row.get(5),
            not_null: row.get(6),
            checks: row.get(9),
        },
        _ => UserTypeKind::Other { extension: row.get(10) },
    };
    UserType {
        schema: row.get(1),
        name: row.get(2),
        kind,
    }
}
