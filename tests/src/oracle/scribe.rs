//! Writers that note what they have done.

use super::ledger::{Change, Ledger, Lsn, Table, lsn};
use crate::{Cluster, Random};
use anyhow::{Context, Result};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

/// Keys of one writer.
const KEYS: u64 = 40;
/// Numbers of one writer: more than it can use up.
const NUMBERS: u64 = 1_000_000_000;
/// Rows of one INSERT.
const ROWS_PER_STATEMENT: usize = 500;
const BACK: Duration = Duration::from_millis(50);
/// Of those who prepare, one transaction in so many is: it keeps its writer for as long as it is.
const PREPARED_ONE_IN: u64 = 20;
/// One prepared transaction in so many is large enough for a server to stream it before it is prepared.
const LARGE_ONE_IN: u64 = 4;
const LARGE_ROWS: u64 = 1_500;
/// How long one stays prepared at most, in milliseconds: over several faults, and mostly less.
const PREPARED_SHORT: u64 = 60;
const PREPARED_LONG: u64 = 2_500;

/// One writer, who alone changes its keys: the order of its transactions is the order of their commits.
pub struct Scribe {
    url: String,
    ledger: Arc<Mutex<Ledger>>,
    client: Option<Client>,
    random: Random,
    writer: u64,
    number: u64,
    transaction: u64,
    prepares: bool,
    /// Present versions of the accounts, with the transactions that wrote them.
    accounts: HashMap<u64, u64>,
}

/// A transaction before it is sent.
#[derive(Default)]
struct Plan {
    sql: String,
    kept: Vec<Change>,
    /// By a savepoint.
    undone: Vec<Change>,
    accounts: HashMap<u64, u64>,
}

impl Scribe {
    pub fn new(source: &Cluster, ledger: &Arc<Mutex<Ledger>>, writer: u64, seed: u64) -> Self {
        Self {
            url: source.url("source"),
            ledger: Arc::clone(ledger),
            client: None,
            random: Random::new(seed ^ (writer + 1) << 40),
            writer,
            number: writer * NUMBERS,
            transaction: writer * NUMBERS,
            prepares: false,
            accounts: HashMap::new(),
        }
    }

    /// Prepares transactions too, which the server has to allow.
    pub fn preparing(self, prepares: bool) -> Self {
        Self { prepares, ..self }
    }

    /// One transaction of everything; one in six is rolled back.
    pub async fn write(&mut self) -> Result<()> {
        let prepares = self.prepares && self.random.below(PREPARED_ONE_IN) == 0;
        let rows = match prepares && self.random.below(LARGE_ONE_IN) == 0 {
            true => 1 + self.random.below(LARGE_ROWS),
            false => 1,
        };
        let mut plan = self.plan(usize::try_from(rows)?);
        for _ in 0..self.random.below(5) {
            if self.random.below(8) == 0 {
                plan.sql.push_str("SAVEPOINT s;");
                let mut inner = Plan::default();
                self.event(&mut inner);
                self.account(&mut inner, &plan.accounts);
                plan.sql.push_str(&inner.sql);
                plan.sql.push_str("ROLLBACK TO s;");
                plan.undone.extend(inner.kept);
            } else if self.random.below(2) == 0 {
                self.event(&mut plan);
            } else {
                let known = std::mem::take(&mut plan.accounts);
                self.account(&mut plan, &known);
                let changed = std::mem::take(&mut plan.accounts);
                plan.accounts = known;
                plan.accounts.extend(changed);
            }
        }
        let is_kept = self.random.below(6) != 0;
        match prepares {
            true => self.send_prepared(plan, is_kept).await,
            false => self.send(plan, is_kept).await,
        }
    }

    /// One committed transaction of so many events; returns the number of the first.
    pub async fn events(&mut self, rows: usize) -> Result<u64> {
        let plan = self.plan(rows);
        let first = plan.kept.first().map_or(0, |change| change.number);
        self.send(plan, true).await?;
        Ok(first)
    }

    /// A transaction that begins with so many events: by its first one it is known whether it was committed.
    fn plan(&mut self, rows: usize) -> Plan {
        self.transaction += 1;
        let mut plan = Plan {
            sql: "BEGIN;".into(),
            ..Plan::default()
        };
        let events: Vec<Change> = (0..rows.max(1)).map(|_| self.change(Table::Events)).collect();
        for chunk in events.chunks(ROWS_PER_STATEMENT) {
            let rows: Vec<String> = chunk.iter().map(row).collect();
            plan.sql
                .push_str(&format!("INSERT INTO events VALUES {};", rows.join(",")));
        }
        plan.kept = events;
        plan
    }

    fn change(&mut self, table: Table) -> Change {
        self.number += 1;
        Change {
            table,
            key: self.writer * KEYS + self.random.below(KEYS),
            number: self.number,
            is_delete: false,
            transaction: self.transaction,
        }
    }

    fn event(&mut self, plan: &mut Plan) {
        let change = self.change(Table::Events);
        plan.sql
            .push_str(&format!("INSERT INTO events VALUES {};", row(&change)));
        plan.kept.push(change);
    }

    /// Comes, changes or goes. `known` is what this transaction has made of the accounts before; 0 is gone.
    fn account(&mut self, plan: &mut Plan, known: &HashMap<u64, u64>) {
        let change = self.change(Table::Accounts);
        let before = known.get(&change.key).or_else(|| self.accounts.get(&change.key));
        let before = before.copied().filter(|number| *number != 0);
        if let Some(number) = before
            && self.random.below(4) == 0
        {
            plan.sql
                .push_str(&format!("DELETE FROM accounts WHERE key = {};", change.key));
            plan.accounts.insert(change.key, 0);
            plan.kept.push(Change {
                number,
                is_delete: true,
                ..change
            });
            return;
        }
        plan.sql.push_str(&format!(
            "INSERT INTO accounts VALUES {} ON CONFLICT (key) DO UPDATE SET
             txn = excluded.txn, seq = excluded.seq, payload = excluded.payload, email = excluded.email;",
            row(&change)
        ));
        plan.accounts.insert(change.key, change.number);
        plan.kept.push(change);
    }

    /// Sends it until it is known what became of it, and notes that.
    async fn send(&mut self, plan: Plan, is_kept: bool) -> Result<()> {
        let end = if is_kept { "COMMIT" } else { "ROLLBACK" };
        let position = "SELECT pg_current_wal_insert_lsn();";
        let sql = format!("{position} {}{end}; {position}", plan.sql);
        self.connect().await;
        self.ledger().ending.insert(self.transaction);
        let client = self.client.as_ref().context("connected")?;
        let between = match client.simple_query(&sql).await {
            Ok(messages) => positions(&messages),
            Err(_) => {
                self.client = None;
                None
            }
        };
        let is_kept = match between {
            Some(_) => is_kept,
            // In doubt: the source itself knows.
            None => self.is_there(plan.kept[0].number).await,
        };
        self.note(plan, is_kept, between);
        Ok(())
    }

    /// In two steps, whatever becomes of the server in between. Its writer has nothing else to write meanwhile, so that the
    /// order of its transactions stays that of their commits.
    async fn send_prepared(&mut self, plan: Plan, is_kept: bool) -> Result<()> {
        let gid = format!("scribe {}", self.transaction);
        let longest = match self.random.below(2) {
            0 => PREPARED_SHORT,
            _ => PREPARED_LONG,
        };
        let hold = Duration::from_millis(self.random.below(longest));
        self.connect().await;
        let client = self.client.as_ref().context("connected")?;
        let sql = format!("{}PREPARE TRANSACTION '{gid}'", plan.sql);
        if client.simple_query(&sql).await.is_err() {
            self.client = None;
            if !self.is_prepared(&gid).await {
                self.note(plan, false, None);
                return Ok(());
            }
        }
        tokio::time::sleep(hold).await;
        self.ledger().ending.insert(self.transaction);
        let between = self.end_prepared(&gid, is_kept).await;
        self.note(plan, is_kept, between);
        self.ledger().prepared += 1;
        Ok(())
    }

    /// Until it is known to have ended; between which positions, where that is known too.
    async fn end_prepared(&mut self, gid: &str, is_kept: bool) -> Option<(Lsn, Lsn)> {
        const POSITION: &str = "SELECT pg_current_wal_insert_lsn()";
        let end = if is_kept { "COMMIT" } else { "ROLLBACK" };
        let end = format!("{end} PREPARED '{gid}'");
        loop {
            let from = self.answer(POSITION).await;
            self.connect().await;
            let Some(client) = &self.client else { continue };
            if client.simple_query(&end).await.is_ok() {
                return Some((lsn(&from)?, lsn(&self.answer(POSITION).await)?));
            }
            self.client = None;
            if !self.is_prepared(gid).await {
                return None;
            }
        }
    }

    async fn is_prepared(&mut self, gid: &str) -> bool {
        let sql = format!("SELECT count(*) FROM pg_prepared_xacts WHERE gid = '{gid}'");
        self.answer(&sql).await == "1"
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&mut self, plan: Plan, is_kept: bool, between: Option<(Lsn, Lsn)>) {
        let mut ledger = self.ledger();
        ledger.ending.remove(&self.transaction);
        ledger.undone(&plan.undone);
        if is_kept {
            ledger.committed(&plan.kept, between);
            drop(ledger);
            self.accounts.extend(plan.accounts);
        } else {
            ledger.undone(&plan.kept);
        }
    }

    async fn is_there(&mut self, event: u64) -> bool {
        let sql = format!("SELECT count(*) FROM events WHERE id = {event}");
        self.answer(&sql).await == "1"
    }

    /// The one cell of the answer, asked for until there is one.
    async fn answer(&mut self, sql: &str) -> String {
        loop {
            self.connect().await;
            let Some(client) = &self.client else { continue };
            let cell = |messages: &[SimpleQueryMessage]| {
                messages.iter().find_map(|message| match message {
                    SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
                    _ => None,
                })
            };
            match client.simple_query(sql).await.ok().as_deref().and_then(cell) {
                Some(cell) => return cell,
                None => self.client = None,
            }
        }
    }

    /// Waits for the server for as long as it takes.
    async fn connect(&mut self) {
        while self.client.as_ref().is_none_or(Client::is_closed) {
            match tokio_postgres::connect(&self.url, NoTls).await {
                Ok((client, connection)) => {
                    tokio::spawn(connection);
                    self.client = Some(client);
                }
                Err(_) => tokio::time::sleep(BACK).await,
            }
        }
    }
}

fn row(change: &Change) -> String {
    let Change {
        key,
        number,
        transaction,
        ..
    } = change;
    let rest = format!("'{}', '{}', 'raw'", change.payload(), change.email());
    match change.table {
        Table::Events => format!("({number}, {transaction}, {key}, {rest})"),
        Table::Accounts => format!("({key}, {transaction}, {number}, {rest})"),
    }
}

fn positions(messages: &[SimpleQueryMessage]) -> Option<(Lsn, Lsn)> {
    let mut found = messages.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => lsn(row.get(0)?),
        _ => None,
    });
    Some((found.next()?, found.next()?))
}

/// Scribes at work, each in a thread of its own, until they are dropped.
pub struct Scribes {
    stop: Arc<AtomicBool>,
    pause: Arc<AtomicBool>,
    at_rest: Arc<AtomicU64>,
    threads: Vec<JoinHandle<Result<()>>>,
}

impl Scribes {
    /// Numbers of writers are from 2 on: 0 and 1 are for those who write by hand. `prepares`: see [`Scribe::preparing`].
    pub fn start(
        source: &Cluster,
        ledger: &Arc<Mutex<Ledger>>,
        count: u64,
        between: Duration,
        seed: u64,
        prepares: bool,
    ) -> Self {
        let (stop, pause) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let at_rest = Arc::new(AtomicU64::new(0));
        let start = |writer: u64| {
            let mut scribe = Scribe::new(source, ledger, writer + 2, seed).preparing(prepares);
            let (stop, pause, at_rest) = (Arc::clone(&stop), Arc::clone(&pause), Arc::clone(&at_rest));
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                runtime.block_on(async {
                    let mut rests = false;
                    while !stop.load(Ordering::Relaxed) {
                        if pause.load(Ordering::Relaxed) {
                            at_rest.fetch_add(u64::from(!std::mem::replace(&mut rests, true)), Ordering::Relaxed);
                        } else {
                            at_rest.fetch_sub(u64::from(std::mem::replace(&mut rests, false)), Ordering::Relaxed);
                            scribe.write().await?;
                        }
                        tokio::time::sleep(between).await;
                    }
                    Ok(())
                })
            })
        };
        Self {
            threads: (0..count).map(start).collect(),
            stop,
            pause,
            at_rest,
        }
    }

    /// Whether all have come to rest after [`Scribes::pause`].
    pub fn rest(&self) -> Result<bool> {
        anyhow::ensure!(!self.threads.iter().any(JoinHandle::is_finished), "a writer has ended");
        Ok(self.at_rest.load(Ordering::Relaxed) == self.threads.len() as u64)
    }

    pub fn pause(&self, pause: bool) {
        self.pause.store(pause, Ordering::Relaxed);
    }
}

impl Drop for Scribes {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}
