//! A server in small: transactions with sub-transactions interleave, parts of them are streamed at any moment, tables
//! change. Whatever it does, the rows that come out are those that committed, in commit order, each under the
//! description that it was written with.

use super::messages::{abort, begin, block, change, commit, insert, keepalive, relation, stream_commit};
use super::{decoded, fed, rows};
use crate::assemble::Assembler;
use proptest::prelude::*;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

const SLOTS: usize = 4;
const TABLES: u32 = 3;

#[derive(Clone, Copy, Debug)]
enum Step {
    Write {
        slot: usize,
        table: u32,
        wide: bool,
    },
    Savepoint(usize),
    Release(usize),
    RollbackTo(usize),
    Commit(usize),
    Abort(usize),
    /// The server's memory is full: it streams what it has of this transaction.
    Stream(usize),
    /// An invalidation: the next row comes with a new description.
    Alter(u32),
    Keepalive,
}

fn step() -> impl Strategy<Value = Step> {
    let slot = || 0..SLOTS;
    prop_oneof![
        8 => (slot(), 1..=TABLES, any::<bool>()).prop_map(|(slot, table, wide)| Step::Write { slot, table, wide }),
        3 => slot().prop_map(Step::Savepoint),
        1 => slot().prop_map(Step::Release),
        2 => slot().prop_map(Step::RollbackTo),
        2 => slot().prop_map(Step::Commit),
        1 => slot().prop_map(Step::Abort),
        4 => slot().prop_map(Step::Stream),
        1 => (1..=TABLES).prop_map(Step::Alter),
        1 => Just(Step::Keepalive),
    ]
}

struct Row {
    xid: u32,
    table: u32,
    text: String,
    sent: bool,
}

#[derive(Default)]
struct Transaction {
    top: u32,
    /// The savepoints that are set, each with the ids of those that were released into it.
    stack: Vec<Vec<u32>>,
    rows: Vec<Row>,
    streamed: bool,
    /// Sub-transactions of which something was sent.
    streamed_subs: HashSet<u32>,
    /// As the server's `streamed_txns`: tables whose description this one has brought.
    described: HashSet<u32>,
}

#[derive(Default)]
struct Server {
    slots: [Transaction; SLOTS],
    next_xid: u32,
    clock: u64,
    versions: HashMap<u32, u32>,
    /// Tables whose description counts as sent outside of streamed transactions.
    sent: HashSet<u32>,
    out: Vec<Vec<u8>>,
    expected: Vec<String>,
}

impl Server {
    fn xid(&mut self) -> u32 {
        self.next_xid += 1;
        self.next_xid
    }

    fn tick(&mut self) -> u64 {
        self.clock += 10;
        self.clock
    }

    fn column(&self, table: u32) -> String {
        format!("v{}", self.versions.get(&table).copied().unwrap_or_default())
    }

    fn run(&mut self, step: Step) {
        match step {
            Step::Write { slot, table, wide } => {
                if self.slots[slot].top == 0 {
                    self.slots[slot].top = self.xid();
                }
                let number = self.tick();
                let transaction = &mut self.slots[slot];
                let innermost = transaction.stack.last().and_then(|ids| ids.first());
                let xid = innermost.copied().unwrap_or(transaction.top);
                let text = format!("{number}{}", if wide { "x".repeat(300) } else { String::new() });
                transaction.rows.push(Row {
                    xid,
                    table,
                    text,
                    sent: false,
                });
            }
            Step::Savepoint(slot) if self.slots[slot].top != 0 => {
                let xid = self.xid();
                self.slots[slot].stack.push(vec![xid]);
            }
            Step::Release(slot) => {
                let stack = &mut self.slots[slot].stack;
                if stack.len() > 1 {
                    let released = stack.pop().unwrap();
                    stack.last_mut().unwrap().extend(released);
                }
            }
            Step::RollbackTo(slot) => self.roll_back_to(slot),
            Step::Commit(slot) if self.slots[slot].top != 0 => self.commit(slot),
            Step::Abort(slot) if self.slots[slot].top != 0 => {
                let transaction = std::mem::take(&mut self.slots[slot]);
                if transaction.streamed {
                    self.out.push(abort(transaction.top, transaction.top));
                }
            }
            Step::Stream(slot) => self.stream(slot),
            Step::Alter(table) => {
                *self.versions.entry(table).or_default() += 1;
                self.sent.remove(&table);
                self.slots
                    .iter_mut()
                    .for_each(|slot| slot.described.retain(|one| *one != table));
            }
            Step::Keepalive => {
                let now = self.tick();
                self.out.push(keepalive(now));
            }
            Step::Savepoint(_) | Step::Commit(_) | Step::Abort(_) => {}
        }
    }

    /// Its children's aborts come first, as the abort record lists them.
    fn roll_back_to(&mut self, slot: usize) {
        let transaction = &mut self.slots[slot];
        let Some(aborted) = transaction.stack.pop() else { return };
        transaction.rows.retain(|row| !aborted.contains(&row.xid));
        for xid in aborted.iter().rev() {
            if transaction.streamed_subs.contains(xid) {
                self.out.push(abort(transaction.top, *xid));
                transaction.described.clear();
            }
        }
    }

    fn stream(&mut self, slot: usize) {
        let mut transaction = std::mem::take(&mut self.slots[slot]);
        let mut messages = Vec::new();
        for row in transaction.rows.iter_mut().filter(|row| !row.sent) {
            row.sent = true;
            if transaction.described.insert(row.table) {
                messages.push(relation(row.xid, row.table, &self.column(row.table)));
            }
            row.text = format!("{}:{}", self.column(row.table), row.text);
            messages.push(insert(row.xid, row.table, &row.text));
            transaction.streamed_subs.insert(row.xid);
        }
        if !messages.is_empty() {
            self.out.push(block(transaction.top, !transaction.streamed, &messages));
            transaction.streamed = true;
        }
        self.slots[slot] = transaction;
    }

    fn commit(&mut self, slot: usize) {
        let streamed = self.slots[slot].streamed;
        if streamed {
            self.stream(slot);
        }
        let at = self.tick();
        let mut transaction = std::mem::take(&mut self.slots[slot]);
        let mut plain = vec![begin(transaction.top, at)];
        for row in &mut transaction.rows {
            if streamed {
                continue;
            }
            if self.sent.insert(row.table) {
                plain.push(change(relation(0, row.table, &self.column(row.table))));
            }
            row.text = format!("{}:{}", self.column(row.table), row.text);
            plain.push(change(insert(0, row.table, &row.text)));
        }
        if streamed {
            self.sent.extend(&transaction.described);
            self.out.push(stream_commit(transaction.top, at));
        } else {
            plain.push(commit(at));
            self.out.extend(plain);
        }
        for (ordinal, row) in transaction.rows.iter().enumerate() {
            let (column, _) = row.text.split_once(':').unwrap();
            self.expected
                .push(format!("{}@{at} #{ordinal} {column}={}", transaction.top, row.text));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn streamed_is_as_unstreamed(
        steps in prop::collection::vec(step(), 1..120),
        memory in prop_oneof![Just(0_usize), Just(600), Just(1 << 20)],
        part in prop_oneof![Just(1_usize), Just(500), Just(1 << 20)],
        cut in 1_usize..8,
    ) {
        let mut server = Server::default();
        steps.into_iter().for_each(|step| server.run(step));
        let folder = tempfile::tempdir().unwrap();
        let mut assembler = Assembler::new(folder.path(), 1 << 30, Arc::default()).unwrap();
        assembler.spill.set_memory_limit(memory);
        assembler.part_bytes = part;
        let mut chunks = Vec::new();
        for frames in server.out.chunks(cut) {
            chunks.extend(fed(&mut assembler, frames).unwrap());
        }
        prop_assert_eq!(rows(&decoded(chunks)), server.expected);
    }
}
