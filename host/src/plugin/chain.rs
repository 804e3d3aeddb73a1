//! The plugins of a route, in order, with an instance of each for one lane.

use super::compiled::Module;
use super::engine::Engine;
use super::error::{FaultKind, PluginError};
use super::fill::fill_from_old;
use super::instance::Mode;
use super::metrics::GuestMetrics;
use super::plan::Plan;
use super::stage::Stage;
use super::state::Kept;
use crate::batch::{Batch, Relation, Row};
use crate::config::{FilterMode, Limits};
use rustc_hash::FxHashMap;
use std::sync::Arc;

/// A plugin as it is taken up: code, configuration, limits.
#[derive(Clone, Debug)]
pub struct PluginVersion {
    pub name: String,
    pub module: Arc<Module>,
    pub config: serde_json::Value,
    pub limits: Limits,
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

/// One lane's instances of a route's plugins. After a [`PluginError::Fault`] make a new one: the broken instance isn't
/// called again.
#[derive(Debug)]
pub struct Chain {
    pub(super) stages: Vec<Stage>,
    stateful: bool,
    /// By the relation's index.
    outcomes: FxHashMap<u32, ChainOutcome>,
    /// The rows as they came, to be put back where a stage fails.
    original: Vec<Row>,
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
        Ok(Self {
            stateful: plugins.iter().any(|plugin| plugin.module.manifest().keeps_state()),
            stages: stages.collect::<Result<_, _>>()?,
            outcomes: FxHashMap::default(),
            original: Vec::new(),
        })
    }

    /// Whether a plugin keeps something from row to row: then one lane has to see all of them.
    pub fn is_stateful(&self) -> bool {
        self.stateful
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
    /// passed by may as well not come here at all.
    ///
    /// # Errors
    ///
    /// A row's own error, or a plugin's fault. Then `rows` are as they were, so that a retry is exact.
    pub fn process(&mut self, batch: &mut Batch, rows: &mut Vec<Row>) -> Result<(), PluginError> {
        if self.stages.is_empty() || rows.is_empty() {
            return Ok(());
        }
        self.original.clear();
        self.original.extend_from_slice(rows);
        let processed = self.run(batch, rows);
        if processed.is_err() {
            rows.clear();
            rows.extend_from_slice(&self.original);
        }
        processed
    }

    fn run(&mut self, batch: &mut Batch, rows: &mut Vec<Row>) -> Result<(), PluginError> {
        for row in rows.iter_mut() {
            fill_from_old(batch, row);
        }
        let mut fanned_out = None;
        for (at, stage) in self.stages.iter_mut().enumerate() {
            if stage.process(batch, rows)? {
                fanned_out = Some(at);
            }
        }
        if let Some(stage) = fanned_out {
            number(rows).map_err(|()| {
                let what = "plugins make more than 65,536 rows of one change".to_owned();
                PluginError::Fault(self.stages[stage].fault(FaultKind::Breach, what))
            })?;
        }
        Ok(())
    }

    /// Whether a guest has taken more than half of the memory that it may have: time for a new chain, at a commit, before
    /// it runs into its limit.
    pub fn is_worn(&self) -> bool {
        self.stages.iter().any(Stage::is_worn)
    }

    /// Hands over what the plugins counted since the last time.
    pub fn take_metrics(&mut self, into: &GuestMetrics) {
        for stage in &mut self.stages {
            stage.take_metrics(into);
        }
    }
}

/// Numbers the rows that were made of one change, so that each has an id of its own.
fn number(rows: &mut [Row]) -> Result<(), ()> {
    let mut last = None;
    let mut count = 0u32;
    for row in rows {
        let change = (row.transaction, row.ordinal);
        count = if last == Some(change) { count + 1 } else { 0 };
        row.fan_out = u16::try_from(count).map_err(|_| ())?;
        last = Some(change);
    }
    Ok(())
}
