//! Whose turn it is to have keys read again, of those that have asked in vain. [`patience`](crate::snapshot::patience)
//! has how long each may wait.

use super::out::Merged;
use super::{MERGE_BYTES, MergedUnit, Merger, Table, size_bytes};
use crate::problem::Problem;
use crate::snapshot::patience::For;
use std::time::Instant;

/// One that waits for its turn: the units of a table, or what the stream has brought of it.
pub(super) struct Turn {
    pub(super) table: usize,
    pub(super) what: For,
    /// When it has asked last.
    asked: Instant,
}

impl Merger {
    /// Those whose turn it is ask again, until one does so in vain: whoever has asked longest ago first. One does though much goes
    /// out already, as it may at every boundary.
    pub(super) fn take_turns(&mut self, out: &mut Vec<MergedUnit>) -> Result<(), Box<Problem>> {
        while self.budget.is_free(Instant::now()) {
            let Some(turn) = self.turns().min_by_key(|turn| turn.asked) else {
                break;
            };
            match turn.what {
                For::Stream => out.extend(self.repair(turn.table, self.position)?),
                For::Units => match self.lacking(turn.table) {
                    Some(at) => self.merge_ready(at, true, out)?,
                    None => break,
                },
            }
            if size_bytes(out) >= MERGE_BYTES {
                break;
            }
        }
        Ok(())
    }

    /// Those that wait for their turn.
    pub(super) fn turns(&self) -> impl Iterator<Item = Turn> {
        let of_table = move |(table, of): (usize, &Table)| {
            let turn = |what| {
                let asked = of.patience.of(what).waits()?;
                Some(Turn { table, what, asked })
            };
            let units = turn(For::Units).filter(|_| self.lacking(table).is_some());
            let stream = turn(For::Stream).filter(|_| !of.held && of.owes());
            units.into_iter().chain(stream)
        };
        self.tables.iter().enumerate().flat_map(of_table)
    }

    /// The first unit of a table that could go out but for rows that it lacks.
    fn lacking(&self, table: usize) -> Option<usize> {
        self.ready.iter().position(|(since, unit)| {
            let lacks = unit.id.table == table && !self.is_stale(unit.id) && !unit.rereads.is_empty();
            lacks && !self.waits_for_stream(unit, *since)
        })
    }

    /// One of the units that are ready goes out, unless it waits. Where it has asked in vain it is the last of them, so that the
    /// next of its table has the next turn.
    pub(super) fn merge_ready(
        &mut self,
        at: usize,
        in_turn: bool,
        out: &mut Vec<MergedUnit>,
    ) -> Result<(), Box<Problem>> {
        let Some((since, unit)) = self.ready.remove(at) else {
            return Ok(());
        };
        match self.merge(unit, self.position, in_turn)? {
            Merged::Out(merged) => out.push(merged),
            Merged::Waits(unit) => self.ready.insert(at, (since, unit)),
            Merged::InVain(unit) => self.ready.push_back((since, unit)),
        }
        Ok(())
    }
}
