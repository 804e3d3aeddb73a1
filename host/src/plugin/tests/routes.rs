//! Rows that a plugin sends to another table.

use super::*;

/// Operation, old and new image.
type Change<'a> = (Op, Option<(OldImage, &'a [&'a str])>, Option<&'a [&'a str]>);

fn sent(actions_of: &[Vec<u8>], rows_of: &[Change<'_>]) -> Result<Vec<String>, PluginError> {
    let mut chain = transform(wishes(&[1], &[1], None), actions(actions_of)).chain()?;
    let mut batch = batch(&people());
    let mut rows = Vec::new();
    for (at, (op, old, new)) in rows_of.iter().enumerate() {
        let made = row(&mut batch, *op, *old, *new);
        rows.push(Row {
            ordinal: at as u64,
            ..made
        });
    }
    chain.process(&mut batch, &mut rows, &mut Processed::default())?;
    let tables = rows.iter().map(|row| batch.relation(row).full_name());
    let shown = shown(&batch, &rows);
    Ok(tables
        .zip(shown)
        .map(|(table, row)| format!("{table}: {row}"))
        .collect())
}

fn route(image: i64, to: &str, patch: Vec<u8>) -> Vec<u8> {
    arr(&[i(image), i(5), s(to), patch])
}

const INSERT: Change<'static> = (Op::Insert, None, Some(&["1", "a"]));

#[test]
fn a_route_is_another_table_of_the_same_shape() {
    let all = [
        route(0, "archive.people", nil()),
        route(1, "vip", arr(&[i(1), s("m")])),
        route(2, "t", nil()),
    ];
    assert_eq!(
        sent(&all, &[INSERT; 4]).unwrap(),
        [
            "archive.people: insert 1 a",
            "public.vip: insert 1 m",
            "public.t: insert 1 a",
            "public.t: insert 1 a"
        ]
    );
}

#[test]
fn both_images_go_the_same_way() {
    let update: Change<'_> = (Op::Update, Some((OldImage::Key, &["9", "-"])), Some(&["1", "a"]));
    let both = [route(0, "vip", nil()), route(1, "vip", nil())];
    assert_eq!(sent(&both, &[update]).unwrap(), ["public.vip: update (9 -) 1 a"]);
    let apart = [route(0, "vip", nil()), route(1, "other", nil())];
    for actions in [&both[..1], &both[1..], &apart] {
        let error = sent(actions, &[update]).unwrap_err();
        assert!(text_of(&error).contains("different tables"), "{error}");
    }
}

#[test]
fn rows_of_a_fan_out_have_routes_of_their_own() {
    let made = |route| arr(&[i(0), i(0), arr(&[i(1), s("x")]), route]);
    let fan = arr(&[i(0), i(4), arr(&[made(nil()), made(s("log")), made(s("a.b.c"))])]);
    assert_eq!(
        sent(&[fan], &[INSERT]).unwrap(),
        ["public.t: insert 1 x", "public.log: insert 1 x", "a.b.c: insert 1 x"]
    );
}

/// The same table in every batch and every lane is the same relation; and there is an end to them.
#[test]
fn routes_are_remembered_and_bounded() {
    let guest = transform(wishes(&[1], &[1], None), actions(&[route(0, "vip", nil())]));
    let relation = people();
    let index = |chain: &mut Chain| {
        let mut batch = batch(&relation);
        let mut rows = vec![row(&mut batch, Op::Insert, None, Some(&["1", "a"]))];
        chain.process(&mut batch, &mut rows, &mut Processed::default()).unwrap();
        batch.relation(&rows[0]).index
    };
    let mut chain = guest.chain().unwrap();
    let first = index(&mut chain);
    assert_eq!((index(&mut chain), index(&mut guest.chain().unwrap())), (first, first));

    let many: Vec<_> = (0..1_001).map(|at| route(at, &format!("t{at}"), nil())).collect();
    let error = sent(&many, &vec![INSERT; 1_001]).unwrap_err();
    assert!(text_of(&error).contains("1,000 tables"), "{error}");
}
