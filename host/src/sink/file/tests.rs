use super::*;
use crate::batch::{Op, Part};
use crate::config::{ByteSize, Duration};
use crate::sink::testing::{Builder, COMMIT_BYTES, context, orders, text};
use std::fs;
use std::path::{Path, PathBuf};

fn path(folder: &tempfile::TempDir) -> PathBuf {
    folder.path().join("out").join("orders.jsonl")
}

fn sink(path: &Path, rotate: u64) -> FileSink {
    FileSink::new(&config::FileSink {
        path: path.to_owned(),
        rotate: ByteSize(rotate),
        flush_interval: Duration(std::time::Duration::from_millis(100)),
    })
}

fn delivery(sequence: u64, commit_lsn: u64, part: Part, ids: &[&str]) -> Delivery {
    let orders = orders();
    let mut builder = Builder::new().transaction(commit_lsn, part);
    for id in ids {
        builder = builder.insert(&orders, &[text(id), text("a"), text("2")]);
    }
    builder.delivery(sequence)
}

fn ids(path: &Path) -> Vec<i64> {
    let text = fs::read_to_string(path).unwrap();
    let id = |line: &str| {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        line["new"]["id"].as_i64().unwrap()
    };
    text.lines().map(id).collect()
}

fn manifest(path: &Path) -> serde_json::Value {
    let text = fs::read(path.with_extension("jsonl.manifest")).unwrap();
    serde_json::from_slice(&text).unwrap()
}

async fn problem(sink: &mut FileSink, context: &SinkContext) -> &'static str {
    match sink.open(context).await {
        Err(SinkError::Definite(problem)) => problem.code,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_is_flushed_is_covered_and_found_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = path(&folder);
    let mut first = sink(&path, 1 << 20);
    assert_eq!(first.open(&context("feed")).await.unwrap(), None);
    first.write(&delivery(1, 0x10, Part::Whole, &["1", "2"])).await.unwrap();
    assert_eq!(first.flush().await.unwrap(), 1);
    first.close().await.unwrap();
    assert_eq!(ids(&path), [1, 2]);
    assert_eq!(manifest(&path)["position"], "0/18");
    assert_eq!(
        manifest(&path)["files"][0]["length"],
        fs::metadata(&path).unwrap().len()
    );

    let mut again = sink(&path, 1 << 20);
    let position = again.open(&context("feed")).await.unwrap();
    assert_eq!(position, Some(Lsn(0x10 + COMMIT_BYTES)));
    again.write(&delivery(1, 0x20, Part::Whole, &["3"])).await.unwrap();
    again.close().await.unwrap();
    assert_eq!(ids(&path), [1, 2, 3]);
}

#[tokio::test]
async fn a_crash_leaves_neither_a_torn_line_nor_half_a_transaction() {
    let folder = tempfile::tempdir().unwrap();
    let path = path(&folder);
    let mut crashing = sink(&path, 1 << 20);
    crashing.open(&context("feed")).await.unwrap();
    crashing.write(&delivery(1, 0x10, Part::Whole, &["1"])).await.unwrap();
    crashing
        .write(&delivery(2, 0x20, Part::First, &["2", "3"]))
        .await
        .unwrap();
    // Covers the first transaction, though the second one's rows are in the file too.
    assert_eq!(crashing.flush().await.unwrap(), 1);
    assert_eq!(ids(&path), [1, 2, 3]);
    crashing.write(&delivery(3, 0x20, Part::Middle, &["4"])).await.unwrap();
    assert_eq!(crashing.flush().await.unwrap(), 1);
    drop(crashing);
    let mut torn = fs::read(&path).unwrap();
    torn.extend_from_slice(b"{\"id\":\"7301:20:");
    fs::write(&path, torn).unwrap();

    let mut again = sink(&path, 1 << 20);
    assert_eq!(again.open(&context("feed")).await.unwrap(), Some(Lsn(0x18)));
    assert_eq!(ids(&path), [1]);
    again.write(&delivery(1, 0x20, Part::First, &["2", "3"])).await.unwrap();
    again.write(&delivery(2, 0x20, Part::Last, &["4"])).await.unwrap();
    assert_eq!(again.flush().await.unwrap(), 2);
    assert_eq!(ids(&path), [1, 2, 3, 4]);
    assert_eq!(manifest(&path)["position"], "0/28");
}

#[tokio::test]
async fn deliveries_that_never_end_at_a_commit_become_durable_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = path(&folder);
    let mut cut = sink(&path, 1 << 20);
    cut.open(&context("feed")).await.unwrap();
    let orders = orders();
    let row = [text("1"), text("a"), crate::batch::Value::Null];
    for sequence in 2..6 {
        let delivery = Builder::new()
            .transaction(sequence * 0x10, Part::Last)
            .insert(&orders, &row)
            .transaction(sequence * 0x10 + 0x10, Part::First)
            .insert(&orders, &row);
        cut.write(&delivery.delivery(sequence)).await.unwrap();
        assert_eq!(cut.flush().await.unwrap(), if sequence == 2 { 0 } else { sequence - 1 });
    }
    drop(cut);
    let position = sink(&path, 1).open(&context("feed")).await.unwrap();
    assert_eq!(position, Some(Lsn(0x50 + COMMIT_BYTES)));
    assert_eq!(ids(&path).len(), 7);
}

#[tokio::test]
async fn files_rotate_at_commits_and_the_manifest_has_each_before_its_rows() {
    let folder = tempfile::tempdir().unwrap();
    let path = path(&folder);
    let second = path.with_file_name("orders.000001.jsonl");
    let third = path.with_file_name("orders.000002.jsonl");
    let mut rotating = sink(&path, 1);
    rotating.open(&context("feed")).await.unwrap();
    rotating.write(&delivery(1, 0x10, Part::First, &["1"])).await.unwrap();
    rotating.write(&delivery(2, 0x10, Part::Last, &["2"])).await.unwrap();
    assert_eq!(rotating.flush().await.unwrap(), 2);
    rotating.write(&delivery(3, 0x20, Part::Whole, &["3"])).await.unwrap();
    rotating.write(&delivery(4, 0x30, Part::First, &["4"])).await.unwrap();
    assert_eq!(rotating.flush().await.unwrap(), 3);
    drop(rotating);
    assert_eq!(ids(&path), [1, 2]);
    assert_eq!(ids(&second), [3]);
    assert!(third.exists());
    fs::write(&third, "torn").unwrap();

    let mut again = sink(&path, 1 << 20);
    assert_eq!(again.open(&context("feed")).await.unwrap(), Some(Lsn(0x28)));
    assert_eq!(ids(&third), [] as [i64; 0]);
    again.write(&delivery(1, 0x30, Part::Whole, &["4"])).await.unwrap();
    again.close().await.unwrap();
    assert_eq!((ids(&second), ids(&third)), (vec![3], vec![4]));
    let manifest = manifest(&path);
    assert_eq!(manifest["sequence"], 2);
    assert_eq!(manifest["files"][0]["name"], "orders.jsonl");
    assert_eq!(manifest["files"][2]["length"], fs::metadata(&third).unwrap().len());
}

#[tokio::test]
async fn a_crash_between_a_file_and_its_manifest_leaves_nothing_in_the_way() {
    let folder = tempfile::tempdir().unwrap();
    let path = path(&folder);
    let second = path.with_file_name("orders.000001.jsonl");
    let mut crashing = sink(&path, 1 << 20);
    crashing.open(&context("feed")).await.unwrap();
    crashing.write(&delivery(1, 0x10, Part::Whole, &["1"])).await.unwrap();
    crashing.close().await.unwrap();
    fs::write(&second, "").unwrap();
    let mut again = sink(&path, 1);
    again.open(&context("feed")).await.unwrap();
    again.write(&delivery(1, 0x20, Part::Whole, &["2"])).await.unwrap();
    again.write(&delivery(2, 0x30, Part::Whole, &["3"])).await.unwrap();
    again.close().await.unwrap();
    assert_eq!((ids(&path), ids(&second)), (vec![1, 2], vec![3]));
}

#[tokio::test]
async fn copied_units_count_as_complete_and_move_no_position() {
    let folder = tempfile::tempdir().unwrap();
    let path = path(&folder);
    let mut copying = sink(&path, 1 << 20);
    copying.open(&context("feed")).await.unwrap();
    let row = [text("1"), text("a"), text("2")];
    let unit = Builder::new().copy(0x10, 1).row(Op::Read, &orders(), Some(&row), None);
    copying.write(&unit.delivery(7)).await.unwrap();
    assert_eq!(copying.flush().await.unwrap(), 7);
    drop(copying);
    assert_eq!(sink(&path, 1).open(&context("feed")).await.unwrap(), None);
    assert_eq!(ids(&path), [1]);
}

#[tokio::test]
async fn what_is_not_ours_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = path(&folder);
    let mut ours = sink(&path, 1 << 20);
    ours.open(&context("feed")).await.unwrap();
    ours.write(&delivery(1, 0x10, Part::Whole, &["1"])).await.unwrap();
    ours.close().await.unwrap();

    let other = SinkContext {
        system_identifier: 1,
        ..context("feed")
    };
    assert_eq!(problem(&mut sink(&path, 1), &other).await, "E0420");
    assert_eq!(problem(&mut sink(&path, 1), &context("elsewhere")).await, "E0420");
    fs::write(&path, "").unwrap();
    assert_eq!(problem(&mut sink(&path, 1), &context("feed")).await, "E0423");
    fs::write(&path, "precious\n").unwrap();
    fs::remove_file(path.with_extension("jsonl.manifest")).unwrap();
    assert_eq!(problem(&mut sink(&path, 1), &context("feed")).await, "E0421");
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious\n");
    let below_a_file = path.join("orders.jsonl");
    assert_eq!(problem(&mut sink(&below_a_file, 1), &context("feed")).await, "E0424");
}

async fn refusal(sink: &mut FileSink) -> Box<crate::problem::Problem> {
    match sink.open(&context("feed")).await {
        Err(SinkError::Definite(problem)) => problem,
        other => panic!("{other:?}"),
    }
}

/// Files with the rows 1, 2 and 3, and an empty one behind them.
async fn rotated(path: &Path) -> FileSink {
    let mut rotating = sink(path, 1);
    rotating.open(&context("feed")).await.unwrap();
    for sequence in 1..4 {
        let row = delivery(sequence, sequence * 0x10, Part::Whole, &[&sequence.to_string()]);
        rotating.write(&row).await.unwrap();
    }
    rotating
}

#[tokio::test]
async fn without_their_manifest_full_files_stay_as_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let path = path(&folder);
    let second = path.with_file_name("orders.000001.jsonl");
    let third = path.with_file_name("orders.000002.jsonl");
    rotated(&path).await.close().await.unwrap();
    fs::write(path.with_file_name("orders.000004"), "of another name").unwrap();
    fs::write(path.with_file_name("orders.7.jsonl"), "of another form").unwrap();
    fs::remove_file(path.with_extension("jsonl.manifest")).unwrap();

    let problem = refusal(&mut sink(&path, 1)).await;
    assert_eq!(problem.code, "E0421");
    let [first, all] = [&path, path.parent().unwrap()].map(|path| path.display().to_string());
    let expected = format!(
        "keep them elsewhere: mkdir {first}.old && mv {first} {all}/orders.000001.jsonl {all}/orders.000002.jsonl \
         {all}/orders.000003.jsonl {first}.old/"
    );
    assert_eq!(problem.help, expected);
    // Those behind the first one are rows as well.
    fs::rename(&path, path.with_file_name("elsewhere")).unwrap();
    let problem = refusal(&mut sink(&path, 1)).await;
    assert_eq!(problem.code, "E0421");
    assert_eq!((ids(&second), ids(&third)), (vec![2], vec![3]));
    let checking = config::FileSink {
        path: path.clone(),
        rotate: ByteSize(1),
        flush_interval: Duration(std::time::Duration::from_millis(100)),
    };
    let checked = check(&checking, &context("feed")).await;
    assert!(matches!(checked, Err(SinkError::Definite(problem)) if problem.code == "E0421"));
}

#[tokio::test]
async fn files_that_the_manifest_doesnt_have_are_neither_removed_nor_written_over() {
    let folder = tempfile::tempdir().unwrap();
    let path = path(&folder);
    let mut rotating = rotated(&path).await;
    let foreign = path.with_file_name("orders.000004.jsonl");
    fs::write(&foreign, "precious\n").unwrap();
    let error = rotating
        .write(&delivery(4, 0x40, Part::Whole, &["4"]))
        .await
        .unwrap_err();
    assert!(
        matches!(&error, SinkError::Definite(problem) if problem.code == "E0421"),
        "{error}"
    );
    drop(rotating);
    // The next start, too.
    let problem = refusal(&mut sink(&path, 1)).await;
    assert_eq!(problem.code, "E0421");
    assert!(problem.help.contains("orders.000004.jsonl"), "{problem:?}");
    assert_eq!(fs::read_to_string(&foreign).unwrap(), "precious\n");
    fs::remove_file(&foreign).unwrap();
    assert_eq!(sink(&path, 1).open(&context("feed")).await.unwrap(), Some(Lsn(0x38)));
}

#[tokio::test]
async fn what_is_taken_down_forgets_its_position_and_keeps_its_files() {
    let folder = tempfile::tempdir().unwrap();
    let path = path(&folder);
    let config = config::FileSink {
        path: path.clone(),
        rotate: ByteSize(1 << 20),
        flush_interval: Duration(std::time::Duration::from_millis(100)),
    };
    assert_eq!(forgetting(&config, "shop", "feed").await.unwrap(), None);
    rotated(&path).await.close().await.unwrap();
    for other in [("mirror", "feed"), ("shop", "elsewhere")] {
        assert_eq!(forgetting(&config, other.0, other.1).await.unwrap(), None);
        forget(&config, other.0, other.1).await.unwrap();
    }
    let command = forgetting(&config, "shop", "feed").await.unwrap();
    let expected = format!("sed -i 's|\"0/38\"|null|' {}.manifest", path.display());
    assert_eq!(command.as_ref(), Some(&expected));

    // The command is what is done.
    let before = fs::read(path.with_extension("jsonl.manifest")).unwrap();
    let run = std::process::Command::new("sh")
        .args(["-c", &expected])
        .status()
        .unwrap();
    assert!(run.success());
    let by_hand = manifest(&path);
    fs::write(path.with_extension("jsonl.manifest"), before).unwrap();
    forget(&config, "shop", "feed").await.unwrap();
    assert_eq!(manifest(&path), by_hand);
    assert_eq!(forgetting(&config, "shop", "feed").await.unwrap(), None);

    // What commits below the old position is written.
    let mut again = sink(&path, 1 << 20);
    assert_eq!(again.open(&context("feed")).await.unwrap(), None);
    again.write(&delivery(1, 0x10, Part::Whole, &["4"])).await.unwrap();
    again.close().await.unwrap();
    assert_eq!(ids(&path.with_file_name("orders.000003.jsonl")), [4]);
    assert_eq!(ids(&path), [1]);
}

#[tokio::test]
async fn a_full_disk_is_transient() {
    let mut full = sink(Path::new("/dev/full"), 1 << 20);
    let file = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    full.session = Some(Session {
        writer: Writer::new(file, 0),
        encoder: Encoder::new(7301),
        manifest: Manifest::new(&context("feed"), &full.folder),
        dirty: false,
        complete: 0,
        written: 0,
        inside: false,
    });
    full.write(&delivery(1, 0x10, Part::Whole, &["1"])).await.unwrap();
    let error = full.flush().await.unwrap_err();
    assert!(matches!(error, SinkError::Transient(_)), "{error}");
}
