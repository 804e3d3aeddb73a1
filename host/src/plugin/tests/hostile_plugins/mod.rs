//! The plugins of plugins/hostile/, and others that are made here since they are large: for each, the host survives,
//! says what was wrong, in time, and no other row suffers.
//!
//! | where | what |
//! | --- | --- |
//! | `refused` | modules that are never taken up |
//! | `large` | modules whose size is the attack |
//! | `start` | what breaks before the first row |
//! | `batch` | what breaks, or misbehaves within its rights, at a row |
//! | `replies` | replies that are not what the ABI says |

mod batch;
mod large;
mod refused;
mod replies;
mod start;

use super::*;
use crate::config::Policies;
use crate::plugin::{AsideCause, Fault, FaultKind, Processed};
use crate::problem::Problem;
use std::path::Path;
use std::time::{Duration as Time, Instant};

/// By when a fault is told. The limit is 100 ms of CPU time, and ten times that by the clock on the wall; the rest is
/// for a machine that is busy.
pub(super) const TOLD_WITHIN: Time = Time::from_secs(5);

fn read(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../plugins/hostile")
        .join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The honest module with the fields of a hostile one in place of its own.
fn with_fields(fields: &str) -> String {
    let honest = read("honest.wat");
    let stands = |field: &&str| {
        let told = field
            .split_once("(export \"")
            .and_then(|(_, name)| name.split('"').next())
            .map(|name| format!("(export \"{name}\""))
            .or_else(|| {
                field
                    .starts_with("(func $")
                    .then(|| field.split(' ').take(2).collect::<Vec<_>>().join(" "))
            });
        told.is_none_or(|told| !fields.contains(&told))
    };
    let kept: Vec<&str> = honest.split("\n\n").filter(stands).collect();
    format!("(module\n{fields}\n{}\n)", kept.join("\n"))
}

fn module(name: &str) -> Vec<u8> {
    wat::parse_str(with_fields(&read(&format!("{name}.wat")))).unwrap()
}

fn version(bytes: &[u8]) -> Result<PluginVersion, PluginError> {
    let limits = limits();
    Ok(PluginVersion {
        name: "hostile".to_owned(),
        module: ENGINE.load(bytes, &limits)?,
        config: serde_json::Value::Null,
        limits,
        policies: STOP,
    })
}

fn chain(bytes: &[u8]) -> Result<Chain, PluginError> {
    Chain::new(&ENGINE, &[version(bytes)?], FilterMode::Membership, Mode::Live)
}

/// Five rows, the third of which the hostile plugins take for a sign.
fn rows(batch: &mut Batch) -> Vec<Row> {
    let emails = ["a", "b", "evil", "d", "e"];
    let row = |(at, email): (usize, &&str)| Row {
        ordinal: at as u64,
        ..row(batch, Op::Insert, None, Some(&["1", email]))
    };
    emails.iter().enumerate().map(row).collect()
}

const ALL_ROWS: [&str; 5] = ["insert 1 a", "insert 1 b", "insert 1 evil", "insert 1 d", "insert 1 e"];

/// What became of five rows in a module, by when.
fn sent_through(chain: &mut Chain) -> (Result<(), PluginError>, Vec<String>) {
    let mut batch = batch(&people());
    let mut rows = rows(&mut batch);
    let started = Instant::now();
    let processed = chain.process(&mut batch, &mut rows, &mut Processed::default());
    assert!(started.elapsed() < TOLD_WITHIN, "{:?}", started.elapsed());
    (processed, shown(&batch, &rows))
}

/// The rows break it; and all of them, the one that did it too, are as they were.
fn breaks_at_a_row(bytes: &[u8], kind: FaultKind, told: &str) -> Fault {
    let (processed, left) = sent_through(&mut chain(bytes).unwrap());
    let Err(PluginError::Fault(fault)) = processed else {
        panic!("{processed:?}");
    };
    assert_eq!(left, ALL_ROWS);
    is_told(&fault, kind, told);
    others_go_on();
    costs_no_more_than_its_rows(bytes, kind);
    *fault
}

/// Isolated, it costs the third row alone, or every row where it breaks on every row.
fn costs_no_more_than_its_rows(bytes: &[u8], kind: FaultKind) {
    let isolated = PluginVersion {
        policies: Policies {
            max_faults: u32::MAX,
            ..Policies::default()
        },
        ..version(bytes).unwrap()
    };
    let mut chain = Chain::new(&ENGINE, &[isolated], FilterMode::Membership, Mode::Live).unwrap();
    let mut batch = batch(&people());
    let mut rows = rows(&mut batch);
    let mut processed = Processed::default();
    chain.process(&mut batch, &mut rows, &mut processed).unwrap();
    for aside in &processed.aside {
        let AsideCause::Fault(fault) = &aside.cause else {
            panic!("{:?}", aside.cause);
        };
        // A prepared reply for five rows is none for one.
        assert!([kind, FaultKind::BadReply].contains(&fault.kind), "{:?}", fault.kind);
    }
    let aside: Vec<u64> = processed.aside.iter().map(|aside| aside.row.ordinal).collect();
    match aside[..] {
        [2] => assert_eq!(
            shown(&batch, &rows),
            ["insert 1 a", "insert 1 b", "insert 1 d", "insert 1 e"]
        ),
        _ => assert_eq!((aside, rows.len()), (vec![0, 1, 2, 3, 4], 0)),
    }
}

fn breaks_at_start(bytes: &[u8], kind: FaultKind, told: &str) {
    let version = version(bytes).unwrap();
    let started = Instant::now();
    let error = Chain::new(&ENGINE, &[version], FilterMode::Membership, Mode::Live).unwrap_err();
    assert!(started.elapsed() < TOLD_WITHIN, "{:?}", started.elapsed());
    let PluginError::Fault(fault) = error else {
        panic!("{error:?}");
    };
    is_told(&fault, kind, told);
    others_go_on();
}

/// The problem has the code of a fault, names plugin and kind, and its cause says what happened.
fn is_told(fault: &Fault, kind: FaultKind, told: &str) {
    let problem = PluginError::Fault(Box::new(fault.clone())).problem();
    let cause = problem.cause.clone().unwrap_or_default();
    assert_eq!((problem.code, fault.kind), ("E0310", kind), "{cause}");
    assert!(cause.contains(told), "{cause}");
    let headline = format!("plugin hostile ({}) {kind}", fault.hash);
    assert_eq!(problem.headline, headline);
    assert!(cause.len() < 32 * 1024, "{} bytes", cause.len());
    assert!(
        !cause
            .chars()
            .any(|character| character.is_control() && character != '\n')
    );
}

/// Rows that do it no harm, and a chain that goes on.
fn behaves(bytes: &[u8]) -> Chain {
    let mut chain = chain(bytes).unwrap();
    for _ in 0..2 {
        let (processed, left) = sent_through(&mut chain);
        processed.unwrap();
        assert_eq!(left, ALL_ROWS);
    }
    chain
}

/// Refused before any of its code runs.
fn refusal(bytes: &[u8], limits: &Limits) -> Problem {
    let started = Instant::now();
    let error = ENGINE.load(bytes, limits).unwrap_err();
    assert!(started.elapsed() < TOLD_WITHIN, "{:?}", started.elapsed());
    let PluginError::Refused(problem) = error else {
        panic!("{error:?}");
    };
    others_go_on();
    *problem
}

fn is_refused(bytes: &[u8], code: &str, told: &str) {
    let problem = refusal(bytes, &limits());
    let text = format!("{} {}", problem.headline, problem.cause.clone().unwrap_or_default());
    assert_eq!(problem.code, code, "{text}");
    assert!(text.contains(told), "{text}");
    assert!(text.len() < 8 * 1024 && !problem.help.is_empty());
}

/// Another plugin of the same engine, after what the hostile one has done.
fn others_go_on() {
    let mut honest = chain(&wat::parse_str(with_fields("")).unwrap()).unwrap();
    let (processed, left) = sent_through(&mut honest);
    processed.unwrap();
    assert_eq!(left, ALL_ROWS);
}

#[test]
fn the_honest_module_behaves() {
    behaves(&wat::parse_str(with_fields("")).unwrap());
}

/// Each file has its test, and its line in the README.
#[test]
fn x12_no_hostile_plugin_is_forgotten() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugins/hostile");
    let tests = [
        include_str!("batch.rs"),
        include_str!("refused.rs"),
        include_str!("start.rs"),
    ]
    .concat();
    let readme = read("README.md");
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        if path.extension().is_some_and(|extension| extension == "wat") && name != "honest" {
            assert!(tests.contains(name), "{name} has no test");
            assert!(readme.contains(&format!("`{name}.wat`")), "{name} is not in the README");
        }
    }
}
