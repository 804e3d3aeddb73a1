//! A call's parts by themselves, for benchmarks.

use super::{Kind, Stage, filter, transform};
use crate::batch::{Batch, Row};
use crate::plugin::error::PluginError;
use crate::plugin::instance::Failed;

impl Stage {
    /// What all calls for the batch's rows would be given, in bytes.
    pub fn encode_all(&mut self, batch: &Batch) -> Result<usize, PluginError> {
        self.map_relations(batch, &batch.rows)?;
        let (mut from, mut bytes) = (0, 0);
        while from < batch.rows.len() {
            let (entries, plans) = (&self.entries, &self.plans);
            from = self.encoder.fill(batch, &batch.rows, from, entries, plans, self.images);
            bytes += self.encoder.body.len();
        }
        Ok(bytes)
    }

    /// What the plugin replies to the batch's rows, which go into one call. `None` where it breaks.
    pub fn reply_to(&mut self, batch: &Batch) -> Result<Option<Vec<u8>>, PluginError> {
        self.encode_all(batch)?;
        Ok(match self.instance.batch(&mut self.encoder, batch, None) {
            Ok(range) => Some(self.instance.reply(range).to_vec()),
            Err(Failed::Fault(_) | Failed::TooLarge) => None,
        })
    }

    /// Checks and applies that reply; what it writes is appended to `batch`. Returns the rows that are left, and none where
    /// it isn't one.
    pub fn apply_again(&mut self, reply: &[u8], rows: &[Row], batch: &mut Batch) -> usize {
        self.out.clear();
        self.scratch.begin(self.plugin.limits.rows);
        let (encoder, out, refused) = (&self.encoder, &mut self.out, &mut self.refused);
        let (plans, entries) = (&self.plans, &mut self.entries);
        let (scratch, shapes) = (&mut self.scratch, &self.engine.shapes);
        let applied = match self.kind {
            Kind::Filter => filter::apply(reply, encoder, rows, self.mode, batch, out, refused),
            Kind::Transform => transform::apply(
                reply, encoder, rows, plans, entries, scratch, shapes, batch, out, refused,
            )
            .map(|_| ()),
        };
        applied.map_or(0, |()| self.out.len())
    }
}
