//! Who waits behind whom.

use super::*;

#[test]
fn later_changes_of_the_key_wait_and_others_pass() {
    let folder = tempfile::tempdir().unwrap();
    let letters = open(folder.path());
    assert!(letters.is_empty());
    assert_eq!(pass(&letters, &insert(0x10, "1").delivery(1), &[0]), [] as [usize; 0]);
    assert!(!letters.is_empty());
    assert_eq!(pass(&letters, &update(0x20, "1").delivery(2), &[]), [] as [usize; 0]);
    assert_eq!(pass(&letters, &insert(0x30, "2").delivery(3), &[]), [0]);
    let peeked = peek(folder.path(), |_| {}).unwrap();
    let (first, second) = (&peeked.letters[&1], &peeked.letters[&2]);
    assert_eq!((first.behind, second.behind), (None, Some(1)));
    assert_eq!(first.reason(), "rejected bad: no good");
    assert_eq!(second.reason(), "waits behind letter 1");
    let counts = letters.counts();
    assert_eq!((counts.letters, counts.blocked_keys, counts.set_aside), (2, 1, 2));
}

#[test]
fn a_key_change_blocks_both_keys() {
    let folder = tempfile::tempdir().unwrap();
    let letters = open(folder.path());
    let relation = orders();
    let (new, old) = (
        [text("2"), text("a"), Value::Null],
        [text("1"), Value::Absent, Value::Absent],
    );
    let moved = Builder::new()
        .transaction(0x10, Part::Whole)
        .update(&relation, &new, Some(&old));
    pass(&letters, &moved.delivery(1), &[0]);
    assert_eq!(pass(&letters, &update(0x20, "1").delivery(2), &[]), [] as [usize; 0]);
    assert_eq!(pass(&letters, &update(0x30, "2").delivery(3), &[]), [] as [usize; 0]);
    assert_eq!(pass(&letters, &update(0x40, "3").delivery(4), &[]), [0]);
    assert_eq!(letters.counts().blocked_keys, 2);
}

#[test]
fn a_truncate_frees_the_keys_and_letters_before_it_are_superseded() {
    let folder = tempfile::tempdir().unwrap();
    let letters = open(folder.path());
    let relation = orders();
    let row = [text("1"), text("a"), Value::Null];
    let batch = Builder::new()
        .transaction(0x10, Part::Whole)
        .insert(&relation, &row)
        .truncate(&[&relation], false, false)
        .insert(&relation, &row)
        .delivery(1);
    assert_eq!(pass(&letters, &batch, &[0]), [1, 2]);
    assert_eq!(letters.counts().blocked_keys, 0);
    drop(letters);

    let letters = open(folder.path());
    assert_eq!(pass(&letters, &update(0x20, "1").delivery(2), &[]), [0]);
    let refused = letters.request_replay(&Selection::Numbers(vec![1]), false).unwrap_err();
    assert_eq!(refused.code, "E0805");
    let all = letters.request_replay(&Selection::All, false).unwrap();
    assert_eq!((all.letters, all.superseded), (vec![], vec![1]));
    letters.request_replay(&Selection::Numbers(vec![1]), true).unwrap();
    assert_eq!(replay(&letters, &[]), [1]);
    assert_eq!(numbers(folder.path()), [] as [u64; 0]);
}

#[test]
fn a_stream_that_is_read_again_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let letters = open(folder.path());
    let stream = [
        insert(0x10, "1").delivery(1),
        update(0x20, "1").delivery(2),
        update(0x30, "1").delivery(3),
    ];
    assert_eq!(pass(&letters, &stream[0], &[]), [0]);
    pass(&letters, &stream[1], &[0]);
    pass(&letters, &stream[2], &[]);
    let before = std::fs::read(file::path(folder.path())).unwrap();
    drop(letters);

    // What came before the letter isn't blocked by it; this time the plugin takes the second one through.
    let letters = open(folder.path());
    assert_eq!(pass(&letters, &stream[0], &[]), [0]);
    assert_eq!(pass(&letters, &stream[1], &[]), [] as [usize; 0]);
    assert_eq!(pass(&letters, &stream[2], &[]), [] as [usize; 0]);
    assert_eq!(std::fs::read(file::path(folder.path())).unwrap(), before);
    letters.drop_letters(&Selection::All).unwrap();
    drop(letters);

    // What was dropped stays dropped until its position is acknowledged.
    let letters = open(folder.path());
    assert_eq!(pass(&letters, &stream[1], &[0]), [] as [usize; 0]);
    assert_eq!(letters.counts().letters, 0);
    letters.acknowledged(crate::batch::Lsn(0x40));
    assert!(letters.is_empty());
}

#[test]
fn without_a_key_the_whole_row_counts_and_copied_rows_wait_too() {
    let folder = tempfile::tempdir().unwrap();
    let letters = open(folder.path());
    let keyless = Arc::new(Relation {
        columns: orders()
            .columns
            .iter()
            .map(|c| crate::batch::Column { key: true, ..c.clone() })
            .collect(),
        replica_identity: crate::batch::ReplicaIdentity::Full,
        ..Relation::clone(&orders())
    });
    let row = [text("1"), text("a"), Value::Null];
    let other = [text("1"), text("b"), Value::Null];
    let copied = Builder::new()
        .copy(0x10, 1)
        .row(Op::Read, &keyless, Some(&row), None)
        .row(Op::Read, &keyless, Some(&row), None)
        .row(Op::Read, &keyless, Some(&other), None)
        .delivery(1);
    // The same row twice: the second waits behind the first, neither is lost.
    assert_eq!(pass(&letters, &copied, &[0]), [2]);
    assert_eq!(numbers(folder.path()), [1, 2]);
    assert_eq!(pass(&letters, &copied, &[0]), [2]);
    assert_eq!(numbers(folder.path()), [1, 2]);
    let delete = |lsn, row: &[Value<'_>]| Builder::new().transaction(lsn, Part::Whole).delete(&keyless, row);
    assert_eq!(pass(&letters, &delete(0x20, &other).delivery(2), &[]), [0]);
    assert_eq!(pass(&letters, &delete(0x30, &row).delivery(3), &[]), [] as [usize; 0]);
}

#[test]
fn a_key_of_another_shape_waits_behind_the_whole_table() {
    let folder = tempfile::tempdir().unwrap();
    let letters = open(folder.path());
    pass(&letters, &insert(0x10, "1").delivery(1), &[0]);
    let mut altered = Relation::clone(&orders());
    altered.index = Relation::next_index();
    altered.columns[1].key = true;
    let row = [text("9"), text("z"), Value::Null];
    let batch = Builder::new()
        .transaction(0x20, Part::Whole)
        .insert(&Arc::new(altered), &row);
    assert_eq!(pass(&letters, &batch.delivery(2), &[]), [] as [usize; 0]);
}

#[test]
fn too_many_that_wait_stop_the_pipeline_until_the_store_is_opened_again() {
    let folder = tempfile::tempdir().unwrap();
    let limits = config::DeadLetters {
        max_behind: 1,
        ..limits()
    };
    let letters = DeadLetters::open(folder.path(), "shop", &limits).unwrap();
    pass(&letters, &insert(0x10, "1").delivery(1), &[0]);
    pass(&letters, &update(0x20, "1").delivery(2), &[]);
    let third = update(0x30, "1").delivery(3);
    let set_aside = |letters: &DeadLetters| {
        let route = letters.route(ROUTE);
        letters
            .set_aside(route, &third.batch, &third.rows, vec![], &Held::default())
            .map(|_| ())
    };
    let problem = set_aside(&letters).unwrap_err();
    assert_eq!(problem.code, "E0802");
    assert!(problem.help.contains("--table public.orders"), "{}", problem.help);
    drop(letters);
    let letters = DeadLetters::open(folder.path(), "shop", &limits).unwrap();
    letters
        .request_replay(&Selection::Table("public.orders".into()), false)
        .unwrap();
    // Nothing may come to wait behind it meanwhile: it would stop the table once more.
    assert!(letters.take_replay(crate::batch::Lsn(u64::MAX)).unwrap().unwrap().hold);
    letters.begin_session();
    assert_eq!(replay(&letters, &[]), [1, 2]);
    set_aside(&letters).unwrap();
    assert_eq!(numbers(folder.path()), [] as [u64; 0]);
}

/// Whether a plugin that keeps something lets the truncate go isn't known before it has seen it: what comes behind it waits,
/// and isn't forgotten where it was let go.
#[test]
fn what_has_waited_for_a_truncate_that_frees_its_key_is_sent_without_being_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let letters = open(folder.path());
    pass(&letters, &insert(0x10, "1").delivery(1), &[0]);
    let (relation, row) = (orders(), [text("1"), text("b"), Value::Null]);
    let behind = Builder::new().transaction(0x20, Part::Whole);
    let behind = behind.truncate(&[&relation], false, false).insert(&relation, &row);
    let (behind, route) = (behind.delivery(2), letters.route(ROUTE));
    let waits = |counts: bool| {
        letters
            .behind(route, &behind.batch, &behind.rows, |_| counts)
            .into_held()
    };
    assert!(waits(true).is_empty());
    let waiting = waits(false);
    assert_eq!(waiting.len(), 1);
    let held = letters.set_aside(route, &behind.batch, &behind.rows, Vec::new(), &waiting);
    assert_eq!(held.unwrap(), waiting);
    assert_eq!(replay(&letters, &[]), [2]);
    assert_eq!(numbers(folder.path()), [1]);
    assert_eq!(pass(&letters, &update(0x30, "1").delivery(3), &[]), [0]);
}

#[test]
fn routes_with_the_same_tables_have_letters_of_their_own() {
    let names = route_names(["a.b".to_owned(), "c.d".to_owned(), "a.b".to_owned()]);
    assert_eq!(names, ["a.b", "c.d", "a.b#2"]);
    let folder = tempfile::tempdir().unwrap();
    let letters = open(folder.path());
    let batch = insert(0x10, "1").delivery(1);
    for name in [&names[0], &names[2]] {
        let route = letters.route(name);
        let asides = vec![rejected(&batch.rows[0])];
        let held = letters
            .set_aside(route, &batch.batch, &batch.rows, asides, &Held::default())
            .unwrap();
        assert_eq!(held.len(), 1);
    }
    assert_eq!(numbers(folder.path()), [1, 2]);
}
