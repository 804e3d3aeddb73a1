//! Streamed transactions against what the server would have sent without streaming.

mod messages;
mod model;
mod two_phase;

use super::{Assembler, Full, MEMORY_BYTES, SpillStats, Stop};
use crate::batch::{Batch, Part};
use crate::decode::{DecodeError, Decoder};
use bytes::Bytes;
use messages::{abort, begin, block, change, commit, insert, keepalive, relation, stream_commit, type_name};
use std::convert::Infallible;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

const ROOMY: u64 = 1 << 30;

fn assembler(folder: &Path) -> Assembler {
    Assembler::new(folder, ROOMY, Arc::default()).unwrap()
}

/// What comes out of these frames.
fn fed(assembler: &mut Assembler, frames: &[Vec<u8>]) -> Result<Vec<Bytes>, Stop<Infallible>> {
    let mut given = Vec::new();
    assembler.feed(&Bytes::from(frames.concat()), |bytes| {
        given.push(bytes);
        Ok(())
    })?;
    Ok(given)
}

/// `xid@commit #ordinal column=value` for each row.
fn rows(batches: &[Batch]) -> Vec<String> {
    let of_batch = |batch: &Batch| -> Vec<String> {
        let shown = |row: &crate::batch::Row| {
            let transaction = batch.transaction(row);
            let value = batch.value(row.new.unwrap(), 0);
            let crate::batch::Value::Text(text) = value else {
                panic!("{value:?}")
            };
            let text = String::from_utf8_lossy(text);
            let column = &batch.relation(row).columns[0].name;
            let (xid, commit) = (transaction.xid, transaction.commit_lsn.0);
            format!("{xid}@{commit} #{} {column}={text}", row.ordinal)
        };
        batch.rows.iter().map(shown).collect()
    };
    batches.iter().flat_map(of_batch).collect()
}

fn decoded(chunks: Vec<Bytes>) -> Vec<Batch> {
    let mut decoder = Decoder::default();
    chunks.into_iter().map(|chunk| decoder.decode(chunk).unwrap()).collect()
}

#[test]
fn blocks_that_alternate_become_transactions_in_commit_order() {
    let folder = tempfile::tempdir().unwrap();
    let mut assembler = assembler(folder.path());
    let frames = [
        block(
            7,
            true,
            &[
                relation(7, 1, "a"),
                insert(7, 1, "seven"),
                type_name(7),
                insert(70, 1, "rolled back"),
            ],
        ),
        block(9, true, &[relation(9, 1, "a"), insert(9, 1, "nine")]),
        keepalive(50),
        [
            begin(5, 60),
            change(relation(0, 1, "a")),
            change(insert(0, 1, "five")),
            commit(60),
        ]
        .concat(),
        abort(7, 70),
        block(7, false, &[relation(7, 1, "a"), insert(71, 1, "again")]),
        stream_commit(9, 80),
        stream_commit(7, 90),
    ];
    let batches = decoded(fed(&mut assembler, &frames).unwrap());
    assert_eq!(
        rows(&batches),
        ["5@60 #0 a=five", "9@80 #0 a=nine", "7@90 #0 a=seven", "7@90 #1 a=again"]
    );
    let ends: Vec<u64> = batches.iter().map(|batch| batch.end.0).filter(|end| *end > 0).collect();
    assert_eq!(
        ends,
        [61, 81, 91],
        "an open transaction holds no position back, and moves none"
    );
    assert!(
        batches
            .iter()
            .flat_map(|batch| &batch.transactions)
            .all(|one| one.part == Part::Whole)
    );
}

#[test]
fn what_is_rolled_back_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let stats = Arc::new(SpillStats::default());
    let mut assembler = Assembler::new(folder.path(), ROOMY, Arc::clone(&stats)).unwrap();
    assembler.spill.set_memory_limit(0);
    let first = [block(
        7,
        true,
        &[relation(7, 1, "a"), insert(7, 1, "never"), insert(8, 1, "nor this")],
    )];
    assert!(fed(&mut assembler, &first).unwrap().is_empty());
    let spilled = folder.path().join("spill/7.frames");
    assert_eq!(std::fs::metadata(&spilled).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(
        std::fs::metadata(&spilled).unwrap().len(),
        stats.disk_bytes.load(Ordering::Relaxed)
    );
    assert_eq!(stats.transactions.load(Ordering::Relaxed), 1);
    // Nothing came of one of them: there is nothing to drop either.
    assert!(
        fed(&mut assembler, &[abort(7, 8), abort(7, 99), abort(7, 7), abort(50, 50)])
            .unwrap()
            .is_empty()
    );
    assert!(!spilled.exists());
    assert_eq!(stats.disk_bytes.load(Ordering::Relaxed), 0);
    assert_eq!(stats.transactions.load(Ordering::Relaxed), 0);
    drop(assembler);
    assert!(!folder.path().join("spill").exists());
}

#[test]
fn an_earlier_runs_spill_is_deleted() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("spill")).unwrap();
    std::fs::write(folder.path().join("spill/7.frames"), "of a run that was killed").unwrap();
    let mut assembler = assembler(folder.path());
    let frames = [
        block(7, true, &[relation(7, 1, "a"), insert(7, 1, "new")]),
        stream_commit(7, 90),
    ];
    assembler.spill.set_memory_limit(0);
    assert_eq!(rows(&decoded(fed(&mut assembler, &frames).unwrap())), ["7@90 #0 a=new"]);
}

/// In memory up to the bound, then on disk; read back in parts.
#[test]
fn a_large_transaction_comes_back_in_parts() {
    let folder = tempfile::tempdir().unwrap();
    let stats = Arc::new(SpillStats::default());
    let mut assembler = Assembler::new(folder.path(), ROOMY, Arc::clone(&stats)).unwrap();
    let wide = "x".repeat(100_000);
    fed(&mut assembler, &[block(7, true, &[relation(7, 1, "a")])]).unwrap();
    let count = 2 * MEMORY_BYTES / wide.len();
    let mut most = 0;
    for _ in 0..count {
        assert!(
            fed(&mut assembler, &[block(7, false, &[insert(7, 1, &wide)])])
                .unwrap()
                .is_empty()
        );
        most = most.max(stats.memory_bytes.load(Ordering::Relaxed));
    }
    assert!(most <= MEMORY_BYTES as u64, "{most}");
    // Larger than a part, and than what goes through memory.
    let huge = "y".repeat(3 << 20);
    fed(
        &mut assembler,
        &[block(7, false, &[insert(7, 1, &huge), insert(7, 1, "last")])],
    )
    .unwrap();
    let chunks = fed(&mut assembler, &[stream_commit(7, 90)]).unwrap();
    assert!(chunks.len() > 10, "{}", chunks.len());
    assert!(chunks.iter().all(|chunk| chunk.len() < (3 << 20) + 1_000));
    let batches = decoded(chunks);
    let rows = rows(&batches);
    assert_eq!(rows.len(), count + 2);
    assert_eq!(rows[count], format!("7@90 #{count} a={huge}"));
    assert_eq!(batches.last().unwrap().end.0, 91);
}

#[test]
fn what_is_full_is_said_and_nothing_waits() {
    let folder = tempfile::tempdir().unwrap();
    let mut assembler = Assembler::new(folder.path(), 1_000, Arc::default()).unwrap();
    assembler.spill.set_memory_limit(100);
    let frames = [block(7, true, &[relation(7, 1, "a"), insert(7, 1, &"x".repeat(2_000))])];
    let Err(Stop::Full(Full::Quota(1_000))) = fed(&mut assembler, &frames) else {
        panic!("within the quota")
    };

    let mut assembler = self::assembler(folder.path());
    let many: Vec<Vec<u8>> = (8..8 + super::SUB_TRANSACTIONS_MAX as u32 + 1)
        .map(|sub| insert(sub, 1, ""))
        .collect();
    let frames = [block(7, true, &many)];
    let Err(Stop::Full(Full::SubTransactions)) = fed(&mut assembler, &frames) else {
        panic!("within the bound")
    };
}

/// The server takes a description for known once the transaction that brought it has committed, unless it has sent a
/// newer one since.
#[test]
fn a_newer_description_outlives_an_older_transaction() {
    let folder = tempfile::tempdir().unwrap();
    let mut assembler = assembler(folder.path());
    let unstreamed = |xid, at, inner: &[Vec<u8>]| [begin(xid, at), inner.concat(), commit(at)].concat();
    let frames = [
        block(7, true, &[relation(7, 1, "old"), insert(7, 1, "1")]),
        unstreamed(8, 20, &[change(relation(0, 1, "new")), change(insert(0, 1, "2"))]),
        stream_commit(7, 30),
        unstreamed(9, 40, &[change(insert(0, 1, "3"))]),
        block(10, true, &[relation(10, 1, "newest"), insert(10, 1, "4")]),
        unstreamed(11, 50, &[change(insert(0, 1, "5"))]),
        stream_commit(10, 60),
        unstreamed(12, 70, &[change(insert(0, 1, "6"))]),
    ];
    let expected = [
        "8@20 #0 new=2",
        "7@30 #0 old=1",
        "9@40 #0 new=3",
        "11@50 #0 new=5",
        "10@60 #0 newest=4",
        "12@70 #0 newest=6",
    ];
    assert_eq!(rows(&decoded(fed(&mut assembler, &frames).unwrap())), expected);
}

/// A table changes while its transaction streams, and what brought the change is rolled back: the description before it
/// counts for that transaction again, and everybody else goes on with the newer one. Found by the model; the
/// transaction forgot both, and left what came behind its commit to the older one.
#[test]
fn an_aborted_description_gives_place_to_the_one_before_it() {
    let unstreamed = |xid, at, inner: &[Vec<u8>]| [begin(xid, at), inner.concat(), commit(at)].concat();
    let frames = [
        block(7, true, &[relation(7, 1, "old"), insert(7, 1, "1")]),
        block(7, false, &[relation(8, 1, "new"), insert(8, 1, "never")]),
        unstreamed(9, 20, &[change(relation(0, 1, "new")), change(insert(0, 1, "2"))]),
        abort(7, 8),
        stream_commit(7, 30),
        unstreamed(10, 40, &[change(insert(0, 1, "3"))]),
    ];
    let expected = ["9@20 #0 new=2", "7@30 #0 old=1", "10@40 #0 new=3"];
    for memory in [0, MEMORY_BYTES] {
        let folder = tempfile::tempdir().unwrap();
        let mut assembler = assembler(folder.path());
        assembler.spill.set_memory_limit(memory);
        assert_eq!(rows(&decoded(fed(&mut assembler, &frames).unwrap())), expected);
    }
}

#[test]
fn what_breaks_the_protocol_is_an_error() {
    let broken: [&[Vec<u8>]; 6] = [
        &[block(7, false, &[])],
        &[block(7, true, &[]), block(7, true, &[])],
        &[stream_commit(7, 30)],
        &[block(7, true, &[begin(8, 20)])],
        &[block(7, true, &[stream_commit(7, 20)])],
        &[block(7, true, &[block(9, true, &[])])],
    ];
    for frames in broken {
        let folder = tempfile::tempdir().unwrap();
        let result = fed(&mut assembler(folder.path()), frames);
        assert!(
            matches!(result, Err(Stop::Undecodable(DecodeError::Unexpected { .. }))),
            "{result:?}"
        );
    }
    // Cut off anywhere, it is an error or nothing.
    let whole = [
        block(7, true, &[relation(7, 1, "a"), insert(8, 1, "v")]),
        abort(7, 8),
        stream_commit(7, 30),
    ];
    for frame in &whole {
        for at in 5..frame.len() {
            let folder = tempfile::tempdir().unwrap();
            let mut cut = frame[..at].to_vec();
            let _ = fed(&mut assembler(folder.path()), &[cut.clone()]);
            cut[1..5].copy_from_slice(&(at as u32 - 1).to_be_bytes());
            let _ = fed(&mut assembler(folder.path()), &[cut]);
        }
    }
}
