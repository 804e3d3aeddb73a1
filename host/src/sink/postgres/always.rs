//! Identity columns that are GENERATED ALWAYS, besides the key: rows bring their values, and no statement may change them.
//!
//! A subscription's worker writes them all the same, below SQL. Here an update leaves them alone and finds no row in which they
//! differ; an upsert takes such a row away before. What is left is told: a source gives them other values by DEFAULT alone.

use super::apply::{Applier, Sent, Work};
use super::encode;
use super::pipeline::Pipeline;
use super::refusal::{refused, regiven};
use super::run::{Kind, Run};
use crate::config::OnConflict;
use crate::sink::SinkError;

impl Applier {
    /// Whether a run brings values for such columns to a table whose rows are found by a key.
    pub(super) fn brings_always(&self, work: Work<'_>, run: &Run) -> bool {
        let target = &self.targets[&work.batch.relations[run.relation as usize].index];
        target.keyed && !target.due && !run.long && target.brings_always(&run.columns)
    }

    /// To be called before a run is sent.
    pub(super) async fn before_always<'a>(
        &mut self,
        work: Work<'a>,
        run: &Run,
        pipeline: &mut Pipeline<'a, Sent>,
    ) -> Result<(), SinkError> {
        let upserts = match run.kind {
            Kind::Insert | Kind::Upsert => true,
            Kind::Add => self.conflict == OnConflict::Overwrite,
            _ => false,
        };
        match upserts {
            false => Ok(()),
            true if self.independent => self.replace(work, run, pipeline).await,
            // Taking a row away would take others along, by foreign keys.
            true => self.refuse_differing(work, run, pipeline).await,
        }
    }

    /// To be called behind it. An update finds no row whose identity isn't the one that it brings: that is no missing row.
    pub(super) async fn settle_always<'a>(
        &mut self,
        work: Work<'a>,
        run: &Run,
        pipeline: &mut Pipeline<'a, Sent>,
    ) -> Result<(), SinkError> {
        if !matches!(run.kind, Kind::Update | Kind::Complete) {
            return Ok(());
        }
        let before = self.passed_over;
        self.drain(work, pipeline).await?;
        match self.passed_over.missing == before.missing {
            true => Ok(()),
            false => self.refuse_differing(work, run, pipeline).await,
        }
    }

    /// Takes away the rows that an upsert can't make what they should be.
    async fn replace<'a>(
        &mut self,
        work: Work<'a>,
        run: &Run,
        pipeline: &mut Pipeline<'a, Sent>,
    ) -> Result<(), SinkError> {
        let replaced = run.as_kind(Kind::Replaced);
        if let Some(prepared) = self.prepared(work, &replaced, false, pipeline).await? {
            let arrays = encode::arrays(work, &work.rows[run.rows.clone()], &prepared.sql);
            let client = work.client;
            let reply = async move { client.execute_raw(&prepared.statement, arrays).await };
            pipeline.send(Sent::uncounted(run.rows.start), reply).await;
        }
        Ok(())
    }

    /// Whether a row of these has another identity at the target.
    async fn refuse_differing<'a>(
        &mut self,
        work: Work<'a>,
        run: &Run,
        pipeline: &mut Pipeline<'a, Sent>,
    ) -> Result<(), SinkError> {
        let differing = run.as_kind(Kind::Differing);
        let first = run.rows.start;
        self.drain(work, pipeline).await?;
        let Some(prepared) = self.prepared(work, &differing, false, pipeline).await? else {
            return Ok(());
        };
        let arrays = encode::arrays(work, &work.rows[run.rows.clone()], &prepared.sql);
        let found = work.client.execute_raw(&prepared.statement, arrays).await;
        match found.map_err(|error| refused(work, first, &error))? {
            0 => Ok(()),
            _ => Err(regiven(work, first).into()),
        }
    }
}
