//! A filter means membership: the target holds exactly the rows that match, whatever happens to them.

use rowmill_tests::{Host, LONG, Shop, Writers, wait_until};

const TABLES: &str = "
    CREATE TABLE plain (id int PRIMARY KEY, status text);
    CREATE TABLE whole (id int PRIMARY KEY, status text);
    ALTER TABLE whole REPLICA IDENTITY FULL;
";
const PLUGINS: &str = "plugins:
  paid_only: { module: paid_only.wasm }
";

/// One change at a time, each seen at the target: with the key alone in old images, and with whole ones.
#[test]
fn a_filtered_target_loses_a_row_that_leaves_the_set() {
    let shop = Shop::with(TABLES).unwrap();
    shop.plugin("paid_only").unwrap();
    for table in ["plain", "whole"] {
        let rows = format!("INSERT INTO {table} VALUES (1, 'paid'), (2, 'open'), (3, 'paid'), (4, NULL)");
        shop.source(&rows).unwrap();
    }
    let routes = "routes:
  - { tables: [public.plain, public.whole], plugins: [paid_only], sinks: [warehouse] }";
    let pipeline = shop.pipeline_of("public.plain, public.whole", &format!("{PLUGINS}{routes}"));
    let mut host = Host::run(shop.folder(), &pipeline).unwrap();
    for table in ["plain", "whole"] {
        let steps = [
            ("", "1,3"),
            ("INSERT INTO {table} VALUES (5, 'paid'), (6, 'open')", "1,3,5"),
            ("UPDATE {table} SET status = 'open' WHERE id = 5", "1,3"),
            ("UPDATE {table} SET status = 'paid' WHERE id = 5", "1,3,5"),
            ("UPDATE {table} SET status = 'paid' WHERE id = 2", "1,2,3,5"),
            ("UPDATE {table} SET id = 7 WHERE id = 5", "1,2,3,7"),
            ("UPDATE {table} SET id = 8, status = 'open' WHERE id = 7", "1,2,3"),
            ("UPDATE {table} SET id = 9, status = 'paid' WHERE id = 8", "1,2,3,9"),
            ("UPDATE {table} SET id = 10 WHERE id = 4", "1,2,3,9"),
            ("DELETE FROM {table} WHERE id IN (1, 10)", "2,3,9"),
            (
                "BEGIN; UPDATE {table} SET status = NULL; UPDATE {table} SET status = 'paid' WHERE id = 2; COMMIT",
                "2",
            ),
            ("TRUNCATE {table}", ""),
            ("INSERT INTO {table} VALUES (1, 'paid')", "1"),
        ];
        for (change, expected) in steps {
            shop.source(&change.replace("{table}", table)).unwrap();
            let found = format!("SELECT string_agg(id::text, ',' ORDER BY id) FROM {table}");
            shop.wait_target(&mut host, &found, expected)
                .map_err(|error| error.context(format!("{table}: {change}")))
                .unwrap();
        }
    }
    host.terminate().unwrap();
}

/// Rows enter and leave the set while they are copied, and after.
fn copied_while_rows_come_and_go(identity: &str) {
    let shop = Shop::new().unwrap();
    shop.plugin("paid_only").unwrap();
    for database in ["source", "target"] {
        let identity = format!("ALTER TABLE orders REPLICA IDENTITY {identity}");
        shop.cluster.sql(database, &identity).unwrap();
    }
    shop.fill(5_000).unwrap();
    let many = "INSERT INTO orders SELECT n, n, (ARRAY['open', 'paid'])[1 + n % 2], 'e', 1
                FROM generate_series(20000000, 20010000) n";
    shop.source(many).unwrap();
    let routes = "routes:
  - { tables: [public.orders], columns: [id, customer, status, email, total], plugins: [paid_only], sinks: [warehouse] }";
    let pipeline = shop.pipeline_of("public.orders", &format!("{PLUGINS}{routes}"));
    let writers = Writers::start(&shop.cluster, "source", 3, 1).unwrap();
    let mut host = Host::run(shop.folder(), &pipeline).unwrap();
    for turn in 0..20 {
        let status = if turn % 2 == 0 { "paid" } else { "open" };
        let before = writers.transactions();
        let change = format!("UPDATE orders SET status = '{status}' WHERE id % 20 = {turn} AND id >= 20000000");
        shop.source(&change).unwrap();
        wait_until("more writes", LONG, || {
            Ok((writers.transactions() > before + 20).then_some(()))
        })
        .unwrap();
    }
    writers.stop().unwrap();
    let digest =
        "SELECT count(*), md5(string_agg((id, customer, status, email, total)::text, '|' ORDER BY id)) FROM orders";
    let expected = shop.source(&format!("{digest} WHERE status = 'paid'")).unwrap();
    shop.wait_target(&mut host, digest, &expected).unwrap();
    host.terminate().unwrap();
}

#[test]
fn copied_while_rows_come_and_go_by_key() {
    copied_while_rows_come_and_go("DEFAULT");
}

#[test]
fn copied_while_rows_come_and_go_by_whole_images() {
    copied_while_rows_come_and_go("FULL");
}

/// A row enters the set by an update that leaves its TOASTed column alone. With whole old images it arrives with that
/// value; without them nothing would ever bring it, so the pipeline stops and says so: never a row less in silence.
#[test]
fn a_row_that_enters_the_set_arrives_whole_or_stops_the_pipeline() {
    let tables = "CREATE TABLE plain (id int PRIMARY KEY, status text, big text);
        ALTER TABLE plain ALTER big SET STORAGE EXTERNAL;
        CREATE TABLE whole (LIKE plain INCLUDING ALL);
        ALTER TABLE whole REPLICA IDENTITY FULL;";
    let shop = Shop::with(tables).unwrap();
    shop.plugin("paid_only").unwrap();
    let routes = "routes:
  - { tables: [public.plain, public.whole], plugins: [paid_only], sinks: [warehouse] }";
    let pipeline = shop.pipeline_of("public.plain, public.whole", &format!("{PLUGINS}{routes}"));
    for table in ["plain", "whole"] {
        shop.source(&format!("INSERT INTO {table} VALUES (9, 'paid', '')"))
            .unwrap();
    }
    let mut host = Host::run(shop.folder(), &pipeline).unwrap();
    let copied = "SELECT (SELECT count(*) FROM plain) + (SELECT count(*) FROM whole)";
    shop.wait_target(&mut host, copied, "2").unwrap();
    // The copies are over once nothing of them is under way.
    host.terminate().unwrap();
    Host::verb(shop.folder(), &pipeline, &["run", "--once"], 0).unwrap();

    let mut host = Host::run(shop.folder(), &pipeline).unwrap();
    let enter = |table: &str| {
        shop.source(&format!("INSERT INTO {table} VALUES (1, 'open', repeat('x', 5000))"))
            .unwrap();
        shop.source(&format!("UPDATE {table} SET status = 'paid' WHERE id = 1"))
            .unwrap();
    };
    enter("whole");
    shop.wait_target(&mut host, "SELECT length(big) FROM whole WHERE id = 1", "5000")
        .unwrap();
    enter("plain");
    let status = host.wait(LONG).unwrap();
    assert_eq!(status.code(), Some(6), "{}", host.log());
    assert!(host.log().contains("E0413"), "{}", host.log());
}

/// The same while its table is copied, behind the unit that had the row: the row is read again, whole. Both in the order of
/// the heap and, where there are several heaps, in that of the key.
#[test]
fn a_row_that_enters_the_set_behind_its_unit_is_read_again() {
    let tables = "CREATE TABLE one (id int PRIMARY KEY, status text, big text);
        ALTER TABLE one ALTER big SET STORAGE EXTERNAL;
        CREATE TABLE several (id int PRIMARY KEY, status text, big text) PARTITION BY RANGE (id);
        CREATE TABLE few PARTITION OF several FOR VALUES FROM (0) TO (100);
        CREATE TABLE many PARTITION OF several FOR VALUES FROM (100) TO (1000);
        ALTER TABLE few ALTER big SET STORAGE EXTERNAL;
        ALTER TABLE many ALTER big SET STORAGE EXTERNAL;";
    for table in ["one", "several"] {
        let shop = Shop::with(tables).unwrap();
        shop.plugin("paid_only").unwrap();
        let rows = format!(
            "INSERT INTO {table} SELECT n, (ARRAY['open', 'paid'])[1 + n % 2], repeat('x', 3000)
             FROM generate_series(1, 400) n; ANALYZE {table}"
        );
        shop.cluster.script("source", &rows).unwrap();
        let routes = format!("routes:\n  - {{ tables: [public.{table}], plugins: [paid_only], sinks: [warehouse] }}");
        let pipeline = shop
            .pipeline_of(&format!("public.{table}"), &format!("{PLUGINS}{routes}"))
            .replace("unit_rows: 2000", "unit_rows: 100, rows_per_second: 50");
        let mut host = Host::run(shop.folder(), &pipeline).unwrap();
        let found = format!("SELECT count(*) FROM {table} WHERE id = 1");
        shop.wait_target(&mut host, &found, "1").unwrap();
        shop.source(&format!("UPDATE {table} SET status = 'paid' WHERE id = 2"))
            .unwrap();
        let copied = shop.target(&format!("SELECT count(*) FROM {table}")).unwrap();
        assert!(copied.parse::<u32>().unwrap() < 200, "the copy is through: {copied}");
        let paid = format!("SELECT count(*), sum(length(big)) FROM {table} WHERE status = 'paid'");
        shop.wait_target(&mut host, &paid, &shop.source(&paid).unwrap())
            .unwrap();
        host.terminate().unwrap();
    }
}
