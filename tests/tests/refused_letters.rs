//! Dead letters that a sink refuses when they are sent again: what has arrived by then doesn't arrive twice, or is known by its id.

use rowmill_tests::{Host, LONG, Lines, Shop, wait_until};
use std::collections::{HashMap, HashSet};

const TABLE: &str = "CREATE TABLE items (id int PRIMARY KEY, kind text, n bigint)";
const ABOUT: &str = "ALTER TABLE items DROP CONSTRAINT items_pkey, ADD COLUMN _rowmill_id text, ADD COLUMN _rowmill_op text, \
    ADD COLUMN _rowmill_position pg_lsn, ADD COLUMN _rowmill_ordinal bigint, \
    ADD COLUMN _rowmill_committed_at timestamptz, ADD COLUMN _rowmill_unchanged text[]";

/// The numbers of the letters that are there.
fn letters(shop: &Shop) -> Vec<u64> {
    let (listed, _) = Host::verb_of(shop.folder(), &["--output", "json", "dead-letter", "list"], 0).unwrap();
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    let letters = listed["letters"].as_array().unwrap().iter();
    letters.map(|letter| letter["letter"].as_u64().unwrap()).collect()
}

/// Three letters for a target that keeps each change as a row and takes all but the second; the plugin that refused them is
/// mended.
fn three(sinks: &str) -> (Shop, String) {
    let shop = Shop::with(TABLE).unwrap();
    shop.plugin("picky").unwrap();
    shop.target(ABOUT).unwrap();
    let rest = format!(
        "plugins:\n  picky: {{ module: picky.wasm }}\nroutes:\n  - {{ tables: [public.items], plugins: [picky], sinks: [{sinks}] }}"
    );
    let url = shop.cluster.url("target");
    let pipeline = shop
        .pipeline_of("public.items", &rest)
        .replace(&format!("url: {url} }}"), &format!("url: {url}, mode: append }}"));
    assert!(pipeline.contains("append"), "{pipeline}");
    let mut host = Host::run(shop.folder(), &pipeline).unwrap();
    let insert = |id: u64, kind: &str| shop.source(&format!("INSERT INTO items VALUES ({id}, '{kind}', {id})"));
    let arrived = |host: &mut Host, count: &str| shop.wait_target(host, "SELECT count(*) FROM items", count).unwrap();
    insert(5000, "good").unwrap();
    arrived(&mut host, "1");
    for id in 1..=3 {
        insert(id, "reject").unwrap();
    }
    insert(5001, "good").unwrap();
    arrived(&mut host, "2");
    assert_eq!(letters(&shop), [1, 2, 3]);
    std::fs::rename(shop.plugin("picky_mended").unwrap(), shop.folder().join("picky.wasm")).unwrap();
    wait_until("the mended plugin", LONG, || {
        Ok(host.log().contains("was reloaded").then_some(()))
    })
    .unwrap();
    insert(5002, "good").unwrap();
    arrived(&mut host, "3");
    host.terminate().unwrap();
    shop.target("ALTER TABLE items ADD CONSTRAINT good CHECK (id <> 2)")
        .unwrap();
    (shop, pipeline)
}

/// Sends all letters again, which ends with this code.
fn replay(shop: &Shop, pipeline: &str, code: i32) -> String {
    Host::verb_of(shop.folder(), &["dead-letter", "replay", "--all"], 0).unwrap();
    Host::verb(shop.folder(), pipeline, &["run", "--once"], code).unwrap().1
}

const FOUND: &str = "SELECT string_agg(id || ' ' || n, ', ' ORDER BY id) FROM items WHERE id < 5000";

#[test]
fn what_came_before_the_letter_that_is_refused_does_not_arrive_twice() {
    let (shop, pipeline) = three("warehouse");
    let told = replay(&shop, &pipeline, 6);
    assert!(
        told.contains("E0410") && told.contains("the next start doesn't send them"),
        "{told}"
    );
    assert_eq!(shop.target(FOUND).unwrap(), "1 2");
    assert_eq!(letters(&shop), [2, 3]);
    Host::verb(shop.folder(), &pipeline, &["run", "--once"], 0).unwrap();
    assert_eq!(shop.target(FOUND).unwrap(), "1 2");

    shop.target("ALTER TABLE items DROP CONSTRAINT good").unwrap();
    replay(&shop, &pipeline, 0);
    assert_eq!(shop.target(FOUND).unwrap(), "1 2, 2 3, 3 4");
    assert_eq!(letters(&shop), [0; 0]);
}

/// One that has a row twice can tell so by its id.
#[test]
fn rows_that_other_sinks_have_by_then_come_again_under_their_ids() {
    let (shop, pipeline) = three("warehouse, feed");
    replay(&shop, &pipeline, 6);
    assert_eq!(letters(&shop), [1, 2, 3]);
    shop.target("ALTER TABLE items DROP CONSTRAINT good").unwrap();
    replay(&shop, &pipeline, 0);
    assert_eq!(letters(&shop), [0; 0]);

    let lines = Lines::read(&shop.folder().join("out/feed.jsonl")).unwrap();
    let mut ids: HashMap<u64, Vec<&str>> = HashMap::new();
    for line in &lines.rows {
        let key = line["new"]["id"].as_u64().unwrap();
        ids.entry(key).or_default().push(line["id"].as_str().unwrap());
    }
    for key in 1..=3 {
        let of_row = &ids[&key];
        assert_eq!(of_row.len(), 2, "the file had it before the sink stopped: {ids:?}");
        assert_eq!(of_row.iter().collect::<HashSet<_>>().len(), 1, "{of_row:?}");
    }
    let ids = "SELECT count(*) || ' ' || count(DISTINCT _rowmill_id) FROM items WHERE id < 5000";
    assert_eq!(shop.target(ids).unwrap(), "4 3");
}
