//! Changes that a sink can't take.

use super::*;
use crate::batch::Lsn;

const LSN: u64 = 0x20;

/// An insert of key 1, its update, an insert of key 2: in one transaction.
fn delivery() -> Delivery {
    let relation = orders();
    let row = |id: &'static str| [text(id), text("a"), Value::Null];
    Builder::new()
        .transaction(LSN, Part::Whole)
        .insert(&relation, &row("1"))
        .update(&relation, &row("1"), None)
        .insert(&relation, &row("2"))
        .delivery(7)
}

#[test]
fn it_stands_in_a_letter_once_it_comes_again() {
    let folder = tempfile::tempdir().unwrap();
    let first = delivery().rows[0].ordinal;
    assert!(open(folder.path()).refuse(ROUTE, Lsn(LSN), first, "warehouse").unwrap());
    let asked = peek(folder.path(), |_| {}).unwrap().refused;
    assert_eq!(
        asked.into_iter().collect::<Vec<_>>(),
        [((Lsn(LSN), first), "warehouse".to_owned())]
    );

    // A file that is written anew has it, too.
    let letters = open(folder.path());
    letters.with(|state| state.compact()).unwrap();
    drop(letters);
    let letters = open(folder.path());
    assert!(!letters.is_empty());
    let (delivery, route) = (delivery(), letters.route(ROUTE));
    // No plugin is shown it, or what comes behind it.
    let behind = letters.behind(route, &delivery.batch, &delivery.rows, |_| true);
    let shown = delivery.rows.iter().map(|row| !behind.held().holds(row));
    assert_eq!(shown.collect::<Vec<_>>(), [false, false, true]);
    assert_eq!(pass(&letters, &delivery, &[]), [2]);
    assert_eq!(numbers(folder.path()), [1, 2]);
    let peeked = peek(folder.path(), |_| {}).unwrap();
    let cause = peeked.letters[&1].cause.as_ref().unwrap();
    assert_eq!(cause.to_string(), "refused: sink warehouse can't take it");
    assert_eq!(peeked.letters[&2].behind, Some(1));
    assert!(peeked.refused.is_empty());

    // It is known now, however often it comes and whoever asks.
    assert_eq!(pass(&letters, &delivery, &[]), [2]);
    assert!(!letters.refuse(ROUTE, Lsn(LSN), first, "warehouse").unwrap());
    assert_eq!(numbers(folder.path()), [1, 2]);
}

/// Where its transaction is acknowledged it never comes again.
#[test]
fn it_is_forgotten_once_it_cannot_come_again() {
    let folder = tempfile::tempdir().unwrap();
    let letters = open(folder.path());
    assert!(letters.refuse(ROUTE, Lsn(LSN), 0, "warehouse").unwrap());
    letters.acknowledged(Lsn(LSN));
    assert!(!letters.is_empty());
    assert_eq!(peek(folder.path(), |_| {}).unwrap().refused.len(), 1);
    letters.acknowledged(Lsn(LSN + 1));
    assert!(letters.is_empty());
    assert!(peek(folder.path(), |_| {}).unwrap().refused.is_empty());
    drop(letters);
    assert!(open(folder.path()).is_empty());
}

/// A letter and a refusal of changes that never happened, where a server's new timeline parts from the old one before them.
#[test]
fn nothing_is_kept_of_what_never_happened() {
    let folder = tempfile::tempdir().unwrap();
    let letters = open(folder.path());
    for (lsn, id) in [(0x10, "1"), (LSN, "2"), (0x30, "3")] {
        assert_eq!(pass(&letters, &insert(lsn, id).delivery(lsn), &[0]), [0; 0]);
    }
    letters.drop_letters(&Selection::Numbers(vec![3])).unwrap();
    assert!(letters.refuse(ROUTE, Lsn(0x40), 0, "warehouse").unwrap());
    assert_eq!(letters.forget_lost(Lsn(LSN)).unwrap(), [2]);
    drop(letters);
    // What commits there now is another change, of whatever key.
    let letters = open(folder.path());
    assert_eq!(numbers(folder.path()), [1]);
    for (lsn, id) in [(LSN, "2"), (0x30, "3"), (0x40, "4")] {
        assert_eq!(pass(&letters, &insert(lsn, id).delivery(lsn), &[]), [0]);
    }
    assert_eq!(letters.forget_lost(Lsn(LSN)).unwrap(), [0; 0]);
    assert_eq!(pass(&letters, &update(0x50, "1").delivery(9), &[]), [0; 0]);
}
