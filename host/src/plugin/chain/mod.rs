//! The plugins of a route, in order, with an instance of each for one lane.

use super::aside::{Aside, Counts, NoneWaits, Processed, Traces, Waits};
use super::compiled::Module;
use super::divided::Divided;
use super::engine::Engine;
use super::error::PluginError;
use super::fill::fill_all;
use super::instance::Mode;
use super::pieces::{Across, Around};
use super::plan::Plan;
use super::stage::{Done, Left, Stage};
use super::state::Kept;
use crate::batch::{Batch, Op, Relation, Row};
use crate::config::{FilterMode, Limits, Policies};
use rustc_hash::{FxHashMap, FxHashSet};
use std::sync::Arc;

mod told;

pub use told::Projection;

/// A plugin as it is taken up: code, configuration, limits.
#[derive(Clone, Debug)]
pub struct PluginVersion {
    pub name: String,
    pub module: Arc<Module>,
    pub config: serde_json::Value,
    pub limits: Limits,
    pub policies: Policies,
}

/// What the chain makes of a relation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChainOutcome {
    /// Rows leave in these relations.
    Outputs(Vec<Arc<Relation>>),
    /// No plugin wants it: rows leave as they are, untouched.
    PassBy,
    /// Nothing leaves.
    Drop,
}

/// One lane's instances of a route's plugins. A broken instance is never called again: a new one takes its place, within
/// the call or, after an error, in the next one.
#[derive(Debug)]
pub struct Chain {
    /// None where it is divided: then each division has its own.
    pub(super) stages: Vec<Stage>,
    pub(super) divided: Option<Box<Divided>>,
    stateful: bool,
    /// By the relation's index.
    outcomes: FxHashMap<u32, ChainOutcome>,
    /// The rows as they came, to be put back where a stage fails.
    pub(super) original: Vec<Row>,
    /// The rows between two stages.
    between: Vec<Row>,
    /// Changes that left on the way, with the index of the stage.
    left: Vec<(usize, Left)>,
    left_of_stage: Vec<Left>,
    /// By stage, since the chain began.
    counts: Vec<Counts>,
    wants_messages: bool,
    wants_truncates: bool,
}

impl Chain {
    /// Instantiates each plugin, checks its ABI and hands it its configuration.
    ///
    /// # Errors
    ///
    /// A plugin built for another ABI, one that refuses its configuration, or breaks while it starts.
    pub fn new(
        engine: &Arc<Engine>,
        plugins: &[PluginVersion],
        filter: FilterMode,
        mode: Mode,
    ) -> Result<Self, PluginError> {
        Self::with_kept(engine, plugins, filter, mode, Vec::new())
    }

    /// The same, with what each plugin has kept. Where there is less of it than plugins, the rest begins empty.
    ///
    /// # Errors
    ///
    /// A plugin that can't take up what it has kept, too.
    pub fn with_kept(
        engine: &Arc<Engine>,
        plugins: &[PluginVersion],
        filter: FilterMode,
        mode: Mode,
        kept: Vec<Kept>,
    ) -> Result<Self, PluginError> {
        let mut kept = kept.into_iter();
        let stages = plugins.iter().map(|plugin| {
            let kept = kept.next().unwrap_or_default();
            Stage::new(engine, plugin, filter, mode, kept)
        });
        let stages: Vec<Stage> = stages.collect::<Result<_, _>>()?;
        Ok(Self {
            stateful: plugins.iter().any(|plugin| plugin.module.manifest().keeps_state()),
            outcomes: FxHashMap::default(),
            original: Vec::new(),
            between: Vec::new(),
            left: Vec::new(),
            left_of_stage: Vec::new(),
            counts: vec![Counts::default(); stages.len()],
            wants_messages: stages.iter().any(Stage::wants_messages),
            wants_truncates: stages.iter().any(Stage::wants_truncates),
            stages,
            divided: None,
        })
    }

    /// This chain, which has no plugins of its own, with those of the divisions.
    pub(super) fn divided(self, divided: Divided) -> Self {
        let wants_messages = divided.chains().any(Self::wants_messages);
        let wants_truncates = divided.chains().any(Self::wants_truncates);
        Self {
            stateful: true,
            wants_messages,
            wants_truncates,
            divided: Some(Box::new(divided)),
            ..self
        }
    }

    /// Itself, or its divisions.
    fn undivided(&self) -> impl Iterator<Item = &Self> {
        let divisions = self.divided.as_deref().into_iter().flat_map(Divided::chains);
        divisions.chain(self.divided.is_none().then_some(self))
    }

    pub(super) fn first(&self) -> &Self {
        self.undivided().next().unwrap_or(self)
    }

    /// The stages of all divisions.
    pub(super) fn all_stages(&mut self) -> Box<dyn Iterator<Item = &mut Stage> + '_> {
        match &mut self.divided {
            Some(divided) => Box::new(divided.chains_mut().flat_map(|chain| &mut chain.stages)),
            None => Box::new(self.stages.iter_mut()),
        }
    }

    /// Whether a plugin keeps something from row to row: then one lane has to see all of them.
    pub fn is_stateful(&self) -> bool {
        self.stateful
    }

    /// The rows of the last call as they came in, where changes left in it.
    pub fn original(&self) -> &[Row] {
        &self.original
    }

    /// Asks the plugins what they make of a relation; remembered by its index. Call it for every relation of the route
    /// before its first row, so that a plugin's refusal comes early and truncates follow the shape.
    ///
    /// # Errors
    ///
    /// A plugin that refuses the table, declares what can't be, or breaks.
    pub fn relation(&mut self, relation: &Arc<Relation>) -> Result<ChainOutcome, PluginError> {
        if let Some(outcome) = self.outcomes.get(&relation.index) {
            return Ok(outcome.clone());
        }
        if let Some(divided) = &mut self.divided {
            let mut first = None;
            for chain in divided.chains_mut() {
                let outcome = chain.relation(relation)?;
                first.get_or_insert(outcome);
            }
            return Ok(first.unwrap_or(ChainOutcome::PassBy));
        }
        let mut relations = vec![Arc::clone(relation)];
        let mut untouched = true;
        for stage in &mut self.stages {
            let mut made: Vec<Arc<Relation>> = Vec::with_capacity(relations.len());
            for relation in &relations {
                match stage.plan(relation)? {
                    Plan::PassBy => made.push(Arc::clone(relation)),
                    Plan::Drop => untouched = false,
                    Plan::Use(plan) => {
                        untouched = false;
                        made.extend(plan.outputs.iter().map(|output| Arc::clone(&output.relation)));
                    }
                }
            }
            relations = made;
        }
        let outcome = match relations.is_empty() {
            true => ChainOutcome::Drop,
            false if untouched => ChainOutcome::PassBy,
            false => ChainOutcome::Outputs(relations),
        };
        self.outcomes.insert(relation.index, outcome.clone());
        Ok(outcome)
    }

    /// Takes the rows of one route through its plugins. `rows` become what is left of them; what plugins wrote is
    /// appended to the batch. A row's relation may become another one. Rows of a relation that [`Self::relation`] calls
    /// passed by may as well not come here at all. Logical messages end here, where a plugin asks for them.
    ///
    /// Changes that a plugin doesn't take, or breaks on, leave `rows` and are appended to `processed`, as the plugin's
    /// policies say; a change is all rows with one transaction and ordinal. Nothing of what is set aside is kept by any
    /// plugin.
    ///
    /// # Errors
    ///
    /// A row's own error or a plugin's fault where the policy is to stop, a plugin that asks for a stop, that breaks too
    /// often, or that doesn't start again after a fault. Then `rows` and `processed` are as they were, so that a retry is
    /// exact.
    pub fn process(
        &mut self,
        batch: &mut Batch,
        rows: &mut Vec<Row>,
        processed: &mut Processed,
    ) -> Result<(), PluginError> {
        self.process_behind(batch, rows, processed, &mut NoneWaits)
    }

    /// The same, where later rows wait behind what is set aside: of those that `waits` says wait no plugin keeps anything.
    /// They leave `rows`, too, and are appended to [`Processed::waiting`]. A chain that keeps nothing takes them as any
    /// others.
    ///
    /// # Errors
    ///
    /// As [`Self::process`]. What `waits` was told is no use then.
    pub fn process_behind(
        &mut self,
        batch: &mut Batch,
        rows: &mut Vec<Row>,
        processed: &mut Processed,
        waits: &mut dyn Waits,
    ) -> Result<(), PluginError> {
        let is_empty = self.stages.is_empty() && self.divided.is_none();
        if is_empty || rows.is_empty() {
            return Ok(());
        }
        self.all_stages().for_each(Stage::begin);
        match self.stateful {
            true => self.in_pieces(batch, rows, processed, waits),
            false => self.once(batch, rows, processed, Around::default()),
        }
    }

    /// Takes rows through the plugins, whatever comes of that.
    pub(super) fn once(
        &mut self,
        batch: &mut Batch,
        rows: &mut Vec<Row>,
        processed: &mut Processed,
        around: Around<'_>,
    ) -> Result<(), PluginError> {
        let Some(divided) = &mut self.divided else {
            let across = around.across(rows, |_| true);
            return self.through(batch, rows, processed, across);
        };
        self.original.clear();
        std::mem::swap(&mut self.original, rows);
        divided
            .process(batch, &self.original, rows, processed, around)
            .inspect_err(|_| rows.clone_from(&self.original))
    }

    /// The same, of one that isn't divided. `across` are the transactions of which it has had rows of the batch before, and
    /// will have rows behind these.
    pub(super) fn through(
        &mut self,
        batch: &mut Batch,
        rows: &mut Vec<Row>,
        processed: &mut Processed,
        across: Across,
    ) -> Result<(), PluginError> {
        self.original.clear();
        std::mem::swap(&mut self.original, rows);
        self.left.clear();
        let mut counts = Counts::default();
        let (changes, extent) = (batch.changes(), batch.extent());
        if let Err(error) = self.run(batch, rows, across, &mut counts) {
            batch.take_back(changes);
            batch.cut(extent);
            rows.clear();
            rows.extend_from_slice(&self.original);
            return Err(error);
        }
        processed.counts += counts;
        if !self.left.is_empty() {
            self.set_aside(&mut processed.aside);
        }
        Ok(())
    }

    /// The same, where no other row of any list refers to a tuple of these: they are changed in place.
    /// [`Self::original`] is what came in [`Batch::as_it_came`] then.
    ///
    /// # Errors
    ///
    /// As [`Self::process`].
    pub fn process_in_place(
        &mut self,
        batch: &mut Batch,
        rows: &mut Vec<Row>,
        processed: &mut Processed,
    ) -> Result<(), PluginError> {
        self.process_in_place_behind(batch, rows, processed, &mut NoneWaits)
    }

    /// [`Self::process_in_place`] and [`Self::process_behind`].
    ///
    /// # Errors
    ///
    /// As [`Self::process_behind`].
    pub fn process_in_place_behind(
        &mut self,
        batch: &mut Batch,
        rows: &mut Vec<Row>,
        processed: &mut Processed,
        waits: &mut dyn Waits,
    ) -> Result<(), PluginError> {
        // The threads of one that is divided share the batch.
        batch.change_in_place(self.divided.is_none());
        let done = self.process_behind(batch, rows, processed, waits);
        batch.change_in_place(false);
        done
    }

    /// From `original` to `rows`, which are empty.
    fn run(
        &mut self,
        batch: &mut Batch,
        rows: &mut Vec<Row>,
        across: Across,
        counts: &mut Counts,
    ) -> Result<(), PluginError> {
        let mut fanned_out = false;
        // Whether the rows are no longer the original ones: then they are in `between`.
        let mut changed = fill_all(batch, &self.original, &mut self.between);
        for (at, stage) in self.stages.iter_mut().enumerate() {
            self.left_of_stage.clear();
            let input = if changed { &self.between } else { &self.original };
            let done = stage.process(batch, input, across, rows, &mut self.left_of_stage);
            self.counts[at] += stage.counts();
            *counts += stage.counts();
            self.left.extend(self.left_of_stage.drain(..).map(|left| (at, left)));
            match done? {
                Done::PassedBy => continue,
                Done::Called { fanned_out: any } => {
                    fanned_out |= any;
                    // The next one is to know them apart, by their random bytes too.
                    if any {
                        number(rows);
                    }
                }
            }
            std::mem::swap(rows, &mut self.between);
            changed = true;
        }
        if changed {
            std::mem::swap(rows, &mut self.between);
        } else {
            std::mem::swap(rows, &mut self.original);
        }
        if self.wants_messages {
            drop_messages(batch, &self.original, rows);
            rows.retain(|row| row.op != Op::Message);
        }
        if fanned_out {
            number(rows);
        }
        Ok(())
    }

    /// Tells which changes left, each with its row as it came in.
    #[cold]
    fn set_aside(&mut self, aside: &mut Vec<Aside>) {
        let change = |row: &Row| (row.transaction, row.ordinal);
        let came: FxHashMap<(u32, u64), Row> = self.original.iter().map(|row| (change(row), *row)).collect();
        let before = aside.len();
        let keeping = self.stages.iter().position(|stage| stage.keeper.keeps());
        let keeping = keeping.unwrap_or(usize::MAX);
        for (at, left) in self.left.drain(..) {
            let (Some(cause), Some(row)) = (left.cause, came.get(&left.change)) else {
                continue;
            };
            let plugin = self.stages[at].plugin();
            aside.push(Aside {
                row: *row,
                plugin: plugin.name.clone(),
                version: plugin.module.manifest().version.clone(),
                hash: plugin.module.hash_hex().to_owned(),
                place: left.place,
                traces: Traces {
                    stage: at,
                    left: keeping < at || left.accepted && keeping == at,
                    met: keeping <= at,
                },
                cause,
            });
        }
        aside[before..].sort_by_key(|aside| change(&aside.row));
    }
}

/// What a plugin dropped of the messages that came is gone for those too who read messages beside the rows.
fn drop_messages(batch: &mut Batch, came: &[Row], rows: &[Row]) {
    if batch.message_rows.is_empty() {
        return;
    }
    let is_message = |row: &&Row| row.op == Op::Message;
    let mut gone: FxHashSet<u32> = came.iter().filter(is_message).map(|row| row.extra).collect();
    for row in rows.iter().filter(is_message) {
        gone.remove(&row.extra);
    }
    batch.message_rows.retain(|row| !gone.contains(&row.extra));
}

/// Numbers the rows that were made of one change, so that each has an id of its own. The stages see to it that there
/// aren't more of them than numbers.
fn number(rows: &mut [Row]) {
    let mut last = None;
    let mut count = 0u16;
    for row in rows {
        let change = (row.transaction, row.ordinal);
        count = if last == Some(change) {
            count.saturating_add(1)
        } else {
            0
        };
        row.fan_out = count;
        last = Some(change);
    }
}
