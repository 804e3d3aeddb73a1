//! Rows that a plugin refuses while they are copied for a sink that has come.

use anyhow::Result;
use rowmill_tests::{Host, Lines, Shop};

const TABLE: &str = "CREATE TABLE items (id int PRIMARY KEY, kind text, n bigint)";

fn pipeline(shop: &Shop, late: bool) -> String {
    let sinks = if late { "feed, archive" } else { "feed" };
    let rest = format!(
        "reload: {{ probation: 0s }}\nplugins:\n  picky: {{ module: picky.wasm }}\nroutes:\n  \
         - {{ tables: [public.items], plugins: [picky], sinks: [{sinks}] }}"
    );
    let text = shop.pipeline_of("public.items", &rest);
    if late {
        text + "  archive: { file: { path: out/archive.jsonl } }\n"
    } else {
        text
    }
}

/// The operations that a file has of a row.
fn ops(shop: &Shop, file: &str, id: u64) -> Result<Vec<String>> {
    let lines = Lines::read(&shop.folder().join("out").join(file))?;
    let of_row = lines.rows.iter().filter(|line| line["new"]["id"] == id);
    Ok(of_row.map(|line| line["op"].as_str().unwrap().to_owned()).collect())
}

fn letters(shop: &Shop) -> Vec<serde_json::Value> {
    let (listed, _) = Host::verb_of(shop.folder(), &["--output", "json", "dead-letter", "list"], 0).unwrap();
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    listed["letters"].as_array().unwrap().clone()
}

#[test]
fn a_row_that_is_sent_again_comes_to_the_sink_that_it_was_copied_for() {
    let shop = Shop::with(TABLE).unwrap();
    shop.source("INSERT INTO items VALUES (1, 'good', 1), (2, 'reject', 2), (3, 'good', 3)")
        .unwrap();
    let put = |plugin: &str| std::fs::rename(shop.plugin(plugin).unwrap(), shop.folder().join("picky.wasm")).unwrap();
    let insert = |id: u64| {
        shop.source(&format!("INSERT INTO items VALUES ({id}, 'good', {id})"))
            .unwrap()
    };
    // Runs until a row that is inserted then has come to the files, and something else holds.
    let run = |late: bool, id: u64, condition: &dyn Fn() -> Result<bool>| {
        let mut host = Host::run(shop.folder(), &pipeline(&shop, late)).unwrap();
        insert(id);
        let files = if late {
            &["feed.jsonl", "archive.jsonl"][..]
        } else {
            &["feed.jsonl"]
        };
        for file in files {
            shop.wait_for(&mut host, file, || {
                Ok(!ops(&shop, file, id).unwrap_or_default().is_empty())
            })
            .unwrap();
        }
        shop.wait_for(&mut host, "the letters", condition).unwrap();
        host.terminate().unwrap();
    };
    put("picky_mended");
    run(false, 4, &|| Ok(ops(&shop, "feed.jsonl", 2)? == ["read"]));

    // Under this name the pipeline has it.
    shop.plugin("picky").unwrap();
    run(true, 5, &|| {
        Ok(letters(&shop).len() == 1 && ops(&shop, "archive.jsonl", 3)? == ["read"])
    });
    let letter = &letters(&shop)[0];
    assert_eq!(
        (&letter["op"], &letter["sinks"]),
        (&"read".into(), &serde_json::json!(["archive"]))
    );
    assert_eq!(ops(&shop, "archive.jsonl", 2).unwrap(), [""; 0]);

    put("picky_mended");
    Host::verb_of(shop.folder(), &["dead-letter", "replay", "--all"], 0).unwrap();
    run(true, 6, &|| Ok(letters(&shop).is_empty()));
    for file in ["feed.jsonl", "archive.jsonl"] {
        assert_eq!(ops(&shop, file, 2).unwrap(), ["read"], "{file}");
    }
}
