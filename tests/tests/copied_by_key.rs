//! A table that has a key at the source, by which it is copied, and none at the target.

use rowmill_tests::{Host, Shop};

const ROWS: u64 = 6000;
const ALL: &str = "SELECT count(*), md5(string_agg(t::text, '|' ORDER BY t::text)) FROM items t";

#[test]
fn it_is_copied_once_the_target_has_the_key_and_streamed_without() {
    let tables = "CREATE TABLE items (id int PRIMARY KEY, note text); ALTER TABLE items REPLICA IDENTITY FULL";
    let shop = Shop::with(tables).unwrap();
    shop.source(&format!(
        "INSERT INTO items SELECT n, 'n' || n FROM generate_series(1, {ROWS}) n"
    ))
    .unwrap();
    shop.target("ALTER TABLE items DROP CONSTRAINT items_pkey").unwrap();
    let routes = "routes: [{ tables: [public.items], sinks: [warehouse] }]";
    let pipeline = shop.pipeline_of("public.items", routes);
    let (told, _) = Host::verb(shop.folder(), &pipeline, &["check"], 0).unwrap();
    assert!(
        told.contains("E0418") && told.contains("no unique key here, (\"id\") at the source"),
        "{told}"
    );
    for _ in 0..2 {
        let (_, error) = Host::verb(shop.folder(), &pipeline, &["run", "--once"], 6).unwrap();
        assert!(
            error.contains("E0404") && error.contains("ADD PRIMARY KEY (\"id\")"),
            "{error}"
        );
        // What the stream brings meanwhile is taken.
        let copied = format!("SELECT count(*) FROM items WHERE id <= {ROWS}");
        assert_eq!(shop.target(&copied).unwrap(), "0");
        shop.source(
            "UPDATE items SET note = note || '+' WHERE id % 100 = 0; INSERT INTO items SELECT max(id) + 1 FROM items",
        )
        .unwrap();
    }
    shop.target("ALTER TABLE items ADD PRIMARY KEY (id)").unwrap();
    Host::verb(shop.folder(), &pipeline, &["run", "--once"], 0).unwrap();
    assert_eq!(shop.target(ALL).unwrap(), shop.source(ALL).unwrap());

    shop.target("ALTER TABLE items DROP CONSTRAINT items_pkey").unwrap();
    shop.source("UPDATE items SET id = -id, note = NULL WHERE id < 9; DELETE FROM items WHERE id = 70; INSERT INTO items VALUES (0)")
        .unwrap();
    Host::verb(shop.folder(), &pipeline, &["run", "--once"], 0).unwrap();
    assert_eq!(shop.target(ALL).unwrap(), shop.source(ALL).unwrap());
}
