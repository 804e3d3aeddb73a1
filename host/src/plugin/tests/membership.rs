//! A filter on `status`, for each operation and each verdict on old and new, and what leaves.

use super::*;
use crate::plugin::RowErrorKind;

fn accounts() -> Arc<Relation> {
    table(&[("id", INT4, true), ("status", TEXT, false), ("note", TEXT, false)])
}

/// Sends one change through a filter whose bitmap is `bits`.
fn judged(
    mode: FilterMode,
    read: &[i64],
    bits: u8,
    op: Op,
    old: Option<(OldImage, &[&str])>,
    new: Option<&[&str]>,
) -> Result<Vec<String>, PluginError> {
    let images = match (mode, op) {
        (FilterMode::Membership, Op::Update) if old.is_some_and(|(_, old)| old[read[0] as usize] != "-") => 2,
        _ => 1,
    };
    let reply = arr(&[i(0), bin(&[bits]), nil()]);
    let version = filter(wishes(read, &[], None), reply).version("guest")?;
    let mut chain = Chain::new(&ENGINE, &[version], mode, Mode::Live)?;
    let mut batch = batch(&accounts());
    let mut rows = vec![row(&mut batch, op, old, new)];
    assert!(images <= 2);
    chain.process(&mut batch, &mut rows, &mut Processed::default())?;
    Ok(shown(&batch, &rows))
}

const NEW: Option<&[&str]> = Some(&["1", "paid", "n"]);
const FULL: Option<(OldImage, &[&str])> = Some((OldImage::Full, &["1", "open", "m"]));
const KEY: Option<(OldImage, &[&str])> = Some((OldImage::Key, &["9", "-", "-"]));

#[test]
fn membership() {
    let table = [
        (Op::Insert, None, NEW, 0b1, vec!["insert 1 paid n"]),
        (Op::Insert, None, NEW, 0b0, vec![]),
        (Op::Read, None, NEW, 0b1, vec!["read 1 paid n"]),
        (Op::Read, None, NEW, 0b0, vec![]),
        (Op::Update, FULL, NEW, 0b11, vec!["update (1 open m) 1 paid n"]),
        (Op::Update, FULL, NEW, 0b10, vec!["insert 1 paid n"]),
        (Op::Update, FULL, NEW, 0b01, vec!["delete (1 open m)"]),
        (Op::Update, FULL, NEW, 0b00, vec![]),
        (Op::Update, None, NEW, 0b1, vec!["upsert 1 paid n"]),
        (Op::Update, None, NEW, 0b0, vec!["delete (1 - -)"]),
        (Op::Update, KEY, NEW, 0b1, vec!["upsert (9 - -) 1 paid n"]),
        (Op::Update, KEY, NEW, 0b0, vec!["delete (9 - -)"]),
        (Op::Delete, FULL, None, 0b1, vec!["delete (1 open m)"]),
        (Op::Delete, FULL, None, 0b0, vec![]),
        (Op::Delete, KEY, None, 0b0, vec!["delete (9 - -)"]),
    ];
    for (op, old, new, bits, left) in table {
        let got = judged(FilterMode::Membership, &[1], bits, op, old, new).unwrap();
        assert_eq!(got, left, "{op:?} {old:?} {bits:b}");
    }
}

#[test]
fn events() {
    let table = [
        (Op::Insert, None, NEW, 0b0, vec![]),
        (Op::Update, FULL, NEW, 0b1, vec!["update (1 open m) 1 paid n"]),
        (Op::Update, FULL, NEW, 0b0, vec![]),
        (Op::Update, None, NEW, 0b1, vec!["update 1 paid n"]),
        (Op::Update, KEY, NEW, 0b0, vec![]),
        (Op::Delete, FULL, None, 0b0, vec![]),
        (Op::Delete, KEY, None, 0b0, vec!["delete (9 - -)"]),
    ];
    for (op, old, new, bits, left) in table {
        let got = judged(FilterMode::Event, &[1], bits, op, old, new).unwrap();
        assert_eq!(got, left, "{op:?} {old:?} {bits:b}");
    }
}

/// A filter on the key can judge the key image.
#[test]
fn a_filter_on_the_key_judges_key_images() {
    let of = |bits, new: &[&str]| judged(FilterMode::Membership, &[0], bits, Op::Update, KEY, Some(new)).unwrap();
    assert_eq!(of(0b11, &["1", "paid", "n"]), ["update (9 - -) 1 paid n"]);
    assert_eq!(of(0b10, &["1", "paid", "n"]), ["insert 1 paid n"]);
    assert_eq!(of(0b01, &["1", "paid", "n"]), ["delete (9 - -)"]);
    // A row that isn't whole is no insert.
    assert_eq!(of(0b10, &["1", "paid", "~"]), ["upsert 1 paid ~"]);
}

#[test]
fn a_value_that_was_not_sent_is_filled_in_or_an_error() {
    let new: Option<&[&str]> = Some(&["1", "~", "n"]);
    let filled = judged(FilterMode::Membership, &[1], 0b11, Op::Update, FULL, new).unwrap();
    assert_eq!(filled, ["update (1 open m) 1 open n"]);
    let error = judged(FilterMode::Membership, &[1], 0b11, Op::Update, None, new).unwrap_err();
    let PluginError::Row(error) = error else {
        panic!("{error}")
    };
    assert_eq!(
        error.kind,
        RowErrorKind::Unchanged {
            column: "status".to_owned()
        }
    );
}

#[test]
fn a_row_without_a_key_can_not_leave_the_set() {
    let version = filter(wishes(&[0], &[], None), arr(&[i(0), yes(false), nil()]))
        .version("guest")
        .unwrap();
    let mut chain = Chain::new(&ENGINE, &[version], FilterMode::Membership, Mode::Live).unwrap();
    let mut batch = batch(&table(&[("a", TEXT, false)]));
    let mut rows = vec![row(&mut batch, Op::Update, None, Some(&["x"]))];
    let text = text_of(
        &chain
            .process(&mut batch, &mut rows, &mut Processed::default())
            .unwrap_err(),
    );
    assert!(text.contains("no key"), "{text}");
}

#[test]
fn truncates_pass() {
    let version = filter(wishes(&[0], &[], None), arr(&[i(0), yes(false), nil()]))
        .version("guest")
        .unwrap();
    let mut chain = Chain::new(&ENGINE, &[version], FilterMode::Membership, Mode::Live).unwrap();
    let mut batch = batch(&accounts());
    batch.truncates.push(crate::batch::Truncate {
        relations: vec![0],
        cascade: false,
        restart_identity: false,
    });
    let mut rows = vec![
        row(&mut batch, Op::Truncate, None, None),
        row(&mut batch, Op::Insert, None, NEW),
    ];
    chain.process(&mut batch, &mut rows, &mut Processed::default()).unwrap();
    assert_eq!(shown(&batch, &rows), ["truncate"]);
    assert_eq!(rows[0].extra, 0);
}
