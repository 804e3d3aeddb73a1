//! The file: torn, damaged, full, and closed to others.

use super::*;
use crate::problem::Problem;
use std::fs;
use std::os::unix::fs::PermissionsExt;

fn filled(folder: &Path) -> DeadLetters {
    let letters = open(folder);
    let relation = orders();
    let row = |id| [text(id), text("größe \"x\""), Value::Null];
    let batch = Builder::new()
        .transaction(0x10, Part::Whole)
        .insert(&relation, &row("1"))
        .insert(&relation, &row("2"))
        .delivery(1);
    pass(&letters, &batch, &[0, 1]);
    letters
}

#[test]
fn only_the_owner_can_read_it() {
    let folder = tempfile::tempdir().unwrap();
    let letters = filled(folder.path());
    letters.with(|state| state.compact()).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&folder.path().join(file::FOLDER)), 0o700);
    assert_eq!(mode(&file::path(folder.path())), 0o600);
    fs::set_permissions(file::path(folder.path()), fs::Permissions::from_mode(0o644)).unwrap();
    drop(letters);
    drop(open(folder.path()));
    assert_eq!(mode(&file::path(folder.path())), 0o600);
}

#[test]
fn a_torn_end_is_cut_at_every_byte() {
    let folder = tempfile::tempdir().unwrap();
    drop(filled(folder.path()));
    let path = file::path(folder.path());
    let whole = fs::read(&path).unwrap();
    let lines: Vec<usize> = whole
        .iter()
        .enumerate()
        .filter(|(_, b)| **b == b'\n')
        .map(|(at, _)| at + 1)
        .collect();
    assert_eq!(lines.len(), 3, "a header and two letters of one append");
    for cut in 0..whole.len() {
        fs::write(&path, &whole[..cut]).unwrap();
        assert!(peek(folder.path(), |_| {}).unwrap().letters.is_empty(), "{cut}");
        let letters = open(folder.path());
        assert_eq!(letters.counts().letters, 0, "{cut}: half an append counts for nothing");
        pass(&letters, &insert(0x20, "3").delivery(1), &[0]);
        drop(letters);
        assert_eq!(open(folder.path()).counts().letters, 1, "{cut}");
    }
    // Pages of the last append that never got to the disk.
    for hole in lines[0]..whole.len() - 1 {
        let mut torn = whole.clone();
        torn[hole] = 0;
        fs::write(&path, torn).unwrap();
        assert_eq!(open(folder.path()).counts().letters, 0, "{hole}");
    }
}

#[test]
fn damage_to_what_was_durable_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let letters = filled(folder.path());
    pass(&letters, &insert(0x20, "3").delivery(2), &[0]);
    drop(letters);
    let path = file::path(folder.path());
    let whole = fs::read(&path).unwrap();
    let last = whole[..whole.len() - 1]
        .iter()
        .rposition(|byte| *byte == b'\n')
        .unwrap();
    for at in 0..last {
        let mut damaged = whole.clone();
        damaged[at] ^= 1;
        fs::write(&path, damaged).unwrap();
        let code = DeadLetters::open(folder.path(), "shop", &limits())
            .map(|_| ())
            .unwrap_err()
            .code;
        assert_eq!(code, "E0803", "byte {at}");
    }
    assert_eq!(
        fs::metadata(&path).unwrap().len(),
        whole.len() as u64,
        "nothing was cut"
    );
}

#[test]
fn another_pipelines_letters_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    drop(filled(folder.path()));
    let refused = DeadLetters::open(folder.path(), "other", &limits())
        .map(|_| ())
        .unwrap_err();
    assert_eq!(refused.code, "E0808");
}

#[test]
fn numbers_are_never_given_twice() {
    let folder = tempfile::tempdir().unwrap();
    let letters = filled(folder.path());
    letters.drop_letters(&Selection::All).unwrap();
    letters.acknowledged(crate::batch::Lsn(0x20));
    letters.with(|state| state.compact()).unwrap();
    drop(letters);
    let letters = open(folder.path());
    pass(&letters, &insert(0x20, "3").delivery(2), &[0]);
    assert_eq!(numbers(folder.path()), [3]);
}

#[test]
fn written_anew_it_says_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let letters = filled(folder.path());
    let relation = orders();
    let truncate = Builder::new()
        .transaction(0x18, Part::Whole)
        .truncate(&[&relation], false, false);
    pass(&letters, &truncate.delivery(2), &[]);
    pass(&letters, &insert(0x20, "3").delivery(3), &[0]);
    pass(&letters, &insert(0x30, "4").delivery(4), &[0]);
    letters.drop_letters(&Selection::Numbers(vec![3])).unwrap();
    letters.request_replay(&Selection::Numbers(vec![4]), false).unwrap();
    let said = || {
        let peeked = peek(folder.path(), |_| {}).unwrap();
        (peeked.letters, peeked.superseded, peeked.requested)
    };
    let before = said();
    letters.with(|state| state.compact()).unwrap();
    assert_eq!(said(), before);
    drop(letters);
    let letters = open(folder.path());
    assert_eq!(pass(&letters, &insert(0x20, "3").delivery(3), &[0]), [] as [usize; 0]);
    assert_eq!(said(), before);
    assert_eq!(replay(&letters, &[]), [4]);
}

fn fill_up(letters: &DeadLetters) -> Box<Problem> {
    let value = "v".repeat(10_000);
    for lsn in 1..1_000 {
        let row = [text("1"), text(&value), Value::Null];
        let batch = Builder::new()
            .transaction(lsn * 0x10, Part::Whole)
            .insert(&orders(), &row)
            .delivery(lsn);
        let route = letters.route(ROUTE);
        if let Err(problem) = letters.set_aside(
            route,
            &batch.batch,
            &batch.rows,
            vec![rejected(&batch.rows[0])],
            &Held::default(),
        ) {
            return problem;
        }
    }
    panic!("it never got full");
}

#[test]
fn a_full_quota_stops_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let limits = config::DeadLetters {
        quota: ByteSize::mib(1),
        ..limits()
    };
    let letters = DeadLetters::open(folder.path(), "shop", &limits).unwrap();
    let problem = fill_up(&letters);
    assert_eq!(problem.code, "E0801");
    assert!(problem.help.contains("dead_letters: quota"));
    let kept = numbers(folder.path()).len();
    assert!(kept > 90 && fs::metadata(file::path(folder.path())).unwrap().len() <= 1 << 20);
    drop(letters);
    // Room that is made by dropping counts.
    let letters = DeadLetters::open(folder.path(), "shop", &limits).unwrap();
    letters.drop_letters(&Selection::Numbers((1..=50).collect())).unwrap();
    pass(&letters, &insert(0x10_0000, "9").delivery(1), &[0]);
    assert_eq!(numbers(folder.path()).len(), kept - 49);
}

#[test]
fn k15_a_full_disk_stops_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mounted = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=256k", "tmpfs"])
        .arg(folder.path())
        .output();
    if !mounted.is_ok_and(|mounted| mounted.status.success()) {
        eprintln!("skipped: a tmpfs can't be mounted here, which takes root");
        return;
    }
    let letters = open(folder.path());
    let problem = fill_up(&letters);
    let kept = numbers(folder.path()).len();
    drop(letters);
    let reopened = DeadLetters::open(folder.path(), "shop", &limits()).map(|letters| letters.counts().letters);
    let unmounted = std::process::Command::new("umount").arg(folder.path()).status();
    assert!(unmounted.is_ok_and(|status| status.success()));
    assert_eq!(problem.code, "E0804");
    assert!(problem.help.contains("make room"), "{problem:?}");
    assert!(kept > 10);
    assert_eq!(reopened.ok(), Some(kept));
}

mod bytes {
    use super::super::read_any;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            read_any(&bytes[..]);
        }

        /// The checksum kept right, so that what lies behind it is reached too.
        #[test]
        fn no_line_panics(body in ".{0,200}") {
            use sha2::{Digest, Sha256};
            let body = format!("\"append\":[1,0],\"letter\":{body}}}");
            let sum = super::super::super::value::hex(&Sha256::digest(&body)[..8]);
            read_any(format!("{{\"sum\":\"{sum}\",{body}\n").as_bytes());
        }
    }
}
