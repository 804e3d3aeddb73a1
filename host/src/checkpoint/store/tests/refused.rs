//! Who is kept out, and what isn't taken for a state: other owners, newer formats, damage, full disks.

use super::*;

#[test]
fn a_folder_that_others_can_read_is_closed_to_them() {
    let bench = Bench::new();
    fs::create_dir_all(bench.path()).unwrap();
    fs::set_permissions(bench.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let _store = bench.open();
    assert_eq!(fs::metadata(bench.path()).unwrap().permissions().mode() & 0o777, 0o700);
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
