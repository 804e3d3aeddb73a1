//! A new version is rehearsed on the plugin's golden samples: one that breaks on them never gets a real row.

use rowmill_tests::{Host, Shop, free_port, get, looping_tagger, tag, tagger, trapping_tagger};

const ABI: i32 = 0x1_0000;
const TAG: u8 = 3;
const TABLES: &str = "CREATE TABLE events (id bigint PRIMARY KEY, txn bigint, n int, tag text);";
const REST: &str = "reload: { settle: 0ms, interval: 0ms }
plugins:
  tagger: { module: tagger.wasm }
routes:
  - { tables: [public.events], plugins: [tagger], sinks: [warehouse] }";
const TWO_AT_ONCE: &str = r#"{"table":"events","columns":[{"name":"id","type":"bigint","key":true},{"name":"txn","type":"bigint"},{"name":"n","type":"integer"},{"name":"tag","type":"text"}]}
{"op":"insert","new":{"id":"1","txn":"1","n":"0"}}
{"op":"insert","new":{"id":"2","txn":"1","n":"1"}}
"#;

fn insert(shop: &Shop, host: &mut Host, id: u64, number: u64) {
    shop.source(&format!("INSERT INTO events VALUES ({id}, {id}, 0, 'raw')"))
        .unwrap();
    let query = format!("SELECT tag FROM events WHERE id = {id}");
    shop.wait_target(host, &query, &tag(number)).unwrap();
}

/// Waits for a refusal in the log that has all of the words.
fn wait_refused(shop: &Shop, host: &mut Host, words: &[&str]) {
    shop.wait_for(host, &words.join(", "), || {
        let log = shop.log();
        let mut refusals = log
            .lines()
            .filter(|line| line.contains("the changed plugin is refused"));
        Ok(refusals.any(|line| words.iter().all(|word| line.contains(word))))
    })
    .unwrap();
}

#[test]
fn a_version_that_breaks_on_a_golden_sample_never_takes_over() {
    let shop = Shop::with(TABLES).unwrap();
    let samples = shop.folder().join("tagger.samples");
    std::fs::create_dir(&samples).unwrap();
    std::fs::write(samples.join("two_at_once.jsonl"), TWO_AT_ONCE).unwrap();
    shop.install("tagger", &tagger(1, TAG, ABI).unwrap()).unwrap();
    let pipeline = shop.pipeline_of("public.events", REST);
    let mut host = Host::run(shop.folder(), &pipeline).unwrap();
    insert(&shop, &mut host, 1, 1);

    // All that came so far came one by one, so that the real batches say nothing of it.
    shop.install("tagger", &trapping_tagger(2, TAG, 2).unwrap()).unwrap();
    let why = ["two_at_once.jsonl", "an order without tax id", "src/lib.rs:42:9"];
    wait_refused(&shop, &mut host, &why);
    insert(&shop, &mut host, 2, 1);

    // Samples that nobody can read are no samples: that is said, with the line.
    let damaged = samples.join("damaged.jsonl");
    std::fs::write(&damaged, "{\"op\":\"insert\",\"new\":{}}\n").unwrap();
    shop.install("tagger", &tagger(3, TAG, ABI).unwrap()).unwrap();
    wait_refused(
        &shop,
        &mut host,
        &["golden samples of plugin tagger", "damaged.jsonl, line 1"],
    );
    insert(&shop, &mut host, 3, 1);

    // One that takes them is taken.
    std::fs::remove_file(&damaged).unwrap();
    shop.install("tagger", &tagger(4, TAG, ABI).unwrap()).unwrap();
    shop.wait_said(&mut host, "a new version of the route's plugins counts", 1)
        .unwrap();
    insert(&shop, &mut host, 4, 4);
    host.terminate().unwrap();
}

/// `plugin list` and the console show what may take over while it is tried, and behind that why it was refused.
#[test]
fn a_version_is_listed_while_it_is_tried() {
    let shop = Shop::with(TABLES).unwrap();
    let port = free_port().unwrap();
    let rest = REST.replace("tagger.wasm }", "tagger.wasm, limits: { time: 3s } }");
    let pipeline = shop.pipeline_of("public.events", &rest);
    let pipeline = Shop::with_console(&pipeline, port);
    shop.install("tagger", &tagger(1, TAG, ABI).unwrap()).unwrap();
    let mut host = Host::run(shop.folder(), &pipeline).unwrap();
    insert(&shop, &mut host, 1, 1);
    let plugin = || {
        let status: serde_json::Value = serde_json::from_str(&get(port, "/api/status")?.1)?;
        anyhow::Ok(status["pipelines"][0]["plugins"][0].clone())
    };
    let running = plugin().unwrap()["hash"].clone();
    assert!(plugin().unwrap()["candidate"].is_null());

    // It is given three seconds of the processor's time for its start.
    shop.install("tagger", &looping_tagger(2, TAG).unwrap()).unwrap();
    let mut candidate = serde_json::Value::Null;
    shop.wait_for(&mut host, "the version is tried", || {
        candidate = plugin()?["candidate"].clone();
        Ok(candidate["step"] == "is tried")
    })
    .unwrap();
    assert!(candidate["hash"].is_string() && candidate["hash"] != running);
    wait_refused(&shop, &mut host, &["rowmill_init was stopped"]);
    let after = plugin().unwrap();
    assert!(after["candidate"].is_null(), "{after}");
    assert_eq!(
        (&after["hash"], &after["refused"]["hash"]),
        (&running, &candidate["hash"])
    );
    host.terminate().unwrap();
}

/// The routes change places: each goes on with what it has had itself.
#[test]
fn a_version_is_rehearsed_on_the_rows_of_its_own_route() {
    let shop = Shop::with(&format!("{TABLES} {}", TABLES.replace("events", "others"))).unwrap();
    let port = free_port().unwrap();
    let pipeline = |routes: [&str; 2]| {
        let of = |table: &str| format!("  - {{ tables: [public.{table}], plugins: [{table}], sinks: [warehouse] }}\n");
        let rest = format!(
            "reload: {{ settle: 0ms, interval: 0ms }}
plugins:
  events: {{ module: events.wasm }}
  others: {{ module: tagger.wasm }}
routes:
{}",
            routes.map(of).concat()
        );
        let text = shop.pipeline_of("public.events, public.others", &rest);
        Shop::with_console(&text, port)
    };
    shop.install("tagger", &tagger(1, TAG, ABI).unwrap()).unwrap();
    std::fs::copy(shop.folder().join("tagger.wasm"), shop.folder().join("events.wasm")).unwrap();
    let mut host = Host::run(shop.folder(), &pipeline(["events", "others"])).unwrap();
    let other = |host: &mut Host, id: u64, number: u64| {
        shop.source(&format!("INSERT INTO others VALUES ({id}, {id}, 0, 'raw')"))
            .unwrap();
        let query = format!("SELECT tag FROM others WHERE id = {id}");
        shop.wait_target(host, &query, &tag(number)).unwrap();
    };
    other(&mut host, 1, 1);
    shop.source("INSERT INTO events SELECT id, 1, 0, 'raw' FROM generate_series(1, 100) id")
        .unwrap();
    shop.wait_target(&mut host, "SELECT count(*) FROM events", "100")
        .unwrap();

    // With something that needs another session.
    let turned = pipeline(["others", "events"]).replace("lanes: 2", "lanes: 1");
    let changes = shop.reload(&turned).unwrap();
    assert!(changes.contains("~ lanes"), "{changes}");
    shop.wait_streaming(&mut host, 2).unwrap();
    // It would break on the hundred of events.
    shop.install("tagger", &trapping_tagger(2, TAG, 50).unwrap()).unwrap();
    shop.wait_said(&mut host, "a new version of the route's plugins counts", 1)
        .unwrap();
    other(&mut host, 2, 2);
    host.terminate().unwrap();
}
