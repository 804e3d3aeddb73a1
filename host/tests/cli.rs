//! The binary as people meet it: texts, exit codes, closed outputs.

use std::path::Path;
use std::process::{Command, Output, Stdio};

const PASSWORD: &str = "hunter2";

fn rowmill(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_rowmill"))
        .args(arguments)
        .current_dir(folder)
        .env_clear()
        .env("GOLDEN_PASSWORD", PASSWORD)
        .stdin(Stdio::null())
        .output()
        .expect("the binary starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("it is text")
}

#[test]
fn c1_a_missing_file_ends_with_two_and_its_fix() {
    let folder = tempfile::tempdir().expect("a folder");
    let output = rowmill(folder.path(), &["run"]);
    assert_eq!(output.status.code(), Some(2));
    let error = text(&output.stderr);
    assert!(
        error.starts_with("error[E0101]: pipeline file `pipeline.yaml` can't be read"),
        "{error}"
    );
    assert!(error.contains("  help:  "), "{error}");
    assert!(!error.contains('\x1b'), "no colour off a terminal: {error}");
    assert!(output.stdout.is_empty());
}

#[test]
fn errors_come_as_json_where_asked_for() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("pipeline.yaml"), "name: Shop\nsinks: {}\n").expect("a file");
    let output = rowmill(folder.path(), &["check", "--output", "json"]);
    assert_eq!(output.status.code(), Some(2));
    let errors: serde_json::Value = serde_json::from_slice(&output.stderr).expect("it is JSON");
    let codes: Vec<_> = errors["errors"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|error| &error["code"])
        .collect();
    assert_eq!(codes, ["E0104", "E0104", "E0109"]);
}

#[test]
fn x1_a_file_is_checked_without_a_server_and_no_secret_is_shown() {
    let folder = tempfile::tempdir().expect("a folder");
    let pipeline = "
name: shop
source: { postgres: { url: 'postgres://app:${GOLDEN_PASSWORD}@db.invalid/shop', tables: [public.orders] } }
routes: [{ tables: [public.orders], sinks: [out] }]
sinks: { out: stdout }
";
    std::fs::write(folder.path().join("pipeline.yaml"), pipeline).expect("a file");
    let output = rowmill(folder.path(), &["check", "--offline", "--log", "trace"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout), "pipeline.yaml: nothing is wrong with the file\n");
    let all = text(&output.stdout) + &text(&output.stderr);
    assert!(!all.contains(PASSWORD), "{all}");
}

#[test]
fn the_example_of_the_repository_is_well_formed() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::copy(root.join("pipeline.yaml"), folder.path().join("pipeline.yaml")).expect("it is there");
    std::fs::create_dir(folder.path().join("plugins")).expect("a folder");
    for plugin in ["paid_only", "mask_pii"] {
        std::fs::write(folder.path().join(format!("plugins/{plugin}.wasm")), b"\0asm").expect("a module");
    }
    let output = Command::new(env!("CARGO_BIN_EXE_rowmill"))
        .args(["check", "--offline"])
        .current_dir(folder.path())
        .env("DATABASE_URL", "postgres://localhost/shop")
        .env("WAREHOUSE_URL", "postgres://localhost/warehouse")
        .output()
        .expect("the binary starts");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
}

#[test]
fn a_closed_output_is_a_quiet_end() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_rowmill"))
        .arg("schema")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("it ends");
    assert_eq!((output.status.code(), text(&output.stderr).as_str()), (Some(0), ""));
}

#[test]
fn the_schema_is_json_and_usage_errors_end_with_two() {
    let folder = tempfile::tempdir().expect("a folder");
    let output = rowmill(folder.path(), &["schema"]);
    let schema: serde_json::Value = serde_json::from_slice(&output.stdout).expect("it is JSON");
    assert_eq!(schema["properties"]["name"]["type"], "string");
    assert_eq!(rowmill(folder.path(), &["fly"]).status.code(), Some(2));
    assert_eq!(
        rowmill(folder.path(), &["run", "--log", "a=b=c"]).status.code(),
        Some(2)
    );
    let version = text(&rowmill(folder.path(), &["--version"]).stdout);
    assert!(version.contains("wasmtime 48"), "{version}");
}
