//! What most rows are: new images alone, of one table, with nothing or a patch of few columns said of each.

use super::image::cell;
use super::{Applied, Apply, Image, Target};
use crate::batch::{Cell, Row, Tuple};
use crate::plugin::encode::mark;
use crate::plugin::plan::InUse;

impl Apply<'_, '_> {
    /// Applies the reply to as many rows at the beginning of `rows` as are like that, the first of which is the guest row
    /// `image`. Returns how many; what comes behind them has to be looked at more closely.
    pub(super) fn alike(&mut self, plan: &InUse, rows: &[Row], marks: &[u8], image: u32) -> Applied<usize> {
        let output = &plan.outputs[0];
        if output.added > 0 || output.writes_key || self.drops {
            return Ok(0);
        }
        let Some(first) = rows.first() else {
            return Ok(0);
        };
        let mut relation = None;
        let mut count = 0;
        for (image, (row, marks)) in (image..).zip(rows.iter().zip(marks)) {
            let Some(new) = row.new.filter(|_| row.old.is_none() && row.relation == first.relation) else {
                break;
            };
            if *marks != mark::NEW {
                break;
            }
            let mut made = new;
            if let Some((_, len)) = self.next.filter(|(of, _)| *of == image) {
                let shipped = Image::new(row, image, new, false, *marks);
                let Some(patched) = self.short_patch(plan, new, shipped, len)? else {
                    break;
                };
                made = patched;
                self.advance(image + 1)?;
            }
            let relation = *relation.get_or_insert_with(|| self.relation(plan, Target::FIRST, first.relation));
            // Field by field: a row that is changed and then copied as a whole waits for what was just written.
            self.out.push(Row {
                relation,
                transaction: row.transaction,
                ordinal: row.ordinal,
                new: Some(made),
                old: None,
                extra: row.extra,
                fan_out: row.fan_out,
                op: row.op,
                old_image: row.old_image,
            });
            count += 1;
        }
        Ok(count)
    }

    /// Patches a copy of `tuple` where that is what the action at hand does, of which `len` elements are left. `None` says
    /// nothing, and leaves the reply as it was.
    #[inline]
    fn short_patch(&mut self, plan: &InUse, tuple: Tuple, image: Image, len: usize) -> Applied<Option<Tuple>> {
        let before = self.cursor;
        let Some(columns) = (len == 2).then(|| self.cursor.short_patch()).flatten() else {
            return Ok(None);
        };
        let output = &plan.outputs[0];
        let made = self.batch.copy_tuple(tuple, plan.input.slots);
        for _ in 0..columns {
            let at = self
                .cursor
                .small()
                .filter(|at| output.columns.get(*at).is_some_and(|of| of.writable));
            let Some(at) = at else {
                self.cursor = before;
                return Ok(None);
            };
            let value = self.value(output, at, image)?;
            let cell = cell(self.batch, made, output.columns[at].slot);
            if *cell != Cell::ABSENT {
                *cell = value;
            }
        }
        Ok(Some(made))
    }
}
