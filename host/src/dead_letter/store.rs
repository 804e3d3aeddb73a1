//! The store: letters on disk, what they block in memory, one lock around both.

use super::fault;
use super::file::{self, LetterFile};
use super::index::{Entry, Index};
use super::letter::Letter;
use super::line::{FORMAT, Header, Place, Record, Request};
use super::replay::{Flight, LiveRequest};
use crate::batch::{Lsn, Relation};
use crate::config;
use crate::problem::Problem;
use rustc_hash::FxHashMap;
use std::collections::VecDeque;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

/// The store of one pipeline. Clones share it. Whoever opens it holds the lock of the state folder.
#[derive(Clone)]
pub struct DeadLetters {
    shared: Arc<Shared>,
}

struct Shared {
    /// Nothing is blocked and nothing is known: looked at for every batch, without the lock.
    empty: AtomicBool,
    state: Mutex<State>,
}

/// A route's number in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RouteId(pub(super) u32);

/// How many there are, and what has become of others since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub letters: usize,
    /// Keys whose changes are set aside.
    pub blocked_keys: usize,
    /// Of the file.
    pub bytes: u64,
    pub set_aside: u64,
    pub replayed: u64,
    pub dropped: u64,
    pub expired: u64,
}

pub(super) struct State {
    pub file: LetterFile,
    pub index: Index,
    pub routes: Vec<String>,
    tables: FxHashMap<String, Arc<str>>,
    pub limits: config::DeadLetters,
    pub pipeline: String,
    pub next_letter: u64,
    pub next_request: u32,
    pub requests: VecDeque<LiveRequest>,
    pub flight: Option<Flight>,
    pub next_ticket: u64,
    /// Relations made for replays: plugins and sinks look at each once.
    pub relations: FxHashMap<super::Table, Arc<Relation>>,
    pub counts: Counts,
    pub expired_at_us: i64,
    /// An append failed: what is on disk is known once it is opened anew.
    pub broken: bool,
    /// Scratch for keys.
    pub scratch: Vec<u8>,
}

impl DeadLetters {
    /// Opens the store of a pipeline inside its state folder and makes it where there is none.
    ///
    /// # Errors
    /// Damage, another format or pipeline, or a disk that can't be used.
    pub fn open(state_dir: &Path, pipeline: &str, limits: &config::DeadLetters) -> Result<Self, Box<Problem>> {
        let state = State::open(state_dir, pipeline, limits)?;
        Ok(Self {
            shared: Arc::new(Shared {
                empty: AtomicBool::new(state.index.is_empty()),
                state: Mutex::new(state),
            }),
        })
    }

    /// Whether no change is to be looked at: nothing is set aside. Costs one load.
    pub fn is_empty(&self) -> bool {
        self.shared.empty.load(Ordering::Acquire)
    }

    /// The number of a route, by its name from [`super::route_names`].
    pub fn route(&self, name: &str) -> RouteId {
        self.lock().route(name)
    }

    /// The server doesn't send again what committed before `lsn`: the position is stored.
    pub fn acknowledged(&self, lsn: Lsn) {
        if !self.is_empty() {
            self.with(|state| {
                let passed = state.index.acknowledged(lsn);
                state.forget_refused(passed);
            });
        }
    }

    pub fn counts(&self) -> Counts {
        let state = self.lock();
        Counts {
            letters: state.index.entries.len(),
            blocked_keys: state.index.blocked_keys,
            bytes: state.file.len(),
            ..state.counts
        }
    }

    /// Works under the lock, and looks anew whether there is anything.
    pub(super) fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.lock();
        let done = work(&mut state);
        self.shared.empty.store(state.index.is_empty(), Ordering::Release);
        done
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn open(state_dir: &Path, pipeline: &str, limits: &config::DeadLetters) -> Result<Self, Box<Problem>> {
        let mut loaded = Loaded::default();
        let file = LetterFile::open(state_dir, |place, record| loaded.take(place, record))?;
        let path = file::path(state_dir);
        if let Some(header) = &loaded.header {
            if header.format != FORMAT {
                let cause = format!("format {}, this version has {FORMAT}", header.format);
                return Err(fault::other_format(&path, cause));
            }
            if header.pipeline != pipeline {
                let cause = format!("it belongs to pipeline `{}`", header.pipeline);
                return Err(fault::other_format(&path, cause));
            }
        }
        let is_new = loaded.header.is_none();
        let mut state = Self {
            file,
            index: loaded.index,
            routes: loaded.routes,
            tables: loaded.tables,
            limits: *limits,
            pipeline: pipeline.to_owned(),
            next_letter: loaded.next_letter.max(1),
            next_request: loaded.next_request.max(1),
            requests: loaded.requests,
            flight: None,
            next_ticket: 1,
            relations: FxHashMap::default(),
            counts: Counts::default(),
            expired_at_us: 0,
            broken: false,
            scratch: Vec::new(),
        };
        if is_new {
            let header = state.header();
            state.append(vec![header])?;
        }
        Ok(state)
    }

    pub(super) fn header(&self) -> Record {
        Record::File(Header {
            format: FORMAT,
            pipeline: self.pipeline.clone(),
            next_letter: self.next_letter,
            next_request: self.next_request,
        })
    }

    pub(super) fn route(&mut self, name: &str) -> RouteId {
        RouteId(intern(&mut self.routes, name))
    }

    pub(super) fn entry(&mut self, letter: &Letter, place: Place) -> Entry {
        let route = intern(&mut self.routes, &letter.route);
        let table = intern_table(&mut self.tables, letter.table.full_name());
        Entry::new(letter, route, table, place)
    }

    /// Makes records durable and gives the letters among them their places. After an error nothing more is taken.
    pub(super) fn append(&mut self, records: Vec<Record>) -> Result<(), Box<Problem>> {
        if self.broken {
            return Err(fault::broken());
        }
        if records.is_empty() {
            return Ok(());
        }
        let done = self.append_records(&records);
        // What is in memory is ahead of what is on disk now.
        self.broken = done.is_err();
        done
    }

    fn append_records(&mut self, records: &[Record]) -> Result<(), Box<Problem>> {
        let (mut framed, mut places) = self.file.frame(records)?;
        let adds = records.iter().any(|record| matches!(record, Record::Letter(_)));
        let over = |state: &Self, framed: &[u8]| adds && state.file.len() + framed.len() as u64 > state.limits.quota.0;
        if over(self, &framed) && self.make_room()? {
            (framed, places) = self.file.frame(records)?;
        }
        if over(self, &framed) {
            return Err(fault::full(self.file.len(), framed.len() as u64, self.limits.quota.0));
        }
        self.file.append(&framed)?;
        for (record, place) in records.iter().zip(places) {
            if let Record::Letter(letter) = record {
                self.index.set_place(letter.number, place);
            }
        }
        Ok(())
    }
}

/// What a file has, record by record.
#[derive(Default)]
struct Loaded {
    header: Option<Header>,
    index: Index,
    routes: Vec<String>,
    tables: FxHashMap<String, Arc<str>>,
    requests: VecDeque<LiveRequest>,
    next_letter: u64,
    next_request: u32,
}

impl Loaded {
    fn take(&mut self, place: Place, record: Record) {
        match record {
            Record::File(header) => {
                self.next_letter = self.next_letter.max(header.next_letter);
                self.next_request = self.next_request.max(header.next_request);
                self.header = Some(header);
            }
            Record::Letter(letter) => {
                let route = intern(&mut self.routes, &letter.route);
                let table = intern_table(&mut self.tables, letter.table.full_name());
                let mut entry = Entry::new(&letter, route, table, place);
                if let Some(before) = self.index.remove(letter.number) {
                    entry.superseded = before.superseded;
                    entry.sent_under = before.sent_under;
                }
                self.index.insert(letter.number, entry);
                self.next_letter = self.next_letter.max(letter.number.saturating_add(1));
            }
            Record::Gone(gone) => gone.letters.iter().for_each(|number| {
                self.index.remove(*number);
            }),
            Record::Superseded { letters } => {
                letters.iter().for_each(|number| self.index.mark_superseded(*number));
            }
            Record::Replay(request) => self.request(request),
            Record::Ghost(ghost) => {
                let route = intern(&mut self.routes, &ghost.route);
                self.index.ghost((route, ghost.lsn, ghost.ordinal));
            }
            Record::Refused(refused) => {
                let route = intern(&mut self.routes, &refused.route);
                let id = (route, refused.lsn, refused.ordinal);
                match refused.forgotten {
                    true => self.index.forget_refused(id),
                    false => {
                        self.index.refuse(id, refused.sink);
                    }
                }
            }
        }
    }

    fn request(&mut self, request: Request) {
        self.next_request = self.next_request.max(request.request.saturating_add(1));
        self.index.keep_number(request.request, request.kept.iter().copied());
        self.requests.retain(|other| other.number != request.request);
        if !request.letters.is_empty() {
            self.requests.push_back(LiveRequest::from(request));
            self.requests.make_contiguous().sort_by_key(|request| request.number);
        }
    }
}

/// There are few routes, and they are looked up once.
fn intern(routes: &mut Vec<String>, name: &str) -> u32 {
    if let Some(at) = routes.iter().position(|known| known == name) {
        return at as u32;
    }
    routes.push(name.to_owned());
    (routes.len() - 1) as u32
}

fn intern_table(tables: &mut FxHashMap<String, Arc<str>>, name: String) -> Arc<str> {
    let shared = tables.entry(name).or_insert_with_key(|name| Arc::from(name.as_str()));
    Arc::clone(shared)
}

/// µs since 1970.
pub(super) fn now_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}
