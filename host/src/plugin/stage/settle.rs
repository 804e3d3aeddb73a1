//! What becomes of changes that the plugin didn't take, as the configuration says.

use super::{Left, Stage, place};
use crate::batch::{Batch, Row};
use crate::config::{OnError, OnFault};
use crate::plugin::aside::AsideCause;
use crate::plugin::error::{FaultKind, PluginError};
use crate::plugin::transform::image::ROWS_OF_CHANGE_MAX;

impl Stage {
    /// Takes changes out of what goes on, all rows of each, and tells which.
    #[cold]
    pub(super) fn settle(
        &mut self,
        batch: &Batch,
        rows: &[Row],
        fanned_out: bool,
        left: &mut Vec<Left>,
    ) -> Result<(), PluginError> {
        self.left.clear();
        self.refuse(batch, rows, left)?;
        for (at, fault) in std::mem::take(&mut self.faulted) {
            match self.plugin.policies.on_fault {
                OnFault::Bypass => self.counts.bypassed += 1,
                _ => self.leave(batch, &rows[at], Some(AsideCause::Fault(fault)), false, left),
            }
        }
        if fanned_out {
            self.bound(batch, left)?;
        }
        if !self.left.is_empty() {
            let gone = &self.left;
            self.out.retain(|row| !gone.contains(&(row.transaction, row.ordinal)));
        }
        Ok(())
    }

    fn refuse(&mut self, batch: &Batch, rows: &[Row], left: &mut Vec<Left>) -> Result<(), PluginError> {
        let mut refused = std::mem::take(&mut self.refused.list);
        // Those that can't be encoded were added call by call, behind those that the plugin rejects.
        refused.sort_by_key(|(at, _)| *at);
        for (at, kind) in refused {
            self.counts.rejected += 1;
            match self.plugin.policies.on_error {
                OnError::Stop => return Err(self.row_error(place(batch, &rows[at]), kind)),
                OnError::Pass => self.counts.passed_by_policy += 1,
                OnError::Drop => self.leave(batch, &rows[at], None, true, left),
                OnError::DeadLetter => self.leave(batch, &rows[at], Some(AsideCause::Row(kind)), true, left),
            }
        }
        Ok(())
    }

    /// A change leaves once, for the first of its rows that doesn't go on. `accepted` where the call that had it was.
    fn leave(&mut self, batch: &Batch, row: &Row, cause: Option<AsideCause>, accepted: bool, left: &mut Vec<Left>) {
        let change = (row.transaction, row.ordinal);
        if !self.left.insert(change) {
            return;
        }
        if cause.is_none() {
            self.counts.dropped_by_policy += 1;
        }
        left.push(Left {
            change,
            place: place(batch, row),
            accepted,
            cause,
        });
    }

    /// Several calls may have made more rows of one change than there are numbers for.
    fn bound(&mut self, batch: &Batch, left: &mut Vec<Left>) -> Result<(), PluginError> {
        let change = |row: &Row| (row.transaction, row.ordinal);
        let is_same = |a: &Row, b: &Row| change(a) == change(b);
        let runs = self.out.chunk_by(is_same);
        let beyond: Vec<Row> = runs
            .filter(|run| run.len() > ROWS_OF_CHANGE_MAX)
            .map(|run| run[0])
            .collect();
        for row in beyond {
            let what = "plugins make more than 65,536 rows of one change".to_owned();
            let mut fault = self.instance.fault(FaultKind::Breach, what);
            fault.row = Some(place(batch, &row));
            self.counts.faults += 1;
            if self.plugin.policies.on_fault == OnFault::Stop {
                return Err(PluginError::Fault(fault));
            }
            self.leave(batch, &row, Some(AsideCause::Fault(fault)), true, left);
        }
        Ok(())
    }
}
