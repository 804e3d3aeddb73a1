//! What the stream brings of tables under copy, and what lets a copy start over.

use super::{Merger, TableEpoch};
use crate::batch::{Batch, Copied, Op};
use crate::problem::Problem;
use crate::snapshot::table::Kept;

impl Merger {
    /// Looks at a streamed batch before anything else does: remembers the keys it changes, takes out what copied rows
    /// hold already (where these are some sinks' alone, it is noted in [`Batch::copied`]), and what waits for its table. Every batch has to come by, once and in order, from the first on.
    pub fn stream(&mut self, batch: &mut Batch) -> Result<(), Box<Problem>> {
        if self.by_oid.is_empty() {
            return Ok(());
        }
        let tables: Vec<Option<usize>> = batch
            .relations
            .iter()
            .map(|relation| self.by_oid.get(&relation.oid).copied())
            .collect();
        if tables.iter().all(Option::is_none) {
            return Ok(());
        }
        let mut rows = std::mem::take(&mut batch.rows);
        let (mut copied, mut outcome) = (Vec::new(), Ok(()));
        rows.retain_mut(|row| {
            if outcome.is_err() {
                return true;
            }
            let kept = match row.op {
                Op::Message => Ok(Kept::Yes),
                Op::Truncate => {
                    self.truncated(batch, row.extra);
                    Ok(Kept::Yes)
                }
                _ => match tables.get(row.relation as usize).copied().flatten() {
                    Some(table) => self.tables[table].stream(batch, row),
                    None => Ok(Kept::Yes),
                },
            };
            match kept {
                Ok(Kept::Yes) => true,
                Ok(Kept::No) => false,
                Ok(Kept::WholeForOthers(left)) => {
                    copied.push(Copied {
                        transaction: row.transaction,
                        ordinal: row.ordinal,
                        table_oid: batch.relation(row).oid,
                        left,
                    });
                    true
                }
                Err(problem) => {
                    outcome = Err(problem);
                    true
                }
            }
        });
        batch.rows = rows;
        if !copied.is_empty() {
            // Other copies may have looked at it before.
            copied.extend_from_slice(&batch.copied);
            copied.sort_unstable_by_key(|of| (of.transaction, of.ordinal));
            batch.copied = copied.into();
        }
        outcome
    }

    fn truncated(&mut self, batch: &Batch, truncate: u32) {
        let Some(truncate) = batch.truncates.get(truncate as usize) else {
            return;
        };
        for relation in &truncate.relations {
            let Some(relation) = batch.relations.get(*relation as usize) else {
                continue;
            };
            if let Some(at) = self.by_oid.get(&relation.oid).copied() {
                self.tables[at].restart(&self.shared.room);
                self.shared.restart(at);
                self.starts_over(at);
                tracing::info!(
                    table = relation.full_name(),
                    "truncated while it was copied: its copy starts over"
                );
            }
        }
    }

    /// The table lies in another file: its ranges of the heap mean nothing any more. What was streamed of it and what went
    /// out stay as they are.
    pub(super) fn rewritten(&mut self, at: usize) {
        if self.tables[at].given_up {
            return;
        }
        self.tables[at].read_anew();
        self.starts_over(at);
        let table = self.tables[at].copy.relation.full_name();
        tracing::info!(table, "rewritten while it was copied: its copy starts over");
    }

    fn starts_over(&mut self, at: usize) {
        let oid = self.tables[at].copy.relation.oid;
        self.uncounted.retain(|unit| unit.record.unit.table_oid != oid);
        self.restarted.push(TableEpoch {
            oid,
            epoch: self.tables[at].epoch(),
        });
    }
}
