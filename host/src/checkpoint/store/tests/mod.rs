//! A state store on a real disk: what is stored, what survives, who is kept out.

mod copies;
mod refused;

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
        began: None,
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
        ..ChainVersion::default()
    }
}

fn copy(epoch: u32) -> TableCopy {
    TableCopy {
        table_oid: 16384,
        table: "public.orders".into(),
        epoch,
        began: 1,
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
fn the_letters_that_were_sent_last_are_stored_with_the_position() {
    let bench = Bench::new();
    let store = bench.open();
    assert_eq!(store.letters_sent().unwrap(), [0u64; 0]);
    let sent = |letters: &[u64]| [Mark::Replayed(1), Mark::Sent(letters.into())];
    store.advance(Some(Lsn(0x10)), &sent(&[3, 4])).unwrap();
    store.advance(None, &sent(&[7])).unwrap();
    store.advance(Some(Lsn(0x20)), &[]).unwrap();
    drop(store);
    let store = bench.open();
    assert_eq!(store.letters_sent().unwrap(), [7]);
    store.forget_letters_sent().unwrap();
    assert_eq!(store.letters_sent().unwrap(), [0u64; 0]);
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
fn a_sink_is_compared_with_the_first_point_that_timelines_parted_at_since_it_was_seen() {
    let bench = Bench::new();
    let store = bench.open();
    let on = |timeline| Identity { timeline, ..identity() };
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let partings = || {
        let partings = store.partings().unwrap().into_iter();
        partings.map(|parting| (parting.sink, parting.at)).collect::<Vec<_>>()
    };
    assert_eq!(partings(), []);
    store
        .take_up_timeline(&on(2), Lsn(0x30), &names(&["away", "feed"]))
        .unwrap();
    store.settle_parting("feed").unwrap();
    assert_eq!(partings(), [("away".to_owned(), 0x30)]);
    store
        .take_up_timeline(&on(3), Lsn(0x50), &names(&["feed", "away"]))
        .unwrap();
    assert_eq!(partings(), [("away".to_owned(), 0x30), ("feed".to_owned(), 0x50)]);
    assert_eq!(store.identity().unwrap(), Some(on(3)));
    store.settle_parting("away").unwrap();
    store.settle_parting("unknown").unwrap();
    assert_eq!(partings(), [("feed".to_owned(), 0x50)]);
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
fn how_far_targets_have_come_is_stored_with_the_position() {
    let bench = Bench::new();
    let at = |sink: &str, position| SinkPosition {
        sink: sink.to_owned(),
        position,
        unstreamed: 3,
    };
    let both = [at("warehouse", Some(0x18)), at("mirror", None)];
    {
        let store = bench.open();
        assert_eq!(store.sink_positions().unwrap(), vec![]);
        store.checkpoint(Some(Lsn(0x20)), &[], LastCommit::Same, &both).unwrap();
        // Nobody has asked the targets.
        store.advance(Some(Lsn(0x30)), &[]).unwrap();
    }
    let store = bench.open();
    assert_eq!(store.sink_positions().unwrap(), both);
    assert_eq!(store.position().unwrap(), Some(Lsn(0x30)));
    // A target that has gone back to where the stream begins is followed.
    let back = [at("warehouse", Some(0x10))];
    store
        .checkpoint(None, &[unit(1, 0, 1)], LastCommit::Same, &back)
        .unwrap();
    assert_eq!(store.sink_positions().unwrap(), back);
}
