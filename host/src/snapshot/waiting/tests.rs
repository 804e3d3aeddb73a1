use super::*;
use crate::assemble::SpillStats;
use crate::batch::{Op, Part, Value};
use crate::sink::testing::{Builder, orders, text};
use std::fs;
use std::sync::atomic::Ordering;

const PIECE_BYTES: usize = 300;

fn room(folder: &std::path::Path, quota: u64) -> (WaitingRoom, Arc<SpillStats>) {
    let stats = Arc::<SpillStats>::default();
    let room = WaitingRoom::new(folder, quota, Arc::clone(&stats));
    (room.with_piece_bytes(PIECE_BYTES), stats)
}

/// Transactions of three changes each, with every kind of value; those with an odd xid are none that `snapshot` sees.
fn changes() -> Batch {
    let orders = orders();
    let mut builder = Builder::new();
    for n in 0..40_u64 {
        let id = n.to_string();
        let binary = [b'\0', n as u8];
        builder = builder
            .transaction(1000 + n, Part::Whole)
            .insert(&orders, &[text(&id), Value::Null, text("new"), text("")])
            .update(
                &orders,
                &[text(&id), Value::Binary(&binary), Value::Unchanged, text("set")],
                Some(&[text(&id), Value::Null, text("new"), Value::Absent]),
            )
            .delete(&orders, &[text(&id), Value::Null, Value::Absent, Value::Absent]);
    }
    let delivery = builder.delivery(1);
    let mut batch = Batch {
        rows: delivery.rows.clone(),
        ..Batch::clone(&delivery.batch)
    };
    for (transaction, n) in batch.transactions.iter_mut().zip(100..) {
        transaction.xid = n;
    }
    batch
}

/// What a change is, however it is kept.
fn told(batch: &Batch, row: &Row) -> String {
    let relation = batch.relation(row);
    let tuple =
        |tuple: Option<crate::batch::Tuple>| tuple.map(|tuple| batch.values(tuple, relation).collect::<Vec<_>>());
    let transaction = batch.transaction(row);
    format!(
        "{} {:?} {} {} {:?} {} {} {:?} {:?} {:?}",
        transaction.xid,
        transaction.commit_lsn,
        transaction.commit_us,
        row.ordinal,
        row.op,
        row.fan_out,
        relation.oid,
        row.old_image,
        tuple(row.new),
        tuple(row.old)
    )
}

#[test]
fn what_waited_on_disk_comes_back_as_it_was_without_what_the_copy_shows() {
    let folder = tempfile::tempdir().unwrap();
    let (room, stats) = room(folder.path(), 1 << 20);
    let mut waiting = Waiting::new(&room, 7);
    let batch = changes();
    for row in &batch.rows {
        waiting.push(&batch, row).unwrap();
        assert!(waiting.piece.len() < 3 * PIECE_BYTES, "all of it is in memory");
    }
    let spilled = stats.disk_bytes.load(Ordering::Relaxed);
    assert!(spilled > 10 * PIECE_BYTES as u64, "{spilled}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "the file has a name");
    // It sees those below 110, and 117.
    let running: Vec<String> = (110..130)
        .filter(|xid| *xid != 117)
        .map(|xid| xid.to_string())
        .collect();
    let snapshot: Snapshot = format!("110:130:{}", running.join(",")).parse().unwrap();
    let waited = waiting.release(snapshot.clone());
    let unseen = |row: &&Row| !snapshot.sees(batch.transaction(row).xid);
    let expected: Vec<String> = batch.rows.iter().filter(unseen).map(|row| told(&batch, row)).collect();
    assert_eq!(expected.len(), 3 * 29);
    let (mut found, mut met) = (Vec::new(), std::collections::BTreeSet::new());
    for back in waited {
        let back = back.unwrap();
        assert!(back.transactions.iter().all(crate::batch::Transaction::is_aside));
        assert!(back.bytes.len() < 3 * PIECE_BYTES);
        for transaction in &back.transactions {
            assert!(met.insert(transaction.xid), "{} is in two pieces", transaction.xid);
        }
        assert!(back.rows.iter().all(|row| row.op != Op::Read));
        found.extend(back.rows.iter().map(|row| told(&back, row)));
    }
    assert_eq!(found, expected);
    assert_eq!(stats.disk_bytes.load(Ordering::Relaxed), 0);
    assert!(waiting.release(snapshot).next().is_none());
}

#[test]
fn what_waits_stays_within_the_quota_that_others_use_too() {
    let folder = tempfile::tempdir().unwrap();
    let (room, stats) = room(folder.path(), 4000);
    assert!(stats.take_disk(2000, 4000));
    let mut waiting = Waiting::new(&room, 7);
    let batch = changes();
    let refused = batch.rows.iter().find_map(|row| waiting.push(&batch, row).err());
    assert!(matches!(refused, Some(NoRoom::Quota(4000))), "{refused:?}");
    assert!((3000..=4000).contains(&stats.disk_bytes.load(Ordering::Relaxed)));
    drop(waiting);
    assert_eq!(stats.disk_bytes.load(Ordering::Relaxed), 2000);
}

#[test]
fn a_torn_piece_is_none() {
    let batch = changes();
    let relations = [Arc::clone(batch.relation(&batch.rows[0]))];
    let mut bytes = Vec::new();
    piece::write_transaction(&mut bytes, &batch.transactions[0]);
    let whole = bytes.len();
    piece::write_change(&mut bytes, &batch, &batch.rows[1], 0);
    assert!(piece::read(bytes.clone(), &relations, |_| true).is_some());
    assert!(piece::read(bytes.clone(), &[], |_| true).is_none());
    for cut in (1..whole).chain(whole + 1..bytes.len()) {
        assert!(
            piece::read(bytes[..cut].to_vec(), &relations, |_| true).is_none(),
            "{cut}"
        );
    }
}
