//! Ways to cut rows into batches. What a plugin makes of a row must not depend on them.

use crate::batch::{Batch, Part, Row};
use std::ops::Range;

/// A way to cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    Whole,
    Halves,
    OneRowEach,
    /// Pieces of 1 to 7 rows, the same for the same seed.
    Random(u64),
}

impl Cut {
    pub const ALL: [Self; 5] = [
        Self::Whole,
        Self::OneRowEach,
        Self::Halves,
        Self::Random(1),
        Self::Random(2),
    ];

    /// The pieces of `rows` rows, in order.
    pub fn pieces(self, rows: usize) -> Vec<Range<usize>> {
        let mut state = match self {
            Self::Random(seed) => seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            _ => 1,
        };
        let mut pieces = Vec::new();
        let mut from = 0;
        while from < rows {
            let len = match self {
                Self::Whole => rows,
                Self::Halves => rows.div_ceil(2),
                Self::OneRowEach => 1,
                Self::Random(_) => {
                    // xorshift: good enough to cut with.
                    state ^= state << 13;
                    state ^= state >> 7;
                    state ^= state << 17;
                    1 + (state % 7) as usize
                }
            };
            let to = (from + len).min(rows);
            pieces.push(from..to);
            from = to;
        }
        pieces
    }
}

impl std::fmt::Display for Cut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Whole => f.write_str("all at once"),
            Self::Halves => f.write_str("in two halves"),
            Self::OneRowEach => f.write_str("one row each"),
            Self::Random(seed) => write!(f, "at random, seed {seed}"),
        }
    }
}

/// A batch with a piece of its rows alone: transactions at its borders are parts of themselves.
pub fn piece(batch: &Batch, piece: Range<usize>) -> (Batch, Vec<Row>) {
    let rows = batch.rows[piece.clone()].to_vec();
    let mut cut = batch.clone();
    cut.rows.clear();
    let of = |at: Option<usize>| at.and_then(|at| batch.rows.get(at)).map(|row| row.transaction);
    let (before, after) = (of(piece.start.checked_sub(1)), of(Some(piece.end)));
    for (at, transaction) in cut.transactions.iter_mut().enumerate() {
        let at = Some(at as u32);
        transaction.part = match (before == at, after == at) {
            (false, false) => Part::Whole,
            (false, true) => Part::First,
            (true, true) => Part::Middle,
            (true, false) => Part::Last,
        };
    }
    (cut, rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_cover_all_rows_in_order() {
        for cut in Cut::ALL {
            for rows in [0, 1, 2, 7, 100] {
                let all: Vec<usize> = cut.pieces(rows).into_iter().flatten().collect();
                assert_eq!(all, (0..rows).collect::<Vec<_>>(), "{cut}");
            }
        }
        assert_ne!(Cut::Random(1).pieces(100), Cut::Random(2).pieces(100));
    }
}
