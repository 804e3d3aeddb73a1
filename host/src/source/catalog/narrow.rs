//! What a publication withholds of its tables, and what it sends beyond the ordinary: the copy must bring what the stream
//! does, and nothing else.

use super::Table;
use crate::problem::Problem;
use crate::source::failure::refused;
use std::collections::HashMap;
use tokio_postgres::Client;
use tokio_postgres::types::Type;

/// Both columns are there from version 15 on, and list all columns where the publication does. From 18 on generated columns are
/// among them where they are sent; before, they may be without.
const WITHHELD: &str = r"
SELECT c.oid, j->>'rowfilter' AS row_filter,
       CASE WHEN jsonb_typeof(j->'attnames') = 'array'
           THEN ARRAY(SELECT jsonb_array_elements_text(j->'attnames')) END AS columns,
       current_setting('server_version_num')::int >= 180000 AS sends_generated
FROM pg_catalog.pg_publication_tables t
JOIN pg_catalog.pg_namespace n ON n.nspname = t.schemaname
JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = t.tablename,
LATERAL to_jsonb(t) AS j
WHERE t.pubname = $1";

/// Marks the columns that the publication leaves out and the generated ones that it sends, and keeps its row filters.
pub(super) async fn narrow(client: &Client, publication: &str, tables: &mut [Table]) -> Result<(), Box<Problem>> {
    let rows = client.query_typed(WITHHELD, &[(&publication, Type::TEXT)]).await;
    let rows = rows.map_err(|error| refused("read what the publication sends", &error))?;
    let sent: HashMap<u32, _> = rows.iter().map(|row| (row.get::<_, u32>("oid"), row)).collect();
    for table in tables {
        let Some(row) = sent.get(&table.oid) else { continue };
        table.row_filter = row.get("row_filter");
        let sends_generated: bool = row.get("sends_generated");
        if let Some(columns) = row.get::<_, Option<Vec<String>>>("columns") {
            for column in &mut table.columns {
                column.withheld = !columns.contains(&column.name);
                column.generated &= column.withheld || !sends_generated;
            }
        }
    }
    Ok(())
}
