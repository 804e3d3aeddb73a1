//! A plugin's config is edited while it runs, and a plugin is taken out of the file: both as a changed module.

use rowmill_tests::{Host, Lines, Shop};

const TABLES: &str = "CREATE TABLE people (id bigint PRIMARY KEY, email text);";

fn pipeline(shop: &Shop, method: &str) -> String {
    let rest = format!(
        "plugins:
  mask_pii:
    module: mask_pii.wasm
    config: {{ columns: {{ email: {method} }}, salt: \"${{SALT:-pepper}}\" }}
routes:
  - {{ tables: [public.people], plugins: [mask_pii], sinks: [warehouse] }}"
    );
    shop.pipeline_of("public.people", &rest)
}

fn insert(shop: &Shop, id: u64) {
    shop.source(&format!("INSERT INTO people VALUES ({id}, 'ada@example.com')"))
        .unwrap();
}

fn wait(shop: &Shop, host: &mut Host, id: u64, condition: &str) {
    let query = format!("SELECT {condition} FROM people WHERE id = {id}");
    shop.wait_target(host, &query, "t").unwrap();
}

/// What the next start would refuse isn't taken up before it.
#[test]
fn p20_a_link_out_of_the_folder_is_refused_while_it_runs() {
    let shop = Shop::with(TABLES).unwrap();
    shop.plugin("mask_pii").unwrap();
    let mut host = Host::run(shop.folder(), &pipeline(&shop, "redact")).unwrap();
    insert(&shop, 1);
    wait(&shop, &mut host, 1, "email !~ 'ada'");

    // Another module, by a link: what it leads to is ours, and outside.
    shop.plugin("paid_only").unwrap();
    let outside = tempfile::tempdir().unwrap();
    let elsewhere = outside.path().join("other.wasm");
    std::fs::copy(shop.folder().join("paid_only.wasm"), &elsewhere).unwrap();
    let link = shop.folder().join("link");
    std::os::unix::fs::symlink(&elsewhere, &link).unwrap();
    std::fs::rename(&link, shop.folder().join("mask_pii.wasm")).unwrap();
    shop.wait_said(&mut host, "it leads out of", 1).unwrap();
    insert(&shop, 2);
    wait(&shop, &mut host, 2, "email !~ 'ada'");
    host.terminate().unwrap();
}

#[test]
fn a_new_config_counts_without_a_restart() {
    let shop = Shop::with(TABLES).unwrap();
    shop.plugin("mask_pii").unwrap();
    let mut host = Host::run(shop.folder(), &pipeline(&shop, "hash")).unwrap();
    insert(&shop, 1);
    wait(&shop, &mut host, 1, "email ~ '^[0-9a-f]+$'");

    shop.write(&pipeline(&shop, "redact")).unwrap();
    shop.wait_said(&mut host, "a new version of the route's plugins counts", 1)
        .unwrap();
    insert(&shop, 2);
    wait(&shop, &mut host, 2, "email !~ '^[0-9a-f]{8,}$' AND email !~ 'ada'");

    // What the plugin refuses changes nothing, and is told.
    shop.write(&pipeline(&shop, "scramble")).unwrap();
    shop.wait_said(&mut host, "with its new config", 1).unwrap();
    insert(&shop, 3);
    wait(&shop, &mut host, 3, "email !~ '^[0-9a-f]{8,}$' AND email !~ 'ada'");

    // A plugin that is out of the file doesn't keep the pipeline from starting.
    host.kill().unwrap();
    let rest = "routes:\n  - { tables: [public.people], sinks: [warehouse], on_new_column: drop }";
    let mut host = Host::run(shop.folder(), &shop.pipeline_of("public.people", rest)).unwrap();
    // What committed before the server's end at the start may have been delivered by the version before.
    shop.wait_streaming(&mut host, 2).unwrap();
    insert(&shop, 4);
    wait(&shop, &mut host, 4, "email = 'ada@example.com'");
    host.terminate().unwrap();
}

/// The table was passed by before, and its rows have the columns that they had.
#[test]
fn a_mask_comes_to_another_table_of_its_route() {
    let shop = Shop::with(&format!(
        "{TABLES} CREATE TABLE guests (id bigint PRIMARY KEY, email text);"
    ))
    .unwrap();
    shop.plugin("mask_pii").unwrap();
    let pipeline = |columns: &str| {
        let rest = format!(
            "plugins:
  mask_pii: {{ module: mask_pii.wasm, config: {{ columns: [{columns}], method: redact }} }}
routes:
  - {{ tables: [public.people, public.guests], plugins: [mask_pii], sinks: [warehouse] }}"
        );
        shop.pipeline_of("public.people, public.guests", &rest)
    };
    let mut host = Host::run(shop.folder(), &pipeline("people.email")).unwrap();
    let arrives = |host: &mut Host, id: u64, guests: &str| {
        insert(&shop, id);
        shop.source(&format!("INSERT INTO guests VALUES ({id}, 'ada@example.com')"))
            .unwrap();
        wait(&shop, host, id, "email !~ 'ada'");
        let query = format!("SELECT email {guests} FROM guests WHERE id = {id}");
        shop.wait_target(host, &query, "t").unwrap();
    };
    arrives(&mut host, 1, "~ 'ada'");
    shop.write(&pipeline("people.email, guests.email")).unwrap();
    shop.wait_said(&mut host, "a new version of the route's plugins counts", 1)
        .unwrap();
    arrives(&mut host, 2, "!~ 'ada'");
    host.terminate().unwrap();
}

/// One module masks the column, the other gives it another name; both read the same config.
#[test]
fn a_version_that_was_refused_for_its_shape_is_tried_again_where_the_file_allows_for_that() {
    let shop = Shop::with(TABLES).unwrap();
    shop.plugin("mask_pii").unwrap();
    let pipeline = |more: &str| {
        let rest = format!(
            "plugins:
  email: {{ module: mask_pii.wasm, config: {{ columns: {{ email: redact }} }}{more} }}
routes:
  - {{ tables: [public.people], plugins: [email], sinks: [feed] }}"
        );
        shop.pipeline_of("public.people", &rest)
    };
    let mut host = Host::run(shop.folder(), &pipeline("")).unwrap();
    let arrives = |host: &mut Host, id: u64, column: &str| {
        insert(&shop, id);
        shop.wait_for(host, &format!("row {id} with {column}"), || {
            let lines = Lines::read(&shop.folder().join("out/feed.jsonl"))?;
            let mut rows = lines.rows.iter().map(|row| &row["new"]);
            Ok(rows.any(|new| new["id"] == id && new[column].is_string()))
        })
        .unwrap();
    };
    arrives(&mut host, 1, "email");
    let renaming = shop.plugin("rename_columns").unwrap();
    std::fs::rename(renaming, shop.folder().join("mask_pii.wasm")).unwrap();
    shop.wait_said(&mut host, "gives rows of public.people another shape", 1)
        .unwrap();
    arrives(&mut host, 2, "email");

    shop.write(&pipeline(", allow_schema_change: true")).unwrap();
    shop.wait_said(&mut host, "a new version of the route's plugins counts", 1)
        .unwrap();
    arrives(&mut host, 3, "redact");
    host.terminate().unwrap();
}
