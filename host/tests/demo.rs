//! The demo as people start it: it ends by itself, has shown something, and leaves nothing behind.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

const MODULES: [&str; 3] = ["mask_pii.wasm", "paid_only.wasm", "paid_or_shipped.wasm"];

#[test]
fn the_demo_ends_with_a_verified_summary_and_leaves_nothing() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let built = |name: &&str| root.join("plugins").join(name).exists();
    if !MODULES.iter().all(built) {
        eprintln!("skipped: plugins/*.wasm aren't built, `cargo xtask plugins` builds them");
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let (checkout, temporary) = (folder.path().join("checkout"), folder.path().join("tmp"));
    std::fs::create_dir_all(checkout.join("plugins")).expect("a folder");
    std::fs::create_dir(&temporary).expect("a folder");
    // The server's user has to get through.
    std::fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).expect("it is ours");
    std::fs::copy(root.join("pipeline.yaml"), checkout.join("pipeline.yaml")).expect("it is there");
    for name in MODULES {
        let copy = checkout.join("plugins").join(name);
        std::fs::copy(root.join("plugins").join(name), copy).expect("it is there");
    }

    let output = Command::new(env!("CARGO_BIN_EXE_rowmill"))
        .args(["demo", "--seconds", "8", "--output", "json"])
        .current_dir(&checkout)
        .env("TMPDIR", &temporary)
        .stdin(Stdio::null())
        .output()
        .expect("the binary starts");

    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{errors}");
    let summary: serde_json::Value = serde_json::from_slice(&output.stdout).expect("it is JSON");
    for number in ["rows_in", "rows_streamed", "rows_out", "rows_kept_back", "rows_masked"] {
        assert!(summary[number].as_u64() > Some(0), "{number}: {summary}");
    }
    assert_eq!(
        summary["rows_copied"].as_u64().map(|rows| rows >= 11_000),
        Some(true),
        "{summary}"
    );
    assert_eq!(summary["reloads"], 1, "{summary}");
    assert!(summary["warehouse_verified"]["orders"].as_u64() > Some(0), "{summary}");

    let left = |path: &Path| std::fs::read_dir(path).expect("it is there").count();
    assert_eq!(left(&temporary), 0, "its folder is gone");
    assert_eq!(left(&checkout), 2, "nothing is left beside pipeline.yaml and plugins");
    let processes = Command::new("ps").args(["-eo", "args"]).output().expect("ps is there");
    let processes = String::from_utf8_lossy(&processes.stdout);
    let temporary = temporary.display().to_string();
    assert!(!processes.lines().any(|line| line.contains(&temporary)), "{processes}");
}
