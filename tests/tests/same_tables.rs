//! Routes with the same tables: each has plugins, columns and versions of its own.

use rowmill_tests::{Host, Lines, Shop, free_port};
use std::collections::BTreeSet;

const TABLES: &str = "CREATE TABLE customers (id bigint PRIMARY KEY, email text);";

/// One route masks into a file, the other one lets the rows be; `second` is what its line has more.
fn pipeline(shop: &Shop, port: u16, second: &str) -> String {
    let rest = format!(
        "plugins:
  mask_pii: {{ module: mask_pii.wasm, config: {{ columns: [email], salt: pepper }} }}
routes:
  - {{ tables: [public.customers], plugins: [mask_pii], sinks: [feed] }}
  - {{ tables: [public.customers], sinks: [warehouse]{second} }}"
    );
    Shop::with_console(&shop.pipeline_of("public.customers", &rest), port)
}

fn insert(shop: &Shop, id: u64) {
    shop.source(&format!(
        "INSERT INTO customers (id, email) VALUES ({id}, 'ada@example.com')"
    ))
    .unwrap();
}

/// Waits for the row at the target, and for `email` to be so there.
fn arrives(shop: &Shop, host: &mut Host, id: u64, email: &str) {
    let query = format!("SELECT email {email} FROM customers WHERE id = {id}");
    shop.wait_target(host, &query, "t").unwrap();
}

#[test]
fn what_is_committed_while_the_host_is_away_is_masked_where_the_route_masks() {
    let shop = Shop::with(TABLES).unwrap();
    shop.plugin("mask_pii").unwrap();
    let text = pipeline(&shop, free_port().unwrap(), "");
    for id in 1..=4 {
        insert(&shop, id);
        let mut host = Host::run(shop.folder(), &text).unwrap();
        arrives(&shop, &mut host, id, "= 'ada@example.com'");
        let feed = shop.folder().join("out/feed.jsonl");
        let is_row = |row: &serde_json::Value| row["new"]["id"] == id;
        shop.wait_for(&mut host, "the row is in the file", || {
            Ok(Lines::read(&feed)?.rows.iter().any(is_row))
        })
        .unwrap();
        for row in Lines::read(&feed).unwrap().rows {
            let email = row["new"]["email"].as_str().unwrap();
            assert_eq!(email.len(), 64, "{row}");
        }
        match id % 2 {
            0 => host.kill().unwrap(),
            _ => host.terminate().unwrap(),
        }
    }
}

#[test]
fn a_reload_takes_up_what_is_different_in_the_second_of_them() {
    let shop = Shop::with(TABLES).unwrap();
    shop.plugin("mask_pii").unwrap();
    let port = free_port().unwrap();
    let mut host = Host::run(shop.folder(), &pipeline(&shop, port, "")).unwrap();
    let reload = |second: &str, says: &str| {
        let changes = shop.reload(&pipeline(&shop, port, second)).unwrap();
        assert!(changes.contains(says), "{changes}");
    };
    insert(&shop, 1);
    arrives(&shop, &mut host, 1, "= 'ada@example.com'");
    reload("", "nothing is different");
    reload(", columns: [id]", "~ route public.customers#2");
    insert(&shop, 2);
    arrives(&shop, &mut host, 2, "IS NULL");
    reload(", columns: [id]", "nothing is different");
    reload(", plugins: [mask_pii]", "~ route public.customers#2");
    insert(&shop, 3);
    arrives(&shop, &mut host, 3, "~ '^[0-9a-f]{64}$'");
    host.terminate().unwrap();
}

#[test]
fn a_route_stops_where_its_table_changes_though_another_one_takes_that_up() {
    let shop = Shop::with(TABLES).unwrap();
    let rest = "routes:
  - { tables: [public.customers], sinks: [warehouse] }
  - { tables: [public.customers], on_schema_change: stop, sinks: [feed] }";
    let text = shop.pipeline_of("public.customers", rest);
    insert(&shop, 1);
    Host::verb(shop.folder(), &text, &["run", "--once"], 0).unwrap();
    shop.source("ALTER TABLE customers ADD note text").unwrap();
    insert(&shop, 2);
    for _ in 0..2 {
        let (_, refused) = Host::verb(shop.folder(), &text, &["run", "--once"], 2).unwrap();
        assert!(
            refused.contains("E0706") && refused.contains("added: note"),
            "{refused}"
        );
    }
    // The first route's rows may have left before; of the one that stops, none has.
    assert_eq!(fed(&shop), BTreeSet::from([1]));
}

const NOTED: &str = "CREATE TABLE customers (id bigint PRIMARY KEY, email text, note text);";
const TO_FEED: &str = "  - { tables: [public.customers], plugins: [emails], sinks: [feed] }\n";
const TO_WAREHOUSE: &str = "  - { tables: [public.customers], plugins: [notes], sinks: [warehouse] }\n";

/// The feed has no addresses and the warehouse no notes: each route masks something else.
fn masking(shop: &Shop, routes: &[&str]) -> String {
    let rest = format!(
        "plugins:
  emails: {{ module: mask_pii.wasm, config: {{ columns: [email], salt: pepper }} }}
  notes: {{ module: mask_pii.wasm, config: {{ columns: [note], salt: pepper }} }}
routes:
{}",
        routes.concat()
    );
    Shop::with_console(&shop.pipeline_of("public.customers", &rest), free_port().unwrap())
}

fn insert_noted(shop: &Shop, id: i64) {
    shop.source(&format!(
        "INSERT INTO customers VALUES ({id}, 'ada@example.com', 'secret')"
    ))
    .unwrap();
}

/// The rows that the feed has.
fn fed(shop: &Shop) -> BTreeSet<i64> {
    let feed = Lines::read(&shop.folder().join("out/feed.jsonl")).unwrap().rows;
    feed.iter().filter_map(|row| row["new"]["id"].as_i64()).collect()
}

/// These rows are in the feed, none of its lines with an address, and no row of the warehouse has a note.
fn assert_masked(shop: &Shop, ids: impl IntoIterator<Item = i64>) {
    assert_eq!(fed(shop), ids.into_iter().collect::<BTreeSet<_>>());
    let feed = Lines::read(&shop.folder().join("out/feed.jsonl")).unwrap().rows;
    for row in feed {
        assert_ne!(row["new"]["email"], "ada@example.com", "{row}");
    }
    let noted = "SELECT count(*) FROM customers WHERE note = 'secret'";
    assert_eq!(shop.target(noted).unwrap(), "0");
}

#[test]
fn routes_that_change_places_keep_their_plugins_for_what_is_still_to_come() {
    let shop = Shop::with(NOTED).unwrap();
    shop.plugin("mask_pii").unwrap();
    let orders: [&[&str]; 4] = [
        &[TO_FEED, TO_WAREHOUSE],
        &[TO_WAREHOUSE, TO_FEED],
        &[TO_FEED, TO_WAREHOUSE],
        // The first one has gone.
        &[TO_WAREHOUSE],
    ];
    for (id, routes) in (1..).zip(orders) {
        // Committed while the host is away.
        insert_noted(&shop, id);
        Host::verb(shop.folder(), &masking(&shop, routes), &["run", "--once"], 0).unwrap();
        // The last one comes when the feed has gone.
        assert_masked(&shop, 1..=id.min(3));
        assert_eq!(shop.target("SELECT count(*) FROM customers").unwrap(), id.to_string());
    }
}

#[test]
fn a_reload_finds_routes_that_have_changed_places() {
    let shop = Shop::with(NOTED).unwrap();
    shop.plugin("mask_pii").unwrap();
    let there = masking(&shop, &[TO_FEED, TO_WAREHOUSE]);
    insert_noted(&shop, 1);
    let mut host = Host::run(shop.folder(), &there).unwrap();
    shop.wait_target(&mut host, "SELECT count(*) FROM customers", "1")
        .unwrap();
    let turned = there.replace(&[TO_FEED, TO_WAREHOUSE].concat(), &[TO_WAREHOUSE, TO_FEED].concat());
    assert_ne!(turned, there);
    let changes = shop.reload(&turned).unwrap();
    assert!(changes.contains("nothing is different"), "{changes}");
    let columns = turned.replace(
        "plugins: [emails], sinks",
        "plugins: [emails], columns: [id, email], sinks",
    );
    let changes = shop.reload(&columns).unwrap();
    assert!(
        changes.contains("~ route public.customers") && !changes.contains("customers#2"),
        "{changes}"
    );
    insert_noted(&shop, 2);
    shop.wait_target(&mut host, "SELECT count(*) FROM customers", "2")
        .unwrap();
    host.terminate().unwrap();
    assert_masked(&shop, [1, 2]);
}

/// What was recorded before it came isn't for it: the route had no plugin for addresses then.
#[test]
fn a_sink_that_comes_to_a_route_together_with_a_plugin_gets_nothing_without_it() {
    let shop = Shop::with(NOTED).unwrap();
    shop.plugin("mask_pii").unwrap();
    insert_noted(&shop, 1);
    let before = masking(&shop, &[TO_WAREHOUSE]);
    Host::verb(shop.folder(), &before, &["run", "--once"], 0).unwrap();
    insert_noted(&shop, 2);
    let both = "  - { tables: [public.customers], plugins: [emails, notes], sinks: [feed, warehouse] }\n";
    Host::verb(shop.folder(), &masking(&shop, &[both]), &["run", "--once"], 0).unwrap();
    assert_masked(&shop, [1, 2]);
}
