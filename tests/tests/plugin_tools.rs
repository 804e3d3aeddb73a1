//! What plugins' authors do with a live database: take samples of it, and look at its tables with a plugin's eyes.

use rowmill_tests::{Cluster, Host, plugin};
use std::os::unix::fs::PermissionsExt;

const TABLES: &str = "
    CREATE TYPE mood AS ENUM ('happy', 'sad');
    CREATE DOMAIN cents AS integer CHECK (VALUE >= 0);
    CREATE TABLE orders (
        id bigint PRIMARY KEY, status text, email varchar(40) NOT NULL, total numeric(10, 2), mood mood, fee cents,
        tags text[], notes jsonb, \"Größe\" char(6), secret bytea, at timestamptz, span int4range, code uuid
    );
    INSERT INTO orders VALUES
        (4711, 'paid', 'ada@example.org', 12.50, 'sad', 99, '{geheim}', '{\"pin\": 4242}', 'XXL', '\\xdeadbeef',
         '1815-12-10', '[5,7)', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'),
        (4712, 'open', 'bob@example.org', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
        (4713, NULL, 'eve@example.org', 1, 'happy', 1, '{}', 'null', 'S', '\\x', 'infinity', 'empty', NULL);
    CREATE TABLE audit.log (line text);
";
/// Parts of the values that were not asked for.
const SECRETS: [&str; 13] = [
    "ada", "bob", "eve", "12.5", "sad", "99", "geheim", "4242", "XXL", "deadbeef", "1815", "a0ee", "infinity",
];

fn cluster() -> Cluster {
    let cluster = Cluster::start().unwrap();
    cluster.sql("postgres", "CREATE DATABASE shop").unwrap();
    cluster.script("shop", "CREATE SCHEMA audit").unwrap();
    cluster.script("shop", TABLES).unwrap();
    cluster
}

#[test]
fn samples_of_a_live_table_are_redacted_and_pass_through_the_plugin() {
    let cluster = cluster();
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(plugin("paid_only").unwrap(), folder.path().join("paid_only.wasm")).unwrap();
    let url = cluster.url("shop");
    let rowmill = |arguments: &[&str], code| Host::verb_of(folder.path(), arguments, code).unwrap();
    let to_file = |more: &[&str], code| {
        let record = ["plugin", "record", "public.orders", "--url", &url];
        let out = ["--out", "paid_only.samples/orders.jsonl"];
        rowmill(&[&record, more, &out].concat(), code)
    };

    // A name that isn't there is told with those that are, and nothing is written.
    let (_, told) = to_file(&["--keep", "statsu"], 2);
    assert!(told.contains("statsu") && told.contains("status"), "{told}");

    let (told, _) = to_file(&["--keep", "id", "--keep", "status"], 0);
    assert!(told.contains("3 rows of public.orders; kept id, status"), "{told}");
    let file = folder.path().join("paid_only.samples/orders.jsonl");
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let text = std::fs::read_to_string(&file).unwrap();
    for secret in SECRETS {
        let rows: Vec<&str> = text.lines().skip(1).collect();
        assert!(!rows.concat().contains(secret), "{secret} has left: {text}");
    }
    let row = |at: usize| serde_json::from_str::<serde_json::Value>(text.lines().nth(at).unwrap()).unwrap();
    assert_eq!(row(1)["new"]["id"], "4711");
    assert_eq!(row(1)["new"]["status"], "paid");
    assert_eq!(row(1)["new"]["email"], "email 1");
    assert_eq!(row(1)["new"]["total"], "1.00");
    assert_eq!(
        (&row(1)["new"]["mood"], &row(1)["new"]["fee"]),
        (&"happy".into(), &"1".into())
    );
    assert_eq!(row(1)["new"]["span"], "empty");
    // NULL stays NULL: a plugin has to be tried with it.
    assert!(row(2)["new"]["total"].is_null() && row(3)["new"]["status"].is_null());

    // A file is never written over.
    let (_, told) = to_file(&[], 2);
    assert!(told.contains("E0950"), "{told}");

    // From here on it is a sample as any other.
    let (told, _) = rowmill(&["plugin", "test", "paid_only.wasm", "--bless"], 0);
    assert!(told.contains("blessed") && told.contains("3 changes"), "{told}");
    let expected = std::fs::read_to_string(folder.path().join("paid_only.samples/orders.expected.jsonl")).unwrap();
    assert_eq!(expected.lines().count(), 1);
    assert!(expected.contains("4711"), "{expected}");
    let (told, _) = rowmill(&["plugin", "test", "paid_only.wasm"], 0);
    assert!(told.contains("ok"), "{told}");

    // Without a file it goes to standard output; a condition picks the rows; by default nothing leaves.
    let picked = [
        "plugin",
        "record",
        "orders",
        "--url",
        &url,
        "--where",
        "status = 'open'",
    ];
    let (lines, _) = rowmill(&picked, 0);
    assert_eq!(lines.lines().count(), 2);
    assert!(!lines.contains("4712") && !lines.contains("open"), "{lines}");
    let (_, told) = rowmill(
        &["plugin", "record", "orders", "--url", &url, "--where", "nothing = 1"],
        3,
    );
    assert!(told.contains("nothing"), "{told}");
    let (_, told) = rowmill(&["plugin", "record", "audit.lgo", "--url", &url], 2);
    assert!(told.contains("E0949"), "{told}");
}

#[test]
fn a_module_is_shown_the_tables_of_a_live_database() {
    let cluster = cluster();
    let folder = tempfile::tempdir().unwrap();
    for name in ["paid_only", "mask_pii"] {
        std::fs::copy(plugin(name).unwrap(), folder.path().join(format!("{name}.wasm"))).unwrap();
    }
    let url = cluster.url("shop");
    let tables = |arguments: &[&str]| {
        let inspect = ["plugin", "inspect", "--output", "json"];
        let (json, _) = Host::verb_of(folder.path(), &[&inspect, arguments].concat(), 0).unwrap();
        let value: serde_json::Value = serde_json::from_str(&json).unwrap();
        value["tables"].as_array().cloned().unwrap_or_default()
    };

    let all = tables(&["paid_only.wasm", "--url", &url]);
    let names: Vec<&str> = all.iter().filter_map(|table| table["table"].as_str()).collect();
    assert_eq!(names, ["audit.log", "public.orders"]);
    assert_eq!(
        (&all[0]["action"], &all[1]["action"]),
        (&"refuse".into(), &"use".into())
    );
    assert_eq!(all[1]["reads"], serde_json::json!(["status"]));
    assert_eq!(
        tables(&["paid_only.wasm", "--url", &url, "--table", "audit.*"]).len(),
        1
    );

    // A pipeline says which tables, and with which configuration.
    let pipeline = format!(
        "name: shop\nsource:\n  postgres:\n    url: {url}\n    tables: [public.orders]\nplugins:\n  mask:\n    module: \
         mask_pii.wasm\n    config: {{ columns: [email], method: redact }}\nroutes:\n  - tables: [public.orders]\n    \
         plugins: [mask]\n    sinks: [out]\nsinks:\n  out: discard\n"
    );
    std::fs::write(folder.path().join("pipeline.yaml"), pipeline).unwrap();
    let masked = tables(&["mask_pii.wasm", "--pipeline", "pipeline.yaml"]);
    assert_eq!(masked.len(), 1);
    assert_eq!(masked[0]["writes"], serde_json::json!(["email"]));
}
