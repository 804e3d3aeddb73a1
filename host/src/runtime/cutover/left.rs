//! What a database has besides the rows that are streamed.

use std::collections::BTreeSet;
use tokio_postgres::{Client, Error};

/// What stays behind unless somebody brings it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeftBehind {
    /// Tables of the source that don't go to the sink, `schema.table`.
    pub tables: Vec<String>,
    /// Materialized views of the target, which nothing has refreshed; as SQL writes them.
    pub views: Vec<String>,
    pub large_objects: u64,
}

/// Extensions bring their own tables; schemas of ours and the server's hold none of the user's.
const TABLES: &str = "SELECT n.nspname::text || '.' || c.relname::text FROM pg_catalog.pg_class c \
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
    WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relpersistence <> 't' \
    AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast', 'rowmill') AND NOT EXISTS (\
        SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid \
        AND d.deptype = 'e') ORDER BY 1";
const VIEWS: &str = "SELECT pg_catalog.format('%I.%I', n.nspname, c.relname) FROM pg_catalog.pg_class c \
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'm' ORDER BY 1";
const LARGE_OBJECTS: &str = "SELECT pg_catalog.count(*) FROM pg_catalog.pg_largeobject_metadata";

/// `moved` are the tables that go to the sink.
pub(super) async fn behind(source: &Client, moved: &BTreeSet<String>) -> Result<LeftBehind, Error> {
    let tables = source.query(TABLES, &[]).await?;
    let mut tables: Vec<String> = tables.iter().map(|row| row.get(0)).collect();
    tables.retain(|table| !moved.contains(table));
    let objects: i64 = source.query_one(LARGE_OBJECTS, &[]).await?.get(0);
    Ok(LeftBehind {
        tables,
        views: Vec::new(),
        large_objects: objects.unsigned_abs(),
    })
}

pub(super) async fn views(target: &Client) -> Result<Vec<String>, Error> {
    let views = target.query(VIEWS, &[]).await?;
    Ok(views.iter().map(|row| row.get(0)).collect())
}
