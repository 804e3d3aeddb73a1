//! What was written: each change has a number, and everything in it follows from that.

use std::collections::{BTreeSet, HashMap, HashSet};

/// A position in the WAL.
pub type Lsn = u64;

/// `events` only grows; rows of `accounts` come, change and go. `tag` is what the plugin writes, `email` what it masks,
/// `spare` may go.
pub const TABLES: &str = "
    CREATE TABLE events (id bigint PRIMARY KEY, txn bigint, key bigint, payload text, email text, tag text,
        spare text DEFAULT 's');
    CREATE TABLE accounts (key bigint PRIMARY KEY, txn bigint, seq bigint, payload text, email text, tag text,
        spare text DEFAULT 's');
    ALTER TABLE accounts REPLICA IDENTITY FULL;
    ALTER TABLE events ALTER payload SET STORAGE EXTERNAL;
";

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Table {
    Events,
    Accounts,
}

/// One change of a row. A delete has the number of the version that it deletes: so it can be told where it arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    pub table: Table,
    pub key: u64,
    pub number: u64,
    pub is_delete: bool,
    pub transaction: u64,
}

impl Change {
    /// The id of the event of this number.
    pub fn event(number: u64) -> u64 {
        number * 2
    }

    /// Grows for each key in the order of its commits.
    pub fn id(&self) -> u64 {
        self.number * 2 + u64::from(self.is_delete)
    }

    /// What stands in its row's column `payload`: now and then long enough to be kept out of line.
    pub fn payload(&self) -> String {
        let word = self.number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let times = if self.number.is_multiple_of(29) { 400 } else { 1 };
        format!("{word:016x}").repeat(times)
    }

    /// What stands in `email` at the source, and may stand nowhere else.
    pub fn email(&self) -> String {
        format!(
            "{}-{}@example.com.{:04}",
            super::CANARY,
            self.number,
            self.number % 10_000
        )
    }
}

/// What `mask_pii` makes of a row's `email` by `keep-last-4`.
pub fn masked(change: &Change) -> String {
    format!("***{:04}", change.number % 10_000)
}

/// `0/16B3748` as a number.
pub fn lsn(text: &str) -> Option<Lsn> {
    let (high, low) = text.trim().split_once('/')?;
    Some(u64::from_str_radix(high, 16).ok()? << 32 | u64::from_str_radix(low, 16).ok()?)
}

/// Everything that writers have done, by the ids of changes.
#[derive(Debug, Default)]
pub struct Ledger {
    pub(super) due: HashMap<u64, Change>,
    /// Those of `due` that no judge has seen at all sinks yet.
    pub(super) unsettled: Vec<u64>,
    pub(super) forbidden: HashSet<u64>,
    /// Transactions with positions between which their commits lie.
    pub(super) between: HashMap<u64, (Lsn, Lsn)>,
    /// The present version of each account; `None` where it was deleted.
    pub(super) accounts: HashMap<u64, Option<u64>>,
    /// What the plugin may have written.
    pub(super) tags: BTreeSet<String>,
    /// What has been done to the pipeline that lets a sink of small promises get something twice.
    pub(super) faults: u64,
    /// Transactions of which it isn't known yet whether they were committed: they may arrive before it is.
    pub ending: std::collections::BTreeSet<u64>,
    /// Transactions that were prepared, and then committed or rolled back.
    pub(super) prepared: u64,
}

impl Ledger {
    /// A transaction was committed, between these positions where they are known.
    pub fn committed(&mut self, changes: &[Change], between: Option<(Lsn, Lsn)>) {
        for change in changes {
            let id = change.id();
            self.forbidden.remove(&id);
            self.due.insert(id, *change);
            self.unsettled.push(id);
            if change.table == Table::Accounts {
                let version = (!change.is_delete).then_some(change.number);
                self.accounts.insert(change.key, version);
            }
            if let Some(between) = between {
                self.between.insert(change.transaction, between);
            }
        }
    }

    /// These changes never came to be.
    pub fn undone(&mut self, changes: &[Change]) {
        let ids = changes.iter().map(Change::id).filter(|id| !self.due.contains_key(id));
        self.forbidden.extend(ids.collect::<Vec<_>>());
    }

    /// From now on rows may have this tag.
    pub fn tag(&mut self, tag: String) {
        self.tags.insert(tag);
    }

    pub fn fault(&mut self) {
        self.faults += 1;
    }

    /// Transactions that were prepared first.
    pub fn prepared(&self) -> u64 {
        self.prepared
    }

    /// Changes that have to arrive, of all times.
    pub fn obligations(&self) -> usize {
        self.due.len()
    }

    /// Changes that were rolled back.
    pub fn forbidden(&self) -> usize {
        self.forbidden.len()
    }
}
