//! TRUNCATE: tables that are emptied, or a row that tells of it.

use super::apply::{Applier, Sent, Work};
use super::error;
use super::pipeline::Pipeline;
use super::target::{Target, literal, qualified};
use crate::batch::{Batch, Op, Relation, Row, Truncate};
use crate::config::WriteMode;
use crate::sink::SinkError;
use rustc_hash::{FxHashMap, FxHashSet};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::ops::Range;
use std::sync::Arc;

impl Applier {
    /// Sends what applies truncates.
    pub(super) async fn truncate<'a>(
        &mut self,
        work: Work<'a>,
        rows: Range<usize>,
        pipeline: &mut Pipeline<'a, Sent>,
    ) -> Result<(), SinkError> {
        let (client, first) = (work.client, rows.start);
        let rows = &work.rows[rows];
        let text = match self.mode {
            WriteMode::Append => append_truncates(work, rows, &self.targets),
            WriteMode::Mirror | WriteMode::Upsert => {
                // Its reply must not be hidden by an earlier statement's failure.
                self.drain(work, pipeline).await?;
                emptied(work, rows).await?
            }
        };
        let reply = async move { client.batch_execute(&text).await.map(|()| 0) };
        pipeline.send(Sent::uncounted(first), reply).await;
        Ok(())
    }
}

/// What empties the tables of what may be several routes' parts of one truncate. Never CASCADE: the source names every
/// table that it emptied, and tables of the target's own that hang on them are not the source's to empty. Nor are those
/// that inherit from them: of each the rows that are in it itself, and of a partitioned one those of its partitions.
async fn emptied(work: Work<'_>, rows: &[Row]) -> Result<String, SinkError> {
    let parts: Vec<&Truncate> = parts(work.batch, rows).map(|(_, truncate)| truncate).collect();
    let relations = parts.iter().flat_map(|truncate| &truncate.relations);
    let relations = relations.map(|relation| &*work.batch.relations[*relation as usize]);
    let named: BTreeMap<String, &Relation> = relations.map(|relation| (qualified(relation), relation)).collect();
    let plain = plain(work, named.values().copied()).await?;
    let names: Vec<String> = named
        .into_iter()
        .map(|(name, relation)| match plain.contains(&relation.index) {
            true => format!("ONLY {name}"),
            false => name,
        })
        .collect();
    let identity = match parts.iter().any(|truncate| truncate.restart_identity) {
        true => " RESTART IDENTITY",
        false => "",
    };
    Ok(format!("TRUNCATE {}{identity}", names.join(", ")))
}

/// The indexes of those that are plain tables at the target.
async fn plain(
    work: Work<'_>,
    relations: impl Iterator<Item = &Relation> + Clone,
) -> Result<FxHashSet<u32>, SinkError> {
    let schemas: Vec<&str> = relations.clone().map(|relation| &*relation.schema).collect();
    let tables: Vec<&str> = relations.clone().map(|relation| &*relation.table).collect();
    let select = "SELECT EXISTS (SELECT FROM pg_catalog.pg_class c \
            JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
            WHERE n.nspname = named.schema AND c.relname = named.name AND c.relkind = 'r') \
        FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS named(schema, name, at) ORDER BY named.at";
    let found = work.client.query(select, &[&schemas, &tables]).await;
    let found = found.map_err(|error| error::of(&error, work.context))?;
    let is_plain = found.iter().map(|row| row.get::<_, bool>(0));
    Ok(relations
        .zip(is_plain)
        .filter(|(_, is_plain)| *is_plain)
        .map(|(relation, _)| relation.index)
        .collect())
}

fn parts<'a>(batch: &'a Batch, rows: &'a [Row]) -> impl Iterator<Item = (&'a Row, &'a Truncate)> {
    let truncates = rows.iter().filter(|row| row.op == Op::Truncate);
    truncates.map(|row| (row, &batch.truncates[row.extra as usize]))
}

/// Tells of each part, as [`append_truncate`] does.
fn append_truncates(work: Work<'_>, rows: &[Row], targets: &FxHashMap<u32, Arc<Target>>) -> String {
    parts(work.batch, rows)
        .map(|(row, truncate)| append_truncate(work, row, truncate, targets))
        .collect()
}

/// A row in each of the tables that tells of it.
fn append_truncate(work: Work<'_>, row: &Row, truncate: &Truncate, targets: &FxHashMap<u32, Arc<Target>>) -> String {
    let mut text = String::new();
    let relations = truncate.relations.iter().map(|at| &work.batch.relations[*at as usize]);
    for target in relations.filter_map(|relation| targets.get(&relation.index)) {
        let mut names = Vec::new();
        let mut values = Vec::new();
        let mut made = Vec::new();
        for (about, column) in &target.about {
            if about.write(work.batch, work.context, row, &mut made) {
                names.push(column.name.as_str());
                values.push(format!("{}::{}", literal(&String::from_utf8_lossy(&made)), column.cast));
            }
        }
        // Writing to a String can't fail.
        let _ = write!(
            text,
            "INSERT INTO {} ({}) VALUES ({});",
            target.name,
            names.join(", "),
            values.join(", ")
        );
    }
    text
}
