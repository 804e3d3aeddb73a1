//! What is set aside leaves no trace in what plugins keep, and neither does what waits behind it: wherever batches are cut,
//! and whichever plugin of a chain refuses a row.

use super::state::breaking;
use super::*;
use crate::plugin::aside::{AsideCause, Waits};
use crate::plugin::pieces::Around;
use proptest::prelude::*;
use rowmill_tests::{Columns, Keeps, POISON, REFUSED};
use std::collections::HashMap;

const INT8: u32 = 20;
const COLUMNS: Columns = Columns {
    customer: 0,
    amount: 1,
    total: 2,
};
/// What the first of two plugins breaks on.
const POISON_OF_FIRST: i64 = 667;

/// The plugins of a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Plugins {
    One(Keeps),
    /// Both keep a total of all rows. The second breaks on [`POISON`].
    Two,
}

impl Plugins {
    fn chain(self, max_faults: u32) -> Chain {
        let mut plugins = match self {
            Self::One(keeps) => vec![breaking(keeps, COLUMNS, 1, POISON)],
            Self::Two => {
                let of = |poison| breaking(Keeps::State, COLUMNS, 1, poison);
                vec![of(POISON_OF_FIRST), of(POISON)]
            }
        };
        for plugin in &mut plugins {
            plugin.policies.max_faults = max_faults;
        }
        let membership = FilterMode::Membership;
        Chain::for_lane(&ENGINE, &plugins, membership, Mode::Live, 2, Vec::new()).unwrap()
    }

    fn breaks_on(self, amount: i64) -> bool {
        amount == POISON || self == Self::Two && amount == POISON_OF_FIRST
    }
}

/// Whoever comes behind a refused row of its id waits.
#[derive(Default)]
struct ById(HashMap<i64, u64>);

impl Waits for ById {
    fn is_idle(&self) -> bool {
        self.0.is_empty()
    }

    fn set_aside(&mut self, batch: &Batch, row: &Row) {
        let first = self.0.entry(int(batch, row, 0)).or_insert(row.ordinal);
        *first = row.ordinal.min(*first);
    }

    fn waits(&mut self, batch: &Batch, row: &Row) -> bool {
        let first = self.0.get(&int(batch, row, 0));
        first.is_some_and(|first| *first < row.ordinal)
    }
}

fn int(batch: &Batch, row: &Row, slot: u16) -> i64 {
    match batch.value(row.new.unwrap(), slot) {
        Value::Text(text) => std::str::from_utf8(text).unwrap().parse().unwrap(),
        other => panic!("{other:?}"),
    }
}

/// What became of rows, by their numbers.
#[derive(Debug, Default, PartialEq, Eq)]
struct Outcome {
    /// With their totals.
    taken: Vec<(u64, i64)>,
    broken: Vec<u64>,
    refused: Vec<u64>,
    waiting: Vec<u64>,
}

impl Outcome {
    /// One row after the other.
    fn expected(plugins: Plugins, rows: &[(i64, i64)]) -> (Self, i64) {
        let mut outcome = Self::default();
        let (mut blocked, mut all, mut of_id) = (Vec::new(), 0, HashMap::<i64, i64>::new());
        for (number, (id, amount)) in (0..).zip(rows) {
            if blocked.contains(id) {
                outcome.waiting.push(number);
            } else if plugins.breaks_on(*amount) {
                outcome.broken.push(number);
                blocked.push(*id);
            } else if *amount == REFUSED {
                outcome.refused.push(number);
                blocked.push(*id);
            } else {
                all += amount;
                let of_id = of_id.entry(*id).or_default();
                *of_id += amount;
                let total = match plugins {
                    Plugins::Two | Plugins::One(Keeps::State) => all,
                    Plugins::One(Keeps::Both) => all + *of_id,
                    Plugins::One(_) => *of_id,
                };
                outcome.taken.push((number, total));
            }
        }
        (outcome, all)
    }

    /// One batch of them through a chain, the first of which has this number.
    fn add(&mut self, chain: &mut Chain, waits: &mut ById, first: u64, rows: &[(i64, i64)]) {
        let accounts = table(&[("id", INT8, true), ("amount", INT8, false), ("total", INT8, false)]);
        let mut batch = batch(&accounts);
        let mut made = Vec::new();
        for (number, (id, amount)) in (first..).zip(rows) {
            let values = [id.to_string(), amount.to_string()];
            let mut row = row(&mut batch, Op::Insert, None, Some(&[&values[0], &values[1], "null"]));
            row.ordinal = number;
            made.push(row);
        }
        let came = made.clone();
        let mut processed = Processed::default();
        let in_place = rows.len().is_multiple_of(2);
        match in_place {
            true => chain.process_in_place_behind(&mut batch, &mut made, &mut processed, waits),
            false => chain.process_behind(&mut batch, &mut made, &mut processed, waits),
        }
        .unwrap();
        self.taken
            .extend(made.iter().map(|row| (row.ordinal, int(&batch, row, 2))));
        assert!(processed.aside.is_sorted_by_key(|aside| aside.row.ordinal));
        let numbers = |is_fault| {
            let asides = processed.aside.iter();
            let asides = asides.filter(move |aside| matches!(aside.cause, AsideCause::Fault(_)) == is_fault);
            asides.map(|aside| aside.row.ordinal).collect::<Vec<_>>()
        };
        let (broken, refused) = (numbers(true), numbers(false));
        let counts = processed.counts;
        assert_eq!(
            (counts.faults, counts.rejected),
            (broken.len() as u64, refused.len() as u64)
        );
        self.broken.extend(broken);
        self.refused.extend(refused);
        self.waiting.extend(processed.waiting.iter().map(|row| row.ordinal));
        if !processed.aside.is_empty() {
            let numbers = |rows: &[Row]| rows.iter().map(|row| row.ordinal).collect::<Vec<_>>();
            assert_eq!(numbers(chain.original()), numbers(&came));
        }
    }
}

fn amount() -> impl Strategy<Value = i64> {
    prop_oneof![
        12 => -50i64..50,
        1 => Just(POISON),
        1 => Just(POISON_OF_FIRST),
        2 => Just(REFUSED),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn where_batches_are_cut_decides_nothing(
        rows in prop::collection::vec((0i64..16, amount()), 1..160),
        cuts in prop::collection::vec(1usize..60, 1..12),
        plugins in prop_oneof![
            Just(Plugins::One(Keeps::State)),
            Just(Plugins::One(Keeps::Entries)),
            Just(Plugins::One(Keeps::Both)),
            Just(Plugins::One(Keeps::Each)),
            Just(Plugins::Two),
        ],
    ) {
        let poison = rows.iter().filter(|(_, amount)| plugins.breaks_on(*amount)).count();
        // A fault that is met again counts once.
        let mut chain = plugins.chain(poison as u32);
        let (mut outcome, mut waits, mut at) = (Outcome::default(), ById::default(), 0);
        for len in cuts.into_iter().cycle() {
            if at >= rows.len() {
                break;
            }
            let end = (at + len).min(rows.len());
            outcome.add(&mut chain, &mut waits, at as u64, &rows[at..end]);
            at = end;
        }
        outcome.waiting.sort_unstable();
        let (expected, all) = Outcome::expected(plugins, &rows);
        prop_assert_eq!(outcome, expected);
        // The first of two plugins, too: what the second refuses isn't in its total.
        for kept in chain.checkpoint().unwrap() {
            if matches!(plugins, Plugins::Two | Plugins::One(Keeps::State)) {
                prop_assert_eq!(i64::from_le_bytes((*kept.state.bytes).try_into().unwrap()), all);
            }
        }
    }
}

/// Rows that are refused one after the other cost a few calls each, however many there are.
#[test]
fn many_refused_rows_are_worked_off() {
    let plugins = Plugins::One(Keeps::State);
    let rows: Vec<(i64, i64)> = (0..600).map(|id| (id, if id % 2 == 0 { REFUSED } else { 1 })).collect();
    let (mut chain, mut outcome) = (plugins.chain(0), Outcome::default());
    outcome.add(&mut chain, &mut ById::default(), 0, &rows);
    assert_eq!(outcome, Outcome::expected(plugins, &rows).0);
    let made: u64 = chain.counts().map(|(_, counts)| counts.instances_made).sum();
    assert!(made <= 301, "{made} instances for 300 rows");
}

#[test]
fn a_piece_knows_which_transactions_go_on_across_its_ends() {
    let mut batch = batch(&people());
    let rows: Vec<Row> = [0, 0, 1, 1, 1, 2]
        .into_iter()
        .map(|transaction| Row {
            transaction,
            ..row(&mut batch, Op::Insert, None, Some(&["1", "a"]))
        })
        .collect();
    let across = |from: usize, to: usize| {
        let around = Around {
            before: &rows[..from],
            behind: &rows[to..],
        };
        around.across(&rows[from..to], |_| true)
    };
    assert_eq!(across(0, 6), (None, None));
    assert_eq!(across(0, 2), (None, None));
    assert_eq!(across(1, 4), (Some(0), Some(1)));
    assert_eq!(across(3, 5), (Some(1), None));
    let none = Around::default().across(&rows, |_| true);
    assert_eq!(none, (None, None));
}
