//! `rowmill verify` finds what differs between source and target.

use rowmill_tests::{Host, Shop, Writers};
use serde_json::Value;
use std::sync::atomic::{AtomicBool, Ordering};

fn verify(shop: &Shop, pipeline: &str, arguments: &[&str], code: i32) -> Value {
    let arguments = [&["verify", "--output", "json"], arguments].concat();
    let (told, _) = Host::verb(shop.folder(), pipeline, &arguments, code).unwrap();
    serde_json::from_str(&told).unwrap()
}

/// One row in a million that differs in one byte.
#[test]
#[ignore = "a million rows on each side take half a minute: `cargo xtask nightly` runs it"]
fn a_planted_difference_of_one_row_in_a_million_is_found() {
    let shop = Shop::with("CREATE TABLE t (id bigint PRIMARY KEY, name text NOT NULL, n int)").unwrap();
    let pipeline = shop.pipeline_of("public.t", "routes: [{ tables: [public.t], sinks: [warehouse] }]");
    let pipeline = pipeline.replace(
        "snapshot: { mode: initial, connections: 2, unit_rows: 2000 }",
        "snapshot: never",
    );
    let fill = "INSERT INTO t SELECT i, 'name ' || i, i % 100 FROM generate_series(1, 1000000) i; ANALYZE t";
    shop.cluster.script("source", fill).unwrap();
    shop.cluster.script("target", fill).unwrap();
    let equal = verify(&shop, &pipeline, &[], 0);
    assert_eq!(equal["tables"][0]["rows_target"], 1_000_000, "{equal}");

    shop.target("UPDATE t SET name = 'Name 654321' WHERE id = 654321")
        .unwrap();
    let found = verify(&shop, &pipeline, &["--wait", "0", "--keys"], 1);
    let differences = found["tables"][0]["differences"].as_array().unwrap();
    assert_eq!(differences.len(), 1, "{found}");
    assert_eq!(differences[0]["kind"], "different");
    assert_eq!(differences[0]["key"], "(654321)");
    // The hash finds the row, and tells nobody what it is.
    let (told, _) = Host::verb(shop.folder(), &pipeline, &["verify", "--wait", "0"], 1).unwrap();
    assert!(!told.contains("654321") && told.contains("different row"), "{told}");
    let hash = differences[0]["key_hash"].as_str().unwrap();
    let find = format!("SELECT id FROM t WHERE hashtextextended(ROW(id)::text, 0) = {hash}");
    assert_eq!(shop.source(&find).unwrap(), "654321");
}

#[test]
fn missing_and_added_rows_are_told_and_what_cannot_be_compared() {
    let shop = Shop::new().unwrap();
    shop.plugin("paid_only").unwrap();
    for database in ["source", "target"] {
        let notes = "CREATE TABLE notes (a int, b text); ALTER TABLE notes REPLICA IDENTITY FULL;
            CREATE TABLE \"The codes\" (\"the code\" text, part int, secret text, PRIMARY KEY (part, \"the code\"));";
        shop.cluster.script(database, notes).unwrap();
    }
    shop.target("ALTER TABLE \"The codes\" DROP COLUMN secret, ADD COLUMN own int")
        .unwrap();
    let rows = "INSERT INTO customers (id, email) SELECT i, 'c' || i FROM generate_series(1, 50) i;
        INSERT INTO notes VALUES (1, 'twice'), (1, 'twice'), (2, NULL);
        INSERT INTO \"The codes\" VALUES ('a', 1, 's'), ('b', 2, NULL);";
    shop.cluster.script("source", rows).unwrap();
    let pipeline = shop.pipeline_of(
        "\"public.*\"",
        "plugins: { paid: { module: paid_only.wasm } }
routes:
  - { tables: [public.orders], plugins: [paid], sinks: [warehouse] }
  - { tables: [public.customers, public.notes], sinks: [warehouse] }
  - { tables: [\"public.The codes\"], columns: [\"the code\", part], sinks: [warehouse] }",
    );
    Host::verb(shop.folder(), &pipeline, &["run", "--once"], 0).unwrap();
    let (told, _) = Host::verb(shop.folder(), &pipeline, &["verify"], 0).unwrap();
    for line in [
        "public.customers at warehouse: 50 rows, equal",
        "public.notes at warehouse: 3 rows, equal",
        "public.The codes at warehouse: 2 rows, equal; without secret",
        "public.orders at warehouse: not compared, rows go through paid",
        "what was compared is equal",
    ] {
        assert!(told.contains(line), "{line}\n{told}");
    }

    let planted = "DELETE FROM customers WHERE id = 7; INSERT INTO customers (id) VALUES (51);
        UPDATE customers SET email = NULL WHERE id = 9; UPDATE notes SET a = 2 WHERE b IS NULL OR a = 1;";
    shop.cluster.script("target", planted).unwrap();
    let found = verify(&shop, &pipeline, &["--wait", "0", "--keys"], 1);
    let table = |name: &str| {
        let tables = found["tables"].as_array().unwrap();
        tables.iter().find(|table| table["table"] == name).unwrap().clone()
    };
    let customers = table("public.customers");
    let mut told: Vec<(&str, &str)> = customers["differences"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (one["key"].as_str().unwrap(), one["kind"].as_str().unwrap()))
        .collect();
    told.sort_unstable();
    assert_eq!(told, [("(51)", "too much"), ("(7)", "missing"), ("(9)", "different")]);
    assert_eq!(table("public.notes")["equal"], false);
    assert_eq!(table("public.The codes")["equal"], true);
}

/// Rows that are under way are no differences.
#[test]
fn a_target_that_follows_is_equal_while_writers_write() {
    let shop = Shop::new().unwrap();
    shop.fill(5000).unwrap();
    let pipeline = shop.pipeline();
    let mut host = Host::run(shop.folder(), &pipeline).unwrap();
    shop.wait_equal(&mut host).unwrap();
    let writers = Writers::start(&shop.cluster, "source", 2, 2).unwrap();
    for _ in 0..3 {
        verify(&shop, &pipeline, &["--wait", "60"], 0);
    }
    writers.stop().unwrap();
    host.terminate().unwrap();
}

/// Wherever one looks rows are under way; the target lacks one that isn't: it is found, wherever it lies.
#[test]
fn a_missing_row_is_found_though_others_are_under_way_everywhere() {
    let shop = Shop::with("CREATE TABLE t (id int PRIMARY KEY, n int NOT NULL)").unwrap();
    let fill = "INSERT INTO t SELECT i, 0 FROM generate_series(1, 40000) i; ANALYZE t";
    shop.cluster.script("source", fill).unwrap();
    shop.cluster.script("target", fill).unwrap();
    // In the last of 128 parts that the rows are compared in (500 rows each, by the estimate). Of every part's rows some are
    // touched, few enough to be done long before the next look.
    let last = "SELECT id FROM t WHERE hashtextextended(ROW(id)::text, 0) & 127 = 127 AND id % 100 <> 0 LIMIT 1";
    let last = shop.source(last).unwrap();
    shop.target(&format!("DELETE FROM t WHERE id = {last}")).unwrap();
    let pipeline = shop.pipeline_of("public.t", "routes: [{ tables: [public.t], sinks: [warehouse] }]");
    let touch = "UPDATE t SET n = n + 1 WHERE id % 100 = 0";
    // The source is ahead by one or two changes, all the time.
    shop.source(touch).unwrap();
    let is_over = AtomicBool::new(false);
    let found = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                shop.source(touch).unwrap();
                shop.target(touch).unwrap();
            }
        });
        let found = Host::verb(
            shop.folder(),
            &pipeline,
            &["verify", "--output", "json", "--wait", "2", "--keys"],
            1,
        );
        is_over.store(true, Ordering::Relaxed);
        found.unwrap().0
    });
    let found: Value = serde_json::from_str(&found).unwrap();
    let differences = found["tables"][0]["differences"].as_array().unwrap();
    assert_eq!(differences.len(), 1, "{found}");
    assert_eq!(differences[0]["kind"], "missing", "{found}");
    assert_eq!(differences[0]["key"], format!("({last})"), "{found}");
}

/// Rows that `snapshot: where` has left out are no difference, and those that it has copied are compared.
#[test]
fn of_a_table_with_a_condition_the_rows_are_compared_that_meet_it() {
    let shop = Shop::new().unwrap();
    let rows = "INSERT INTO customers (id, email) SELECT i, 'c' || i FROM generate_series(1, 50) i";
    shop.cluster.script("source", rows).unwrap();
    let pipeline = shop
        .pipeline_of(
            "public.customers",
            "routes: [{ tables: [public.customers], sinks: [warehouse] }]",
        )
        .replace(
            "mode: initial",
            "mode: initial, where: { public.customers: \"id > 20 AND email IS NOT NULL -- the new ones\" }",
        );
    assert!(pipeline.contains("where"), "{pipeline}");
    Host::verb(shop.folder(), &pipeline, &["run", "--once"], 0).unwrap();
    assert_eq!(shop.target("SELECT count(*) FROM customers").unwrap(), "30");
    let equal = verify(&shop, &pipeline, &["--wait", "0"], 0);
    assert_eq!(equal["tables"][0]["rows_source"], 30, "{equal}");
    assert_eq!(
        equal["tables"][0]["where"], "id > 20 AND email IS NOT NULL -- the new ones",
        "{equal}"
    );

    shop.target("DELETE FROM customers WHERE id IN (7, 21)").unwrap();
    shop.target("UPDATE customers SET email = 'other' WHERE id = 30")
        .unwrap();
    let found = verify(&shop, &pipeline, &["--wait", "0", "--keys"], 1);
    let differences = found["tables"][0]["differences"].as_array().unwrap();
    let mut named: Vec<String> = differences
        .iter()
        .map(|one| format!("{} {}", one["kind"], one["key"]))
        .collect();
    named.sort();
    assert_eq!(named, ["\"different\" \"(30)\"", "\"missing\" \"(21)\""], "{found}");

    shop.target("ALTER TABLE customers DROP COLUMN email").unwrap();
    let (told, _) = Host::verb(shop.folder(), &pipeline, &["verify"], 0).unwrap();
    assert!(
        told.contains("public.customers at warehouse: not compared, the target can't tell"),
        "{told}"
    );
}

/// What inherits from a table is a table of its own, on either side, and so is a partition that is published as what it is.
#[test]
fn each_table_has_the_rows_that_come_under_its_name() {
    let tables = "CREATE TABLE parent (id int PRIMARY KEY, v text);
        CREATE TABLE child (PRIMARY KEY (id)) INHERITS (parent);
        CREATE TABLE events (id int PRIMARY KEY, v text) PARTITION BY RANGE (id);
        CREATE TABLE events_1 PARTITION OF events FOR VALUES FROM (0) TO (100);
        CREATE TABLE events_2 PARTITION OF events FOR VALUES FROM (100) TO (200);";
    let shop = Shop::with(tables).unwrap();
    shop.target("ALTER TABLE child NO INHERIT parent").unwrap();
    let rows = "INSERT INTO parent SELECT n, 'p' FROM generate_series(1, 10) n;
        INSERT INTO child SELECT n, 'c' FROM generate_series(11, 30) n;
        INSERT INTO events SELECT n, 'e' FROM generate_series(60, 139) n;
        CREATE PUBLICATION mine FOR TABLE ONLY parent, ONLY child, events;";
    shop.cluster.script("source", rows).unwrap();
    let routes = "routes: [{ tables: ['public.*'], sinks: [warehouse] }]";
    let whole = shop.pipeline_of("public.parent, public.child, public.events", routes);
    let leaves = whole.replace(
        "tables: [public.parent, public.child, public.events]\n",
        "publication: mine\n",
    );
    Host::verb(shop.folder(), &leaves, &["run", "--once"], 0).unwrap();
    let found = |pipeline: &str, code: i32| {
        let found = verify(&shop, pipeline, &["--wait", "0", "--keys"], code);
        let table = |one: &Value| {
            let name = one["table"].as_str().unwrap().trim_start_matches("public.").to_owned();
            let differences = one["differences"].as_array().into_iter().flatten();
            let mut keys: Vec<&str> = differences.map(|one| one["key"].as_str().unwrap()).collect();
            keys.sort_unstable();
            format!("{name} {} {}", one["rows_source"], keys.concat())
        };
        let mut tables: Vec<String> = found["tables"].as_array().unwrap().iter().map(table).collect();
        tables.sort();
        tables.iter().map(|table| table.trim().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(
        found(&leaves, 0),
        ["child 20", "events_1 40", "events_2 40", "parent 10"]
    );
    shop.target("DELETE FROM child WHERE id = 11; DELETE FROM events WHERE id = 100")
        .unwrap();
    assert_eq!(
        found(&leaves, 1),
        ["child 20 (11)", "events_1 40", "events_2 40 (100)", "parent 10"]
    );
    // A partitioned table that is published as such is compared as a whole.
    let inherited = "ALTER TABLE child INHERIT parent; CREATE TABLE more PARTITION OF events DEFAULT;
        INSERT INTO events VALUES (500)";
    shop.target(inherited).unwrap();
    assert_eq!(found(&whole, 1), ["child 20 (11)", "events 80 (100)(500)", "parent 10"]);
}
