//! One test for each row of the table of what the three positions can be.

use super::*;

const SLOT: &str = "rowmill_shop";

fn stored(lsn: u64) -> Stored {
    let identity = Identity {
        pipeline: "shop".into(),
        system_identifier: 7,
        timeline: 1,
        began: None,
        database: "shop".into(),
        slot: SLOT.into(),
        publication: SLOT.into(),
    };
    Stored {
        identity,
        lsn: Lsn(lsn),
    }
}

fn slot(confirmed_flush: u64) -> SlotState {
    SlotState {
        confirmed_flush: Lsn(confirmed_flush),
        restart_lsn: Some(Lsn(confirmed_flush - 1)),
        wal_status: Some(WalStatus::Reserved),
        plugin: "pgoutput".into(),
        database: "shop".into(),
    }
}

fn server(lsn: u64) -> ServerState {
    ServerState {
        system_identifier: 7,
        timeline: 1,
        lsn: Lsn(lsn),
        database: "shop".into(),
        parts_at: None,
    }
}

fn starts(stored: Option<Stored>, slot: Option<SlotState>, server: &ServerState) -> (Option<u64>, bool, Vec<Warning>) {
    let start = compare(SLOT, stored.as_ref(), slot.as_ref(), server).expect("it starts");
    (start.lsn.map(|lsn| lsn.0), start.first_run, start.warnings)
}

fn refused(stored: Option<Stored>, slot: Option<SlotState>, server: &ServerState) -> Problem {
    compare(SLOT, stored.as_ref(), slot.as_ref(), server).expect_err("it is refused")
}

#[track_caller]
fn assert_problem(problem: &Problem, code: &str, exit: Exit, texts: &[&str]) {
    assert_eq!((problem.code, problem.exit), (code, exit));
    assert!(problem.headline.chars().count() <= 80, "{}", problem.headline);
    let told = format!("{} {}", problem.headline, problem.cause.as_deref().unwrap_or_default());
    for text in texts {
        assert!(told.contains(text), "`{text}` is not in: {told}");
    }
}

#[test]
fn a_first_run_makes_the_slot() {
    assert_eq!(starts(None, None, &server(30)), (None, true, vec![]));
}

#[test]
fn a_first_run_adopts_a_slot_that_is_there() {
    assert_eq!(
        starts(None, Some(slot(20)), &server(30)),
        (Some(20), true, vec![Warning::AdoptedSlot])
    );
}

#[test]
fn the_slot_is_where_we_are() {
    assert_eq!(
        starts(Some(stored(20)), Some(slot(20)), &server(30)),
        (Some(20), false, vec![])
    );
}

#[test]
fn we_stored_more_than_was_acknowledged() {
    assert_eq!(
        starts(Some(stored(25)), Some(slot(20)), &server(30)),
        (Some(25), false, vec![])
    );
}

#[test]
fn we_are_at_the_end_of_the_wal() {
    assert_eq!(
        starts(Some(stored(30)), Some(slot(20)), &server(30)),
        (Some(30), false, vec![])
    );
}

#[test]
fn s21_the_slot_was_advanced_beyond_us() {
    let problem = refused(Some(stored(0x10)), Some(slot(0x20)), &server(0x30));
    assert_problem(&problem, "E0510", Exit::Gap, &["gap from 0/10 to 0/20", SLOT]);
}

#[test]
fn s22_another_cluster_answers() {
    let other = ServerState {
        system_identifier: 8,
        ..server(30)
    };
    let problem = refused(Some(stored(20)), Some(slot(20)), &other);
    assert_problem(&problem, "E0511", Exit::Preflight, &["expected 7", "found 8"]);
    // Without the slot too: that the cluster is another one says more than that the slot is missing.
    assert_eq!(refused(Some(stored(20)), None, &other).code, "E0511");
}

#[test]
fn s22_the_server_was_restored_from_a_backup() {
    let problem = refused(Some(stored(0x40)), Some(slot(0x20)), &server(0x30));
    assert_problem(&problem, "E0512", Exit::Gap, &["0/40", "0/30"]);
}

#[test]
fn s16_the_slot_is_gone() {
    let problem = refused(Some(stored(0x20)), None, &server(0x30));
    assert_problem(&problem, "E0513", Exit::Gap, &[SLOT, "from 0/20 to 0/30"]);
}

#[test]
fn s41_failover_to_a_standby_without_the_slot() {
    let promoted = ServerState {
        timeline: 2,
        parts_at: Some(Lsn(0x25)),
        ..server(0x30)
    };
    let problem = refused(Some(stored(0x25)), None, &promoted);
    assert_problem(&problem, "E0513", Exit::Gap, &["not on the new primary"]);
}

/// A missing slot may be accepted (`--accept-gap`): what the standby never had is told first, and can't be.
#[test]
fn s41_failover_to_a_standby_that_lagged_and_has_no_slot() {
    let promoted = |lsn| ServerState {
        timeline: 2,
        parts_at: Some(Lsn(0x25)),
        ..server(lsn)
    };
    for end in [0x26, 0x30] {
        let problem = refused(Some(stored(0x28)), None, &promoted(end));
        assert_problem(&problem, "E0517", Exit::Gap, &["0/28", "the timelines part at 0/25"]);
    }
    // Of the same timeline: a backup without the slot.
    let problem = refused(Some(stored(0x28)), None, &server(0x26));
    assert_problem(&problem, "E0512", Exit::Gap, &["0/28", "0/26"]);
    let lost = SlotState {
        wal_status: Some(WalStatus::Lost),
        ..slot(0x20)
    };
    assert_eq!(refused(Some(stored(0x28)), Some(lost), &server(0x26)).code, "E0512");
}

#[test]
fn s17_the_slots_wal_is_lost() {
    let lost = SlotState {
        wal_status: Some(WalStatus::Lost),
        restart_lsn: None,
        ..slot(0x20)
    };
    let problem = refused(Some(stored(0x20)), Some(lost.clone()), &server(0x30));
    assert_problem(&problem, "E0514", Exit::Gap, &[SLOT, "from 0/20 to 0/30"]);
    // Nor is a lost slot adopted.
    assert_eq!(refused(None, Some(lost.clone()), &server(0x30)).code, "E0514");
    // A server that says nothing but has no WAL kept for it.
    let silent = SlotState {
        wal_status: None,
        ..lost
    };
    assert_eq!(refused(Some(stored(0x20)), Some(silent), &server(0x30)).code, "E0514");
}

#[test]
fn the_slots_wal_is_at_risk() {
    let risky = SlotState {
        wal_status: Some(WalStatus::Unreserved),
        ..slot(20)
    };
    assert_eq!(
        starts(Some(stored(20)), Some(risky), &server(30)).2,
        vec![Warning::WalAtRisk]
    );
}

#[test]
fn another_database_of_the_cluster() {
    let other = ServerState {
        database: "office".into(),
        ..server(30)
    };
    let problem = refused(Some(stored(20)), None, &other);
    assert_problem(&problem, "E0515", Exit::Preflight, &["`shop`", "`office`"]);
}

#[test]
fn the_slot_is_of_another_kind() {
    let other_plugin = SlotState {
        plugin: "wal2json".into(),
        ..slot(20)
    };
    assert_problem(
        &refused(None, Some(other_plugin), &server(30)),
        "E0516",
        Exit::Preflight,
        &["wal2json"],
    );
    let other_database = SlotState {
        database: "office".into(),
        ..slot(20)
    };
    let problem = refused(Some(stored(20)), Some(other_database), &server(30));
    assert_problem(&problem, "E0516", Exit::Preflight, &["`office`"]);
}

#[test]
fn s42_a_new_timeline_is_followed_where_we_are_not_beyond_the_switch() {
    let promoted = ServerState {
        timeline: 2,
        parts_at: Some(Lsn(25)),
        ..server(30)
    };
    let warning = Warning::NewTimeline { stored: 1, server: 2 };
    assert_eq!(
        starts(Some(stored(25)), Some(slot(20)), &promoted),
        (Some(25), false, vec![warning])
    );
    let problem = refused(Some(stored(26)), Some(slot(20)), &promoted);
    assert_problem(&problem, "E0517", Exit::Gap, &["0/1A", "0/19"]);
}

#[test]
fn s42_another_timeline_of_the_same_number_is_followed_where_we_are_on_what_both_have() {
    let other = ServerState {
        parts_at: Some(Lsn(25)),
        ..server(40)
    };
    let warning = Warning::NewTimeline { stored: 1, server: 1 };
    assert_eq!(
        starts(Some(stored(25)), Some(slot(20)), &other),
        (Some(25), false, vec![warning])
    );
    let problem = refused(Some(stored(26)), Some(slot(20)), &other);
    assert_problem(
        &problem,
        "E0517",
        Exit::Gap,
        &["another of that number", "0/1A", "0/19"],
    );
}

#[test]
fn s42_a_timeline_that_does_not_come_from_ours() {
    let promoted = ServerState {
        timeline: 2,
        ..server(30)
    };
    let problem = refused(Some(stored(25)), Some(slot(20)), &promoted);
    assert_problem(&problem, "E0517", Exit::Gap, &["timeline 2 doesn't come from 1"]);
}

#[test]
fn the_server_went_back_to_an_older_timeline() {
    let mut ours = stored(20);
    ours.identity.timeline = 3;
    assert_problem(
        &refused(Some(ours), Some(slot(20)), &server(30)),
        "E0517",
        Exit::Gap,
        &["timeline 1", "timeline 3"],
    );
}
