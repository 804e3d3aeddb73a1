//! Truncates follow the shapes that a plugin gives to tables.

use super::Stage;
use crate::batch::{Batch, Op, Truncate};
use crate::plugin::plan::Plan;

impl Stage {
    /// A truncate of a table is one of all that was made of it. Those from `sent` on the plugin has sent somewhere itself.
    pub(super) fn map_truncates(&mut self, batch: &mut Batch, sent: usize) {
        let (plans, plan_of) = (&self.plans, &self.plan_of);
        self.out.retain_mut(|row| {
            if row.op != Op::Truncate || row.extra as usize >= sent {
                return true;
            }
            let Some(truncate) = batch.truncates.get(row.extra as usize) else {
                return true;
            };
            let before = truncate.clone();
            let mut relations = Vec::with_capacity(before.relations.len());
            for index in &before.relations {
                // Each of them was asked about with the batch's rows.
                let plan = plan_of[&batch.relations[*index as usize].index];
                match &plans[plan as usize] {
                    Plan::PassBy => relations.push(*index),
                    Plan::Drop => {}
                    Plan::Use(plan) => {
                        relations.extend(plan.outputs.iter().map(|output| batch.relation_index(&output.relation)));
                    }
                }
            }
            if relations.is_empty() {
                return false;
            }
            if relations != before.relations {
                row.extra = batch.truncates.len() as u32;
                batch.truncates.push(Truncate { relations, ..before });
            }
            true
        });
    }
}
