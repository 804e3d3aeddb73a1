//! One plugin of a chain: calls it with the rows of a batch, applies what it answers.

mod again;
mod isolate;
mod plans;
mod settle;
mod truncate;

use super::aside::{AsideCause, Counts};
use super::breaker::Breaker;
use super::chain::{PluginVersion, Projection};
use super::encode::{Encoder, Images, Wants, mark};
use super::engine::Engine;
use super::error::{self, Fault, FaultKind, PluginError, RowError, RowErrorKind, RowPlace};
use super::filter::{self, Unapplied};
use super::instance::{Failed, Instance, Mode};
use super::manifest::Kind;
use super::metrics::Metric;
use super::plan::{Entry, Plan};
use super::refused::Refused;
use super::split::Clock;
use super::state::{Keeper, Kept};
use super::transform;
use crate::batch::{Batch, Op, Relation, Row};
use crate::config::{FilterMode, OnError};
use plans::Asked;
use rowmill_abi::manifest;
use rustc_hash::{FxHashMap, FxHashSet};
use std::ops::Range;
use std::sync::{Arc, Mutex};

#[derive(Debug)]
pub(crate) struct Stage {
    /// The policy in the place of which it stops, while it is strict.
    lenient: Option<crate::config::OnFault>,
    pub(super) engine: Arc<Engine>,
    pub(super) plugin: PluginVersion,
    pub(super) use_as: Mode,
    pub(super) instance: Instance,
    /// What the plugin keeps from call to call.
    pub(super) keeper: Keeper,
    /// What the plugin had counted at each [`Self::save`].
    pub(super) saved_metrics: Vec<Vec<Metric>>,
    /// Counts the instances.
    generation: u32,
    kind: Kind,
    images: Images,
    mode: FilterMode,
    plans: Vec<Plan>,
    /// What each plan was made of.
    asked: Vec<Asked>,
    /// Index into `plans` by the relation's index.
    plan_of: FxHashMap<u32, u32>,
    /// The version of a table that the instance was told of last, by its OID.
    version_of: FxHashMap<u32, u32>,
    /// By the relation's index in the batch at hand.
    entries: Vec<Entry>,
    pub(super) encoder: Encoder,
    scratch: transform::Scratch,
    out: Vec<Row>,
    refused: Refused,
    /// Rows that it breaks on, ascending: index among the stage's rows.
    faulted: Vec<(usize, Box<Fault>)>,
    /// Changes that left in this stage: transaction and ordinal.
    left: FxHashSet<(u32, u64)>,
    /// Shared by the lanes and the divisions.
    pub(super) breaker: Arc<Mutex<Breaker>>,
    /// The transaction of what follows behind the rows at hand, where anything does.
    next: Option<u32>,
    /// Of the batch at hand.
    counts: Counts,
    pub(super) clock: Clock,
}

/// How rows went through a stage.
pub(crate) enum Done {
    /// Nothing of them is for the plugin: they go on as they are.
    PassedBy,
    Called {
        fanned_out: bool,
    },
}

/// A change that left the chain at this stage.
#[derive(Debug)]
pub(crate) struct Left {
    pub change: (u32, u64),
    pub place: RowPlace,
    /// Whether it may be in what the plugin keeps: a call with it was accepted.
    pub accepted: bool,
    /// `None` where the configuration says that it be dropped.
    pub cause: Option<AsideCause>,
}

/// A call that came to nothing: no row of it has gone on.
struct Broken {
    rows: Range<usize>,
    /// The row to blame, where the guest or the reply names one.
    hint: Option<usize>,
    /// The one row that the guest got, where it was one.
    only: Option<usize>,
    why: Why,
}

enum Why {
    Fault(Box<Fault>),
    /// The rows don't fit into the guest.
    TooLarge {
        bytes: usize,
    },
    /// It asks for the pipeline to stop.
    Stop(PluginError),
}

impl Stage {
    pub fn new(
        engine: &Arc<Engine>,
        plugin: &PluginVersion,
        mode: FilterMode,
        use_as: Mode,
        kept: Kept,
    ) -> Result<Self, PluginError> {
        super::config_schema::check(plugin)?;
        let instance = Instance::new(engine, plugin, use_as, &kept)?;
        let of_module = plugin.module.manifest();
        let asks = |feature: &str| of_module.features.iter().any(|asked| asked == feature);
        let pass = plugin.policies.on_error == OnError::Pass;
        let mut encoder = Encoder::new(plugin.module.imports_random);
        encoder.pass_refused = pass;
        encoder.wants = Wants {
            truncates: asks(manifest::FEATURE_TRUNCATES),
            messages: asks(manifest::FEATURE_MESSAGES),
        };
        Ok(Self {
            lenient: None,
            engine: Arc::clone(engine),
            plugin: plugin.clone(),
            use_as,
            instance,
            keeper: Keeper::new(plugin.module.manifest(), kept),
            saved_metrics: Vec::new(),
            generation: 0,
            kind: of_module.kind,
            images: match (of_module.kind, mode) {
                (Kind::Transform, _) => Images::All,
                (Kind::Filter, FilterMode::Membership) => Images::Judged,
                (Kind::Filter, FilterMode::Event) => Images::Newest,
            },
            mode,
            plans: Vec::new(),
            asked: Vec::new(),
            plan_of: FxHashMap::default(),
            version_of: FxHashMap::default(),
            entries: Vec::new(),
            encoder,
            scratch: transform::Scratch::default(),
            out: Vec::new(),
            refused: Refused {
                pass,
                ..Refused::default()
            },
            faulted: Vec::new(),
            left: FxHashSet::default(),
            breaker: Arc::new(Mutex::new(Breaker::new(plugin.policies.max_faults))),
            next: None,
            counts: Counts::default(),
            clock: Clock::default(),
        })
    }

    /// Hands over what the plugin counted since the last time.
    pub fn take_metrics(&mut self, into: &super::GuestMetrics) {
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

    /// Whether a fault is an error at once, whatever the policy is.
    pub fn strict(&mut self, strict: bool) {
        let policy = &mut self.plugin.policies.on_fault;
        if strict {
            self.lenient = Some(std::mem::replace(policy, crate::config::OnFault::Stop));
        } else if let Some(lenient) = self.lenient.take() {
            *policy = lenient;
        }
    }

    pub fn is_worn(&self) -> bool {
        self.instance.is_worn()
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

    /// Takes rows through the plugin: what is left of them goes to `out`, and changes that it doesn't take are appended
    /// to `left`. `around` are the transactions of what the plugin had of the batch just before, and of what is still to
    /// come of it.
    pub fn process(
        &mut self,
        batch: &mut Batch,
        rows: &[Row],
        around: (Option<u32>, Option<u32>),
        out: &mut Vec<Row>,
        left: &mut Vec<Left>,
    ) -> Result<Done, PluginError> {
        self.counts = Counts::default();
        (self.encoder.before, self.next) = around;
        if self.instance.is_dead() {
            self.entries.clear();
            self.renew()?;
        }
        let found = self.map_relations(batch, rows)?;
        if !found.any {
            return Ok(Done::PassedBy);
        }
        self.out.clear();
        self.refused.list.clear();
        self.faulted.clear();
        self.scratch.begin(self.plugin.limits.rows);
        let truncates = batch.truncates.len();
        let mut fanned_out = false;
        let mut from = 0;
        while from < rows.len() {
            from = match self.attempt(batch, rows, from..rows.len(), &mut fanned_out) {
                Ok(to) => to,
                Err(broken) => self.isolate(batch, rows, broken, &mut fanned_out)?,
            };
        }
        if fanned_out || !self.refused.list.is_empty() || !self.faulted.is_empty() {
            self.settle(batch, rows, fanned_out, left)?;
        }
        if found.truncates {
            self.map_truncates(batch, truncates);
        }
        std::mem::swap(out, &mut self.out);
        Ok(Done::Called { fanned_out })
    }

    /// One call, with as many of the rows as go into it. Returns where it ended. Where it comes to nothing, nothing of
    /// it is left.
    fn attempt(
        &mut self,
        batch: &mut Batch,
        rows: &[Row],
        of: Range<usize>,
        fanned_out: &mut bool,
    ) -> Result<usize, Box<Broken>> {
        let Range { start: from, end } = of;
        let (out, refused) = (self.out.len(), self.refused.list.len());
        let (rows_left, changes) = (self.scratch.rows_left, batch.changes());
        self.clock.begin();
        let to = self
            .encoder
            .fill(batch, &rows[..end], from, &self.entries, &self.plans, self.images);
        self.clock.encoded();
        let next = rows.get(to).map(|row| row.transaction).or(self.next);
        match self.call(batch, &rows[from..to], from, next) {
            Ok(fan_out) => {
                *fanned_out |= fan_out;
                self.refused.list.append(&mut self.encoder.refused);
                Ok(to)
            }
            Err((hint, why)) => {
                batch.take_back(changes);
                self.out.truncate(out);
                self.scratch.rows_left = rows_left;
                self.refused.list.truncate(refused);
                if self.keeper.keeps() {
                    // It may have counted what is tried again.
                    self.instance.kill();
                }
                Err(self.broken(from..to, hint, why))
            }
        }
    }

    #[cold]
    fn broken(&self, rows: Range<usize>, hint: Option<u32>, why: Why) -> Box<Broken> {
        let row = |image| self.encoder.row_of_image(image).map(|at| rows.start + at);
        let is_shipped = |marks: &&u8| **marks & mark::SHIPPED != 0;
        let is_one = self.encoder.marks.iter().filter(is_shipped).count() == 1;
        Box::new(Broken {
            hint: hint.and_then(row),
            only: if is_one { row(0) } else { None },
            rows,
            why,
        })
    }

    /// Calls the guest with what the encoder holds. The error has the guest row to blame, where that is known.
    fn call(
        &mut self,
        batch: &mut Batch,
        rows: &[Row],
        base: usize,
        next: Option<u32>,
    ) -> Result<bool, (Option<u32>, Why)> {
        if self.encoder.images == 0 {
            let kept = rows.iter().zip(&self.encoder.marks);
            self.out
                .extend(kept.filter(|(_, marks)| **marks & mark::DROP == 0).map(|(row, _)| *row));
            return Ok(false);
        }
        let range = match self.instance.batch(&mut self.encoder, batch, next) {
            Ok(range) => range,
            Err(Failed::TooLarge) => {
                let bytes = self.encoder.body.len();
                return Err((None, Why::TooLarge { bytes }));
            }
            Err(Failed::Fault(fault)) => {
                let at_work = matches!(fault.kind, FaultKind::Trap | FaultKind::Timeout | FaultKind::Memory);
                let image = at_work.then(|| self.instance.row_at_work()).flatten();
                return Err((image, Why::Fault(fault)));
            }
        };
        let bytes_in = self.encoder.head.len() + self.encoder.body.len();
        self.clock.called(bytes_in, range.len());
        self.refused.base = base;
        let reply = self.instance.reply(range);
        let (encoder, out, refused) = (&self.encoder, &mut self.out, &mut self.refused);
        let applied = match self.kind {
            Kind::Filter => filter::apply(reply, encoder, rows, self.mode, batch, out, refused).map(|()| false),
            Kind::Transform => transform::apply(
                reply,
                encoder,
                rows,
                &self.plans,
                &mut self.entries,
                &mut self.scratch,
                &self.engine.shapes,
                batch,
                out,
                refused,
            ),
        };
        let fanned_out = applied.map_err(|unapplied| self.unapplied(batch, rows, *unapplied))?;
        self.clock.applied();
        self.accepted().map_err(|error| (None, Why::Stop(error)))?;
        Ok(fanned_out)
    }

    #[cold]
    fn unapplied(&mut self, batch: &Batch, rows: &[Row], unapplied: Unapplied) -> (Option<u32>, Why) {
        let (kind, message, image) = match unapplied {
            Unapplied::Stop { image, reason } => {
                let row = self.encoder.row_of_image(image).and_then(|at| rows.get(at));
                let place = row.map_or_else(unknown_place, |row| place(batch, row));
                return (
                    Some(image),
                    Why::Stop(self.row_error(place, RowErrorKind::Stop { reason })),
                );
            }
            Unapplied::TooManyRows { image } => {
                let row = self.encoder.row_of_image(image).and_then(|at| rows.get(at));
                let place = row.map_or_else(unknown_place, |row| place(batch, row));
                return (Some(image), Why::Stop(self.too_many_rows(&place)));
            }
            Unapplied::Bad(bad) => (FaultKind::BadReply, bad.to_string(), None),
            Unapplied::Breach { image, what } => (FaultKind::Breach, what, Some(image)),
            Unapplied::Failed {
                retryable: true,
                message,
            } => {
                // It says itself that it is well.
                let failure = self.instance.failure(FaultKind::Retryable, message);
                return (None, Why::Fault(failure));
            }
            Unapplied::Failed {
                retryable: false,
                message,
            } => (FaultKind::Fatal, message, None),
        };
        (image, Why::Fault(self.instance.fault(kind, message)))
    }

    /// No row is to blame alone, and where a batch ends must not decide what becomes of its rows.
    fn too_many_rows(&self, reached_at: &RowPlace) -> PluginError {
        let (name, rows) = (&self.plugin.name, self.plugin.limits.rows);
        let headline = format!("plugin {name} makes more than {rows} rows of one batch");
        let help = format!("raise `limits: rows` of plugin {name}, or let it make fewer rows of each");
        PluginError::refused_because(error::TOO_MANY_ROWS, headline, format!("reached at {reached_at}"), help)
    }

    fn row_error(&self, row: RowPlace, kind: RowErrorKind) -> PluginError {
        PluginError::Row(Box::new(RowError {
            plugin: self.plugin.name.clone(),
            row,
            kind,
        }))
    }
}

fn unknown_place() -> RowPlace {
    RowPlace {
        relation: "?".to_owned(),
        commit_lsn: crate::batch::Lsn(0),
        ordinal: 0,
    }
}

/// Where a row stands. Truncates and messages have no table of their own.
fn place(batch: &Batch, row: &Row) -> RowPlace {
    let relation = match row.op {
        Op::Truncate => "truncate".to_owned(),
        Op::Message => "message".to_owned(),
        _ => batch.relation(row).full_name(),
    };
    RowPlace {
        relation,
        commit_lsn: batch.transaction(row).commit_lsn,
        ordinal: row.ordinal,
    }
}
