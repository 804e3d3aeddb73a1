//! What a stage tells of itself and its plugin.

use super::Stage;
use crate::batch::Relation;
use crate::plugin::GuestMetrics;
use crate::plugin::aside::Counts;
use crate::plugin::chain::{PluginVersion, Projection};
use crate::plugin::plan::Plan;

impl Stage {
    /// Hands over what the plugin counted since the last time.
    pub fn take_metrics(&mut self, into: &GuestMetrics) {
        self.instance.take_metrics(into);
    }

    /// `None` where the plugin wasn't asked, or isn't called for it.
    pub fn projection(&self, relation: &Relation) -> Option<Projection> {
        let Plan::Use(plan) = &self.plans[*self.plan_of.get(&relation.index)? as usize] else {
            return None;
        };
        let output = &plan.outputs[0];
        let reads = plan
            .read
            .iter()
            .map(|read| plan.input.columns[read.column].name.clone());
        let columns = output.relation.columns.iter().zip(&output.columns);
        let writes = columns
            .filter(|(_, of)| of.writable)
            .map(|(column, _)| column.name.clone());
        Some(Projection {
            reads: reads.collect(),
            writes: writes.collect(),
        })
    }

    pub fn fuel_used(&mut self) -> u64 {
        self.instance.fuel_used()
    }

    pub fn memory_bytes(&self) -> usize {
        self.instance.memory_bytes()
    }

    pub fn plugin(&self) -> &PluginVersion {
        &self.plugin
    }

    pub fn wants_messages(&self) -> bool {
        self.encoder.wants.messages
    }

    pub fn wants_truncates(&self) -> bool {
        self.encoder.wants.truncates
    }

    /// Of the last batch.
    pub fn counts(&self) -> Counts {
        self.counts
    }
}
