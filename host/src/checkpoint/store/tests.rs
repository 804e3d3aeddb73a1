//! A state store on a real disk: what is stored, what survives, who is kept out.

use super::*;
use crate::batch::CopyUnit;
use crate::problem::Exit;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use tempfile::TempDir;

struct Bench {
    folder: TempDir,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { folder }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("deep/shop")
    }

    fn database(&self) -> PathBuf {
        self.path().join("state.redb")
    }

    fn open(&self) -> StateStore {
        StateStore::open(&self.path(), "shop").unwrap()
    }

    fn refused(&self) -> Problem {
        StateStore::open(&self.path(), "shop").err().expect("it is refused")
    }
}

fn identity() -> Identity {
    Identity {
        pipeline: "shop".into(),
        system_identifier: u64::MAX,
        timeline: 1,
        database: "shop".into(),
        slot: "rowmill_shop".into(),
        publication: "rowmill_shop".into(),
    }
}

fn chain(module: &str) -> ChainVersion {
    let plugin = PluginVersion {
        name: "mask".into(),
        module: module.into(),
        config: "00".into(),
        written: serde_json::Value::Null,
        limits: serde_json::Value::Null,
    };
    ChainVersion {
        plugins: vec![plugin],
        fallback: None,
    }
}

fn copy(epoch: u32) -> TableCopy {
    TableCopy {
        table_oid: 16384,
        table: "public.orders".into(),
        epoch,
        state: CopyState::Planned,
        empties: false,
        joined: false,
        altered: false,
        reach: Reach::default(),
        basis: "id int4".into(),
    }
}

/// The unit between two keys of ten; 0 stands for the table's ends.
fn unit(epoch: u32, after: u32, up_to: u32) -> Mark {
    let bound = |key: u32| (key > 0).then(|| vec![format!("{key}0")]);
    Mark::UnitDone(Arc::new(CopiedUnit {
        unit: CopyUnit {
            epoch,
            table_oid: 16384,
            unit: after,
        },
        range: CopiedRange {
            place: (0, after + 1),
            after: bound(after),
            up_to: bound(up_to),
            units: 1,
            rows: 10,
            bytes: 100,
        },
        turn: Turn::default(),
    }))
}

/// What the ledger has, as `after-up_to:units`.
fn copied(store: &StateStore) -> Vec<String> {
    let text = |bound: &Option<Vec<String>>| bound.as_ref().map_or(String::new(), |key| key.join(","));
    let ranges = store.copied_ranges(16384).unwrap();
    let of = |range: &CopiedRange| format!("{}-{}:{}", text(&range.after), text(&range.up_to), range.units);
    ranges.iter().map(of).collect()
}

#[test]
fn a_new_store_is_empty_and_for_its_owner_alone() {
    let bench = Bench::new();
    let store = bench.open();
    assert_eq!(store.identity().unwrap(), None);
    assert_eq!(store.position().unwrap(), None);
    assert_eq!(store.copies().unwrap(), vec![]);
    assert_eq!(store.route_columns("0", "public.orders").unwrap(), None);
    let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(bench.path()), 0o700);
    assert_eq!(mode(bench.database()), 0o600);
}

#[test]
fn a_folder_that_others_can_read_is_closed_to_them() {
    let bench = Bench::new();
    fs::create_dir_all(bench.path()).unwrap();
    fs::set_permissions(bench.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let _store = bench.open();
    assert_eq!(fs::metadata(bench.path()).unwrap().permissions().mode() & 0o777, 0o700);
}

#[test]
fn what_was_stored_is_there_after_a_restart() {
    let bench = Bench::new();
    let columns = vec!["id".to_owned(), "status".to_owned()];
    {
        let store = bench.open();
        store.set_identity(&identity()).unwrap();
        store.advance(Some(Lsn(0x20)), &[]).unwrap();
        store.set_route_columns(&[("0", "public.orders", &columns)]).unwrap();
        store.begin_chain("0", Lsn(0x10), &chain("aa"), 0).unwrap();
        store.set_copy(&copy(1), &[]).unwrap();
        store.advance(None, &[unit(1, 0, 1)]).unwrap();
    }
    let store = bench.open();
    assert_eq!(store.identity().unwrap(), Some(identity()));
    assert_eq!(store.position().unwrap(), Some(Lsn(0x20)));
    assert_eq!(store.route_columns("0", "public.orders").unwrap(), Some(columns));
    assert_eq!(store.route_columns("1", "public.orders").unwrap(), None);
    assert_eq!(store.chain_versions("0").unwrap(), vec![(Lsn(0x10), chain("aa"))]);
    assert_eq!(store.copies().unwrap(), vec![copy(1)]);
    assert_eq!(copied(&store), ["-10:1"]);
}

#[test]
fn what_was_stored_needs_no_orderly_end() {
    let bench = Bench::new();
    let store = bench.open();
    store.set_identity(&identity()).unwrap();
    assert!(store.stored().unwrap().is_none());
    for lsn in 1..=20 {
        store.advance(Some(Lsn(lsn)), &[]).unwrap();
    }
    // What a host would find that comes after a killed one.
    let after = Bench::new();
    fs::create_dir_all(after.path()).unwrap();
    fs::copy(bench.database(), after.database()).unwrap();
    let stored = after.open().stored().unwrap().expect("a position is stored");
    assert_eq!((stored.identity, stored.lsn), (identity(), Lsn(20)));
}

#[test]
fn a_deleted_state_is_a_first_run() {
    let bench = Bench::new();
    let store = bench.open();
    store.set_identity(&identity()).unwrap();
    store.advance(Some(Lsn(20)), &[]).unwrap();
    store.delete().unwrap();
    assert!(!bench.database().exists());
    assert!(bench.open().stored().unwrap().is_none());
}

/// Wants the path of a file system of about 4 MiB in ROWMILL_TINY_DISK, and does nothing without.
#[test]
fn h7_a_full_disk_keeps_the_old_position_and_passes() {
    let Some(disk) = std::env::var_os("ROWMILL_TINY_DISK").map(PathBuf::from) else {
        return;
    };
    let store = StateStore::open(&disk.join("shop"), "shop").unwrap();
    store.set_copy(&copy(1), &[]).unwrap();
    store.advance(Some(Lsn(1)), &[]).unwrap();
    let fill = disk.join("fill");
    let large = |number: u32| TableCopy {
        table_oid: number,
        basis: "x".repeat(64 << 10),
        ..copy(1)
    };
    // As much as there is, so that the database can't grow.
    let mut file = fs::File::create(&fill).unwrap();
    while std::io::Write::write_all(&mut file, &[0; 4096]).is_ok() {}
    let problem = (0..)
        .find_map(|number| store.set_copy(&large(number), &[]).err())
        .unwrap();
    assert_eq!(problem.code, STATE_DISK_FULL, "{problem} {:?}", problem.cause);
    drop(file);
    fs::remove_file(&fill).unwrap();
    assert_eq!(store.position().unwrap(), Some(Lsn(1)));
    store.advance(Some(Lsn(2)), &[]).unwrap();
    assert_eq!(store.position().unwrap(), Some(Lsn(2)));
}

#[test]
fn the_last_commit_is_that_of_the_position_and_of_the_publication() {
    let bench = Bench::new();
    let store = bench.open();
    let commit = |end_lsn| Commit {
        lsn: end_lsn - 8,
        end_lsn,
        time_us: -1,
    };
    store.set_identity(&identity()).unwrap();
    store
        .advance_behind(Some(Lsn(0x20)), &[], LastCommit::Is(commit(0x20)))
        .unwrap();
    store
        .advance_behind(Some(Lsn(0x10)), &[], LastCommit::Is(commit(0x10)))
        .unwrap();
    store.advance(Some(Lsn(0x30)), &[]).unwrap();
    store.set_identity(&identity()).unwrap();
    drop(store);
    let store = bench.open();
    assert_eq!(store.last_commit().unwrap(), Some(commit(0x20)));
    let other = Identity {
        publication: "other".into(),
        ..identity()
    };
    store.set_identity(&other).unwrap();
    assert_eq!(store.last_commit().unwrap(), None);
    store
        .advance_behind(Some(Lsn(0x40)), &[], LastCommit::Is(commit(0x40)))
        .unwrap();
    store.advance_behind(Some(Lsn(0x50)), &[], LastCommit::Unknown).unwrap();
    assert_eq!(store.last_commit().unwrap(), None);
}

#[test]
fn a_position_never_goes_back() {
    let bench = Bench::new();
    let store = bench.open();
    store.advance(Some(Lsn(0x20)), &[]).unwrap();
    store.advance(Some(Lsn(0x10)), &[]).unwrap();
    store.advance(None, &[]).unwrap();
    assert_eq!(store.position().unwrap(), Some(Lsn(0x20)));
}

const TABLE_DONE: Mark = Mark::TableDone {
    table_oid: 16384,
    epoch: 1,
};

#[test]
fn ranges_are_entered_with_the_position_and_joined_where_they_meet() {
    let bench = Bench::new();
    let store = bench.open();
    store.set_copy(&copy(1), &[]).unwrap();
    store.advance(Some(Lsn(9)), &[unit(1, 1, 2)]).unwrap();
    assert_eq!(copied(&store), ["10-20:1"]);
    store.advance(None, &[unit(1, 4, 0), unit(1, 2, 3)]).unwrap();
    assert_eq!(copied(&store), ["10-30:2", "40-:1"]);
    store.advance(None, &[unit(1, 0, 1), unit(1, 3, 4)]).unwrap();
    assert_eq!(copied(&store), ["-:5"]);
    assert_eq!(store.copied_ranges(16384).unwrap()[0].rows, 50);
    store.advance(None, &[TABLE_DONE]).unwrap();
    assert_eq!(store.copies().unwrap()[0].state, CopyState::Finished);
    assert_eq!(copied(&store), [""; 0], "a copied table needs no ranges");
    assert_eq!(store.position().unwrap(), Some(Lsn(9)));
}

#[test]
fn a_copy_goes_on_from_the_ranges_that_it_is_given() {
    let bench = Bench::new();
    let store = bench.open();
    store.set_copy(&copy(1), &[]).unwrap();
    store.advance(None, &[unit(1, 1, 2), unit(1, 3, 4)]).unwrap();
    let mut ranges = store.copied_ranges(16384).unwrap();
    ranges.pop();
    store.set_copy(&copy(2), &ranges).unwrap();
    assert_eq!(copied(&store), ["10-20:1"]);
    store.advance(None, &[unit(1, 2, 3), unit(2, 4, 5)]).unwrap();
    assert_eq!(
        copied(&store),
        ["10-20:1", "40-50:1"],
        "late marks of an epoch that is over"
    );
}

#[test]
fn a_copy_that_starts_over_forgets_its_ranges_and_late_marks() {
    let bench = Bench::new();
    let store = bench.open();
    store.set_copy(&copy(1), &[]).unwrap();
    store.advance(None, &[unit(1, 0, 1)]).unwrap();
    store.restart_copy(16384, 2).unwrap();
    store.advance(None, &[unit(1, 1, 2), TABLE_DONE]).unwrap();
    assert_eq!(copied(&store), [""; 0]);
    assert_eq!(store.copies().unwrap(), vec![copy(2)]);
    let table_done = Mark::TableDone {
        table_oid: 16384,
        epoch: 4,
    };
    store.advance(None, &[table_done]).unwrap();
    assert_eq!(store.copies().unwrap()[0].state, CopyState::Finished);
    assert_eq!(store.copies().unwrap()[0].epoch, 4);
    store.remove_copy(16384).unwrap();
    assert_eq!(store.copies().unwrap(), vec![]);
    store.restart_copy(16384, 5).unwrap();
    assert_eq!(store.copies().unwrap(), vec![]);
}

#[test]
fn chain_versions_are_kept_back_to_the_acknowledged_position() {
    let bench = Bench::new();
    let store = bench.open();
    for (from, module) in [(0, "aa"), (10, "bb"), (20, "cc"), (30, "dd")] {
        store.begin_chain("0", Lsn(from), &chain(module), 0).unwrap();
    }
    store.begin_chain("1", Lsn(5), &chain("zz"), 0).unwrap();
    let froms = |store: &StateStore| -> Vec<u64> {
        let versions = store.chain_versions("0").unwrap();
        versions.iter().map(|(from, _)| from.0).collect()
    };
    assert_eq!(froms(&store), [0, 10, 20, 30]);
    // A transaction that commits at 20 is still to be replayed by `bb` as long as 20 is not acknowledged.
    for (acknowledged, left) in [(19, &[10, 20, 30, 40][..]), (20, &[20, 30, 40]), (99, &[40])] {
        store.advance(Some(Lsn(acknowledged)), &[]).unwrap();
        store.begin_chain("0", Lsn(40), &chain("dd"), 0).unwrap();
        assert_eq!(froms(&store), left);
    }
    assert_eq!(store.chain_versions("1").unwrap().len(), 1);
    assert_eq!(
        store.recorded_modules().unwrap(),
        ["dd", "zz"].map(str::to_owned).into()
    );
}

#[test]
fn the_summary_shows_the_state_without_key_ranges() {
    let bench = Bench::new();
    let store = bench.open();
    store.set_identity(&identity()).unwrap();
    store.begin_chain("0", Lsn(0x10), &chain("aa"), 0).unwrap();
    store.set_copy(&copy(1), &[]).unwrap();
    store.advance(Some(Lsn(0x20)), &[unit(1, 0, 1), unit(1, 7, 8)]).unwrap();
    let summary = store.summary().unwrap();
    assert_eq!(summary["position"], "0/20");
    assert_eq!(summary["identity"]["system_identifier"], u64::MAX.to_string());
    assert_eq!(summary["chains"][0]["plugins"][0]["module"], "aa");
    assert_eq!(summary["copies"][0]["units_copied"], 2);
    assert_eq!(summary["copies"][0]["rows_copied"], 20);
    assert!(!summary.to_string().contains("after"), "no key");
}

#[test]
fn h13_a_second_host_is_kept_out_until_the_first_has_gone() {
    let bench = Bench::new();
    let store = bench.open();
    let problem = bench.refused();
    assert_eq!((problem.code, problem.exit), ("E0501", Exit::Usage));
    let process = std::process::id().to_string();
    assert!(problem.cause.unwrap().contains(&process));
    let clone = store.clone();
    drop(store);
    assert_eq!(bench.refused().code, "E0501");
    drop(clone);
    bench.open();
}

#[test]
fn h10_a_newer_format_and_another_pipeline_are_refused() {
    let bench = Bench::new();
    drop(bench.open());
    let problem = StateStore::open(&bench.path(), "office").err().unwrap();
    assert_eq!((problem.code, problem.exit), ("E0504", Exit::Usage));
    assert!(problem.headline.contains("shop") && problem.headline.contains("office"));

    let database = Database::open(bench.database()).unwrap();
    let newer = |transaction: &WriteTransaction| {
        transaction.open_table(NUMBERS)?.insert("format", format::FORMAT + 1)?;
        Ok(())
    };
    write(&database, newer).unwrap();
    drop(database);
    let problem = bench.refused();
    assert_eq!((problem.code, problem.exit), ("E0503", Exit::Usage));
}

#[test]
fn h17_a_state_of_format_2_loses_nothing_that_a_copy_could_go_on_from() {
    let bench = Bench::new();
    let store = bench.open();
    store.set_copy(&copy(1), &[]).unwrap();
    drop(store);
    let database = Database::open(bench.database()).unwrap();
    let older = |transaction: &WriteTransaction| {
        transaction.open_table(NUMBERS)?.insert("format", 2)?;
        transaction.delete_table(format::RANGES)?;
        let mut units = transaction.open_table(format::UNITS)?;
        units.insert((16384, 1, 0), ([].as_slice(), "", 0, true))?;
        Ok(())
    };
    write(&database, older).unwrap();
    drop(database);
    let store = bench.open();
    assert_eq!(store.copies().unwrap(), vec![copy(1)]);
    assert_eq!(copied(&store), [""; 0]);
    store.advance(None, &[unit(1, 0, 1)]).unwrap();
    assert_eq!(copied(&store), ["-10:1"]);
}

/// Each older format lacks tables that came later; it is read, and is of this format from then on.
#[test]
fn h17_states_of_formats_1_and_3_are_read_and_go_on() {
    for (old, missing) in [(1, 4), (3, 1)] {
        let bench = Bench::new();
        let store = bench.open();
        store.set_identity(&identity()).unwrap();
        store.set_copy(&copy(1), &[]).unwrap();
        store.advance(Some(Lsn(7)), &[]).unwrap();
        drop(store);
        let database = Database::open(bench.database()).unwrap();
        let older = |transaction: &WriteTransaction| {
            transaction.open_table(NUMBERS)?.insert("format", old)?;
            transaction.delete_table(format::AHEAD)?;
            if missing > 1 {
                transaction.delete_table(format::RANGES)?;
                transaction.delete_table(format::PLUGIN_STATES)?;
                transaction.delete_table(format::PLUGIN_ENTRIES)?;
            }
            Ok(())
        };
        write(&database, older).unwrap();
        drop(database);
        let store = bench.open();
        let stored = store.stored().unwrap().unwrap();
        assert_eq!((stored.identity, stored.lsn), (identity(), Lsn(7)), "format {old}");
        assert_eq!(store.copies().unwrap(), vec![copy(1)]);
        store.advance(Some(Lsn(8)), &[unit(1, 0, 1)]).unwrap();
        assert_eq!(copied(&store), ["-10:1"]);
        drop(store);
        assert_eq!(bench.open().position().unwrap(), Some(Lsn(8)));
    }
}

#[test]
fn h12_a_folder_that_cant_be_made_is_told() {
    let bench = Bench::new();
    fs::write(bench.folder.path().join("deep"), "a file").unwrap();
    let problem = bench.refused();
    assert_eq!((problem.code, problem.exit), ("E0502", Exit::Usage));
}

#[test]
fn h9_an_empty_or_foreign_file_is_never_taken_for_a_first_run() {
    let bench = Bench::new();
    drop(bench.open());
    for content in [&b""[..], b"no database", &[0; 8192]] {
        fs::write(bench.database(), content).unwrap();
        let problem = bench.refused();
        assert_eq!(
            (problem.code, problem.exit),
            ("E0505", Exit::Preflight),
            "{} bytes",
            content.len()
        );
    }
}

/// Either the damage is told, or what is read is what was stored: at one of the two last commits, for redb may fall
/// back to the one before.
#[test]
fn h9_a_flipped_byte_is_told_or_harmless() {
    let bench = Bench::new();
    {
        let store = bench.open();
        store.set_identity(&identity()).unwrap();
        store.advance(Some(Lsn(1)), &[]).unwrap();
        store.advance(Some(Lsn(2)), &[]).unwrap();
    }
    let whole = fs::read(bench.database()).unwrap();
    let used: Vec<usize> = (0..whole.len()).filter(|&at| whole[at] != 0).collect();
    let mut told = 0;
    for at in used.iter().copied().step_by(used.len() / FLIPS + 1) {
        let mut flipped = whole.clone();
        flipped[at] ^= 0x40;
        fs::write(bench.database(), &flipped).unwrap();
        match StateStore::open(&bench.path(), "shop") {
            Ok(store) => assert!(matches!(store.position().unwrap(), Some(Lsn(1 | 2))), "byte {at}"),
            Err(problem) => {
                assert!(
                    matches!(problem.code, "E0503" | "E0505"),
                    "byte {at}: {problem} {:?}",
                    problem.cause
                );
                told += 1;
            }
        }
    }
    assert!(told > 0);
}

/// How many bytes are flipped, each at its own opening of the store.
const FLIPS: usize = 200;

#[test]
fn a_table_is_copied_again_once_its_targets_are_empty() {
    let bench = Bench::new();
    let store = bench.open();
    store.set_copy(&copy(1), &[]).unwrap();
    store.advance(None, &[unit(1, 0, 1)]).unwrap();
    store.copy_again(16384, "public.orders").unwrap();
    // What the copy before still reports, the emptying of an earlier order among it.
    let emptied = |epoch| Mark::Emptied {
        table_oid: 16384,
        epoch,
    };
    store.advance(None, &[emptied(1), unit(1, 1, 2), TABLE_DONE]).unwrap();
    store.restart_copy(16384, 2).unwrap();
    store.advance(None, &[unit(2, 1, 2)]).unwrap();
    let again = store.copies().unwrap().remove(0);
    assert_eq!((again.epoch, again.state, again.empties), (2, CopyState::Planned, true));
    assert_eq!(copied(&store), [""; 0]);

    let begun = TableCopy { epoch: 3, ..again };
    store.set_copy(&begun, &[]).unwrap();
    store.advance(None, &[emptied(3), unit(3, 0, 1)]).unwrap();
    assert!(!store.copies().unwrap()[0].empties);
    assert_eq!(copied(&store), ["-10:1"]);
}
