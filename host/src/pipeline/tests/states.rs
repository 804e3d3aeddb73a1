//! What plugins keep, and the positions that it is stored with.

use super::*;

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
