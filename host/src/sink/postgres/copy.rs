//! Long runs of inserts by COPY.

use super::apply::{Applier, Prepared, Sent, Work};
use super::encode::Texts;
use super::pipeline::{Pipeline, Tail};
use super::refusal::refused;
use super::run::{Kind, Run};
use super::straight::{self, is_malformed};
use crate::config::OnConflict;
use crate::sink::SinkError;
use bytes::Bytes;
use futures_util::SinkExt;
use std::pin::Pin;
use tokio_postgres::error::SqlState;
use tokio_postgres::{CopyInSink, Error};

/// From here on COPY is faster than a statement with arrays, its round trips included.
const COPY_ROWS_MIN: usize = 64;
/// Bytes of lines that are sent together.
const COPY_PIECE_BYTES: usize = 64 * 1024;
/// Runs of a table that go as upserts after a COPY met a row that was there; then COPY gets another chance.
const RUNS_WITHOUT_COPY: u32 = 16;

impl Applier {
    /// Whether a run goes by COPY.
    pub(super) fn wants_copy(&mut self, work: Work<'_>, run: &Run) -> bool {
        if !run.kind.is_insert() || run.rows.len() < COPY_ROWS_MIN {
            return false;
        }
        let index = work.batch.relations[run.relation as usize].index;
        match self.without_copy.get_mut(&index) {
            Some(0) => {
                self.without_copy.remove(&index);
                self.targets[&index].copy
            }
            Some(left) => {
                *left -= 1;
                false
            }
            None => self.targets[&index].copy,
        }
    }

    /// Whether a statement takes new rows though others of the same key are there.
    fn settles(&self, index: u32) -> bool {
        match self.conflict {
            OnConflict::Error => false,
            OnConflict::Skip => true,
            OnConflict::Overwrite => self.targets[&index].keyed,
        }
    }

    /// Sends a run as a COPY, once everything before has been replied to. Its own reply is the tail.
    pub(super) async fn copy<'a>(
        &mut self,
        work: Work<'a>,
        run: &Run,
        pipeline: &mut Pipeline<'a, Sent>,
    ) -> Result<(), SinkError> {
        let Some(prepared) = self.prepared(work, run, true, pipeline).await? else {
            return Ok(());
        };
        // A COPY behind one that fails would be sent into an aborted transaction before its client knows.
        self.drain(work, pipeline).await?;
        let first = run.rows.start;
        let index = work.batch.relations[run.relation as usize].index;
        let sent = Sent {
            copied: (run.kind == Kind::Insert || self.settles(index)).then_some(index),
            straight: (!run.binary.is_empty()).then_some(index),
            ..Sent::uncounted(first)
        };
        match copy_in(work, run, &prepared).await {
            Ok(mut copy) => {
                // It is flushed, so that the end of the COPY is on its way before anything that follows.
                self.tail = Some(Tail::send(sent, async move { copy.as_mut().finish().await }).await);
                Ok(())
            }
            Err(error) => {
                self.note_copy(&sent, &error);
                Err(refused(work, first, &error))
            }
        }
    }

    /// Remembers that COPY won't do for a relation for a while, as rows of the same keys are there; and that its rows
    /// won't do as they came.
    pub(super) fn note_copy(&mut self, sent: &Sent, error: &Error) {
        if let Some(index) = sent.copied
            && error.code() == Some(&SqlState::UNIQUE_VIOLATION)
        {
            self.without_copy.insert(index, RUNS_WITHOUT_COPY);
            self.copy_met = true;
        }
        if let Some(index) = sent.straight.filter(|_| is_malformed(error)) {
            self.without_binary.insert(index);
            self.copy_met = true;
        }
    }
}

/// Sends the lines: encodes a piece while the server reads the one before.
async fn copy_in(work: Work<'_>, run: &Run, prepared: &Prepared) -> Result<Pin<Box<CopyInSink<Bytes>>>, Error> {
    let mut copy = Box::pin(work.client.copy_in::<_, Bytes>(&prepared.statement).await?);
    if !run.binary.is_empty() {
        straight::send(work, run, &mut copy).await?;
        return Ok(copy);
    }
    let mut texts = Texts::new(work);
    let mut lines = Vec::with_capacity(COPY_PIECE_BYTES);
    for row in &work.rows[run.rows.clone()] {
        texts.copy_line(row, &prepared.sql, &mut lines);
        if lines.len() >= COPY_PIECE_BYTES {
            let next = Vec::with_capacity(lines.len());
            copy.feed(std::mem::replace(&mut lines, next).into()).await?;
        }
    }
    copy.send(lines.into()).await?;
    Ok(copy)
}
