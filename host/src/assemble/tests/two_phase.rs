//! Prepared transactions: they leave at COMMIT PREPARED, whatever came between.

use super::messages::{
    begin, begin_prepare, block, change, commit, commit_prepared, insert, keepalive, prepare, relation,
    rollback_prepared, stream_prepare,
};
use super::{ROOMY, fed, rows};
use crate::assemble::{Assembler, Full, Ledger, SpillStats, Stop, begin_prepared, drop_lost};
use crate::batch::{Batch, Lsn};
use crate::decode::Decoder;
use bytes::Bytes;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A connection: an assembler and the decoder behind it, as a session has them.
struct Connection {
    assembler: Assembler,
    decoder: Decoder,
    acknowledged: Arc<AtomicU64>,
    stats: Arc<SpillStats>,
}

impl Connection {
    fn open(state: &Path, start: u64) -> Self {
        Self::with_quota(state, start, ROOMY)
    }

    fn with_quota(state: &Path, start: u64, quota: u64) -> Self {
        let (stats, acknowledged) = (Arc::new(SpillStats::default()), Arc::new(AtomicU64::new(start)));
        let told = Arc::clone(&acknowledged);
        let assembler = Assembler::new(state, quota, Arc::clone(&stats)).unwrap();
        let acknowledged_now = move || Lsn(told.load(Ordering::Relaxed));
        Self {
            assembler: assembler
                .keep_prepared(state, Lsn(start), acknowledged_now, Ledger::default())
                .unwrap(),
            decoder: Decoder::default(),
            acknowledged,
            stats,
        }
    }

    fn batches(&mut self, frames: &[Vec<u8>]) -> Vec<Batch> {
        let chunks: Vec<Bytes> = fed(&mut self.assembler, frames).unwrap();
        chunks
            .into_iter()
            .map(|chunk| self.decoder.decode(chunk).unwrap())
            .collect()
    }

    fn rows(&mut self, frames: &[Vec<u8>]) -> Vec<String> {
        rows(&self.batches(frames))
    }

    fn prepared(&self) -> u64 {
        self.stats.prepared.load(Ordering::Relaxed)
    }
}

fn state() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    begin_prepared(folder.path()).unwrap();
    folder
}

fn files(state: &Path) -> Vec<String> {
    let files = std::fs::read_dir(state.join("prepared")).unwrap();
    let mut names: Vec<String> = files
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn described(table: u32, column: &str) -> Vec<u8> {
    change(relation(0, table, column))
}

fn inserted(table: u32, value: &str) -> Vec<u8> {
    change(insert(0, table, value))
}

#[test]
fn a_prepared_transaction_leaves_with_its_commit() {
    let state = state();
    let mut connection = Connection::open(state.path(), 1);
    let before = connection.batches(&[
        begin_prepare(7, 10),
        described(1, "a"),
        inserted(1, "one"),
        keepalive(99),
        inserted(1, "two"),
    ]);
    assert!(before.iter().all(|batch| batch.end == Lsn(0)), "no position passes it");
    let frames = [
        prepare(7, 10),
        keepalive(20),
        begin(8, 30),
        // The server knows that the connection has the description.
        inserted(1, "other"),
        commit(30),
    ];
    let batches = connection.batches(&frames);
    assert_eq!(rows(&batches), ["8@30 #0 a=other"]);
    assert_eq!((connection.prepared(), files(state.path()).len()), (1, 1));
    let left = connection.rows(&[commit_prepared(7, 40)]);
    assert_eq!(left, ["7@40 #0 a=one", "7@40 #1 a=two"]);
    assert_eq!(connection.prepared(), 0);
}

#[test]
fn another_connection_gets_the_commit_alone() {
    let state = state();
    let mut first = Connection::open(state.path(), 1);
    // The second relies on what came before it, and is streamed.
    first.rows(&[begin(6, 5), described(1, "a"), inserted(1, "six"), commit(5)]);
    first.rows(&[begin_prepare(7, 10), inserted(1, "seven"), prepare(7, 10)]);
    first.rows(&[
        block(9, true, &[relation(9, 2, "b"), insert(9, 2, "nine")]),
        stream_prepare(9, 12),
    ]);
    drop(first);
    let mut second = Connection::open(state.path(), 20);
    assert_eq!(second.prepared(), 2);
    // The table has a newer form by now, which counts for what comes behind.
    let newer = [begin(10, 30), described(1, "z"), inserted(1, "ten"), commit(30)];
    assert_eq!(second.rows(&newer), ["10@30 #0 z=ten"]);
    // As servers do that begin behind a PREPARE: streamed once more, with nothing to end it.
    second.rows(&[block(9, true, &[relation(9, 2, "b"), insert(9, 2, "nine")])]);
    assert_eq!(second.rows(&[commit_prepared(9, 40)]), ["9@40 #0 b=nine"]);
    assert_eq!(second.rows(&[commit_prepared(7, 50)]), ["7@50 #0 a=seven"]);
    let after = [begin(11, 60), inserted(1, "eleven"), commit(60)];
    assert_eq!(second.rows(&after), ["11@60 #0 z=eleven"]);
}

/// Until the position is acknowledged the server may send the commit again.
#[test]
fn it_is_kept_until_its_commit_is_acknowledged() {
    let state = state();
    let mut connection = Connection::open(state.path(), 1);
    connection.rows(&[
        begin_prepare(7, 10),
        described(1, "a"),
        inserted(1, "x"),
        prepare(7, 10),
    ]);
    connection.rows(&[commit_prepared(7, 40)]);
    let left = files(state.path());
    assert_eq!(left, ["00000007-0000000000000029"]);
    drop(connection);
    let mut again = Connection::open(state.path(), 20);
    assert_eq!(again.rows(&[commit_prepared(7, 40)]), ["7@40 #0 a=x"]);
    again.rows(&[keepalive(50)]);
    assert_eq!(files(state.path()), left);
    again.acknowledged.store(41, Ordering::Relaxed);
    again.rows(&[keepalive(51)]);
    assert!(files(state.path()).is_empty());
    assert_eq!(again.stats.disk_bytes.load(Ordering::Relaxed), 0);
    // The same where it became known at the end of a session.
    again.rows(&[
        begin_prepare(8, 60),
        described(1, "a"),
        inserted(1, "y"),
        prepare(8, 60),
    ]);
    again.rows(&[commit_prepared(8, 70)]);
    drop(again);
    let last = Connection::open(state.path(), 71);
    assert!(files(state.path()).is_empty());
    assert_eq!(last.prepared(), 0);
}

#[test]
fn what_is_rolled_back_is_gone_and_its_global_id_is_free() {
    let state = state();
    let mut connection = Connection::open(state.path(), 1);
    connection.rows(&[
        begin_prepare(7, 10),
        described(1, "a"),
        inserted(1, "x"),
        prepare(7, 10),
    ]);
    assert!(connection.rows(&[rollback_prepared(7, 10, 20)]).is_empty());
    assert!(files(state.path()).is_empty());
    connection.rows(&[begin_prepare(8, 30), inserted(1, "y"), prepare(8, 30)]);
    assert_eq!(connection.rows(&[commit_prepared(8, 40)]), ["8@40 #0 a=y"]);
    // Rolled back on another connection, after the position had passed.
    assert!(connection.rows(&[rollback_prepared(7, 10, 20)]).is_empty());
    assert_eq!(connection.stats.transactions.load(Ordering::Relaxed), 0);
}

/// It sends nothing of them, up to 17, or a PREPARE alone.
#[test]
fn one_without_a_change_moves_the_position_alone() {
    let state = state();
    let mut connection = Connection::open(state.path(), 1);
    let batches = connection.batches(&[commit_prepared(7, 40), prepare(8, 50), commit_prepared(8, 60)]);
    assert!(rows(&batches).is_empty());
    assert_eq!(batches.iter().map(|batch| batch.end).max(), Some(Lsn(61)));
}

#[test]
fn one_that_was_streamed_again_and_isnt_here_is_lost() {
    let state = state();
    let mut connection = Connection::open(state.path(), 20);
    connection.rows(&[block(9, true, &[relation(9, 2, "b"), insert(9, 2, "nine")])]);
    let stop = fed(&mut connection.assembler, &[commit_prepared(9, 40)]).unwrap_err();
    assert!(matches!(stop, Stop::Lost(lost) if lost.xid == 9 && lost.lsn == Lsn(40)));
}

#[test]
fn the_quota_counts_what_an_earlier_session_has_kept() {
    let state = state();
    let wide = "w".repeat(3000);
    let one = |xid| {
        [
            begin_prepare(xid, 10),
            described(1, "a"),
            inserted(1, &wide),
            prepare(xid, 10),
        ]
    };
    let mut first = Connection::with_quota(state.path(), 1, 8192);
    first.rows(&one(7));
    drop(first);
    let mut second = Connection::with_quota(state.path(), 5, 8192);
    assert_eq!(second.stats.disk_bytes.load(Ordering::Relaxed), 4096);
    // Sent again, as the position hadn't passed: it takes its own place.
    second.rows(&one(7));
    second.rows(&[rollback_prepared(7, 10, 20)]);
    second.rows(&one(8));
    second.rows(&one(9));
    let stop = fed(&mut second.assembler, &one(10)).unwrap_err();
    assert!(matches!(stop, Stop::Full(Full::Quota(8192))));
    assert_eq!(files(state.path()).len(), 2);
}

#[test]
fn a_file_that_was_cut_is_refused_and_so_is_a_folder_that_isnt_there() {
    let state = state();
    let mut connection = Connection::open(state.path(), 1);
    connection.rows(&[
        begin_prepare(7, 10),
        described(1, "a"),
        inserted(1, "x"),
        prepare(7, 10),
    ]);
    drop(connection);
    let open = || {
        let assembler = Assembler::new(state.path(), ROOMY, Arc::default()).unwrap();
        assembler.keep_prepared(state.path(), Lsn(1), || Lsn(1), Ledger::default())
    };
    let path = state.path().join("prepared").join(&files(state.path())[0]);
    let whole = std::fs::read(&path).unwrap();
    for len in 0..whole.len() {
        std::fs::write(&path, &whole[..len]).unwrap();
        let error = open().err().map(|error| error.kind());
        assert_eq!(error, Some(std::io::ErrorKind::InvalidData), "{len} bytes");
    }
    std::fs::remove_dir_all(state.path().join("prepared")).unwrap();
    assert_eq!(
        open().err().map(|error| error.kind()),
        Some(std::io::ErrorKind::NotFound)
    );
}

/// What is recorded must be there: kept from before its rows count as received until nothing can ask for them.
#[test]
fn a_file_that_is_gone_is_missed() {
    let state = state();
    let recorded = Arc::new(std::sync::Mutex::new(Vec::new()));
    let open = |start: u64| {
        let assembler = Assembler::new(state.path(), ROOMY, Arc::default()).unwrap();
        let (known, kept) = (recorded.lock().unwrap().clone(), Arc::clone(&recorded));
        let ledger = Ledger {
            recorded: known,
            record: Box::new(move |xids| {
                *kept.lock().unwrap() = xids.to_vec();
                Ok(())
            }),
            ..Ledger::default()
        };
        assembler.keep_prepared(state.path(), Lsn(start), || Lsn(1000), ledger)
    };
    let mut assembler = open(1).unwrap();
    let prepared = |xid: u32| {
        [
            begin_prepare(xid, 10),
            described(1, "a"),
            inserted(1, "x"),
            prepare(xid, 10),
        ]
        .concat()
    };
    fed(&mut assembler, &[prepared(7), prepared(8), prepared(9)]).unwrap();
    assert_eq!(*recorded.lock().unwrap(), [7, 8, 9]);
    fed(&mut assembler, &[rollback_prepared(8, 10, 20), commit_prepared(9, 30)]).unwrap();
    assert_eq!(*recorded.lock().unwrap(), [7, 9]);
    // It is swept once its commit is acknowledged.
    fed(&mut assembler, &[commit_prepared(5, 40)]).unwrap();
    assert_eq!(*recorded.lock().unwrap(), [7]);
    drop(assembler);
    drop(open(1).unwrap());
    std::fs::remove_file(state.path().join("prepared/00000007")).unwrap();
    let error = open(1).err().unwrap();
    assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
    assert!(error.to_string().contains("00000007"), "{error}");
}

/// The server stands on a timeline that parts before some were prepared: it has given their ids to others by now.
#[test]
fn what_a_failover_has_lost_is_dropped() {
    let state = state();
    let mut connection = Connection::open(state.path(), 1);
    for (xid, at, value) in [(7, 10, "x"), (8, 30, "lost"), (9, 12, "y"), (10, 31, "lost")] {
        connection.rows(&[
            begin_prepare(xid, at),
            described(1, "a"),
            inserted(1, value),
            prepare(xid, at),
        ]);
    }
    connection.rows(&[commit_prepared(9, 40), commit_prepared(10, 50)]);
    drop(connection);
    let recorded = Arc::new(std::sync::Mutex::new(vec![7, 8, 9, 10]));
    let ledger = || Ledger {
        recorded: recorded.lock().unwrap().clone(),
        record: {
            let recorded = Arc::clone(&recorded);
            Box::new(move |xids| {
                *recorded.lock().unwrap() = xids.to_vec();
                Ok(())
            })
        },
        ..Ledger::default()
    };
    let drop_them = || {
        let mut lost = drop_lost(state.path(), Lsn(30), ledger()).unwrap();
        lost.sort_unstable();
        lost
    };
    assert_eq!(drop_them(), [8, 10]);
    assert_eq!(*recorded.lock().unwrap(), [7, 9]);
    assert_eq!(files(state.path()), ["00000007", "00000009-0000000000000029"]);
    assert!(drop_them().is_empty());
    let mut again = Connection::open(state.path(), 5);
    assert_eq!(again.stats.disk_bytes.load(Ordering::Relaxed), 2 * 4096);
    // Of others, which have changed nothing that is published.
    assert!(
        again
            .rows(&[commit_prepared(8, 60), commit_prepared(10, 61)])
            .is_empty()
    );
    assert_eq!(again.rows(&[commit_prepared(7, 62)]), ["7@62 #0 a=x"]);
    assert_eq!(again.rows(&[commit_prepared(9, 63)]), ["9@63 #0 a=y"]);
}

/// They don't say where they were prepared.
#[test]
fn files_of_older_hosts_are_read() {
    let state = state();
    let mut connection = Connection::open(state.path(), 1);
    connection.rows(&[
        begin_prepare(7, 10),
        described(1, "a"),
        inserted(1, "x"),
        prepare(7, 10),
    ]);
    drop(connection);
    let path = state.path().join("prepared/00000007");
    let written = std::fs::read(&path).unwrap();
    let before = [&written[..written.len() - 16], b"RWPREP01"].concat();
    for len in 0..before.len() {
        std::fs::write(&path, &before[..len]).unwrap();
        let error = drop_lost(state.path(), Lsn(1), Ledger::default()).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidData, "{len} bytes");
    }
    std::fs::write(&path, before).unwrap();
    assert!(
        drop_lost(state.path(), Lsn(1), Ledger::default()).unwrap().is_empty(),
        "nobody knows"
    );
    let mut again = Connection::open(state.path(), 20);
    assert_eq!(again.rows(&[commit_prepared(7, 40)]), ["7@40 #0 a=x"]);
}

/// Where the slot was somebody else's, one that isn't known may be one whose rows they have got.
#[test]
fn what_somebody_else_may_have_got_is_told() {
    let state = state();
    let assembler = Assembler::new(state.path(), ROOMY, Arc::default()).unwrap();
    let ledger = Ledger {
        foreign_until: Lsn(100),
        ..Ledger::default()
    };
    let mut assembler = assembler
        .keep_prepared(state.path(), Lsn(1), || Lsn(1), ledger)
        .unwrap();
    fed(&mut assembler, &[commit_prepared(7, 100)]).unwrap();
    let stopped = fed(&mut assembler, &[commit_prepared(8, 99)]);
    assert!(matches!(stopped, Err(Stop::Lost(lost)) if lost.foreign && lost.xid == 8));
}

/// A connection that doesn't ask for them gets none.
#[test]
fn they_are_no_messages_where_nobody_has_asked_for_them() {
    let folder = tempfile::tempdir().unwrap();
    let mut assembler = super::assembler(folder.path());
    for message in [
        begin_prepare(7, 10),
        commit_prepared(7, 10),
        rollback_prepared(7, 10, 20),
    ] {
        assert!(fed(&mut assembler, &[message]).is_err());
    }
}
