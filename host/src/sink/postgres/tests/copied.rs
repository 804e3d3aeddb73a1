//! Copied rows of tables that have a key at the source, and none at the target or all of their columns.

use super::seams::full;
use super::*;

const BAG: &str = "CREATE TABLE bag (id int, note text); INSERT INTO bag VALUES (9, 'there')";
const COLUMNS: [(&str, u32, &str, bool); 2] = [("id", 23, "integer", true), ("note", 25, "text", false)];

fn bag() -> Arc<Relation> {
    full(relation("bag", &COLUMNS))
}

fn found(cluster: &Cluster) -> String {
    let select = "SELECT string_agg(id || note, ' ' ORDER BY id, note) FROM bag";
    cluster.sql("postgres", select).unwrap()
}

/// A row of a unit, as it was read first or again.
fn copied(bag: &Arc<Relation>, op: Op, id: &str) -> Delivery {
    let row = [text(id), text("copied")];
    Builder::new().copy(0x10, 1).row(op, bag, Some(&row), None).delivery(1)
}

fn keyless(mut delivery: Delivery) -> Delivery {
    Arc::make_mut(&mut delivery.batch).keyless = true;
    delivery
}

/// They could come twice: by another unit, by the stream, or again behind a crash.
#[tokio::test]
async fn copied_rows_need_the_key_by_which_they_are_copied() {
    for mode in [WriteMode::Mirror, WriteMode::Upsert] {
        let cluster = target(BAG);
        let config = config::PostgresSink {
            mode,
            ..sink_to(cluster.url("postgres"))
        };
        let mut sink = PostgresSink::new(&config);
        sink.open(&context("warehouse")).await.unwrap();
        let bag = bag();
        // Changes are taken without one, before the copy and behind it.
        let streamed = Builder::new().transaction(0x8, Part::Whole);
        deliver(&mut sink, &streamed.insert(&bag, &[text("8"), text("new")]).delivery(1)).await;
        let emptying = Builder::new().copy(0x10, u32::MAX).truncate(&[&bag], false, false);
        let unfit = [
            emptying.delivery(1),
            copied(&bag, Op::Read, "1"),
            // As rows go out while the stream is behind them.
            copied(&bag, Op::Update, "1"),
        ];
        for unfit in unfit {
            let problem = problem(applied(&mut sink, &unfit).await);
            assert_eq!(problem.code, "E0404", "{problem:?}");
            assert_eq!(problem.help, "ALTER TABLE \"public\".\"bag\" ADD PRIMARY KEY (\"id\")");
            assert_eq!(found(&cluster), "8new 9there");
            sink = PostgresSink::new(&config);
            sink.open(&context("warehouse")).await.unwrap();
        }
        // Of one without a key at the source they come once, though a plugin may have added what is no key.
        deliver(&mut sink, &keyless(copied(&bag, Op::Read, "2"))).await;

        cluster.sql("postgres", "ALTER TABLE bag ADD PRIMARY KEY (id)").unwrap();
        sink = PostgresSink::new(&config);
        sink.open(&context("warehouse")).await.unwrap();
        for id in ["1", "1", "8"] {
            deliver(&mut sink, &copied(&bag, Op::Read, id)).await;
        }
        assert_eq!(found(&cluster), "1copied 2copied 8copied 9there");
    }
}

/// Nothing that a unit brings is joined with rows of a table without a key, by which it would be taken for one of them.
#[tokio::test]
async fn rows_without_a_key_are_no_cloak_for_others() {
    let cluster = target(&format!("{BAG}; CREATE TABLE heap (id int, note text)"));
    let mut sink = open(&cluster).await;
    let mut heap = relation("heap", &COLUMNS);
    Arc::make_mut(&mut heap).oid += 1;
    sink.write(&keyless(copied(&full(heap), Op::Read, "1"))).await.unwrap();
    let rows = copied(&bag(), Op::Read, "1");
    let rows = Delivery { sequence: 2, ..rows };
    assert_eq!(problem(applied(&mut sink, &rows).await).code, "E0404");
}

#[tokio::test]
async fn what_plugins_make_of_copied_rows_needs_a_key_too() {
    let cluster = target(BAG);
    let mut sink = open(&cluster).await;
    let made = COLUMNS.map(|(name, oid, kind, _)| (name, oid, kind, false));
    let made = relation("bag", &made);
    let problem = problem(applied(&mut sink, &copied(&made, Op::Read, "1")).await);
    assert_eq!(problem.code, "E0404");
    assert!(
        problem.help.contains("have the plugins declare a key of public.bag"),
        "{problem:?}"
    );
}

/// Under REPLICA IDENTITY FULL all columns are the key of a table that has none, and of one whose primary key they are.
#[tokio::test]
async fn tables_are_made_with_a_key_of_all_columns() {
    let cluster = Cluster::start().unwrap();
    let config = config::PostgresSink {
        create_tables: true,
        ..sink_to(cluster.url("postgres"))
    };
    let keys = "SELECT string_agg(pg_get_constraintdef(oid), ' ') FROM pg_constraint WHERE contype = 'p' \
        AND conrelid = ANY (ARRAY[to_regclass('keyed'), to_regclass('heap')])";
    let whole = |table: &str| {
        full(relation(
            table,
            &COLUMNS.map(|(name, oid, kind, _)| (name, oid, kind, true)),
        ))
    };
    let mut sink = PostgresSink::new(&config);
    sink.open(&context("warehouse")).await.unwrap();
    deliver(&mut sink, &keyless(copied(&whole("heap"), Op::Read, "1"))).await;
    for more in [true, false] {
        let keyed = whole("keyed");
        let mut unit = copied(&keyed, Op::Read, "1");
        unit.copying.extend(more.then_some(keyed.oid));
        deliver(&mut sink, &unit).await;
        deliver(&mut sink, &unit).await;
        sink.close().await.unwrap();
        sink.open(&context("warehouse")).await.unwrap();
        assert_eq!(cluster.sql("postgres", keys).unwrap(), "PRIMARY KEY (id, note)");
        cluster.sql("postgres", "DROP TABLE keyed").unwrap();
        sink = PostgresSink::new(&config);
        sink.open(&context("warehouse")).await.unwrap();
    }
}
