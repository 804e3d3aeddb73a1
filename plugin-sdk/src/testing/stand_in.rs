//! What the host's imports do natively. Each mock host has a world of its own, which is this thread's during a call.

use super::entries::Entries;
use crate::host::Level;
use rowmill_abi::{level, metric};
use std::cell::RefCell;
use std::collections::BTreeMap;

/// Longest log that a test keeps.
const LINES_MAX: usize = 10_000;
/// As in the host: metrics beyond these are passed over.
const METRIC_NAMES_MAX: usize = 100;
const METRIC_NAME_LEN_MAX: usize = 100;

/// What a plugin finds around itself, and leaves there.
#[derive(Clone, Debug, Default)]
pub(super) struct World {
    pub lines: Vec<(Level, String)>,
    metrics: BTreeMap<String, (i32, Vec<f64>)>,
    pub entries: Entries,
    /// The batch that was encoded last.
    pub batch: Batch,
    /// Whether it is being called for.
    in_batch: bool,
}

/// What the imports must know of the rows of a batch.
#[derive(Clone, Debug, Default)]
pub(super) struct Batch {
    /// Commit times of its transactions.
    pub commit_us: Vec<i64>,
    /// Commit LSN and ordinal of each row.
    pub seeds: Vec<(u64, u64)>,
}

thread_local! {
    static HERE: RefCell<World> = RefCell::default();
}

impl World {
    /// Runs a call in this world, one of `rowmill_batch` or another.
    pub fn enter<R>(&mut self, in_batch: bool, run: impl FnOnce() -> R) -> R {
        self.in_batch = in_batch;
        self.entries.writable = in_batch;
        let mut entered = Entered(self);
        entered.swap();
        run()
    }

    /// The values of a metric; the sum alone of a counter, the last alone of a gauge.
    pub fn metric(&self, kind: i32, name: &str) -> &[f64] {
        match self.metrics.get(name) {
            Some((found, values)) if *found == kind => values,
            _ => &[],
        }
    }
}

/// Puts the world back, after a panic too.
struct Entered<'a>(&'a mut World);

impl Entered<'_> {
    fn swap(&mut self) {
        HERE.with_borrow_mut(|here| std::mem::swap(here, self.0));
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.swap();
    }
}

pub fn log(level: i32, message: &str) {
    let level = match level {
        level::ERROR => Level::Error,
        level::WARN => Level::Warn,
        level::INFO => Level::Info,
        level::DEBUG => Level::Debug,
        _ => Level::Trace,
    };
    HERE.with_borrow_mut(|here| {
        if here.lines.len() < LINES_MAX {
            here.lines.push((level, message.to_owned()));
        }
    });
}

pub fn metric(kind: i32, name: &str, value: f64) {
    HERE.with_borrow_mut(|here| {
        let known = here.metrics.len();
        if !here.metrics.contains_key(name) {
            if known >= METRIC_NAMES_MAX || name.len() > METRIC_NAME_LEN_MAX {
                return;
            }
            here.metrics.insert(name.to_owned(), (kind, Vec::new()));
        }
        let Some((_, values)) = here.metrics.get_mut(name) else {
            return;
        };
        let is_full = values.len() >= LINES_MAX;
        match (kind, values.first_mut()) {
            (metric::COUNTER, Some(sum)) => *sum += value,
            (metric::GAUGE, Some(last)) => *last = value,
            _ if is_full => {}
            _ => values.push(value),
        }
    });
}

pub fn now_us(transaction_index: u32) -> i64 {
    let found = HERE.with_borrow(|here| {
        let known = here.batch.commit_us.get(transaction_index as usize).copied();
        known.filter(|_| here.in_batch)
    });
    found.expect("now_us is asked while a batch is processed, for one of its transactions; elsewhere it traps")
}

/// SplitMix64 over commit and ordinal: the same row, the same bytes, wherever the batch was cut.
pub fn random(row_index: u32, bytes: &mut [u8]) {
    let seed = HERE.with_borrow(|here| {
        let known = here.batch.seeds.get(row_index as usize).copied();
        known.filter(|_| here.in_batch)
    });
    let (lsn, ordinal) =
        seed.expect("random is asked while a batch is processed, for one of its rows; elsewhere it traps");
    let mut state = lsn.rotate_left(32) ^ ordinal;
    for chunk in bytes.chunks_mut(8) {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        chunk.copy_from_slice(&mixed.to_le_bytes()[..chunk.len()]);
    }
}

pub fn kv_get(key: &[u8], out: &mut [u8]) -> i32 {
    HERE.with_borrow(|here| here.entries.get(key, out))
}

pub fn kv_put(key: &[u8], value: &[u8]) -> i32 {
    HERE.with_borrow_mut(|here| here.entries.put(key, value))
}

pub fn kv_delete(key: &[u8]) -> i32 {
    HERE.with_borrow_mut(|here| here.entries.delete(key))
}
