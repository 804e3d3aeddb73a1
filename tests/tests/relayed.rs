//! A target that others read from: a third Postgres subscribes to it.

use rowmill_tests::{Cluster, ClusterOptions, Host, LONG, SHOP, Shop, wait_until};

fn pipeline(shop: &Shop, target: &str, relay: &str) -> String {
    format!(
        "name: shop
console: off
source: {{ postgres: {{ url: {}, tables: [public.orders, public.customers] }} }}
plugins:
  mask: {{ module: mask_pii.wasm, config: {{ columns: [email], salt: pepper }} }}
  paid: {{ module: paid_only.wasm }}
routes:
  - {{ tables: [public.orders], plugins: [paid, mask], sinks: [relay] }}
  - {{ tables: [public.customers], sinks: [relay] }}
sinks: {{ relay: {{ postgres: {{ url: {target}, relay: {{ {relay} }} }} }} }}
",
        shop.cluster.url("source"),
    )
}

fn digest(cluster: &Cluster, database: &str) -> anyhow::Result<String> {
    cluster.sql(
        database,
        "SELECT 'orders', count(*), md5(string_agg(o::text, '|' ORDER BY id)) FROM orders o
         UNION ALL SELECT 'customers', count(*), md5(string_agg(c::text, '|' ORDER BY id)) FROM customers c ORDER BY 1",
    )
}

/// A subscription to the relay ends with what the filter and the mask have left of the source.
#[test]
fn a_subscription_reads_the_relay() {
    let shop = Shop::new().unwrap();
    shop.plugin("mask_pii").unwrap();
    shop.plugin("paid_only").unwrap();
    shop.fill(200).unwrap();
    // An update brings a row into the set and leaves a large value alone.
    shop.source("ALTER TABLE orders REPLICA IDENTITY FULL").unwrap();
    let text = pipeline(&shop, &shop.cluster.url("target"), "publication: feed");
    Host::verb(shop.folder(), &text, &["run", "--once"], 0).unwrap();
    let made = "SELECT string_agg(tablename, ',' ORDER BY tablename) FROM pg_publication_tables WHERE pubname = 'feed'
        UNION ALL SELECT string_agg(DISTINCT relreplident::text, '') FROM pg_class WHERE relname IN ('orders', 'customers')";
    assert_eq!(shop.target(made).unwrap(), "customers,orders\nf");

    let third = Cluster::start().unwrap();
    third.script("postgres", SHOP).unwrap();
    let subscribe = format!(
        "CREATE SUBSCRIPTION third CONNECTION '{}' PUBLICATION feed",
        shop.cluster.url("target")
    );
    third.sql("postgres", &subscribe).unwrap();
    let changes = "
        INSERT INTO orders VALUES (1, 1, 'open', 'ada@example.com', 1, repeat('x', 5000));
        UPDATE orders SET status = 'paid' WHERE id = 1;
        UPDATE orders SET total = total + 1 WHERE id % 3 = 0;
        UPDATE orders SET status = 'open' WHERE id % 5 = 0;
        DELETE FROM orders WHERE id % 7 = 0;
        TRUNCATE customers;
        INSERT INTO customers (id) VALUES (1), (2);";
    shop.cluster.script("source", changes).unwrap();
    // Once more with everything made already.
    Host::verb(shop.folder(), &text, &["run", "--once"], 0).unwrap();
    wait_until("the third equals the relay", LONG, || {
        let (relay, third) = (digest(&shop.cluster, "target")?, digest(&third, "postgres")?);
        anyhow::ensure!(relay == third, "{relay}\n{third}");
        Ok(Some(()))
    })
    .unwrap();
    let paid = "SELECT count(*), sum(total), count(*) FILTER (WHERE email LIKE '%@example.com') FROM orders";
    let source = shop.source(&format!("{paid} WHERE status = 'paid'")).unwrap();
    let (counts, _) = source.rsplit_once('|').unwrap();
    assert_eq!(third.sql("postgres", paid).unwrap(), format!("{counts}|0"));
    assert_eq!(third.sql("postgres", "SELECT count(*) FROM customers").unwrap(), "2");
    third.sql("postgres", "DROP SUBSCRIPTION third").unwrap();
}

/// What is logged of a partitioned table are its partitions, and what inherits from a table is none of the relay's.
#[test]
fn partitions_tell_whole_old_rows_and_what_inherits_stays_out() {
    let shop = Shop::new().unwrap();
    shop.plugin("mask_pii").unwrap();
    shop.plugin("paid_only").unwrap();
    shop.fill(50).unwrap();
    let partitioned = "ALTER TABLE orders RENAME TO low;
        CREATE TABLE orders (LIKE low INCLUDING ALL) PARTITION BY RANGE (id);
        ALTER TABLE orders ATTACH PARTITION low FOR VALUES FROM (MINVALUE) TO (MAXVALUE);
        CREATE TABLE ours () INHERITS (customers);";
    shop.cluster.script("target", partitioned).unwrap();
    let text = pipeline(&shop, &shop.cluster.url("target"), "publication: feed");
    Host::verb(shop.folder(), &text, &["run", "--once"], 0).unwrap();
    let made = "SELECT string_agg(concat(relname, relreplident), ' ' ORDER BY relname)
            FROM pg_class WHERE relname IN ('orders', 'low', 'customers', 'ours')
        UNION ALL SELECT string_agg(tablename, ' ' ORDER BY tablename) FROM pg_publication_tables WHERE pubname = 'feed'";
    assert_eq!(
        shop.target(made).unwrap(),
        "customersf lowf ordersf oursd\ncustomers low"
    );
}

/// For readers that stop at a TRUNCATE, and servers that can't be read from.
#[test]
fn truncates_are_left_out_and_a_server_without_logical_wal_is_refused() {
    let shop = Shop::new().unwrap();
    shop.plugin("mask_pii").unwrap();
    shop.plugin("paid_only").unwrap();
    let relay = "publication: feed, replica_identity: default, truncate: false";
    shop.target("ALTER TABLE customers REPLICA IDENTITY DEFAULT").unwrap();
    let text = pipeline(&shop, &shop.cluster.url("target"), relay);
    shop.source("INSERT INTO customers (id) VALUES (1)").unwrap();
    Host::verb(shop.folder(), &text, &["run", "--once"], 0).unwrap();
    let made =
        "SELECT pubinsert, pubdelete, pubtruncate, (SELECT relreplident FROM pg_class WHERE relname = 'customers')
        FROM pg_publication WHERE pubname = 'feed'";
    assert_eq!(shop.target(made).unwrap(), "t|t|f|d");

    let options = ClusterOptions {
        settings: vec!["wal_level=replica".to_owned()],
        ..ClusterOptions::default()
    };
    let plain = Cluster::start_with(&options).unwrap();
    plain.script("postgres", SHOP).unwrap();
    let text = pipeline(&shop, &plain.url("postgres"), relay);
    let (_, refused) = Host::verb(shop.folder(), &text, &["check"], 6).unwrap();
    assert!(refused.contains("E0442") && refused.contains("wal_level"), "{refused}");
}
