//! What the guest gets, and where batches are cut.

use super::*;
use crate::plugin::cursor::Cursor;
use crate::plugin::encode::{CALL_BYTES_MAX, Encoder, Images};
use crate::plugin::manifest::Kind;
use crate::plugin::plan::{self, Entry, Plan};
use crate::plugin::schema_reply::Wishes;
use crate::plugin::shapes::Shapes;

pub(super) fn plan(relation: &Arc<Relation>, read: &[usize]) -> Vec<Plan> {
    let wishes = Wishes {
        read: Some(read.to_vec()),
        writes: vec![1],
        ..Wishes::default()
    };
    vec![Plan::Use(Box::new(
        plan::build(Kind::Transform, &wishes, relation, &Shapes::default()).unwrap(),
    ))]
}

pub(super) const ENTRY: &[Entry] = &[Entry {
    plan: 0,
    output: u32::MAX,
}];

#[test]
fn only_what_is_read_is_shipped() {
    let relation = people();
    let mut batch = batch(&relation);
    let rows = [
        row(
            &mut batch,
            Op::Update,
            Some((OldImage::Key, &["9", "-"])),
            Some(&["-1", "~"]),
        ),
        row(&mut batch, Op::Read, None, Some(&["1000", "null"])),
    ];
    let mut encoder = Encoder::new(true);
    let to = encoder.fill(&batch, &rows, 0, ENTRY, &plan(&relation, &[1, 0]), Images::All);
    encoder.finish(&batch, 3, None);
    let got = [encoder.head.clone(), encoder.body.to_vec()].concat();
    let index = i64::from(relation.index);
    let absent = vec![0xc7, 0, 2];
    let unchanged = vec![0xc7, 0, 1];
    let image = |op, image, values: &[Vec<u8>]| arr(&[i(index), i(op), i(image), arr(values)]);
    let wanted = arr(&[
        i(3),
        i(0),
        arr(&[arr(&[i(7), i(0x10), i(-5), i(0), i(3), i(0)])]),
        arr(&[
            image(1, 2, &[absent, i(9)]),
            image(1, 0, &[unchanged, i(-1)]),
            image(4, 0, &[nil(), i(1000)]),
        ]),
    ]);
    assert_eq!(got, wanted);
    assert_eq!((to, encoder.seeds.len()), (2, 3));
    assert_eq!(
        [0, 1, 2, 3].map(|image| encoder.row_of_image(image)),
        [Some(0), Some(0), Some(1), None]
    );
}

/// Two images of a change stay together, and each part says which it is.
#[test]
fn large_batches_are_cut_between_changes() {
    let relation = people();
    let mut batch = batch(&relation);
    let text = "x".repeat(100 * 1024);
    let change: &[&str] = &["1", &text];
    let rows: Vec<Row> = (0..4)
        .map(|_| row(&mut batch, Op::Update, Some((OldImage::Full, change)), Some(change)))
        .collect();
    let plans = plan(&relation, &[1]);
    let mut encoder = Encoder::new(false);
    let mut parts = Vec::new();
    let mut from = 0;
    while from < rows.len() {
        let to = encoder.fill(&batch, &rows, from, ENTRY, &plans, Images::All);
        assert!(encoder.body.len() <= CALL_BYTES_MAX);
        encoder.finish(&batch, 0, rows.get(to).map(|row| row.transaction));
        let mut head = Cursor::new(&encoder.head);
        head.array().unwrap();
        head.skip().unwrap();
        head.skip().unwrap();
        head.array().unwrap();
        head.array().unwrap();
        for _ in 0..5 {
            head.skip().unwrap();
        }
        parts.push((to - from, head.index(3).unwrap()));
        from = to;
    }
    assert_eq!(parts, [(1, 1), (1, 2), (1, 2), (1, 3)]);
}

#[test]
fn a_single_row_may_be_larger() {
    let relation = people();
    let mut batch = batch(&relation);
    let text = "x".repeat(CALL_BYTES_MAX);
    let rows = [row(&mut batch, Op::Insert, None, Some(&["1", &text]))];
    let mut chain = transform(wishes(&[1], &[1], None), actions(&[patch(0, 1, s("short"))]))
        .chain()
        .unwrap();
    let mut rows = rows.to_vec();
    chain.process(&mut batch, &mut rows, &mut Processed::default()).unwrap();
    assert_eq!(shown(&batch, &rows), ["insert 1 short"]);
}
