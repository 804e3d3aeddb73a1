//! Partitions that come, go and are emptied on their own, below a table that is published as a whole: the server sends
//! nothing of it, neither what rows an attached one had nor that a detached one's are gone. It is told, with the way to
//! put it right.
//!
//! The partitions are compared with those of the last look, which is kept in the state: what happens while nobody looks
//! is told at the next start.

use super::process::Process;
use crate::checkpoint::{Partition, Partitions};
use crate::problem::Problem;
use crate::source::catalog::Catalog;
use std::time::Duration;
use tokio_postgres::Client;
use tokio_postgres::types::Type;

/// Soon enough for people, seldom enough for the catalog.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// Everything below the tables, with the file of each. A partition that was made as one has its columns from the same
/// command as `tableoid`, which no later command touches; ATTACH has written them all anew.
const BELOW: &str = r"
WITH RECURSIVE tree AS (
    SELECT c.oid AS root, c.oid, c.relkind FROM pg_catalog.pg_class c WHERE c.oid = ANY($1::oid[])
    UNION ALL
    SELECT t.root, c.oid, c.relkind
    FROM tree t
    JOIN pg_catalog.pg_inherits i ON i.inhparent = t.oid
    JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid
    WHERE t.relkind = 'p'
)
SELECT t.root, t.oid, c.relfilenode AS file, format('%I.%I', n.nspname, c.relname) AS name,
       NOT EXISTS (
           SELECT FROM pg_catalog.pg_attribute a
           JOIN pg_catalog.pg_attribute s ON s.attrelid = a.attrelid AND s.attname = 'tableoid'
           WHERE a.attrelid = t.oid AND a.attnum > 0 AND a.xmin = s.xmin AND a.cmin = s.cmin
       ) AS attached
FROM tree t
JOIN pg_catalog.pg_class c ON c.oid = t.oid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE t.oid <> t.root
ORDER BY t.root, t.oid";

/// What a partition is, and whether it was attached.
struct Below {
    root: u32,
    partition: Partition,
    attached: bool,
}

/// Looks now and then. Never returns.
pub(super) async fn watch(process: &Process, client: &Client, streamed: &Catalog) {
    loop {
        if let Err(problem) = look(process, client, streamed).await {
            tracing::debug!(cause = problem.cause, "{}", problem.headline);
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

/// Tells what has happened to partitions since the last look.
async fn look(process: &Process, client: &Client, streamed: &Catalog) -> Result<(), Problem> {
    let roots: Vec<_> = streamed.tables.iter().filter(|table| table.partitioned).collect();
    if roots.is_empty() {
        return Ok(());
    }
    let oids: Vec<u32> = roots.iter().map(|table| table.oid).collect();
    let rows = match client.query_typed(BELOW, &[(&oids, Type::OID_ARRAY)]).await {
        Ok(rows) => rows,
        Err(error) => {
            tracing::debug!(%error, "the partitions can't be looked at");
            return Ok(());
        }
    };
    let found: Vec<Below> = rows
        .iter()
        .map(|row| Below {
            root: row.get("root"),
            partition: Partition {
                oid: row.get("oid"),
                file: row.get("file"),
                name: row.get("name"),
            },
            attached: row.get("attached"),
        })
        .collect();
    let known = process.store.partitions()?;
    let mut now = Vec::with_capacity(roots.len());
    for table in roots {
        let below: Vec<&Below> = found.iter().filter(|below| below.root == table.oid).collect();
        if let Some(before) = known.iter().find(|known| known.root == table.oid) {
            tell(&table.full_name(), &before.partitions, &below);
        }
        now.push(Partitions {
            root: table.oid,
            partitions: below.iter().map(|below| below.partition.clone()).collect(),
        });
    }
    match now == known {
        true => Ok(()),
        false => process.store.set_partitions(&now),
    }
}

fn tell(table: &str, before: &[Partition], now: &[&Below]) {
    let resync = || format!("rowmill resync {table}");
    let same = |oid: u32| before.iter().find(|partition| partition.oid == oid);
    for below in now.iter().filter(|below| below.attached) {
        if same(below.partition.oid).is_none() {
            let (partition, help) = (&below.partition.name, resync());
            tracing::warn!(
                table,
                partition,
                help,
                "a partition was attached: the rows that it had by then aren't streamed"
            );
        }
    }
    for partition in before {
        if !now.iter().any(|below| below.partition.oid == partition.oid) {
            let (partition, help) = (&partition.name, resync());
            tracing::warn!(
                table,
                partition,
                help,
                "a partition was detached or dropped: its rows stay at the targets"
            );
        }
    }
    // A TRUNCATE of the whole table is streamed, and gives all of them other files.
    let files: Vec<(&str, bool)> = now
        .iter()
        .filter(|below| below.partition.file != 0)
        .filter_map(|below| Some((below, same(below.partition.oid)?)))
        .map(|(below, before)| (below.partition.name.as_str(), below.partition.file != before.file))
        .collect();
    if files.iter().all(|(_, is_other)| *is_other) {
        return;
    }
    for (partition, _) in files.iter().filter(|(_, is_other)| *is_other) {
        let help = resync();
        tracing::warn!(
            table,
            partition,
            help,
            "a partition was rewritten, or emptied by a TRUNCATE of its own, which isn't streamed"
        );
    }
}
