//! What a thread of its own works on: some of the divisions, with a batch that is theirs while they write.
//!
//! A batch's bytes are shared and its indexes copied, which is a few microseconds. What the plugins have appended to the
//! copy is appended to the batch afterwards, and the rows that point there are moved with it.

use super::Division;
use crate::batch::{Batch, Extent, Row, Tuple};
use bytes::Bytes;

#[derive(Debug, Default)]
pub(super) struct Share {
    /// With their numbers.
    pub divisions: Vec<(usize, Division)>,
    batch: Batch,
    shared: Extent,
}

impl Share {
    /// Takes over the batch as it is.
    pub fn take_batch(&mut self, from: &Batch) {
        let to = &mut self.batch;
        to.bytes = from.bytes.clone();
        to.arena.clone_from(&from.arena);
        to.cells.clone_from(&from.cells);
        to.transactions.clone_from(&from.transactions);
        to.relations.clone_from(&from.relations);
        to.truncates.clone_from(&from.truncates);
        to.messages.clone_from(&from.messages);
        self.shared = from.extent();
    }

    pub fn work(&mut self) {
        for (_, division) in &mut self.divisions {
            division.work(&mut self.batch);
        }
    }

    /// Appends what was written to `to`, and lets go of the batch.
    pub fn give_back(&mut self, to: &mut Batch) {
        let Extent {
            arena,
            cells,
            relations,
            ..
        } = self.shared;
        let moved_arena = (to.arena.len() - arena) as u32;
        let moved_cells = (to.cells.len() - cells) as u32;
        let made = |at: usize, index: u32| (index as usize).checked_sub(at);
        let relations_of: Vec<u32> = self.batch.relations[relations..]
            .iter()
            .map(|relation| to.relation_index(relation))
            .collect();
        to.arena.extend_from_slice(&self.batch.arena[arena..]);
        let written = self.batch.cells[cells..].iter();
        to.cells
            .extend(written.map(|cell| cell.moved_behind(arena, moved_arena)));
        let tuple = |of: Option<Tuple>| {
            of.map(|of| match made(cells, of.0) {
                Some(_) => Tuple(of.0 + moved_cells),
                None => of,
            })
        };
        for (_, division) in &mut self.divisions {
            for row in &mut division.rows {
                *row = Row {
                    relation: made(relations, row.relation).map_or(row.relation, |at| relations_of[at]),
                    new: tuple(row.new),
                    old: tuple(row.old),
                    ..*row
                };
            }
        }
        self.batch.bytes = Bytes::new();
    }
}
