//! What a plugin keeps from row to row, and how a new instance comes to where a broken one was.
//!
//! ```text
//!   base state        journal: the calls since then             the instance
//!   [bytes]           schema, batch, batch, schema, batch  -->  [base + all of them]
//!      ^                                                              |
//!      +------------------ rowmill_checkpoint ------------------------+   the journal begins anew
//! ```
//!
//! A call is written down once its whole reply was accepted, with every input that it had. So base and journal are
//! always exactly what the plugin has accepted; a call that failed is in neither. After a fault a new instance gets
//! the base state and is taken through the journal, with its output thrown away. The journal is bounded: at its bound
//! the base is taken anew.
//!
//! Entries by key are the host's and don't come back by running calls again: a plugin that has both has its base taken
//! anew after each call, and never a journal of more than what it was told of relations.

use super::encode::Seed;
use super::entries::SharedEntries;
use super::manifest::Manifest;
use std::fmt;
use std::sync::Arc;

/// Inputs that are kept for running them again, in bytes; encoded rows for the most part.
const JOURNAL_BYTES_MAX: usize = 8 << 20;
/// And how many: running them again must take moments.
const JOURNAL_CALLS_MAX: usize = 256;

/// State of a plugin, as the plugin gave it.
#[derive(Clone, PartialEq, Eq)]
pub struct State {
    /// The `state_version` of the module that gave it.
    pub version: u32,
    pub bytes: Arc<[u8]>,
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "State(version {}, {} bytes)", self.version, self.bytes.len())
    }
}

/// What an instance of a plugin goes on with.
#[derive(Clone, Debug, Default)]
pub struct Kept {
    /// `None` where it begins empty.
    pub state: Option<State>,
    /// `None` where it may not use them; where it may and there are none given, it gets some of its own.
    pub entries: Option<SharedEntries>,
}

/// A call of `rowmill_batch` with all that went into it.
#[derive(Clone, Debug)]
pub(crate) struct BatchCall {
    pub request: Vec<u8>,
    pub commit_us: Vec<i64>,
    pub seeds: Vec<Seed>,
}

/// A call that was accepted.
#[derive(Clone, Debug)]
pub(crate) enum Call {
    Schema(Vec<u8>),
    Batch(BatchCall),
}

/// Base and journal of one instance. Clones share the calls.
#[derive(Clone, Debug)]
pub(crate) struct Keeper {
    /// Whether the plugin gives state.
    pub has_state: bool,
    pub has_entries: bool,
    pub kept: Kept,
    /// The relations it was told of before the base was taken.
    told: Vec<Arc<Call>>,
    journal: Vec<Arc<Call>>,
    journal_bytes: usize,
    /// Counts the batches.
    accepted: u64,
    /// Points to go back to, the newest last.
    saved: Vec<Saved>,
}

/// Where base and journal stood at a [`Keeper::save`].
#[derive(Clone, Debug)]
struct Saved {
    accepted: u64,
    journal: usize,
    journal_bytes: usize,
    /// What they were, where the base has been taken anew since.
    rebased: Option<Box<Rebased>>,
}

#[derive(Clone, Debug)]
struct Rebased {
    state: Option<State>,
    told: Vec<Arc<Call>>,
    journal: Vec<Arc<Call>>,
}

impl Keeper {
    pub fn new(manifest: &Manifest, kept: Kept) -> Self {
        Self {
            has_state: manifest.has_state(),
            has_entries: manifest.has_entries(),
            kept,
            told: Vec::new(),
            journal: Vec::new(),
            journal_bytes: 0,
            accepted: 0,
            saved: Vec::new(),
        }
    }

    /// Notes where it stands. Each is followed by [`Self::keep`] or [`Self::put_back`]; they may be nested.
    pub fn save(&mut self) {
        self.saved.push(Saved {
            accepted: self.accepted,
            journal: self.journal.len(),
            journal_bytes: self.journal_bytes,
            rebased: None,
        });
    }

    /// Nothing will be put back to the last [`Self::save`].
    pub fn keep(&mut self) {
        self.saved.pop();
    }

    /// Goes back to the last [`Self::save`], but for the relations that were announced since. Tells whether batches were
    /// accepted since then: only then has it changed.
    pub fn put_back(&mut self) -> bool {
        let Some(saved) = self.saved.pop() else { return false };
        if self.accepted == saved.accepted {
            return false;
        }
        let announced: Vec<_> = match saved.rebased {
            None => self.journal.drain(saved.journal..).filter(is_schema).collect(),
            Some(before) => {
                let known = schemas(&before.told, &before.journal).count();
                let announced = schemas(&self.told, &self.journal).skip(known).cloned().collect();
                self.kept.state = before.state;
                self.told = before.told;
                self.journal = before.journal;
                announced
            }
        };
        self.accepted = saved.accepted;
        self.journal_bytes = saved.journal_bytes;
        self.journal.extend(announced);
        true
    }

    /// Whether calls leave something behind.
    pub fn keeps(&self) -> bool {
        self.has_state || self.has_entries
    }

    /// A relation was announced and the answer taken.
    pub fn announced(&mut self, request: &[u8]) {
        if self.has_state {
            self.journal.push(Arc::new(Call::Schema(request.to_vec())));
        }
    }

    /// A batch was answered and the reply taken. `call` is asked for where it has to be kept.
    pub fn accepted(&mut self, call: impl FnOnce() -> BatchCall) {
        self.accepted += 1;
        if !self.has_state || self.has_entries {
            return;
        }
        let call = call();
        let seeds = call.seeds.len() * size_of::<Seed>() + call.commit_us.len() * 8;
        self.journal_bytes += call.request.len() + seeds;
        self.journal.push(Arc::new(Call::Batch(call)));
    }

    /// Whether the base has to be taken anew before the next call.
    pub fn wants_base(&self) -> bool {
        self.has_state
            && (self.has_entries
                || self.journal_bytes >= JOURNAL_BYTES_MAX
                || self.journal.len() >= JOURNAL_CALLS_MAX + self.told.len())
    }

    /// Whether a new instance would have to be taken through batches.
    pub fn has_journal(&self) -> bool {
        self.journal_bytes > 0
    }

    /// Whether the base isn't what the plugin has now.
    pub fn wants_checkpoint(&self) -> bool {
        self.has_state && (self.kept.state.is_none() || !self.has_entries)
    }

    pub fn rebase(&mut self, state: State) {
        for saved in self.saved.iter_mut().filter(|saved| saved.rebased.is_none()) {
            saved.rebased = Some(Box::new(Rebased {
                state: self.kept.state.clone(),
                told: self.told.clone(),
                journal: self.journal[..saved.journal].to_vec(),
            }));
        }
        self.kept.state = Some(state);
        self.journal_bytes = 0;
        self.told.extend(self.journal.drain(..).filter(is_schema));
    }

    /// What brings a new instance that has the base to where the old one was.
    pub fn calls(&self) -> impl Iterator<Item = Arc<Call>> + use<> {
        self.told.clone().into_iter().chain(self.journal.clone())
    }
}

/// In the order in which they were announced.
fn schemas<'a>(told: &'a [Arc<Call>], journal: &'a [Arc<Call>]) -> impl Iterator<Item = &'a Arc<Call>> {
    told.iter().chain(journal).filter(|call| is_schema(call))
}

fn is_schema(call: &Arc<Call>) -> bool {
    matches!(**call, Call::Schema(_))
}
