//! The verbs for authors of plugins, through the binary and with real modules (`cargo xtask plugins` builds them).

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const SAMPLES: &str = r#"{"schema":"public","table":"orders","replica_identity":"full","columns":[{"name":"id","type":"bigint","key":true},{"name":"status","type":"text"}]}
{"op":"insert","new":{"id":"1","status":"paid"}}
{"op":"insert","new":{"id":"2","status":"open"}}
{"op":"update","new":{"id":"1","status":"open"},"old":{"id":"1","status":"paid"}}
"#;

fn rowmill(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_rowmill"))
        .args(arguments)
        .output()
        .expect("the binary starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("it is text")
}

/// A module of the repository in a folder of its own, with samples beside it.
fn with_samples(folder: &Path, plugin: &str) -> PathBuf {
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../plugins/{plugin}.wasm"));
    let module = folder.join(format!("{plugin}.wasm"));
    std::fs::copy(&built, &module).expect("cargo xtask plugins has built it");
    let samples = folder.join(format!("{plugin}.samples"));
    std::fs::create_dir(&samples).expect("a folder");
    std::fs::write(samples.join("orders.jsonl"), SAMPLES).expect("a file");
    module
}

#[test]
fn samples_are_blessed_once_and_a_difference_ends_with_five() {
    let folder = tempfile::tempdir().expect("a folder");
    let module = with_samples(folder.path(), "paid_only");
    let module = module.to_str().expect("a path");
    let run = |more: &[&str]| rowmill(&[&["plugin", "test", module], more].concat());

    let unblessed = run(&[]);
    assert_eq!(unblessed.status.code(), Some(5), "{}", text(&unblessed.stderr));
    assert_eq!(run(&["--bless"]).status.code(), Some(0));
    let expected = folder.path().join("paid_only.samples/orders.expected.jsonl");
    let blessed = std::fs::read_to_string(&expected).expect("it was written");
    assert_eq!(
        blessed.lines().collect::<Vec<_>>(),
        [
            r#"{"op":"insert","new":{"id":"1","status":"paid"},"table":"public.orders"}"#,
            r#"{"op":"delete","old":{"id":"1","status":"paid"},"table":"public.orders"}"#,
        ]
    );
    let passed = run(&[]);
    assert_eq!(passed.status.code(), Some(0), "{}", text(&passed.stdout));

    std::fs::write(&expected, blessed.replace("insert", "read")).expect("a file");
    let differs = run(&["--output", "json"]);
    assert_eq!(differs.status.code(), Some(5));
    let value: serde_json::Value = serde_json::from_slice(&differs.stdout).expect("it is JSON");
    assert_eq!(value["files"][0]["verdict"], "differs");
}

#[test]
fn fuel_is_the_same_on_every_run() {
    let folder = tempfile::tempdir().expect("a folder");
    let module = with_samples(folder.path(), "paid_only");
    let run = || {
        let output = rowmill(&[
            "plugin",
            "test",
            module.to_str().expect("a path"),
            "--bless",
            "--output",
            "json",
        ]);
        let value: serde_json::Value = serde_json::from_slice(&output.stdout).expect("it is JSON");
        value["files"][0]["fuel_per_change"].as_u64().expect("a number")
    };
    let first = run();
    assert!(first > 0);
    assert_eq!(first, run());
}

#[test]
fn a_module_is_inspected_and_shown_a_table() {
    let folder = tempfile::tempdir().expect("a folder");
    let module = with_samples(folder.path(), "paid_only");
    let samples = folder.path().join("paid_only.samples/orders.jsonl");
    let (module, samples) = (module.to_str().expect("a path"), samples.to_str().expect("a path"));
    let output = rowmill(&["plugin", "inspect", module, "--schema", samples, "--output", "json"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).expect("it is JSON");
    assert_eq!(value["kind"], "filter");
    assert_eq!(value["abi"], "1.0");
    assert_eq!(value["tables"][0]["reads"], serde_json::json!(["status"]));
}

#[test]
fn a_row_of_the_samples_is_measured_part_by_part() {
    let folder = tempfile::tempdir().expect("a folder");
    let module = with_samples(folder.path(), "paid_only");
    let module = module.to_str().expect("a path");
    let output = rowmill(&["plugin", "bench", module, "--rows", "100", "--output", "json"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).expect("it is JSON");
    let ns = |part: &str| value["ns_per_row"][part].as_f64().expect("a number");
    let parts = ["encode", "call", "reply", "rest"].map(ns);
    assert!(parts.iter().all(|part| *part > 0.0), "{value}");
    let sum: f64 = parts.iter().sum();
    assert!((sum - ns("median")).abs() < 1.0, "{value}");
    assert_eq!((&value["rows"], &value["calls_per_batch"]), (&100.into(), &1.into()));
    // `paid` and `open` are five bytes each, in a row of four elements.
    let bytes = value["in_bytes_per_row"].as_f64().expect("a number");
    assert!((5.0..50.0).contains(&bytes), "{value}");
    assert_eq!(value["columns"][0]["reads"], serde_json::json!(["status"]));
}

/// What the plugins that want a configuration are tried with.
fn config_of(plugin: &str) -> Option<&'static str> {
    match plugin {
        "mask_pii" => Some(r#"{"columns":["email","phone"],"salt":"0123456789abcdef"}"#),
        "add_columns" => Some(r#"{"columns":{"origin":"shop","label":"{status} ({id})"}}"#),
        "dedupe_window" => Some(r#"{"columns":["id"],"window_seconds":3600}"#),
        "running_total" => Some(r#"{"amount":"total","total":"note","group":"customer_id"}"#),
        "rename_columns" => Some(r#"{"columns":{"email":"mail","phone":"tel"}}"#),
        _ if plugin.starts_with("mask_email_") => Some(r#"{"column":"email"}"#),
        _ => None,
    }
}

fn conforms(plugin: &str) {
    let folder = tempfile::tempdir().expect("a folder");
    let module = with_samples(folder.path(), plugin);
    let config = folder.path().join("config.json");
    let mut arguments = vec!["plugin", "conform", module.to_str().expect("a path")];
    if let Some(text) = config_of(plugin) {
        std::fs::write(&config, text).expect("a file");
        arguments.extend(["--config", config.to_str().expect("a path")]);
    }
    let output = rowmill(&arguments);
    let shown = format!("{plugin}: {}{}", text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{shown}");
}

#[test]
fn all_plugins_in_rust_conform() {
    let plugins = Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugins");
    let mut tried = 0;
    for entry in std::fs::read_dir(plugins).expect("a folder") {
        let folder = entry.expect("an entry").path();
        if folder.join("Cargo.toml").is_file() {
            conforms(&folder.file_name().expect("a name").to_string_lossy());
            tried += 1;
        }
    }
    assert!(tried >= 5);
}

#[test]
fn plugins_in_c_conform() {
    conform_in("c");
}

#[test]
fn plugins_in_assemblyscript_conform() {
    conform_in("as");
}

#[test]
fn plugins_in_go_conform() {
    conform_in("go");
}

fn conform_in(language: &str) {
    for plugin in ["paid_only", "mask_email"].map(|plugin| format!("{plugin}_{language}")) {
        match rowmill_tests::plugin(&plugin) {
            Ok(_) => conforms(&plugin),
            Err(_) => println!("skipped: plugins/{plugin}.wasm isn't there: `cargo xtask plugins --all` builds it"),
        }
    }
}

#[test]
fn the_samples_of_a_new_crate_pass_at_once() {
    // The repository's paid_only does what the template of a filter does, so nothing need be compiled here.
    let base = tempfile::tempdir().expect("a folder");
    let folder = base.path().join("paid_only");
    let made = rowmill(&["plugin", "new", folder.to_str().expect("a path")]);
    assert_eq!(made.status.code(), Some(0), "{}", text(&made.stderr));

    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugins/paid_only.wasm");
    let module = folder.join("paid_only.wasm");
    std::fs::copy(&built, &module).expect("cargo xtask plugins has built it");
    let passed = rowmill(&["plugin", "test", module.to_str().expect("a path")]);
    assert_eq!(passed.status.code(), Some(0), "{}", text(&passed.stdout));
}
