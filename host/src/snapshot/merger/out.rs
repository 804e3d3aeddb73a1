//! What goes out at a boundary: a unit without what isn't true any more, and what is read again for it or beside it.

use super::{CountedUnit, MergedUnit, Merger};
use crate::batch::{Batch, CopyUnit, Lsn};
use crate::problem::Problem;
use crate::snapshot::fault;
use crate::snapshot::merge::{Key, Reread};
use crate::snapshot::outgoing;
use crate::snapshot::plan::{Ahead, UnitRecord};
use crate::snapshot::read::View;
use crate::snapshot::reread::{Again, Request};
use crate::snapshot::shared::UnitId;
use crate::snapshot::table::Changes;
use crate::snapshot::worker::Unit;
use rustc_hash::FxHashSet;
use tokio::sync::oneshot;

impl Merger {
    pub(super) fn merge(&mut self, unit: Unit, position: Lsn) -> Result<MergedUnit, Box<Problem>> {
        let Unit {
            id,
            record,
            mut batches,
            _budget,
            turn,
        } = unit;
        let view = View {
            snapshot: record.snapshot.clone(),
            finish: record.finish,
            file: 0,
        };
        let table = &mut self.tables[id.table];
        let mut rereads = Vec::new();
        if let Changes::Keyed(merge) = &mut table.changes {
            rereads = outgoing::leave_out_stale(merge, &table.copy, &view.snapshot, &mut batches)?;
        }
        if position < view.finish && !table.copy.key.is_empty() {
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
        if !rereads.is_empty() {
            // The unit that a start would read again in its place goes to fewer sinks; and of a heap it may have them no
            // longer, as they are in whatever block they have moved to.
            let copy = &self.tables[id.table].copy;
            let repair = copy.late || copy.file.is_some();
            let (read_until, again) = self.read_again(id, rereads, position, next_ordinal.get_or_insert(0), repair)?;
            finish = finish.max(read_until);
            batches.extend(again);
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
        Ok(MergedUnit {
            batches,
            waited,
            unit: record.unit,
            record: Some(record),
        })
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

    /// Has keys read again, and returns their F and their rows as part of `unit`.
    fn read_again(
        &mut self,
        unit: UnitId,
        keys: Vec<Reread>,
        position: Lsn,
        next_ordinal: &mut u64,
        repair: bool,
    ) -> Result<(Lsn, Vec<Batch>), Box<Problem>> {
        let wanted: FxHashSet<Key> = keys.iter().map(|reread| reread.key.clone()).collect();
        let (reply, answer) = oneshot::channel();
        let sent = self.rereader.send(Request { unit, keys, reply });
        sent.map_err(|_| fault::stopped())?;
        let Again { view, mut batches } = answer.blocking_recv().map_err(|_| fault::stopped())??;
        for batch in &mut batches {
            // Equal keys that are written differently are different ones, see copy_keys.
            outgoing::retain_by_key(batch, &self.tables[unit.table].copy, |key| wanted.contains(key))?;
            for row in &mut batch.rows {
                row.ordinal = *next_ordinal;
                *next_ordinal += 1;
            }
        }
        // The target may hold what the stream brought of them.
        outgoing::as_updates(&mut batches);
        self.out(unit.table, &view, &mut batches, position, repair)?;
        Ok((view.finish, batches))
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
        table.repairs += 1;
        let (_, batches) = self.read_again(id, keys, position, &mut 0, true)?;
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
