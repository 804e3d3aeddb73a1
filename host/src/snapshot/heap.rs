//! Ranges of a table's heap: how many blocks a unit has.

use super::cut::UNIT_BYTES;
use super::plan::KeyRange;

/// Blocks of the first unit, which tells how much they hold. One may hold two hundred rows with large values elsewhere.
const FIRST_BLOCKS: u64 = 1;
/// How many times as large a unit may be as the last one: what comes may be denser than what was.
const GROWTH: u64 = 4;
/// Blocks of a unit at most, where they seem to hold little: a block of eight thousand bytes can be full of small rows.
const BLOCKS_MAX: u64 = 1024;

/// What is known of a heap that is being cut.
#[derive(Debug, Default)]
pub(super) struct Heap {
    /// How many blocks it had when last asked.
    pub blocks: u64,
    /// Of the next unit; 0 before the first.
    unit_blocks: u64,
}

impl Heap {
    /// Where the next unit of `range` ends.
    pub(super) fn next_end(&self, range: &KeyRange, unit_rows: u64) -> u64 {
        let most = BLOCKS_MAX.min(unit_rows.max(1));
        block(range.after.as_deref()) + self.unit_blocks.clamp(FIRST_BLOCKS, most)
    }

    /// A unit of `range` had so many rows and bytes, where `unit_rows` were wanted.
    pub(super) fn saw(&mut self, range: &KeyRange, unit_rows: u64, rows: u64, bytes: u64) {
        let end = range.up_to.as_deref().map_or(self.blocks, |bound| block(Some(bound)));
        let blocks = end.saturating_sub(block(range.after.as_deref())).max(1);
        let by_rows = (blocks * unit_rows).checked_div(rows).unwrap_or(u64::MAX);
        let by_bytes = (blocks * UNIT_BYTES).checked_div(bytes).unwrap_or(u64::MAX);
        self.unit_blocks = by_rows.min(by_bytes).clamp(1, blocks * GROWTH);
    }
}

/// The place between two blocks, as a bound of `ctid`.
pub(super) fn bound(block: u64) -> Vec<String> {
    vec![format!("({block},0)")]
}

/// The block behind a bound; the first one where there is none.
pub(super) fn block(bound: Option<&[String]>) -> u64 {
    let number = |bound: &[String]| {
        let (block, _) = bound.first()?.strip_prefix('(')?.split_once(',')?;
        block.parse().ok()
    };
    bound.and_then(number).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(after: u64, up_to: u64) -> KeyRange {
        KeyRange {
            after: Some(bound(after)),
            up_to: Some(bound(up_to)),
        }
    }

    #[test]
    fn units_grow_to_the_rows_and_bytes_that_they_are_meant_to_have() {
        let mut heap = Heap::default();
        let open = KeyRange::default();
        assert_eq!(heap.next_end(&open, 20_000), 1, "nothing is known of the first");
        heap.saw(&range(0, 1), 20_000, 50, 8000);
        assert_eq!(heap.next_end(&range(1, 1000), 20_000), 5, "not too fast");
        heap.saw(&range(100, 300), 20_000, 10_000, 2_000_000);
        assert_eq!(
            heap.next_end(&range(300, 9000), 20_000),
            700,
            "as many as have the rows"
        );
        heap.saw(&range(300, 700), 20_000, 20_000, 32 << 20);
        assert_eq!(
            heap.next_end(&range(700, 9000), 20_000),
            800,
            "as many as have the bytes"
        );
        heap.saw(&range(700, 800), 20_000, 1, 1 << 30);
        assert_eq!(heap.next_end(&range(800, 9000), 20_000), 801, "one at least");
        for _ in 0..9 {
            heap.saw(&range(0, 1000), 20_000, 0, 0);
        }
        assert_eq!(heap.next_end(&range(0, 9000), 20_000), BLOCKS_MAX, "nothing for long");
    }

    #[test]
    fn bounds_lie_between_blocks() {
        assert_eq!(bound(4_294_967_294), ["(4294967294,0)"]);
        assert_eq!(block(Some(&bound(4_294_967_294))), 4_294_967_294);
        assert_eq!(block(None), 0);
    }
}
