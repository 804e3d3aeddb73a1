//! What a chain tells of itself: what its plugins read, count, take and use, and where they count their faults.

use super::Chain;
use crate::batch::Relation;
use crate::plugin::aside::Counts;
use crate::plugin::breaker::Faults;
use crate::plugin::error::PluginError;
use crate::plugin::manifest::Kind;
use crate::plugin::metrics::GuestMetrics;
use crate::plugin::plan::Plan;
use crate::plugin::split::Split;
use crate::plugin::stage::Stage;
use std::sync::Arc;

/// The columns that a plugin works on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Projection {
    pub reads: Vec<String>,
    /// Of its first output.
    pub writes: Vec<String>,
}

impl Chain {
    /// Whether a plugin asks for logical messages. Without one, there is no use in sending them through the chain.
    pub fn wants_messages(&self) -> bool {
        self.wants_messages
    }

    /// Whether a plugin asks for truncates: it may keep them back.
    pub fn wants_truncates(&self) -> bool {
        self.wants_truncates
    }

    /// What has happened at each plugin since the chain began, failed calls included.
    pub fn counts(&self) -> impl Iterator<Item = (&str, Counts)> {
        let names = self.first().stages.iter().map(|stage| stage.plugin().name.as_str());
        let of_stage = |at: usize| {
            let mut sum = Counts::default();
            self.undivided().for_each(|chain| sum += chain.counts[at]);
            sum
        };
        names.enumerate().map(move |(at, name)| (name, of_stage(at)))
    }

    /// What each plugin reads and writes of a relation that [`Self::relation`] was asked about; a plugin that isn't
    /// called for it is left out.
    pub fn projections(&self, relation: &Relation) -> Vec<Projection> {
        let stages = self.first().stages.iter();
        stages.filter_map(|stage| stage.projection(relation)).collect()
    }

    /// The filters of a chain that isn't divided, each with the columns that it reads of a relation, by their names there.
    ///
    /// # Errors
    ///
    /// As [`Self::relation`].
    pub fn filters_read(&mut self, relation: &Arc<Relation>) -> Result<Vec<(String, Vec<String>)>, PluginError> {
        let mut relations = vec![Arc::clone(relation)];
        let mut filters = Vec::new();
        for stage in &mut self.stages {
            let is_filter = stage.plugin().module.manifest().kind == Kind::Filter;
            let name = stage.plugin().name.clone();
            let mut made = Vec::with_capacity(relations.len());
            for relation in &relations {
                match stage.plan(relation)? {
                    Plan::PassBy => made.push(Arc::clone(relation)),
                    Plan::Drop => {}
                    Plan::Use(plan) => {
                        made.extend(plan.outputs.iter().map(|output| Arc::clone(&output.relation)));
                        let column = |at: usize| plan.input.columns[at].name.clone();
                        let reads = plan.read.iter().map(|read| column(read.column));
                        filters.extend(is_filter.then(|| (name.clone(), reads.collect())));
                    }
                }
            }
            relations = made;
        }
        Ok(filters)
    }

    /// Measures from here on where the time of calls goes.
    pub fn start_clocks(&mut self) {
        self.all_stages().for_each(|stage| stage.clock.start());
    }

    /// What the calls of each plugin took since the last time; nothing where no clock was started.
    pub fn take_splits(&mut self) -> impl Iterator<Item = Split> {
        self.all_stages().map(|stage| stage.clock.take())
    }

    /// Fuel of all calls so far, where the engine is a metered one.
    pub fn fuel_used(&mut self) -> u64 {
        self.all_stages().map(Stage::fuel_used).sum()
    }

    /// Memory of all guests now.
    pub fn memory_bytes(&self) -> usize {
        let stages = self.undivided().flat_map(|chain| &chain.stages);
        stages.map(Stage::memory_bytes).sum()
    }

    /// Whether a fault is an error at once, whatever the plugins' policies are.
    pub(crate) fn strict(&mut self, strict: bool) {
        self.all_stages().for_each(|stage| stage.strict(strict));
    }

    /// Where its plugins count their faults.
    pub fn faults(&self) -> Faults {
        let breakers = self.first().stages.iter().map(|stage| Arc::clone(&stage.breaker));
        Faults(breakers.collect())
    }

    /// Lets its plugins count their faults together with those of another chain of the same plugins.
    pub fn count_faults_in(&mut self, faults: &Faults) {
        let stages = self.all_stages().zip(faults.0.iter().cycle());
        stages.for_each(|(stage, breaker)| stage.breaker = Arc::clone(breaker));
    }

    /// A plugin breaks too often where all of its lanes, or all of its divisions, together do.
    pub fn count_faults_together(chains: &mut [Self]) {
        if let Some((first, others)) = chains.split_first_mut() {
            let faults = first.faults();
            others.iter_mut().for_each(|other| other.count_faults_in(&faults));
        }
    }

    /// Hands over what the plugins counted since the last time.
    pub fn take_metrics(&mut self, into: &GuestMetrics) {
        self.all_stages().for_each(|stage| stage.take_metrics(into));
    }
}
