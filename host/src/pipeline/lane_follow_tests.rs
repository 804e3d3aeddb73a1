//! A version with state breaks on its probation: the one before goes on with the state that it would have had.

use super::*;
use crate::batch::{Part, Relation, Value};
use crate::checkpoint::{ChainVersion, Mark, PluginState, StateStore};
use crate::config::{FilterMode, OnFault};
use crate::pipeline::probation::ProbationLimits;
use crate::pipeline::queue::Queue;
use crate::plugin::tests::state::{breaking, chain};
use crate::plugin::{Kept, Mode, PluginVersion as Runnable};
use crate::sink::testing::{Builder, relation, text};
use rowmill_tests::{Columns, Keeps};
use std::time::Duration;

/// What the version on probation breaks on.
const BAD: i64 = 777;
const COLUMNS: Columns = Columns {
    customer: 1,
    amount: 2,
    total: 3,
};
const NAME: &str = "public.payments";

fn version(name: &str) -> PluginVersion {
    PluginVersion {
        name: "totals".to_owned(),
        module: name.to_owned(),
        config: String::new(),
        written: serde_json::Value::Null,
        limits: serde_json::Value::Null,
    }
}

/// Keys and amounts.
type Pairs = Vec<(i64, i64)>;
/// What is stored under each key that was asked for.
type Entries = Vec<Option<Vec<u8>>>;

struct Bench {
    lane: Lane,
    store: StateStore,
    payments: Arc<Relation>,
    _folder: tempfile::TempDir,
}

impl Bench {
    /// The version before runs, and has had one payment of 5.
    fn new(first: Chain) -> Self {
        let mut bench = Self::starting(first);
        assert_eq!(bench.take(0x10, Part::Whole, &[5]), [5]);
        bench
    }

    fn starting(first: Chain) -> Self {
        let column = |name, key| (name, 20, "bigint", key);
        let columns = [
            column("id", true),
            column("customer", false),
            column("amount", false),
            column("total", false),
        ];
        let folder = tempfile::tempdir().unwrap();
        let store = StateStore::open(folder.path(), "shop").unwrap();
        let warden = Warden {
            limits: ProbationLimits {
                time: Duration::from_secs(600),
                batches: 1000,
            },
            store: store.clone(),
            told: Arc::new(|_, _| ()),
            queue: Arc::new(Queue::new(1 << 20)),
            names: vec![NAME.to_owned()],
        };
        let route = LaneChain {
            version: LaneVersion {
                from: Lsn(0),
                plugins: vec![version("old")],
            },
            ..LaneChain::of(Some(first))
        };
        Self {
            lane: Lane::new(vec![route], Arc::default(), Arc::new(warden)),
            store,
            payments: relation("payments", &columns),
            _folder: folder,
        }
    }

    fn swap(&mut self, next: Chain, plugins: Vec<PluginVersion>) {
        let candidate = ChainVersion {
            plugins: plugins.clone(),
            fallback: Some(vec![version("old")]),
            ..ChainVersion::default()
        };
        self.store.begin_chain(NAME, Lsn(0x18), &candidate, 0).unwrap();
        let mut takeover = Takeover {
            route: 0,
            at_once: true,
            next: Later {
                chain: next,
                version: LaneVersion {
                    from: Lsn(0x18),
                    plugins,
                },
                probation: Some(1),
                follows: false,
            },
        };
        self.lane.prepare(&mut takeover).unwrap();
        self.lane.take_over(takeover);
    }

    fn take(&mut self, commit: u64, part: Part, amounts: &[i64]) -> Vec<i64> {
        self.take_all(&[(commit, part, amounts)])
    }

    /// One batch of transactions: the totals that come out.
    fn take_all(&mut self, transactions: &[(u64, Part, &[i64])]) -> Vec<i64> {
        let with_none = |amounts: &[i64]| amounts.iter().map(|amount| (*amount, 0)).collect::<Vec<_>>();
        let transactions = transactions.iter();
        let transactions = transactions.map(|(commit, part, amounts)| (*commit, *part, with_none(amounts)));
        self.take_pairs(&transactions.collect::<Vec<_>>())
    }

    /// The same, with what is in the column of totals before.
    fn take_pairs(&mut self, transactions: &[(u64, Part, Pairs)]) -> Vec<i64> {
        let mut builder = Builder::new();
        for (commit, part, amounts) in transactions {
            builder = builder.transaction(*commit, *part);
            // Each has a key of its own: none waits behind another that is set aside.
            for (id, (amount, other)) in (*commit as i64 * 100..).zip(amounts) {
                let values = [id, 7, *amount, *other].map(|value| value.to_string());
                builder = builder.insert(&self.payments, &values.each_ref().map(|value| text(value)));
            }
        }
        let delivery = builder.delivery(0);
        let done = self.lane.process(Job {
            batch: Arc::try_unwrap(delivery.batch).unwrap(),
            rows: vec![delivery.rows],
            waiting: Vec::new(),
            copying: Vec::new(),
            spared: Vec::new(),
            keep_rows: false,
            marks: Vec::new(),
            position: Lsn(0),
            checkpoint: None,
            replay: None,
        });
        let done = done.unwrap();
        let total = |row: &Row| match done.batch.value(row.new.unwrap(), 3) {
            Value::Text(text) => std::str::from_utf8(text).unwrap().parse().unwrap(),
            other => panic!("{other:?}"),
        };
        done.rows[0].iter().map(total).collect()
    }

    /// What a checkpoint has, by the names that it is stored under: the version of the state, and its total.
    fn stored(&mut self) -> Vec<(String, u32, i64)> {
        let mut marks = Vec::new();
        self.lane.checkpoint(&[NAME.to_owned()], &mut marks).unwrap();
        let of = |mark: Mark| match mark {
            Mark::State(state) => {
                let total = i64::from_le_bytes(state.bytes[..8].try_into().unwrap());
                (format!("{}/{}", state.route, state.plugin), state.version, total)
            }
            other => panic!("{other:?}"),
        };
        marks.into_iter().map(of).collect()
    }

    fn set_aside(&self) -> Option<String> {
        let record = self.store.plugin_record("totals").unwrap();
        record.set_aside.map(|aside| aside.version.module)
    }
}

fn totals(version: u8, poison: i64) -> Runnable {
    breaking(Keeps::State, COLUMNS, version, poison)
}

fn of(plugin: Runnable) -> Chain {
    chain(plugin, Kept::default()).unwrap()
}

fn before() -> String {
    format!("{}/totals", PluginState::before(NAME))
}

fn own() -> String {
    format!("{NAME}/totals")
}

#[test]
fn the_version_before_goes_on_with_the_state_that_it_would_have_had() {
    let mut bench = Bench::new(of(totals(1, 666)));
    bench.swap(of(totals(2, BAD)), vec![version("new")]);
    assert_eq!(bench.take(0x20, Part::Whole, &[6]), [11]);
    assert_eq!(bench.stored(), [(own(), 2, 11), (before(), 1, 11)]);
    // All of the batch has the version before, of which nothing has left.
    let batch: [(_, _, &[i64]); 2] = [(0x30, Part::Whole, &[1, 2]), (0x40, Part::Whole, &[BAD])];
    assert_eq!(bench.take_all(&batch), [12, 14, 791]);
    assert_eq!(bench.take(0x50, Part::Whole, &[1]), [792]);
    assert_eq!(bench.stored(), [(own(), 1, 792)]);
    assert_eq!(bench.set_aside().as_deref(), Some("new"));
}

#[test]
fn what_has_begun_to_leave_stays_with_the_bad_version() {
    let mut bench = Bench::new(of(totals(1, 666)));
    bench.swap(of(totals(2, BAD)), vec![version("new")]);
    assert_eq!(bench.take(0x20, Part::First, &[1]), [6]);
    // The bad row alone is set aside, and no other counts twice.
    assert_eq!(bench.take(0x20, Part::Middle, &[2, BAD, 3]), [8, 11]);
    assert_eq!(bench.take(0x20, Part::Last, &[4]), [15]);
    assert_eq!(bench.set_aside().as_deref(), Some("new"));
    // The version before would take the row that the other broke on: both see it when it is sent again.
    assert_eq!(bench.stored(), [(own(), 2, 15), (before(), 1, 15)]);
    assert_eq!(bench.take(0x30, Part::Whole, &[10]), [25]);
    assert_eq!(bench.stored(), [(own(), 1, 25)]);
}

#[test]
fn a_probation_that_passes_leaves_nothing_behind() {
    let mut bench = Bench::new(of(totals(1, 666)));
    bench.swap(of(totals(2, BAD)), vec![version("new")]);
    assert_eq!(bench.take(0x20, Part::Whole, &[6]), [11]);
    let warden = Arc::clone(&bench.lane.warden);
    bench.lane.routes[0].trust(0, &warden).unwrap();
    assert_eq!(bench.take(0x30, Part::Whole, &[1]), [12]);
    assert_eq!(bench.stored(), [(own(), 2, 12)]);
}

/// A version that stops where the new one goes on can't be gone back to.
#[test]
fn a_version_before_that_breaks_as_a_whole_is_let_go() {
    let mut first = totals(1, 666);
    first.policies.on_fault = OnFault::Stop;
    let mut bench = Bench::new(of(first));
    bench.swap(of(totals(2, BAD)), vec![version("new")]);
    assert_eq!(bench.take(0x20, Part::Whole, &[666]), [671]);
    assert_eq!(bench.stored(), [(own(), 2, 671)]);
    // A fault of the new one is a row's own from here on.
    assert_eq!(bench.take(0x30, Part::Whole, &[1, BAD, 2]), [672, 674]);
    assert_eq!(bench.set_aside(), None);
}

/// The first plugin of the chain takes a row that the second one breaks on: it keeps nothing of that, and counts the others
/// once.
#[test]
fn a_plugin_before_the_one_that_breaks_counts_once() {
    let with_second = |second: Runnable| {
        let second = Runnable {
            name: "second".to_owned(),
            ..second
        };
        let plugins = [totals(1, 666), second];
        let engine = &crate::plugin::tests::ENGINE;
        Chain::with_kept(engine, &plugins, FilterMode::Membership, Mode::Live, Vec::new()).unwrap()
    };
    let mut bench = Bench::new(with_second(totals(1, BAD)));
    // Nothing is new in it, so nothing is laid to it.
    bench.swap(with_second(totals(1, BAD)), vec![version("old")]);
    assert_eq!(bench.take(0x20, Part::Whole, &[1, BAD, 2]), [6, 8]);
    let second = format!("{NAME}/second");
    let stored: Vec<_> = bench.stored().into_iter().take(2).collect();
    assert_eq!(stored, [(own(), 1, 8), (second, 1, 8)]);
}

/// The stream goes on in other routes: a start from there knows only the version that was gone back to.
#[test]
fn a_checkpoint_behind_the_bad_version_has_the_state_of_the_one_before() {
    let mut bench = Bench::new(of(totals(1, 666)));
    bench.swap(of(totals(2, BAD)), vec![version("new")]);
    assert_eq!(bench.take(0x20, Part::First, &[1]), [6]);
    assert_eq!(bench.take(0x20, Part::Last, &[BAD, 2]), [8]);
    bench.lane.go_back_before(Lsn(0x20));
    assert_eq!(bench.stored(), [(own(), 2, 8), (before(), 1, 8)]);
    bench.lane.go_back_before(Lsn(0x40));
    assert_eq!(bench.stored(), [(own(), 1, 8)]);
}

/// As a start has it that goes back before both.
#[test]
fn a_replay_from_before_the_bad_version_gives_the_same() {
    let mut bench = Bench::new(of(totals(1, 666)));
    for (from, chain, follows) in [(0x18, of(totals(2, BAD)), false), (0x30, of(totals(1, 666)), true)] {
        let plugins = Vec::new();
        bench.lane.routes[0].later.push_back(Later {
            chain,
            version: LaneVersion {
                from: Lsn(from),
                plugins,
            },
            probation: None,
            follows,
        });
    }
    let batch: [(_, _, &[i64]); 2] = [(0x20, Part::Whole, &[6]), (0x30, Part::Whole, &[BAD])];
    assert_eq!(bench.take_all(&batch), [11, 11 + BAD]);
    assert_eq!(bench.stored(), [(own(), 1, 11 + BAD)]);
}

/// What a plugin breaks on at a checkpoint is no row, and costs none.
#[test]
fn a_version_that_cannot_give_its_state_gives_way() {
    let mut bench = Bench::new(of(totals(1, 666)));
    // Its answer is `[2, bin]`.
    let mut bytes = rowmill_tests::totals(Keeps::State, COLUMNS, 2).unwrap();
    let reply = bytes.windows(4).position(|bytes| bytes == b"\x92\x00\xc4\x09").unwrap();
    bytes[reply + 1] = 2;
    let good = totals(2, BAD);
    let module = crate::plugin::tests::ENGINE.load(&bytes, &good.limits).unwrap();
    bench.swap(of(Runnable { module, ..good }), vec![version("new")]);
    assert_eq!(bench.take(0x20, Part::Whole, &[6]), [11]);
    assert_eq!(bench.stored(), [(own(), 1, 11)]);
    assert_eq!(bench.take(0x30, Part::Whole, &[1]), [12]);
    assert_eq!(bench.set_aside().as_deref(), Some("new"));
}

/// A version that keeps a total by key, too, of which what comes out is the sum with the one in its state.
fn with_entries(version: u8, adds: u8, poison: i64) -> Runnable {
    let columns = Columns {
        amount: adds,
        ..COLUMNS
    };
    breaking(Keeps::Both, columns, version, poison)
}

/// What is stored by key: of the one that runs, and how the one that waits differs.
fn stored_entries(bench: &mut Bench) -> Vec<(String, bool, Entries)> {
    let mut marks = Vec::new();
    bench.lane.checkpoint(&[NAME.to_owned()], &mut marks).unwrap();
    let entries = marks.into_iter().filter_map(|mark| match mark {
        Mark::Entries(entries) => Some(entries),
        _ => None,
    });
    let values = |writes: &[(_, Option<Box<[u8]>>)]| {
        let values = writes
            .iter()
            .map(|(_, value)| value.as_ref().map(|value| value.to_vec()));
        values.collect()
    };
    entries
        .map(|entries| (entries.plugin.clone(), entries.anew, values(&entries.writes)))
        .collect()
}

/// The new version adds another column to the same entries, so that the two differ.
#[test]
fn the_version_before_has_the_entries_that_it_would_have_had() {
    let value = |total: i64| Some(total.to_le_bytes().to_vec());
    let differing = |total: i64| Some([&[1][..], &total.to_le_bytes()].concat());
    let waiting = PluginState::before("totals");
    let mut bench = Bench::starting(of(with_entries(1, 2, 666)));
    assert_eq!(bench.take(0x10, Part::Whole, &[5]), [10]);
    bench.swap(of(with_entries(2, 3, BAD)), vec![version("new")]);
    assert_eq!(bench.take_pairs(&[(0x20, Part::Whole, vec![(6, 100)])]), [210]);
    let stored = [
        ("totals".to_owned(), false, vec![value(105)]),
        (waiting.clone(), false, vec![differing(11)]),
    ];
    assert_eq!(stored_entries(&mut bench), stored);
    // What it has written of the batch before it broke is gone with it.
    let batch = [
        (0x30, Part::Whole, vec![(1, 100), (2, 100)]),
        (0x40, Part::Whole, vec![(3, BAD)]),
    ];
    assert_eq!(bench.take_pairs(&batch), [24, 28, 34]);
    assert_eq!(bench.take(0x50, Part::Whole, &[1]), [36]);
    let stored = [("totals".to_owned(), false, vec![value(18)]), (waiting, true, vec![])];
    assert_eq!(stored_entries(&mut bench), stored);
    assert_eq!(bench.set_aside().as_deref(), Some("new"));
}

/// The first plugin of the chain has taken rows that the second one breaks on, in a transaction that stays with them.
#[test]
fn rows_that_are_tried_again_count_once_by_key() {
    let with_second = |second: Runnable| {
        let second = Runnable {
            name: "second".to_owned(),
            ..second
        };
        let plugins = [with_entries(1, 2, 666), second];
        let engine = &crate::plugin::tests::ENGINE;
        Chain::with_kept(engine, &plugins, FilterMode::Membership, Mode::Live, Vec::new()).unwrap()
    };
    let mut bench = Bench::starting(with_second(totals(1, 666)));
    bench.swap(
        with_second(totals(2, BAD)),
        vec![version("totals"), {
            PluginVersion {
                name: "second".to_owned(),
                ..version("new")
            }
        }],
    );
    assert_eq!(bench.take(0x20, Part::First, &[1]), [1]);
    // The bad row alone is set aside.
    assert_eq!(bench.take(0x20, Part::Last, &[2, BAD, 3]), [3, 6]);
    // So has the version before: nothing differs, and nothing has.
    let total = Some(6i64.to_le_bytes().to_vec());
    assert_eq!(stored_entries(&mut bench), [("totals".to_owned(), false, vec![total])]);
}

#[test]
fn a_probation_that_passes_leaves_the_entries_of_the_new_version() {
    let mut bench = Bench::starting(of(with_entries(1, 2, 666)));
    assert_eq!(bench.take(0x10, Part::Whole, &[5]), [10]);
    bench.swap(of(with_entries(2, 3, BAD)), vec![version("new")]);
    assert_eq!(bench.take_pairs(&[(0x20, Part::Whole, vec![(6, 100)])]), [210]);
    assert_eq!(stored_entries(&mut bench).len(), 2);
    let warden = Arc::clone(&bench.lane.warden);
    bench.lane.routes[0].trust(0, &warden).unwrap();
    assert_eq!(bench.take_pairs(&[(0x30, Part::Whole, vec![(1, 1)])]), [212]);
    let stored = stored_entries(&mut bench);
    assert_eq!(stored[0].2, [Some(106i64.to_le_bytes().to_vec())]);
    assert_eq!(&stored[1..], [(PluginState::before("totals"), true, vec![])]);
}

/// As a start has it that goes back before both versions.
#[test]
fn a_replay_from_before_the_bad_version_gives_the_same_by_key() {
    let mut bench = Bench::starting(of(with_entries(1, 2, 666)));
    assert_eq!(bench.take(0x10, Part::Whole, &[5]), [10]);
    for (from, chain, follows) in [
        (0x18, of(with_entries(2, 3, BAD)), false),
        (0x30, of(with_entries(1, 2, 666)), true),
    ] {
        let plugins = Vec::new();
        bench.lane.routes[0].later.push_back(Later {
            chain,
            version: LaneVersion {
                from: Lsn(from),
                plugins,
            },
            probation: None,
            follows,
        });
    }
    let batch = [(0x20, Part::Whole, vec![(6, 100)]), (0x30, Part::Whole, vec![(3, BAD)])];
    assert_eq!(bench.take_pairs(&batch), [210, 28]);
    assert_eq!(stored_entries(&mut bench)[0].2, [Some(14i64.to_le_bytes().to_vec())]);
}
