//! An audit trail: every change a row of one table, with before, after, and what the application said of it.

use rowmill_tests::{Host, Random, Shop, Writers};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

fn pipeline(shop: &Shop, tables: &str, route: &str, audit: &str) -> String {
    format!(
        "name: shop
console: off
source: {{ postgres: {{ url: {}, tables: [{tables}], snapshot: never }} }}
{route}
sinks: {{ trail: {{ postgres: {{ url: {}, mode: audit{audit} }} }} }}
",
        shop.cluster.url("source"),
        shop.cluster.url("target")
    )
}

const ALL: &str = "routes: [{ tables: [\"*.*\"], sinks: [trail] }]";

const SOURCE: &str = "
    CREATE TABLE orders (id bigint PRIMARY KEY, status text, total numeric, big text, extra json, at timestamptz);
    ALTER TABLE orders REPLICA IDENTITY FULL;
    ALTER TABLE orders ALTER big SET STORAGE EXTERNAL;
    CREATE SCHEMA \"The shop\";
    CREATE TABLE \"The shop\".\"Stock\" (sku text, place int, n int, PRIMARY KEY (place, sku));
    CREATE TABLE codes (code text PRIMARY KEY, n int);
    CREATE TABLE lines (a int NOT NULL, b text);
    ALTER TABLE lines REPLICA IDENTITY FULL;
    INSERT INTO codes VALUES ('there before', 1);
";

/// What the trail tells, in the order of the changes.
const TRAIL: &str = "SELECT operation, schema || '.' || \"table\", primary_key, before, after, context FROM changes
    ORDER BY position, ordinal, fan_out, \"table\"";

#[test]
fn every_change_is_told_with_its_context() {
    let shop = Shop::with("SELECT 1").unwrap();
    shop.cluster.script("source", SOURCE).unwrap();
    let pipeline = pipeline(&shop, "\"*.*\"", ALL, "");

    let (checked, _) = Host::verb(shop.folder(), &pipeline, &["check"], 0).unwrap();
    assert!(
        checked.contains("E0441") && checked.contains("public.codes") && !checked.contains("public.orders: sink"),
        "{checked}"
    );
    Host::verb(shop.folder(), &pipeline, &["run", "--once"], 0).unwrap();
    let changes = "
        BEGIN;
        SELECT pg_logical_emit_message(true, 'another', '{\"not\": 1}');
        INSERT INTO orders VALUES (1, 'new', 9.50, repeat('x', 5000), '{\"a\": \"\\u0000\"}', '2026-01-02 03:04:05+00');
        SELECT pg_logical_emit_message(true, '_bemi', '{\"user\": 7}');
        UPDATE orders SET status = 'paid' WHERE id = 1;
        SELECT pg_logical_emit_message(true, '_bemi', '{\"user\": 8}');
        INSERT INTO \"The shop\".\"Stock\" VALUES ('a', 5, 1);
        COMMIT;
        INSERT INTO codes VALUES ('c', 1);
        UPDATE codes SET code = 'd' WHERE code = 'c';
        DELETE FROM codes WHERE code = 'd';
        INSERT INTO lines VALUES (1, NULL);
        BEGIN; SELECT pg_logical_emit_message(true, '_bemi', 'null'); DELETE FROM orders; COMMIT;
        COPY lines FROM STDIN;
2	same
2	same
\\.
        TRUNCATE orders, codes;";
    shop.cluster.script("source", changes).unwrap();
    Host::verb(shop.folder(), &pipeline, &["run", "--once"], 0).unwrap();

    let big = format!("\"{}\"", "x".repeat(5000));
    let told = shop.target(TRAIL).unwrap().replace(&big, "BIG");
    let order = |status: &str| {
        format!(
            r#"{{"at": "2026-01-02 03:04:05+00", "id": 1, "big": BIG, "extra": "{{\"a\": \"\\u0000\"}}", "total": "9.50", "status": "{status}"}}"#
        )
    };
    let (new, paid) = (order("new"), order("paid"));
    let expected = [
        format!(r#"CREATE|public.orders|1|{{}}|{new}|{{"user": 7}}"#),
        format!(r#"UPDATE|public.orders|1|{new}|{paid}|{{"user": 7}}"#),
        r#"CREATE|The shop.Stock|["a",5]|{}|{"n": 1, "sku": "a", "place": 5}|{"user": 7}"#.to_owned(),
        r#"CREATE|public.codes|c|{}|{"n": 1, "code": "c"}|{}"#.to_owned(),
        r#"UPDATE|public.codes|d|{"code": "c"}|{"n": 1, "code": "d"}|{}"#.to_owned(),
        r#"DELETE|public.codes|d|{"code": "d"}|{}|{}"#.to_owned(),
        r#"CREATE|public.lines||{}|{"a": 1, "b": null}|{}"#.to_owned(),
        format!("DELETE|public.orders|1|{paid}|{{}}|{{}}"),
        r#"CREATE|public.lines||{}|{"a": 2, "b": "same"}|{}"#.to_owned(),
        r#"CREATE|public.lines||{}|{"a": 2, "b": "same"}|{}"#.to_owned(),
        "TRUNCATE|public.codes||{}|{}|{}".to_owned(),
        "TRUNCATE|public.orders||{}|{}|{}".to_owned(),
    ];
    let told: Vec<&str> = told.lines().collect();
    assert_eq!(told, expected);
    let facts = "SELECT bool_and(database = 'source' AND transaction_id > 0 AND committed_at <= queued_at
        AND committed_at > now() - interval '1 hour' AND created_at <= now()), count(DISTINCT id) FROM changes";
    assert_eq!(shop.target(facts).unwrap(), "t|12");
}

/// The latest message before each row, where a transaction runs several statements with their own.
#[test]
fn the_latest_context_is_a_choice() {
    let shop = Shop::with("SELECT 1").unwrap();
    shop.cluster.script("source", SOURCE).unwrap();
    let pipeline = pipeline(
        &shop,
        "public.codes",
        ALL,
        ", audit: { table: audit.trail, context: latest, indexes: false }",
    );
    Host::verb(shop.folder(), &pipeline, &["run", "--once"], 0).unwrap();
    let changes = "
        BEGIN;
        INSERT INTO codes VALUES ('a', 1);
        SELECT pg_logical_emit_message(true, '_bemi', '{\"user\": 1}');
        INSERT INTO codes VALUES ('b', 1), ('c', 1);
        SAVEPOINT s;
        SELECT pg_logical_emit_message(true, '_bemi', '{\"user\": 2}');
        ROLLBACK TO s;
        SELECT pg_logical_emit_message(true, '_bemi', 'no json');
        INSERT INTO codes VALUES ('d', 1);
        COMMIT;
        INSERT INTO codes VALUES ('e', 1);";
    shop.cluster.script("source", changes).unwrap();
    Host::verb(shop.folder(), &pipeline, &["run", "--once"], 0).unwrap();
    let told = shop
        .target("SELECT primary_key, context FROM audit.trail ORDER BY position, ordinal")
        .unwrap();
    assert_eq!(
        told,
        "a|{}\nb|{\"user\": 1}\nc|{\"user\": 1}\nd|{\"_raw\": \"no json\"}\ne|{}"
    );
    let indexes = "SELECT count(*) FROM pg_indexes WHERE schemaname = 'audit'";
    assert_eq!(shop.target(indexes).unwrap(), "2");
}

/// One transaction of more bytes than a batch: what is said behind its first rows is theirs too.
#[test]
fn a_large_transaction_has_one_context() {
    let shop = Shop::with("CREATE TABLE t (id int PRIMARY KEY, filler text)").unwrap();
    let pipeline = pipeline(&shop, "public.t", ALL, "");
    Host::verb(shop.folder(), &pipeline, &["run", "--once"], 0).unwrap();
    let changes = "BEGIN; INSERT INTO t SELECT i, repeat('x', 500) FROM generate_series(1, 20000) i;
        SELECT pg_logical_emit_message(true, '_bemi', '{\"user\": 7}');
        INSERT INTO t SELECT i, repeat('x', 500) FROM generate_series(20001, 40000) i;
        SELECT pg_logical_emit_message(true, '_bemi', '{\"user\": 8}'); DELETE FROM t WHERE id = 1; COMMIT;
        INSERT INTO t VALUES (0, '');";
    shop.cluster.script("source", changes).unwrap();
    Host::verb(shop.folder(), &pipeline, &["run", "--once"], 0).unwrap();
    let told = "SELECT context, count(*), count(DISTINCT (position, ordinal)) FROM changes GROUP BY 1 ORDER BY 2";
    assert_eq!(shop.target(told).unwrap(), "{}|1|1\n{\"user\": 7}|40001|40001");
}

/// What a plugin masks is masked in both images, and what it drops isn't told.
#[test]
fn plugins_come_before_the_trail() {
    let shop = Shop::new().unwrap();
    shop.plugin("mask_pii").unwrap();
    shop.plugin("paid_only").unwrap();
    let route = "plugins:
  mask: { module: mask_pii.wasm, config: { columns: [email], salt: pepper } }
  paid: { module: paid_only.wasm }
routes: [{ tables: [public.orders], plugins: [paid, mask], sinks: [trail] }]";
    shop.source("ALTER TABLE orders REPLICA IDENTITY FULL").unwrap();
    let pipeline = pipeline(&shop, "public.orders", route, "");
    Host::verb(shop.folder(), &pipeline, &["run", "--once"], 0).unwrap();
    let changes = "
        INSERT INTO orders VALUES (1, 1, 'open', 'ada@example.com', 1, NULL);
        UPDATE orders SET status = 'paid' WHERE id = 1;
        UPDATE orders SET email = 'bob@example.com' WHERE id = 1;
        DELETE FROM orders;";
    shop.cluster.script("source", changes).unwrap();
    Host::verb(shop.folder(), &pipeline, &["run", "--once"], 0).unwrap();
    let told = "SELECT operation, before ->> 'email' <> '', after ->> 'email' <> '',
        (before::text || after) LIKE '%example.com%' FROM changes ORDER BY position, ordinal, fan_out";
    // The row came into the set by an update: to whoever reads the trail it begins there.
    assert_eq!(shop.target(told).unwrap(), "CREATE||t|f\nUPDATE|t|t|f\nDELETE|t||f");
}

/// A trail in the source's own database doesn't tell of itself.
#[test]
fn a_trail_beside_its_tables_stays_quiet() {
    let shop = Shop::with("CREATE TABLE t (id int PRIMARY KEY)").unwrap();
    shop.source("CREATE PUBLICATION everything FOR ALL TABLES").unwrap();
    let text = format!(
        "name: shop
console: off
source: {{ postgres: {{ url: {}, publication: everything, snapshot: never }} }}
routes: [{{ tables: [\"*.*\"], sinks: [trail] }}]
sinks: {{ trail: {{ postgres: {{ url: \"{}?application_name=trail\", mode: audit }} }} }}
",
        shop.cluster.url("source"),
        shop.cluster.url("source")
    );
    Host::verb(shop.folder(), &text, &["run", "--once"], 0).unwrap();
    shop.source("INSERT INTO t VALUES (1)").unwrap();
    for _ in 0..3 {
        Host::verb(shop.folder(), &text, &["run", "--once"], 0).unwrap();
    }
    let told = shop.source("SELECT operation, \"table\" FROM changes").unwrap();
    assert_eq!(told, "CREATE|t");
}

/// A table that is there already, as Bemi's own worker leaves it.
#[test]
fn a_table_without_the_ordinal_is_refused_with_the_statement() {
    let shop = Shop::with("CREATE TABLE t (id int PRIMARY KEY)").unwrap();
    let bemi = "CREATE TABLE changes (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), created_at timestamptz NOT NULL,
            before jsonb NOT NULL DEFAULT '{}', after jsonb NOT NULL DEFAULT '{}', context jsonb NOT NULL DEFAULT '{}',
            database varchar(255) NOT NULL, schema varchar(255) NOT NULL, \"table\" varchar(255) NOT NULL,
            primary_key varchar(255), operation text NOT NULL, committed_at timestamptz NOT NULL,
            queued_at timestamptz NOT NULL, transaction_id bigint NOT NULL, position bigint NOT NULL);
        CREATE UNIQUE INDEX changes_position_table_schema_database_operation_unique
            ON changes (position, \"table\", schema, database, operation);";
    shop.cluster.script("target", bemi).unwrap();
    let pipeline = pipeline(&shop, "public.t", ALL, "");
    for verb in [&["check"][..], &["run", "--once"]] {
        let (_, refused) = Host::verb(shop.folder(), &pipeline, verb, 6).unwrap();
        assert!(refused.contains("E0440") && refused.contains("ordinal"), "{refused}");
        let fix = refused.lines().find_map(|line| line.trim().strip_prefix("help:"));
        if verb == ["run", "--once"] {
            shop.cluster.script("target", fix.unwrap()).unwrap();
        }
    }
    Host::verb(shop.folder(), &pipeline, &["run", "--once"], 0).unwrap();
    shop.source("INSERT INTO t VALUES (1), (2)").unwrap();
    Host::verb(shop.folder(), &pipeline, &["run", "--once"], 0).unwrap();
    assert_eq!(shop.target("SELECT count(*) FROM changes").unwrap(), "2");
}

#[test]
fn beside_a_copy_a_trail_is_refused() {
    let shop = Shop::with("CREATE TABLE t (id int PRIMARY KEY)").unwrap();
    let text = pipeline(&shop, "public.t", ALL, "").replace(", snapshot: never", "");
    let (_, refused) = Host::verb(shop.folder(), &text, &["check", "--offline"], 2).unwrap();
    assert!(refused.contains("snapshot: never"), "{refused}");
}

/// Each once, whatever happens: the source's own trigger tells the same.
#[test]
fn killed_under_load_the_trail_has_every_change_once() {
    let shop = Shop::new().unwrap();
    shop.source("ALTER TABLE orders REPLICA IDENTITY FULL").unwrap();
    let told = "CREATE TABLE told (op text, before jsonb, after jsonb);
        CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            INSERT INTO told VALUES (TG_OP, to_jsonb(OLD), to_jsonb(NEW));
            PERFORM pg_logical_emit_message(true, '_bemi', '{\"by\": ' || COALESCE(NEW.id, OLD.id) % 7 || '}');
            RETURN NULL; END $$;
        CREATE TRIGGER tell AFTER INSERT OR UPDATE OR DELETE ON orders FOR EACH ROW EXECUTE FUNCTION tell()";
    shop.cluster.script("source", told).unwrap();
    let pipeline = pipeline(&shop, "public.orders", ALL, "");
    Host::verb(shop.folder(), &pipeline, &["run", "--once"], 0).unwrap();
    let writers = Writers::start(&shop.cluster, "source", 2, 2).unwrap();
    let mut random = Random::new(std::process::id().into());
    for _ in 0..8 {
        let host = Host::run(shop.folder(), &pipeline).unwrap();
        std::thread::sleep(Duration::from_millis(random.below(900)));
        host.kill().unwrap();
    }
    writers.stop().unwrap();
    Host::verb(shop.folder(), &pipeline, &["run", "--once"], 0).unwrap();
    let digest = |database: &str, operation: &str, from: &str| {
        let row = |image: &str| {
            format!("ROW({image} ->> 'id', {image} ->> 'status', {image} ->> 'total', {image} ->> 'big')")
        };
        let select = format!(
            "SELECT {operation}, count(*), md5(string_agg({before}::text || {after}, '|' ORDER BY {before}::text || {after}))
             FROM {from} GROUP BY 1 ORDER BY 1",
            before = row("before"),
            after = row("after"),
        );
        shop.cluster.sql(database, &select).unwrap()
    };
    let source = digest("source", "replace(op, 'INSERT', 'CREATE')", "told");
    assert_eq!(source, digest("target", "operation", "changes"));
    // Each transaction said something of all its rows.
    let silent = "SELECT count(*) FROM changes WHERE context = '{}'";
    assert_eq!(shop.target(silent).unwrap(), "0");
}

/// What Bemi's clients write to.
const BEMIS_TABLES: &str = "
    CREATE TABLE todos (id serial PRIMARY KEY, task text NOT NULL, done bool NOT NULL DEFAULT false);
    CREATE TABLE prices (sku text, country text, amount numeric NOT NULL, PRIMARY KEY (sku, country));
    ALTER TABLE todos REPLICA IDENTITY FULL;";

/// Bemi's own client and migration write the context on a real server.
#[test]
fn what_bemis_client_says_is_in_the_trail() {
    let bemi = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("bemi");
    if !bemi.join("node_modules/.prisma/client/index.js").exists() {
        let has_node = Command::new("node").arg("--version").output().is_ok();
        assert!(!has_node, "Bemi's client isn't installed: `cargo xtask test` does it");
        println!("skipped: Bemi's client needs Node.js and npm");
        return;
    }
    let shop = Shop::with("SELECT 1").unwrap();
    shop.cluster.script("source", BEMIS_TABLES).unwrap();
    // The package's command writes its migration into the folder that it is called in.
    std::fs::create_dir_all(shop.folder().join("prisma/migrations")).unwrap();
    let node = |arguments: &[PathBuf]| {
        let output = Command::new("node")
            .args(arguments)
            .current_dir(shop.folder())
            .env("DATABASE_URL", shop.cluster.url("source"))
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    node(&[
        bemi.join("node_modules/@bemi-db/prisma/dist/cli.js"),
        "migration:create".into(),
    ]);
    let migrations = std::fs::read_dir(shop.folder().join("prisma/migrations")).unwrap();
    for migration in migrations {
        let text = std::fs::read_to_string(migration.unwrap().path().join("migration.sql")).unwrap();
        shop.cluster.script("source", &text).unwrap();
    }
    let pipeline = pipeline(&shop, "public.*", ALL, "");
    Host::verb(shop.folder(), &pipeline, &["run", "--once"], 0).unwrap();
    node(&[bemi.join("write.mjs")]);
    shop.source("INSERT INTO todos (task) VALUES ('by hand')").unwrap();
    Host::verb(shop.folder(), &pipeline, &["run", "--once"], 0).unwrap();

    let first = r#"{"method": "POST", "userID": 187234, "endpoint": "/todos"}"#;
    let second = r#"{"userID": 7, "apiEndpoint": "/todo/complete"}"#;
    let (eat, repeat) = (
        r#"{"id": 1, "done": false, "task": "Eat"}"#,
        r#"{"id": 1, "done": true, "task": "Eat & repeat 'it'"}"#,
    );
    let expected = [
        format!("CREATE|public.todos|1|{{}}|{eat}|{first}"),
        format!("UPDATE|public.todos|1|{eat}|{repeat}|{second}"),
        format!(r#"CREATE|public.prices|["a","de"]|{{}}|{{"sku": "a", "amount": "9.5", "country": "de"}}|{second}"#),
        format!(r#"CREATE|public.prices|["b","de"]|{{}}|{{"sku": "b", "amount": "1", "country": "de"}}|{second}"#),
        format!("DELETE|public.todos|1|{repeat}|{{}}|{second}"),
        r#"CREATE|public.todos|2|{}|{"id": 2, "done": false, "task": "by hand"}|{}"#.to_owned(),
    ];
    let told = shop.target(TRAIL).unwrap();
    assert_eq!(told.lines().collect::<Vec<_>>(), expected);
}

/// The same with Bemi's client for SQLAlchemy, which tells the statement, too.
#[test]
fn what_bemis_client_for_sqlalchemy_says_is_in_the_trail() {
    let bemi = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("bemi");
    if !bemi.join("venv/done").exists() {
        println!("skipped: Bemi's client for SQLAlchemy needs Python; `cargo xtask test` installs it");
        return;
    }
    let shop = Shop::with("SELECT 1").unwrap();
    shop.cluster.script("source", BEMIS_TABLES).unwrap();
    let pipeline = pipeline(&shop, "public.*", ALL, "");
    Host::verb(shop.folder(), &pipeline, &["run", "--once"], 0).unwrap();
    let output = Command::new(bemi.join("venv/bin/python"))
        .arg(bemi.join("write.py"))
        .env("DATABASE_URL", shop.cluster.url("source"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Host::verb(shop.folder(), &pipeline, &["run", "--once"], 0).unwrap();

    let trail = "SELECT operation, \"table\", primary_key, context->>'userID', context->>'SQL' FROM changes
        ORDER BY position, ordinal, fan_out";
    let expected = [
        "CREATE|todos|1|187234|INSERT INTO todos (task, done) VALUES ('Eat', false) RETURNING todos.id",
        "UPDATE|todos|1|7|UPDATE todos SET task='Eat & repeat ''it''', done=true WHERE todos.id = 1",
        r#"CREATE|prices|["a","de"]|7|INSERT INTO prices (sku, country, amount) VALUES ('a', 'de', 9.5), ('b', 'de', 1)"#,
        r#"CREATE|prices|["b","de"]|7|INSERT INTO prices (sku, country, amount) VALUES ('a', 'de', 9.5), ('b', 'de', 1)"#,
        "DELETE|todos|1|7|DELETE FROM todos WHERE todos.id = 1",
    ];
    let told = shop.target(trail).unwrap();
    assert_eq!(told.lines().collect::<Vec<_>>(), expected);
}
