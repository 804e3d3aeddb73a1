//! Letters are sent again.

use super::*;
use crate::batch::{Lsn, Origin, RowId};

fn three(folder: &Path) -> DeadLetters {
    let letters = open(folder);
    pass(&letters, &insert(0x10, "1").delivery(1), &[0]);
    pass(&letters, &update(0x20, "1").delivery(2), &[]);
    pass(&letters, &insert(0x30, "2").delivery(3), &[0]);
    letters
}

#[test]
fn a_letter_takes_those_that_wait_behind_it_along() {
    let folder = tempfile::tempdir().unwrap();
    let letters = three(folder.path());
    let requested = letters.request_replay(&Selection::Numbers(vec![2]), false).unwrap();
    assert_eq!(requested.letters, [1, 2]);
    let replay = letters.take_replay(Lsn(u64::MAX)).unwrap().unwrap();
    let (_, rows) = &replay.rows[0];
    let transactions = &replay.batch.transactions;
    assert!(transactions.iter().all(crate::batch::Transaction::is_aside));
    assert!(replay.batch.ends_at_commit() && replay.batch.end == Lsn(0) && !replay.hold);
    assert_eq!((rows[0].op, rows[1].op), (Op::Insert, Op::Update));
    let relation = replay.batch.relation(&rows[1]);
    assert_eq!(relation.columns, orders().columns);
    let values: Vec<Value<'_>> = replay.batch.values(rows[1].new.unwrap(), relation).collect();
    assert_eq!(values, [text("1"), Value::Unchanged, text("7")]);
    assert_eq!(rows[0].old_image, OldImage::Full);
    let id = |row: &Row| RowId {
        system_identifier: 7301,
        commit_lsn: transactions[row.transaction as usize].commit_lsn,
        origin: transactions[row.transaction as usize].origin,
        ordinal: row.ordinal,
        fan_out: 0,
    };
    assert_eq!(id(&rows[0]).to_string(), "7301:replay1-1:0:0");
    let line = crate::sink::json::line(&replay.batch, &rows[0], 7301).unwrap();
    let line = String::from_utf8(line).unwrap();
    assert!(
        line.starts_with(r#"{"id":"7301:replay1-1:0:0","op":"insert","#),
        "{line}"
    );
    assert!(line.contains(r#""xid":741,"position":"0/10""#), "{line}");

    // Until it is settled the key stays blocked, and no second round goes out.
    assert!(letters.take_replay(Lsn(u64::MAX)).unwrap().is_none());
    assert_eq!(pass(&letters, &update(0x40, "1").delivery(4), &[]), [] as [usize; 0]);
    letters.settle(replay.ticket).unwrap();
    letters.settle(replay.ticket).unwrap();
    assert_eq!(numbers(folder.path()), [3, 4]);
    // What came to wait meanwhile follows.
    assert_eq!(super::replay(&letters, &[]), [4]);
    assert_eq!(pass(&letters, &update(0x50, "1").delivery(5), &[]), [0]);
    assert_eq!(letters.counts().replayed, 3);
}

/// What came before them is sent by the server once more, and must not arrive behind them.
#[test]
fn letters_that_the_stream_has_still_to_come_to_wait() {
    let folder = tempfile::tempdir().unwrap();
    let letters = three(folder.path());
    letters.request_replay(&Selection::All, false).unwrap();
    drop(letters);
    let letters = open(folder.path());
    assert!(letters.take_replay(Lsn(0x20)).unwrap().is_none());
    let first = letters.take_replay(Lsn(0x28)).unwrap().unwrap();
    letters.settle(first.ticket).unwrap();
    assert_eq!(numbers(folder.path()), [3]);
    assert!(letters.take_replay(Lsn(0x30)).unwrap().is_none());
    let second = letters.take_replay(Lsn(0x38)).unwrap().unwrap();
    letters.settle(second.ticket).unwrap();
    assert_eq!(numbers(folder.path()), [] as [u64; 0]);
}

/// Plugins that can't take them at all: the next start isn't to end there, too.
#[test]
fn a_request_that_is_called_off_leaves_its_letters() {
    let folder = tempfile::tempdir().unwrap();
    let letters = three(folder.path());
    letters.request_replay(&Selection::Numbers(vec![1]), false).unwrap();
    letters.request_replay(&Selection::Numbers(vec![3]), false).unwrap();
    let replay = letters.take_replay(Lsn(u64::MAX)).unwrap().unwrap();
    letters.call_off(replay.ticket).unwrap();
    drop(letters);
    let letters = open(folder.path());
    assert_eq!(numbers(folder.path()), [1, 2, 3]);
    assert_eq!(super::replay(&letters, &[]), [3]);
    assert!(letters.take_replay(Lsn(u64::MAX)).unwrap().is_none());
    assert_eq!(numbers(folder.path()), [1, 2]);
}

/// The later change of a key has been delivered: the earlier one is left out, unless that is forced, too.
#[test]
fn what_a_forced_letter_has_overtaken_is_superseded() {
    let folder = tempfile::tempdir().unwrap();
    let letters = three(folder.path());
    letters.request_replay(&Selection::Numbers(vec![2]), true).unwrap();
    assert_eq!(super::replay(&letters, &[]), [2]);
    drop(letters);
    let letters = open(folder.path());
    let refused = letters.request_replay(&Selection::Numbers(vec![1]), false).unwrap_err();
    assert!(refused.headline.contains('1'), "{refused:?}");
    let requested = letters.request_replay(&Selection::All, false).unwrap();
    assert_eq!((requested.letters, requested.superseded), (vec![3], vec![1]));
    // Nothing waits behind it any more.
    assert_eq!(pass(&letters, &update(0x40, "1").delivery(4), &[]), [0]);
}

#[test]
fn a_crash_in_between_sends_it_again_under_the_same_ids() {
    let folder = tempfile::tempdir().unwrap();
    let letters = three(folder.path());
    letters.request_replay(&Selection::All, false).unwrap();
    let origins = |letters: &DeadLetters| {
        let replay = letters.take_replay(Lsn(u64::MAX)).unwrap().unwrap();
        let origins = replay.batch.transactions.iter().map(|t| t.origin);
        (origins.collect::<Vec<Origin>>(), replay.ticket)
    };
    let (first, ticket) = origins(&letters);
    letters.begin_session();
    // The earlier session's mark comes too late.
    letters.settle(ticket).unwrap();
    assert_eq!(origins(&letters).0, first);
    drop(letters);
    let letters = open(folder.path());
    let (again, ticket) = origins(&letters);
    assert_eq!(again, first);
    letters.settle(ticket).unwrap();
    assert!(letters.take_replay(Lsn(u64::MAX)).unwrap().is_none());
    drop(letters);
    let letters = open(folder.path());
    assert!(letters.take_replay(Lsn(u64::MAX)).unwrap().is_none());
    assert_eq!(numbers(folder.path()), [] as [u64; 0]);
}

#[test]
fn what_fails_again_stays_with_what_waits_behind_it() {
    let folder = tempfile::tempdir().unwrap();
    let letters = three(folder.path());
    letters.request_replay(&Selection::All, false).unwrap();
    let replay = letters.take_replay(Lsn(u64::MAX)).unwrap().unwrap();
    let rows: Vec<Row> = replay.rows[0].1.clone();
    let mut aside = rejected(&rows[0]);
    aside.cause.message = "still no good".into();
    let held = letters.failed_again(&replay, vec![aside], &[]).unwrap();
    assert_eq!(
        rows.iter().map(|row| held.holds(row)).collect::<Vec<_>>(),
        [true, true, false]
    );
    letters.settle(replay.ticket).unwrap();
    assert!(letters.take_replay(Lsn(u64::MAX)).unwrap().is_none());
    let peeked = peek(folder.path(), |_| {}).unwrap();
    assert_eq!(peeked.letters.keys().collect::<Vec<_>>(), [&1, &2]);
    assert_eq!(peeked.letters[&1].reason(), "rejected bad: still no good");
    assert!(peeked.requested.is_empty());
    // Another request, and the ids of the first: it may have sent them before they failed.
    assert_eq!(letters.request_replay(&Selection::All, false).unwrap().request, 2);
    assert_eq!(ids(&letters), ["replay1-1", "replay1-2"]);
}

/// The ids of what is sent next.
fn ids(letters: &DeadLetters) -> Vec<String> {
    let replay = letters.take_replay(Lsn(u64::MAX)).unwrap().unwrap();
    let of_origin = |origin| match origin {
        Origin::Replay(replay) => format!("replay{}-{}", replay.request, replay.letter),
        _ => panic!("not a replay"),
    };
    replay
        .batch
        .transactions
        .iter()
        .map(|it| of_origin(it.origin))
        .collect()
}

fn no() -> Box<crate::problem::Problem> {
    Box::new(crate::problem::Problem::new(
        "E0410",
        crate::problem::Exit::Sink,
        "no",
        "yes",
    ))
}

/// Each time it is another request: whoever has some of them knows them by their ids.
#[test]
fn letters_that_are_called_off_keep_the_ids_under_which_they_were_sent() {
    let folder = tempfile::tempdir().unwrap();
    let letters = three(folder.path());
    letters.request_replay(&Selection::All, false).unwrap();
    assert_eq!(ids(&letters), ["replay1-1", "replay1-2", "replay1-3"]);
    let told = letters.met(3, &[], no());
    assert!(told.cause.unwrap().contains("the next start doesn't send them"));
    assert_eq!(numbers(folder.path()), [1, 2, 3]);
    // One that comes later is sent with them, under a number of its own.
    pass(&letters, &insert(0x40, "3").delivery(4), &[0]);
    for again in 0..3 {
        letters.begin_session();
        assert!(letters.take_replay(Lsn(u64::MAX)).unwrap().is_none(), "{again}");
        letters.request_replay(&Selection::All, false).unwrap();
        assert_eq!(
            ids(&letters),
            ["replay1-1", "replay1-2", "replay1-3", "replay2-4"],
            "{again}"
        );
        let _told = letters.met(4, &[], no());
    }
    // So does the file that is written anew, and whoever opens it.
    letters.with(|state| state.compact()).unwrap();
    drop(letters);
    let letters = open(folder.path());
    letters.request_replay(&Selection::All, false).unwrap();
    assert_eq!(ids(&letters), ["replay1-1", "replay1-2", "replay1-3", "replay2-4"]);
    // A letter that is written anew keeps it, too.
    letters.begin_session();
    let poisoned = super::replay(&letters, &[3]);
    assert_eq!(poisoned, [1, 2, 4]);
    drop(letters);
    let letters = open(folder.path());
    letters.request_replay(&Selection::All, false).unwrap();
    assert_eq!(ids(&letters), ["replay1-3"]);
}

/// A sink commits what comes before a letter that it refuses. Where no other sink lacks it, it isn't sent again.
#[test]
fn what_a_sink_has_before_the_letter_that_it_refuses_is_gone_where_it_is_the_only_one() {
    for (alone, counted, left) in [
        (true, false, vec![2, 3]),
        (false, false, vec![1, 2, 3]),
        (true, true, vec![1, 2, 3]),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let letters = open(folder.path());
        for (lsn, id) in [(0x10, "1"), (0x20, "2"), (0x30, "3")] {
            pass(&letters, &insert(lsn, id).delivery(lsn), &[0]);
        }
        letters.request_replay(&Selection::All, false).unwrap();
        let replay = letters.take_replay(Lsn(u64::MAX)).unwrap().unwrap();
        if counted {
            letters.is_counted(replay.ticket);
        }
        let of = letters.route(if alone { ROUTE } else { "public.customers" });
        let _told = letters.met(2, &[of], no());
        assert_eq!(numbers(folder.path()), left);
        assert_eq!(letters.counts().replayed, 3 - left.len() as u64);
        drop(letters);
        // Its key is free.
        let letters = open(folder.path());
        assert_eq!(
            pass(&letters, &update(0x40, "1").delivery(4), &[]).len(),
            3 - left.len()
        );
        assert!(letters.take_replay(Lsn(u64::MAX)).unwrap().is_none());
        // What is known of it stays known: the server may send it once more.
        assert_eq!(pass(&letters, &insert(0x10, "1").delivery(5), &[]), [] as [usize; 0]);
    }
}

#[test]
fn a_busy_key_makes_the_stream_wait_in_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let letters = open(folder.path());
    pass(&letters, &insert(0x10, "1").delivery(1), &[0]);
    letters.request_replay(&Selection::All, false).unwrap();
    let mut rounds = Vec::new();
    for round in 2.. {
        let Some(replay) = letters.take_replay(Lsn(u64::MAX)).unwrap() else {
            break;
        };
        rounds.push(replay.hold);
        if !replay.hold {
            let delivered = pass(&letters, &update(round * 0x10, "1").delivery(round), &[]);
            assert!(delivered.is_empty());
        }
        letters.settle(replay.ticket).unwrap();
    }
    assert_eq!(rounds, [false, false, false, true]);
    assert_eq!(letters.counts().blocked_keys, 0);
}

/// It was held back before the plugins, and reached the letters when there was nothing left to wait behind.
#[test]
fn what_waited_behind_a_letter_that_has_gone_meanwhile_is_sent_without_being_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let letters = open(folder.path());
    pass(&letters, &insert(0x10, "1").delivery(1), &[0]);
    letters.request_replay(&Selection::All, false).unwrap();
    let replay = letters.take_replay(Lsn(u64::MAX)).unwrap().unwrap();
    let later = update(0x20, "1").update(&orders(), &[text("1"), text("b"), Value::Null], None);
    let later = later.delivery(2);
    let route = letters.route(ROUTE);
    let waiting = letters.waiting(route, &later.batch, &later.rows);
    assert_eq!(waiting.len(), 2);
    letters.settle(replay.ticket).unwrap();
    let held = letters.set_aside(route, &later.batch, &later.rows, Vec::new(), &waiting);
    assert_eq!(held.unwrap().len(), 2);
    assert_eq!(letters.counts().blocked_keys, 1);

    assert_eq!(super::replay(&letters, &[]), [2, 3]);
    assert_eq!(letters.counts().blocked_keys, 0);
    assert_eq!(pass(&letters, &update(0x30, "1").delivery(3), &[]), [0]);
}

#[test]
fn a_dropped_letter_frees_its_key_only_with_the_last() {
    let folder = tempfile::tempdir().unwrap();
    let letters = three(folder.path());
    let dropped = letters.drop_letters(&Selection::Numbers(vec![1])).unwrap();
    assert_eq!((dropped.letters, dropped.waiting), (vec![1], vec![(1, 1)]));
    assert_eq!(pass(&letters, &update(0x40, "1").delivery(4), &[]), [] as [usize; 0]);
    letters.drop_letters(&Selection::Numbers(vec![2, 4])).unwrap();
    assert_eq!(pass(&letters, &update(0x50, "1").delivery(5), &[]), [0]);
    let missing = letters.drop_letters(&Selection::Numbers(vec![1])).unwrap_err();
    assert_eq!(missing.code, "E0806");
    letters.request_replay(&Selection::All, false).unwrap();
    let under_way = letters.take_replay(Lsn(u64::MAX)).unwrap().unwrap();
    let busy = letters.drop_letters(&Selection::Numbers(vec![3])).unwrap_err();
    assert_eq!(busy.code, "E0807");
    letters.settle(under_way.ticket).unwrap();
}

#[test]
fn age_takes_nothing_that_younger_ones_wait_behind() {
    let folder = tempfile::tempdir().unwrap();
    let letters = three(folder.path());
    let now = store::now_us();
    let hours = |hours: i64| hours * 3_600_000_000;
    letters.with(|state| {
        // The first is old, the second, behind it, is young; the third is old.
        for (number, age) in [(1, 2), (2, 0), (3, 2)] {
            state.index.entries.get_mut(&number).unwrap().set_aside_us = now - hours(age);
        }
        assert_eq!(state.expire(now).unwrap(), 1);
    });
    assert_eq!(numbers(folder.path()), [1, 2]);
    letters.with(|state| assert_eq!(state.expire(now + hours(2)).unwrap(), 2));
    assert_eq!(letters.counts().expired, 3);
    assert_eq!(pass(&letters, &update(0x40, "1").delivery(4), &[]), [0]);
}

#[test]
fn a_large_replay_goes_out_in_rounds() {
    let folder = tempfile::tempdir().unwrap();
    let letters = open(folder.path());
    let large = "x".repeat(3 << 20);
    for at in 1..=4_u64 {
        let row = [text("1"), text(&large), Value::Null];
        let batch = Builder::new()
            .transaction(at * 0x10, Part::Whole)
            .insert(&orders(), &row);
        pass(&letters, &batch.delivery(at), &[0]);
    }
    letters.request_replay(&Selection::All, false).unwrap();
    let first = letters.take_replay(Lsn(u64::MAX)).unwrap().unwrap();
    assert_eq!(first.len(), 2);
    letters.settle(first.ticket).unwrap();
    assert_eq!(replay(&letters, &[]), [3, 4]);
    // Nothing but the header, and what may be sent again, is left.
    assert!(std::fs::metadata(file::path(folder.path())).unwrap().len() < 4096);
}

/// The process ended between the position, with which it is stored what was sent, and the letters' own file.
#[test]
fn what_an_earlier_session_has_sent_is_gone_and_what_waits_behind_it_follows() {
    let folder = tempfile::tempdir().unwrap();
    let letters = three(folder.path());
    letters.request_replay(&Selection::Numbers(vec![1]), false).unwrap();
    let replay = letters.take_replay(Lsn(u64::MAX)).unwrap().unwrap();
    let sent = letters.sent(replay.ticket);
    assert_eq!(sent, [1, 2]);
    assert_eq!(pass(&letters, &update(0x40, "1").delivery(4), &[]), [] as [usize; 0]);
    drop(letters);

    let letters = open(folder.path());
    letters.begin_session();
    letters.settle_sent(&sent).unwrap();
    letters.settle_sent(&sent).unwrap();
    assert_eq!(numbers(folder.path()), [3, 4]);
    assert_eq!(super::replay(&letters, &[]), [4]);
    assert_eq!(numbers(folder.path()), [3]);
}
