//! A target that keeps every change as a row of its own.

use rowmill_tests::{Host, Random, Shop, Writers};
use std::time::Duration;

const SOURCE: &str = "
    CREATE TABLE orders (id bigint PRIMARY KEY, status text NOT NULL, big text);
    ALTER TABLE orders ALTER big SET STORAGE EXTERNAL;
    CREATE TABLE \"Full \"\"one\" (id int, \"a \"\"b\" text, big text);
    ALTER TABLE \"Full \"\"one\" REPLICA IDENTITY FULL;
    ALTER TABLE \"Full \"\"one\" ALTER big SET STORAGE EXTERNAL;
";

const ABOUT: &str = "ADD COLUMN _rowmill_id text, ADD COLUMN _rowmill_op text, ADD COLUMN _rowmill_position pg_lsn, \
    ADD COLUMN _rowmill_ordinal bigint, ADD COLUMN _rowmill_committed_at timestamptz, \
    ADD COLUMN _rowmill_unchanged text[]";

fn pipeline(shop: &Shop, tables: &str) -> String {
    format!(
        "name: shop
console: off
source: {{ postgres: {{ url: {}, tables: [{tables}] }} }}
routes: [{{ tables: [\"public.*\"], sinks: [history] }}]
sinks: {{ history: {{ postgres: {{ url: {}, mode: append }} }} }}
",
        shop.cluster.url("source"),
        shop.cluster.url("target")
    )
}

#[test]
fn every_change_is_a_row() {
    let shop = Shop::with("SELECT 1").unwrap();
    shop.cluster.script("source", SOURCE).unwrap();
    let target = "CREATE TABLE orders (id bigint, status text, big text);
        CREATE TABLE \"Full \"\"one\" (id int, \"a \"\"b\" text, big text)";
    shop.cluster.script("target", target).unwrap();
    shop.source("INSERT INTO orders VALUES (1, 'old', repeat('x', 5000))")
        .unwrap();
    let pipeline = pipeline(&shop, "public.*");

    // The columns that tell of changes are missing, and the error has the statement that makes them.
    let (_, refused) = Host::verb(shop.folder(), &pipeline, &["run", "--once"], 6).unwrap();
    assert!(
        refused.contains("E0403") && refused.contains("_rowmill_op"),
        "{refused}"
    );
    for table in ["orders", "\"Full \"\"one\""] {
        shop.target(&format!("ALTER TABLE {table} {ABOUT}")).unwrap();
    }
    Host::verb(shop.folder(), &pipeline, &["run", "--once"], 0).unwrap();
    let changes = "
        BEGIN; INSERT INTO orders VALUES (2, 'new', NULL); UPDATE orders SET status = 'paid' WHERE id = 1;
        UPDATE orders SET id = 3 WHERE id = 1; DELETE FROM orders WHERE id = 2; COMMIT;
        INSERT INTO \"Full \"\"one\" VALUES (1, 'a', repeat('y', 5000));
        UPDATE \"Full \"\"one\" SET \"a \"\"b\" = NULL;
        DELETE FROM \"Full \"\"one\";
        TRUNCATE orders, \"Full \"\"one\";";
    shop.cluster.script("source", changes).unwrap();
    Host::verb(shop.folder(), &pipeline, &["run", "--once"], 0).unwrap();

    let told = |table: &str, note: &str| {
        let select = format!(
            "SELECT _rowmill_op, id, {note}, length(big), _rowmill_unchanged FROM {table}
             ORDER BY _rowmill_position, _rowmill_ordinal"
        );
        shop.target(&select).unwrap()
    };
    assert_eq!(
        told("orders", "status"),
        "read|1|old|5000|\ninsert|2|new||\nupdate|1|paid||{big}\nupdate|3|paid||{big}\ndelete|2|||\ntruncate||||"
    );
    // With the whole old image nothing is unknown.
    assert_eq!(
        told("\"Full \"\"one\"", "\"a \"\"b\""),
        "insert|1|a|5000|\nupdate|1||5000|\ndelete|1||5000|\ntruncate||||"
    );
    let facts = "SELECT count(DISTINCT _rowmill_id), bool_and(_rowmill_committed_at > now() - interval '10 minutes'
        AND _rowmill_committed_at <= now()) FROM orders";
    assert_eq!(shop.target(facts).unwrap(), "6|t");
}

/// Each once, whatever happens.
#[test]
fn killed_under_load_no_change_is_told_twice_or_not_at_all() {
    let shop = Shop::new().unwrap();
    shop.source("ALTER TABLE orders REPLICA IDENTITY FULL").unwrap();
    let told = "CREATE TABLE told (op text, what text);
        CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            INSERT INTO told VALUES (lower(TG_OP), COALESCE(NEW, OLD)::text); RETURN NULL; END $$;
        CREATE TRIGGER tell AFTER INSERT OR UPDATE OR DELETE ON orders FOR EACH ROW EXECUTE FUNCTION tell()";
    shop.cluster.script("source", told).unwrap();
    let history = "DROP TABLE orders, customers;
        CREATE TABLE orders (id bigint, customer bigint, status text, email text, total numeric, big text)";
    shop.cluster.script("target", history).unwrap();
    shop.target(&format!("ALTER TABLE orders {ABOUT}")).unwrap();
    let pipeline = pipeline(&shop, "public.orders");
    Host::verb(shop.folder(), &pipeline, &["run", "--once"], 0).unwrap();
    let writers = Writers::start(&shop.cluster, "source", 2, 2).unwrap();
    let mut random = Random::new(std::process::id().into());
    for _ in 0..10 {
        let host = Host::run(shop.folder(), &pipeline).unwrap();
        std::thread::sleep(Duration::from_millis(random.below(900)));
        host.kill().unwrap();
    }
    writers.stop().unwrap();
    Host::verb(shop.folder(), &pipeline, &["run", "--once"], 0).unwrap();
    let sides = [
        ("source", "SELECT op, what FROM told"),
        (
            "target",
            "SELECT _rowmill_op, ROW(id, customer, status, email, total, big)::text FROM orders",
        ),
    ];
    let [source, target] = sides.map(|(database, select)| {
        let digest = format!(
            "SELECT op, count(*), md5(string_agg(what, '|' ORDER BY what)) FROM ({select}) t (op, what) GROUP BY 1 ORDER BY 1"
        );
        shop.cluster.sql(database, &digest).unwrap()
    });
    assert_eq!(source, target);
}
