//! Which keys are the same one.

use super::*;
use crate::batch::{Column, ReplicaIdentity};

/// `orders` with other key columns or types.
fn altered(change: impl Fn(&mut Relation)) -> Arc<Relation> {
    let mut relation = Relation::clone(&orders());
    relation.index = Relation::next_index();
    change(&mut relation);
    Arc::new(relation)
}

/// `digest` of type bytea, known by the whole row.
fn files() -> Arc<Relation> {
    altered(|relation| {
        relation.replica_identity = ReplicaIdentity::Full;
        relation.columns.truncate(1);
        relation.slots = 1;
        relation.columns[0] = Column {
            name: "digest".to_owned(),
            type_oid: 17,
            type_name: "bytea".to_owned(),
            ..relation.columns[0].clone()
        };
    })
}

const FORMS: [[Value<'static>; 1]; 2] = [[Value::Binary(b"\x00\xab\x7f")], [Value::Text(b"\\x00ab7f")]];

fn delete(lsn: u64, relation: &Arc<Relation>, row: &[Value<'_>]) -> Delivery {
    let delete = Builder::new().transaction(lsn, Part::Whole).delete(relation, row);
    delete.delivery(lsn)
}

#[test]
fn the_same_in_whichever_form_it_was_received() {
    for (before, after) in [(0, 1), (1, 0)] {
        let folder = tempfile::tempdir().unwrap();
        let letters = open(folder.path());
        let insert = Builder::new().transaction(0x10, Part::Whole);
        let insert = insert.insert(&files(), &FORMS[before]).delivery(1);
        assert_eq!(pass(&letters, &insert, &[0]), [] as [usize; 0]);
        drop(letters);
        // The setting was changed: the host has started again.
        let letters = open(folder.path());
        assert_eq!(
            pass(&letters, &delete(0x20, &files(), &FORMS[after]), &[]),
            [] as [usize; 0]
        );
        let other = [text("\\x00ab7e")];
        assert_eq!(pass(&letters, &delete(0x30, &files(), &other), &[]), [0]);
        assert_eq!(letters.counts().blocked_keys, 1);
    }
}

#[test]
fn a_copied_row_that_is_read_again_in_the_other_form_is_the_same() {
    for (before, after) in [(0, 1), (1, 0)] {
        let folder = tempfile::tempdir().unwrap();
        let copied = |form: usize| {
            let copied = Builder::new().copy(0x10, 1);
            copied.row(Op::Read, &files(), Some(&FORMS[form]), None).delivery(1)
        };
        pass(&open(folder.path()), &copied(before), &[0]);
        assert_eq!(pass(&open(folder.path()), &copied(after), &[0]), [] as [usize; 0]);
        assert_eq!(numbers(folder.path()), [1]);
    }
}

#[test]
fn what_fails_again_holds_back_keys_that_it_cant_be_compared_with() {
    let folder = tempfile::tempdir().unwrap();
    let letters = open(folder.path());
    let longer = altered(|relation| relation.columns[1].key = true);
    pass(&letters, &insert(0x10, "1").delivery(1), &[0]);
    pass(
        &letters,
        &delete(0x20, &longer, &[text("1"), text("a"), Value::Absent]),
        &[],
    );
    pass(
        &letters,
        &delete(0x30, &longer, &[text("9"), text("z"), Value::Absent]),
        &[],
    );
    assert_eq!(numbers(folder.path()), [1, 2, 3]);
    letters.request_replay(&Selection::All, false).unwrap();
    assert_eq!(replay(&letters, &[1]), [] as [u64; 0], "they would overtake it");
    letters.request_replay(&Selection::All, false).unwrap();
    assert_eq!(replay(&letters, &[2]), [1, 3]);
    letters.request_replay(&Selection::All, false).unwrap();
    assert_eq!(replay(&letters, &[]), [2]);
}

#[test]
fn a_type_that_prints_its_values_in_another_way_makes_keys_that_cant_be_compared() {
    let numeric = |type_oid, typmod| {
        altered(|relation| (relation.columns[0].type_oid, relation.columns[0].typmod) = (type_oid, typmod))
    };
    let row = |id| [text(id), Value::Absent, Value::Absent];
    // From numeric(9,1) to numeric(9,2); from int4 to int8.
    let passes: [usize; 1] = [0];
    for (before, after, same, passing) in [
        (numeric(1700, 589_829), numeric(1700, 589_830), ["1.0", "1.00"], &[][..]),
        (numeric(23, -1), numeric(20, -1), ["1", "1"], &passes[..]),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let letters = open(folder.path());
        pass(&letters, &delete(0x10, &before, &row(same[0])), &[0]);
        assert_eq!(
            pass(&letters, &delete(0x20, &after, &row(same[1])), &[]),
            [] as [usize; 0]
        );
        assert_eq!(pass(&letters, &delete(0x30, &after, &row("2")), &[]), passing);
    }
}

#[test]
fn a_table_that_has_lost_its_key_waits_as_a_whole() {
    let folder = tempfile::tempdir().unwrap();
    let letters = open(folder.path());
    pass(&letters, &insert(0x10, "1").delivery(1), &[0]);
    let keyless = altered(|relation| {
        relation.replica_identity = ReplicaIdentity::Nothing;
        relation.columns.iter_mut().for_each(|column| column.key = false);
    });
    let insert = Builder::new().transaction(0x20, Part::Whole);
    let insert = insert.insert(&keyless, &[text("1"), text("b"), Value::Null]);
    assert_eq!(pass(&letters, &insert.delivery(2), &[]), [] as [usize; 0]);
}
