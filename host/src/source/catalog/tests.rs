use super::*;
use crate::source::testing::{connect, patterns};
use rowmill_tests::Cluster;

const SCHEMA: &str = r#"
CREATE SCHEMA shop; CREATE SCHEMA "Odd ""one";
CREATE TABLE shop.orders (id int PRIMARY KEY, gone int, status varchar(20) NOT NULL, total numeric(10,2),
    twice numeric GENERATED ALWAYS AS (total * 2) STORED);
ALTER TABLE shop.orders DROP COLUMN gone;
INSERT INTO shop.orders SELECT i, 'paid', i FROM generate_series(1, 1000) i;
CREATE TABLE shop.order_items (order_id int, line int, sku text, PRIMARY KEY (order_id, line) INCLUDE (sku));
CREATE TABLE shop.orders100 (a int NOT NULL, b int);
CREATE UNIQUE INDEX ON shop.orders100 (a) INCLUDE (b);
ALTER TABLE shop.orders100 REPLICA IDENTITY USING INDEX orders100_a_b_idx;
CREATE TABLE shop.full_one (a int, b int); ALTER TABLE shop.full_one REPLICA IDENTITY FULL;
CREATE TABLE shop.nothing (id serial PRIMARY KEY); ALTER TABLE shop.nothing REPLICA IDENTITY NOTHING;
CREATE TABLE shop.deferred (id int PRIMARY KEY DEFERRABLE, u int NOT NULL UNIQUE);
CREATE UNLOGGED TABLE shop.cache (id int PRIMARY KEY);
CREATE VIEW shop.recent AS SELECT 1 AS id;
CREATE TABLE shop.events (id int, at date, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
CREATE TABLE shop.events_1 PARTITION OF shop.events FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
CREATE TABLE shop.events_2 PARTITION OF shop.events FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
ALTER TABLE shop.events_2 REPLICA IDENTITY NOTHING;
CREATE TABLE "Odd ""one"."Quoted_"" . Schema" ("Id" int PRIMARY KEY);
CREATE TABLE "Odd ""one"."a%b" (id int PRIMARY KEY);
CREATE TABLE "Odd ""one"."a_b" (id int PRIMARY KEY);
ANALYZE shop.orders;
CREATE PUBLICATION roots FOR TABLE shop.events, shop.orders WITH (publish_via_partition_root = true);
CREATE PUBLICATION leaves FOR TABLE shop.events;
CREATE ROLE reader LOGIN; GRANT USAGE ON SCHEMA shop TO reader; GRANT SELECT ON shop.orders TO reader;
"#;

fn names(catalog: &Catalog) -> Vec<String> {
    catalog.tables.iter().map(Table::full_name).collect()
}

fn keys(table: &Table) -> Vec<&str> {
    table
        .columns
        .iter()
        .filter(|column| column.identity)
        .map(|column| column.name.as_str())
        .collect()
}

#[tokio::test]
async fn the_catalog_says_what_was_selected() {
    let cluster = Cluster::start().unwrap();
    cluster.sql("postgres", SCHEMA).unwrap();
    let client = connect(&cluster, "postgres", "postgres").await;

    let all = read(&client, &patterns(&["shop.*"])).await.unwrap();
    selected_by_a_wildcard(&all);
    columns_and_keys(&all);
    identities(&all);

    let odd = read(
        &client,
        &patterns(&[
            "Odd \"one.Quoted_\" . Schema",
            "Odd \"one.a%b",
            "*.orders?00",
            "shop.nope",
            "no_*.x",
            "*.pg_class",
        ]),
    )
    .await
    .unwrap();
    assert_eq!(
        names(&odd),
        ["Odd \"one.Quoted_\" . Schema", "Odd \"one.a%b", "shop.orders100"]
    );
    assert_eq!(odd.tables[0].sql_name, r#""Odd ""one"."Quoted_"" . Schema""#);
    assert_eq!(odd.missing, patterns(&["shop.nope"]));
    assert_eq!(odd.unmatched, patterns(&["no_*.x", "*.pg_class"]));

    let leaf = read(&client, &patterns(&["shop.events_1", "shop.cache"]))
        .await
        .unwrap();
    assert_eq!(names(&leaf), ["shop.events_1"]);
    assert!(leaf.tables[0].is_partition && !leaf.tables[0].partitioned);
    assert!(leaf.unsupported[0].by_name && leaf.unsupported[0].kind == "unlogged table");

    let roots = read_publication(&client, "roots").await.unwrap();
    assert_eq!(names(&roots), ["shop.events", "shop.orders"]);
    let leaves = read_selected(&client, &[], Some("leaves")).await.unwrap();
    assert_eq!(names(&leaves), ["shop.events_1", "shop.events_2"]);
    assert!(read_publication(&client, "nope").await.unwrap().is_empty());

    let reader = connect(&cluster, "reader", "postgres").await;
    let seen = read(&reader, &patterns(&["shop.orders", "shop.full_one"]))
        .await
        .unwrap();
    assert!(seen.table("shop", "orders").unwrap().select_granted);
    let denied = seen.table("shop", "full_one").unwrap();
    assert!(!denied.select_granted && denied.usage_granted && !denied.owned);
}

fn selected_by_a_wildcard(all: &Catalog) {
    let expected = [
        "deferred",
        "events",
        "full_one",
        "nothing",
        "order_items",
        "orders",
        "orders100",
    ];
    assert_eq!(names(all), expected.map(|name| format!("shop.{name}")));
    let left_out: Vec<_> = all
        .unsupported
        .iter()
        .map(|entry| (entry.name.as_str(), entry.kind, entry.by_name))
        .collect();
    assert_eq!(
        left_out,
        [("cache", "unlogged table", false), ("recent", "view", false)]
    );
    assert!(all.missing.is_empty() && all.unmatched.is_empty());
}

fn columns_and_keys(all: &Catalog) {
    let orders = all.table("shop", "orders").unwrap();
    let columns: Vec<_> = orders
        .columns
        .iter()
        .map(|column| (column.name.as_str(), column.number))
        .collect();
    assert_eq!(columns, [("id", 1), ("status", 3), ("total", 4), ("twice", 5)]);
    assert_eq!(orders.columns[1].type_name, "character varying");
    assert_eq!((orders.columns[1].typmod, orders.columns[1].type_oid), (24, 1043));
    assert!(orders.columns[3].generated && !orders.columns[2].generated);
    assert!(orders.columns[2].nullable && !orders.columns[1].nullable);
    assert_eq!(
        orders
            .primary_key()
            .map(|column| column.name.as_str())
            .collect::<Vec<_>>(),
        ["id"]
    );
    assert_eq!(orders.rows_estimated, Some(1000));
    assert!(orders.bytes_estimated >= 8192 && orders.toastable && !orders.has_sequence);
    let items = all.table("shop", "order_items").unwrap();
    assert_eq!(
        keys(items),
        ["order_id", "line"],
        "an included column is no part of the key"
    );
    assert_eq!(items.rows_estimated, None, "never analysed");
    assert!(all.table("shop", "nothing").unwrap().has_sequence);
}

fn identities(all: &Catalog) {
    let of = |name| all.table("shop", name).unwrap();
    assert_eq!(keys(of("orders100")), ["a"]);
    assert!(of("orders100").identity_usable && of("orders100").replica_identity == ReplicaIdentity::Index);
    assert_eq!(keys(of("full_one")), ["a", "b"]);
    assert!(!of("nothing").identity_usable && of("nothing").default_identity);
    assert!(keys(of("nothing")).is_empty() && of("nothing").columns[0].primary_key);
    assert!(!of("deferred").identity_usable && !of("deferred").default_identity);
    assert_eq!(of("deferred").identity_candidate.as_deref(), Some("deferred_u_key"));
    let events = of("events");
    assert!(events.partitioned && events.identity_usable);
    let leaf = Leaf {
        sql_name: "shop.events_2".into(),
        default_identity: true,
    };
    assert_eq!(events.leaves_without_identity, [leaf]);
}
