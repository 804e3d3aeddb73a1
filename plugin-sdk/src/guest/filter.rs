//! A filter behind `rowmill_batch`.

use super::{Batch, Buffers, Known, Plugin, Stop};
use crate::plugin::Filter;
use crate::projection::Projection;
use crate::relation::Relation;
use crate::row::{Row, Transaction};
use crate::walk::{Shown, Visit, each, rowless};
use crate::{Error, Result, Stateful};
use rowmill_abi::Writer;

/// A [`Filter`] as a [`Plugin`].
#[derive(Debug)]
pub struct FilterPlugin<F>(F);

impl<F: Filter> Plugin for FilterPlugin<F> {
    type Table = F::Table;
    const MESSAGES: bool = F::MESSAGES;
    const TRUNCATES: bool = F::TRUNCATES;

    fn start(config: &[u8]) -> Result<Self> {
        F::start(config).map(Self)
    }

    fn stateful(&mut self) -> Option<&mut dyn Stateful> {
        self.0.stateful()
    }

    fn schema(&mut self, relation: &Relation) -> Result<Projection<F::Table>> {
        self.0.schema(relation)
    }

    /// `verdict, rejects`
    fn batch(&mut self, batch: &mut Batch<'_, F::Table>, out: &mut Writer) -> Result<(), Stop> {
        let Batch { rows, known, buffers } = batch;
        let Buffers {
            offsets,
            truncated,
            bitmap,
            rejects,
            ..
        } = &mut **buffers;
        let (bytes, count) = (rows.bytes, rows.count);
        bitmap.clear();
        bitmap.resize(count.div_ceil(8) as usize, 0);
        rejects.clear();
        let mut judge = Judge {
            filter: &mut self.0,
            bytes,
            known,
            truncated,
            bitmap,
            rejects,
            rejected: 0,
        };
        each(rows, known, offsets, &mut judge)?;
        let rejected = judge.rejected;
        match bitmap.iter().map(|eight| eight.count_ones()).sum::<u32>() {
            0 => out.bool(false),
            matching if matching == count => out.bool(true),
            _ => out.bin(bitmap),
        }
        if rejected == 0 {
            out.nil();
        } else {
            out.array(rejected);
            out.raw(rejects.as_slice());
        }
        Ok(())
    }
}

/// A filter at work on a batch.
struct Judge<'a, F: Filter> {
    filter: &'a mut F,
    bytes: &'a [u8],
    known: &'a [Known<F::Table>],
    truncated: &'a mut Vec<u32>,
    /// Of all rows; no bit is set yet.
    bitmap: &'a mut [u8],
    rejects: &'a mut Writer,
    rejected: usize,
}

impl<F: Filter> Judge<'_, F> {
    #[inline(always)]
    fn judged(&mut self, index: u32, judged: Result<bool>) {
        let matches = judged.unwrap_or_else(|error| {
            self.rejected += 1;
            reject(self.rejects, index, &error);
            false
        });
        if let Some(eight) = self.bitmap.get_mut(index as usize / 8) {
            *eight |= u8::from(matches) << (index % 8);
        }
    }
}

impl<F: Filter> Visit<F::Table> for Judge<'_, F> {
    #[inline(always)]
    fn row(&mut self, index: u32, row: Row<'_>, of: &Known<F::Table>, absent: bool) {
        let judged = match absent {
            // Can't be judged: the host knows that too, and doesn't look at this verdict.
            true => Ok(false),
            false => self.filter.matches(&row, &of.table),
        };
        self.judged(index, judged);
    }

    #[inline(always)]
    fn rowless(&mut self, index: u32, start: usize, transaction: &Transaction) -> Result<(), Stop> {
        let judged = if F::MESSAGES || F::TRUNCATES {
            rowless(
                self.bytes,
                start,
                transaction,
                self.known,
                self.truncated,
                |shown| match shown {
                    Shown::Message(message) => self.filter.message(&message),
                    Shown::Truncate(truncate) => self.filter.truncate(&truncate).map(|()| true),
                },
            )?
        } else {
            Ok(true)
        };
        self.judged(index, judged);
        Ok(())
    }
}

#[cold]
fn reject(out: &mut Writer, row: u32, error: &Error) {
    out.array(3);
    out.uint(row.into());
    out.str(error.code());
    out.str(error.reason());
}
