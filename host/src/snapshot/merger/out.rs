//! What goes out at a boundary: a unit without what isn't true any more, and what is read again for it or beside it.

use super::{CountedUnit, MergedUnit, Merger};
use crate::batch::{Batch, CopyUnit, Lsn};
use crate::problem::Problem;
use crate::snapshot::fault;
use crate::snapshot::merge::{Key, Reread};
use crate::snapshot::outgoing;
use crate::snapshot::patience::For;
use crate::snapshot::plan::{Ahead, UnitRecord};
use crate::snapshot::read::View;
use crate::snapshot::reread::{Again, Answer, Request};
use crate::snapshot::shared::UnitId;
use crate::snapshot::table::Changes;
use crate::snapshot::worker::Unit;
use rustc_hash::FxHashSet;
use std::time::Instant;
use tokio::sync::oneshot;

/// What came of a unit.
pub(super) enum Merged {
    Out(MergedUnit),
    /// It lacks rows, and its table waits for its turn to ask for them.
    Waits(Unit),
    /// It has asked for them, and can't have them now.
    InVain(Unit),
}

impl Merger {
    /// One that lacks rows asks for them in its turn alone, where others of its table have asked in vain.
    pub(super) fn merge(&mut self, mut unit: Unit, position: Lsn, in_turn: bool) -> Result<Merged, Box<Problem>> {
        let table = &self.tables[unit.id.table];
        if let Changes::Keyed(merge) = &table.changes {
            // Of those that couldn't be read before, somebody else may be the last writer by now.
            let before = std::mem::take(&mut unit.rereads).into_iter();
            unit.rereads = before.map(|reread| merge.reread(reread.key)).collect();
            let stale = outgoing::leave_out_stale(merge, &table.copy, &unit.record.snapshot, &mut unit.batches)?;
            unit.rereads.extend(stale);
            if !in_turn && table.waits_for_turn(&unit) {
                return Ok(Merged::Waits(unit));
            }
        }
        let again = match unit.rereads.is_empty() {
            true => None,
            false => match self.ask(unit.id, unit.rereads.clone(), For::Units)? {
                None => return Ok(Merged::InVain(unit)),
                again => again,
            },
        };
        let Unit {
            id,
            record,
            mut batches,
            _budget,
            turn,
            rereads: _,
        } = unit;
        let view = View {
            snapshot: record.snapshot.clone(),
            finish: record.finish,
            file: 0,
        };
        if position < view.finish && !self.tables[id.table].copy.key.is_empty() {
            outgoing::as_updates(&mut batches);
        }
        self.out(id.table, &view, &mut batches, position, false)?;
        self.note_keyless(id.table, &view);
        let mut next_ordinal = batches
            .iter()
            .flat_map(|batch| &batch.rows)
            .map(|row| row.ordinal + 1)
            .max();
        let mut finish = view.finish;
        if let Some(again) = again {
            // Of a heap a unit that a start would read again in its place may have them no longer, as they are in whatever
            // block they have moved to.
            let repair = self.tables[id.table].copy.file.is_some();
            finish = finish.max(again.view.finish);
            batches.extend(self.take_again(id, again, position, next_ordinal.get_or_insert(0), repair)?);
        }
        let table = &mut self.tables[id.table];
        table.merged += 1;
        table.units_finish = table.units_finish.max(view.finish);
        if record.last_of_table {
            table.units = Some(id.number + 1);
        }
        let is_out = table.is_out();
        let batches = outgoing::as_transaction(batches, record.unit, position);
        let mut waited = None;
        if let (true, Changes::Wait(waiting)) = (is_out, &mut table.changes) {
            waited = Some(waiting.release(view.snapshot.clone()));
            table.changes = Changes::Out(view.snapshot);
            self.shared
                .floors()
                .end_all(|open| (open.table, open.generation) == (id.table, id.generation));
        }
        self.shared.floors().end(&id);
        table.progress.units += 1;
        table.progress.done = is_out;
        if !table.copy.key.is_empty() {
            self.uncounted.push(CountedUnit {
                record: UnitRecord {
                    finish,
                    ..record.clone()
                },
                // Beside a stream that lags the copy goes on, though a crash costs more then.
                turn: turn.filter(|_| position >= finish),
            });
        }
        Ok(Merged::Out(MergedUnit {
            batches,
            waited,
            unit: record.unit,
            record: Some(record),
        }))
    }

    /// Rows read under `view` go out.
    fn out(
        &mut self,
        at: usize,
        view: &View,
        batches: &mut [Batch],
        position: Lsn,
        repair: bool,
    ) -> Result<(), Box<Problem>> {
        let table = &mut self.tables[at];
        table.last_finish = table.last_finish.max(view.finish);
        for batch in batches.iter() {
            table.progress.rows += batch.rows.len() as u64;
            table.progress.bytes += batch.bytes.len() as u64;
        }
        if let (true, Changes::Keyed(merge)) = (position < view.finish, &mut table.changes) {
            let mut keys: Vec<Key> = Vec::new();
            for batch in batches.iter() {
                outgoing::for_each_key(batch, &table.copy, |_, key| keys.push(key.into()))?;
            }
            if !keys.is_empty() {
                self.ahead.push(Ahead {
                    table_oid: table.copy.relation.oid,
                    snapshot: view.snapshot.clone(),
                    finish: view.finish,
                    keys: keys.clone(),
                    repair,
                });
            }
            merge.merged(position, &view.snapshot, view.finish, keys.into_iter());
        }
        Ok(())
    }

    /// The first rows of a table without a key go out. A start has to know: none of them could be told from those that it
    /// would bring, so it empties the targets.
    fn note_keyless(&mut self, at: usize, view: &View) {
        let table = &self.tables[at];
        if matches!(table.changes, Changes::Wait(_)) && table.merged == 0 {
            self.ahead.push(Ahead {
                table_oid: table.copy.relation.oid,
                snapshot: view.snapshot.clone(),
                finish: Lsn(u64::MAX),
                keys: Vec::new(),
                repair: false,
            });
        }
    }

    /// Has keys read again; `None` where that can't be done now. Then nothing is to be read again like that of the table before
    /// its turn.
    fn ask(&mut self, unit: UnitId, keys: Vec<Reread>, what: For) -> Result<Option<Again>, Box<Problem>> {
        let others = self
            .turns()
            .filter(|turn| (turn.table, turn.what) != (unit.table, what));
        let (others, begun) = (others.count(), Instant::now());
        let table = &mut self.tables[unit.table];
        let asker = table.patience.of_mut(what);
        let limits = self.budget.limits(asker, others, begun);
        let wanted: FxHashSet<Key> = keys.iter().map(|reread| reread.key.clone()).collect();
        let (reply, answer) = oneshot::channel();
        let sent = self.rereader.send(Request {
            unit,
            keys,
            limits,
            reply,
        });
        sent.map_err(|_| fault::stopped())?;
        let answer = answer.blocking_recv().map_err(|_| fault::stopped())??;
        let now = Instant::now();
        match answer {
            Answer::NotNow(reason) => {
                self.budget.spend(limits, now - begun, now);
                if asker.in_vain(now) {
                    let table = table.copy.relation.full_name();
                    tracing::info!(
                        table,
                        "the copy reads rows of the table again when {reason}; the stream goes on"
                    );
                }
                Ok(None)
            }
            Answer::Rows(mut again) => {
                self.budget.spend(limits, again.waited, now);
                asker.served(again.waited, now);
                for batch in &mut again.batches {
                    // Equal keys that are written differently are different ones, see copy_keys.
                    outgoing::retain_by_key(batch, &table.copy, |key| wanted.contains(key))?;
                }
                Ok(Some(again))
            }
        }
    }

    /// What was read again goes out as part of `unit`.
    fn take_again(
        &mut self,
        unit: UnitId,
        again: Again,
        position: Lsn,
        next_ordinal: &mut u64,
        repair: bool,
    ) -> Result<Vec<Batch>, Box<Problem>> {
        let Again { view, mut batches, .. } = again;
        for row in batches.iter_mut().flat_map(|batch| &mut batch.rows) {
            row.ordinal = *next_ordinal;
            *next_ordinal += 1;
        }
        // The target may hold what the stream brought of them.
        outgoing::as_updates(&mut batches);
        self.out(unit.table, &view, &mut batches, position, repair)?;
        Ok(batches)
    }

    /// Reads again what the stream brought without all of its values.
    pub(super) fn repair(&mut self, at: usize, position: Lsn) -> Result<Option<MergedUnit>, Box<Problem>> {
        let table = &mut self.tables[at];
        let Changes::Keyed(merge) = &mut table.changes else {
            return Ok(None);
        };
        let keys = merge.take_incomplete();
        if keys.is_empty() {
            return Ok(None);
        }
        let id = UnitId {
            table: at,
            generation: table.generation,
            number: CopyUnit::EMPTYING - 1 - table.repairs,
        };
        let Some(again) = self.ask(id, keys.clone(), For::Stream)? else {
            if let Changes::Keyed(merge) = &mut self.tables[at].changes {
                merge.put_back(keys);
            }
            return Ok(None);
        };
        self.tables[at].repairs += 1;
        let batches = self.take_again(id, again, position, &mut 0, true)?;
        let unit = self.shared.name_unit(id);
        let batches = outgoing::as_transaction(batches, unit, position);
        Ok((!batches.is_empty()).then_some(MergedUnit {
            batches,
            waited: None,
            unit,
            record: None,
        }))
    }
}
