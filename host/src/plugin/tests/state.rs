//! What plugins keep: whatever comes between, the same rows give the same output.

use super::*;
use crate::config::{ByteSize, FilterMode};
use crate::plugin::{Kept, Module, Processed, SharedEntries, State};
use proptest::prelude::*;
use rowmill_tests::{Columns, Keeps, POISON, totals, totals_breaking};
use std::collections::HashMap;
use std::sync::Mutex;

const INT8: u32 = 20;
const COLUMNS: Columns = Columns {
    customer: 1,
    amount: 2,
    total: 3,
};

fn orders() -> Arc<Relation> {
    table(&[
        ("id", INT8, true),
        ("customer", INT8, false),
        ("amount", INT8, false),
        ("total", INT8, false),
    ])
}

fn with_entries() -> Limits {
    Limits {
        memory: ByteSize(16 << 20),
        kv: Some(ByteSize(1 << 20)),
        ..limits()
    }
}

pub(super) fn version(keeps: Keeps, version: u8) -> PluginVersion {
    breaking(keeps, COLUMNS, version, POISON)
}

/// One that breaks on an amount.
pub(crate) fn breaking(keeps: Keeps, columns: Columns, version: u8, poison: i64) -> PluginVersion {
    type Loaded = HashMap<(Keeps, [u8; 2], u8, i64), Arc<Module>>;
    static LOADED: LazyLock<Mutex<Loaded>> = LazyLock::new(Mutex::default);
    let limits = with_entries();
    let bytes = || totals_breaking(keeps, columns, version, poison).unwrap();
    let load = || ENGINE.load(&bytes(), &limits).unwrap();
    let key = (keeps, [columns.customer, columns.amount], version, poison);
    let module = Arc::clone(LOADED.lock().unwrap().entry(key).or_insert_with(load));
    PluginVersion {
        name: "totals".to_owned(),
        module,
        config: serde_json::Value::Null,
        limits,
        policies: crate::config::Policies {
            max_faults: 1_000_000,
            ..crate::config::Policies::default()
        },
    }
}

pub(crate) fn chain(version: PluginVersion, kept: Kept) -> Result<Chain, PluginError> {
    let membership = FilterMode::Membership;
    Chain::with_kept(&ENGINE, &[version], membership, Mode::Live, vec![kept])
}

/// Rows of one batch through the chain: the totals that come out, or the failure.
fn through(chain: &mut Chain, orders: &Arc<Relation>, amounts: &[(i64, i64)]) -> Result<Vec<i64>, PluginError> {
    let mut batch = batch(orders);
    let mut rows = Vec::new();
    for (at, (customer, amount)) in amounts.iter().enumerate() {
        let values = [at.to_string(), customer.to_string(), amount.to_string()];
        let values = [&*values[0], &*values[1], &*values[2], "null"];
        let mut row = row(&mut batch, Op::Insert, None, Some(&values));
        row.ordinal = at as u64;
        rows.push(row);
    }
    chain.process(&mut batch, &mut rows, &mut Processed::default())?;
    let total = |row: &Row| match batch.value(row.new.unwrap(), 3) {
        Value::Text(text) => std::str::from_utf8(text).unwrap().parse().unwrap(),
        other => panic!("{other:?}"),
    };
    Ok(rows.iter().map(total).collect())
}

/// What the totals must be.
fn model(keeps: Keeps, amounts: &[(i64, i64)]) -> Vec<i64> {
    let (mut all, mut by_customer) = (0, HashMap::<i64, i64>::new());
    let of = |(customer, amount): &(i64, i64)| {
        all += amount;
        let of_customer = by_customer.entry(*customer).or_default();
        *of_customer += amount;
        match keeps {
            Keeps::State => all,
            Keeps::Entries => *of_customer,
            Keeps::Both => all + *of_customer,
            Keeps::Each | Keeps::EachInOne => *of_customer,
        }
    };
    amounts.iter().map(of).collect()
}

/// What comes between two batches.
#[derive(Clone, Copy, Debug)]
enum Between {
    Nothing,
    /// A row that the plugin breaks on, after it has counted it.
    Fault,
    /// The process ends; what was stored at the last checkpoint, and the rows since then, come again.
    Crash,
    Checkpoint,
    /// A new version takes over from the running one.
    Swap,
}

/// Everything that a state store has: states and entries as of the last checkpoint.
#[derive(Default)]
struct Stored {
    state: Option<State>,
    entries: HashMap<Box<[u8]>, Box<[u8]>>,
    rows: usize,
}

impl Stored {
    fn start(&self, keeps: Keeps) -> Chain {
        let entries = self.entries.clone();
        let kept = Kept {
            state: self.state.clone(),
            entries: Some(SharedEntries::new("totals", 1 << 20, entries)),
        };
        chain(version(keeps, 1), kept).unwrap()
    }

    fn checkpoint(&mut self, chain: &mut Chain, rows: usize) {
        if let Some(kept) = chain.checkpoint().unwrap().pop() {
            assert_eq!((&*kept.plugin, kept.shard), ("totals", 0));
            self.state = Some(kept.state);
        }
        for entries in chain.entries() {
            for (key, value) in entries.take_changed().map(|changed| changed.writes).unwrap_or_default() {
                match value {
                    Some(value) => self.entries.insert(key, value),
                    None => self.entries.remove(&key),
                };
            }
        }
        self.rows = rows;
    }
}

fn between() -> impl Strategy<Value = Between> {
    prop_oneof![
        3 => Just(Between::Nothing),
        2 => Just(Between::Fault),
        1 => Just(Between::Crash),
        1 => Just(Between::Checkpoint),
        1 => Just(Between::Swap),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn whatever_comes_between_the_same_rows_give_the_same_totals(
        amounts in prop::collection::vec((0i64..5, -50i64..50), 1..120),
        cuts in prop::collection::vec((1usize..12, between()), 1..60),
        keeps in prop_oneof![Just(Keeps::State), Just(Keeps::Entries), Just(Keeps::Both)],
    ) {
        let orders = orders();
        let mut stored = Stored::default();
        let mut chain = stored.start(keeps);
        let mut delivered: Vec<i64> = Vec::new();
        let mut at = 0;
        for (len, between) in cuts.into_iter().cycle().take(400) {
            if at >= amounts.len() {
                break;
            }
            let batch = &amounts[at..(at + len).min(amounts.len())];
            let mut rows = batch.to_vec();
            if matches!(between, Between::Fault) {
                rows.insert(len * 7919 % (batch.len() + 1), (1, POISON));
            }
            let totals = through(&mut chain, &orders, &rows).unwrap();
            prop_assert_eq!(totals.len(), batch.len());
            // What was delivered before a crash and comes again must be the same.
            for (place, total) in (at..).zip(totals) {
                match delivered.get(place) {
                    Some(before) => prop_assert_eq!(*before, total),
                    None => delivered.push(total),
                }
            }
            at += batch.len();
            match between {
                Between::Nothing | Between::Fault => {}
                Between::Checkpoint => stored.checkpoint(&mut chain, at),
                Between::Swap => {
                    let mut next = Stored::default().start(keeps);
                    next.inherit(&mut chain).unwrap();
                    chain = next;
                }
                Between::Crash => {
                    chain = stored.start(keeps);
                    at = stored.rows;
                }
            }
        }
        let expected = model(keeps, &amounts);
        prop_assert_eq!(&delivered, &expected[..delivered.len()]);
    }
}

#[test]
fn state_of_an_older_version_is_migrated() {
    let orders = orders();
    let mut old = chain(version(Keeps::State, 1), Kept::default()).unwrap();
    assert_eq!(through(&mut old, &orders, &[(1, 5), (1, 6)]).unwrap(), [5, 11]);
    let mut new = chain(version(Keeps::State, 2), Kept::default()).unwrap();
    new.inherit(&mut old).unwrap();
    assert_eq!(through(&mut new, &orders, &[(1, 1)]).unwrap(), [12]);
    let given = new.checkpoint().unwrap();
    assert_eq!((given[0].state.version, given[0].state.bytes.len()), (2, 9));
    // And it finds its way back after a fault, from state that is its own by now.
    assert_eq!(through(&mut new, &orders, &[(1, POISON)]).unwrap(), [0i64; 0]);
    assert_eq!(through(&mut new, &orders, &[(1, 1)]).unwrap(), [13]);
}

#[test]
fn state_of_a_newer_version_is_refused_and_left_as_it_is() {
    let orders = orders();
    let mut new = chain(version(Keeps::State, 2), Kept::default()).unwrap();
    through(&mut new, &orders, &[(1, 5)]).unwrap();
    let mut old = chain(version(Keeps::State, 1), Kept::default()).unwrap();
    let refused = text_of(&old.inherit(&mut new).unwrap_err());
    assert!(
        refused.contains("E0317") && refused.contains("newer version"),
        "{refused}"
    );
    assert_eq!(through(&mut new, &orders, &[(1, 1)]).unwrap(), [6]);
}

#[test]
fn state_that_the_plugin_cant_read_is_refused() {
    let broken = State {
        version: 1,
        bytes: b"five!".as_slice().into(),
    };
    let kept = Kept {
        state: Some(broken),
        entries: None,
    };
    let refused = text_of(&chain(version(Keeps::State, 1), kept).unwrap_err());
    assert!(refused.contains("E0317") && refused.contains("bad"), "{refused}");
    assert!(!refused.contains("five"), "state may hold row values: {refused}");
}

#[test]
fn a_long_journal_is_cut_and_a_fault_still_loses_nothing() {
    let orders = orders();
    let mut chain = chain(version(Keeps::State, 1), Kept::default()).unwrap();
    for at in 1..=600 {
        assert_eq!(through(&mut chain, &orders, &[(1, 1)]).unwrap(), [at]);
        if at % 199 == 0 {
            assert_eq!(through(&mut chain, &orders, &[(1, POISON)]).unwrap(), [0i64; 0]);
        }
    }
}

#[test]
fn entries_have_to_be_allowed() {
    let bytes = totals(Keeps::Entries, COLUMNS, 1).unwrap();
    let refused = text_of(&ENGINE.load(&bytes, &limits()).unwrap_err());
    assert!(refused.contains("rowmill.kv_get"), "{refused}");
    assert!(refused.contains("features: [kv]"), "{refused}");
}

#[test]
fn the_quota_bounds_the_entries() {
    let orders = orders();
    let kept = Kept {
        state: None,
        entries: Some(SharedEntries::new("totals", 64, [])),
    };
    let mut chain = chain(version(Keeps::Entries, 1), kept).unwrap();
    // 16 bytes an entry, and at most one for each 64 bytes.
    assert_eq!(through(&mut chain, &orders, &[(1, 5)]).unwrap(), [5]);
    assert_eq!(through(&mut chain, &orders, &[(2, 5)]).unwrap(), [0i64; 0]);
    assert_eq!(through(&mut chain, &orders, &[(1, 5)]).unwrap(), [10]);
}
