//! Dead letters beside the copy of a table.

use super::*;
use crate::batch::Value;
use crate::dead_letter::{Selection, Ticket};
use crate::plugin::tests::{
    chain_that_masks_and_rejects, chain_that_rejects, chain_that_rejects_and_keeps_back, state,
};
use crate::plugin::{Kept, State};
use rowmill_tests::{Columns, Keeps, POISON, REFUSED};
use tokio::sync::oneshot::error::TryRecvError;

#[test]
fn a_sink_that_is_emptied_for_a_copy_of_its_own_frees_no_key() {
    let orders = orders();
    for (only, truncated, blocked) in [(None, [1, 1], 0), (Some(vec![1]), [0, 1], 1)] {
        let mut bench = Bench::new(2);
        bench.only.extend(only.map(|sinks| (orders.oid, sinks)));
        let ids = ["1", "2", "3"];
        let stream = Builder::new().transaction(0x10, Part::Whole);
        let inserted = ids
            .iter()
            .fold(stream, |stream, id| stream.insert(&orders, &[id, "a", "2"].map(text)));
        bench.push(inserted);
        bench.push(Builder::new().copy(0x20, 0).truncate(&[&orders], false, false));
        let chain = chain_that_masks_and_rejects(3, 1);
        let got = bench.run(vec![route("orders", &[0, 1], Some(chain))], 2, 0);
        let truncates = |got| rows(got).iter().filter(|row| row.contains("truncate")).count();
        assert_eq!([truncates(&got[0]), truncates(&got[1])], truncated, "{got:?}");
        assert_eq!(bench.letters.counts().letters, 1);
        assert_eq!(bench.letters.counts().blocked_keys, blocked);
    }
}

/// What the target has stays there, and so does what it lacks of the rows before.
#[test]
fn a_truncate_that_a_plugin_keeps_back_frees_no_key() {
    let orders = orders();
    for (is_back, arrived, letters, blocked) in [(true, vec![], 2, 1), (false, vec!["1 truncate", "2 insert"], 1, 0)] {
        let bench = Bench::new(1);
        let batch = order(Builder::new().transaction(0x10, Part::Whole), &orders);
        bench.push(order(batch.truncate(&[&orders], false, false), &orders));
        let chain = chain_that_rejects_and_keeps_back(is_back);
        let got = bench.run(vec![route("orders", &[0], Some(chain))], 1, 0);
        let expected: Vec<String> = arrived.iter().map(|row| format!("0/10:{row} orders")).collect();
        assert_eq!(rows(&got[0]), expected);
        let counts = bench.letters.counts();
        assert_eq!((counts.letters, counts.blocked_keys), (letters, blocked));
        // Sent again, they are there behind it.
        let requested = bench.letters.request_replay(&Selection::All, false).unwrap();
        assert_eq!(requested.letters.len(), if is_back { 2 } else { 0 });
    }
}

/// By then the copy is over, and nobody knows any more whom it was for.
#[test]
fn a_letter_of_a_copy_for_a_sink_that_came_is_sent_to_that_sink_alone() {
    let orders = orders();
    for (sinks, left, last) in [(2, 0, 1), (1, 1, 0)] {
        let mut bench = Bench::new(2);
        bench.only.insert(orders.oid, vec![1]);
        let read = Builder::new().copy(0x20, 0);
        bench.push(read.row(Op::Read, &orders, Some(&ORDER.map(text)), None));
        let got = bench.run(vec![route("orders", &[0, 1], Some(chain_that_rejects(0)))], 2, 0);
        assert!(rows(&got[0]).is_empty() && rows(&got[1]).is_empty(), "{got:?}");
        assert_eq!(bench.letters.counts().letters, 1);

        let mut bench = bench.again();
        bench.frontier = Arc::new(Frontier::new(2));
        bench.only.clear();
        bench.letters.request_replay(&Selection::All, false).unwrap();
        let others = Builder::new().transaction(0x30, Part::Whole);
        bench.push(others.insert(&customers(), &[text("1")]));
        // Without the sink there is nowhere to send it.
        let to: Vec<usize> = (0..sinks).collect();
        let got = bench.run(vec![route("orders", &to, None)], 2, 0);
        assert_eq!(rows(&got[0]), [""; 0]);
        assert_eq!(rows(&got[1]), vec!["0/20:0 read orders"; last]);
        for mark in bench.frontier.take().unwrap().marks {
            if let Mark::Replayed(ticket) = mark {
                bench.letters.settle(Ticket(ticket)).unwrap();
            }
        }
        assert_eq!(bench.letters.counts().letters, left);
    }
}

/// A plugin that keeps a total, and breaks on this amount.
fn counting(poison: i64, state: Option<Arc<[u8]>>) -> Chain {
    let columns = Columns {
        customer: 1,
        amount: 2,
        total: 3,
    };
    let state = state.map(|bytes| State { version: 1, bytes });
    let kept = Kept { state, entries: None };
    state::chain(state::breaking(Keeps::State, columns, 1, poison), kept).unwrap()
}

fn counted(bench: &Bench, chains: Vec<Chain>) -> Vec<Mark> {
    let parts = RouteParts {
        lanes: chains.into_iter().map(|chain| LaneChain::of(Some(chain))).collect(),
        ..route("payments", &[0], None)
    };
    bench.run(vec![parts], 1, 0);
    bench.frontier.take().unwrap().marks
}

fn last_total(marks: &[Mark]) -> Option<i64> {
    stored_totals(marks).last().copied()
}

/// Ids and amounts, each a transaction of its own, in batches of so many.
fn push(bench: &Bench, first: u64, payments: &[(i64, i64)], cut: usize) {
    let relation = super::payments();
    let numbered: Vec<(u64, &(i64, i64))> = (first..).zip(payments).collect();
    for batch in numbered.chunks(cut) {
        let mut builder = Builder::new();
        for (number, (id, amount)) in batch {
            let values = [*id, 7, *amount, 0].map(|value| value.to_string());
            builder = builder
                .transaction(0x10 * number, Part::Whole)
                .insert(&relation, &values.each_ref().map(|value| text(value)));
        }
        bench.push(builder);
    }
}

const PAYMENTS: [(i64, i64); 7] = [(1, POISON), (1, 5), (2, 7), (3, REFUSED), (1, 3), (3, 20), (2, 4)];

#[test]
fn what_waits_behind_a_letter_isnt_in_a_state_wherever_batches_are_cut() {
    for lanes in [1, 3] {
        for cut in 1..=PAYMENTS.len() {
            let bench = Bench::new(1);
            push(&bench, 1, &PAYMENTS, cut);
            let chains = (0..lanes).map(|_| counting(POISON, None)).collect();
            let marks = counted(&bench, chains);
            assert_eq!(last_total(&marks), Some(11), "{lanes} lanes, batches of {cut}");
            assert_eq!(bench.letters.counts().letters, 5);
        }
    }
}

/// The process ended before the position behind the letters was stored: their changes come again, and the plugin would
/// take them now.
#[test]
fn what_stands_in_a_letter_isnt_counted_when_it_comes_again() {
    let bench = Bench::new(1);
    push(&bench, 1, &PAYMENTS, 3);
    counted(&bench, vec![counting(POISON, None)]);
    let bench = bench.again();
    push(&bench, 1, &PAYMENTS, 7);
    let marks = counted(&bench, vec![counting(0, None)]);
    assert_eq!(last_total(&marks), Some(11));
    assert_eq!(bench.letters.counts().letters, 5);
}

/// A change of the key waits, and with it what comes under the new key.
#[test]
fn a_change_that_waits_makes_others_wait() {
    for (cut, lanes) in (1..=3).flat_map(|cut| [(cut, 1), (cut, 3)]) {
        let (bench, payments) = (Bench::new(1), super::payments());
        push(&bench, 1, &[(1, POISON)], 1);
        let values = |id: &'static str, amount: &'static str| [id, "7", amount, "0"].map(text);
        let absent = [text("1"), Value::Absent, Value::Absent, Value::Absent];
        let moved = Builder::new().transaction(0x20, Part::Whole);
        let mut batches = vec![moved.update(&payments, &values("2", "1"), Some(&absent))];
        for commit in [0x30, 0x40] {
            let builder = match batches.len() < cut {
                true => Builder::new(),
                false => batches.pop().unwrap(),
            };
            let insert = builder.transaction(commit, Part::Whole);
            batches.push(insert.insert(&payments, &values("2", "9")));
        }
        batches.into_iter().for_each(|batch| bench.push(batch));
        let chains = (0..lanes).map(|_| counting(POISON, None)).collect();
        let marks = counted(&bench, chains);
        assert_eq!(last_total(&marks), Some(0), "{cut} batches, {lanes} lanes");
        assert_eq!(bench.letters.counts().letters, 4);
    }
}

#[test]
fn what_is_sent_again_counts_once_and_not_at_all_where_it_fails_again() {
    // 11 are in the state, 1 comes with the stream; the refused one and what waits behind it fail again in any case.
    for (poison, total, left) in [(0, 11 + 1 + POISON + 5 + 3, 2), (POISON, 11 + 1, 5)] {
        let bench = Bench::new(1);
        push(&bench, 1, &PAYMENTS, 7);
        let marks = counted(&bench, vec![counting(POISON, None)]);
        let state = marks.iter().find_map(|mark| match mark {
            Mark::State(state) => Some(Arc::clone(&state.bytes)),
            _ => None,
        });
        let bench = bench.again();
        let requested = bench.letters.request_replay(&Selection::All, false).unwrap();
        assert_eq!(requested.letters.len(), 5);
        push(&bench, 8, &[(9, 1)], 1);
        let marks = counted(&bench, vec![counting(poison, state)]);
        assert_eq!(last_total(&marks), Some(total));
        let ticket = marks.iter().find_map(|mark| match mark {
            Mark::Replayed(ticket) => Some(Ticket(*ticket)),
            _ => None,
        });
        bench.letters.settle(ticket.unwrap()).unwrap();
        assert_eq!(bench.letters.counts().letters, left);
    }
}

/// The plugin was mended while the host was away: what is sent again before its version begins would meet the broken one. It
/// begins with or without rows of the route.
#[test]
fn letters_are_sent_through_the_plugins_as_they_are_now() {
    for (has_rows, lanes) in [(true, 1), (false, 1), (true, 3), (false, 3)] {
        let bench = Bench::new(1);
        push(&bench, 1, &[(1, POISON), (1, 5)], 2);
        counted(&bench, vec![counting(POISON, None)]);
        assert_eq!(bench.letters.counts().letters, 2);
        let bench = bench.again();
        bench.letters.request_replay(&Selection::All, false).unwrap();
        push(&bench, 3, &[(2, 7)], 1);
        match has_rows {
            true => push(&bench, 4, &[(3, 9)], 1),
            false => {
                let others = Builder::new().transaction(0x40, Part::Whole);
                bench.push(others.insert(&customers(), &[text("1")]));
            }
        }
        let mut lanes: Vec<LaneChain> = (0..lanes)
            .map(|_| LaneChain::of(Some(counting(POISON, None))))
            .collect();
        for lane in &mut lanes {
            lane.later.push_back(Later::trusted(Lsn(0x40), counting(0, None)));
        }
        let parts = RouteParts {
            lanes,
            ..route("payments", &[0], None)
        };
        let got = bench.run(vec![parts], 1, 0);
        let sent = |row: &&&str| row.starts_with("0/10:") || row.starts_with("0/20:");
        assert_eq!(rows(&got[0]).iter().filter(sent).count(), 2, "{got:?}");
        let total = if has_rows { 9 } else { 0 } + 7 + POISON + 5;
        assert_eq!(last_total(&bench.frontier.take().unwrap().marks), Some(total));
    }
}

/// What letters meet that no policy of a plugin covers ends the session, and not the next one, too.
#[test]
fn letters_that_break_a_plugin_once_too_often_are_called_off() {
    let bench = Bench::new(1);
    push(&bench, 1, &PAYMENTS, 7);
    counted(&bench, vec![counting(POISON, None)]);
    let bench = bench.again();
    bench.letters.request_replay(&Selection::All, false).unwrap();
    push(&bench, 8, &[(9, 1)], 1);
    let columns = Columns {
        customer: 1,
        amount: 2,
        total: 3,
    };
    let mut version = state::breaking(Keeps::State, columns, 1, POISON);
    version.policies.max_faults = 0;
    let chain = state::chain(version, Kept::default()).unwrap();
    let (_, end) = bench.run_to_end(vec![route("payments", &[0], Some(chain))], 1, 0);
    let LaneEnd::Problem(problem) = end else {
        panic!("{end:?}");
    };
    assert_eq!(problem.code, "E0313");
    assert!(problem.cause.unwrap().contains("the next start doesn't send them"));
    bench.letters.begin_session();
    assert!(bench.letters.take_replay(Lsn(u64::MAX)).unwrap().is_none());
    assert_eq!(bench.letters.counts().letters, 5);
}

/// While rows are owed that a copy reads again, no state is stored. A letter that was sent again has to wait for one.
#[test]
fn a_letter_is_gone_only_with_the_state_that_has_it() {
    for owed in [0, 5] {
        let bench = Bench::new(1);
        push(&bench, 1, &PAYMENTS, 7);
        counted(&bench, vec![counting(POISON, None)]);
        let bench = bench.again();
        bench.letters.request_replay(&Selection::All, false).unwrap();
        push(&bench, 8, &[(9, 1)], 1);
        let parts = route("payments", &[0], Some(counting(0, None)));
        let (_, end) = bench.run_as(vec![parts], 1, 0, |intake| intake.owed = Lsn(owed));
        assert!(matches!(end, LaneEnd::Finished), "{end:?}");
        let marks = bench.frontier.take().map_or_else(Vec::new, |advance| advance.marks);
        let is_sent = marks.iter().any(|mark| matches!(mark, Mark::Replayed(_)));
        let is_counted = last_total(&marks) == Some(1 + POISON + 5 + 3);
        assert_eq!((is_sent, is_counted), (owed == 0, owed == 0), "{marks:?}");
    }
}

/// The version before keeps nothing, so its lanes don't wait for the letters that they cause: what is under way of it has to
/// be through before the one that counts sees what may wait behind such.
#[test]
fn a_version_that_begins_to_keep_something_knows_the_letters_of_the_one_before() {
    let bench = Bench::new(1);
    push(&bench, 1, &[(9, 1)], 1);
    push(&bench, 2, &[(1, 5)], 1);
    let (done, mut told) = tokio::sync::oneshot::channel();
    let swap = Swap {
        route: 0,
        chains: (0..2).map(|_| counting(POISON, None)).collect(),
        version: ChainVersion::default(),
        done,
    };
    bench.queue.push_now(Input::Swap(Box::new(swap))).unwrap();
    push(&bench, 3, &[(1, 3), (2, 7)], 1);
    // The outflow has the first batch in hand, so the letter of the second one isn't written yet. That nothing happens
    // meanwhile is seen by waiting for it.
    let early = Arc::new(Mutex::new(None));
    let seen = Arc::clone(&early);
    let first = Mutex::new(Some(move || {
        let until = std::time::Instant::now() + Duration::from_millis(300);
        let mut so_far = told.try_recv().map(|_| ());
        while std::time::Instant::now() < until && so_far == Err(TryRecvError::Empty) {
            std::thread::sleep(Duration::from_millis(1));
            so_far = told.try_recv().map(|_| ());
        }
        *seen.lock().unwrap() = Some(so_far);
    }));
    *bench.tap.lock().unwrap() = Some(Box::new(move |_, _| {
        if let Some(mut first) = first.lock().unwrap().take() {
            first();
        }
    }));
    let passing = LaneChain::of(Some(chain_that(false)));
    let rejecting = LaneChain::of(Some(chain_that_rejects(0)));
    let parts = RouteParts {
        // The first batch meets the second lane.
        lanes: vec![rejecting, passing],
        ..route("payments", &[0], None)
    };
    bench.run(vec![parts], 1, 0);
    let early = early.lock().unwrap().take();
    assert_eq!(early, Some(Err(TryRecvError::Empty)), "the version took over too early");
    assert_eq!(last_total(&bench.frontier.take().unwrap().marks), Some(7));
    assert_eq!(bench.letters.counts().letters, 2);
}
