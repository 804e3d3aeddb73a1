//! What plugins keep, and the positions that it is stored with.

use super::*;
use crate::batch::CopyUnit;
use crate::checkpoint::{CopiedRange, CopiedUnit, Turn};

pub(super) fn payments() -> Arc<Relation> {
    let column = |name, key| (name, 20, "bigint", key);
    let columns = [
        column("id", true),
        column("customer", false),
        column("amount", false),
        column("total", false),
    ];
    relation("payments", &columns)
}

fn payment(builder: Builder, payments: &Arc<Relation>) -> Builder {
    builder.insert(payments, &["1", "7", "5", "0"].map(text))
}

/// The totals that are stored with a position.
pub(super) fn stored_totals(marks: &[Mark]) -> Vec<i64> {
    let of = |mark: &Mark| match mark {
        Mark::State(state) => Some(i64::from_le_bytes((*state.bytes).try_into().unwrap())),
        _ => None,
    };
    marks.iter().filter_map(of).collect()
}

#[test]
fn a_position_waits_for_the_state_that_belongs_to_it() {
    let (bench, payments) = (Bench::new(1), payments());
    for commit in [0x10, 0x20, 0x30] {
        bench.push(payment(Builder::new().transaction(commit, Part::Whole), &payments));
    }
    bench.run(vec![route("payments", &[0], Some(chain_that_counts()))], 1, 0);
    let advance = bench.frontier.take().unwrap();
    assert_eq!(
        (advance.lsn, stored_totals(&advance.marks)),
        (Some(Lsn(0x38)), vec![15])
    );
}

#[test]
fn a_transaction_that_hasnt_ended_is_in_no_stored_state() {
    let (bench, payments) = (Bench::new(1), payments());
    bench.push(payment(Builder::new().transaction(0x10, Part::Whole), &payments));
    bench.push(payment(Builder::new().transaction(0x20, Part::First), &payments));
    bench.run(vec![route("payments", &[0], Some(chain_that_counts()))], 1, 0);
    assert_eq!(bench.frontier.take(), None);
}

#[test]
fn rows_of_other_routes_wait_for_no_state() {
    let (bench, payments, orders) = (Bench::new(1), payments(), orders());
    bench.push(order(Builder::new().transaction(0x10, Part::Whole), &orders));
    bench.push(payment(Builder::new().transaction(0x20, Part::First), &payments));
    let routes = vec![
        route("payments", &[0], Some(chain_that_counts())),
        route("orders", &[0], None),
    ];
    bench.run(routes, 1, 0);
    let advance = bench.frontier.take().unwrap();
    assert_eq!((advance.lsn, advance.marks), (Some(Lsn(0x18)), vec![]));
}

/// A unit that counts since rows of another table were owed. Nothing is owed any more (somebody has truncated that table):
/// the state that has its rows isn't stored without the unit, or a start would read it once more.
#[test]
fn a_unit_that_counts_late_is_stored_with_the_state_that_has_its_rows() {
    let (bench, payments) = (Bench::new(1), payments());
    let copied = Mark::UnitDone(Arc::new(CopiedUnit {
        unit: CopyUnit {
            epoch: 1,
            table_oid: payments.oid,
            unit: 1,
        },
        range: CopiedRange {
            place: (0, 1),
            after: None,
            up_to: None,
            units: 1,
            rows: 1,
            bytes: 1,
        },
        turn: Turn::default(),
    }));
    // No sink gets anything, so whatever may be stored is passed at once.
    let routes = vec![route("payments", &[], Some(chain_that_counts()))];
    let batch = payment(Builder::new().transaction(0x10, Part::Whole), &payments);
    let batch = Arc::try_unwrap(batch.delivery(0).batch).unwrap();
    let (_, end) = bench.run_as(routes, 1, 0, |intake| {
        intake.streamed(batch).unwrap();
        (intake.owed, intake.kept) = (Lsn(0x28), vec![copied.clone()]);
        // From then on the next batch takes a checkpoint that may be taken.
        while !intake.hold.is_due(&intake.stats.states) {
            std::thread::yield_now();
        }
        intake.settle_owed().unwrap();
        assert_eq!((intake.owed, intake.kept.len()), (Lsn(0), 0));
    });
    assert!(matches!(end, LaneEnd::Finished), "{end:?}");
    assert_eq!(bench.frontier.marked(), 1, "all in one");
    let advance = bench.frontier.take().unwrap();
    assert_eq!((advance.lsn, stored_totals(&advance.marks)), (Some(Lsn(0x28)), vec![5]));
    assert!(advance.marks.contains(&copied), "{:?}", advance.marks);
}
