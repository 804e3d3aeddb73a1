//! S29: what tells a row from another is changed while it streams.

use rowmill_tests::{Host, Lines, Shop};

const TABLE: &str = "CREATE TABLE parts (id bigint PRIMARY KEY, code int NOT NULL UNIQUE, v text);";

/// Each with what is done under it: rows come, change, change their keys and go.
const STEPS: [(&str, &str); 5] = [
    (
        "DEFAULT",
        "INSERT INTO parts SELECT n, 100 + n, 'first' FROM generate_series(1, 9) n;
         UPDATE parts SET v = 'second' WHERE id = 1; UPDATE parts SET id = 11 WHERE id = 2; DELETE FROM parts WHERE id = 3;",
    ),
    (
        "FULL",
        "UPDATE parts SET v = 'third' WHERE id = 1; UPDATE parts SET id = 14 WHERE id = 4; DELETE FROM parts WHERE id = 5;",
    ),
    (
        "USING INDEX parts_code_key",
        "UPDATE parts SET v = 'fourth' WHERE id = 1; UPDATE parts SET code = 206 WHERE id = 6;
         UPDATE parts SET id = 17, code = 207 WHERE id = 7; DELETE FROM parts WHERE id = 8; INSERT INTO parts VALUES (20, 120, 'new');",
    ),
    (
        "FULL",
        "UPDATE parts SET code = 209, v = NULL WHERE id = 9; UPDATE parts SET v = 'fifth' WHERE id = 1;",
    ),
    (
        "DEFAULT",
        "UPDATE parts SET v = 'sixth' WHERE id = 1; DELETE FROM parts WHERE id = 20; INSERT INTO parts VALUES (20, 121, 'again');",
    ),
];

fn alter(identity: &str) -> String {
    format!("ALTER TABLE parts REPLICA IDENTITY {identity};")
}

#[test]
fn s29_the_identity_changes_while_it_streams() {
    let shop = Shop::with(TABLE).unwrap();
    let pipeline = shop.pipeline_of(
        "public.parts",
        "routes:
  - { tables: [public.parts], sinks: [warehouse, feed] }",
    );
    // The copy, of nothing: what changes beside it may arrive by it.
    Host::verb(shop.folder(), &pipeline, &["run", "--once"], 0).unwrap();
    let mut host = Host::run(shop.folder(), &pipeline).unwrap();
    let all = "SELECT count(*), string_agg(p::text, '|' ORDER BY id) FROM parts p";
    // Between transactions.
    for (identity, changes) in STEPS {
        shop.cluster.script("source", &alter(identity)).unwrap();
        shop.cluster.script("source", changes).unwrap();
        shop.wait_target(&mut host, all, &shop.source(all).unwrap()).unwrap();
    }
    // And all of it within one.
    let steps: String = STEPS
        .iter()
        .map(|(identity, changes)| alter(identity) + changes)
        .collect();
    let whole = format!("BEGIN; DELETE FROM parts; {steps} COMMIT;");
    shop.cluster.script("source", &whole).unwrap();
    shop.wait_target(&mut host, all, &shop.source(all).unwrap()).unwrap();
    host.terminate().unwrap();

    // Old images as the identity of their time gives them.
    let lines = Lines::read(&shop.folder().join("out/feed.jsonl")).unwrap();
    lines.streamed_once().unwrap();
    let old_of = |v: &str| {
        let found = lines
            .rows
            .iter()
            .filter(|row| row["new"]["v"] == v)
            .map(|row| row["old"].clone());
        found.collect::<Vec<_>>()
    };
    assert!(
        old_of("second").iter().all(|old| old.get("v").is_none()),
        "{:?}",
        old_of("second")
    );
    assert!(
        old_of("third").iter().all(|old| old["v"] == "second"),
        "{:?}",
        old_of("third")
    );
    assert!(
        old_of("fourth").iter().all(|old| old.get("v").is_none()),
        "{:?}",
        old_of("fourth")
    );
    assert!(
        old_of("fifth").iter().all(|old| old["v"] == "fourth"),
        "{:?}",
        old_of("fifth")
    );
    assert!(
        ["second", "third", "fourth", "fifth", "sixth"]
            .iter()
            .all(|v| old_of(v).len() == 2)
    );
}
