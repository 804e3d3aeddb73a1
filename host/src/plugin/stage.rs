//! One plugin of a chain: plans its relations, calls it, applies what it answers.

use super::chain::PluginVersion;
use super::encode::{Encoder, Images};
use super::engine::Engine;
use super::error::{self, FaultKind, PluginError, RowError, RowErrorKind, RowPlace, guest_text};
use super::filter::{self, Unapplied};
use super::instance::{Failed, Instance, Mode};
use super::manifest::Kind;
use super::plan::{self, Entry, Plan};
use super::schema_reply::{self, SchemaReply};
use super::state::{Keeper, Kept};
use super::transform;
use crate::batch::{Batch, Op, Relation, Row, Truncate};
use crate::config::FilterMode;
use rustc_hash::FxHashMap;
use std::sync::Arc;

#[derive(Debug)]
pub(crate) struct Stage {
    pub(super) engine: Arc<Engine>,
    pub(super) plugin: PluginVersion,
    pub(super) use_as: Mode,
    pub(super) instance: Instance,
    /// What the plugin keeps from call to call.
    pub(super) keeper: Keeper,
    kind: Kind,
    images: Images,
    mode: FilterMode,
    plans: Vec<Plan>,
    /// Index into `plans` by the relation's index.
    plan_of: FxHashMap<u32, u32>,
    /// The version of a table that was planned last, by its OID.
    version_of: FxHashMap<u32, u32>,
    /// By the relation's index in the batch at hand.
    entries: Vec<Entry>,
    pub(super) encoder: Encoder,
    scratch: transform::Scratch,
    out: Vec<Row>,
}

impl Stage {
    pub fn new(
        engine: &Arc<Engine>,
        plugin: &PluginVersion,
        mode: FilterMode,
        use_as: Mode,
        kept: Kept,
    ) -> Result<Self, PluginError> {
        let instance = Instance::new(engine, plugin, use_as, &kept)?;
        let kind = plugin.module.manifest().kind;
        Ok(Self {
            engine: Arc::clone(engine),
            plugin: plugin.clone(),
            use_as,
            instance,
            keeper: Keeper::new(plugin.module.manifest(), kept),
            kind,
            images: match (kind, mode) {
                (Kind::Transform, _) => Images::All,
                (Kind::Filter, FilterMode::Membership) => Images::Judged,
                (Kind::Filter, FilterMode::Event) => Images::Newest,
            },
            mode,
            plans: Vec::new(),
            plan_of: FxHashMap::default(),
            version_of: FxHashMap::default(),
            entries: Vec::new(),
            encoder: Encoder::new(plugin.module.imports_random),
            scratch: transform::Scratch::default(),
            out: Vec::new(),
        })
    }

    pub fn take_metrics(&mut self, into: &super::GuestMetrics) {
        self.instance.take_metrics(into);
    }

    pub fn fault(&mut self, kind: FaultKind, message: String) -> Box<error::Fault> {
        self.instance.fault(kind, message)
    }

    pub fn is_worn(&self) -> bool {
        self.instance.is_worn()
    }

    /// What the plugin makes of a relation; asks it the first time.
    pub fn plan(&mut self, relation: &Arc<Relation>) -> Result<&Plan, PluginError> {
        let at = self.plan_index(relation)?;
        Ok(&self.plans[at as usize])
    }

    fn plan_index(&mut self, relation: &Arc<Relation>) -> Result<u32, PluginError> {
        if let Some(at) = self.plan_of.get(&relation.index) {
            return Ok(*at);
        }
        let mut request = Vec::new();
        plan::request(relation, self.version_of.get(&relation.oid).copied(), &mut request);
        let plan = self.ask(relation, &request)?;
        self.keeper.announced(&request);
        let at = self.plans.len() as u32;
        self.plans.push(plan);
        self.plan_of.insert(relation.index, at);
        self.version_of.insert(relation.oid, relation.version);
        Ok(at)
    }

    fn ask(&mut self, relation: &Arc<Relation>, request: &[u8]) -> Result<Plan, PluginError> {
        let table = relation.full_name();
        let name = self.instance.name.clone();
        let refused = |cause: String, help: String| {
            let headline = format!("plugin {name} can't work on table {table}");
            PluginError::refused_because(error::SCHEMA, headline, cause, help)
        };
        let range = match self.instance.schema(request) {
            Ok(range) => range,
            Err(Failed::Fault(fault)) => return Err(PluginError::Fault(fault)),
            Err(Failed::TooLarge) => {
                let cause = "its columns don't fit into the plugin's memory".to_owned();
                return Err(refused(cause, format!("raise `limits: memory` of plugin {name}")));
            }
        };
        let reply = schema_reply::parse(self.instance.reply(range), relation.columns.len());
        let mend = || format!("take {table} out of the routes of plugin {name}, or mend what the plugin names");
        match reply {
            Err(bad) => Err(PluginError::Fault(
                self.instance.fault(FaultKind::BadReply, bad.to_string()),
            )),
            Ok(SchemaReply::PassBy) => Ok(Plan::PassBy),
            Ok(SchemaReply::Drop) => Ok(Plan::Drop),
            Ok(SchemaReply::Refuse(reason) | SchemaReply::Failed(reason)) => {
                Err(refused(guest_text(reason.as_bytes()), mend()))
            }
            Ok(SchemaReply::Use(wishes)) => plan::build(self.kind, &wishes, relation, &self.engine.shapes)
                .map(|plan| Plan::Use(Box::new(plan)))
                .map_err(|unmet| refused(unmet.what, unmet.help)),
        }
    }

    /// Takes rows through the plugin. Where it fails, `rows` are as they were. Tells whether a row was fanned out.
    pub fn process(&mut self, batch: &mut Batch, rows: &mut Vec<Row>) -> Result<bool, PluginError> {
        if !self.map_relations(batch, rows)? {
            return Ok(false);
        }
        self.out.clear();
        let mut fanned_out = false;
        let mut from = 0;
        while from < rows.len() {
            let filled = self
                .encoder
                .fill(batch, rows, from, &self.entries, &self.plans, self.images);
            let to = match filled {
                Ok(to) => to,
                Err(bad) => return Err(self.row_error(batch, Some(&rows[bad.row]), bad.kind)),
            };
            fanned_out |= self.call(batch, &rows[from..to], rows.get(to).map(|row| row.transaction))?;
            from = to;
        }
        self.map_truncates(batch);
        std::mem::swap(rows, &mut self.out);
        Ok(fanned_out)
    }

    fn call(&mut self, batch: &mut Batch, rows: &[Row], next: Option<u32>) -> Result<bool, PluginError> {
        if self.encoder.images == 0 {
            let kept = rows.iter().zip(&self.encoder.marks);
            self.out.extend(
                kept.filter(|(_, marks)| **marks & super::encode::mark::DROP == 0)
                    .map(|(row, _)| *row),
            );
            return Ok(false);
        }
        let range = match self.instance.batch(&mut self.encoder, batch, next) {
            Ok(range) => range,
            Err(Failed::TooLarge) => {
                let bytes = self.encoder.body.len();
                return Err(self.row_error(batch, self.row(rows, 0), RowErrorKind::TooLarge { bytes }));
            }
            Err(Failed::Fault(mut fault)) => {
                let at_work = matches!(fault.kind, FaultKind::Trap | FaultKind::Timeout | FaultKind::Memory);
                let image = at_work.then(|| self.instance.row_at_work()).flatten();
                fault.row = image
                    .and_then(|image| self.row(rows, image))
                    .map(|row| place(batch, row));
                return Err(PluginError::Fault(fault));
            }
        };
        let reply = self.instance.reply(range);
        let applied = match self.kind {
            Kind::Filter => filter::apply(reply, &self.encoder, rows, self.mode, batch, &mut self.out).map(|()| false),
            Kind::Transform => transform::apply(
                reply,
                &self.encoder,
                rows,
                &self.plans,
                &mut self.entries,
                &mut self.scratch,
                batch,
                &mut self.out,
            ),
        };
        let fanned_out = applied.map_err(|unapplied| self.unapplied(batch, rows, unapplied))?;
        self.accepted()?;
        Ok(fanned_out)
    }

    /// The row of the call that a guest row belongs to.
    fn row<'a>(&self, rows: &'a [Row], image: u32) -> Option<&'a Row> {
        self.encoder.row_of_image(image).and_then(|at| rows.get(at))
    }

    fn row_error(&self, batch: &Batch, row: Option<&Row>, kind: RowErrorKind) -> PluginError {
        let row = row.map_or_else(
            || RowPlace {
                relation: "?".to_owned(),
                commit_lsn: crate::batch::Lsn(0),
                ordinal: 0,
            },
            |row| place(batch, row),
        );
        PluginError::Row(Box::new(RowError {
            plugin: self.instance.name.clone(),
            row,
            kind,
        }))
    }

    fn unapplied(&mut self, batch: &Batch, rows: &[Row], unapplied: Unapplied) -> PluginError {
        let (kind, message, image) = match unapplied {
            Unapplied::Row { image, kind } => return self.row_error(batch, self.row(rows, image), kind),
            Unapplied::Bad(bad) => (FaultKind::BadReply, bad.to_string(), None),
            Unapplied::Breach { image, what } => (FaultKind::Breach, what, Some(image)),
            Unapplied::Failed {
                retryable: true,
                message,
            } => (FaultKind::Retryable, message, None),
            Unapplied::Failed {
                retryable: false,
                message,
            } => (FaultKind::Fatal, message, None),
        };
        let mut fault = self.instance.fault(kind, message);
        fault.row = image
            .and_then(|image| self.row(rows, image))
            .map(|row| place(batch, row));
        PluginError::Fault(fault)
    }

    /// Finds the plans of the rows' relations. Tells whether any row is to be looked at.
    fn map_relations(&mut self, batch: &Batch, rows: &[Row]) -> Result<bool, PluginError> {
        self.entries.clear();
        self.entries.resize(batch.relations.len(), Entry::UNKNOWN);
        let mut any = false;
        for row in rows {
            if matches!(row.op, Op::Truncate | Op::Message) {
                any |= row.op == Op::Truncate;
                continue;
            }
            if self.entries[row.relation as usize].plan == Entry::UNKNOWN.plan {
                let plan = self.plan_index(&batch.relations[row.relation as usize])?;
                self.entries[row.relation as usize].plan = plan;
                any |= !matches!(self.plans[plan as usize], Plan::PassBy);
            }
        }
        Ok(any)
    }

    /// A truncate of a table is one of all that was made of it.
    fn map_truncates(&mut self, batch: &mut Batch) {
        let (plans, plan_of) = (&self.plans, &self.plan_of);
        self.out.retain_mut(|row| {
            if row.op != Op::Truncate {
                return true;
            }
            let Some(truncate) = batch.truncates.get(row.extra as usize) else {
                return true;
            };
            let before = truncate.clone();
            let mut relations = Vec::with_capacity(before.relations.len());
            for index in &before.relations {
                let known = plan_of.get(&batch.relations[*index as usize].index);
                match known.map(|at| &plans[*at as usize]) {
                    None | Some(Plan::PassBy) => relations.push(*index),
                    Some(Plan::Drop) => {}
                    Some(Plan::Use(plan)) => {
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

fn place(batch: &Batch, row: &Row) -> RowPlace {
    RowPlace {
        relation: batch.relation(row).full_name(),
        commit_lsn: batch.transaction(row).commit_lsn,
        ordinal: row.ordinal,
    }
}
