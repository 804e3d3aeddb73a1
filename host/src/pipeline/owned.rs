//! Which routes have their tuples to themselves, so that their plugins may change them in place.

use crate::batch::{Batch, Row};

/// By route: whether no tuple of its rows is that of another row, of this route or of another.
pub(super) fn owned(batch: &Batch, routes: &[Vec<Row>]) -> Vec<bool> {
    let with_rows = routes.iter().filter(|rows| !rows.is_empty()).count();
    if with_rows <= 1 && routes.iter().all(|rows| ascend(rows)) {
        return vec![true; routes.len()];
    }
    let (mut met, mut twice) = (Marks::of(batch), Marks::of(batch));
    for at in routes.iter().flatten().flat_map(tuples) {
        if !met.set(at) {
            twice.set(at);
        }
    }
    let is_alone = |rows: &Vec<Row>| !rows.iter().flat_map(tuples).any(|at| twice.has(at));
    routes.iter().map(is_alone).collect()
}

/// Where the tuples of a row begin, in the order in which they are decoded.
fn tuples(row: &Row) -> impl Iterator<Item = usize> {
    row.old.into_iter().chain(row.new).map(|tuple| tuple.0 as usize)
}

/// As rows are that come from the decoder: then no two are the same.
fn ascend(rows: &[Row]) -> bool {
    let mut least = 0;
    rows.iter().all(|row| {
        let (first, last) = match (row.old, row.new) {
            (Some(old), Some(new)) => (old.0, new.0),
            (Some(one), None) | (None, Some(one)) => (one.0, one.0),
            (None, None) => return true,
        };
        let is_behind = first >= least && (first < last || row.old.is_none() || row.new.is_none());
        least = last.saturating_add(1);
        is_behind
    })
}

/// One bit for each cell of a batch.
struct Marks(Vec<u64>);

impl Marks {
    fn of(batch: &Batch) -> Self {
        Self(vec![0; batch.cells.len().div_ceil(64)])
    }

    /// Whether it wasn't set. What is beyond the batch is always set.
    fn set(&mut self, at: usize) -> bool {
        let Some(word) = self.0.get_mut(at / 64) else {
            return false;
        };
        let bit = 1 << (at % 64);
        let is_new = *word & bit == 0;
        *word |= bit;
        is_new
    }

    fn has(&self, at: usize) -> bool {
        self.0.get(at / 64).is_none_or(|word| word & 1 << (at % 64) != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::Tuple;
    use crate::sink::testing::{Builder, orders, text};

    /// Eight rows, each with a tuple of its own, and its batch.
    fn rows() -> (Batch, Vec<Row>) {
        let orders = orders();
        let insert = |builder: Builder, id: u32| {
            let id = id.to_string();
            builder.insert(&orders, &[text(&id), text("paid"), text("a")])
        };
        let delivery = (0..8).fold(Builder::new().transaction(0x10, crate::batch::Part::Whole), insert);
        let delivery = delivery.delivery(1);
        ((*delivery.batch).clone(), delivery.rows)
    }

    #[test]
    fn a_route_alone_has_its_tuples_to_itself_unless_two_rows_share_one() {
        let (batch, mut rows) = rows();
        assert_eq!(owned(&batch, &[Vec::new(), rows.clone()]), [true, true]);
        // Out of order, and each still once.
        rows.swap(2, 5);
        assert_eq!(owned(&batch, &[rows.clone()]), [true]);
        rows[2].new = rows[3].new;
        assert_eq!(owned(&batch, &[rows.clone()]), [false]);
        // Both images of a change at one place.
        rows[2].new = Some(Tuple(1));
        rows[2].old = Some(Tuple(1));
        assert_eq!(owned(&batch, &[vec![rows[2]]]), [false]);
    }

    #[test]
    fn routes_share_what_stands_in_both() {
        let (batch, rows) = rows();
        let of = |range: std::ops::Range<usize>| rows[range].to_vec();
        assert_eq!(owned(&batch, &[of(0..4), of(4..8)]), [true, true]);
        assert_eq!(owned(&batch, &[of(0..4), of(3..6), of(6..8)]), [false, false, true]);
        assert_eq!(owned(&batch, &[of(0..8), of(0..8)]), [false, false]);
    }
}
