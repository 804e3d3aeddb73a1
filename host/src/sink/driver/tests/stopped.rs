//! What a sink that has stopped for good leaves behind.

use super::*;
use crate::batch::Replay;
use std::sync::atomic::Ordering;

#[tokio::test]
async fn a_row_that_is_refused_is_named_without_its_values() {
    let bench = start([Step::Row(0)], false, 1 << 20, 0);
    send(&bench.handle, delivery(1, 0x10, Part::Whole)).await;
    let Outcome::Stopped(problem) = bench.outcome.await.unwrap() else {
        panic!("it stops")
    };
    assert_eq!(problem.cause.unwrap(), "row 7301:10:0:0 of public.orders: too long");
}

#[tokio::test]
async fn what_was_committed_before_a_sink_stops_is_told() {
    let (go, hold) = oneshot::channel();
    let mut bench = start([Step::Hold(hold), Step::DefiniteBehind], false, 1 << 20, 0);
    send(&bench.handle, delivery(1, 0x10, Part::Whole)).await;
    send(&bench.handle, delivery(2, 0x20, Part::Whole)).await;
    go.send(()).unwrap();
    assert!(matches!(bench.outcome.await.unwrap(), Outcome::Stopped(_)));
    assert_eq!(committed_of(&bench.target), ["0/10:0"]);
    assert_eq!(bench.durable.recv().await, Some(1));
}

/// The next start is not to send it.
#[tokio::test]
async fn a_dead_letter_that_is_refused_is_noted() {
    let context = context("double");
    let bench = start_in(context.clone(), [Step::Row(1)], false, 1 << 20, 0, Lsn(u64::MAX));
    let row = [text("1"), text("a"), text("2")];
    let builder = Builder::new().transaction(0x10, Part::Whole).insert(&orders(), &row);
    let mut round = builder
        .transaction(0x20, Part::Whole)
        .insert(&orders(), &row)
        .delivery(1);
    for (letter, transaction) in (11..).zip(&mut Arc::get_mut(&mut round.batch).unwrap().transactions) {
        transaction.end_lsn = Lsn(0);
        transaction.origin = Origin::Replay(Replay {
            request: 3,
            letter,
            copy: None,
        });
    }
    send(&bench.handle, round).await;
    let Outcome::Stopped(problem) = bench.outcome.await.unwrap() else {
        panic!("it stops")
    };
    assert_eq!(
        problem.cause.unwrap(),
        "row 7301:replay3-12:0:0 of public.orders: too long"
    );
    assert_eq!(context.passed_over.letter.load(Ordering::Relaxed), 12);
    assert!(!context.passed_over.has_all_before.load(Ordering::Relaxed));
}
