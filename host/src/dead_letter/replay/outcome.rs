//! What becomes of a round: settled, or failed again.

use super::{Flight, LiveRequest, ReplayBatch, Ticket};
use crate::batch::Row;
use crate::dead_letter::aside::{Aside, Held};
use crate::dead_letter::index::Entry;
use crate::dead_letter::line::{Gone, Record, Request, Why};
use crate::dead_letter::store::{State, now_us};
use crate::problem::Problem;
use rustc_hash::{FxHashMap, FxHashSet};
use std::collections::BTreeSet;

/// What of a table is held back.
#[derive(Default)]
struct HeldOf<'a> {
    keys: FxHashSet<&'a [u8]>,
    shapes: FxHashSet<u64>,
    /// Whether it may be any row.
    wild: bool,
}

impl<'a> HeldOf<'a> {
    fn blocks(&self, entry: &Entry) -> bool {
        let is_alike = self.shapes.iter().all(|shape| *shape == entry.shape);
        let mut keys = entry.keys.own.iter();
        self.wild || entry.keys.wild || !is_alike || keys.any(|key| self.keys.contains(&**key))
    }

    fn add(&mut self, entry: &'a Entry) {
        self.keys.extend(entry.keys.own.iter().map(|key| &**key));
        self.shapes.insert(entry.shape);
        self.wild |= entry.keys.wild;
    }
}

impl State {
    pub(super) fn failed_again(
        &mut self,
        replay: &ReplayBatch,
        asides: Vec<Aside>,
        waiting: &[Held],
    ) -> Result<Held, Box<Problem>> {
        let mut records = Vec::new();
        let mut failed: FxHashSet<u64> = FxHashSet::default();
        for aside in asides {
            let Some(number) = replay.letters.get(aside.row.transaction as usize) else {
                continue;
            };
            if !failed.insert(*number) || !self.index.entries.contains_key(number) {
                continue;
            }
            let mut letter = self.letter(*number)?;
            letter.cause = Some(aside.cause);
            letter.plugin = Some(aside.plugin);
            records.push(Record::Letter(Box::new(letter)));
        }
        self.append(records)?;
        let mut held = self.held_with(replay, &failed);
        let of_change = |change: &(u32, u64)| replay.letters.get(change.0 as usize).copied();
        held.extend(waiting.iter().flat_map(Held::changes).filter_map(of_change));
        let of_replay = |request: &&mut LiveRequest| {
            let flight = self.flight.as_ref();
            flight.is_some_and(|flight| flight.ticket == replay.ticket && flight.request == request.number)
        };
        if let Some(request) = self.requests.iter_mut().find(of_replay) {
            request.failed.extend(&held);
            request.letters.retain(|number| !held.contains(number));
        }
        if let Some(flight) = self.flight.as_mut().filter(|flight| flight.ticket == replay.ticket) {
            flight.letters.retain(|number| !held.contains(number));
        }
        let at = |rows: &[Row]| -> Vec<(u32, u64)> {
            let of = rows
                .iter()
                .filter(|row| held.contains(&replay.letters[row.transaction as usize]));
            of.map(|row| (row.transaction, row.ordinal)).collect()
        };
        Ok(Held::of(replay.rows.iter().flat_map(|(_, rows)| at(rows)).collect()))
    }

    /// Those that failed, and later ones of the round that share a key with one of these, or may: where a key value isn't known,
    /// and where their keys are of another shape.
    fn held_with(&self, replay: &ReplayBatch, failed: &FxHashSet<u64>) -> FxHashSet<u64> {
        if replay.force {
            return failed.clone();
        }
        let mut held = FxHashSet::default();
        let mut tables: FxHashMap<(u32, u32), HeldOf<'_>> = FxHashMap::default();
        for number in &replay.letters {
            let Some(entry) = self.index.entries.get(number) else {
                continue;
            };
            let place = (entry.route, entry.oid);
            let waits = tables.get(&place).is_some_and(|of_table| of_table.blocks(entry));
            if failed.contains(number) || waits {
                held.insert(*number);
                tables.entry(place).or_default().add(entry);
            }
        }
        held
    }

    pub(super) fn settle_sent(&mut self, sent: &[u64]) -> Result<(), Box<Problem>> {
        let is_there = |number: &u64| self.index.entries.contains_key(number);
        let letters: Vec<u64> = sent.iter().copied().filter(is_there).collect();
        if letters.is_empty() {
            return Ok(());
        }
        // They were of one round.
        let of_these = |request: &&LiveRequest| letters.iter().any(|number| request.letters.contains(number));
        let request = self.requests.iter().find(of_these).map_or(0, |request| request.number);
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        self.flight = Some(Flight {
            ticket,
            request,
            letters,
            counted: false,
        });
        self.settle(ticket)
    }

    pub(super) fn settle(&mut self, ticket: Ticket) -> Result<(), Box<Problem>> {
        let Some(flight) = self.flight.take_if(|flight| flight.ticket == ticket) else {
            return Ok(());
        };
        // What has come to wait behind these follows in the next round.
        let mut followers: FxHashSet<u64> = FxHashSet::default();
        for number in &flight.letters {
            if !followers.contains(number) {
                followers.extend(self.index.group(*number));
            }
        }
        let mut superseded: Vec<u64> = Vec::new();
        let mut records = Vec::new();
        if !flight.letters.is_empty() {
            records.push(Record::Gone(Gone {
                letters: flight.letters.clone(),
                why: Why::Replayed,
                at_us: now_us(),
            }));
        }
        if let Some(at) = self
            .requests
            .iter()
            .position(|request| request.number == flight.request)
        {
            if self.requests[at].force {
                superseded = self.overtaken(&flight, &flight.letters);
            }
            let request = &mut self.requests[at];
            if !request.force {
                let fresh = followers.iter().filter(|number| !request.failed.contains(number));
                request.letters.extend(fresh);
            }
            flight.letters.iter().for_each(|number| {
                request.letters.remove(number);
            });
            records.push(Record::Replay(Request {
                request: request.number,
                letters: request.letters.iter().copied().collect(),
                force: request.force,
                kept: self.index.keep_number(request.number, request.failed.iter().copied()),
            }));
            if request.letters.is_empty() {
                self.requests.remove(at);
            }
        }
        if !superseded.is_empty() {
            let letters = superseded.clone();
            records.push(Record::Superseded { letters });
        }
        self.append(records)?;
        self.take_out(&flight.letters, superseded);
        let (request, letters) = (flight.request, flight.letters.len());
        tracing::info!(request, letters, "dead letters were delivered");
        self.compact_if_worth_it()
    }

    /// What was set aside before those that have arrived, of the same keys: it would bring older rows back.
    pub(super) fn overtaken(&self, flight: &Flight, arrived: &[u64]) -> Vec<u64> {
        let earlier = arrived.iter().flat_map(|number| self.index.earlier(*number));
        let others = earlier.filter(|number| !flight.has(*number));
        let others: BTreeSet<u64> = others.collect();
        others.into_iter().collect()
    }

    /// Behind the records that say so.
    pub(super) fn take_out(&mut self, arrived: &[u64], superseded: Vec<u64>) {
        for number in arrived {
            self.index.remove(*number);
        }
        superseded
            .into_iter()
            .for_each(|number| self.index.mark_superseded(number));
        self.counts.replayed += arrived.len() as u64;
    }
}
