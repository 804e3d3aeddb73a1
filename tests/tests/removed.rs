//! `rowmill remove`: what goes, and what stays.

use rowmill_tests::{Host, Lines, Shop};

fn verb(shop: &Shop, pipeline: &str, arguments: &[&str], code: i32) -> (String, String) {
    Host::verb(shop.folder(), pipeline, arguments, code).unwrap()
}

fn slots(shop: &Shop) -> String {
    shop.source("SELECT string_agg(slot_name::text, ',' ORDER BY slot_name) FROM pg_replication_slots")
        .unwrap()
}

/// A slot with a name of its own goes where Rowmill has made it, and stays where somebody else has. One that is called as the
/// pipeline is another deployment's then.
#[test]
fn a_slot_of_another_name_goes_where_rowmill_has_made_it() {
    let shop = Shop::new().unwrap();
    let make = |name: &str| {
        let make = format!("SELECT pg_create_logical_replication_slot('{name}', 'pgoutput')");
        shop.source(&make).unwrap();
    };
    make("rowmill_shop");
    let pipeline = shop.pipeline().replace("    tables:", "    slot: my_slot\n    tables:");
    verb(&shop, &pipeline, &["run", "--once"], 0);
    // What a run that is killed leaves.
    let spilled = shop.folder().join(".rowmill/shop/spill");
    std::fs::create_dir(&spilled).unwrap();
    let (steps, _) = verb(&shop, &pipeline, &["remove", "--dry-run"], 0);
    for step in ["pg_drop_replication_slot('my_slot')", "rm -r ./.rowmill/shop/spill"] {
        assert!(steps.contains(step), "{steps}");
    }
    assert!(!steps.contains("'rowmill_shop'"), "{steps}");
    assert_eq!(slots(&shop), "my_slot,rowmill_shop");
    verb(&shop, &pipeline, &["remove"], 0);
    assert_eq!(slots(&shop), "rowmill_shop");
    assert!(!spilled.exists());

    make("my_slot");
    verb(&shop, &pipeline, &["run", "--once"], 0);
    verb(&shop, &pipeline, &["remove"], 0);
    assert_eq!(slots(&shop), "my_slot,rowmill_shop");
}

/// The source is restored to where it hadn't what the file has: that is told, and the way out that is told is one.
#[test]
fn a_file_sinks_position_goes_and_its_lines_stay() {
    let shop = Shop::new().unwrap();
    let routes = "routes:\n  - { tables: [public.customers], sinks: [feed] }";
    let pipeline = shop.pipeline_of("public.customers", routes);
    let feed = shop.folder().join("out/feed.jsonl");
    let insert = |id: u32| {
        shop.source(&format!("INSERT INTO customers (id) VALUES ({id})"))
            .unwrap()
    };
    let lines = || -> Vec<(String, i64)> {
        let rows = Lines::read(&feed).unwrap().rows;
        let line = |row: &serde_json::Value| {
            (
                row["op"].as_str().unwrap().to_owned(),
                row["new"]["id"].as_i64().unwrap(),
            )
        };
        rows.iter().map(line).collect()
    };
    verb(&shop, &pipeline, &["run", "--once"], 0);
    insert(1);
    verb(&shop, &pipeline, &["run", "--once"], 0);
    assert_eq!(lines(), [("insert".to_owned(), 1)]);
    let path = shop.folder().join("out/feed.jsonl.manifest");
    let mut manifest: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    manifest["position"] = "FFFFFFFF/0".into();
    std::fs::write(&path, manifest.to_string()).unwrap();

    insert(2);
    let (_, error) = verb(&shop, &pipeline, &["run", "--once"], 4);
    assert!(error.contains("E0512") && error.contains("sink feed"), "{error}");
    assert_eq!(lines().len(), 1);
    let (steps, _) = verb(&shop, &pipeline, &["remove", "--dry-run"], 0);
    let step = "sink feed: sed -i 's|\"FFFFFFFF/0\"|null|' ./out/feed.jsonl.manifest";
    assert!(steps.contains(step), "{steps}");
    verb(&shop, &pipeline, &["remove"], 0);
    verb(&shop, &pipeline, &["run", "--once"], 0);
    insert(3);
    verb(&shop, &pipeline, &["run", "--once"], 0);
    let mut found = lines();
    // Units are copied in any order.
    found[1..].sort_by_key(|(_, id)| *id);
    let expected = [("insert", 1), ("read", 1), ("read", 2), ("insert", 3)];
    assert_eq!(found, expected.map(|(op, id)| (op.to_owned(), id)));
}
