//! Several deliveries as one.

use super::{Batch, Delivery, Op, Part, Row, Transaction, Truncate, Tuple};
use std::sync::Arc;

/// Deliveries that follow each other, put together; less than 4 GiB of them.
#[derive(Debug, Default)]
pub struct Joined {
    bytes: Vec<u8>,
    batch: Batch,
    rows: Vec<Row>,
    copying: Vec<u32>,
    sequence: u64,
    /// Where each delivery's transactions begin, and the sequence of the one before it.
    begins: Vec<(usize, u64)>,
}

impl Joined {
    /// `before` is the sequence of the delivery before the first.
    pub fn of(deliveries: &[Delivery], before: u64) -> Self {
        let mut joined = Self {
            sequence: before,
            ..Self::default()
        };
        joined
            .bytes
            .reserve_exact(deliveries.iter().map(|it| it.batch.bytes.len()).sum());
        joined
            .batch
            .cells
            .reserve_exact(deliveries.iter().map(|it| it.batch.cells.len()).sum());
        joined
            .rows
            .reserve_exact(deliveries.iter().map(|it| it.rows.len()).sum());
        for delivery in deliveries {
            joined.push(delivery);
        }
        joined
    }

    fn push(&mut self, delivery: &Delivery) {
        let from = &*delivery.batch;
        let to = &mut self.batch;
        let (bytes, arena, cells) = (self.bytes.len() as u32, to.arena.len() as u32, to.cells.len() as u32);
        let (truncates, messages) = (to.truncates.len() as u32, to.messages.len() as u32);
        self.bytes.extend_from_slice(&from.bytes);
        to.binary |= from.binary;
        to.straight |= from.straight;
        if to.own_types.is_empty() {
            to.own_types = Arc::clone(&from.own_types);
        } else if !Arc::ptr_eq(&to.own_types, &from.own_types) {
            Arc::make_mut(&mut to.own_types).extend(&from.own_types);
        }
        to.keyless |= from.keyless;
        to.arena.extend_from_slice(&from.arena);
        to.cells.extend(from.cells.iter().map(|cell| cell.moved(bytes, arena)));
        let relations: Vec<u32> = from.relations.iter().map(|it| to.relation_index(it)).collect();
        let relation = |of: u32| relations.get(of as usize).copied().unwrap_or_default();
        to.truncates.extend(from.truncates.iter().map(|truncate| Truncate {
            relations: truncate.relations.iter().map(|of| relation(*of)).collect(),
            ..*truncate
        }));
        to.messages.extend_from_slice(&from.messages);
        to.end = to.end.max(from.end);
        let parts = from.transactions.as_slice();
        let parts = match (to.transactions.last_mut(), parts.split_first()) {
            (Some(last), Some((next, rest))) if goes_on(last, next) => {
                let part = if last.part == Part::First {
                    Part::Whole
                } else {
                    Part::Last
                };
                *last = Transaction {
                    part: if next.part == Part::Last { part } else { last.part },
                    ..*next
                };
                rest
            }
            _ => parts,
        };
        // A transaction that goes on is the last one so far.
        let transactions = to.transactions.len() - (from.transactions.len() - parts.len());
        self.begins.push((to.transactions.len(), self.sequence));
        to.transactions.extend_from_slice(parts);
        let tuple = |of: Option<Tuple>| of.map(|of| Tuple(of.0 + cells));
        let joined = |row: &Row| Row {
            relation: relation(row.relation),
            transaction: row.transaction + transactions as u32,
            new: tuple(row.new),
            old: tuple(row.old),
            extra: match row.op {
                Op::Truncate => row.extra + truncates,
                Op::Message => row.extra + messages,
                _ => row.extra,
            },
            ..*row
        };
        to.message_rows.extend(from.message_rows.iter().map(joined));
        self.rows.extend(delivery.rows.iter().map(joined));
        self.sequence = delivery.sequence;
        self.copying.clone_from(&delivery.copying);
    }

    /// All of it, with the last one's sequence, and for each delivery where its own transactions begin and the sequence
    /// of the one before it.
    pub fn finish(self) -> (Delivery, Vec<(usize, u64)>) {
        let batch = Batch {
            bytes: self.bytes.into(),
            ..self.batch
        };
        let delivery = Delivery {
            sequence: self.sequence,
            batch: Arc::new(batch),
            rows: self.rows,
            copying: self.copying,
        };
        (delivery, self.begins)
    }
}

/// Whether both are parts of one transaction.
fn goes_on(last: &Transaction, next: &Transaction) -> bool {
    matches!(last.part, Part::First | Part::Middle)
        && matches!(next.part, Part::Middle | Part::Last)
        && (last.xid, last.commit_lsn, last.origin) == (next.xid, next.commit_lsn, next.origin)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::Value;
    use crate::sink::testing::{Builder, orders, text};

    /// The first transaction is cut by the deliveries, and a message stands in each of its parts.
    #[test]
    fn joined_deliveries_are_as_one() {
        let orders = orders();
        let deliveries = [(1, Part::First), (2, Part::Last)].map(|(sequence, part)| {
            let id = sequence.to_string();
            let builder = Builder::new()
                .transaction(0x10, part)
                .message("said", id.as_bytes())
                .insert(&orders, &[text(&id), Value::Unchanged, Value::Null])
                .truncate(&[&orders], false, false);
            let mut delivery = builder.delivery(sequence);
            let batch = Arc::make_mut(&mut delivery.batch);
            batch.message_rows = vec![delivery.rows.remove(0)];
            delivery
        });
        let (joint, begins) = Joined::of(&deliveries, 0).finish();
        let batch = &joint.batch;
        assert_eq!(joint.sequence, 2);
        assert_eq!(begins, [(0, 0), (1, 1)]);
        assert_eq!(batch.transactions.len(), 1);
        assert_eq!(batch.transactions[0].part, Part::Whole);
        assert!(batch.transactions[0].end_lsn > batch.transactions[0].commit_lsn);
        assert_eq!(batch.relations.len(), 1);
        for (at, id) in [b"1", b"2"].into_iter().enumerate() {
            let said = &batch.message_rows[at];
            assert_eq!(said.transaction, 0);
            assert_eq!(&batch.messages[said.extra as usize].content[..], id);
            let [inserted, emptied] = [&joint.rows[2 * at], &joint.rows[2 * at + 1]];
            let values = [0, 1, 2].map(|slot| batch.value(inserted.new.unwrap(), slot));
            assert_eq!(values, [Value::Text(id), Value::Unchanged, Value::Null]);
            assert_eq!(batch.truncates[emptied.extra as usize].relations, [0]);
        }
    }
}
