//! Golden samples from a live database. What isn't asked for by name never leaves the server: in its place stands a
//! value of the type that is the same for everybody.

mod stand_in;

use super::codes::{NO_TABLE, NOT_RECORDED};
use super::live::{Live, LiveTable};
use super::samples;
use crate::batch::{Batch, Cell, Column, Lsn, OldImage, Op, Origin, Part, Relation, Row, Transaction};
use crate::problem::{Exit, Problem};
use crate::source::server_text_of_rows;
use futures_util::StreamExt;
use postgres_protocol::escape::escape_identifier;
use stand_in::{Kind, kinds};
use std::collections::HashMap;
use std::fmt::Write;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use tokio_postgres::SimpleQueryMessage;

/// More rows than this nobody looks through.
pub const ROWS_MAX: u32 = 10_000;
/// What `plugin test` reads.
const BYTES_MAX: usize = 64 << 20;

/// What to record.
#[derive(Clone, Copy, Debug)]
pub struct Wish<'a> {
    /// `schema.table`.
    pub table: &'a str,
    pub rows: u32,
    /// Columns whose values may leave.
    pub keep: &'a [String],
    /// Only these rows: a condition in SQL.
    pub only: Option<&'a str>,
    /// What this publication withholds isn't recorded.
    pub publication: Option<&'a str>,
}

/// What was recorded.
#[derive(Debug)]
pub struct Recorded {
    /// A table's line and one for each row.
    pub text: String,
    pub table: String,
    pub rows: usize,
    pub kept: Vec<String>,
    pub redacted: Vec<String>,
}

/// Reads some rows of a table.
///
/// # Errors
///
/// A table or column that isn't there, and what the server refuses.
pub async fn record(live: &Live, wish: &Wish<'_>) -> Result<Recorded, Box<Problem>> {
    let table = live.table(wish.table, wish.publication).await?;
    let relation = &table.relation;
    if let Some(unknown) = wish.keep.iter().find(|name| relation.column_index(name).is_none()) {
        return Err(Box::new(no_column(relation, unknown)));
    }
    let kinds = kinds(&live.client, relation).await?;
    let read = read(live, &table, wish).await?;
    let (kept, redacted) = relation.columns.iter().partition(|column| is_kept(wish, column));
    let names = |columns: Vec<&Column>| columns.into_iter().map(|column| column.name.clone()).collect();
    Ok(Recorded {
        text: text(relation, wish, &kinds, &read),
        table: relation.full_name(),
        rows: read.len(),
        kept: names(kept),
        redacted: names(redacted),
    })
}

fn is_kept(wish: &Wish<'_>, column: &Column) -> bool {
    wish.keep.contains(&column.name)
}

/// The rows' values as text; of a column that is redacted, whether it is NULL.
async fn read(live: &Live, table: &LiveTable, wish: &Wish<'_>) -> Result<Vec<Vec<Option<String>>>, Box<Problem>> {
    let refused = |error: tokio_postgres::Error| Box::new(refused(wish.table, &error));
    let begun = live.client.batch_execute("BEGIN READ ONLY");
    begun.await.map_err(refused)?;
    let statement = statement(table, wish);
    let answers = live.client.simple_query_raw(&statement);
    let mut answers = std::pin::pin!(answers.await.map_err(refused)?);
    let (mut rows, mut bytes) = (Vec::new(), 0);
    while let Some(answer) = answers.next().await {
        let SimpleQueryMessage::Row(row) = answer.map_err(refused)? else {
            continue;
        };
        let values: Vec<Option<String>> = (0..row.len()).map(|at| row.get(at).map(str::to_owned)).collect();
        bytes += values.iter().flatten().map(String::len).sum::<usize>();
        if bytes > BYTES_MAX {
            return Err(Box::new(too_large(wish.table)));
        }
        rows.push(values);
    }
    let ended = live.client.batch_execute("ROLLBACK");
    ended.await.map_err(refused)?;
    Ok(rows)
}

fn statement(table: &LiveTable, wish: &Wish<'_>) -> String {
    let columns: Vec<String> = table
        .relation
        .columns
        .iter()
        .map(|column| {
            let name = escape_identifier(&column.name);
            match is_kept(wish, column) {
                true => name,
                // For composite values IS NULL means something else.
                false => format!("{name} IS NOT DISTINCT FROM NULL"),
            }
        })
        .collect();
    let (columns, from, rows) = (columns.join(", "), &table.sql_name, wish.rows);
    let only = if table.partitioned { "" } else { "ONLY " };
    let conditions = [table.row_filter.as_deref(), wish.only].into_iter().flatten();
    // A comment at its end must not take the bracket with it.
    let conditions: Vec<String> = conditions.map(|condition| format!("({condition}\n)")).collect();
    let keyword = if conditions.is_empty() { "" } else { " WHERE " };
    let conditions = conditions.join(" AND ");
    format!("SELECT {columns} FROM {only}{from}{keyword}{conditions} LIMIT {rows}")
}

fn text(relation: &Arc<Relation>, wish: &Wish<'_>, kinds: &HashMap<u32, Kind>, rows: &[Vec<Option<String>>]) -> String {
    let mut batch = Batch {
        relations: vec![Arc::clone(relation)],
        transactions: vec![transaction()],
        ..Batch::default()
    };
    let mut text = format!("{}\n", samples::table(relation));
    for (at, values) in rows.iter().enumerate() {
        let cells: Vec<Cell> = relation
            .columns
            .iter()
            .zip(values)
            .map(|(column, value)| match (is_kept(wish, column), value.as_deref()) {
                (true, None) | (false, Some("t")) => Cell::NULL,
                (true, Some(value)) => batch.text_cell(value.as_bytes()),
                (false, _) => {
                    let kind = kinds.get(&column.type_oid);
                    batch.text_cell(stand_in::value(column, kind, at as u64 + 1).as_bytes())
                }
            })
            .collect();
        let new = batch.push_tuple(cells);
        let row = Row {
            relation: 0,
            transaction: 0,
            ordinal: at as u64,
            new: Some(new),
            old: None,
            extra: 0,
            fan_out: 0,
            op: Op::Insert,
            old_image: OldImage::Full,
        };
        // Writing to a String can't fail.
        let _ = writeln!(text, "{}", samples::change(&batch, &row));
        batch.cells.clear();
        batch.arena.clear();
    }
    text
}

fn transaction() -> Transaction {
    Transaction {
        xid: 1,
        commit_lsn: Lsn(1),
        end_lsn: Lsn(1),
        commit_us: 0,
        part: Part::Whole,
        origin: Origin::Stream,
    }
}

/// Writes a file that isn't there yet, for its owner alone: it holds values of rows.
///
/// # Errors
///
/// A file that is there, or that can't be written.
pub fn write(path: &Path, recorded: &Recorded) -> Result<(), Box<Problem>> {
    let written = || -> io::Result<()> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let mut file = std::fs::File::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)?;
        file.write_all(recorded.text.as_bytes())
    };
    written().map_err(|error| {
        let headline = format!("the samples can't be written to {}", path.display());
        let help = "name a file that isn't there yet, in a folder that this user can write to";
        Box::new(Problem::new(NOT_RECORDED.code, Exit::Usage, headline, help).with_cause(error))
    })
}

fn no_column(relation: &Relation, name: &str) -> Problem {
    let table = relation.full_name();
    let columns: Vec<&str> = relation.columns.iter().map(|column| column.name.as_str()).collect();
    let headline = format!("{table} has no column `{name}`");
    let help = format!("name with --keep some of: {}", columns.join(", "));
    Problem::new(NO_TABLE.code, Exit::Usage, headline, help)
}

fn refused(table: &str, error: &tokio_postgres::Error) -> Problem {
    let headline = format!("rows of {table} can't be read");
    let help = "do what the server's message says, then record again";
    Problem::new(NOT_RECORDED.code, Exit::Preflight, headline, help).with_cause(server_text_of_rows(error))
}

fn too_large(table: &str) -> Problem {
    let headline = format!("the rows of {table} are more than {BYTES_MAX} bytes");
    Problem::new(NOT_RECORDED.code, Exit::Usage, headline, "record fewer with --rows")
}
