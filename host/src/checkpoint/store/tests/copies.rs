//! What is stored of tables under copy.

use super::*;

#[test]
fn ranges_are_entered_with_the_position_and_joined_where_they_meet() {
    let bench = Bench::new();
    let store = bench.open();
    store.set_copy(&copy(1), &[]).unwrap();
    store.advance(Some(Lsn(9)), &[unit(1, 1, 2)]).unwrap();
    assert_eq!(copied(&store), ["10-20:1"]);
    store.advance(None, &[unit(1, 4, 0), unit(1, 2, 3)]).unwrap();
    assert_eq!(copied(&store), ["10-30:2", "40-:1"]);
    store.advance(None, &[unit(1, 0, 1), unit(1, 3, 4)]).unwrap();
    assert_eq!(copied(&store), ["-:5"]);
    assert_eq!(store.copied_ranges(16384).unwrap()[0].rows, 50);
    store.advance(None, &[TABLE_DONE]).unwrap();
    assert_eq!(store.copies().unwrap()[0].state, CopyState::Finished);
    assert_eq!(copied(&store), [""; 0], "a copied table needs no ranges");
    assert_eq!(store.position().unwrap(), Some(Lsn(9)));
}

#[test]
fn a_copy_goes_on_from_the_ranges_that_it_is_given() {
    let bench = Bench::new();
    let store = bench.open();
    store.set_copy(&copy(1), &[]).unwrap();
    store.advance(None, &[unit(1, 1, 2), unit(1, 3, 4)]).unwrap();
    let mut ranges = store.copied_ranges(16384).unwrap();
    ranges.pop();
    store.set_copy(&copy(2), &ranges).unwrap();
    assert_eq!(copied(&store), ["10-20:1"]);
    store.advance(None, &[unit(1, 2, 3), unit(2, 4, 5)]).unwrap();
    assert_eq!(
        copied(&store),
        ["10-20:1", "40-50:1"],
        "late marks of an epoch that is over"
    );
}

#[test]
fn a_copy_that_starts_over_forgets_its_ranges_and_late_marks() {
    let bench = Bench::new();
    let store = bench.open();
    store.set_copy(&copy(1), &[]).unwrap();
    store.advance(None, &[unit(1, 0, 1)]).unwrap();
    store.restart_copy(16384, 2).unwrap();
    store.advance(None, &[unit(1, 1, 2), TABLE_DONE]).unwrap();
    assert_eq!(copied(&store), [""; 0]);
    assert_eq!(store.copies().unwrap(), vec![copy(2)]);
    let table_done = Mark::TableDone {
        table_oid: 16384,
        epoch: 4,
    };
    store.advance(None, &[table_done]).unwrap();
    assert_eq!(store.copies().unwrap()[0].state, CopyState::Finished);
    assert_eq!(store.copies().unwrap()[0].epoch, 4);
    store.remove_copy(16384).unwrap();
    assert_eq!(store.copies().unwrap(), vec![]);
    store.restart_copy(16384, 5).unwrap();
    assert_eq!(store.copies().unwrap(), vec![]);
}

#[test]
fn a_table_is_copied_again_once_its_targets_are_empty() {
    let bench = Bench::new();
    let store = bench.open();
    store.set_copy(&copy(1), &[]).unwrap();
    store.advance(None, &[unit(1, 0, 1)]).unwrap();
    store.copy_again(16384, "public.orders").unwrap();
    // What the copy before still reports, the emptying of an earlier order among it.
    let emptied = |epoch| Mark::Emptied {
        table_oid: 16384,
        epoch,
    };
    store.advance(None, &[emptied(1), unit(1, 1, 2), TABLE_DONE]).unwrap();
    store.restart_copy(16384, 2).unwrap();
    store.advance(None, &[unit(2, 1, 2)]).unwrap();
    let again = store.copies().unwrap().remove(0);
    assert_eq!((again.epoch, again.state, again.empties), (2, CopyState::Planned, true));
    assert_eq!(copied(&store), [""; 0]);

    let begun = TableCopy {
        epoch: 3,
        began: 3,
        ..again
    };
    store.set_copy(&begun, &[]).unwrap();
    store.advance(None, &[emptied(3), unit(3, 0, 1)]).unwrap();
    assert!(!store.copies().unwrap()[0].empties);
    assert_eq!(copied(&store), ["-10:1"]);
}

/// The targets are emptied, and before that is known to be durable the table is truncated at the source: the copy that
/// starts over has them empty. One that is ordered meanwhile hasn't, whatever comes of the one before.
#[test]
fn a_copy_that_starts_over_has_its_targets_emptied_once() {
    for again in [false, true] {
        let bench = Bench::new();
        let store = bench.open();
        let begun = TableCopy {
            empties: true,
            ..copy(1)
        };
        store.set_copy(&begun, &[]).unwrap();
        store.restart_copy(16384, 2).unwrap();
        if again {
            store.copy_again(16384, "public.orders").unwrap();
            store.restart_copy(16384, 3).unwrap();
        }
        let emptied = Mark::Emptied {
            table_oid: 16384,
            epoch: 1,
        };
        store.advance(None, &[emptied, unit(1, 2, 3), unit(2, 0, 1)]).unwrap();
        store.advance(None, &[unit(3, 1, 2)]).unwrap();
        assert_eq!(store.copies().unwrap()[0].empties, again);
        let counted: &[&str] = if again { &[] } else { &["-20:2"] };
        assert_eq!(copied(&store), counted);
    }
}

#[test]
fn copies_under_way_begin_anew_on_another_timeline() {
    let bench = Bench::new();
    let store = bench.open();
    let planned = |table_oid, basis: &str, only: &[&str]| TableCopy {
        table_oid,
        table: format!("public.t{table_oid}"),
        basis: basis.into(),
        reach: Reach {
            only: only.iter().map(|name| (*name).to_owned()).collect(),
            ..Reach::default()
        },
        ..copy(1)
    };
    let finished = TableCopy {
        state: CopyState::Finished,
        ..planned(5, "id int4", &[])
    };
    let never_begun = planned(4, "", &[]);
    for copy in [
        copy(1),
        planned(2, "id int4", &["late"]),
        planned(3, "", &["late"]),
        never_begun.clone(),
        finished.clone(),
    ] {
        store.set_copy(&copy, &[]).unwrap();
    }
    store.advance(Some(Lsn(0x20)), &[unit(1, 0, 1)]).unwrap();
    let ahead = |table_oid, finish| RowsAhead {
        table_oid,
        snapshot: "5:5:".into(),
        finish: Lsn(finish),
        keys: Vec::new(),
        repair: false,
    };
    // Those of the second are passed.
    store.add_ahead(&[ahead(2, 0x20), ahead(3, 0x21)]).unwrap();

    let sinks = ["late".to_owned()];
    let mut anew = store.take_up_timeline(&identity(), Lsn(0x30), &sinks).unwrap();
    anew.sort_unstable();
    assert_eq!(anew, ["public.orders", "public.t2", "public.t3"]);
    assert_eq!(copied(&store), [""; 0]);
    assert_eq!(store.rows_ahead(3).unwrap(), vec![]);
    let copies = store.copies().unwrap();
    let only = |oid| {
        let copy = copies.iter().find(|copy| copy.table_oid == oid).unwrap();
        assert!(copy.empties && copy.basis.is_empty() && copy.epoch == 2, "{copy:?}");
        copy.reach.only.clone()
    };
    assert_eq!(only(16384), [""; 0]);
    assert_eq!(only(2), ["late"]);
    assert_eq!(only(3), ["late"], "what was ahead is there alone");
    assert!(copies.contains(&never_begun) && copies.contains(&finished));
}

#[test]
fn nothing_counts_of_a_table_that_has_left() {
    let bench = Bench::new();
    let store = bench.open();
    let left = TableCopy {
        state: CopyState::Left,
        ..copy(2)
    };
    store.set_copy(&left, &[]).unwrap();
    // A TRUNCATE had its copy begun anew, as an epoch that nobody knew of who found it gone.
    let table_done = Mark::TableDone {
        table_oid: 16384,
        epoch: 3,
    };
    store.advance(None, &[unit(3, 0, 1), table_done]).unwrap();
    assert_eq!(store.copies().unwrap(), vec![left]);
    assert_eq!(copied(&store), [""; 0]);
}

#[test]
fn the_publication_of_the_last_look_is_kept() {
    let bench = Bench::new();
    let store = bench.open();
    assert_eq!(
        store.published().unwrap(),
        None,
        "as in a state from before it was kept"
    );
    let orders = PublishedTable {
        oid: 16384,
        table: "public.orders".into(),
        publication: 16500,
        entry: Some(16501),
        sent: None,
    };
    store.set_published(std::slice::from_ref(&orders)).unwrap();
    drop(store);
    assert_eq!(bench.open().published().unwrap(), Some(vec![orders]));
}
