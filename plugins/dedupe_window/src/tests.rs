use super::*;
use rowmill_plugin::testing::{self, Outcome, Sample, TransformHost, commit_at};
use rowmill_plugin::{events, row};

const SECOND: i64 = 1_000_000;

fn plugin(columns: &[&str]) -> TransformHost<DedupeWindow> {
    testing::transform_with(serde_json::json!({ "columns": columns, "window_seconds": 60 })).unwrap()
}

fn event(name: &str) -> Sample {
    row! { event: name, source: "web" }
}

fn goes_on(outcome: Outcome) -> bool {
    match outcome {
        Outcome::Row(_) => true,
        Outcome::Dropped => false,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_schema_is_up_to_date() {
    testing::check_config_schema::<Config>(env!("CARGO_MANIFEST_DIR"));
}

#[test]
fn a_key_passes_once_in_a_window_and_no_cut_or_restart_changes_it() {
    let outcomes = plugin(&["event"]).cut_everywhere(&events![
        event("a"),
        event("b"),
        event("a"),
        commit_at(0),
        event("a"),
        commit_at(59 * SECOND),
        event("a"),
        event("a"),
        commit_at(60 * SECOND),
        event("b"),
        event("c"),
        commit_at(61 * SECOND),
        event("a"),
        commit_at(119 * SECOND),
    ]);
    let passed: Vec<_> = outcomes.into_iter().map(goes_on).collect();
    let expected = [true, true, false, false, true, false, true, true, false];
    assert_eq!(passed, expected);
}

/// Against a plain list of what came when.
#[test]
fn it_agrees_with_a_list() {
    let mut plugin = plugin(&["event"]);
    let mut seen: Vec<(i64, i64)> = Vec::new();
    let mut state = 7u64;
    let mut below = |limit: u64| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        ((state >> 33) % limit) as i64
    };
    let mut now = 0;
    for _ in 0..2_000 {
        now += below(6) * SECOND;
        let key = below(20);
        let expected = !seen
            .iter()
            .any(|(time, known)| *known == key && now - time < 60 * SECOND);
        if expected {
            seen.push((now, key));
        }
        assert_eq!(goes_on(plugin.at(now).apply(event(&format!("e{key}")))), expected);
    }
}

#[test]
fn what_is_over_is_forgotten() {
    let mut plugin = plugin(&["event"]);
    for number in 0..1_000 {
        assert!(goes_on(plugin.at(number * SECOND).apply(event(&format!("e{number}")))));
    }
    // 60 keys with their places, the one that is over but not looked at yet, and the numbers.
    assert!(plugin.entries().len() <= 125, "{} entries", plugin.entries().len());
}

#[test]
fn tables_and_columns_are_told_apart() {
    let mut plugin = plugin(&["event", "source"]);
    let row = |event: &str, source: &str| row! { event: event, source: source };
    assert!(goes_on(plugin.apply(row("a", "bc"))));
    assert!(goes_on(plugin.apply(row("ab", "c"))));
    assert!(goes_on(plugin.apply(row("a", "bc").of("others"))));
    assert!(!goes_on(plugin.apply(row("a", "bc"))));
    assert_eq!(plugin.counter("duplicates"), 1.0);
}

#[test]
fn null_is_no_key_and_changes_go_on() {
    let mut plugin = plugin(&["event"]);
    let null = || row! { event: None::<&str>, source: "web" };
    assert!(goes_on(plugin.apply(null())) && goes_on(plugin.apply(null())));
    assert!(goes_on(plugin.apply(event("a"))));
    for change in [event("a").updated(), event("a").old(Op::Delete)] {
        assert!(goes_on(plugin.apply(change)));
    }
}

#[test]
fn where_there_is_no_room_rows_are_set_aside_and_come_through_later() {
    let mut plugin = plugin(&["event"]);
    plugin.limit_entries(1_000);
    let mut passed = 0;
    let rejected = loop {
        match plugin.at(0).apply(event(&format!("e{passed}"))) {
            Outcome::Rejected(error) => break error,
            outcome => assert!(goes_on(outcome)),
        }
        passed += 1;
        assert!(passed < 100, "the bound holds");
    };
    assert_eq!(rejected.code(), "kv");
    assert!(passed > 5);
    let again = event(&format!("e{passed}"));
    assert!(goes_on(plugin.at(60 * SECOND).apply(again.clone())));
    assert!(!goes_on(plugin.at(60 * SECOND).apply(again)));
}

#[test]
fn a_config_without_columns_is_refused() {
    let config = serde_json::json!({ "columns": [], "window_seconds": 60 });
    let error = testing::transform_with::<DedupeWindow>(config).expect_err("refused");
    assert!(error.reason().contains("columns"));
}
