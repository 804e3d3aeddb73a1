//! What the sinks get of a table that is copied for one of them alone.

use super::*;
use crate::batch::{Copied, Left, Value};

#[test]
fn what_a_copied_row_shows_is_left_out_for_the_sink_that_comes_alone() {
    let (mut bench, orders) = (Bench::new(2), orders());
    bench.only.insert(orders.oid, vec![1]);
    let values = |id: &'static str| [id, "a", "2"].map(text);
    let old = [text("1"), Value::Absent, Value::Absent];
    let mut builder = Builder::new()
        .transaction(0x10, Part::Whole)
        .insert(&orders, &values("1"));
    for _ in 0..3 {
        builder = builder.update(&orders, &values("2"), Some(&old));
    }
    let streamed = builder.insert(&orders, &values("3")).delivery(0).batch;
    let mut batch = Arc::try_unwrap(streamed).unwrap();
    let left = [Left::Nothing, Left::Old, Left::New, Left::Nothing];
    let noted = (0..).zip(left).map(|(ordinal, left)| Copied {
        transaction: 0,
        ordinal,
        table_oid: orders.oid,
        left,
    });
    batch.copied = noted.collect();
    bench.queue.push_now(Input::Batch(batch)).unwrap();
    // What is read again goes as an update.
    bench.push(Builder::new().copy(0x20, 0).update(&orders, &values("2"), None));
    let got = bench.run(vec![route("orders", &[0, 1], None)], 2, 0);
    let of = |rows: &[&str]| rows.iter().map(|row| format!("0/10:{row} orders")).collect::<Vec<_>>();
    assert_eq!(
        rows(&got[0]),
        of(&["0 insert", "1 update", "2 update", "3 update", "4 insert"]),
        "all of the stream and nothing of the copy"
    );
    let mut come = of(&["1 delete", "2 insert", "4 insert"]);
    come.push("0/20:0 update orders".to_owned());
    assert_eq!(rows(&got[1]), come);
}
