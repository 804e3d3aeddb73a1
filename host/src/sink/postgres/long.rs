//! Rows too long for parameters, by way of a temporary table.
//!
//! What is a parameter is held as an array, in the message with it, and in the connection's buffer: three times the row,
//! beside the batch that it came in. COPY goes in pieces, and a table takes values of any kind of change.
//!
//! ```text
//!   CREATE TEMP TABLE rowmill_long (v1 text, v2 bytea)
//!   COPY rowmill_long FROM STDIN                            the values, in pieces
//!   INSERT INTO t ... SELECT ... FROM rowmill_long AS s     the run's statement, as it is with arrays
//!   DROP TABLE rowmill_long
//! ```

use super::apply::{Applier, Sent, Work};
use super::encode::Texts;
use super::pipeline::Pipeline;
use super::refusal::refused;
use super::run::Run;
use super::statement::{self, Sql};
use crate::sink::SinkError;
use bytes::{BufMut, Bytes, BytesMut};
use futures_util::SinkExt;
use std::pin::pin;
use tokio_postgres::Error;

/// Bytes of a row from which on it goes that way. A table that is made and dropped costs some milliseconds, in which so
/// many bytes are sent; and this often over is less than what anything else here takes.
pub(super) const LONG_BYTES: usize = 8 << 20;
/// Bytes that are sent together: the connection copies each piece once.
const PIECE_BYTES: usize = 256 << 10;
/// Never meets another: a session has at most one, within a transaction.
const TABLE: &str = "pg_temp.rowmill_long";

/// COPY's binary format: signature, no flags, no extension, rows with their number of columns, and the trailer.
const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
const NULL: i32 = -1;
const TRAILER: i16 = -1;

impl Applier {
    /// Whether rows may go by way of a table. Nearly every role may make temporary ones; for another a row has to be
    /// parameters, however much memory that takes.
    pub(super) async fn may_make_tables(
        &mut self,
        work: Work<'_>,
        first: usize,
        pipeline: &mut Pipeline<'_, Sent>,
    ) -> Result<bool, SinkError> {
        if let Some(may) = self.temporary {
            return Ok(may);
        }
        self.drain(work, pipeline).await?;
        let select = "SELECT pg_catalog.has_database_privilege(pg_catalog.current_database(), 'TEMP')";
        let row = work.client.query_one(select, &[]).await;
        let may = row.map_err(|error| refused(work, first, &error))?.get(0);
        self.temporary = Some(may);
        Ok(may)
    }

    /// Applies a run of one row.
    pub(super) async fn send_long<'a>(
        &mut self,
        work: Work<'a>,
        run: &Run,
        pipeline: &mut Pipeline<'a, Sent>,
    ) -> Result<(), SinkError> {
        // A COPY behind a statement that fails would be sent into an aborted transaction.
        self.drain(work, pipeline).await?;
        let first = run.rows.start;
        let target = &self.targets[&work.batch.relations[run.relation as usize].index];
        let Some(sql) = statement::sql_from(TABLE, target, run, self.conflict) else {
            return Ok(());
        };
        let touched = apply(work, first, &sql).await;
        let touched = touched.map_err(|error| refused(work, first, &error))?;
        let sent = self.expected(run.kind, first, &work.rows[run.rows.clone()]);
        pipeline.send(sent, std::future::ready(Ok(touched))).await;
        Ok(())
    }
}

async fn apply(work: Work<'_>, at: usize, sql: &Sql) -> Result<u64, Error> {
    let client = work.client;
    client.batch_execute(&create(sql)).await?;
    bring(work, at, sql).await?;
    let touched = client.execute(&sql.text, &[]).await?;
    client.batch_execute(&format!("DROP TABLE {TABLE}")).await?;
    Ok(touched)
}

/// Values aren't compressed on their way: they are read once.
fn create(sql: &Sql) -> String {
    let columns = 1..=sql.parameters.len();
    let kind = |at: usize| if sql.binary.contains(at - 1) { "bytea" } else { "text" };
    let made: Vec<String> = columns.clone().map(|at| format!("v{at} {}", kind(at))).collect();
    let plain: Vec<String> = columns.map(|at| format!("ALTER v{at} SET STORAGE EXTERNAL")).collect();
    format!(
        "CREATE TABLE {TABLE} ({}) ON COMMIT DROP; ALTER TABLE {TABLE} {}",
        made.join(", "),
        plain.join(", ")
    )
}

async fn bring(work: Work<'_>, at: usize, sql: &Sql) -> Result<(), Error> {
    let text = format!("COPY {TABLE} FROM STDIN (FORMAT binary)");
    let mut copy = pin!(work.client.copy_in::<_, Bytes>(&text).await?);
    let mut texts = Texts::new(work);
    let row = &work.rows[at];
    let mut out = BytesMut::with_capacity(PIECE_BYTES);
    out.put_slice(HEADER);
    out.put_i16(sql.parameters.len() as i16);
    for (at, (image, slot)) in sql.parameters.iter().enumerate() {
        let Some(value) = texts.text(row, *image, *slot, sql.binary.contains(at)) else {
            out.put_i32(NULL);
            continue;
        };
        out.put_i32(value.len() as i32);
        let mut rest = value;
        while !rest.is_empty() {
            let room = (PIECE_BYTES - out.len().min(PIECE_BYTES)).min(rest.len());
            let (piece, behind) = rest.split_at(room);
            out.put_slice(piece);
            rest = behind;
            if out.len() >= PIECE_BYTES {
                copy.feed(out.split().freeze()).await?;
                out.reserve(PIECE_BYTES);
            }
        }
    }
    out.put_i16(TRAILER);
    copy.send(out.freeze()).await?;
    copy.finish().await?;
    Ok(())
}
