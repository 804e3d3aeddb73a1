//! What benchmarks reach into.

use super::encode::Texts;
use super::run::Columns;
use super::statement::{Image, Sql};
use crate::batch::Batch;
use crate::sink::SinkContext;

/// Appends the new images of a batch with one relation as lines of COPY.
pub fn copy_lines(batch: &Batch, context: &SinkContext, out: &mut Vec<u8>) {
    let columns = batch.relations.iter().flat_map(|relation| &relation.columns);
    let sql = Sql {
        text: String::new(),
        parameters: columns.map(|column| (Image::New, column.slot)).collect(),
        binary: Columns::default(),
    };
    let mut texts = Texts::of(batch, context);
    for row in &batch.rows {
        texts.copy_line(row, &sql, out);
    }
}
