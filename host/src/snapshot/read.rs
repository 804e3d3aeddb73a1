//! Reads rows under a snapshot of their own: `BEGIN; LOCK; S, F; COPY; COMMIT`.

use super::barrier;
use super::cut::{self, text};
use super::fault::{self, Fault};
use super::plan::TableCopy;
use super::shared::{Connect, TableShared};
use super::sql;
use super::visibility::Snapshot;
use crate::batch::{Batch, CopyUnit, Lsn, Origin, Part, Transaction};
use crate::decode::CopyDecoder;
use crate::postgres::{Frames, Reader, TextRow};
use std::sync::Arc;
use std::time::Duration;

/// The size of a WAL page, and of its two headers.
const WAL_PAGE: u64 = 8192;
const PAGE_HEADERS: [u64; 2] = [24, 40];

/// Limits of the role that would break a copy off, and row security that would silently leave rows out: with it off,
/// the server refuses instead. Without `enable_tidscan` every range of a heap would be looked for in all of it. A session whose
/// host has vanished must not hold back the server's cleaning up for hours.
const SETTINGS: &str = "SET statement_timeout = 0; SET lock_timeout = 0; SET row_security = off; SET jit = off; \
     SET enable_tidscan = on; \
     SET idle_in_transaction_session_timeout = 0; SET default_transaction_deferrable = off; \
     SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3";

pub(super) async fn connect(connect: &Connect) -> Result<Reader, Fault> {
    let mut reader = connect().await.map_err(Fault::Transient)?;
    let set = reader.rows(SETTINGS).await;
    set.map_err(|error| Fault::Transient(error.into()))?;
    Ok(reader)
}

/// What a transaction that reads rows shows: S and F.
#[derive(Clone, Debug)]
pub(super) struct View {
    pub snapshot: Snapshot,
    pub finish: Lsn,
    /// The number of the file in which the table's rows lie; 0 where it has none.
    pub file: u32,
}

/// Begins a transaction that reads rows of a table.
pub(super) async fn begin(table: &TableShared, reader: &mut Reader) -> Result<View, Fault> {
    let rows = cut::rows(&table.copy, reader, &sql::begin(&table.copy, None)).await?;
    view(table, &rows)
}

/// The same, unless somebody has a lock on the table, or is before us in its queue, for longer than `limit`: `None`.
pub(super) async fn begin_within(
    table: &TableShared,
    reader: &mut Reader,
    limit: Duration,
) -> Result<Option<View>, Fault> {
    match reader.rows(&sql::begin(&table.copy, Some(limit))).await {
        Ok(rows) => view(table, &rows).map(Some),
        Err(error) if error.sqlstate.as_str() == fault::LOCK_NOT_AVAILABLE => {
            cut::rows(&table.copy, reader, "ROLLBACK").await?;
            Ok(None)
        }
        Err(error) => Err(Fault::of(&table.copy, error)),
    }
}

/// The same, with a name of its snapshot that others may read under for as long as it is open.
pub(super) async fn begin_exported(table: &TableShared, reader: &mut Reader) -> Result<(View, String), Fault> {
    let sql = format!(
        "{}; SELECT pg_catalog.pg_export_snapshot()",
        sql::begin(&table.copy, None)
    );
    let rows = cut::rows(&table.copy, reader, &sql).await?;
    let exported = rows.last().and_then(|row| text(row, 0)).unwrap_or_default();
    Ok((view(table, &rows)?, exported.to_owned()))
}

/// What the first statements of [`sql::begin`] have said.
fn view(table: &TableShared, rows: &[TextRow]) -> Result<View, Fault> {
    let copy = &table.copy;
    let unreadable = || Fault::Transient(anyhow::anyhow!("the server's snapshot or position is unreadable"));
    let row = rows.first().ok_or_else(unreadable)?;
    let snapshot = text(row, 0).and_then(|text| text.parse().ok()).ok_or_else(unreadable)?;
    let finish = text(row, 1).and_then(|text| text.parse().ok()).ok_or_else(unreadable)?;
    let shape = text(row, 3).unwrap_or_default();
    let published = text(row, 5).unwrap_or_default();
    let is_same = text(row, 2).and_then(|oid| oid.parse().ok()) == Some(copy.relation.oid)
        && table.shape.get_or_init(|| shape.to_owned()) == shape
        && table.published.get_or_init(|| published.to_owned()) == published;
    if !is_same {
        return Err(fault::changed(copy).into());
    }
    Ok(View {
        snapshot,
        finish: record_end(finish),
        file: text(row, 4).and_then(|file| file.parse().ok()).unwrap_or(0),
    })
}

/// Where the WAL ends now.
pub(super) async fn wal_end(reader: &mut Reader) -> Result<Lsn, Fault> {
    let texts = barrier::column(reader, "SELECT pg_catalog.pg_current_wal_insert_lsn()::text").await?;
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

/// Rows that come in from a COPY, a batch at a time.
pub(super) struct Rows<'t, 'r> {
    table: &'t TableCopy,
    frames: Frames<'r>,
    decoder: CopyDecoder,
    transaction: Transaction,
}

impl<'t, 'r> Rows<'t, 'r> {
    /// Sends a COPY of rows of the table within a transaction.
    pub(super) async fn open(
        table: &'t TableCopy,
        unit: CopyUnit,
        reader: &'r mut Reader,
        sql: &str,
    ) -> Result<Self, Fault> {
        let (_, frames) = reader.copy_out(sql).await.map_err(|error| Fault::of(table, error))?;
        Ok(Self::new(table, unit, frames, false))
    }

    /// The same as a whole transaction, at once: a server far away is waited for once. It is committed when the last of
    /// the rows has been read.
    pub(super) async fn open_whole(
        table: &'t TableShared,
        unit: CopyUnit,
        reader: &'r mut Reader,
        copy: &str,
    ) -> Result<(View, Self), Fault> {
        let sql = format!("{}; {copy}; COMMIT", sql::begin(&table.copy, None));
        let begun = reader.copy_out(&sql).await;
        let (rows, frames) = begun.map_err(|error| Fault::of(&table.copy, error))?;
        Ok((
            view(table, &rows)?,
            Self::new(&table.copy, unit, frames, table.copy.straight),
        ))
    }

    fn new(table: &'t TableCopy, unit: CopyUnit, frames: Frames<'r>, straight: bool) -> Self {
        let mut decoder = CopyDecoder::new(table.relation.clone());
        let mut frames = frames;
        if straight {
            decoder = decoder.straight(&table.key, &table.own_types);
            frames = frames.long();
        } else if let Some(types) = &table.types {
            decoder = decoder.with_binary(Arc::clone(types));
        }
        let transaction = Transaction {
            xid: 0,
            commit_lsn: Lsn(0),
            end_lsn: Lsn(0),
            commit_us: 0,
            part: Part::Whole,
            origin: Origin::Copy(unit),
        };
        Self {
            table,
            frames,
            decoder,
            transaction,
        }
    }

    /// The next rows; `None` behind the last.
    pub(super) async fn next(&mut self) -> Result<Option<Batch>, Fault> {
        loop {
            let frames = self.frames.next().await.map_err(|error| Fault::of(self.table, error))?;
            let Some(frames) = frames else { return Ok(None) };
            let batch = self.decoder.decode(frames, self.transaction);
            let mut batch = batch.map_err(|error| fault::undecodable(self.table, error))?;
            batch.keyless = self.table.key.is_empty();
            // The end of a binary COPY is a message without rows.
            if !batch.rows.is_empty() {
                return Ok(Some(batch));
            }
        }
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
