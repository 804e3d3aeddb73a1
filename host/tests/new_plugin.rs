//! From nothing to a tested module, as an author goes: new, test, build, test. It compiles the SDK for two targets, so it
//! is run by `cargo xtask nightly`.

use std::path::Path;
use std::process::Command;

/// What an optimised filter and a transform may have, in bytes.
const SIZES_MAX: [(&str, u64); 2] = [("filter", 60 << 10), ("transform", 200 << 10)];

/// Runs a command to its good end; its output otherwise.
fn run(command: &mut Command, shared: &Path) -> String {
    let output = command.env("CARGO_TARGET_DIR", shared).output().expect("it starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert!(
        output.status.success(),
        "{command:?}: {}\n{stdout}\n{stderr}",
        output.status
    );
    stdout
}

#[test]
#[ignore = "compiles the SDK for two targets"]
fn a_new_plugin_is_tested_built_and_tested_as_a_module() {
    let base = tempfile::tempdir().expect("a folder");
    let shared = base.path().join("target");
    let rowmill = || Command::new(env!("CARGO_BIN_EXE_rowmill"));
    for (kind, size_max) in SIZES_MAX {
        let folder = base.path().join(format!("my-{kind}"));
        let crate_name = format!("my_{kind}");
        run(rowmill().args(["plugin", "new", "--kind", kind]).arg(&folder), &shared);

        // Natively, against the stand-in for the host.
        let tested = run(Command::new("cargo").arg("test").current_dir(&folder), &shared);
        assert!(
            tested.contains("test result: ok. 1 passed") || tested.contains("passed; 0 failed"),
            "{tested}"
        );

        let out = base.path().join(format!("{crate_name}.wasm"));
        let build = ["--output", "json", "plugin", "build", "--out"];
        let built = run(rowmill().args(build).arg(&out).arg(&folder), &shared);
        let built: serde_json::Value = serde_json::from_str(&built).expect("it is JSON");
        let size = built["size_bytes"].as_u64().expect("a number");
        assert!((1_000..=size_max).contains(&size), "{kind}: {built}");

        // The module itself, in the host itself, with the samples of the crate and under the ABI's own suite.
        let tested = run(rowmill().args(["plugin", "test"]).arg(&folder), &shared);
        assert!(tested.starts_with("ok "), "{tested}");
        run(rowmill().args(["plugin", "conform"]).arg(&out), &shared);

        // And it is the plugin that is tested: another expectation isn't met.
        let expected = folder.join(format!("{crate_name}.samples/first.expected.jsonl"));
        std::fs::write(&expected, "").expect("a file");
        let failed = rowmill()
            .args(["plugin", "test"])
            .arg(&folder)
            .env("CARGO_TARGET_DIR", &shared)
            .output()
            .expect("it starts");
        assert_eq!(failed.status.code(), Some(5));
    }
}
