//! Dead letters that are sent again and of which one is refused.

use super::*;
use crate::batch::{Lsn, Origin, Replay};
use std::sync::atomic::Ordering;

/// As a round of dead letters: each transaction is one, numbered from 11 on.
fn as_letters(builder: Builder) -> Delivery {
    let mut delivery = builder.delivery(1);
    let transactions = &mut Arc::make_mut(&mut delivery.batch).transactions;
    for (letter, transaction) in (11..).zip(transactions) {
        transaction.end_lsn = Lsn(0);
        transaction.origin = Origin::Replay(Replay {
            request: 1,
            letter,
            copy: None,
        });
    }
    delivery
}

/// The letter that the sink has stopped at, and whether it has committed those before it.
fn stopped_at(context: &SinkContext) -> (u64, bool) {
    let (letter, has_all_before) = (&context.passed_over.letter, &context.passed_over.has_all_before);
    (letter.load(Ordering::Relaxed), has_all_before.load(Ordering::Relaxed))
}

async fn refused(cluster: &Cluster, delivery: &Delivery) -> (&'static str, (u64, bool)) {
    let context = context("warehouse");
    let mut sink = sink(cluster);
    sink.open(&context).await.unwrap();
    let problem = problem(applied(&mut sink, delivery).await);
    (problem.code, stopped_at(&context))
}

const CREATE: &str =
    "CREATE TABLE orders (id bigint PRIMARY KEY, name text, total numeric CHECK (total < 9), own text DEFAULT 'd')";

// On threads of its own the connection of a dropped sink ends while the test waits for psql.
#[tokio::test(flavor = "multi_thread")]
async fn those_before_the_one_that_is_refused_are_committed() {
    let cluster = target(CREATE);
    let orders = orders();
    let of = |id, total| [text(id), text("a"), text(total)];
    let round = || {
        Builder::new()
            .transaction(0x10, Part::Whole)
            .insert(&orders, &of("1", "1"))
            .transaction(0x20, Part::Whole)
            .insert(&orders, &of("2", "2"))
            .transaction(0x30, Part::Whole)
    };
    let stopped = refused(&cluster, &as_letters(round().insert(&orders, &of("3", "9")))).await;
    assert_eq!(stopped, ("E0410", (13, true)));
    assert_eq!(rows(&cluster), "1|a|1|d\n2|a|2|d");
    // One that can't be made a statement of is found before the target is asked.
    let keyless = [ABSENT, text("a"), NULL];
    let stopped = refused(&cluster, &as_letters(round().delete(&orders, &keyless))).await;
    assert_eq!(stopped, ("E0412", (13, true)));
    // Behind one that the target refuses it is found first: nothing of the round is committed then.
    let both = Builder::new()
        .transaction(0x10, Part::Whole)
        .insert(&orders, &of("5", "5"))
        .transaction(0x20, Part::Whole)
        .insert(&orders, &of("6", "9"))
        .transaction(0x30, Part::Whole)
        .delete(&orders, &keyless);
    assert_eq!(refused(&cluster, &as_letters(both)).await, ("E0410", (12, false)));
    assert_eq!(rows(&cluster), "1|a|1|d\n2|a|2|d");
}

/// The round is committed, and the sink stops at what came behind it: nobody is to send it again.
#[tokio::test(flavor = "multi_thread")]
async fn letters_that_are_committed_before_a_row_of_the_stream_is_refused_are_durable() {
    let cluster = target(CREATE);
    let orders = orders();
    let (context, mut sink) = (context("warehouse"), sink(&cluster));
    sink.open(&context).await.unwrap();
    let round = Builder::new().transaction(0x10, Part::Whole);
    let round = as_letters(round.insert(&orders, &[text("1"), text("a"), text("1")]));
    assert_eq!(sink.write(&round).await.unwrap(), Progress::Accepted);
    let streamed = Builder::new().transaction(0x20, Part::Whole);
    let streamed = streamed.insert(&orders, &[text("2"), text("a"), text("9")]).delivery(2);
    assert_eq!(problem(applied(&mut sink, &streamed).await).code, "E0410");
    assert_eq!(rows(&cluster), "1|a|1|d");
    assert_eq!((sink.durable(), stopped_at(&context)), (1, (0, true)));
    sink.open(&context).await.unwrap();
    assert_eq!(sink.durable(), 1);
}
