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
use super::fault;
use super::letter::Letter;
use super::line::{Gone, Record, Request, Why};
use super::store::{DeadLetters, RouteId, State, now_us};
use super::value::Owned;
use crate::batch::{Batch, Cell, Lsn, OldImage, Origin, Part, Relation, Replay, Row, Transaction, Value};
use crate::problem::Problem;
use bytes::Bytes;
use rustc_hash::FxHashSet;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Sent at once: a batch's worth, so that the stream isn't held up for long.
const ROUND_LETTERS: usize = 10_000;
const ROUND_BYTES: u64 = 8 << 20;
/// Rounds that run beside the stream before it has to wait for one.
const FREE_ROUNDS: u32 = 3;
/// Relations kept before all are let go.
const RELATIONS_MAX: usize = 1_000;
/// Requests that wait.
const REQUESTS_MAX: usize = 1_000;

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
    /// Its number, part of the ids under which the letters are sent.
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
    pub(super) fn is_forced(&self) -> bool {
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
}

impl Flight {
    pub(super) fn has(&self, number: u64) -> bool {
        self.letters.contains(&number)
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
    /// The stream has to wait until this is settled: no batch may go on before.
    pub hold: bool,
    /// By the transaction's index.
    letters: Vec<u64>,
    force: bool,
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
    /// transactions.
    pub fn take_replay(&self) -> Result<Option<ReplayBatch>, Box<Problem>> {
        if self.is_empty() {
            return Ok(None);
        }
        self.with(State::take_replay)
    }

    /// What the plugins couldn't take through stays, with its new cause, and so do later letters of its keys. Neither
    /// may be delivered. Durable on return.
    pub fn failed_again(&self, replay: &ReplayBatch, asides: Vec<Aside>) -> Result<Held, Box<Problem>> {
        if asides.is_empty() {
            return Ok(Held::default());
        }
        self.with(|state| state.failed_again(replay, asides))
    }

    /// Everything of the round is durable at every sink, or nothing of it was left: its letters are gone. A ticket that
    /// isn't under way, of an earlier session say, changes nothing.
    pub fn settle(&self, ticket: Ticket) -> Result<(), Box<Problem>> {
        self.with(|state| state.settle(ticket))
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
    pub(super) fn select(&self, selection: &Selection) -> Result<Vec<u64>, Box<Problem>> {
        let entries = &self.index.entries;
        Ok(match selection {
            Selection::Numbers(numbers) => {
                if let Some(missing) = numbers.iter().find(|number| !entries.contains_key(number)) {
                    return Err(fault::unknown(*missing));
                }
                numbers.iter().copied().collect::<BTreeSet<u64>>().into_iter().collect()
            }
            Selection::Table(table) => {
                let of_table = entries.iter().filter(|(_, entry)| *entry.table == **table);
                of_table.map(|(number, _)| *number).collect()
            }
            Selection::All => entries.keys().copied().collect(),
        })
    }

    fn request(&mut self, selection: &Selection, force: bool) -> Result<Requested, Box<Problem>> {
        if self.requests.len() >= REQUESTS_MAX {
            return Err(fault::too_many_requests(REQUESTS_MAX));
        }
        let named = self.select(selection)?;
        let is_superseded = |number: &u64| self.index.entries.get(number).is_some_and(|entry| entry.superseded);
        let mut superseded: Vec<u64> = Vec::new();
        if !force {
            superseded.extend(named.iter().copied().filter(is_superseded));
        }
        if let (Selection::Numbers(_), Some(first)) = (selection, superseded.first()) {
            let table = self
                .index
                .entries
                .get(first)
                .map_or_else(String::new, |e| e.table.to_string());
            return Err(fault::superseded(*first, &table));
        }
        let mut letters: BTreeSet<u64> = BTreeSet::new();
        for number in named.into_iter().filter(|number| !superseded.contains(number)) {
            if force {
                letters.insert(number);
            } else if !letters.contains(&number) {
                letters.extend(self.index.group(number));
            }
        }
        let letters: Vec<u64> = letters.into_iter().collect();
        let request = self.next_request;
        let record = Request {
            request,
            letters: letters.clone(),
            force,
        };
        if !letters.is_empty() {
            self.append(vec![Record::Replay(record.clone())])?;
            self.next_request += 1;
            self.requests.push_back(LiveRequest::from(record));
        }
        Ok(Requested {
            request,
            letters,
            superseded,
        })
    }

    fn take_replay(&mut self) -> Result<Option<ReplayBatch>, Box<Problem>> {
        if self.flight.is_some() {
            return Ok(None);
        }
        while let Some(mut request) = self.requests.pop_front() {
            let round = self.round(&mut request);
            if round.is_empty() {
                self.append(vec![done(request.number)])?;
                continue;
            }
            request.rounds += 1;
            let ticket = Ticket(self.next_ticket);
            let replay = self.build(ticket, &request, &round);
            if replay.is_ok() {
                self.next_ticket += 1;
                let (request, letters) = (request.number, round);
                self.flight = Some(Flight {
                    ticket,
                    request,
                    letters,
                });
            }
            self.requests.push_front(request);
            return replay.map(Some);
        }
        Ok(None)
    }

    /// What of a request goes out next, in order: whole groups of letters that share keys, but for those in which one
    /// has failed again, cut off where it gets too much.
    fn round(&self, request: &mut LiveRequest) -> Vec<u64> {
        let entries = &self.index.entries;
        let force = request.force;
        request
            .letters
            .retain(|number| entries.get(number).is_some_and(|entry| force || !entry.superseded));
        let mut chosen: Vec<u64> = if force {
            request.letters.iter().copied().collect()
        } else {
            let mut seen: FxHashSet<u64> = FxHashSet::default();
            let mut chosen = Vec::new();
            for number in request.letters.clone() {
                if seen.contains(&number) {
                    continue;
                }
                let group = self.index.group(number);
                seen.extend(&group);
                if group.is_disjoint(&request.failed) {
                    chosen.extend(&group);
                    request.letters.extend(group);
                } else {
                    request.letters.retain(|number| !group.contains(number));
                }
            }
            chosen
        };
        chosen.sort_by_key(|number| (entries[number].order, *number));
        let mut bytes = 0;
        let fitting = chosen.iter().take(ROUND_LETTERS).take_while(|number| {
            let fits = bytes == 0 || bytes + entries[number].place.len <= ROUND_BYTES;
            bytes += entries[number].place.len;
            fits
        });
        let count = fitting.count();
        chosen.truncate(count);
        chosen
    }

    fn build(&mut self, ticket: Ticket, request: &LiveRequest, round: &[u64]) -> Result<ReplayBatch, Box<Problem>> {
        let mut replay = ReplayBatch {
            ticket,
            batch: Batch::default(),
            rows: Vec::new(),
            hold: request.rounds > FREE_ROUNDS || self.is_crowded(round),
            letters: round.to_vec(),
            force: request.force,
        };
        let mut binary = Vec::new();
        for number in round {
            let letter = self.letter(*number)?;
            let Some(relation) = self.relation(&letter) else {
                return Err(fault::unknown(*number));
            };
            replay.push(
                self.route(&letter.route),
                &relation,
                &letter,
                request.number,
                &mut binary,
            );
        }
        replay.batch.bytes = Bytes::from(binary);
        replay.rows.sort_by_key(|(route, _)| route.0);
        Ok(replay)
    }

    /// Whether so many wait in a table that more might stop the pipeline before this is through.
    fn is_crowded(&self, round: &[u64]) -> bool {
        let mut entries = round.iter().filter_map(|number| self.index.entries.get(number));
        entries.any(|entry| self.index.behind(entry.route, entry.oid) * 2 > self.limits.max_behind)
    }

    pub(super) fn letter(&self, number: u64) -> Result<Letter, Box<Problem>> {
        let entry = self.index.entries.get(&number).ok_or_else(|| fault::unknown(number))?;
        match self.file.read(entry.place)? {
            Record::Letter(letter) => Ok(*letter),
            _ => Err(fault::unknown(number)),
        }
    }

    fn relation(&mut self, letter: &Letter) -> Option<Arc<Relation>> {
        if let Some(known) = self.relations.get(&letter.table) {
            return Some(Arc::clone(known));
        }
        if self.relations.len() >= RELATIONS_MAX {
            self.relations.clear();
        }
        let relation = Arc::new(letter.table.to_relation()?);
        self.relations.insert(letter.table.clone(), Arc::clone(&relation));
        Some(relation)
    }

    fn failed_again(&mut self, replay: &ReplayBatch, asides: Vec<Aside>) -> Result<Held, Box<Problem>> {
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
        let held = self.held_with(replay, &failed);
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

    /// Those that failed, and later ones of the round that share a key with one of these.
    fn held_with(&self, replay: &ReplayBatch, failed: &FxHashSet<u64>) -> FxHashSet<u64> {
        if replay.force {
            return failed.clone();
        }
        let mut held = FxHashSet::default();
        let mut blocked: FxHashSet<(u32, u32, &[u8])> = FxHashSet::default();
        let mut tables: FxHashSet<(u32, u32)> = FxHashSet::default();
        for number in &replay.letters {
            let Some(entry) = self.index.entries.get(number) else {
                continue;
            };
            let (route, oid) = (entry.route, entry.oid);
            let keys = || entry.keys.own.iter().map(move |key| (route, oid, &**key));
            let any_held = tables.contains(&(route, oid));
            let waits = any_held && (entry.keys.wild || blocked.contains(&(route, oid, &[][..])))
                || keys().any(|key| blocked.contains(&key));
            if failed.contains(number) || waits {
                held.insert(*number);
                tables.insert((route, oid));
                blocked.extend(keys());
                if entry.keys.wild {
                    // No key is empty: it stands for all of them.
                    blocked.insert((route, oid, &[]));
                }
            }
        }
        held
    }

    fn settle(&mut self, ticket: Ticket) -> Result<(), Box<Problem>> {
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
            }));
            if request.letters.is_empty() {
                self.requests.remove(at);
            }
        }
        self.append(records)?;
        for number in &flight.letters {
            self.index.remove(*number);
        }
        self.counts.replayed += flight.letters.len() as u64;
        let (request, letters) = (flight.request, flight.letters.len());
        tracing::info!(request, letters, "dead letters were delivered");
        self.compact_if_worth_it()
    }
}

fn done(request: u32) -> Record {
    Record::Replay(Request {
        request,
        ..Request::default()
    })
}

impl ReplayBatch {
    /// How many letters it has.
    pub fn len(&self) -> usize {
        self.letters.len()
    }

    pub fn is_empty(&self) -> bool {
        self.letters.is_empty()
    }

    fn push(&mut self, route: RouteId, relation: &Arc<Relation>, letter: &Letter, request: u32, binary: &mut Vec<u8>) {
        let batch = &mut self.batch;
        let index = batch.relation_index(relation);
        let transaction = batch.transactions.len() as u32;
        batch.transactions.push(Transaction {
            xid: letter.change.xid,
            commit_lsn: letter.change.commit_lsn,
            // It moves no position.
            end_lsn: Lsn(0),
            commit_us: letter.change.commit_us,
            part: Part::Whole,
            origin: Origin::Replay(Replay {
                request,
                letter: letter.number,
                copy: letter.change.unit(),
            }),
        });
        let mut image = |image: &Option<Vec<Owned>>| {
            let values = image.as_ref()?;
            let cells: Vec<Cell> = values
                .iter()
                .map(|value| match value.as_value() {
                    Value::Null => Cell::NULL,
                    Value::Unchanged => Cell::UNCHANGED,
                    Value::Absent => Cell::ABSENT,
                    Value::Text(text) => batch.text_cell(text),
                    Value::Binary(bytes) => {
                        binary.extend_from_slice(bytes);
                        Cell::binary(binary.len() - bytes.len(), bytes.len())
                    }
                })
                .collect();
            Some(batch.push_tuple(cells))
        };
        let row = Row {
            relation: index,
            transaction,
            ordinal: letter.change.ordinal,
            new: image(&letter.new),
            old: image(&letter.old),
            extra: 0,
            fan_out: 0,
            op: letter.op,
            old_image: if letter.old_whole {
                OldImage::Full
            } else {
                OldImage::Key
            },
        };
        match self.rows.iter_mut().find(|(known, _)| *known == route) {
            Some((_, rows)) => rows.push(row),
            None => self.rows.push((route, vec![row])),
        }
    }
}
