//! Copied rows that come in binary form though their plugins or sinks have come since: the copy was planned without them.

use super::*;
use crate::batch::{CopyUnit, Origin, Transaction, Value};
use crate::decode::CopyDecoder;

/// What a unit reads of `payments`: two rows whose amounts are 5 and 8.
fn unit(payments: &Arc<Relation>) -> Batch {
    let mut body = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0".to_vec();
    for row in [[1_i64, 7, 5, 0], [2, 7, 8, 0]] {
        body.extend((row.len() as u16).to_be_bytes());
        for value in row {
            body.extend(8_u32.to_be_bytes());
            body.extend(value.to_be_bytes());
        }
    }
    let mut frame = vec![b'd'];
    frame.extend((body.len() as u32 + 4).to_be_bytes());
    frame.extend(body);
    let unit = CopyUnit {
        epoch: 1,
        table_oid: payments.oid,
        unit: 1,
    };
    let transaction = Transaction {
        xid: 0,
        commit_lsn: Lsn(0x10),
        end_lsn: Lsn(0x18),
        commit_us: 0,
        part: Part::Whole,
        origin: Origin::Copy(unit),
    };
    let mut decoder = CopyDecoder::new(Arc::clone(payments)).straight(&["id".to_owned()], &Arc::default());
    decoder.decode(frame.into(), transaction).unwrap()
}

/// What the one delivery has in a slot of each of its rows.
fn delivered(bench: &Bench, slot: u16) -> (bool, Vec<String>) {
    let deliveries = bench.delivered.lock().unwrap();
    let [delivery] = deliveries.as_slice() else {
        panic!("{} deliveries", deliveries.len());
    };
    let told = delivery.rows.iter().map(|row| {
        let value = delivery.batch.value(row.new.unwrap(), slot);
        match value {
            Value::Text(text) => String::from_utf8(text.to_vec()).unwrap(),
            other => format!("{other:?}"),
        }
    });
    (delivery.batch.straight, told.collect())
}

fn bench_with_unit(payments: &Arc<Relation>, take_binary: bool) -> Bench {
    let bench = Bench {
        take_binary,
        ..Bench::new(1)
    };
    bench.queue.push_now(Input::Batch(unit(payments))).unwrap();
    bench
}

#[test]
fn plugins_that_have_come_since_see_texts() {
    let payments = payments();
    let bench = bench_with_unit(&payments, true);
    bench.run(vec![route("payments", &[0], Some(chain_that_counts()))], 1, 0);
    let advance = bench.frontier.take().unwrap();
    assert_eq!(stored_totals(&advance.marks), vec![13]);
    assert_eq!(delivered(&bench, 2), (false, vec!["5".to_owned(), "8".to_owned()]));
}

#[test]
fn a_sink_that_has_come_since_gets_texts() {
    let payments = payments();
    let bench = bench_with_unit(&payments, false);
    bench.run(vec![route("payments", &[0], None)], 1, 0);
    assert_eq!(delivered(&bench, 2), (false, vec!["5".to_owned(), "8".to_owned()]));
}

#[test]
fn a_sink_that_takes_rows_as_they_came_gets_them_so() {
    let payments = payments();
    let bench = bench_with_unit(&payments, true);
    bench.run(vec![route("payments", &[0], None)], 1, 0);
    let (straight, amounts) = delivered(&bench, 2);
    assert!(straight);
    assert_eq!(amounts[0], format!("{:?}", Value::Binary(&5_i64.to_be_bytes())));
}
