//! A lane: one instance of every route's plugins, for one batch at a time.

use super::job::{Done, Job, Side};
use super::lane_letters::{LaneLetters, Noted};
use super::owned::owned;
use super::probation::{Probation, ProbationEnd, Warden, blamed, first_whole};
use crate::batch::{Batch, Lsn, Row};
use crate::checkpoint::{PluginVersion, SetAside, same_plugins};
use crate::dead_letter::{self, Behind, ReplayBatch};
use crate::failpoint;
use crate::plugin::{Chain, Counts, GuestMetrics, PluginError, Processed};
use crate::problem::Problem;
use std::collections::VecDeque;
use std::sync::Arc;

/// The plugins of one route in one lane.
#[derive(Debug, Default)]
pub struct LaneChain {
    /// `None` where the route has no plugins.
    pub chain: Option<Chain>,
    /// What the chain is made of, and from where it counts.
    pub version: LaneVersion,
    /// While the chain is on probation: in the first lane.
    pub probation: Option<Probation>,
    /// Versions that count from some later position on, recorded by an earlier run or waiting for what it may have
    /// delivered.
    pub later: VecDeque<Later>,
    /// The newest commit whose rows came here.
    pub(super) seen: Lsn,
    /// What broke in the batch at hand: other routes go back from it too.
    pub(super) broke: Vec<SetAside>,
}

#[derive(Clone, Debug, Default)]
pub struct LaneVersion {
    pub from: Lsn,
    pub plugins: Vec<PluginVersion>,
}

/// A version that counts from its position on.
#[derive(Debug)]
pub struct Later {
    pub chain: Chain,
    pub version: LaneVersion,
    /// Its number, where it is to be on probation.
    pub probation: Option<u64>,
    /// Whether it goes back to what ran before the one that it takes over from: then it has seen the rows of that one, and
    /// goes on with a state of its own.
    pub follows: bool,
}

/// A version of a route's chain that takes over in a lane.
#[derive(Debug)]
pub(super) struct Takeover {
    pub route: usize,
    /// Whether it counts from now on, rather than from its position.
    pub at_once: bool,
    pub next: Later,
}

pub(super) struct Lane {
    pub(super) routes: Vec<LaneChain>,
    metrics: Arc<GuestMetrics>,
    pub(super) warden: Arc<Warden>,
    letters: Option<LaneLetters>,
    /// That what the last batch has set aside is written.
    noted: Noted,
    /// Kept from batch to batch.
    processed: Processed,
}

/// What a route's rows are taken through a chain with.
pub(super) struct Call<'a> {
    pub route: usize,
    pub warden: &'a Warden,
    /// Whether nobody else refers to the tuples of its rows.
    owned: bool,
    /// Which of its rows wait behind dead letters.
    pub behind: Behind,
    pub processed: &'a mut Processed,
}

impl Lane {
    pub(super) fn new(routes: Vec<LaneChain>, metrics: Arc<GuestMetrics>, warden: Arc<Warden>) -> Self {
        let processed = Processed::default();
        Self {
            routes,
            metrics,
            warden,
            letters: None,
            noted: Noted::default(),
            processed,
        }
    }

    /// With dead letters to look at.
    pub(super) fn with_letters(self, letters: LaneLetters) -> Self {
        Self {
            letters: Some(letters),
            ..self
        }
    }

    /// Takes the batch through every route's chain.
    pub(super) fn process(&mut self, job: Job) -> Result<Done, Box<Problem>> {
        self.noted.wait();
        let mut done = Done {
            batch: job.batch,
            rows: job.rows,
            sides: Vec::with_capacity(self.routes.len()),
            copying: job.copying,
            spared: job.spared,
            marks: job.marks,
            position: job.position,
            counts: Counts::default(),
            replay: job.replay,
            noted: None,
        };
        let mut waiting = job.waiting.into_iter();
        // Rows that are sent again are in order among themselves, whatever their positions are.
        let sent_again_at = done.replay.as_ref().map(|replay| replay.position);
        let in_place = sent_again_at.is_none();
        let owned = owned(&done.batch, &done.rows);
        let mut writes_letters = false;
        for (at, rows) in done.rows.iter_mut().enumerate() {
            let Some(route) = self.routes.get_mut(at) else { break };
            let waiting = waiting.next().unwrap_or_default();
            let mut side = Side::default();
            let is_bare = route.chain.is_none();
            if !is_bare && !rows.is_empty() {
                self.processed.clear();
                let seen = newest(&done.batch, rows);
                let (letters, replay) = (self.letters.as_ref(), done.replay.as_deref());
                let call = Call {
                    route: at,
                    warden: &self.warden,
                    owned: in_place && owned.get(at).is_some_and(|owned| *owned),
                    behind: route.behind(at, letters, replay, &done.batch, rows, waiting),
                    processed: &mut self.processed,
                };
                let sided = route.side(call, &mut done.batch, rows, job.keep_rows, sent_again_at);
                side = sided.or_else(|problem| Err(called_off(letters, replay, problem)?))?;
                // What waits blocks the keys that it leads to.
                writes_letters |= !(side.asides.is_empty() && side.waiting.is_empty()) && route.keeps();
                if in_place {
                    route.seen = route.seen.max(seen.unwrap_or_default());
                    if let Some(probation) = &mut route.probation {
                        probation.went_well();
                        route.settle(at, &self.warden)?;
                    }
                }
                done.counts += self.processed.counts;
                if let Some(chain) = &mut route.chain {
                    chain.take_metrics(&self.metrics);
                }
                let broke = std::mem::take(&mut route.broke);
                if !broke.is_empty() {
                    self.put_back_others(at, &broke, &done.batch)?;
                }
            }
            if is_bare && in_place && self.letters.as_ref().is_some_and(LaneLetters::any) {
                // No plugin refuses anything here: what a sink can't take may have been set aside by hand.
                side.before.clone_from(rows);
            }
            done.sides.push(side);
        }
        if let Some(names) = job.checkpoint {
            self.go_back_before(done.position);
            self.checkpoint(&names, &mut done.marks)?;
        }
        failpoint::pass(failpoint::AFTER_STAGE);
        if writes_letters {
            self.noted = Noted::of(&mut done);
        }
        Ok(done)
    }

    pub(super) fn take_over(&mut self, takeover: Takeover) {
        let Takeover { route, at_once, next } = takeover;
        let chain = &mut self.routes[route];
        if at_once {
            // What was to begin before has begun, with or without rows.
            while let Some(before) = chain.later.pop_front() {
                chain.begin(route, &self.warden, before);
            }
            chain.begin(route, &self.warden, next);
        } else {
            if let Some(same) = chain
                .later
                .iter()
                .position(|later| later.version.from == next.version.from)
                && let Some(Later {
                    probation: Some(id), ..
                }) = chain.later.remove(same)
            {
                self.warden.tell(route, id, ProbationEnd::Replaced);
            }
            chain.later.push_back(next);
        }
    }

    /// Ends the probations whose time is over though no row came.
    pub(super) fn tick(&mut self) -> Result<(), Box<Problem>> {
        for (at, route) in self.routes.iter_mut().enumerate() {
            route.settle(at, &self.warden)?;
        }
        Ok(())
    }
}

impl Later {
    /// A version that has passed its probation.
    pub fn trusted(from: Lsn, chain: Chain) -> Self {
        let plugins = Vec::new();
        Self {
            chain,
            version: LaneVersion { from, plugins },
            probation: None,
            follows: false,
        }
    }
}

impl LaneChain {
    /// A chain that has always counted.
    pub fn of(chain: Option<Chain>) -> Self {
        Self {
            chain,
            ..Self::default()
        }
    }

    /// The present one and those that come later.
    pub(super) fn chains(&self) -> impl Iterator<Item = &Chain> {
        self.chain.iter().chain(self.later.iter().map(|later| &later.chain))
    }

    /// Takes the rows of one route through its chain; tells what came of them besides those that are left.
    fn side(
        &mut self,
        mut call: Call<'_>,
        batch: &mut Batch,
        rows: &mut Vec<Row>,
        keep_rows: bool,
        sent_again_at: Option<Lsn>,
    ) -> Result<Side, Box<Problem>> {
        let mut waiting = call.behind.held().clone();
        let kept = (keep_rows || !waiting.is_empty() || !self.later.is_empty() || self.probation.is_some())
            .then(|| rows.clone());
        // Another version may get the rows as they came.
        call.owned &= self.later.is_empty() && self.probation.is_none();
        waiting.retain_rest(rows);
        match sent_again_at {
            None => self.transform(&mut call, batch, rows)?,
            Some(position) => {
                // What has begun without rows counts for them.
                while self.later.front().is_some_and(|later| later.version.from <= position) {
                    self.begin_next(&call)?;
                }
                self.seen_by_all(&mut call, batch, rows)?;
            }
        }
        let asides = std::mem::take(&mut call.processed.aside);
        waiting.add(&call.processed.waiting);
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
    fn transform(&mut self, call: &mut Call<'_>, batch: &mut Batch, rows: &mut Vec<Row>) -> Result<(), Box<Problem>> {
        let Some(from) = self.later.front().map(|later| later.version.from) else {
            return self.run(call, batch, rows);
        };
        let reaches = |row: &Row| batch.transaction(row).commit_lsn >= from;
        let Some(split) = rows.iter().position(reaches) else {
            return self.run(call, batch, rows);
        };
        let mut later = rows.split_off(split);
        self.run(call, batch, rows)?;
        // A fault among the first rows may have brought the version before in front of it: it comes first.
        self.begin_next(call)?;
        self.transform(call, batch, &mut later)?;
        rows.append(&mut later);
        Ok(())
    }

    /// The first of those that come later takes over.
    fn begin_next(&mut self, call: &Call<'_>) -> Result<(), Box<Problem>> {
        if let Some(mut next) = self.later.pop_front() {
            self.bequeath(&mut next)?;
            self.bequeath_behind()?;
            self.begin(call.route, call.warden, next);
        }
        Ok(())
    }

    fn once(&mut self, call: &mut Call<'_>, batch: &mut Batch, rows: &mut Vec<Row>) -> Result<(), PluginError> {
        match &mut self.chain {
            Some(_) if rows.is_empty() => Ok(()),
            Some(chain) if call.owned => chain.process_in_place_behind(batch, rows, call.processed, &mut call.behind),
            Some(chain) => chain.process_behind(batch, rows, call.processed, &mut call.behind),
            None => Ok(()),
        }
    }

    /// Also by the version that waits for the end of a probation.
    fn seen_by_all(&mut self, call: &mut Call<'_>, batch: &mut Batch, rows: &mut Vec<Row>) -> Result<(), Box<Problem>> {
        let to_follow = self.rows_to_follow(rows);
        let done = self.once(call, batch, rows);
        done.map_err(|error| Box::new(error.problem()))?;
        self.follow(call, batch, to_follow)
    }

    fn run(&mut self, call: &mut Call<'_>, batch: &mut Batch, rows: &mut Vec<Row>) -> Result<(), Box<Problem>> {
        if self.probation.is_none() {
            return self.seen_by_all(call, batch, rows);
        }
        // The first fault decides: nothing is tried row by row before.
        let to_follow = self.rows_to_follow(rows);
        if let Some(chain) = &mut self.chain {
            chain.save();
            chain.strict(true);
        }
        let behind = call.behind.clone();
        let done = self.once(call, batch, rows);
        self.chain.iter_mut().for_each(|chain| chain.strict(false));
        let Err(error) = done else {
            self.chain.iter_mut().for_each(Chain::keep);
            return self.follow(call, batch, to_follow);
        };
        let rolled_back = self.roll_back(call.route, call.warden, batch, rows, &error)?;
        // Where it goes on nevertheless, it counts anew what it has counted of these rows.
        call.behind = behind;
        let put_back = self.chain.as_mut().map_or(Ok(()), Chain::put_back);
        put_back.map_err(|error| Box::new(error.problem()))?;
        match rolled_back {
            true => self.transform(call, batch, rows),
            false => self.seen_by_all(call, batch, rows),
        }
    }

    /// Goes back to the version before, where the chain is on probation and one of its new plugins has failed: from the
    /// first transaction of which nothing has left yet. It is durable before that version's first output.
    fn roll_back(
        &mut self,
        route: usize,
        warden: &Warden,
        batch: &Batch,
        rows: &[Row],
        error: &PluginError,
    ) -> Result<bool, Box<Problem>> {
        let Some(probation) = &mut self.probation else {
            return Ok(false);
        };
        let set_aside = blamed(error, &self.version.plugins, &probation.fallback_plugins);
        if set_aside.is_empty() || probation.fallback.is_none() {
            return Ok(false);
        }
        let first = first_whole(batch, rows);
        let from = match first {
            Some(at) => batch.transaction(&rows[at]).commit_lsn,
            None => Lsn(batch.transaction(&rows[rows.len() - 1]).commit_lsn.0 + 1),
        };
        // What is delivered out of its place has an old position.
        let from = from.max(Lsn(self.seen.0 + 1)).max(self.version.from);
        let (id, plugins) = (probation.id, probation.fallback_plugins.clone());
        warden.roll_back(route, from, &plugins, &set_aside)?;
        let Some(chain) = probation.fallback.take() else {
            return Ok(false);
        };
        self.probation = None;
        self.broke.clone_from(&set_aside);
        let gone = self.version.plugins.clone();
        let version = LaneVersion {
            from,
            plugins: plugins.clone(),
        };
        let back = Later {
            chain,
            version,
            probation: None,
            follows: true,
        };
        match first {
            Some(0) => self.begin(route, warden, back),
            _ => self.later.push_front(back),
        }
        let end = ProbationEnd::RolledBack {
            from,
            gone,
            plugins,
            set_aside,
        };
        warden.tell(route, id, end);
        Ok(true)
    }

    /// The next version takes over. On probation, what ran before waits; a further candidate takes the place of the one
    /// on probation, never of what waits.
    pub(super) fn begin(&mut self, route: usize, warden: &Warden, next: Later) {
        let before = self.probation.take();
        if let Some(replaced) = &before {
            warden.tell(route, replaced.id, ProbationEnd::Replaced);
        }
        let running = std::mem::replace(&mut self.version, next.version);
        let chain = self.chain.replace(next.chain);
        let Some(id) = next.probation else {
            // What they have written and nobody has accepted is taken back before what is left counts.
            drop((chain, before));
            return self.step_in();
        };
        let mut probation = match before {
            Some(before) => Probation::new(id, before.fallback, before.fallback_plugins),
            None => Probation::new(id, chain, running.plugins),
        };
        self.chain.iter_mut().for_each(|chain| chain.step_in(true));
        probation.fallback.iter_mut().for_each(Chain::step_aside);
        self.probation = Some(probation);
    }

    /// The running version's entries by key are the plugins' own, and those of no other, unless one follows.
    fn step_in(&mut self) {
        let others_wait = self.later.front().is_some_and(|later| later.follows);
        self.chain.iter_mut().for_each(|chain| chain.step_in(others_wait));
    }

    /// Ends the probation where it is over.
    fn settle(&mut self, route: usize, warden: &Warden) -> Result<(), Box<Problem>> {
        // Where the route is about to go back, what it goes back to is needed.
        let goes_back = |on: &Probation| {
            self.later
                .iter()
                .any(|later| same_plugins(&on.fallback_plugins, &later.version.plugins))
        };
        let over = |on: &Probation| on.is_over(warden.limits) && !goes_back(on);
        match self.probation.as_ref().is_some_and(over) {
            true => self.trust(route, warden),
            false => Ok(()),
        }
    }

    /// Ends the probation, where there is one: there is no way back any more.
    pub(super) fn trust(&mut self, route: usize, warden: &Warden) -> Result<(), Box<Problem>> {
        let Some(id) = self.probation.as_ref().map(|on| on.id) else {
            return Ok(());
        };
        let plugins = self.version.plugins.iter().map(|plugin| plugin.name.as_str());
        warden.settle(route, self.version.from, plugins)?;
        self.probation = None;
        self.step_in();
        warden.tell(route, id, ProbationEnd::Passed);
        Ok(())
    }
}

/// The newest commit among the rows.
fn newest(batch: &Batch, rows: &[Row]) -> Option<Lsn> {
    let (first, last) = (rows.first()?, rows.last()?);
    // Transactions never go back in a batch: mostly it is a part of one.
    if first.transaction == last.transaction {
        return Some(batch.transaction(last).commit_lsn);
    }
    let transactions = rows.chunk_by(|one, other| one.transaction == other.transaction);
    transactions.map(|rows| batch.transaction(&rows[0]).commit_lsn).max()
}

/// What letters that are sent again have met is told once, and not at each start.
fn called_off(
    letters: Option<&LaneLetters>,
    replay: Option<&ReplayBatch>,
    problem: Box<Problem>,
) -> Result<Box<Problem>, Box<Problem>> {
    let (Some(letters), Some(replay)) = (letters, replay) else {
        return Ok(problem);
    };
    letters.letters.call_off(replay.ticket)?;
    Ok(dead_letter::called_off_for(problem))
}

#[cfg(test)]
#[path = "lane_follow_tests.rs"]
mod follow_tests;
