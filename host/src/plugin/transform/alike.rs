//! What most rows are: new images alone, of one table, with nothing or a patch of short texts said of each.

use super::{Applied, Apply, Target};
use crate::batch::{Cell, Row, Tuple};
use crate::plugin::encode::mark;
use crate::plugin::plan::InUse;
use crate::plugin::values::Class;

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
                let Some(patched) = self.short_texts(plan, new, len) else {
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

    /// Patches a copy of `tuple` where the action at hand, of which `len` elements are left, sets columns to short texts.
    /// `None` says nothing, and leaves the reply as it was.
    #[inline]
    fn short_texts(&mut self, plan: &InUse, tuple: Tuple, len: usize) -> Option<Tuple> {
        let output = &plan.outputs[0];
        let before = self.cursor;
        let columns = (len == 2).then(|| self.cursor.short_patch()).flatten();
        let made = columns.and_then(|columns| {
            let made = self.batch.copy_tuple(tuple, plan.input.slots);
            for _ in 0..columns {
                let column = output.columns.get(self.cursor.small()?)?;
                if !column.writable || column.class != Class::Text {
                    return None;
                }
                let value = self.short_value()?;
                let at = made.0 as usize + usize::from(column.slot);
                let cell = self.batch.cells.get_mut(at).filter(|cell| **cell != Cell::ABSENT)?;
                *cell = value;
            }
            Some(made)
        });
        if made.is_none() {
            self.cursor = before;
        }
        made
    }
}
