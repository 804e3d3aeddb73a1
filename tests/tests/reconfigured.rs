//! pipeline.yaml is edited while the host runs: taken up as a whole, or not at all.

use rowmill_tests::{Host, Shop, free_port};

const TABLES: &str = "
    CREATE TABLE first (id int PRIMARY KEY, v text);
    CREATE TABLE second (id int PRIMARY KEY, v text);
    CREATE TABLE people (id bigint PRIMARY KEY, email text);
";

fn pipeline(shop: &Shop, port: u16, tables: &str, rest: &str) -> String {
    Shop::with_console(&shop.pipeline_of(tables, rest), port)
}

fn routes(tables: &str) -> String {
    format!("routes:\n  - {{ tables: [{tables}], sinks: [warehouse] }}")
}

/// A change of `first` arrives: the pipeline streams.
fn streams(shop: &Shop, host: &mut Host, value: &str) {
    shop.source(&format!(
        "INSERT INTO first VALUES (1, '{value}') ON CONFLICT (id) DO UPDATE SET v = excluded.v"
    ))
    .unwrap();
    shop.wait_target(host, "SELECT v FROM first WHERE id = 1", value)
        .unwrap();
}

#[test]
fn h4_tables_and_plugins_come_and_go_without_a_restart() {
    let shop = Shop::with(TABLES).unwrap();
    shop.plugin("mask_pii").unwrap();
    shop.source("INSERT INTO second SELECT n, 'v' FROM generate_series(1, 100) n; INSERT INTO people VALUES (1, 'ada@example.com')")
        .unwrap();
    let port = free_port().unwrap();
    let first = pipeline(&shop, port, "public.first", &routes("public.first"));
    let mut host = Host::run(shop.folder(), &first).unwrap();
    streams(&shop, &mut host, "one");

    // A table more, by SIGHUP.
    let both = "public.first, public.second";
    shop.write(&pipeline(&shop, port, both, &routes(both))).unwrap();
    host.signal(libc::SIGHUP).unwrap();
    shop.wait_target(&mut host, "SELECT count(*) FROM second", "100")
        .unwrap();
    streams(&shop, &mut host, "two");
    assert!(host.log().contains("+ table public.second"), "{}", host.log());

    // Another with a plugin, and the second one out again, by the console.
    let plugin = "plugins:
  mask_pii: { module: mask_pii.wasm, config: { columns: { email: redact }, salt: pepper } }
routes:
  - { tables: [public.first], sinks: [warehouse] }
  - { tables: [public.people], plugins: [mask_pii], sinks: [warehouse] }";
    let changes = shop
        .reload(&pipeline(&shop, port, "public.first, public.people", plugin))
        .unwrap();
    for change in [
        "+ table public.people",
        "- table public.second",
        "+ plugin mask_pii",
        "+ route public.people",
    ] {
        assert!(changes.contains(change), "{changes}");
    }
    shop.wait_target(&mut host, "SELECT count(*) FROM people WHERE email !~ 'ada'", "1")
        .unwrap();
    shop.source("INSERT INTO people VALUES (2, 'ada@example.com'); INSERT INTO second VALUES (101, 'unseen')")
        .unwrap();
    shop.wait_target(&mut host, "SELECT count(*) FROM people WHERE email !~ 'ada'", "2")
        .unwrap();
    streams(&shop, &mut host, "three");
    assert_eq!(shop.target("SELECT count(*) FROM second").unwrap(), "100");
    let published = "SELECT string_agg(tablename, ',' ORDER BY tablename) FROM pg_publication_tables";
    assert_eq!(shop.source(published).unwrap(), "first,people");
    let (changes, _) = Host::verb_of(shop.folder(), &["reload"], 0).unwrap();
    assert!(changes.contains("nothing is different"), "{changes}");

    // A key of the source alone.
    let larger = pipeline(&shop, port, "public.first, public.people", plugin);
    let larger = larger.replace("    snapshot:", "    max_row: 64MiB\n    snapshot:");
    let changes = shop.reload(&larger).unwrap();
    assert!(changes.contains("~ source.postgres.max_row"), "{changes}");
    streams(&shop, &mut host, "four");
    host.terminate().unwrap();
}

#[test]
fn columns_of_a_route_and_a_plugins_config_change_under_the_running_stream() {
    let shop = Shop::with(TABLES).unwrap();
    shop.plugin("mask_pii").unwrap();
    let port = free_port().unwrap();
    let with = |columns: &str, method: &str| {
        let rest = format!(
            "plugins:
  mask_pii: {{ module: mask_pii.wasm, config: {{ columns: {{ email: {method} }}, salt: pepper }} }}
routes:
  - {{ tables: [public.first], columns: [{columns}], sinks: [warehouse] }}
  - {{ tables: [public.people], plugins: [mask_pii], sinks: [warehouse] }}"
        );
        pipeline(&shop, port, "public.first, public.people", &rest)
    };
    let mut host = Host::run(shop.folder(), &with("id", "hash")).unwrap();
    let insert = |host: &mut Host, id: u32, v: &str, email: &str| {
        shop.source(&format!(
            "INSERT INTO first VALUES ({id}, 'v'); INSERT INTO people VALUES ({id}, 'ada@example.com')"
        ))
        .unwrap();
        let query = format!("SELECT first.v IS {v}, email {email} FROM first JOIN people USING (id) WHERE id = {id}");
        shop.wait_target(host, &query, "t|t").unwrap();
    };
    insert(&mut host, 1, "NULL", "~ '^[0-9a-f]{8,}$'");
    let walsender = || shop.source("SELECT active_pid FROM pg_replication_slots").unwrap();
    let connection = walsender();

    let changes = shop.reload(&with("id, v", "redact")).unwrap();
    assert!(changes.contains("~ route public.first"), "{changes}");
    insert(&mut host, 2, "NOT NULL", "!~ '^[0-9a-f]{8,}$'");
    // What the plugin refuses changes nothing, the route's columns included.
    shop.write(&with("id", "scramble")).unwrap();
    Host::verb_of(shop.folder(), &["reload"], 2).unwrap();
    insert(&mut host, 3, "NOT NULL", "!~ '^[0-9a-f]{8,}$'");
    shop.reload(&with("id", "hash")).unwrap();
    insert(&mut host, 4, "NULL", "~ '^[0-9a-f]{8,}$'");

    assert_eq!(walsender(), connection, "{}", host.log());
    assert_eq!(host.log().matches("\"streaming\"").count(), 1, "{}", host.log());
    host.terminate().unwrap();
}

#[test]
fn what_a_start_would_refuse_changes_nothing() {
    let shop = Shop::with(TABLES).unwrap();
    let port = free_port().unwrap();
    let first = pipeline(&shop, port, "public.first", &routes("public.first"));
    let mut host = Host::run(shop.folder(), &first).unwrap();
    streams(&shop, &mut host, "one");
    shop.source("CREATE TABLE keyless (id int); CREATE TABLE elsewhere (id int PRIMARY KEY)")
        .unwrap();
    let with = |table: &str| {
        let both = format!("public.first, public.{table}");
        pipeline(&shop, port, &both, &routes(&both))
    };
    let elsewhere = first.replace(&shop.cluster.url("target"), &shop.cluster.url("postgres"));
    let refused = [
        (with("nowhere"), "table `public.nowhere` does not exist"),
        (with("keyless"), "has no usable replica identity"),
        (with("elsewhere"), "elsewhere"),
        (elsewhere, "a sink's target can't change while the pipeline runs"),
        (first.replace("name: shop", "name: mall"), "HTTP status 404"),
    ];
    for (file, text) in refused {
        shop.write(&file).unwrap();
        let (_, said) = Host::verb_of(shop.folder(), &["reload"], 2).unwrap();
        assert!(said.contains(text), "{said}");
    }
    // Nothing of a file that can't be read counts either.
    shop.write("name: shop\nsource: {}\n").unwrap();
    host.signal(libc::SIGHUP).unwrap();
    shop.wait_said(&mut host, "pipeline.yaml isn't taken up", 1).unwrap();
    streams(&shop, &mut host, "two");
    host.terminate().unwrap();
}
