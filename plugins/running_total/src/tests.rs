use super::*;
use rowmill_plugin::testing::{self, Cell, Outcome, Sample, Table, TransformHost, commit, truncate};
use rowmill_plugin::{events, row};

fn plugin(config: serde_json::Value) -> TransformHost<RunningTotal> {
    testing::transform_with(config).unwrap()
}

fn by_customer() -> TransformHost<RunningTotal> {
    plugin(serde_json::json!({ "amount": "amount", "total": "total", "group": "customer" }))
}

fn order(customer: Option<&str>, amount: i64) -> Sample {
    row! { customer: customer, amount: amount, total: 0 }
}

fn total(outcome: Outcome) -> Cell {
    outcome.row().get("total").clone()
}

#[test]
fn the_schema_is_up_to_date() {
    testing::check_config_schema::<Config>(env!("CARGO_MANIFEST_DIR"));
}

#[test]
fn each_group_has_a_total_and_no_cut_or_restart_changes_it() {
    let outcomes = by_customer().cut_everywhere(&events![
        order(Some("ada"), 5),
        order(Some("grace"), 7),
        commit(),
        order(Some("ada"), -2),
        order(None, 1),
        commit(),
        order(None, 1),
        order(Some("grace"), 3),
    ]);
    let totals: Vec<_> = outcomes.into_iter().map(total).collect();
    assert_eq!(totals, [5, 7, 3, 1, 2, 10].map(Cell::Int));
}

#[test]
fn numerics_keep_their_scale() {
    let orders = Table::new("orders")
        .key("id", types::INT8)
        .column("amount", types::NUMERIC)
        .column("total", types::NUMERIC);
    let mut plugin = plugin(serde_json::json!({ "amount": "amount", "total": "total" }))
        .with_table(orders)
        .unwrap();
    let mut add = |amount: Option<&str>| plugin.apply(row! { id: 1, amount: amount, total: None::<&str> });
    assert_eq!(total(add(Some("0.10"))), Cell::Text("0.10".to_owned()));
    assert_eq!(total(add(Some("20"))), Cell::Text("20.10".to_owned()));
    assert_eq!(total(add(None)), Cell::Text("20.10".to_owned()));
    for odd in ["NaN", "Infinity", "99999999999999999999999999999999999999.00"] {
        assert!(
            matches!(add(Some(odd)), Outcome::Rejected(error) if error.code() == "amount"),
            "{odd}"
        );
    }
    // What was rejected didn't count.
    assert_eq!(total(add(Some("1"))), Cell::Text("21.10".to_owned()));
}

#[test]
fn a_total_that_its_column_cannot_hold_is_rejected() {
    let mut plugin = by_customer();
    assert_eq!(total(plugin.apply(order(None, i64::MAX))), Cell::Int(i64::MAX));
    assert!(matches!(plugin.apply(order(None, 1)), Outcome::Rejected(error) if error.code() == "amount"));
    assert_eq!(total(plugin.apply(order(None, -1))), Cell::Int(i64::MAX - 1));
}

#[test]
fn a_truncate_begins_anew() {
    let outcomes = by_customer().cut_everywhere(&events![
        order(Some("ada"), 5).of("orders"),
        order(Some("ada"), 6).of("visits"),
        truncate(["orders"]),
        order(Some("ada"), 1).of("orders"),
        order(Some("ada"), 1).of("visits"),
    ]);
    assert_eq!(outcomes[2], Outcome::Passed);
    assert_eq!(total(outcomes[3].clone()), Cell::Int(1));
    assert_eq!(total(outcomes[4].clone()), Cell::Int(7));
}

#[test]
fn changes_of_rows_that_were_counted_are_rejected() {
    let mut plugin = by_customer();
    for change in [
        order(None, 1).updated(),
        order(None, 1).old(Op::Update),
        order(None, 1).old(Op::Delete),
    ] {
        assert!(matches!(plugin.apply(change), Outcome::Rejected(error) if error.code() == "append_only"));
    }
}

#[test]
fn a_table_must_have_the_columns_and_room_for_a_total() {
    let mut plugin = by_customer();
    let refused = |outcome| matches!(outcome, Outcome::Rejected(_));
    assert!(refused(plugin.apply(row! { amount: 1, total: 0 })));
    assert!(refused(plugin.apply(row! { customer: "ada", amount: 1, total: true })));
}

#[test]
fn state_that_cannot_be_read_refuses_the_plugin() {
    let mut plugin = by_customer();
    plugin.apply(order(Some("ada"), 5));
    let state = plugin.checkpoint();
    for end in 0..state.len() {
        assert!(plugin.restore(&state[..end]).is_err(), "{end} bytes");
    }
    plugin.restore(&state).unwrap();
    assert_eq!(total(plugin.apply(order(Some("ada"), 1))), Cell::Int(6));
    assert!(plugin.migrate(0, &state).is_err());
}
