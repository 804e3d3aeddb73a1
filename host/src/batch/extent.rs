//! How much of a batch there is, so that what is appended can be told from the rest.

use super::Batch;

#[derive(Clone, Copy, Debug, Default)]
pub struct Extent {
    pub arena: usize,
    pub cells: usize,
    pub relations: usize,
    pub truncates: usize,
}

impl Batch {
    pub fn extent(&self) -> Extent {
        Extent {
            arena: self.arena.len(),
            cells: self.cells.len(),
            relations: self.relations.len(),
            truncates: self.truncates.len(),
        }
    }

    /// Takes back what was appended since then. No row may point there.
    pub fn cut(&mut self, to: Extent) {
        self.cut_values(to);
        self.relations.truncate(to.relations);
    }

    /// The same, but for relations: whoever has appended one may know where it is.
    pub fn cut_values(&mut self, to: Extent) {
        self.arena.truncate(to.arena);
        self.cells.truncate(to.cells);
        self.truncates.truncate(to.truncates);
    }
}
