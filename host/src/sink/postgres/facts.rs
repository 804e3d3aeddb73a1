//! What the way of applying rows rests on, asked again before each commit.
//!
//! ```text
//!   target   look up | BEGIN  rows  HOLD?  position  COMMIT | BEGIN  rows  HOLD?  position  COMMIT
//!                               ^ locks the tables                     ^ CREATE TRIGGER waits, or came before: HOLD? fails
//! ```
//!
//! Triggers that act (ENABLE ALWAYS and REPLICA ones) and unique indexes beside the key say whether changes may be
//! compacted, divided and brought together by table. Both are looked up once a connection, and somebody may add one at
//! any time. Whoever does takes a lock that conflicts with the one that rows take (`CREATE INDEX CONCURRENTLY` waits for
//! those that have it before its index counts). So what is there behind the rows of a transaction, was there before them,
//! and nothing is added until its commit. That is asked by a statement that fails where it doesn't hold. It goes with the
//! commit, which then commits nothing: the session begins anew, and everything comes again by what is there now.
//!
//! What has gone needs no question: rows are applied as if it were there.
//!
//! Statements name tables, and mean whichever has the name. One that takes another's name in mid-session (it is partitioned
//! online, say) has other facts, and may keep its rows elsewhere: so names are asked for too.

use super::target::Target;
use crate::batch::Batch;
use crate::sink::{SinkContext, SinkError};
use rustc_hash::FxHashMap;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Error, Statement};

/// Fails by a division where one of the tables $1, or of their partitions, has a trigger that acts, one of the tables
/// $2 has several unique indexes, or one of the tables $3 isn't called as $4 says. Counts, so that each table's are looked for by an index, whatever the planner thinks.
pub(super) const HOLD: &str = "SELECT 1 / CASE WHEN EXISTS (\
        SELECT FROM pg_catalog.unnest($1::oid[]) AS t(oid) WHERE (\
            SELECT count(*) FROM pg_catalog.pg_trigger WHERE tgrelid = t.oid AND tgenabled IN ('A', 'R')) > 0) \
    OR EXISTS (\
        SELECT FROM pg_catalog.unnest($1::oid[]) AS u(oid), pg_catalog.pg_partition_tree(u.oid) AS t WHERE (\
            SELECT count(*) FROM pg_catalog.pg_trigger WHERE tgrelid = t.relid AND tgenabled IN ('A', 'R')) > 0) \
    OR EXISTS (\
        SELECT FROM pg_catalog.unnest($2::oid[]) AS t(oid) WHERE (\
            SELECT count(*) FROM pg_catalog.pg_index WHERE indrelid = t.oid AND (indisunique OR indisexclusion)) > 1) \
    OR EXISTS (\
        SELECT FROM pg_catalog.unnest($2::oid[]) AS u(oid), pg_catalog.pg_partition_tree(u.oid) AS t WHERE (\
            SELECT count(*) FROM pg_catalog.pg_index WHERE indrelid = t.relid AND (indisunique OR indisexclusion)) > 1) \
    OR EXISTS (\
        SELECT FROM unnest($3::oid[], $4::text[]) AS t(oid, name) \
        WHERE pg_catalog.to_regclass(t.name)::oid IS DISTINCT FROM t.oid) \
    THEN 0 ELSE 1 END";

/// The tables that a target transaction has rows of, by their OIDs at the target.
#[derive(Debug, Default)]
pub(super) struct Facts {
    without_triggers: BTreeSet<u32>,
    one_unique: BTreeSet<u32>,
    /// Their quoted names.
    named: BTreeMap<u32, String>,
}

impl Facts {
    /// Rows of a batch are about to be applied.
    pub(super) fn rest_on(&mut self, batch: &Batch, targets: &FxHashMap<u32, Arc<Target>>) {
        for target in batch.relations.iter().filter_map(|it| targets.get(&it.index)) {
            self.named.entry(target.oid).or_insert_with(|| target.name.clone());
            if !target.triggers {
                self.without_triggers.insert(target.oid);
            }
            if target.compacts {
                self.one_unique.insert(target.oid);
            }
        }
    }

    /// The transaction ends: asks whether they hold; nothing where it rests on none.
    pub(super) fn hold<'a>(
        &mut self,
        client: &'a Client,
        hold: &'a Statement,
    ) -> Option<impl Future<Output = Result<u64, Error>> + Send + use<'a>> {
        let of = |tables: &mut BTreeSet<u32>| std::mem::take(tables).into_iter().collect::<Vec<u32>>();
        let (without_triggers, one_unique) = (of(&mut self.without_triggers), of(&mut self.one_unique));
        let (tables, names): (Vec<u32>, Vec<String>) = std::mem::take(&mut self.named).into_iter().unzip();
        (!tables.is_empty()).then_some(async move {
            let parameters: [&(dyn ToSql + Sync); 4] = [&without_triggers, &one_unique, &tables, &names];
            client.execute(hold, &parameters).await
        })
    }
}

/// What a failure of a statement means.
pub(super) type Failed = fn(&Error, &SinkContext) -> SinkError;

/// What the answer means.
pub(super) fn changed(error: &Error, context: &SinkContext) -> SinkError {
    if error.as_db_error().is_none() {
        return super::error::of(error, context);
    }
    SinkError::Transient(anyhow::anyhow!(
        "sink {}: a table at the target has got a trigger or a unique index, or another has its name",
        context.sink
    ))
}
