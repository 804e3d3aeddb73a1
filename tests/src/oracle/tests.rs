//! The judge can fail: each rule is broken once, by hand.

use super::*;
use std::sync::{Arc, Mutex};

const SINKS: [(&str, Promise, bool); 2] = [
    ("exact", Promise::ExactlyOnce, true),
    ("again", Promise::AtLeastOnce, true),
];
const EXACT: usize = 0;
const AGAIN: usize = 1;

fn event(number: u64, key: u64) -> Change {
    Change {
        table: Table::Events,
        key,
        number,
        is_delete: false,
        transaction: number,
    }
}

/// As the plugins make it, at a place and a position of its own number.
fn arrival(change: &Change) -> Arrival {
    Arrival {
        table: change.table,
        key: change.key,
        number: change.number,
        is_delete: change.is_delete,
        transaction: change.transaction,
        payload: change.payload(),
        email: masked(change),
        tag: "v1".into(),
        at: change.number,
        lsn: Some(change.number * 100),
        is_copy: false,
    }
}

struct Case {
    ledger: Ledger,
    judge: Judge,
    changes: Vec<Change>,
}

/// Changes 1 to 6 of keys 1 and 2 are committed, 7 is rolled back.
fn case() -> Case {
    let mut ledger = Ledger::default();
    ledger.tag("v1".into());
    let changes: Vec<Change> = (1..=7).map(|number| event(number, number % 2)).collect();
    for change in &changes[..6] {
        ledger.committed(
            std::slice::from_ref(change),
            Some((change.number * 100 - 50, change.number * 100 + 50)),
        );
    }
    ledger.undone(&changes[6..]);
    let mut judge = Judge::new(&SINKS);
    judge.copied();
    Case { ledger, judge, changes }
}

impl Case {
    fn arrive(&mut self, sink: usize, arrivals: &[Arrival]) {
        self.judge.arrive(sink, arrivals, &self.ledger);
    }

    fn all(&self) -> Vec<Arrival> {
        self.changes[..6].iter().map(arrival).collect()
    }

    /// The rules that are broken, once the round is over.
    fn rules(mut self, samples: &[Sample]) -> String {
        self.judge.settle(&mut self.ledger, samples);
        self.judge.violations().iter().map(|violation| violation.rule).collect()
    }
}

/// What arrives at the first sink; the second has everything.
fn judged(arrivals: &[Arrival]) -> String {
    let mut case = case();
    let all = case.all();
    case.arrive(AGAIN, &all);
    case.arrive(EXACT, arrivals);
    case.rules(&[])
}

#[test]
fn what_is_in_order_breaks_no_rule() {
    assert_eq!(judged(&case().all()), "");
}

#[test]
fn a_lost_row_is_found() {
    let mut arrivals = case().all();
    arrivals.remove(3);
    assert_eq!(judged(&arrivals), "a");
}

#[test]
fn a_row_that_was_rolled_back_or_never_written_is_found() {
    let (mut rolled_back, mut invented) = (case().all(), case().all());
    rolled_back.push(arrival(&case().changes[6]));
    invented.push(arrival(&event(99, 1)));
    assert_eq!(judged(&rolled_back), "b");
    assert_eq!(judged(&invented), "b");
}

#[test]
fn another_payload_email_tag_transaction_and_position_is_found() {
    let spoilt: [fn(&mut Arrival); 6] = [
        |arrival| arrival.payload.push('x'),
        |arrival| arrival.email = event(3, 1).email(),
        |arrival| arrival.tag = "raw".into(),
        |arrival| arrival.transaction = 4,
        |arrival| arrival.lsn = Some(1_000),
        |arrival| arrival.key = 0,
    ];
    for (place, spoil) in spoilt.iter().enumerate() {
        let mut arrivals = case().all();
        spoil(&mut arrivals[2]);
        assert!(judged(&arrivals).starts_with('c'), "{place}");
    }
}

#[test]
fn two_versions_in_one_transaction_are_found() {
    let mut case = case();
    case.ledger.tag("v2".into());
    let pair: Vec<Change> = [10, 11]
        .map(|number| Change {
            transaction: 10,
            ..event(number, 1)
        })
        .to_vec();
    case.ledger.committed(&pair, None);
    let (mut first, mut second) = (case.all(), case.all());
    for arrivals in [&mut first, &mut second] {
        arrivals.extend(pair.iter().map(arrival));
    }
    first[7].tag = "v2".into();
    case.arrive(EXACT, &first);
    case.arrive(AGAIN, &second);
    assert_eq!(case.rules(&[]), "c");
}

#[test]
fn an_older_row_after_a_newer_one_of_its_key_is_found() {
    let mut arrivals = case().all();
    arrivals.swap(1, 3);
    assert_eq!(judged(&arrivals), "d");
    // Of different keys any order will do.
    let mut arrivals = case().all();
    arrivals.swap(1, 2);
    assert_eq!(judged(&arrivals), "");
}

#[test]
fn a_version_of_an_account_after_its_delete_is_found() {
    let put = Change {
        table: Table::Accounts,
        ..event(20, 5)
    };
    let gone = Change {
        is_delete: true,
        transaction: 21,
        ..put
    };
    let mut case = case();
    case.ledger.committed(&[put, gone], None);
    let all = case.all();
    let late = [&all[..], &[arrival(&gone), arrival(&put)]].concat();
    let good = [&all[..], &[arrival(&put), arrival(&gone)]].concat();
    case.arrive(EXACT, &late);
    case.arrive(AGAIN, &good);
    assert_eq!(case.rules(&[]), "d");
}

#[test]
fn a_doubled_row_is_found_where_none_may_be() {
    let mut arrivals = case().all();
    arrivals.push(arrivals[5].clone());
    assert_eq!(judged(&arrivals), "e");
}

/// After a fault only, and then as it came.
#[test]
fn a_sink_that_may_repeat_repeats_what_came_after_a_fault() {
    let repeated = |is_faulty: bool, again: &[usize]| {
        let mut case = case();
        let all = case.all();
        case.arrive(EXACT, &all);
        case.arrive(AGAIN, &all[..5]);
        if is_faulty {
            case.ledger.fault();
        }
        let again: Vec<Arrival> = again.iter().map(|place| all[*place].clone()).collect();
        case.arrive(AGAIN, &again);
        case.rules(&[])
    };
    assert_eq!(repeated(true, &[2, 3, 4, 5]), "");
    // It broke off, and began anew.
    assert_eq!(repeated(true, &[2, 3, 0, 1, 2, 3, 4, 5]), "");
    assert!(repeated(false, &[3, 4, 5]).starts_with('e'));
    // One of key 1 is left out.
    assert!(repeated(true, &[0, 4, 5]).contains('d'));
    // It goes on before the replay is through.
    assert!(repeated(true, &[1, 5, 3]).contains('d'));
}

#[test]
fn an_acknowledgement_beyond_what_is_there_is_found() {
    let sampled = |acknowledged, had, of_other| {
        let mut case = case();
        let all = case.all();
        case.arrive(EXACT, &all);
        case.arrive(AGAIN, &all);
        case.rules(&[Sample {
            acknowledged,
            sinks: vec![had, of_other],
        }])
    };
    assert_eq!(sampled(450, Some(4), Some(4)), "");
    assert_eq!(sampled(450, Some(3), Some(4)), "f");
    assert_eq!(sampled(450, Some(6), Some(3)), "f");
    // Where a sink couldn't be asked nothing is known of it.
    assert_eq!(sampled(450, None, Some(6)), "");
}

#[test]
fn half_a_transaction_is_found() {
    let mut case = case();
    let pair: Vec<Change> = [10, 11]
        .map(|number| Change {
            transaction: 10,
            ..event(number, 1)
        })
        .to_vec();
    case.ledger.committed(&pair, None);
    let mut all = case.all();
    all.extend(pair.iter().map(arrival));
    case.arrive(EXACT, &all);
    case.arrive(AGAIN, &all);
    let at = |at| Sample {
        acknowledged: 0,
        sinks: vec![Some(at), None],
    };
    assert_eq!(case.rules(&[at(6), at(10), at(11)]), "f");
}

#[test]
fn an_account_that_is_another_or_not_there_is_found() {
    let put = Change {
        table: Table::Accounts,
        ..event(20, 5)
    };
    let next = Change {
        number: 22,
        transaction: 22,
        ..put
    };
    let found = |accounts: &[Arrival]| {
        let mut case = case();
        case.ledger.committed(&[put, next], None);
        case.judge.accounts(&case.ledger, accounts);
        case.judge
            .violations()
            .iter()
            .map(|violation| violation.rule)
            .collect::<String>()
    };
    assert_eq!(found(&[arrival(&next)]), "");
    assert_eq!(found(&[arrival(&put)]), "aa".get(..1).unwrap());
    assert_eq!(found(&[]), "a");
}

#[test]
fn a_warning_that_nobody_expects_and_a_leak_are_found() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let lines = [
        r#"{"level":"INFO","message":"hello"}"#,
        r#"{"level":"WARN","message":"the sink failed and is opened again: reset"}"#,
        r#"{"level":"WARN","message":"something odd"}"#,
        "thread 'main' panicked at src/main.rs",
        r#"{"level":"ERROR","message":"still under way"#,
    ];
    std::fs::write(&log, lines.join("\n")).unwrap();
    let mut outputs = Outputs::new(folder.path());
    assert_eq!(outputs.unexpected().unwrap(), lines[2..4]);
    assert_eq!(outputs.unexpected().unwrap(), [""; 0]);
    assert_eq!(outputs.leaks(&[]).unwrap(), [""; 0]);
    std::fs::create_dir(folder.path().join("state")).unwrap();
    std::fs::write(folder.path().join("state/db"), event(1, 1).email()).unwrap();
    let leaks = outputs.leaks(&[("page", SECRET.to_owned())]).unwrap();
    assert_eq!(leaks.len(), 2, "{leaks:?}");
}

/// What scribes note is what is in the source, whatever becomes of their connections.
#[test]
fn scribes_note_what_was_committed() {
    let options = crate::ClusterOptions {
        settings: vec!["max_prepared_transactions=4".into()],
        ..Default::default()
    };
    let source = crate::Cluster::start_with(&options).unwrap();
    source.sql("postgres", "CREATE DATABASE source").unwrap();
    source.script("source", TABLES).unwrap();
    let ledger = Arc::new(Mutex::new(Ledger::default()));
    let scribes = Scribes::start(&source, &ledger, 3, std::time::Duration::from_millis(2), 1, true);
    let obligations = || ledger.lock().unwrap().obligations();
    for until in [200, 400, 600] {
        crate::wait_until("writes", crate::LONG, || Ok((obligations() > until).then_some(()))).unwrap();
        source.stop_server("immediate").unwrap();
        source.start_server().unwrap();
    }
    scribes.pause(true);
    crate::wait_until("rest", crate::LONG, || Ok(scribes.rest()?.then_some(()))).unwrap();
    let ledger = ledger.lock().unwrap();
    let events = source.sql("source", "SELECT id FROM events ORDER BY 1").unwrap();
    let mut noted: Vec<u64> = ledger
        .due
        .values()
        .filter(|change| change.table == Table::Events)
        .map(|change| change.number)
        .collect();
    noted.sort_unstable();
    assert_eq!(
        events.lines().map(|id| id.parse().unwrap()).collect::<Vec<u64>>(),
        noted
    );
    let accounts = source
        .sql("source", "SELECT key || ' ' || seq FROM accounts ORDER BY key")
        .unwrap();
    let mut noted: Vec<(u64, u64)> = ledger
        .accounts
        .iter()
        .filter_map(|(key, number)| Some((*key, (*number)?)))
        .collect();
    noted.sort_unstable();
    let noted: Vec<String> = noted.iter().map(|(key, number)| format!("{key} {number}")).collect();
    assert_eq!(accounts, noted.join("\n"));
    assert!(ledger.forbidden() > 0 && ledger.prepared() > 0);
    let left = source.sql("source", "SELECT count(*) FROM pg_prepared_xacts").unwrap();
    assert_eq!(left, "0", "who rests has nothing prepared");
}
