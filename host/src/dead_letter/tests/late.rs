//! Letters of rows that are copied for some sinks of their route alone.

use super::*;
use crate::batch::Lsn;

/// The row of a unit, which these sinks lack.
fn copied(letters: &DeadLetters, sinks: &[&str]) {
    let (relation, row) = (orders(), [text("1"), text("a"), Value::Null]);
    let delivery = Builder::new().copy(0x10, 0).row(Op::Read, &relation, Some(&row), None);
    let delivery = delivery.delivery(1);
    let names = || sinks.iter().map(|name| (*name).to_owned()).collect();
    let lacking = |_: &Row| (sinks != ["all"]).then(names);
    let (route, asides) = (letters.route(ROUTE), vec![rejected(&delivery.rows[0])]);
    let held = letters
        .set_aside_for(
            route,
            &delivery.batch,
            &delivery.rows,
            asides,
            &Held::default(),
            &lacking,
        )
        .unwrap();
    assert_eq!(held.len(), 1, "nobody gets it");
}

/// Which of these sinks what is asked for is sent to.
fn sent_to(letters: &DeadLetters) -> (Vec<&'static str>, Ticket) {
    let replay = letters.take_replay(Lsn(u64::MAX)).unwrap().unwrap();
    assert_eq!(replay.len(), 1);
    let row = replay.rows[0].1[0];
    let sinks = ["feed", "archive", "mirror"].into_iter();
    (sinks.filter(|sink| replay.is_for(&row, sink)).collect(), replay.ticket)
}

#[test]
fn a_letter_is_sent_to_the_sinks_that_lack_it() {
    let all = ["feed", "archive", "mirror"];
    let cases: [(&[&[&str]], &[&str]); 7] = [
        (&[&["all"]], &all),
        (&[&["archive"]], &["archive"]),
        // The copy begins once more, for another sink, too.
        (&[&["archive"], &["archive", "mirror"]], &["archive", "mirror"]),
        (&[&["archive"], &["mirror"]], &["archive", "mirror"]),
        (&[&["archive"], &["archive"]], &["archive"]),
        (&[&["archive"], &["all"]], &all),
        (&[&["all"], &["archive"]], &all),
    ];
    for (came, expected) in cases {
        let folder = tempfile::tempdir().unwrap();
        let letters = open(folder.path());
        came.iter().for_each(|sinks| copied(&letters, sinks));
        assert_eq!(numbers(folder.path()), [1], "{came:?}");
        letters.with(|state| state.compact()).unwrap();
        drop(letters);
        let letters = open(folder.path());
        letters.request_replay(&Selection::All, false).unwrap();
        let (sinks, ticket) = sent_to(&letters);
        assert_eq!(sinks, expected, "{came:?}");
        letters.settle(ticket).unwrap();
        assert_eq!(numbers(folder.path()), [0; 0]);
    }
}

/// The letter is on its way to one of them by then.
#[test]
fn one_that_more_sinks_lack_meanwhile_is_sent_to_these_too() {
    let folder = tempfile::tempdir().unwrap();
    let letters = open(folder.path());
    copied(&letters, &["archive"]);
    letters.request_replay(&Selection::All, false).unwrap();
    let (sinks, ticket) = sent_to(&letters);
    assert_eq!(sinks, ["archive"]);
    copied(&letters, &["mirror"]);
    letters.settle(ticket).unwrap();
    let (sinks, ticket) = sent_to(&letters);
    assert_eq!(sinks, ["archive", "mirror"]);
    letters.settle(ticket).unwrap();
    assert!(letters.take_replay(Lsn(u64::MAX)).unwrap().is_none());
    assert_eq!(numbers(folder.path()), [0; 0]);
}

/// Of a route that leads to none of them.
#[test]
fn what_no_sink_lacks_is_no_letter() {
    let folder = tempfile::tempdir().unwrap();
    let letters = open(folder.path());
    copied(&letters, &[]);
    assert_eq!(numbers(folder.path()), [0; 0]);
    assert!(letters.is_empty());
}
