//! What meets at the target: relations and routes that lead into one table, values and keys that it sees otherwise than the
//! source, and others who make the same as the sink.

use super::relaxed::until;
use super::*;
use crate::batch::ReplicaIdentity;
use std::sync::atomic::Ordering;

pub(super) fn full(relation: Arc<Relation>) -> Arc<Relation> {
    Arc::new(Relation {
        replica_identity: ReplicaIdentity::Full,
        ..Relation::clone(&relation)
    })
}

/// Two routes with a column each of the same table: the later change has every column of its own, and not the other's.
#[tokio::test]
async fn a_change_is_not_left_out_for_one_of_other_columns() {
    let cluster = target(CREATE_ORDERS);
    cluster
        .sql("postgres", "INSERT INTO orders VALUES (1, 'old', 0), (2, 'old', 0)")
        .unwrap();
    let id = ("id", 20, "bigint", true);
    let names = relation("orders", &[id, ("name", 25, "text", false)]);
    let totals = relation("orders", &[id, ("total", 1700, "numeric", false)]);
    let mut sink = open(&cluster).await;
    let changes = Builder::new()
        .transaction(0x10, Part::Whole)
        .update(&names, &[text("1"), text("a")], None)
        .update(&names, &[text("1"), text("new")], None)
        .update(&totals, &[text("1"), text("7")], None)
        .update(&totals, &[text("1"), text("9")], None)
        .update(&names, &[text("2"), text("gone")], None)
        .delete(&totals, &[text("2"), ABSENT]);
    deliver(&mut sink, &changes.delivery(1)).await;
    assert_eq!(rows(&cluster), "1|new|9|d");
}

/// Each route has its part of one truncate, and neither table can be emptied without the other.
#[tokio::test]
async fn the_parts_of_one_truncate_are_one_statement() {
    let cluster = target(
        "CREATE TABLE parents (id int PRIMARY KEY); CREATE TABLE children (id int PRIMARY KEY, parent int REFERENCES parents); \
         INSERT INTO parents VALUES (1); INSERT INTO children VALUES (1, 1)",
    );
    let id = ("id", 23, "integer", true);
    let parents = relation("parents", &[id]);
    let children = relation("children", &[id, ("parent", 23, "integer", false)]);
    let mut sink = open_mirror(&cluster, OnConflict::Error).await;
    let mut delivery = Builder::new()
        .transaction(0x10, Part::Whole)
        .truncate(&[&parents], true, false)
        .truncate(&[&children], true, false)
        .delivery(1);
    delivery.rows[1].ordinal = delivery.rows[0].ordinal;
    deliver(&mut sink, &delivery).await;
    let left = "SELECT (SELECT count(*) FROM parents) + (SELECT count(*) FROM children)";
    assert_eq!(cluster.sql("postgres", left).unwrap(), "0");

    // Of two truncates each is for itself.
    cluster.sql("postgres", "INSERT INTO parents VALUES (2)").unwrap();
    let apart = Builder::new()
        .transaction(0x20, Part::Whole)
        .truncate(&[&children], false, false)
        .insert(&children, &[text("2"), text("2")])
        .truncate(&[&children, &parents], false, false)
        .insert(&parents, &[text("3")]);
    deliver(&mut sink, &apart.delivery(2)).await;
    assert_eq!(cluster.sql("postgres", left).unwrap(), "1");
}

/// What inherits from a table has rows of its own, with keys of its own: the source publishes them under its own name.
#[tokio::test]
async fn rows_of_tables_that_inherit_are_never_touched() {
    let cluster = target(
        "CREATE TABLE parent (id int PRIMARY KEY, note text); CREATE TABLE child (PRIMARY KEY (id)) INHERITS (parent); \
         CREATE TABLE bag (id int, note text); CREATE TABLE pouch () INHERITS (bag); \
         INSERT INTO child SELECT i, 'own' FROM generate_series(1, 9) i; INSERT INTO pouch SELECT * FROM child; \
         INSERT INTO parent SELECT i, 'old' FROM generate_series(1, 5) i; INSERT INTO bag SELECT * FROM ONLY parent",
    );
    let columns = [("id", 23, "integer", true), ("note", 25, "text", false)];
    let parent = relation("parent", &columns);
    let bag = full(relation("bag", &columns));
    let mut sink = open_mirror(&cluster, OnConflict::Error).await;
    let old = |id| [text(id), text("old")];
    let changes = Builder::new()
        .transaction(0x10, Part::Whole)
        .update(&parent, &[text("1"), text("new")], None)
        .delete(&parent, &[text("2"), ABSENT])
        .update(&parent, &[text("7"), text("moved")], Some(&[text("3"), ABSENT]))
        .row(
            Op::Upsert,
            &parent,
            Some(&[text("8"), text("moved")]),
            Some(&[text("4"), ABSENT]),
        )
        .update(&bag, &[text("1"), text("new")], Some(&old("1")))
        .delete(&bag, &old("2"));
    deliver(&mut sink, &changes.delivery(1)).await;
    let left = |table: &str| {
        let sql = format!("SELECT string_agg(id || note, ' ' ORDER BY id) FROM ONLY {table}");
        cluster.sql("postgres", &sql).unwrap()
    };
    let owned = "1own 2own 3own 4own 5own 6own 7own 8own 9own";
    assert_eq!(left("parent"), "1new 5old 7moved 8moved");
    assert_eq!(left("bag"), "1new 3old 4old 5old");
    assert_eq!([left("child"), left("pouch")], [owned; 2]);

    let emptied = Builder::new()
        .transaction(0x20, Part::Whole)
        .truncate(&[&parent, &bag], false, false);
    deliver(&mut sink, &emptied.delivery(2)).await;
    assert_eq!([left("parent"), left("bag")], [""; 2]);
    assert_eq!([left("child"), left("pouch")], [owned; 2]);
}

/// Keys that differ at the source may be one at the target where its type is narrower: they aren't divided by their texts.
#[tokio::test]
async fn keys_of_a_narrower_type_are_not_told_by_their_texts() {
    let cluster = target(
        "CREATE DOMAIN milli AS timestamp(3); CREATE DOMAIN short AS milli; \
         CREATE TABLE same (at timestamp PRIMARY KEY); CREATE TABLE rounded (at timestamp(3) PRIMARY KEY); \
         CREATE TABLE domains (at short PRIMARY KEY)",
    );
    let mut sink = open(&cluster).await;
    let columns = [("at", 1114, "timestamp without time zone", true)];
    let with = |table: &str, typmod: i32| {
        let mut relation = relation(table, &columns);
        Arc::make_mut(&mut relation).columns[0].typmod = typmod;
        relation
    };
    let tables = [
        (with("same", -1), true),
        (with("same", 3), true),
        (with("rounded", 3), true),
        (with("rounded", -1), false),
        (with("domains", 2), true),
        (with("domains", -1), false),
    ];
    let none = Builder::new().transaction(0x10, Part::Whole);
    let row = [text("2026-01-01 00:00:00.123")];
    let changes = tables
        .iter()
        .fold(none, |changes, (table, _)| changes.delete(table, &row));
    deliver(&mut sink, &changes.delivery(1)).await;
    let applier = sink.session.as_ref().unwrap().applier();
    for (table, divides) in &tables {
        let typmod = table.columns[0].typmod;
        assert_eq!(
            applier.targets[&table.index].divides, *divides,
            "{} of {typmod}",
            table.table
        );
    }
}

/// Under REPLICA IDENTITY FULL all columns identify a row, NULLs among them, which no unique index finds.
#[tokio::test]
async fn rows_with_nulls_are_found_though_all_columns_are_unique() {
    let cluster =
        target("CREATE TABLE tags (item int, tag text, UNIQUE (item, tag)); INSERT INTO tags VALUES (1), (2), (3)");
    let tags = full(relation(
        "tags",
        &[("item", 23, "integer", true), ("tag", 25, "text", true)],
    ));
    let context = context("warehouse");
    let mut sink = open_mirror_as(&cluster, OnConflict::Error, &context).await;
    let changes = Builder::new()
        .transaction(0x10, Part::Whole)
        .delete(&tags, &[text("1"), NULL])
        .update(&tags, &[text("2"), text("x")], Some(&[text("2"), NULL]));
    deliver(&mut sink, &changes.delivery(1)).await;
    let found = cluster.sql("postgres", "SELECT * FROM tags ORDER BY item").unwrap();
    assert_eq!(found, "2|x\n3|");
    assert_eq!(context.passed_over.missing.load(Ordering::Relaxed), 0);
}

/// A row that comes into a filtered set by a change of its key was never there under the old one.
#[tokio::test]
async fn a_row_that_enters_with_another_key_arrives_or_is_told() {
    let cluster = target(CREATE_ORDERS);
    let orders = orders();
    let enters = |sequence: u64, id: &str, total| {
        let old = [text("1"), ABSENT, ABSENT];
        let new = [text(id), text("paid"), total];
        let builder = Builder::new().transaction(sequence * 0x10, Part::Whole);
        builder
            .row(Op::Upsert, &orders, Some(&new), Some(&old))
            .delivery(sequence)
    };
    let mut mirror = open_mirror_as(&cluster, OnConflict::Error, &context("mirror")).await;
    deliver(&mut mirror, &enters(1, "101", text("5"))).await;
    let mut upsert = open(&cluster).await;
    deliver(&mut upsert, &enters(1, "102", text("6"))).await;
    assert_eq!(rows(&cluster), "101|paid|5|d\n102|paid|6|d");
    for sink in [&mut mirror, &mut upsert] {
        let problem = problem(applied(sink, &enters(2, "103", UNCHANGED)).await);
        assert_eq!(problem.code, "E0413", "{problem:?}");
    }
}

/// An identity column that is GENERATED ALWAYS takes the source's values by INSERT alone.
#[tokio::test]
async fn an_identity_that_is_always_generated_stays_what_the_source_has() {
    let cluster = target("CREATE TABLE items (id int PRIMARY KEY, seq bigint GENERATED ALWAYS AS IDENTITY, note text)");
    let items = relation(
        "items",
        &[
            ("id", 23, "integer", true),
            ("seq", 20, "bigint", false),
            ("note", 25, "text", false),
        ],
    );
    let found = || cluster.sql("postgres", "SELECT * FROM items ORDER BY id").unwrap();
    let context = context("mirror");
    let mut mirror = open_mirror_as(&cluster, OnConflict::Error, &context).await;
    let changes = Builder::new()
        .transaction(0x10, Part::Whole)
        .insert(&items, &[text("1"), text("50"), text("a")])
        .insert(&items, &[text("2"), text("60"), text("b")])
        .update(&items, &[text("1"), text("50"), text("c")], None)
        .update(
            &items,
            &[text("20"), text("60"), text("d")],
            Some(&[text("2"), ABSENT, ABSENT]),
        )
        .update(&items, &[text("7"), text("70"), text("e")], None);
    deliver(&mut mirror, &changes.delivery(1)).await;
    assert_eq!(found(), "1|50|c\n20|60|d");
    assert_eq!(context.passed_over.missing.load(Ordering::Relaxed), 1);

    // SET seq = DEFAULT at the source.
    let regiven =
        Builder::new()
            .transaction(0x20, Part::Whole)
            .update(&items, &[text("1"), text("51"), text("f")], None);
    let problem = problem(applied(&mut mirror, &regiven.delivery(2)).await);
    assert_eq!(problem.code, "E0410");
    assert!(problem.help.contains("SET GENERATED BY DEFAULT"), "{}", problem.help);
    drop(mirror);

    let mut upsert = open(&cluster).await;
    let changes = Builder::new()
        .transaction(0x20, Part::Whole)
        .update(&items, &[text("1"), text("51"), text("f")], None)
        .row(Op::Upsert, &items, Some(&[text("20"), text("60"), text("g")]), None);
    deliver(&mut upsert, &changes.delivery(1)).await;
    assert_eq!(found(), "1|51|f\n20|60|g");
}

/// `CREATE .. IF NOT EXISTS` doesn't see what another session makes and hasn't committed.
#[tokio::test(flavor = "multi_thread")]
async fn two_who_make_the_positions_at_once_are_no_reason_to_stop() {
    let cluster = Arc::new(target(CREATE_ORDERS));
    let other = cluster.hold("postgres", "CREATE SCHEMA rowmill").unwrap();
    let url = cluster.url("postgres");
    let opening = tokio::spawn(async move {
        let mut sink = PostgresSink::new(&sink_to(url));
        let opened = sink.open(&context("warehouse")).await;
        (sink, opened)
    });
    let waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND pid IN \
        (SELECT pid FROM pg_stat_activity WHERE application_name = 'rowmill shop warehouse')";
    until(&cluster, waiting, 1).await;
    other.commit().unwrap();
    let (mut sink, opened) = opening.await.unwrap();
    assert!(matches!(opened, Err(SinkError::Transient(_))), "{opened:?}");
    sink.open(&context("warehouse")).await.unwrap();
}

/// What a role or a database has as its default holds for people.
#[tokio::test]
async fn a_default_of_reading_alone_is_not_the_sinks() {
    let cluster = target(CREATE_ORDERS);
    cluster
        .sql(
            "postgres",
            "ALTER DATABASE postgres SET default_transaction_read_only = on",
        )
        .unwrap();
    let mut sink = open(&cluster).await;
    let row = [text("1"), text("a"), text("1")];
    let delivery = Builder::new().transaction(0x10, Part::Whole).insert(&orders(), &row);
    deliver(&mut sink, &delivery.delivery(1)).await;
    assert_eq!(rows(&cluster), "1|a|1|d");
}

/// All that is missing is named at once.
#[tokio::test]
async fn every_missing_column_is_named() {
    let cluster = target("CREATE TABLE orders (id bigint PRIMARY KEY)");
    let mut sink = open(&cluster).await;
    let row = [text("1"), text("a"), text("1")];
    let delivery = Builder::new().transaction(0x10, Part::Whole).insert(&orders(), &row);
    let problem = problem(applied(&mut sink, &delivery.delivery(1)).await);
    assert_eq!(
        problem.headline,
        "columns name, total of public.orders are missing at sink warehouse"
    );
    let add = r#"ALTER TABLE "public"."orders" ADD COLUMN "name" text, ADD COLUMN "total" numeric"#;
    assert_eq!(problem.help, add);
}
