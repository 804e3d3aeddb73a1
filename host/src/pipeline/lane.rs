//! A lane: one instance of every route's plugins, for one batch at a time.

use super::job::{Done, Job};
use crate::batch::{Batch, Lsn, Op, Row};
use crate::plugin::{Chain, GuestMetrics};
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
}

impl Lane {
    pub(super) fn new(routes: Vec<LaneChain>, metrics: Arc<GuestMetrics>) -> Self {
        Self { routes, metrics }
    }

    /// Takes the batch through every route's chain.
    pub(super) fn process(&mut self, job: Job) -> Result<Done, Box<Problem>> {
        let Job {
            mut batch,
            mut rows,
            copying,
            mut marks,
            position,
            checkpoint,
        } = job;
        for (route, rows) in self.routes.iter_mut().zip(&mut rows) {
            route.transform(&mut batch, rows)?;
            if let Some(chain) = &mut route.chain {
                chain.take_metrics(&self.metrics);
            }
            if !copying.is_empty() {
                spare_copied(&batch, rows, &copying);
            }
        }
        if let Some(names) = checkpoint {
            self.checkpoint(&names, &mut marks)?;
        }
        Ok(Done {
            batch,
            rows,
            marks,
            position,
        })
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
    /// Sends the rows of one route through its chain. Where a later version counts from some position on, the rows are
    /// divided there: no transaction meets two versions.
    fn transform(&mut self, batch: &mut Batch, rows: &mut Vec<Row>) -> Result<(), Box<Problem>> {
        let Some((from, _)) = self.later.front() else {
            return self.run(batch, rows);
        };
        let reaches = |transaction: &crate::batch::Transaction| transaction.commit_lsn >= *from;
        let Some(first) = batch.transactions.iter().position(reaches) else {
            return self.run(batch, rows);
        };
        let split = rows.iter().position(|row| row.transaction as usize >= first);
        let mut later = rows.split_off(split.unwrap_or(rows.len()));
        self.run(batch, rows)?;
        if let Some((_, mut chain)) = self.later.pop_front() {
            self.bequeath(&mut chain)?;
            self.chain = Some(chain);
        }
        self.transform(batch, &mut later)?;
        rows.append(&mut later);
        Ok(())
    }

    fn run(&mut self, batch: &mut Batch, rows: &mut Vec<Row>) -> Result<(), Box<Problem>> {
        match &mut self.chain {
            Some(chain) if !rows.is_empty() => chain.process(batch, rows).map_err(|error| Box::new(error.problem())),
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
