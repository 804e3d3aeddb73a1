//! Sending letters again.
//!
//! ```text
//!   request (durable) --> take at a commit boundary --> plugins --> sinks --> durable everywhere --> settle: gone
//!                              ^                          | failed again: stays, with the new cause
//!                              +------ next round <-------+ what waited behind the others meanwhile
//! ```
//!
//! The keys stay blocked until it is settled, so nothing overtakes what is on its way, and a crash in between sends it
//! again under the same ids. Changes that arrive meanwhile wait behind and follow in a next round. After some rounds
//! the stream is to wait for one, or a busy key would never be free again; at once where so many wait that the table
//! would stop.

use super::aside::{Aside, Held};
use super::behind::Behind;
use super::fault;
use super::letter::Letter;
use super::line::{Record, Request};
use super::store::{DeadLetters, RouteId, State};
use crate::batch::{Batch, Lsn, Row};
use crate::problem::Problem;
use rustc_hash::{FxHashMap, FxHashSet};
use std::collections::BTreeSet;
use std::sync::Arc;

mod batch;
mod called_off;
mod outcome;
mod request;
mod round;

pub use called_off::called_off_for;

/// Which letters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    Numbers(Vec<u64>),
    /// `schema.table`
    Table(String),
    All,
}

/// What was asked for, durably.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requested {
    /// Its number, part of the ids under which letters are sent that no earlier request has sent.
    pub request: u32,
    /// Those named, and those that share a key with them.
    pub letters: Vec<u64>,
    /// Left out, as a later change of their key was delivered.
    pub superseded: Vec<u64>,
}

#[derive(Debug)]
pub(super) struct LiveRequest {
    pub number: u32,
    /// Still to be sent.
    pub letters: BTreeSet<u64>,
    /// Failed again, or had to wait behind one that did.
    failed: FxHashSet<u64>,
    force: bool,
    rounds: u32,
}

impl From<Request> for LiveRequest {
    fn from(request: Request) -> Self {
        Self {
            number: request.request,
            letters: request.letters.into_iter().collect(),
            failed: FxHashSet::default(),
            force: request.force,
            rounds: 0,
        }
    }
}

impl LiveRequest {
    pub(in crate::dead_letter) fn is_forced(&self) -> bool {
        self.force
    }
}

/// Letters on their way.
#[derive(Debug)]
pub(super) struct Flight {
    ticket: Ticket,
    request: u32,
    /// As they go out; those that failed again are taken out.
    letters: Vec<u64>,
    /// Whether they are gone only together with a state that has counted them.
    counted: bool,
}

impl Flight {
    pub(super) fn has(&self, number: u64) -> bool {
        self.letters.contains(&number)
    }

    /// Its letter stays when the others are gone.
    pub(super) fn leave_out(&mut self, number: u64) {
        self.letters.retain(|of_flight| *of_flight != number);
    }
}

/// A round of a replay, for the mark behind which it is settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket(pub u64);

/// Letters to be sent now, in order, each a transaction of its own that moves no position.
#[derive(Debug)]
pub struct ReplayBatch {
    pub ticket: Ticket,
    pub batch: Batch,
    /// Rows as they go into the plugins, by route.
    pub rows: Vec<(RouteId, Vec<Row>)>,
    /// How far the stream had come: they go through what counts there.
    pub position: Lsn,
    /// The stream has to wait until this is settled: no batch may go on before.
    pub hold: bool,
    /// By the transaction's index.
    letters: Vec<u64>,
    /// By the transaction's index: the sinks that lack it, where its route has others.
    only: FxHashMap<u32, Arc<[String]>>,
    force: bool,
    /// Whether the news that they have arrived waits for what the plugins keep, and is on its way with that.
    pub waits_for_state: bool,
}

impl ReplayBatch {
    /// What waits behind those that fail again.
    pub fn behind(&self) -> Behind {
        match self.force {
            true => Behind::unordered(),
            false => Behind::default(),
        }
    }

    /// Whether any letter isn't for all sinks of its route.
    pub fn is_for_some(&self) -> bool {
        !self.only.is_empty()
    }

    /// Whether a sink of its route lacks the row.
    pub fn is_for(&self, row: &Row, sink: &str) -> bool {
        let only = self.only.get(&row.transaction);
        only.is_none_or(|only| only.iter().any(|name| name == sink))
    }
}

impl DeadLetters {
    /// Remembers, durably, that letters are to be sent again.
    ///
    /// # Errors
    /// A letter that isn't there, or of whose key a later change was delivered, unless `force`.
    pub fn request_replay(&self, selection: &Selection, force: bool) -> Result<Requested, Box<Problem>> {
        self.with(|state| state.request(selection, force))
    }

    /// The next letters to be sent, if any were asked for and none are under way. To be called between two
    /// transactions, of which the last ended at `position`: where the server sends once more what came before a letter, that
    /// must not arrive behind it.
    pub fn take_replay(&self, position: Lsn) -> Result<Option<ReplayBatch>, Box<Problem>> {
        if self.is_empty() {
            return Ok(None);
        }
        self.with(|state| state.take_replay(position))
    }

    /// What the plugins couldn't take through stays, with its new cause, and so do later letters of its keys, those that
    /// are known to wait among them. Neither may be delivered. Durable on return.
    pub fn failed_again(
        &self,
        replay: &ReplayBatch,
        asides: Vec<Aside>,
        waiting: &[Held],
    ) -> Result<Held, Box<Problem>> {
        if asides.is_empty() && waiting.iter().all(Held::is_empty) {
            return Ok(Held::default());
        }
        self.with(|state| state.failed_again(replay, asides, waiting))
    }

    /// Everything of the round is durable at every sink, or nothing of it was left: its letters are gone. A ticket that
    /// isn't under way, of an earlier session say, changes nothing.
    pub fn settle(&self, ticket: Ticket) -> Result<(), Box<Problem>> {
        self.with(|state| state.settle(ticket))
    }

    /// Which letters a round has sent, but for those that failed again; none where it isn't under way.
    pub fn sent(&self, ticket: Ticket) -> Vec<u64> {
        self.with(|state| {
            let flight = state.flight.as_ref().filter(|flight| flight.ticket == ticket);
            flight.map_or_else(Vec::new, |flight| flight.letters.clone())
        })
    }

    /// These were sent and are durable everywhere, as a session before this one has noted elsewhere: they are gone. Those
    /// that are gone already change nothing.
    pub fn settle_sent(&self, letters: &[u64]) -> Result<(), Box<Problem>> {
        self.with(|state| state.settle_sent(letters))
    }

    /// What the plugins keep counts the letters of a round: they are gone only together with that.
    pub fn is_counted(&self, ticket: Ticket) {
        self.with(|state| {
            let flight = state.flight.as_mut().filter(|flight| flight.ticket == ticket);
            flight.into_iter().for_each(|flight| flight.counted = true);
        });
    }

    /// Whether letters are on their way to the sinks.
    pub fn is_under_way(&self) -> bool {
        !self.is_empty() && self.with(|state| state.flight.is_some())
    }

    /// A session begins: what an earlier one had under way is sent again, under the same ids.
    pub fn begin_session(&self) {
        self.with(|state| state.flight = None);
    }
}

impl State {
    fn take_replay(&mut self, position: Lsn) -> Result<Option<ReplayBatch>, Box<Problem>> {
        if self.flight.is_some() {
            return Ok(None);
        }
        while let Some(mut request) = self.requests.pop_front() {
            let round = self.round(&mut request, position);
            if round.is_empty() && !request.letters.is_empty() {
                // The stream has still to come to them.
                self.requests.push_front(request);
                return Ok(None);
            }
            if round.is_empty() {
                let kept = self.index.keep_number(request.number, request.failed);
                self.append(vec![done(request.number, kept)])?;
                continue;
            }
            request.rounds += 1;
            let ticket = Ticket(self.next_ticket);
            let replay = self.build(ticket, &request, &round, position);
            if replay.is_ok() {
                self.next_ticket += 1;
                let (request, letters) = (request.number, round);
                self.flight = Some(Flight {
                    ticket,
                    request,
                    letters,
                    counted: false,
                });
            }
            self.requests.push_front(request);
            return replay.map(Some);
        }
        Ok(None)
    }

    pub(in crate::dead_letter) fn letter(&self, number: u64) -> Result<Letter, Box<Problem>> {
        let entry = self.index.entries.get(&number).ok_or_else(|| fault::unknown(number))?;
        match self.file.read(entry.place)? {
            Record::Letter(letter) => Ok(*letter),
            _ => Err(fault::unknown(number)),
        }
    }
}

/// Its letters are sent, or aren't to be; those of `kept` keep its number.
fn done(request: u32, kept: Vec<u64>) -> Record {
    Record::Replay(Request {
        request,
        kept,
        ..Request::default()
    })
}
