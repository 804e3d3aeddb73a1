//! What a plugin makes of each relation, and a new instance in place of a broken one.

use super::Stage;
use crate::batch::{Batch, Op, Relation, Row};
use crate::plugin::error::{self, FaultKind, PluginError, guest_text};
use crate::plugin::instance::{Failed, Instance};
use crate::plugin::plan::{self, Entry, Plan};
use crate::plugin::schema_reply::{self, SchemaReply};
use crate::plugin::state::Kept;
use std::sync::Arc;

/// What the plugin said of a relation.
#[derive(Debug)]
pub(super) struct Asked {
    relation: Arc<Relation>,
    reply: SchemaReply,
    /// The instance that was told of it last.
    generation: u32,
}

/// What there is among rows.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Whether any row is to be looked at.
    pub any: bool,
    pub truncates: bool,
}

impl Stage {
    /// What the plugin makes of a relation; asks it the first time.
    pub fn plan(&mut self, relation: &Arc<Relation>) -> Result<&Plan, PluginError> {
        let at = self.plan_index(relation)?;
        Ok(&self.plans[at as usize])
    }

    fn plan_index(&mut self, relation: &Arc<Relation>) -> Result<u32, PluginError> {
        if let Some(at) = self.plan_of.get(&relation.index) {
            let at = *at;
            if self.asked[at as usize].generation != self.generation {
                self.announce(at)?;
            }
            return Ok(at);
        }
        let reply = self.ask(relation)?;
        let plan = match &reply {
            SchemaReply::PassBy => Plan::PassBy,
            SchemaReply::Drop => Plan::Drop,
            SchemaReply::Refuse(reason) | SchemaReply::Failed(reason) => {
                let name = &self.plugin.name;
                let table = relation.full_name();
                let mend = format!("take {table} out of the routes of plugin {name}, or mend what the plugin names");
                return Err(self.refused(relation, guest_text(reason.as_bytes()), mend));
            }
            SchemaReply::Use(wishes) => plan::build(self.kind, wishes, relation, &self.engine.shapes)
                .map(|plan| Plan::Use(Box::new(plan)))
                .map_err(|unmet| self.refused(relation, unmet.what, unmet.help))?,
        };
        let at = self.plans.len() as u32;
        self.plans.push(plan);
        self.asked.push(Asked {
            relation: Arc::clone(relation),
            reply,
            generation: self.generation,
        });
        self.plan_of.insert(relation.index, at);
        Ok(at)
    }

    fn refused(&self, relation: &Relation, cause: String, help: String) -> PluginError {
        let headline = format!(
            "plugin {} can't work on table {}",
            self.plugin.name,
            relation.full_name()
        );
        PluginError::refused_because(error::SCHEMA, headline, cause, help)
    }

    fn ask(&mut self, relation: &Relation) -> Result<SchemaReply, PluginError> {
        let mut request = Vec::new();
        plan::request(relation, self.version_of.get(&relation.oid).copied(), &mut request);
        let range = match self.instance.schema(&request) {
            Ok(range) => range,
            Err(Failed::Fault(fault)) => return Err(PluginError::Fault(fault)),
            Err(Failed::TooLarge) => {
                let cause = "its columns don't fit into the plugin's memory".to_owned();
                let help = format!("raise `limits: memory` of plugin {}", self.plugin.name);
                return Err(self.refused(relation, cause, help));
            }
        };
        self.version_of.insert(relation.oid, relation.version);
        let reply = schema_reply::parse(self.instance.reply(range), relation.columns.len());
        let reply =
            reply.map_err(|bad| PluginError::Fault(self.instance.fault(FaultKind::BadReply, bad.to_string())))?;
        self.keeper.announced(&request);
        Ok(reply)
    }

    /// Tells a new instance of a relation that an earlier one was told of.
    #[cold]
    fn announce(&mut self, at: u32) -> Result<(), PluginError> {
        let relation = Arc::clone(&self.asked[at as usize].relation);
        let reply = self.ask(&relation)?;
        let asked = &mut self.asked[at as usize];
        if reply != asked.reply {
            let table = relation.full_name();
            let what = format!("a new instance of it wants something else of {table} than the one before");
            return Err(PluginError::Fault(self.instance.fault(FaultKind::Breach, what)));
        }
        asked.generation = self.generation;
        Ok(())
    }

    /// Takes a new instance in place of the broken one, and tells it of the relations of the batch at hand. A plugin
    /// that doesn't start again ends the chain.
    #[cold]
    pub(in crate::plugin) fn renew(&mut self) -> Result<(), PluginError> {
        let entries = self.instance.entries();
        let state = self.keeper.kept.state.clone();
        self.renew_with(Kept { state, entries })
    }

    /// The same, with what is given for what it has kept.
    #[cold]
    pub(in crate::plugin) fn renew_with(&mut self, kept: Kept) -> Result<(), PluginError> {
        self.keeper.kept = kept;
        let mut instance = Instance::new(&self.engine, &self.plugin, self.use_as, &self.keeper.kept)?;
        for call in self.keeper.calls() {
            instance.again(&call)?;
        }
        instance.inherit_metrics(&mut self.instance);
        self.instance = instance;
        self.worked = false;
        self.counts.instances_made += 1;
        if self.keeper.has_state {
            // It has been told of the relations with the calls.
            return Ok(());
        }
        self.generation += 1;
        self.version_of.clear();
        for at in 0..self.entries.len() {
            let plan = self.entries[at].plan;
            if plan != Entry::UNKNOWN.plan && self.asked[plan as usize].generation != self.generation {
                self.announce(plan)?;
            }
        }
        Ok(())
    }

    /// Finds the plans of the rows' relations.
    pub(super) fn map_relations(&mut self, batch: &Batch, rows: &[Row]) -> Result<Found, PluginError> {
        self.entries.clear();
        self.entries.resize(batch.relations.len(), Entry::UNKNOWN);
        let mut found = Found::default();
        // Its plan is known: mostly all rows are of one relation.
        let mut last = u32::MAX;
        for row in rows {
            if row.relation == last && row.op.is_of_a_table() {
                continue;
            }
            match row.op {
                Op::Truncate => {
                    found.any = true;
                    found.truncates = true;
                    let truncate = batch.truncates.get(row.extra as usize);
                    // Also where the plugin gets none: where they go is for the tables' plans to say.
                    for at in truncate.iter().flat_map(|truncate| &truncate.relations) {
                        self.map_relation(batch, *at)?;
                    }
                }
                Op::Message => found.any |= self.encoder.wants.messages,
                _ => {
                    last = row.relation;
                    if self.entries[row.relation as usize].plan == Entry::UNKNOWN.plan {
                        found.any |= self.map_relation(batch, row.relation)?;
                    }
                }
            }
        }
        Ok(found)
    }

    /// Tells whether its rows are to be looked at.
    fn map_relation(&mut self, batch: &Batch, at: u32) -> Result<bool, PluginError> {
        let plan = self.plan_index(&batch.relations[at as usize])?;
        self.entries[at as usize].plan = plan;
        Ok(!matches!(self.plans[plan as usize], Plan::PassBy))
    }
}
