//! All types of the database with the functions that write them, for values in binary form.

use crate::decode::{TypeEntry, Types};
use crate::problem::Problem;
use crate::source::failure::refused;
use tokio_postgres::{Client, Row};

/// The rows of the system's own tables are left out: nothing that is followed has columns of them. Domains' chains are
/// followed at the reader's side.
const TYPES: &str = r#"
SELECT t.oid, format_type(t.oid, NULL) AS name, o.prosrc AS output, COALESCE(s.prosrc, '') AS send,
       t.typdelim AS delimiter, t.typbasetype AS base,
       CASE t.typtype WHEN 'b' THEN t.typelem ELSE 0 END AS element,
       COALESCE(r.rngsubtype, m.rngsubtype, 0) AS subtype,
       CASE t.typtype WHEN 'c' THEN ARRAY(
           SELECT a.atttypid FROM pg_catalog.pg_attribute a
           WHERE a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped
       ) ELSE '{}' END AS fields
FROM pg_catalog.pg_type t
JOIN pg_catalog.pg_proc o ON o.oid = t.typoutput
LEFT JOIN pg_catalog.pg_proc s ON s.oid = t.typsend
LEFT JOIN pg_catalog.pg_range r ON r.rngtypid = t.oid
LEFT JOIN pg_catalog.pg_range m ON m.rngmultitypid = t.oid
LEFT JOIN pg_catalog.pg_type e ON e.oid = t.typelem
WHERE t.oid >= 16384 OR t.typtype <> 'c' AND COALESCE(e.typtype, 'b') <> 'c'"#;

/// Reads them. Servers before 14 have no multiranges, and no binary stream either.
pub async fn types(client: &Client, server_version: i32) -> Result<Types, Box<Problem>> {
    let rows = client.query(TYPES, &[]).await;
    let rows = rows.map_err(|error| refused("read the types of the source", &error))?;
    let version = u32::try_from(server_version).unwrap_or_default();
    Ok(Types::new(version, rows.iter().map(entry)))
}

fn entry(row: &Row) -> TypeEntry {
    TypeEntry {
        oid: row.get("oid"),
        name: row.get("name"),
        output: row.get("output"),
        send: row.get("send"),
        delimiter: row.get::<_, i8>("delimiter") as u8,
        base: row.get("base"),
        element: row.get::<_, u32>("element"),
        subtype: row.get("subtype"),
        fields: row.get("fields"),
    }
}
