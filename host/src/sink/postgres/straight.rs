//! Copied rows that go into the target in the binary form in which the source has sent them (`decode::straight`).
//!
//! ```text
//!   read by a unit     |header| row | row | row | trailer|     COPY ... TO STDOUT (FORMAT binary)
//!   written                   | row | row | row |              COPY ... FROM STDIN (FORMAT binary), as long runs are
//! ```
//!
//! That is all there is to do for rows that a unit was the first to read, where the target has their columns with the same
//! types. An enum's label is text on the wire, and goes into an enum of whatever OID, which has to have it, or into a text; a
//! domain's value is one of the type under it. What the target refuses of them, few rows, and rows that may be there in
//! another version are made text, and go the ways that all others go.

use super::apply::{Applier, Sent, Work};
use super::keys::is_plain;
use super::pipeline::Pipeline;
use super::run::{Columns, Kind, Run};
use super::target::{TEXT, Target, VARCHAR};
use crate::batch::{Batch, OwnType, OwnTypes, Relation};
use crate::decode;
use crate::problem::{Exit, Problem};
use crate::sink::{SinkContext, SinkError};
use bytes::Bytes;
use futures_util::SinkExt;
use std::borrow::Cow;
use std::ops::Range;
use std::pin::Pin;
use tokio_postgres::error::SqlState;
use tokio_postgres::{CopyInSink, Error};

/// A signature, no flags, no extension: <https://www.postgresql.org/docs/current/sql-copy.html>, binary format.
const HEADER: [u8; 19] = *b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
const TRAILER: [u8; 2] = [0xFF; 2];
/// Bytes of rows that are sent together: nothing is done to them that the server could wait for.
const PIECE_BYTES: usize = 256 * 1024;

/// The type of a column that binary values are to go into, or of what its domain is made of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Landing {
    pub(super) type_oid: u32,
    pub(super) is_enum: bool,
}

impl Landing {
    /// Whether it reads what the source's type writes. A label goes into an enum, which looks for it among its own, and
    /// into a text.
    fn takes(self, type_oid: u32, own_types: &OwnTypes) -> bool {
        match own_types.of(type_oid) {
            Some(OwnType::Enum) => self.is_enum || [TEXT, VARCHAR].contains(&self.type_oid),
            Some(OwnType::Under(under)) => self.type_oid == under,
            None => self.type_oid == type_oid,
        }
    }
}

impl Target {
    /// Whether it takes rows of the relation in binary form.
    pub(super) fn takes_straight(&self, relation: &Relation, own_types: &OwnTypes) -> bool {
        let Some(lands) = &self.lands else { return false };
        let columns = relation.columns.iter();
        lands.len() == relation.columns.len()
            && columns
                .zip(lands)
                .all(|(column, landing)| landing.takes(column.type_oid, own_types))
    }
}

impl Applier {
    /// Rows as runs that go in as they came; `None` where some can't.
    pub(super) fn straight_runs(&mut self, work: Work<'_>, range: Range<usize>) -> Option<Vec<Run>> {
        if !work.batch.straight {
            return None;
        }
        let mut runs = Vec::new();
        let mut at = range.start;
        for rows in work.rows[range].chunk_by(|one, next| one.relation == next.relation) {
            let run = self.straight_run(work, at..at + rows.len())?;
            at = run.rows.end;
            runs.push(run);
        }
        Some(runs)
    }

    fn straight_run(&mut self, work: Work<'_>, range: Range<usize>) -> Option<Run> {
        let rows = &work.rows[range.clone()];
        let relation = work.batch.relations.get(rows.first()?.relation as usize)?;
        let target = self.targets.get(&relation.index)?;
        let takes = target.takes_straight(relation, &work.batch.own_types);
        if !takes || self.without_binary.contains(&relation.index) {
            return None;
        }
        let is_whole = |new| work.batch.straight_row(new, relation).is_some();
        let mut rows_of_units = rows.iter();
        if !rows_of_units.all(|row| is_plain(work.batch, row) && row.new.is_some_and(is_whole)) {
            return None;
        }
        let mut all = Columns::default();
        (0..target.columns.len()).for_each(|at| all.set(at, target.columns.len()));
        let run = Run {
            kind: match target.keyed && !target.due {
                true => Kind::Insert,
                false => Kind::Add,
            },
            relation: rows.first()?.relation,
            columns: all.clone(),
            binary: all,
            long: false,
            rows: range,
        };
        self.wants_copy(work, &run).then_some(run)
    }

    /// Sends the runs. As with other rows, the last COPY may be left as the tail.
    pub(super) async fn apply_straight(
        &mut self,
        work: Work<'_>,
        runs: &[Run],
        begin: &'static str,
    ) -> Result<(), SinkError> {
        let mut pipeline = Pipeline::new();
        let client = work.client;
        let begun = async move { client.batch_execute(begin).await.map(|()| 0) };
        let first = runs.first().map_or(0, |run| run.rows.start);
        pipeline.send(Sent::uncounted(first), begun).await;
        for run in runs {
            self.copy(work, run, &mut pipeline).await?;
        }
        if self.leaves_tail && self.tail.is_some() && pipeline.is_empty() {
            return Ok(());
        }
        self.drain(work, &mut pipeline).await
    }
}

/// Sends what a COPY takes: the rows, between a header and a trailer.
pub(super) async fn send(work: Work<'_>, run: &Run, copy: &mut Pin<Box<CopyInSink<Bytes>>>) -> Result<(), Error> {
    let mut piece = Vec::with_capacity(PIECE_BYTES);
    piece.extend_from_slice(&HEADER);
    for row in &work.rows[run.rows.clone()] {
        let row = row
            .new
            .and_then(|new| work.batch.straight_row(new, work.batch.relation(row)));
        // Each has been looked at before.
        let row = row.unwrap_or_default();
        if piece.len() + row.len() > PIECE_BYTES {
            let next = Vec::with_capacity(PIECE_BYTES.max(row.len()));
            copy.feed(std::mem::replace(&mut piece, next).into()).await?;
        }
        piece.extend_from_slice(row);
    }
    piece.extend_from_slice(&TRAILER);
    copy.send(piece.into()).await
}

/// The rows as text, where they aren't.
pub(super) fn as_text<'a>(work: Work<'a>, range: Range<usize>) -> Result<Cow<'a, Batch>, SinkError> {
    let told = decode::straight::as_text(work.batch, &work.rows[range.clone()]);
    told.map_err(|(at, error)| SinkError::Row {
        row: range.start + at,
        error: error.into(),
    })
}

/// Whether the target's types aren't what their names and OIDs say: it reads other bytes than the source writes.
pub(super) fn is_malformed(error: &Error) -> bool {
    let malformed = [
        &SqlState::INVALID_BINARY_REPRESENTATION,
        &SqlState::PROTOCOL_VIOLATION,
        &SqlState::BAD_COPY_FILE_FORMAT,
    ];
    error.code().is_some_and(|code| malformed.contains(&code))
}

/// Stands for the server's words until the rows have been sent as text.
pub(super) fn not_taken(context: &SinkContext) -> Problem {
    let headline = format!("the target of sink {} refuses copied rows as they came", context.sink);
    let help = "make the target's columns what the source's are";
    Problem::new("E0411", Exit::Sink, headline, help)
}
