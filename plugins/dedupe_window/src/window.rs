//! Which keys have come by, as entries that the host keeps. Entries can't be listed, so that those to be forgotten
//! stand in a queue, which is entries as well:
//!
//! ```text
//!   "k" table columns  ->  time, number         each key, with its place in the queue
//!   "q" number         ->  time, "k" ..         the queue: number 3, 4, 5, ...
//!   "n"                ->  first, next          which numbers there are
//! ```
//!
//! A key that comes again after its time gets a new place; the old one, when its turn comes, is no longer the key's.

use rowmill_plugin::prelude::*;

/// Places of the queue that a row looks at: more than the one that it adds, so that the queue gets shorter again.
const FORGOTTEN_PER_ROW: usize = 2;
const NUMBERS: &[u8] = b"n";

/// A key as it stands in an entry's.
pub struct Key(Vec<u8>);

impl Key {
    /// The beginning of a key of this table.
    pub fn of(table: &str) -> Self {
        let mut key = Self(b"k".to_vec());
        key.push(table);
        key
    }

    /// Adds a column's value, with its length, so that no two keys are one.
    pub fn push(&mut self, text: &str) {
        self.0.extend_from_slice(&(text.len() as u32).to_be_bytes());
        self.0.extend_from_slice(text.as_bytes());
    }
}

/// How long keys are remembered.
pub struct Window {
    micros: i64,
}

impl Window {
    pub fn of_seconds(seconds: u32) -> Self {
        Self {
            micros: i64::from(seconds) * 1_000_000,
        }
    }

    /// Whether the key hasn't come by within the window, and remembers it then.
    pub fn is_first(&self, kv: Kv, key: &Key, now_us: i64) -> Result<bool> {
        let known = pair(kv, NUMBERS).unwrap_or((0, 0));
        let (mut first, mut next) = known;
        for _ in 0..FORGOTTEN_PER_ROW {
            if first < next && self.forget(kv, first, now_us)? {
                first += 1;
            }
        }
        let is_first = pair(kv, &key.0).is_none_or(|(time_us, _)| self.is_over(time_us, now_us));
        if is_first {
            // The key last: a place of a key that isn't there does no harm, a key without a place would stay.
            let place = [&now_us.to_be_bytes()[..], &key.0].concat();
            kv.put(place_of(next), place)?;
            next += 1;
        }
        if (first, next) != known {
            kv.put(NUMBERS, bytes(first, next))?;
        }
        if is_first {
            kv.put(&key.0, bytes(now_us, next - 1))?;
        }
        Ok(is_first)
    }

    fn is_over(&self, time_us: i64, now_us: i64) -> bool {
        now_us.saturating_sub(time_us) >= self.micros
    }

    /// Forgets the key in this place, where its time is over.
    fn forget(&self, kv: Kv, number: i64, now_us: i64) -> Result<bool> {
        let place = kv.get(place_of(number)).unwrap_or_default();
        if let Some((time_us, key)) = place.split_first_chunk() {
            if !self.is_over(i64::from_be_bytes(*time_us), now_us) {
                return Ok(false);
            }
            if pair(kv, key).is_some_and(|(_, its_number)| its_number == number) {
                kv.delete(key)?;
            }
            kv.delete(place_of(number))?;
        }
        Ok(true)
    }
}

fn place_of(number: i64) -> [u8; 9] {
    let mut key = [b'q'; 9];
    key[1..].copy_from_slice(&number.to_be_bytes());
    key
}

/// An entry that holds two numbers.
fn pair(kv: Kv, key: &[u8]) -> Option<(i64, i64)> {
    let value = kv.get(key)?;
    let (first, rest) = value.split_first_chunk()?;
    let second = rest.first_chunk()?;
    Some((i64::from_be_bytes(*first), i64::from_be_bytes(*second)))
}

fn bytes(first: i64, second: i64) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&first.to_be_bytes());
    bytes[8..].copy_from_slice(&second.to_be_bytes());
    bytes
}
