//! Dropping letters, by hand and by age, and writing the file anew.
//!
//! **Age.** A letter that blocks nothing any more goes once it is older than the retention. One that blocks goes only
//! together with all that share its keys, once the youngest of them is that old: while anything still waits behind a
//! letter, age alone never lets it overtake. That keys are free again is said in the log, with the letters' numbers.

use super::fault;
use super::line::{Ghost, Gone, Record, Refused, Request, Why};
use super::replay::Selection;
use super::store::{DeadLetters, State, now_us};
use crate::batch::Lsn;
use crate::problem::Problem;
use rustc_hash::FxHashSet;
use std::collections::{BTreeMap, BTreeSet};

/// Dead bytes below this aren't worth a new file.
const COMPACT_MIN_BYTES: u64 = 1 << 20;
/// How often letters are looked through for old ones.
const EXPIRY_INTERVAL_US: i64 = 3_600_000_000;

/// What became of letters that were to be dropped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    pub letters: Vec<u64>,
    /// Those that stay set aside behind a dropped one, by its number: they still block its key.
    pub waiting: Vec<(u64, usize)>,
}

impl DeadLetters {
    /// Drops letters for good: their changes are never delivered. A key is free once no letter of it is left.
    ///
    /// # Errors
    /// A letter that isn't there or is on its way: then none is dropped.
    pub fn drop_letters(&self, selection: &Selection) -> Result<Dropped, Box<Problem>> {
        self.with(|state| state.drop_letters(selection))
    }

    /// What the server had from `lsn` on never happened on its new timeline: letters of it are gone, and nothing that commits there
    /// now is taken for it. Returns the letters' numbers.
    ///
    /// # Errors
    /// A disk that can't be used.
    pub fn forget_lost(&self, lsn: Lsn) -> Result<Vec<u64>, Box<Problem>> {
        if self.is_empty() {
            return Ok(Vec::new());
        }
        self.with(|state| {
            let entries = state.index.entries.iter();
            let lost = entries.filter(|(_, entry)| entry.order.streamed && entry.order.lsn >= lsn);
            let letters: Vec<u64> = lost.map(|(number, _)| *number).collect();
            state.remove(&letters, Why::Dropped)?;
            state.counts.dropped += letters.len() as u64;
            if state.index.forget_from(lsn) {
                // The file would tell of them at the next start.
                state.compact()?;
            }
            Ok(letters)
        })
    }

    /// Drops what is too old, once an hour at most. To be called now and then.
    pub fn tick(&self) -> Result<(), Box<Problem>> {
        if self.is_empty() {
            return Ok(());
        }
        self.with(|state| {
            let now = now_us();
            if now.saturating_sub(state.expired_at_us) < EXPIRY_INTERVAL_US {
                return Ok(());
            }
            state.expire(now).map(|_| ())
        })
    }
}

impl State {
    fn drop_letters(&mut self, selection: &Selection) -> Result<Dropped, Box<Problem>> {
        let letters = self.select(selection)?;
        if let Some(busy) = letters.iter().find(|number| self.is_under_way(**number)) {
            return Err(fault::busy(*busy));
        }
        let groups: Vec<(u64, FxHashSet<u64>)> = letters.iter().map(|n| (*n, self.index.group(*n))).collect();
        self.remove(&letters, Why::Dropped)?;
        self.counts.dropped += letters.len() as u64;
        let still = |group: FxHashSet<u64>| group.iter().filter(|n| self.index.entries.contains_key(n)).count();
        let waiting = groups.into_iter().map(|(number, group)| (number, still(group)));
        let waiting = waiting.filter(|(_, count)| *count > 0).collect();
        self.compact_if_worth_it()?;
        Ok(Dropped { letters, waiting })
    }

    fn is_under_way(&self, number: u64) -> bool {
        self.flight.as_ref().is_some_and(|flight| flight.has(number))
    }

    fn remove(&mut self, letters: &[u64], why: Why) -> Result<(), Box<Problem>> {
        if letters.is_empty() {
            return Ok(());
        }
        self.append(vec![Record::Gone(Gone {
            letters: letters.to_vec(),
            why,
            at_us: now_us(),
        })])?;
        for number in letters {
            self.index.remove(*number);
        }
        Ok(())
    }

    /// Returns how many have gone.
    pub(super) fn expire(&mut self, now_us: i64) -> Result<usize, Box<Problem>> {
        self.expired_at_us = now_us;
        let retention = i64::try_from(self.limits.retention.0.as_micros()).unwrap_or(i64::MAX);
        let entries = &self.index.entries;
        let is_old = |number: &u64| {
            let entry = entries.get(number);
            entry.is_some_and(|entry| now_us.saturating_sub(entry.set_aside_us) > retention)
        };
        let (mut old, mut seen): (BTreeSet<u64>, FxHashSet<u64>) = Default::default();
        for number in entries.keys().filter(|number| is_old(number)) {
            if seen.contains(number) {
                continue;
            }
            let group = self.index.group(*number);
            if group.iter().all(|number| is_old(number) && !self.is_under_way(*number)) {
                old.extend(&group);
            }
            seen.extend(group);
        }
        let letters: Vec<u64> = old.into_iter().collect();
        let free_before = self.index.blocked_keys;
        self.remove(&letters, Why::Expired)?;
        if let (Some(first), Some(last)) = (letters.first(), letters.last()) {
            let (count, keys) = (letters.len(), free_before - self.index.blocked_keys);
            let retention = self.limits.retention.to_string();
            tracing::warn!(
                count,
                first,
                last,
                keys,
                retention,
                "dead letters have expired and are lost; later changes of their keys are delivered again"
            );
        }
        self.counts.expired += letters.len() as u64;
        self.compact_if_worth_it()?;
        Ok(letters.len())
    }

    /// Before the quota is exceeded: whether there is less in the file now.
    pub(super) fn make_room(&mut self) -> Result<bool, Box<Problem>> {
        let before = self.file.len();
        if before > self.index.live_bytes {
            self.compact()?;
        }
        Ok(self.file.len() < before)
    }

    pub(super) fn compact_if_worth_it(&mut self) -> Result<(), Box<Problem>> {
        let dead = self.file.len().saturating_sub(self.index.live_bytes);
        if dead < COMPACT_MIN_BYTES || dead < self.index.live_bytes {
            return Ok(());
        }
        self.compact()
    }

    /// Those under way and those whose number letters keep.
    fn all_requests(&self) -> impl Iterator<Item = Request> + use<> {
        let under_way = self.requests.iter().map(|request| Request {
            request: request.number,
            letters: request.letters.iter().copied().collect(),
            force: request.is_forced(),
            kept: Vec::new(),
        });
        let mut all: BTreeMap<u32, Request> = under_way.map(|request| (request.request, request)).collect();
        for (number, entry) in &self.index.entries {
            if let Some(request) = entry.sent_under {
                let of_number = all.entry(request).or_insert_with(|| Request {
                    request,
                    ..Request::default()
                });
                of_number.kept.push(*number);
            }
        }
        all.into_values()
    }

    /// Writes a file with what counts alone. Where the disk has no room for it the old one goes on.
    pub(super) fn compact(&mut self) -> Result<(), Box<Problem>> {
        // Letters that aren't in the file yet follow with their append.
        let stored = self.index.entries.iter().filter(|(_, entry)| entry.place.len > 0);
        let numbers: Vec<u64> = stored.map(|(number, _)| *number).collect();
        let superseded = numbers.iter().filter(|number| self.index.entries[number].superseded);
        let mut others = vec![self.header()];
        let superseded: Vec<u64> = superseded.copied().collect();
        if !superseded.is_empty() {
            others.push(Record::Superseded { letters: superseded });
        }
        others.extend(self.index.ghosts().map(|(route, lsn, ordinal)| {
            let route = self.routes[route as usize].clone();
            Record::Ghost(Ghost { route, lsn, ordinal })
        }));
        others.extend(self.index.refused().map(|((route, lsn, ordinal), sink)| {
            let (route, sink) = (self.routes[route as usize].clone(), sink.to_owned());
            Record::Refused(Refused {
                route,
                lsn,
                ordinal,
                sink,
                forgotten: false,
            })
        }));
        others.extend(self.all_requests().map(Record::Replay));
        // The header first, then the letters, then what is said of them.
        let behind = others.split_off(1);
        let count = 1 + numbers.len() + behind.len();
        let entries = &self.index.entries;
        let replaced = self.file.replace(count, |file, at| match at {
            0 => Ok(others[0].clone()),
            at if at <= numbers.len() => file.read(entries[&numbers[at - 1]].place),
            at => Ok(behind[at - 1 - numbers.len()].clone()),
        });
        match replaced {
            Ok(places) => {
                for (number, place) in numbers.iter().zip(&places[1..]) {
                    self.index.set_place(*number, *place);
                }
                Ok(())
            }
            Err(problem) if problem.code == super::codes::DISK => {
                let cause = problem.cause.as_deref().unwrap_or_default();
                tracing::warn!(
                    cause,
                    "the dead letters' file can't be written anew and goes on as it is"
                );
                Ok(())
            }
            Err(problem) => Err(problem),
        }
    }
}
