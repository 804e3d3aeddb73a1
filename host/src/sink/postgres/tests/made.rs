//! Tables that are made get their keys behind their rows.

use super::*;
use std::ops::Range;

/// A sink that makes tables, open, with those missing.
async fn making(cluster: &Cluster, mode: WriteMode) -> PostgresSink {
    let config = config::PostgresSink {
        create_tables: true,
        mode,
        ..sink_to(cluster.url("postgres"))
    };
    let mut sink = PostgresSink::new(&config);
    sink.open(&context("warehouse")).await.unwrap();
    sink
}

fn read(builder: Builder, orders: &Arc<Relation>, ids: Range<u64>) -> Builder {
    ids.fold(builder, |builder, id| {
        let id = id.to_string();
        builder.row(Op::Read, orders, Some(&[text(&id), text("read"), text(&id)]), None)
    })
}

/// A unit with more of its table to come.
fn unit(sequence: u64, orders: &Arc<Relation>, ids: Range<u64>) -> Delivery {
    let unit = read(Builder::new().copy(0x10 * sequence, sequence as u32), orders, ids);
    with_more(unit.delivery(sequence), orders)
}

fn with_more(delivery: Delivery, orders: &Arc<Relation>) -> Delivery {
    Delivery {
        copying: vec![orders.oid],
        ..delivery
    }
}

/// Whether the table has its key, how many keys are due, and what the table holds.
fn found(cluster: &Cluster) -> String {
    let select = "SELECT EXISTS (SELECT FROM pg_index WHERE indrelid = 'orders'::regclass AND indisprimary),
        (SELECT count(*) FROM rowmill.keys_due), count(*), count(DISTINCT id), max(name) FROM orders";
    cluster.sql("postgres", select).unwrap()
}

#[tokio::test]
async fn the_key_comes_behind_the_last_copied_row() {
    let cluster = Cluster::start().unwrap();
    let mut sink = making(&cluster, WriteMode::Mirror).await;
    let orders = orders();
    deliver(&mut sink, &unit(1, &orders, 0..300)).await;
    // Few rows go by a statement.
    deliver(&mut sink, &unit(2, &orders, 300..310)).await;
    assert_eq!(found(&cluster), "f|1|310|310|read");
    let last = read(Builder::new().copy(0x30, 3), &orders, 310..400);
    // As they come: nothing is flushed between them.
    sink.write(&unit(3, &orders, 400..420)).await.unwrap();
    deliver(&mut sink, &last.delivery(4)).await;
    assert_eq!(found(&cluster), "t|0|420|420|read");
    let change = Builder::new()
        .transaction(0x40, Part::Whole)
        .update(&orders, &[text("7"), text("unread"), NULL], None)
        .delete(&orders, &[text("8"), ABSENT, ABSENT]);
    deliver(&mut sink, &change.delivery(5)).await;
    assert_eq!(found(&cluster), "t|0|419|419|unread");
    sink.close().await.unwrap();
}

/// Streamed changes, rows that were read again, and a TRUNCATE: whatever isn't a unit's first reading.
#[tokio::test]
async fn the_key_is_there_before_anything_looks_for_it() {
    for (at, mode) in [WriteMode::Mirror, WriteMode::Upsert].into_iter().enumerate() {
        let cluster = Cluster::start().unwrap();
        let mut sink = making(&cluster, mode).await;
        let orders = orders();
        deliver(&mut sink, &unit(1, &orders, 0..300)).await;
        assert_eq!(found(&cluster), "f|1|300|300|read");
        let change = match at {
            0 => Builder::new().copy(0x20, 2).row(
                Op::Update,
                &orders,
                Some(&[text("5"), text("read again"), NULL]),
                None,
            ),
            _ => Builder::new()
                .transaction(0x20, Part::Whole)
                .insert(&orders, &[text("300"), text("new"), NULL])
                .update(&orders, &[text("5"), text("read again"), NULL], None),
        };
        deliver(&mut sink, &with_more(change.delivery(2), &orders)).await;
        let rows = 300 + at;
        assert_eq!(found(&cluster), format!("t|0|{rows}|{rows}|read again"));
        // Units that come now find the key.
        deliver(&mut sink, &unit(3, &orders, 200..400)).await;
        assert_eq!(found(&cluster), "t|0|400|400|read again");
        sink.close().await.unwrap();
    }
}

/// Where rows that were read again come together with the table's first.
#[tokio::test]
async fn a_table_is_made_with_its_key_where_that_is_needed_at_once() {
    let cluster = Cluster::start().unwrap();
    let mut sink = making(&cluster, WriteMode::Mirror).await;
    let orders = orders();
    sink.write(&unit(1, &orders, 0..300)).await.unwrap();
    let again = Some([text("5"), text("read again"), NULL]);
    let again = Builder::new()
        .copy(0x20, 2)
        .row(Op::Update, &orders, again.as_ref().map(|row| row.as_slice()), None);
    deliver(&mut sink, &with_more(again.delivery(2), &orders)).await;
    let select = "SELECT count(*), count(DISTINCT id), max(name) FROM orders";
    assert_eq!(cluster.sql("postgres", select).unwrap(), "300|300|read again");
    sink.close().await.unwrap();
}

/// In the midst of a transaction that has begun with other tables' rows, which stays whole.
#[tokio::test]
async fn a_large_transaction_gets_the_key_within_itself() {
    let cluster = target("CREATE TABLE notes (a int PRIMARY KEY)");
    let mut sink = making(&cluster, WriteMode::Mirror).await;
    let orders = orders();
    let notes = relation("notes", &[("a", 23, "integer", true)]);
    deliver(&mut sink, &unit(1, &orders, 0..300)).await;
    let first = Builder::new()
        .transaction(0x20, Part::First)
        .insert(&notes, &[text("1")]);
    sink.write(&first.delivery(2)).await.unwrap();
    sink.flush().await.unwrap();
    let middle = Builder::new()
        .transaction(0x20, Part::Middle)
        .delete(&orders, &[text("1"), ABSENT, ABSENT]);
    sink.write(&with_more(middle.delivery(3), &orders)).await.unwrap();
    sink.flush().await.unwrap();
    let seen = cluster.sql("postgres", "SELECT count(*) FROM notes").unwrap();
    assert_eq!(seen, "0", "no part of it is visible");
    let last = Builder::new()
        .transaction(0x20, Part::Last)
        .insert(&notes, &[text("2")]);
    deliver(&mut sink, &last.delivery(4)).await;
    assert_eq!(found(&cluster), "t|0|299|299|read");
    sink.close().await.unwrap();
}

/// Whatever was sent comes again, and is there once.
#[tokio::test]
async fn a_session_begins_with_the_keys_that_are_due() {
    let cluster = Cluster::start().unwrap();
    let mut sink = making(&cluster, WriteMode::Mirror).await;
    let orders = orders();
    deliver(&mut sink, &unit(1, &orders, 0..300)).await;
    assert_eq!(found(&cluster), "f|1|300|300|read");
    drop(sink);
    let mut sink = making(&cluster, WriteMode::Mirror).await;
    assert_eq!(found(&cluster), "t|0|300|300|read");
    deliver(&mut sink, &unit(1, &orders, 0..300)).await;
    deliver(&mut sink, &unit(2, &orders, 300..350)).await;
    assert_eq!(found(&cluster), "t|0|350|350|read");
    sink.close().await.unwrap();
}

#[tokio::test]
async fn the_key_comes_when_nothing_else_does() {
    let cluster = Cluster::start().unwrap();
    let mut sink = making(&cluster, WriteMode::Mirror).await;
    assert_eq!(sink.idle_after(), None);
    deliver(&mut sink, &unit(1, &orders(), 0..300)).await;
    assert_eq!(sink.idle_after(), Some(keys::IDLE));
    sink.idle().await.unwrap();
    assert_eq!(found(&cluster), "t|0|300|300|read");
    assert_eq!(sink.idle_after(), None);
    sink.close().await.unwrap();
}

/// A plugin may make one key of several.
#[tokio::test]
async fn of_rows_with_the_same_key_the_last_one_stays() {
    let cluster = Cluster::start().unwrap();
    let mut sink = making(&cluster, WriteMode::Upsert).await;
    let orders = orders();
    deliver(&mut sink, &unit(1, &orders, 0..300)).await;
    let other = Builder::new()
        .copy(0x20, 2)
        .row(Op::Read, &orders, Some(&[text("5"), text("the same"), NULL]), None);
    deliver(&mut sink, &other.delivery(2)).await;
    assert_eq!(found(&cluster), "t|0|300|300|the same");
    sink.close().await.unwrap();
}

/// The source's key column gets another name while the target's key is due: the key is that column's, now and after a
/// crash.
#[tokio::test]
async fn a_key_that_is_due_follows_its_column() {
    for crashes in [false, true] {
        let cluster = Cluster::start().unwrap();
        let context = context("warehouse");
        let config = config::PostgresSink {
            create_tables: true,
            mode: WriteMode::Mirror,
            ..sink_to(cluster.url("postgres"))
        };
        let mut sink = PostgresSink::new(&config);
        sink.open(&context).await.unwrap();
        let orders = orders();
        deliver(&mut sink, &unit(1, &orders, 0..300)).await;

        let mut columns = orders.columns.clone();
        columns[0].name = "number".to_owned();
        let renamed = Arc::new(Relation {
            index: Relation::next_index(),
            version: 2,
            columns,
            ..(*orders).clone()
        });
        let mut changes = crate::sink::TableChanges::default();
        changes.renamed.push(crate::sink::Renamed {
            before: vec!["id".to_owned()],
            now: "number".to_owned(),
            version: 2,
        });
        context.changes.note(&orders.full_name(), changes);
        deliver(&mut sink, &unit(2, &renamed, 300..400)).await;
        if crashes {
            drop(sink);
            sink = PostgresSink::new(&config);
            sink.open(&context).await.unwrap();
        } else {
            sink.idle().await.unwrap();
        }
        let select =
            "SELECT (SELECT attname FROM pg_index JOIN pg_attribute ON attrelid = indrelid AND attnum = indkey[0]
            WHERE indrelid = 'orders'::regclass AND indisprimary), (SELECT count(*) FROM rowmill.keys_due),
            count(DISTINCT number) FROM orders";
        assert_eq!(cluster.sql("postgres", select).unwrap(), "number|0|400");
        sink.close().await.unwrap();
    }
}
