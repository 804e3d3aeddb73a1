//! The statements of a comparison. Both sides get the same ones.

use crate::batch::Relation;
use tokio_postgres::{Client, Error};

/// Values have the same text on both sides.
pub(super) const SETTINGS: &str = "SET client_encoding = 'UTF8'; SET DateStyle = 'ISO, MDY'; \
    SET IntervalStyle = 'postgres'; SET TimeZone = 'UTC'; SET extra_float_digits = 3; SET bytea_output = 'hex'; \
    SET search_path = ''; SET statement_timeout = 0; SET default_transaction_read_only = on";

/// Rows of a bucket, by estimate: few enough to list those of one that differs.
const BUCKET_ROWS: u64 = 500;
const BUCKETS_MAX: u64 = 1 << 16;

/// What is compared of a table.
pub(super) struct Shape {
    /// What rows are read from on either side.
    pub(super) source: String,
    pub(super) target: String,
    /// `ROW(...)::text` of the columns, and of the key.
    row: String,
    key: Option<String>,
    buckets: u64,
    condition: Option<String>,
}

impl Shape {
    /// `key` is empty where no row can be told from another.
    pub(super) fn new(
        relation: &Relation,
        [source, target]: [Rows; 2],
        columns: &[String],
        key: &[String],
        rows_estimated: Option<u64>,
    ) -> Self {
        let row = |names: &[String]| {
            let quoted: Vec<String> = names.iter().map(|name| quoted(name)).collect();
            format!("ROW({})::text", quoted.join(", "))
        };
        let buckets = rows_estimated.unwrap_or(0) / BUCKET_ROWS;
        Self {
            source: rows_of(relation, source),
            target: rows_of(relation, target),
            row: row(columns),
            key: (!key.is_empty()).then(|| row(key)),
            buckets: buckets.next_power_of_two().clamp(64, BUCKETS_MAX),
            condition: None,
        }
    }

    /// The same of those rows alone that meet a condition.
    pub(super) fn only(self, condition: Option<&str>) -> Self {
        let condition = condition.map(bracketed);
        Self { condition, ..self }
    }

    pub(super) fn is_keyed(&self) -> bool {
        self.key.is_some()
    }

    fn bucket(&self) -> String {
        match &self.key {
            Some(key) => format!("(pg_catalog.hashtextextended({key}, 0) & {})::int", self.buckets - 1),
            None => "0".to_owned(),
        }
    }

    /// (bucket, rows, sum of the rows' hashes as text), of one side.
    pub(super) fn sums(&self, of: &str) -> String {
        let (bucket, row) = (self.bucket(), &self.row);
        let condition = self.condition.as_ref();
        let condition = condition.map_or_else(String::new, |condition| format!("WHERE {condition} "));
        format!(
            "SELECT {bucket}, pg_catalog.count(*), pg_catalog.sum(pg_catalog.hashtextextended({row}, 0))::text \
             FROM {of} {condition}GROUP BY 1"
        )
    }

    /// (hash of the key, hash of the row, key) of one side's rows in the buckets $1.
    pub(super) fn listed(&self, of: &str) -> String {
        let (bucket, row) = (self.bucket(), &self.row);
        let key = self.key.as_deref().unwrap_or("''::text");
        let condition = self.condition.as_ref();
        let condition = condition.map_or_else(String::new, |condition| format!(" AND {condition}"));
        format!(
            "SELECT pg_catalog.hashtextextended({key}, 0), pg_catalog.hashtextextended({row}, 0), {key} \
             FROM {of} WHERE {bucket} = ANY ($1::int[]){condition}"
        )
    }
}

/// Which rows are a table's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rows {
    /// Those of its partitions.
    OfPartitions,
    /// Its own: what inherits from it are tables of their own.
    Own,
}

impl Rows {
    pub(super) fn of(partitioned: bool) -> Self {
        if partitioned { Self::OfPartitions } else { Self::Own }
    }
}

/// The names of the target's columns, and which rows are the table's; `None` where there is no table.
pub(super) async fn columns(client: &Client, relation: &Relation) -> Result<Option<(Vec<String>, Rows)>, Error> {
    let select = "SELECT ARRAY(SELECT attname::text FROM pg_catalog.pg_attribute \
            WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped), c.relkind = 'p' \
        FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
        WHERE n.nspname = $1::text AND c.relname = $2::text AND c.relkind IN ('r', 'p', 'f')";
    let row = client.query_opt(select, &[&relation.schema, &relation.table]).await?;
    Ok(row.map(|row| (row.get(0), Rows::of(row.get(1)))))
}

/// Rows that meet a condition: only to be parsed.
pub(super) fn that_meet(relation: &Relation, condition: &str) -> String {
    format!("SELECT FROM {} WHERE {}", name(relation), bracketed(condition))
}

/// A comment at its end must not take the bracket with it.
fn bracketed(condition: &str) -> String {
    format!("({condition}\n)")
}

fn rows_of(relation: &Relation, rows: Rows) -> String {
    let only = if rows == Rows::Own { "ONLY " } else { "" };
    format!("{only}{}", name(relation))
}

fn name(relation: &Relation) -> String {
    format!("{}.{}", quoted(&relation.schema), quoted(&relation.table))
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
