//! Keys that tables get behind their rows, where the sink makes the tables.
//!
//! ```text
//!   made         copied units, by COPY               built at once        changes, by key
//!   CREATE TABLE ------------------------------------ADD PRIMARY KEY------------------------->
//!   key due                                           not due any more
//! ```
//!
//! An index that is built of all rows costs a fraction of what each row's way into it costs, most of all where keys are
//! random. So a table that is made for the first of its copied rows, with more of them to come, is made without its key.
//! `rowmill.keys_due` says so from the same transaction on.
//!
//! Nothing may come twice meanwhile, and nothing is looked for by key. Only rows that units bring as plain reads
//! are like that: each key is in one of them once, unless the stream has changed it, and what was read again for its sake
//! goes out as an update (`snapshot`). So the key is built before anything else of the table is applied, at the latest;
//! and when its copy is over, and where nothing has come for a while. What was sent may come again behind a failure and
//! in a later run: keys that are due are built when a session opens, before it writes anything.
//!
//! Rows of the same key may still be there where plugins gave it to several rows: then the last one stays.

use super::apply::Applier;
use super::error;
use super::target::{literal, qualified, quoted};
use crate::batch::{Batch, Delivery, Op, Origin, Relation, Row};
use crate::sink::{SinkContext, SinkError};
use std::time::Duration;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Error};

/// How long nothing comes before a key is built though the copy isn't known to be over.
pub(super) const IDLE: Duration = Duration::from_secs(5);

/// Keys go with the position: where that is taken out, nobody waits for them.
const CREATE: &str = "CREATE TABLE IF NOT EXISTS rowmill.keys_due (\
    pipeline text NOT NULL, \
    sink text NOT NULL, \
    table_name text NOT NULL, \
    key text NOT NULL, \
    PRIMARY KEY (pipeline, sink, table_name), \
    FOREIGN KEY (pipeline, sink) REFERENCES rowmill.positions ON DELETE CASCADE)";

/// A table without its key.
#[derive(Clone, Debug)]
pub(super) struct Due {
    /// The source's OID.
    oid: u32,
    /// Quoted, with schema.
    name: String,
    /// The key's columns, quoted; of one that an earlier session has left, all of them as one.
    key: Vec<String>,
    /// Whether all of its copied rows have come.
    over: bool,
}

impl Due {
    pub(super) fn of(relation: &Relation) -> Self {
        Self {
            oid: relation.oid,
            name: qualified(relation),
            key: relation.key_columns().map(|column| quoted(&column.name)).collect(),
            over: false,
        }
    }

    /// The same where a column has got another name.
    pub(super) fn renamed(&self, before: &str, now: &str) -> Self {
        let (before, now) = (quoted(before), quoted(now));
        let called = |column: &String| if *column == before { now.clone() } else { column.clone() };
        Self {
            key: self.key.iter().map(called).collect(),
            ..self.clone()
        }
    }

    pub(super) fn is_of(&self, relation: &Relation) -> bool {
        self.name == qualified(relation)
    }

    /// What says so at the target, to be run together with what makes the table.
    pub(super) fn note(&self, context: &SinkContext) -> String {
        let [pipeline, sink, name, key] =
            [&context.pipeline, &context.sink, &self.name, &self.key.join(", ")].map(|text| literal(text));
        format!(
            "{CREATE}; INSERT INTO rowmill.keys_due VALUES ({pipeline}, {sink}, {name}, {key}) \
             ON CONFLICT (pipeline, sink, table_name) DO UPDATE SET key = EXCLUDED.key"
        )
    }

    /// Gives the table its key; in the target transaction where one is `open`.
    async fn build(&self, client: &Client, context: &SinkContext, open: bool) -> Result<(), SinkError> {
        let failed = |error: Error| error::of(&error, context);
        let lacks = "SELECT pg_catalog.to_regclass($1::text) IS NOT NULL AND NOT EXISTS (\
            SELECT FROM pg_catalog.pg_index WHERE indisprimary AND indrelid = pg_catalog.to_regclass($1::text))";
        let Self { name, .. } = self;
        let key = self.key.join(", ");
        let lacks: bool = client.query_one(lacks, &[name]).await.map_err(failed)?.get(0);
        let add = match lacks {
            true => format!("ALTER TABLE {name} ADD PRIMARY KEY ({key});"),
            false => String::new(),
        };
        let settled = format!(
            "DELETE FROM rowmill.keys_due WHERE pipeline = {} AND sink = {} AND table_name = {}",
            literal(&context.pipeline),
            literal(&context.sink),
            literal(name)
        );
        let (begin, end, back) = match open {
            true => (
                "SAVEPOINT rowmill_key",
                "RELEASE SAVEPOINT rowmill_key",
                "ROLLBACK TO SAVEPOINT rowmill_key",
            ),
            false => ("BEGIN", "COMMIT", "ROLLBACK"),
        };
        let build = format!("{begin}; {add} {settled}; {end}");
        let Err(error) = client.batch_execute(&build).await else {
            tracing::info!(sink = context.sink, table = name, "the table has its key");
            return Ok(());
        };
        if error.code() != Some(&SqlState::UNIQUE_VIOLATION) {
            return Err(failed(error));
        }
        tracing::warn!(
            sink = context.sink,
            table = name,
            "copied rows have the same key: of each the last one stays"
        );
        let only_last = format!(
            "DELETE FROM ONLY {name} AS t USING (SELECT ctid, pg_catalog.row_number() OVER (\
                PARTITION BY {key} ORDER BY ctid DESC) AS place FROM ONLY {name}) AS d WHERE t.ctid = d.ctid AND d.place > 1"
        );
        client.batch_execute(back).await.map_err(failed)?;
        let build = format!("{begin}; {only_last}; {add} {settled}; {end}");
        client.batch_execute(&build).await.map_err(failed)
    }
}

/// Builds what an earlier session has left due.
pub(super) async fn open(client: &Client, context: &SinkContext) -> Result<(), SinkError> {
    for due in left(client, context).await? {
        due.build(client, context, false).await?;
    }
    Ok(())
}

/// Whether a table without a key gets it when the sink opens.
pub(super) async fn is_due(client: &Client, relation: &Relation, context: &SinkContext) -> Result<bool, SinkError> {
    Ok(left(client, context).await?.iter().any(|due| due.is_of(relation)))
}

async fn left(client: &Client, context: &SinkContext) -> Result<Vec<Due>, SinkError> {
    let failed = |error: Error| error::of(&error, context);
    let there = "SELECT pg_catalog.to_regclass('rowmill.keys_due') IS NOT NULL";
    if !client.query_one(there, &[]).await.map_err(failed)?.get::<_, bool>(0) {
        return Ok(Vec::new());
    }
    let select = "SELECT table_name, key FROM rowmill.keys_due WHERE pipeline = $1 AND sink = $2";
    let rows = client.query(select, &[&context.pipeline, &context.sink]).await;
    let due = |row: &tokio_postgres::Row| Due {
        oid: 0,
        name: row.get(0),
        key: vec![row.get(1)],
        over: true,
    };
    Ok(rows.map_err(failed)?.iter().map(due).collect())
}

/// Whether a row is one of a unit that nothing has changed.
pub(super) fn is_plain(batch: &Batch, row: &Row) -> bool {
    row.op == Op::Read && matches!(batch.transaction(row).origin, Origin::Copy(_))
}

impl Applier {
    /// Notes of which tables a delivery has the last copied rows.
    pub(super) fn note_over(&mut self, delivery: &Delivery) {
        for due in &mut self.due {
            let mut relations = delivery.batch.relations.iter();
            due.over |= relations.any(|relation| relation.oid == due.oid) && !delivery.copying.contains(&due.oid);
        }
    }

    /// Whether rows need the key of a table that doesn't have it yet.
    pub(super) fn need_keys(&self, batch: &Batch, rows: &[Row]) -> bool {
        if self.due.is_empty() {
            return false;
        }
        let is_due = |relation: &Relation| self.due.iter().any(|due| due.is_of(relation));
        let due: Vec<bool> = batch.relations.iter().map(|relation| is_due(relation)).collect();
        rows.iter().any(|row| match row.op {
            Op::Message => false,
            Op::Truncate => true,
            _ => due[row.relation as usize] && !is_plain(batch, row),
        })
    }

    /// Builds the keys that are due, or those of tables of which all rows have come.
    pub(super) async fn build_keys(
        &mut self,
        client: &Client,
        context: &SinkContext,
        (open, all): (bool, bool),
    ) -> Result<(), SinkError> {
        let (now, later): (Vec<Due>, Vec<Due>) = self.due.drain(..).partition(|due| all || due.over);
        self.due = later;
        for due in &now {
            due.build(client, context, open).await?;
        }
        if !now.is_empty() {
            self.forget();
        }
        Ok(())
    }
}
