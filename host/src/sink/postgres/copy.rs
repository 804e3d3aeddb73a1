//! Long runs of inserts by COPY.

use super::apply::{Applier, Prepared, Sent, Work};
use super::encode::Texts;
use super::pipeline::Pipeline;
use super::refusal::refused;
use super::run::{Kind, Run};
use crate::config::OnConflict;
use crate::sink::SinkError;
use bytes::Bytes;
use futures_util::SinkExt;
use std::pin::pin;
use tokio_postgres::Error;
use tokio_postgres::error::SqlState;

/// From here on COPY is faster than a statement with arrays, its round trips included.
const COPY_ROWS_MIN: usize = 64;
/// Bytes of lines that are sent together.
const COPY_PIECE_BYTES: usize = 64 * 1024;
/// Runs of a table that go as upserts after a COPY met a row that was there; then COPY gets another chance.
const RUNS_WITHOUT_COPY: u32 = 64;

const SAVEPOINT: &str = "SAVEPOINT rowmill_copy";
const RELEASE: &str = "RELEASE SAVEPOINT rowmill_copy";
const BACK: &str = "ROLLBACK TO SAVEPOINT rowmill_copy; RELEASE SAVEPOINT rowmill_copy";

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

    /// Copies a run; `false` where a row was there already and nothing of the run has been applied. Nothing may be
    /// outstanding.
    pub(super) async fn copy<'a>(
        &mut self,
        work: Work<'a>,
        run: &Run,
        pipeline: &mut Pipeline<'a, Sent>,
    ) -> Result<bool, SinkError> {
        let Some(prepared) = self.prepared(work, run, true, pipeline).await? else {
            return Ok(true);
        };
        let (client, first) = (work.client, run.rows.start);
        let mark = || Sent::uncounted(first);
        let savepoint = async move { client.batch_execute(SAVEPOINT).await.map(|()| 0) };
        pipeline.send(mark(), savepoint).await;
        match copy_in(work, run, &prepared).await {
            Ok(()) => {
                let release = async move { client.batch_execute(RELEASE).await.map(|()| 0) };
                pipeline.send(mark(), release).await;
                Ok(true)
            }
            Err(there) if there.code() == Some(&SqlState::UNIQUE_VIOLATION) => {
                let index = work.batch.relations[run.relation as usize].index;
                if run.kind != Kind::Insert && !self.settles(index) {
                    return Err(refused(work, first, &there));
                }
                client
                    .batch_execute(BACK)
                    .await
                    .map_err(|error| refused(work, first, &error))?;
                self.without_copy.insert(index, RUNS_WITHOUT_COPY);
                Ok(false)
            }
            Err(error) => Err(refused(work, first, &error)),
        }
    }
}

/// Encodes a piece while the server reads the one before.
async fn copy_in(work: Work<'_>, run: &Run, prepared: &Prepared) -> Result<(), Error> {
    let mut copy = pin!(work.client.copy_in::<_, Bytes>(&prepared.statement).await?);
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
    copy.finish().await?;
    Ok(())
}
