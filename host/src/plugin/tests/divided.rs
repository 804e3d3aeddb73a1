//! A chain that is divided by key gives what one instance would give, whatever comes between its batches, with however
//! many threads.

use super::state::breaking;
use super::*;
use crate::config::FilterMode;
use crate::plugin::{DIVISIONS, PluginKept, Processed, State};
use proptest::prelude::*;
use rowmill_tests::{Columns, Keeps, POISON};

const INT8: u32 = 20;
/// A total for each id, which is the key.
const COLUMNS: Columns = Columns {
    customer: 0,
    amount: 1,
    total: 2,
};

fn accounts() -> Arc<Relation> {
    table(&[("id", INT8, true), ("amount", INT8, false), ("total", INT8, false)])
}

fn start(keeps: Keeps, version: u8, threads: usize, states: &[(u32, State)]) -> Result<Chain, PluginError> {
    let plugin = breaking(keeps, COLUMNS, version, POISON);
    let kept = PluginKept {
        states: states.to_vec(),
        entries: None,
    };
    Chain::for_lane(
        &ENGINE,
        &[plugin],
        FilterMode::Membership,
        Mode::Live,
        threads,
        vec![kept],
    )
}

fn kept(chain: &mut Chain) -> Vec<(u32, State)> {
    let states = chain.checkpoint().unwrap().into_iter();
    states.map(|kept| (kept.shard, kept.state)).collect()
}

/// Amounts by id through the chain in one batch: what comes out, in order.
fn through(chain: &mut Chain, accounts: &Arc<Relation>, amounts: &[(i64, i64)]) -> Vec<(i64, i64)> {
    let mut batch = batch(accounts);
    let mut rows = Vec::new();
    for (at, (id, amount)) in amounts.iter().enumerate() {
        let values = [id.to_string(), amount.to_string()];
        let mut row = row(&mut batch, Op::Insert, None, Some(&[&values[0], &values[1], "null"]));
        row.ordinal = at as u64;
        rows.push(row);
    }
    let mut processed = Processed::default();
    chain.process(&mut batch, &mut rows, &mut processed).unwrap();
    let poisoned: Vec<u64> = (0..)
        .zip(amounts)
        .filter(|(_, (_, amount))| *amount == POISON)
        .map(|(at, _)| at)
        .collect();
    let aside: Vec<u64> = processed.aside.iter().map(|aside| aside.row.ordinal).collect();
    assert_eq!(aside, poisoned);
    assert!(rows.is_sorted_by_key(|row| row.ordinal));
    let int = |row: &Row, slot| match batch.value(row.new.unwrap(), slot) {
        Value::Text(text) => std::str::from_utf8(text).unwrap().parse().unwrap(),
        other => panic!("{other:?}"),
    };
    rows.iter().map(|row| (int(row, 0), int(row, 2))).collect()
}

fn model(amounts: &[(i64, i64)]) -> Vec<(i64, i64)> {
    let mut totals = [0; 16];
    let taken = amounts.iter().filter(|(_, amount)| *amount != POISON);
    taken
        .map(|(id, amount)| {
            totals[*id as usize] += amount;
            (*id, totals[*id as usize])
        })
        .collect()
}

#[derive(Clone, Copy, Debug)]
enum Between {
    Nothing,
    /// The process ends, and goes on with another number of threads.
    Restart(usize),
    Swap(usize),
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_divided_chain_gives_what_one_instance_would(
        amounts in prop::collection::vec((0i64..16, prop_oneof![40 => -50i64..50, 1 => Just(POISON)]), 1..1500),
        cuts in prop::collection::vec((1usize..400, prop_oneof![
            2 => Just(Between::Nothing),
            1 => (1usize..5).prop_map(Between::Restart),
            1 => (1usize..5).prop_map(Between::Swap),
        ]), 1..8),
    ) {
        let accounts = accounts();
        let mut chain = start(Keeps::Each, 1, 3, &[]).unwrap();
        let (mut got, mut at) = (Vec::new(), 0);
        for (len, between) in cuts.into_iter().cycle() {
            if at >= amounts.len() {
                break;
            }
            let batch = &amounts[at..(at + len).min(amounts.len())];
            got.extend(through(&mut chain, &accounts, batch));
            at += batch.len();
            match between {
                Between::Nothing => {}
                Between::Restart(threads) => {
                    let states = kept(&mut chain);
                    prop_assert_eq!(states.len(), DIVISIONS);
                    chain = start(Keeps::Each, 1, threads, &states).unwrap();
                }
                Between::Swap(threads) => {
                    let mut next = start(Keeps::Each, 1, threads, &[]).unwrap();
                    next.inherit(&mut chain).unwrap();
                    chain = next;
                }
            }
        }
        prop_assert_eq!(got, model(&amounts));
    }
}

/// Enough of them for several threads.
fn many() -> Vec<(i64, i64)> {
    (0..500).map(|at| (at * 7 % 16, at % 50)).collect()
}

#[test]
fn state_of_one_instance_is_divided_and_never_put_together() {
    let (accounts, amounts) = (accounts(), many());
    let expected = model(&amounts);
    let (first, rest) = amounts.split_at(300);
    let mut whole = start(Keeps::EachInOne, 1, 3, &[]).unwrap();
    assert_eq!(through(&mut whole, &accounts, first), expected[..300]);
    let of_whole = kept(&mut whole);
    assert_eq!(of_whole.iter().map(|(shard, _)| *shard).collect::<Vec<_>>(), [0]);

    // At a start, and at a swap.
    let mut started = start(Keeps::Each, 1, 3, &of_whole).unwrap();
    let mut swapped = start(Keeps::Each, 1, 3, &[]).unwrap();
    swapped.inherit(&mut whole).unwrap();
    for divided in [&mut started, &mut swapped] {
        assert_eq!(through(divided, &accounts, rest), expected[300..]);
    }
    let of_each = kept(&mut started);
    let refused = text_of(&start(Keeps::EachInOne, 1, 3, &of_each).unwrap_err());
    assert!(
        refused.contains("E0317") && refused.contains("divided by key"),
        "{refused}"
    );
    let refused = text_of(
        &start(Keeps::EachInOne, 1, 3, &[])
            .unwrap()
            .inherit(&mut started)
            .unwrap_err(),
    );
    assert!(
        refused.contains("E0317") && refused.contains("divided by key"),
        "{refused}"
    );
}

#[test]
fn each_division_migrates_its_state() {
    let (accounts, amounts) = (accounts(), many());
    let expected = model(&amounts);
    let (first, rest) = amounts.split_at(300);
    let mut old = start(Keeps::Each, 1, 2, &[]).unwrap();
    through(&mut old, &accounts, first);
    let mut new = start(Keeps::Each, 2, 2, &[]).unwrap();
    new.inherit(&mut old).unwrap();
    assert_eq!(through(&mut new, &accounts, rest), expected[300..]);
    assert!(
        kept(&mut new)
            .iter()
            .all(|(_, state)| (state.version, state.bytes.len()) == (2, 129))
    );
}

/// What has no key comes out once, in its place.
#[test]
fn a_truncate_stays_one() {
    let accounts = accounts();
    let mut chain = start(Keeps::Each, 1, 3, &[]).unwrap();
    let mut batch = batch(&accounts);
    batch.truncates.push(crate::batch::Truncate {
        relations: vec![0],
        cascade: false,
        restart_identity: false,
    });
    let mut rows = Vec::new();
    for at in 0..100u64 {
        let mut row = row(
            &mut batch,
            Op::Insert,
            None,
            Some(&[&(at % 16).to_string(), "1", "null"]),
        );
        row.ordinal = at;
        if at == 50 {
            row.op = Op::Truncate;
            row.extra = 0;
        }
        rows.push(row);
    }
    chain.process(&mut batch, &mut rows, &mut Processed::default()).unwrap();
    let ordinals: Vec<u64> = rows.iter().map(|row| row.ordinal).collect();
    assert_eq!(ordinals, (0..100).collect::<Vec<_>>());
    assert_eq!(rows.iter().filter(|row| row.op == Op::Truncate).count(), 1);
}

/// A plugin that breaks too often is broken as a whole, wherever its rows are.
#[test]
fn faults_of_all_divisions_count_together() {
    let accounts = accounts();
    let mut plugin = breaking(Keeps::Each, COLUMNS, 1, POISON);
    plugin.policies.max_faults = 3;
    let membership = FilterMode::Membership;
    let mut chain = Chain::for_lane(&ENGINE, &[plugin], membership, Mode::Live, 1, Vec::new()).unwrap();
    let mut batch = batch(&accounts);
    let mut rows = Vec::new();
    for id in 0..16u64 {
        let mut row = row(
            &mut batch,
            Op::Insert,
            None,
            Some(&[&id.to_string(), &POISON.to_string(), "null"]),
        );
        row.ordinal = id;
        rows.push(row);
    }
    let gave_up = chain
        .process(&mut batch, &mut rows, &mut Processed::default())
        .unwrap_err();
    assert!(matches!(gave_up, PluginError::GaveUp(_)), "{gave_up}");
    assert_eq!(rows.len(), 16, "they are as they were");
}
