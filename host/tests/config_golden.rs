//! Every kind of mistake in a pipeline's file, beside the text that people get to see.
//!
//! `ROWMILL_BLESS=1 cargo nextest run -p rowmill golden` writes the texts anew: read the difference.

use rowmill::config::{self, OnError, OnFault, OnNewColumn, SinkKind, SnapshotMode};
use rowmill::problem::{Style, render_all};
use std::path::{Path, PathBuf};

const PASSWORD: &str = "hunter2";
const HEADLINE_CHARS: usize = 80 + "error[E0000]: ".len();

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/config")
}

/// A source's url is set and no other variable, whatever the machine has.
fn variables(name: &str) -> Option<String> {
    (name == "ROWMILL_GOLDEN_URL").then(|| "postgres://app@db/shop".to_owned())
}

fn report(name: &str) -> String {
    expose_secret();
    let path = folder().join(format!("{name}.yaml"));
    let result = match std::fs::read_to_string(&path) {
        Ok(text) => config::load_text(&path, &text, &variables),
        Err(_) => config::load(&path),
    };
    let problems = result.expect_err("the file has mistakes");
    let text = render_all(&problems, Style::PLAIN);
    let resolved = folder().canonicalize().expect("the folder is there");
    let above = resolved.ancestors().nth(2).expect("it lies two folders down");
    text.replace(&format!("{}/", folder().display()), "")
        .replace(&format!("{}/", resolved.display()), "/pipelines/")
        .replace(&format!("{}/", above.display()), "/")
}

fn check(name: &str) {
    let found = report(name);
    assert!(!found.contains(PASSWORD), "{found}");
    for line in found.lines().filter(|line| line.starts_with("error[")) {
        assert!(line.chars().count() <= HEADLINE_CHARS, "{line}");
    }
    let path = folder().join(format!("{name}.stderr"));
    if std::env::var_os("ROWMILL_BLESS").is_some() {
        std::fs::write(&path, &found).expect("the text is written");
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(found, expected, "ROWMILL_BLESS=1 takes it as it is");
}

macro_rules! golden {
    ($($name:ident)*) => {
        $(#[test] fn $name() { check(stringify!($name)); })*
    };
}

/// The mode that a checkout gives it depends on the machine.
fn expose_secret() {
    use std::os::unix::fs::PermissionsExt;
    let secret = folder().join("exposed_secret.txt");
    std::fs::set_permissions(secret, std::fs::Permissions::from_mode(0o644)).expect("it is ours");
}

golden! {
    c1_file_missing
    c2_syntax
    c3_unknown_key
    c4_missing_key
    c5_wrong_type
    c6_name_twice
    c7_unknown_name
    c8_variable
    c9_range
    c10_path
    c11_contradiction
    c12_secret
    c13_idle_key
}

#[test]
fn a_good_file_has_its_defaults_and_shows_no_secret() {
    let text = "
name: shop
source: { postgres: { url: 'postgres://app:${PW}@db/shop', tables: [public.*] } }
plugins: { mask: { module: plugins/mask.wasm, config: { salt: '${PW}', keep: 4, on: true } } }
routes:
  - { tables: [public.orders], plugins: [mask], sinks: [out, target] }
  - { tables: [public.items], sinks: [out] }
sinks: { out: stdout, target: { postgres: { url: '${PW}' } } }
console: off
";
    let variables = |name: &str| (name == "PW").then(|| PASSWORD.to_owned());
    let pipeline = config::load_text(&folder().join("good.yaml"), text, &variables).expect("nothing is wrong");
    assert_eq!(pipeline.source.url.reveal(), "postgres://app:hunter2@db/shop");
    assert_eq!(pipeline.slot_name(), "rowmill_shop");
    assert_eq!(pipeline.source.snapshot.mode, SnapshotMode::Initial);
    assert_eq!(pipeline.source.snapshot.unit_rows, 80_000);
    assert_eq!(
        pipeline.plugins[0].config,
        serde_json::json!({"salt": PASSWORD, "keep": 4, "on": true})
    );
    assert_eq!(pipeline.plugins[0].limits.memory, config::ByteSize::mib(64));
    assert_eq!(pipeline.routes[0].on_new_column, OnNewColumn::Drop);
    assert_eq!(pipeline.routes[1].on_new_column, OnNewColumn::Pass);
    assert!(matches!(pipeline.sinks[0].kind, SinkKind::Stdout));
    assert_eq!(pipeline.console.listen, None);
    assert_eq!(pipeline.state_dir, folder().join(".rowmill/shop"));
    let debug = format!("{pipeline:?} {pipeline:#?}");
    assert!(!debug.contains(PASSWORD), "{debug}");
}

/// A mirror that lacks a change is none: only what the file says may be left out there.
#[test]
fn a_plugin_on_the_way_into_a_mirror_stops_unless_the_file_says_otherwise() {
    let text = "
name: shop
source: { postgres: { url: 'postgres://db/shop', tables: [public.*] } }
plugins:
  mask: { module: plugins/mask.wasm }
  told: { module: plugins/mask.wasm, on_error: dead_letter, on_fault: isolate }
  other: { module: plugins/mask.wasm }
routes:
  - { tables: [public.orders], plugins: [mask, told], sinks: [out, mirror] }
  - { tables: [public.items], plugins: [other], sinks: [out, upserted] }
sinks:
  out: discard
  mirror: { postgres: { url: 'postgres://db/mirror', mode: mirror } }
  upserted: { postgres: { url: 'postgres://db/upserted' } }
";
    let pipeline = config::load_text(&folder().join("mirror.yaml"), text, &|_| None).expect("nothing is wrong");
    let policies = pipeline
        .plugins
        .iter()
        .map(|plugin| (plugin.policies.on_error, plugin.policies.on_fault));
    let expected = [
        (OnError::Stop, OnFault::Stop),
        (OnError::DeadLetter, OnFault::Isolate),
        (OnError::DeadLetter, OnFault::Isolate),
    ];
    assert_eq!(policies.collect::<Vec<_>>(), expected);
}

#[test]
fn two_files_may_not_share_a_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let text = "
name: shop
source: { postgres: { url: 'postgres://db/shop', tables: [public.orders] } }
routes: [{ tables: [public.orders], sinks: [out] }]
sinks: { out: discard }
";
    let paths = [folder.path().join("a.yaml"), folder.path().join("b.yaml")];
    for path in &paths {
        std::fs::write(path, text).expect("a file");
    }
    assert_eq!(config::load_all(&paths[..1]).expect("one is fine").len(), 1);
    let problems = config::load_all(&paths).expect_err("two are not");
    assert_eq!(problems[0].code, "E0111");
}
