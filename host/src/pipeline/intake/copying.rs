//! Tables that are copied, on their way through the intake.

use super::{Intake, LaneEnd, RouteState};
use crate::batch::{Batch, Lsn};
use crate::checkpoint::{CopiedRange, CopiedUnit, Mark, RowsAhead, Turn};
use crate::failpoint;
use crate::snapshot::{self, Ahead, CountedUnit, MergedUnit, Merger, Mergers, TableEpoch};
use std::sync::Arc;
use std::sync::atomic::Ordering;

impl Intake {
    /// Copied units that are ready go out.
    pub(super) fn let_out_copied(&mut self) -> Result<(), LaneEnd> {
        if self.copies.is_done() || self.waits_for_version() {
            return Ok(());
        }
        let units = self.copies.at_boundary(self.position).map_err(LaneEnd::Problem)?;
        self.restart_copies()?;
        self.store_ahead()?;
        (self.copied)(self.copies.progress());
        self.stats.copying.store(!self.copies.is_done(), Ordering::Release);
        for unit in units {
            self.let_out(unit)?;
        }
        self.settle_owed()
    }

    /// What goes out before the stream has passed what it shows is stored before it does.
    fn store_ahead(&mut self) -> Result<(), LaneEnd> {
        let ahead: Vec<RowsAhead> = self.copies.ahead().into_iter().map(rows_ahead).collect();
        if ahead.is_empty() {
            return Ok(());
        }
        let stored = self.store.add_ahead(&ahead);
        stored.map_err(|problem| LaneEnd::Problem(Box::new(problem)))
    }

    fn let_out(&mut self, unit: MergedUnit) -> Result<(), LaneEnd> {
        for batch in unit.batches {
            self.stats
                .rows_copied
                .fetch_add(batch.rows.len() as u64, Ordering::Relaxed);
            self.pass_on(batch)?;
        }
        for batch in unit.waited.into_iter().flatten() {
            let batch = batch.map_err(|error| LaneEnd::Problem(snapshot::lost_what_waited(&error)))?;
            self.pass_on(batch)?;
        }
        Ok(())
    }

    /// The position that has waited for rows to be read again goes on once none are owed, and behind it what counts by
    /// then. A state goes with both of them or with none (`may_checkpoint`).
    pub(super) fn settle_owed(&mut self) -> Result<(), LaneEnd> {
        if self.owed > Lsn(0) && !self.copies.owes() {
            let end = std::mem::take(&mut self.owed);
            self.pass_on(Batch {
                end,
                ..Batch::default()
            })?;
        }
        self.count_copied()
    }

    /// Tables that are copied again begin from nothing at the targets. The marks say that it needn't be done again.
    pub(super) fn empty_targets(&mut self) -> Result<(), LaneEnd> {
        let emptying = self.copies.to_empty(self.position);
        self.empty(emptying)
    }

    pub(super) fn empty(&mut self, emptying: Vec<(TableEpoch, Batch)>) -> Result<(), LaneEnd> {
        for (table, batch) in emptying {
            self.pass_on(batch)?;
            self.mark(vec![Mark::Emptied {
                table_oid: table.oid,
                epoch: table.epoch,
            }])?;
        }
        Ok(())
    }

    /// A copy begins here. All other tables stream on.
    pub(super) fn join(&mut self, mut copy: Merger) -> Result<(), LaneEnd> {
        self.empty_what_came(&mut copy)?;
        let emptying = self.copies.join(copy, self.position);
        self.stats.copying.store(true, Ordering::Release);
        (self.copied)(self.copies.progress());
        self.empty(emptying)?;
        failpoint::pass(failpoint::AFTER_COPY_JOINED);
        Ok(())
    }

    /// Rows of a table that has come may have been streamed before the copy was planned, or since. Without a key nothing tells
    /// them from those that the copy brings, so it begins from nothing at the targets, which a start has to know.
    pub(super) fn empty_what_came(&mut self, copy: &mut Merger) -> Result<(), LaneEnd> {
        let came: Vec<u32> = copy.keyless().filter(|oid| self.routes.has_met(*oid)).collect();
        for oid in came {
            if copy.empty_first(oid) {
                let stored = self.store.empty_first(oid);
                stored.map_err(|problem| LaneEnd::Problem(Box::new(problem)))?;
            }
        }
        Ok(())
    }

    /// The ledger forgets the tables whose copy has started over, before anything of the new one goes out.
    pub(super) fn restart_copies(&mut self) -> Result<(), LaneEnd> {
        for table in self.copies.restarted() {
            let stored = self.store.restart_copy(table.oid, table.epoch);
            stored.map_err(|problem| LaneEnd::Problem(Box::new(problem)))?;
        }
        Ok(())
    }

    /// Whether the stream has still to come to where a recorded version begins. Copied rows are read now, and nothing of
    /// them is replayed; but rows that go out again, as their unit doesn't count yet, may have been through that version,
    /// and must not be overwritten by an older one. So they go out behind it, as before.
    pub(super) fn waits_for_version(&self) -> bool {
        let begins_later = |state: &RouteState| state.has_plugins && state.newest_from > self.position;
        self.states.iter().any(begins_later)
    }

    /// What the stream has passed of the copies is entered in the ledger, behind all that was sent before. A start
    /// before that copies it again, rather than to meet changes that its rows are ahead of. While rows are owed the stored
    /// position stands still; so does the ledger then, or a target that loses what it had beyond the position would get
    /// the stream again and not the units.
    fn count_copied(&mut self) -> Result<(), LaneEnd> {
        let stands = self.owed > Lsn(0);
        let mut marks = std::mem::take(&mut self.kept);
        let units = self.copies.counted().into_iter();
        marks.extend(units.map(|unit| {
            let turn = if stands { None } else { unit.turn };
            unit_done(CountedUnit { turn, ..unit })
        }));
        marks.extend(self.copies.over().into_iter().map(|table| Mark::TableDone {
            table_oid: table.oid,
            epoch: table.epoch,
        }));
        self.copies.let_go();
        if stands {
            self.kept = marks;
            return Ok(());
        }
        self.mark(marks)
    }

    /// The tables of a batch of which this is so, while any is copied.
    pub(super) fn tables_where(&self, batch: &Batch, is_so: fn(&Mergers, u32) -> bool) -> Vec<u32> {
        if self.copies.is_done() {
            return Vec::new();
        }
        let tables = batch.relations.iter().map(|relation| relation.oid);
        tables.filter(|oid| is_so(&self.copies, *oid)).collect()
    }
}

fn rows_ahead(ahead: Ahead) -> RowsAhead {
    RowsAhead {
        table_oid: ahead.table_oid,
        snapshot: ahead.snapshot.to_string(),
        finish: ahead.finish,
        keys: ahead.keys,
        repair: ahead.repair,
    }
}

fn unit_done(CountedUnit { record, turn }: CountedUnit) -> Mark {
    Mark::UnitDone(Arc::new(CopiedUnit {
        unit: record.unit,
        range: CopiedRange {
            place: record.place,
            after: record.range.after,
            up_to: record.range.up_to,
            units: 1,
            rows: record.rows,
            bytes: record.bytes,
        },
        turn: turn.map(Turn::new).unwrap_or_default(),
    }))
}
