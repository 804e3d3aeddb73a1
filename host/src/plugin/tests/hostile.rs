//! Bytes of whatever kind never panic, and never do more than an honest reply could.

use super::encoding::{ENTRY, plan};
use super::*;
use crate::plugin::encode::{Encoder, Images};
use crate::plugin::manifest::Manifest;
use crate::plugin::module_file::ModuleFile;
use crate::plugin::refused::Refused;
use crate::plugin::shapes::Shapes;
use crate::plugin::{filter, schema_reply, transform};
use proptest::prelude::*;

/// Applies a reply to an update with both images and an insert, as a transform's and as a filter's.
fn apply(reply: &[u8]) {
    let relation = people();
    let mut batch = batch(&relation);
    let rows = [
        row(
            &mut batch,
            Op::Update,
            Some((OldImage::Key, &["9", "-"])),
            Some(&["1", "a"]),
        ),
        row(&mut batch, Op::Insert, None, Some(&["2", "b"])),
    ];
    let plans = plan(&relation, &[1, 0]);
    let mut encoder = Encoder::new(false);
    encoder.fill(&batch, &rows, 0, ENTRY, &plans, Images::All);
    let (mut out, mut scratch) = (Vec::new(), transform::Scratch::default());
    let mut entries = ENTRY.to_vec();
    let applied = transform::apply(
        reply,
        &encoder,
        &rows,
        &plans,
        &mut entries,
        &mut scratch,
        &Shapes::default(),
        &mut batch,
        &mut out,
        &mut Refused::default(),
    );
    if applied.is_ok() {
        for row in &out {
            // The key isn't in `writes`, and what an image lacks it goes on lacking.
            let images = [row.old, row.new].into_iter().flatten();
            for tuple in images {
                assert!(matches!(batch.value(tuple, 0), Value::Text(b"1" | b"2" | b"9")));
            }
            if let (Op::Update, Some(old)) = (row.op, row.old) {
                assert_eq!(batch.value(old, 1), Value::Absent);
            }
        }
    }
    out.clear();
    let _ = filter::apply(
        reply,
        &encoder,
        &rows,
        FilterMode::Membership,
        &mut batch,
        &mut out,
        &mut Refused::default(),
    );
    let _ = schema_reply::parse(reply, 2);
    let _ = Manifest::parse(reply);
    let _ = ModuleFile::parse(reply);
}

/// An honest reply, to be damaged.
fn honest() -> impl Strategy<Value = Vec<u8>> {
    let made = arr(&[i(0), i(0), arr(&[i(2), s("x")]), nil()]);
    prop_oneof![
        Just(actions(&[patch(0, 1, s("m")), patch(1, 1, nil()), ints(&[2, 1])])),
        Just(actions(&[
            arr(&[i(0), i(3), i(0), arr(&[i(9), vec![0xc7, 0, 2]])]),
            patch(1, 1, s("longer text"))
        ])),
        Just(actions(&[arr(&[i(2), i(4), arr(&[made.clone(), made])])])),
        Just(actions(&[
            arr(&[i(0), i(5), s("a.b"), nil()]),
            arr(&[i(1), i(5), s("a.b"), arr(&[i(1), s("m")])]),
            arr(&[i(2), i(6), i(4), s("no")]),
        ])),
        Just(arr(&[i(0), bin(&[0b101]), arr(&[arr(&[i(1), i(4), s("no")])])])),
        Just(wishes(
            &[0, 1],
            &[1],
            Some(arr(&[arr(&[
                s("a"),
                s("b"),
                arr(&[arr(&[s("c"), i(25), s("t"), yes(true)])])
            ])]))
        )),
    ]
}

proptest! {
    #[test]
    fn any_bytes(bytes: Vec<u8>) {
        apply(&bytes);
    }

    #[test]
    fn damaged_replies(reply in honest(), damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4), cut: prop::sample::Index) {
        let mut reply = reply;
        for (at, byte) in damage {
            let at = at.index(reply.len());
            reply[at] = byte;
        }
        apply(&reply);
        apply(&reply[..cut.index(reply.len())]);
    }

    #[test]
    fn damaged_modules(at: prop::sample::Index, byte: u8) {
        let guest = filter(wishes(&[0], &[], None), arr(&[i(0), yes(true), nil()]));
        let mut module = wat::parse_str(guest.wat()).unwrap();
        let at = at.index(module.len());
        module[at] = byte;
        let _ = ModuleFile::parse(&module);
    }
}
