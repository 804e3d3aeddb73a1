//! Reads rows under a snapshot of their own: `BEGIN; LOCK; S, F; COPY; COMMIT`.

use super::barrier;
use super::cut;
use super::fault::{self, Fault};
use super::plan::TableCopy;
use super::shared::{Connect, TableShared};
use super::visibility::Snapshot;
use crate::batch::{Batch, CopyUnit, Lsn, Origin, Part, Transaction};
use crate::decode::CopyDecoder;
use futures_util::StreamExt;
use tokio_postgres::{Client, CopyOutStream};

/// Bytes at which a batch of copied rows is complete: small enough that several lanes share a unit.
const BATCH_BYTES: usize = 512 << 10;

/// The size of a WAL page, and of its two headers.
const WAL_PAGE: u64 = 8192;
const PAGE_HEADERS: [u64; 2] = [24, 40];

/// Limits of the role that would break a copy off, and row security that would silently leave rows out: with it off,
/// the server refuses instead.
const SETTINGS: &str = "SET statement_timeout = 0; SET lock_timeout = 0; SET row_security = off; SET jit = off; \
     SET idle_in_transaction_session_timeout = 0; SET default_transaction_deferrable = off";

pub(super) async fn connect(connect: &Connect) -> Result<Client, Fault> {
    let client = connect().await.map_err(Fault::Transient)?;
    let set = client.batch_execute(SETTINGS).await;
    set.map_err(|error| Fault::Transient(error.into()))?;
    Ok(client)
}

/// What a transaction that reads rows shows: S and F.
#[derive(Clone, Debug)]
pub(super) struct View {
    pub snapshot: Snapshot,
    pub finish: Lsn,
}

/// Begins a transaction that reads rows of a table.
pub(super) async fn begin(table: &TableShared, client: &Client) -> Result<View, Fault> {
    let copy = &table.copy;
    let rows = cut::rows(copy, client, &super::sql::begin(copy)).await?;
    let unreadable = || Fault::Transient(anyhow::anyhow!("the server's snapshot or position is unreadable"));
    let row = rows.first().ok_or_else(unreadable)?;
    let snapshot = row.get(0).and_then(|text| text.parse().ok()).ok_or_else(unreadable)?;
    let finish = row.get(1).and_then(|text| text.parse().ok()).ok_or_else(unreadable)?;
    let shape = row.get(3).unwrap_or_default();
    let is_same = row.get(2).and_then(|oid| oid.parse().ok()) == Some(copy.relation.oid)
        && table.shape.get_or_init(|| shape.to_owned()) == shape;
    if !is_same {
        return Err(fault::changed(copy).into());
    }
    Ok(View {
        snapshot,
        finish: record_end(finish),
    })
}

/// Where the WAL ends now.
pub(super) async fn wal_end(client: &Client) -> Result<Lsn, Fault> {
    let texts = barrier::column(client, "SELECT pg_catalog.pg_current_wal_insert_lsn()::text").await?;
    let end = texts.first().and_then(|text| text.parse().ok());
    end.map(record_end)
        .ok_or_else(|| Fault::Transient(anyhow::anyhow!("the server's position is unreadable")))
}

/// On a page's edge the insert position is behind the page's header, while the last record ended before it: and that
/// is where the stream stands, for as long as nothing is written.
fn record_end(insert: Lsn) -> Lsn {
    let into_page = insert.0 % WAL_PAGE;
    match PAGE_HEADERS.contains(&into_page) {
        true => Lsn(insert.0 - into_page),
        false => insert,
    }
}

pub(super) async fn commit(table: &TableCopy, client: &Client) -> Result<(), Fault> {
    client
        .batch_execute("COMMIT")
        .await
        .map_err(|error| Fault::of(table, error))
}

/// Rows that come in from a COPY, a batch at a time.
pub(super) struct Rows<'t> {
    table: &'t TableCopy,
    /// `None` behind the last line: asked again, the stream takes what follows for an error.
    lines: Option<std::pin::Pin<Box<CopyOutStream>>>,
    decoder: CopyDecoder,
    transaction: Transaction,
}

impl<'t> Rows<'t> {
    pub(super) async fn open(table: &'t TableCopy, unit: CopyUnit, client: &Client, sql: &str) -> Result<Self, Fault> {
        let lines = client.copy_out(sql).await.map_err(|error| Fault::of(table, error))?;
        let transaction = Transaction {
            xid: 0,
            commit_lsn: Lsn(0),
            end_lsn: Lsn(0),
            commit_us: 0,
            part: Part::Whole,
            origin: Origin::Copy(unit),
        };
        let decoder = CopyDecoder::new(table.relation.clone());
        Ok(Self {
            table,
            lines: Some(Box::pin(lines)),
            decoder,
            transaction,
        })
    }

    /// The next rows; `None` behind the last.
    pub(super) async fn next(&mut self) -> Result<Option<Batch>, Fault> {
        while self.decoder.len_bytes() < BATCH_BYTES {
            let Some(lines) = &mut self.lines else { break };
            let Some(line) = lines.next().await else {
                self.lines = None;
                break;
            };
            let line = line.map_err(|error| Fault::of(self.table, error))?;
            let pushed = self.decoder.push(&line);
            pushed.map_err(|error| Fault::Transient(error.into()))?;
        }
        let batch = self.decoder.finish(self.transaction);
        Ok((!batch.rows.is_empty()).then_some(batch))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_insert_position_behind_a_page_header_is_the_page_before() {
        for (insert, end) in [
            (0x2000028, 0x2000000),
            (0x2002018, 0x2002000),
            (0x2002020, 0x2002020),
            (0x2000000, 0x2000000),
        ] {
            assert_eq!(record_end(Lsn(insert)), Lsn(end));
        }
    }
}
