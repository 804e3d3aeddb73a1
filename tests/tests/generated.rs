//! Generated columns: the copy has them where the stream has them.

use rowmill_tests::{Host, Lines, Shop};

const TABLES: &str = "CREATE TABLE items (id int PRIMARY KEY, n int, twice int GENERATED ALWAYS AS (n * 2) STORED)";

/// An adopted publication says whether it sends them, from version 18 on; before, none does.
#[test]
fn generated_columns_are_copied_where_the_publication_sends_them() {
    let shop = Shop::with(TABLES).unwrap();
    let version: u32 = shop.source("SHOW server_version_num").unwrap().parse().unwrap();
    let sends = version >= 180_000;
    let with = if sends {
        "WITH (publish_generated_columns = stored)"
    } else {
        ""
    };
    shop.source(&format!("CREATE PUBLICATION adopted FOR TABLE items {with}"))
        .unwrap();
    shop.source("INSERT INTO items (id, n) VALUES (1, 10)").unwrap();
    let routes = "routes:\n  - { tables: [public.items], sinks: [warehouse, feed] }";
    let pipeline = shop
        .pipeline_of("public.items", routes)
        .replace("    tables: [public.items]\n", "    publication: adopted\n");
    Host::verb(shop.folder(), &pipeline, &["run", "--once"], 0).unwrap();
    shop.source("INSERT INTO items (id, n) VALUES (2, 20)").unwrap();
    Host::verb(shop.folder(), &pipeline, &["run", "--once"], 0).unwrap();
    let fed = Lines::read(&shop.folder().join("out/feed.jsonl")).unwrap().rows;
    let twice: Vec<_> = fed.iter().map(|line| line["new"]["twice"].as_i64()).collect();
    let expected = [20, 40].map(|twice| sends.then_some(twice));
    assert_eq!(twice, expected, "{fed:?}");
    let rows = "SELECT string_agg(id || ' ' || twice, ', ' ORDER BY id) FROM items";
    assert_eq!(shop.target(rows).unwrap(), "1 20, 2 40");
}
