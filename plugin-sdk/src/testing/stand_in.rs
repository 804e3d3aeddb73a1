//! What the host's imports do natively: they remember, per thread.

use std::cell::RefCell;

/// Longest log that a test keeps.
const LINES_MAX: usize = 10_000;

#[derive(Default)]
struct Heard {
    lines: Vec<(i32, String)>,
    metrics: Vec<(i32, String, f64)>,
}

thread_local! {
    static HEARD: RefCell<Heard> = RefCell::default();
}

/// Takes the lines that plugins of this thread have logged: level (1 is error) and text.
pub fn logged() -> Vec<(i32, String)> {
    HEARD.with_borrow_mut(|heard| std::mem::take(&mut heard.lines))
}

/// Takes what plugins of this thread have measured: kind (0 counter, 1 gauge, 2 histogram), name and value.
pub fn measured() -> Vec<(i32, String, f64)> {
    HEARD.with_borrow_mut(|heard| std::mem::take(&mut heard.metrics))
}

pub fn log(level: i32, message: &str) {
    HEARD.with_borrow_mut(|heard| {
        if heard.lines.len() < LINES_MAX {
            heard.lines.push((level, message.to_owned()));
        }
    });
}

pub fn metric(kind: i32, name: &str, value: f64) {
    HEARD.with_borrow_mut(|heard| {
        if heard.metrics.len() < LINES_MAX {
            heard.metrics.push((kind, name.to_owned(), value));
        }
    });
}

/// The commit time that the mock host gives to its one transaction.
pub(crate) const COMMIT_US: i64 = 1_700_000_000_000_000;

pub fn now_us(_transaction_index: u32) -> i64 {
    COMMIT_US
}

/// SplitMix64 over the row's index: the same row, the same bytes.
pub fn random(row_index: u32, bytes: &mut [u8]) {
    let mut state = u64::from(row_index);
    for chunk in bytes.chunks_mut(8) {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        chunk.copy_from_slice(&mixed.to_le_bytes()[..chunk.len()]);
    }
}
