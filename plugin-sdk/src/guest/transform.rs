//! A transform behind `rowmill_batch`.

use super::{Batch, Buffers, Known, Plugin, Stop};
use crate::patch::{self, Scratch};
use crate::plugin::Transform;
use crate::projection::Projection;
use crate::relation::Relation;
use crate::row::{Row, Transaction};
use crate::walk::{Shown, Visit, each, rowless};
use crate::{Patch, Result, Stateful, Verdict};
use rowmill_abi::{Writer, action, default, op};

/// A [`Transform`] as a [`Plugin`].
#[derive(Debug)]
pub struct TransformPlugin<T>(T);

impl<T: Transform> Plugin for TransformPlugin<T> {
    type Table = T::Table;
    const MESSAGES: bool = T::MESSAGES;
    const TRUNCATES: bool = T::TRUNCATES;

    fn start(config: &[u8]) -> Result<Self> {
        T::start(config).map(Self)
    }

    fn stateful(&mut self) -> Option<&mut dyn Stateful> {
        self.0.stateful()
    }

    fn schema(&mut self, relation: &Relation) -> Result<Projection<T::Table>> {
        self.0.schema(relation)
    }

    /// `default, actions`
    fn batch(&mut self, batch: &mut Batch<'_, T::Table>, out: &mut Writer) -> Result<(), Stop> {
        out.uint(default::PASS.into());
        let actions = out.open_array();
        let Batch { rows, known, buffers } = batch;
        let Buffers {
            offsets,
            truncated,
            scratch,
            ..
        } = &mut **buffers;
        let bytes = rows.bytes;
        let mut change = Change {
            transform: &mut self.0,
            bytes,
            known,
            truncated,
            scratch,
            out,
            count: 0,
        };
        each(rows, known, offsets, &mut change)?;
        let count = change.count;
        out.close_array(actions, count);
        Ok(())
    }
}

/// A transform at work on a batch.
struct Change<'a, T: Transform> {
    transform: &'a mut T,
    bytes: &'a [u8],
    known: &'a [Known<T::Table>],
    truncated: &'a mut Vec<u32>,
    scratch: &'a mut Scratch,
    /// The reply.
    out: &'a mut Writer,
    /// Actions in it.
    count: u32,
}

impl<T: Transform> Visit<T::Table> for Change<'_, T> {
    #[inline(always)]
    fn row(&mut self, index: u32, row: Row<'_>, of: &Known<T::Table>, _: bool) {
        let mut patch = Patch::new(self.scratch, &of.writes, index, self.out);
        let result = self.transform.transform(&row, &of.table, &mut patch);
        self.count += u32::from(self.scratch.finish(index, result, self.out));
    }

    #[inline(always)]
    fn rowless(&mut self, index: u32, start: usize, transaction: &Transaction) -> Result<(), Stop> {
        if T::MESSAGES || T::TRUNCATES {
            let verdict = rowless(
                self.bytes,
                start,
                transaction,
                self.known,
                self.truncated,
                |shown| match shown {
                    Shown::Message(message) => self.transform.message(&message),
                    Shown::Truncate(truncate) => self.transform.truncate(&truncate),
                },
            )?;
            self.count += u32::from(settle(verdict, index, self.out));
        }
        Ok(())
    }
}

/// Appends what becomes of a truncate or message, where it doesn't just go on.
#[cold]
fn settle(verdict: Result<Verdict>, index: u32, out: &mut Writer) -> bool {
    match verdict {
        Ok(Verdict::Pass) => return false,
        Ok(Verdict::Drop) => patch::header(out, index, action::DROP, 2),
        Ok(Verdict::Stop(reason)) => {
            patch::header(out, index, action::STOP, 3);
            out.str(&reason);
        }
        Ok(Verdict::To(places)) => {
            patch::header(out, index, action::FAN_OUT, 3);
            out.array(places.len());
            for place in places {
                out.array(4);
                out.uint(op::TRUNCATE.into());
                out.uint(0);
                out.nil();
                out.str(&place);
            }
        }
        Err(error) => patch::reject(out, index, &error),
    }
    true
}
