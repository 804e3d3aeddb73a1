//! What a row of an appending sink says of its change, beside the row's own columns.

use crate::batch::{Batch, Row, RowId, Value};
use crate::sink::SinkContext;
use crate::sink::json::commit_time;
use std::io::Write;

/// A column of the change's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum About {
    /// The id by which the change is known for ever.
    Id,
    /// `insert`, `update`, `delete`, `truncate`, `read` or `upsert`.
    Op,
    /// Where its transaction commits.
    Position,
    /// Its number in its transaction.
    Ordinal,
    CommittedAt,
    /// Columns whose values the change left alone and the server didn't send: they aren't NULL at the source.
    Unchanged,
}

impl About {
    pub(super) const ALL: [Self; 6] = [
        Self::Id,
        Self::Op,
        Self::Position,
        Self::Ordinal,
        Self::CommittedAt,
        Self::Unchanged,
    ];

    pub(super) const fn column(self) -> &'static str {
        match self {
            Self::Id => "_rowmill_id",
            Self::Op => "_rowmill_op",
            Self::Position => "_rowmill_position",
            Self::Ordinal => "_rowmill_ordinal",
            Self::CommittedAt => "_rowmill_committed_at",
            Self::Unchanged => "_rowmill_unchanged",
        }
    }

    pub(super) const fn type_name(self) -> &'static str {
        match self {
            Self::Id | Self::Op => "text",
            Self::Position => "pg_lsn",
            Self::Ordinal => "bigint",
            Self::CommittedAt => "timestamp with time zone",
            Self::Unchanged => "text[]",
        }
    }

    /// Writes the text over `out`; `false` where there is none.
    pub(super) fn write(self, batch: &Batch, context: &SinkContext, row: &Row, out: &mut Vec<u8>) -> bool {
        out.clear();
        let transaction = batch.transaction(row);
        // Writing to a Vec can't fail.
        let _ = match self {
            Self::Id => write!(
                out,
                "{}",
                RowId {
                    system_identifier: context.system_identifier,
                    commit_lsn: transaction.commit_lsn,
                    origin: transaction.origin,
                    ordinal: row.ordinal,
                    fan_out: row.fan_out,
                }
            ),
            Self::Op => write!(out, "{}", row.op.name()),
            Self::Position => write!(out, "{}", transaction.commit_lsn),
            Self::Ordinal => write!(out, "{}", row.ordinal),
            Self::CommittedAt => {
                commit_time(out, transaction.commit_us);
                Ok(())
            }
            Self::Unchanged => return unchanged(batch, row, out),
        };
        true
    }
}

/// The names as an array, where there are any.
fn unchanged(batch: &Batch, row: &Row, out: &mut Vec<u8>) -> bool {
    let Some(new) = row.new else { return false };
    for column in &batch.relation(row).columns {
        let value = batch.value(new, column.slot);
        let known = row.old.map(|old| batch.value(old, column.slot));
        if !matches!(value, Value::Unchanged | Value::Absent) || matches!(known, Some(Value::Text(_) | Value::Null)) {
            continue;
        }
        out.extend_from_slice(if out.is_empty() { b"{\"" } else { b",\"" });
        for byte in column.name.bytes() {
            if matches!(byte, b'"' | b'\\') {
                out.push(b'\\');
            }
            out.push(byte);
        }
        out.push(b'"');
    }
    if !out.is_empty() {
        out.push(b'}');
    }
    !out.is_empty()
}
