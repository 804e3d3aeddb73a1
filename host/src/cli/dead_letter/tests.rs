//! What people and programs see of letters, with and without a host.

use super::super::Format;
use super::*;
use crate::batch::{Part, Row, Value as Cell};
use crate::console::{Console, Readiness, Status, Tail};
use crate::dead_letter::{Aside, Cause, PluginName};
use crate::sink::testing::{Builder, orders, text};
use clap::Parser;
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, Mutex};

const PIPELINE: &str = "
name: shop
source: { postgres: { url: 'postgres://app@db.invalid/shop', tables: [public.orders] } }
routes: [{ tables: [public.orders], sinks: [out] }]
sinks: { out: discard }
";

#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("nobody panicked").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[derive(Debug, Parser)]
struct Line {
    #[command(subcommand)]
    verb: Verb,
}

/// Runs `rowmill dead-letter ARGUMENTS --file ...`.
fn rowmill(folder: &Path, format: Format, arguments: &str) -> Result<String, Problem> {
    let file = folder.join("pipeline.yaml");
    let arguments = ["dead-letter"].into_iter().chain(arguments.split_whitespace());
    let arguments = arguments
        .map(Into::into)
        .chain(["--file".into(), file.into_os_string()]);
    let line = Line::try_parse_from(arguments).expect("the arguments are right");
    let written = Written::default();
    match run(line.verb, Output::new(format, Box::new(written.clone()))) {
        Ok(_) => Ok(String::from_utf8(written.0.lock().expect("nobody panicked").clone()).expect("it is text")),
        Err(Failure::Problems(problems)) => Err(problems[0].clone()),
        Err(Failure::OutputClosed) => panic!("it is open"),
    }
}

/// A rejected insert, an update that waits behind it, and a trap.
fn filled() -> (tempfile::TempDir, DeadLetters) {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("pipeline.yaml"), PIPELINE).expect("a file");
    let pipeline = config::load(&folder.path().join("pipeline.yaml")).expect("it is right");
    let letters = DeadLetters::open(&pipeline.state_dir, "shop", &pipeline.dead_letters).expect("it opens");
    let relation = orders();
    let row = |id| [text(id), text("Ada\u{1b}[0m"), Cell::Null];
    let batch = Builder::new()
        .transaction(0x16B_3748, Part::Whole)
        .insert(&relation, &row("1"))
        .update(&relation, &[text("1"), Cell::Unchanged, text("9.50")], None)
        .insert(&relation, &row("2"))
        .delivery(1);
    let aside = |row: &Row, kind: &str, panic: Option<&str>| Aside {
        row: *row,
        cause: Cause {
            kind: kind.into(),
            code: panic.is_none().then(|| "no_total".into()),
            message: "no total".into(),
            panic: panic.map(Into::into),
            backtrace: panic.map(|_| "mask::row\nmask::batch".into()),
        },
        plugin: PluginName {
            name: "mask".into(),
            version: Some("1.2.0".into()),
            hash: "9f86d081884c".into(),
        },
    };
    let asides = vec![
        aside(&batch.rows[0], "rejected", None),
        aside(&batch.rows[2], "trap", Some("index out of bounds, src/lib.rs:7")),
    ];
    let route = letters.route("public.orders");
    let held = letters.set_aside(
        route,
        &batch.batch,
        &batch.rows,
        asides,
        &crate::dead_letter::Held::default(),
    );
    assert_eq!(held.expect("there is room").len(), 3);
    (folder, letters)
}

#[test]
fn a_list_names_tables_and_reasons_and_no_values() {
    let (folder, _letters) = filled();
    let list = rowmill(folder.path(), Format::Text, "list").expect("it lists");
    let expected = "     1  public.orders insert at 0/16B3748: rejected no_total: no total (plugin mask)
     2  public.orders update at 0/16B3748: waits behind letter 1
     3  public.orders insert at 0/16B3748: trap: no total (plugin mask)
3 dead letters
";
    assert_eq!(list, expected);
    let none = rowmill(folder.path(), Format::Text, "list --table public.other").expect("it lists");
    assert_eq!(none, "no dead letters\n");
    let of_plugin = rowmill(folder.path(), Format::Json, "list --plugin mask").expect("it lists");
    assert!(!of_plugin.contains("Ada"), "{of_plugin}");
    let of_plugin: Value = serde_json::from_str(&of_plugin).expect("it is JSON");
    let letters = of_plugin["letters"].as_array().expect("a list");
    let numbers: Vec<_> = letters.iter().map(|letter| &letter["letter"]).collect();
    assert_eq!(numbers, [1, 3]);
    assert_eq!(letters[0]["key"], json!(["id"]));
    assert_eq!(letters[1]["cause"]["panic"], "index out of bounds, src/lib.rs:7");
}

#[test]
fn values_are_shown_only_where_asked_for() {
    let (folder, _letters) = filled();
    let shown = rowmill(folder.path(), Format::Text, "show 3").expect("it is there");
    let lines: Vec<&str> = shown.lines().filter(|line| !line.starts_with("set aside")).collect();
    let expected = "letter: 3
route: public.orders
table: public.orders
key: id
op: insert
position: 0/16B3748
ordinal: 2
xid: 741
commit time: 2026-01-02T03:04:05.678901Z
cause
  kind: trap
  message: no total
  panic: index out of bounds, src/lib.rs:7
  backtrace: mask::row
      mask::batch
plugin
  name: mask
  version: 1.2.0
  hash: 9f86d081884c
new
  id: 1 bytes
  name: 7 bytes
  total: NULL";
    assert_eq!(lines.join("\n"), expected);
    let shown = rowmill(folder.path(), Format::Text, "show 3 --values").expect("it is there");
    assert!(shown.contains("name: Ada\\x1b[0m\n"), "{shown}");
    let shown = rowmill(folder.path(), Format::Json, "show 2 --values").expect("it is there");
    let shown: Value = serde_json::from_str(&shown).expect("it is JSON");
    assert_eq!(
        shown["new"],
        json!({ "id": "1", "name": { "unchanged": true }, "total": "9.50" })
    );
    assert_eq!((&shown["behind"], &shown["cause"]), (&json!(1), &Value::Null));
    let missing = rowmill(folder.path(), Format::Text, "show 9").expect_err("it isn't there");
    assert_eq!(missing.code, "E0806");
}

#[test]
fn without_a_host_it_is_done_at_once_or_at_the_next_start() {
    let (folder, letters) = filled();
    drop(letters);
    let said = |arguments: &str| rowmill(folder.path(), Format::Text, arguments).expect("it is done");
    let dropped = "dropped letter 1
warning: 1 other letters of the key of 1 stay set aside; replay or drop them too
";
    assert_eq!(said("drop 1"), dropped);
    assert_eq!(said("replay 2"), "letter 2 will be sent again\n");
    assert!(said("list").contains("waits behind letter 1, replay requested\n"));
    assert_eq!(said("replay --table public.other"), "there is nothing to send\n");
    assert_eq!(said("drop --all"), "dropped 2 letters: 2, 3\n");
    let missing = rowmill(folder.path(), Format::Text, "drop 1").expect_err("it is gone");
    assert_eq!(missing.code, "E0806");
}

#[test]
fn a_folder_without_a_store_stays_without_one() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("pipeline.yaml"), PIPELINE).expect("a file");
    let said = |arguments: &str| rowmill(folder.path(), Format::Text, arguments);
    assert_eq!(said("list").expect("it lists"), "no dead letters\n");
    assert_eq!(said("drop --all").expect("it is done"), "there is nothing to drop\n");
    assert_eq!(said("replay 7").expect_err("it isn't there").code, "E0806");
    assert!(!folder.path().join(".rowmill").exists());
}

struct Host(DeadLetters);

impl Status for Host {
    fn roll_back(&self, _: &str) -> Result<Value, Box<Problem>> {
        unreachable!("letters only")
    }

    fn ready(&self) -> Readiness {
        Readiness {
            ready: true,
            reason: "streaming".to_owned(),
        }
    }

    fn status(&self) -> Value {
        Value::Null
    }

    fn pause_copies(&self, pipeline: &str, paused: bool) -> Option<serde_json::Value> {
        (pipeline == "shop").then(|| serde_json::json!({ "paused": paused }))
    }

    fn reload(&self, _: &str) -> Option<Result<serde_json::Value, Vec<crate::problem::Problem>>> {
        None
    }

    fn resync(&self, _: &str, _: &str) -> Option<Result<serde_json::Value, Box<crate::problem::Problem>>> {
        None
    }

    fn dead_letters(
        &self,
        _: &str,
        action: Action,
        selection: &Selection,
        force: bool,
    ) -> Option<Result<Value, Box<Problem>>> {
        Some(dead_letter::carry_out(&self.0, action, selection, force))
    }
}

#[test]
fn a_running_host_is_asked() {
    let (folder, letters) = filled();
    let state_dir = folder.path().join(".rowmill/shop");
    let _lock = FolderLock::take(&state_dir).expect("it is free");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .worker_threads(1)
        .build();
    let runtime = runtime.expect("a runtime");
    let console = runtime
        .block_on(Console::bind(([127, 0, 0, 1], 0).into()))
        .expect("a free port");
    let address = console.address();
    let host = Arc::new(Host(letters.clone()));
    runtime.spawn(console.serve(host, Arc::default(), Tail::new(), std::future::pending()));

    let said = |arguments: &str| {
        let arguments = format!("{arguments} --console {address}");
        rowmill(folder.path(), Format::Text, &arguments)
    };
    assert_eq!(
        said("replay 2").expect("it is asked"),
        "2 letters will be sent again: 1, 2\n"
    );
    let replay = letters
        .take_replay(crate::batch::Lsn(u64::MAX))
        .expect("it is read")
        .expect("it was asked for");
    assert_eq!(replay.len(), 2);
    // The host's own words, with their code.
    assert_eq!(said("drop 1").expect_err("it is on its way").code, "E0807");
    letters.settle(replay.ticket).expect("it is written");
    assert_eq!(said("drop 3").expect("it is asked"), "dropped letter 3\n");
    assert_eq!(letters.counts().letters, 0);
}
