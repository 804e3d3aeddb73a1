//! A lane: one instance of every route's plugins, for one batch at a time.

use super::job::{Done, Job, Side};
use crate::batch::{Batch, Lsn, Op, Row};
use crate::dead_letter::Held;
use crate::plugin::{Chain, Counts, GuestMetrics, Processed};
use crate::problem::Problem;
use std::collections::VecDeque;
use std::sync::Arc;

/// The plugins of one route in one lane.
#[derive(Debug, Default)]
pub struct LaneChain {
    /// `None` where the route has no plugins.
    pub chain: Option<Chain>,
    /// Versions that count from some later position on, recorded by an earlier run or waiting for what it may have
    /// delivered.
    pub later: VecDeque<(Lsn, Chain)>,
}

/// A version of a route's chain that takes over in a lane.
#[derive(Debug)]
pub(super) struct Takeover {
    pub route: usize,
    pub chain: Chain,
    /// From which commit on; `None` where it counts at once.
    pub from: Option<Lsn>,
}

#[derive(Debug)]
pub(super) struct Lane {
    pub(super) routes: Vec<LaneChain>,
    metrics: Arc<GuestMetrics>,
    /// Kept from batch to batch.
    processed: Processed,
}

impl Lane {
    pub(super) fn new(routes: Vec<LaneChain>, metrics: Arc<GuestMetrics>) -> Self {
        let processed = Processed::default();
        Self {
            routes,
            metrics,
            processed,
        }
    }

    /// Takes the batch through every route's chain.
    pub(super) fn process(&mut self, job: Job) -> Result<Done, Box<Problem>> {
        let mut done = Done {
            batch: job.batch,
            rows: job.rows,
            sides: Vec::with_capacity(self.routes.len()),
            marks: job.marks,
            position: job.position,
            counts: Counts::default(),
            replay: job.replay,
        };
        let mut waiting = job.waiting.into_iter();
        // Rows that are sent again are in order among themselves, whatever their positions are.
        let in_place = done.replay.is_none();
        for (route, rows) in self.routes.iter_mut().zip(&mut done.rows) {
            let waiting = waiting.next().unwrap_or_default();
            let mut side = Side::default();
            if route.chain.is_some() && !rows.is_empty() {
                self.processed.clear();
                side = route.side(
                    &mut done.batch,
                    rows,
                    waiting,
                    job.keep_rows,
                    in_place,
                    &mut self.processed,
                )?;
                done.counts += self.processed.counts;
                if let Some(chain) = &mut route.chain {
                    chain.take_metrics(&self.metrics);
                }
            }
            done.sides.push(side);
            if !job.copying.is_empty() {
                spare_copied(&done.batch, rows, &job.copying);
            }
        }
        if let Some(names) = job.checkpoint {
            self.checkpoint(&names, &mut done.marks)?;
        }
        Ok(done)
    }

    pub(super) fn take_over(&mut self, takeover: Takeover) {
        let route = &mut self.routes[takeover.route];
        match takeover.from {
            None => {
                route.chain = Some(takeover.chain);
                route.later.clear();
            }
            Some(from) => {
                route.later.retain(|(other, _)| *other != from);
                route.later.push_back((from, takeover.chain));
            }
        }
    }
}

impl LaneChain {
    /// The present one and those that come later.
    pub(super) fn chains(&self) -> impl Iterator<Item = &Chain> {
        self.chain.iter().chain(self.later.iter().map(|(_, chain)| chain))
    }

    /// Takes the rows of one route through its chain; tells what came of them besides those that are left.
    fn side(
        &mut self,
        batch: &mut Batch,
        rows: &mut Vec<Row>,
        waiting: Held,
        keep_rows: bool,
        in_place: bool,
        processed: &mut Processed,
    ) -> Result<Side, Box<Problem>> {
        let kept = (keep_rows || !waiting.is_empty() || !self.later.is_empty()).then(|| rows.clone());
        waiting.retain_rest(rows);
        if in_place {
            self.transform(batch, rows, processed)?;
        } else {
            self.run(batch, rows, processed)?;
        }
        let asides = std::mem::take(&mut processed.aside);
        let before = match (kept, &self.chain) {
            (Some(kept), _) => kept,
            (None, Some(chain)) if !asides.is_empty() => chain.original().to_vec(),
            _ => Vec::new(),
        };
        Ok(Side {
            before,
            waiting,
            asides,
        })
    }

    /// Sends the rows of one route through its chain. Where a later version counts from some position on, the rows are
    /// divided there: no transaction meets two versions.
    fn transform(
        &mut self,
        batch: &mut Batch,
        rows: &mut Vec<Row>,
        processed: &mut Processed,
    ) -> Result<(), Box<Problem>> {
        let Some((from, _)) = self.later.front() else {
            return self.run(batch, rows, processed);
        };
        let reaches = |transaction: &crate::batch::Transaction| transaction.commit_lsn >= *from;
        let Some(first) = batch.transactions.iter().position(reaches) else {
            return self.run(batch, rows, processed);
        };
        let split = rows.iter().position(|row| row.transaction as usize >= first);
        let mut later = rows.split_off(split.unwrap_or(rows.len()));
        self.run(batch, rows, processed)?;
        if let Some((_, mut chain)) = self.later.pop_front() {
            self.bequeath(&mut chain)?;
            self.chain = Some(chain);
        }
        self.transform(batch, &mut later, processed)?;
        rows.append(&mut later);
        Ok(())
    }

    fn run(&mut self, batch: &mut Batch, rows: &mut Vec<Row>, processed: &mut Processed) -> Result<(), Box<Problem>> {
        match &mut self.chain {
            Some(chain) if !rows.is_empty() => {
                let done = chain.process(batch, rows, processed);
                done.map_err(|error| Box::new(error.problem()))
            }
            _ => Ok(()),
        }
    }
}

/// The row of an upsert may not be there yet where its table is being copied: the copy brings it, with the values that
/// this change lacks.
fn spare_copied(batch: &Batch, rows: &mut [Row], copying: &[u32]) {
    for row in rows.iter_mut().filter(|row| row.op == Op::Upsert) {
        if copying.contains(&batch.relation(row).oid) {
            row.op = Op::Update;
        }
    }
}
