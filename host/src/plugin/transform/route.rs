//! Rows that a plugin sends to another table or topic: the output relation under another name.

use crate::batch::{Batch, Relation};
use crate::plugin::shapes::Shapes;
use rustc_hash::FxHashMap;
use std::sync::Arc;

/// The output relation itself.
pub(super) const NO_ROUTE: u32 = u32::MAX;

/// The routes that were taken so far, each with its relation.
#[derive(Debug, Default)]
pub(crate) struct Routes {
    known: Vec<Known>,
    /// Index into `known`, by the index of the output relation and the route as the plugin names it.
    by_name: FxHashMap<u32, FxHashMap<Box<str>, u32>>,
    /// The one that was asked for last: mostly the next one too.
    last: u32,
    batch: u64,
}

#[derive(Debug)]
struct Known {
    /// Index of the output relation.
    output: u32,
    name: Box<str>,
    relation: Arc<Relation>,
    /// Index in the batch that `batch` counts.
    at: u32,
    batch: u64,
}

impl Routes {
    /// What follows is of another batch.
    pub fn begin(&mut self) {
        self.batch += 1;
    }

    /// The route of that name from an output relation. The error says what is wrong with it.
    #[inline]
    pub(super) fn find(&mut self, output: &Arc<Relation>, name: &str, shapes: &Shapes) -> Result<u32, &'static str> {
        match self.known.get(self.last as usize) {
            Some(known) if known.output == output.index && *known.name == *name => Ok(self.last),
            _ => self.search(output, name, shapes),
        }
    }

    fn search(&mut self, output: &Arc<Relation>, name: &str, shapes: &Shapes) -> Result<u32, &'static str> {
        let of_output = self.by_name.entry(output.index).or_default();
        let found = match of_output.get(name) {
            Some(found) => *found,
            None => {
                let relation = shapes.routed(output, name)?;
                let found = self.known.len() as u32;
                self.known.push(Known {
                    output: output.index,
                    name: name.into(),
                    relation,
                    at: 0,
                    batch: 0,
                });
                of_output.insert(name.into(), found);
                found
            }
        };
        self.last = found;
        Ok(found)
    }

    /// The index of a route's relation in the batch.
    #[inline]
    pub(super) fn relation(&mut self, route: u32, batch: &mut Batch) -> u32 {
        let known = &mut self.known[route as usize];
        if known.batch != self.batch {
            known.at = batch.relation_index(&known.relation);
            known.batch = self.batch;
        }
        known.at
    }
}
