//! What somebody adds to a table at the target while rows arrive there.

use super::*;

/// Three changes of one row, which are one where nobody can tell.
fn three_changes(sequence: u64, orders: &Arc<Relation>) -> Delivery {
    ["a", "b", "c"]
        .iter()
        .fold(
            Builder::new().transaction(0x100 * sequence, Part::Whole),
            |builder, name| builder.update(orders, &[text("1"), text(name), NULL], None),
        )
        .delivery(sequence)
}

/// As the driver does: what was refused for a while comes again in another session.
async fn deliver_after_one_refusal(sink: &mut PostgresSink, delivery: &Delivery) {
    match applied(sink, delivery).await {
        Err(SinkError::Transient(error)) => assert!(error.to_string().contains("has got a trigger"), "{error}"),
        other => panic!("{other:?}"),
    }
    sink.open(&context("warehouse")).await.unwrap();
    deliver(sink, delivery).await;
}

const COUNTED: &str = "CREATE TABLE seen (id bigint, name text);
    CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql SET search_path = public AS
        $$ BEGIN INSERT INTO seen VALUES (NEW.id, NEW.name); RETURN NULL; END $$;";
const TRIGGER: &str = "CREATE TRIGGER see AFTER UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION see();
    ALTER TABLE orders ENABLE ALWAYS TRIGGER see;";
const SEEN: &str = "SELECT string_agg(name, '' ORDER BY name) FROM seen";

#[tokio::test]
async fn a_trigger_that_comes_meanwhile_sees_every_change_from_then_on() {
    for table in [
        CREATE_ORDERS.to_owned(),
        // Of a partition alone.
        format!(
            "{CREATE_ORDERS} PARTITION BY RANGE (id); CREATE TABLE few PARTITION OF orders FOR VALUES FROM (0) TO (9)"
        ),
    ] {
        let trigger = match table.contains("few") {
            true => TRIGGER.replace("orders", "few"),
            false => TRIGGER.to_owned(),
        };
        let cluster = target(&format!("{table}; {COUNTED} INSERT INTO orders VALUES (1)"));
        let mut sink = open_mirror(&cluster, OnConflict::Error).await;
        let orders = orders();
        deliver(&mut sink, &three_changes(1, &orders)).await;
        cluster.script("postgres", &trigger).unwrap();
        deliver_after_one_refusal(&mut sink, &three_changes(2, &orders)).await;
        assert_eq!(cluster.sql("postgres", SEEN).unwrap(), "abc");
        deliver(&mut sink, &three_changes(3, &orders)).await;
        assert_eq!(cluster.sql("postgres", SEEN).unwrap(), "aabbcc");
        // One that goes is no matter.
        let table = if trigger.contains("few") { "few" } else { "orders" };
        cluster
            .sql("postgres", &format!("DROP TRIGGER see ON {table}"))
            .unwrap();
        deliver(&mut sink, &three_changes(4, &orders)).await;
        sink.close().await.unwrap();
    }
}

#[tokio::test]
async fn a_unique_index_that_comes_meanwhile_is_seen() {
    let cluster = target(&format!("{CREATE_ORDERS}; INSERT INTO orders VALUES (1)"));
    let mut sink = open_mirror(&cluster, OnConflict::Error).await;
    let orders = orders();
    deliver(&mut sink, &three_changes(1, &orders)).await;
    cluster.sql("postgres", "CREATE INDEX ON orders (total)").unwrap();
    deliver(&mut sink, &three_changes(2, &orders)).await;
    cluster.sql("postgres", "CREATE UNIQUE INDEX ON orders (name)").unwrap();
    deliver_after_one_refusal(&mut sink, &three_changes(3, &orders)).await;
    deliver(&mut sink, &three_changes(4, &orders)).await;
    assert_eq!(rows(&cluster), "1|c||d");
    sink.close().await.unwrap();
}

/// A table is partitioned online: what was the table is a partition of another that has its name.
#[tokio::test]
async fn a_table_that_takes_anothers_name_is_seen() {
    let cluster = target(&format!("{CREATE_ORDERS}; INSERT INTO orders VALUES (1), (2)"));
    let mut sink = open_mirror(&cluster, OnConflict::Error).await;
    let orders = orders();
    deliver(&mut sink, &three_changes(1, &orders)).await;
    cluster
        .script(
            "postgres",
            "BEGIN; ALTER TABLE orders RENAME TO few; \
             CREATE TABLE orders (LIKE few INCLUDING DEFAULTS) PARTITION BY RANGE (id); \
             ALTER TABLE orders ADD PRIMARY KEY (id); \
             ALTER TABLE orders ATTACH PARTITION few FOR VALUES FROM (0) TO (9); COMMIT",
        )
        .unwrap();
    let delivery = Builder::new()
        .transaction(0x200, Part::Whole)
        .update(&orders, &[text("1"), text("z"), NULL], None)
        .delete(&orders, &[text("2"), ABSENT, ABSENT])
        .delivery(2);
    deliver_after_one_refusal(&mut sink, &delivery).await;
    assert_eq!(rows(&cluster), "1|z||d");
    sink.close().await.unwrap();
}
