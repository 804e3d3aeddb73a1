//! Truncates and logical messages, to plugins that ask for them.

use super::*;
use crate::batch::{Message, Truncate};
use crate::plugin::AsideCause;

/// An insert, a truncate and two messages.
fn mixed(relation: &Arc<Relation>) -> (Batch, Vec<Row>) {
    let mut batch = batch(relation);
    batch.truncates.push(Truncate {
        relations: vec![0],
        cascade: true,
        restart_identity: false,
    });
    for prefix in ["a", "b"] {
        batch.messages.push(Message {
            transactional: true,
            lsn: Lsn(1),
            prefix: prefix.to_owned(),
            content: bytes::Bytes::from_static(b"\xff\x00"),
        });
    }
    let mut rows = vec![row(&mut batch, Op::Insert, None, Some(&["1", "a"]))];
    for (op, extra) in [(Op::Truncate, 0), (Op::Message, 0), (Op::Message, 1)] {
        let made = row(&mut batch, op, None, None);
        rows.push(Row { extra, ..made });
    }
    for (at, row) in rows.iter_mut().enumerate() {
        row.ordinal = at as u64;
    }
    (batch, rows)
}

fn run(guest: &Guest) -> Result<(Vec<String>, Processed), PluginError> {
    let mut chain = guest.chain()?;
    let (mut batch, mut rows) = mixed(&people());
    let mut processed = Processed::default();
    chain.process(&mut batch, &mut rows, &mut processed)?;
    Ok((shown(&batch, &rows), processed))
}

const BOTH: &[&str] = &["truncates", "messages"];

#[test]
fn a_plugin_that_does_not_ask_gets_none() {
    let guest = transform(wishes(&[1], &[1], None), arr(&[i(0), i(1), arr(&[])]));
    assert!(!guest.chain().unwrap().wants_messages());
    assert_eq!(run(&guest).unwrap().0, ["truncate", "message", "message"]);
}

/// The guest looks for the bytes of both.
#[test]
fn s35_they_cross_as_the_contract_says() {
    let guest = Guest {
        features: BOTH,
        // Compares the end of its input: three rows of which the lengths are known.
        body: Some(
            "(local $end i32) (local.set $end (i32.add (local.get $ptr) (local.get $len)))
            ;; [nil, 5, true, [\"b\", bin ff 00]]
            (if (i64.ne (i64.load (i32.sub (local.get $end) (i32.const 8))) (i64.const 0x00ff02c462a192c3))
                (then (unreachable)))
            (if (i32.ne (i32.load8_u (i32.sub (local.get $end) (i32.const 9))) (i32.const 5)) (then (unreachable)))
            ;; [nil, 3, cascade, [relation, ...
            (if (i32.ne (i32.load (i32.sub (local.get $end) (i32.const 28))) (i32.const 0x0103c094))
                (then (if (i32.ne (i32.load (i32.sub (local.get $end) (i32.const 29))) (i32.const 0x0103c094))
                    (then (if (i32.ne (i32.load (i32.sub (local.get $end) (i32.const 31))) (i32.const 0x0103c094))
                        (then (unreachable)))))))
            (i64.const 0x0000400000000004)",
        ),
        ..transform(wishes(&[1], &[1], None), actions(&[]))
    };
    let mut chain = guest.chain().unwrap();
    assert!(chain.wants_messages());
    let (mut batch, mut rows) = mixed(&people());
    chain.process(&mut batch, &mut rows, &mut Processed::default()).unwrap();
    // Messages end behind the plugins that ask for them.
    assert_eq!(shown(&batch, &rows), ["insert 1 a", "truncate"]);
}

#[test]
fn a_transform_passes_drops_and_rejects_them() {
    let dead_letters = Policies {
        on_error: OnError::DeadLetter,
        ..STOP
    };
    let of = |actions: &[Vec<u8>]| Guest {
        features: BOTH,
        policies: dead_letters,
        ..transform(wishes(&[1], &[1], None), super::actions(actions))
    };
    let (rows, processed) = run(&of(&[ints(&[1, 1]), arr(&[i(3), i(6), i(1), s("no")])])).unwrap();
    assert_eq!(rows, ["insert 1 a"]);
    let aside = &processed.aside[0];
    assert_eq!(
        (aside.row.op, aside.row.extra, aside.place.relation.as_str()),
        (Op::Message, 1, "message")
    );
    assert!(matches!(aside.cause, AsideCause::Row(_)));
    for action in [
        patch(1, 1, s("x")),
        arr(&[i(2), i(4), arr(&[])]),
        arr(&[i(2), i(5), s("t"), nil()]),
    ] {
        let error = run(&of(&[action])).unwrap_err();
        assert!(text_of(&error).contains("outputs belong to tables"), "{error}");
    }
}

#[test]
fn a_filter_judges_messages_and_never_truncates() {
    let guest = Guest {
        features: BOTH,
        ..filter(wishes(&[1], &[], None), arr(&[i(0), bin(&[0b1000]), nil()]))
    };
    assert_eq!(run(&guest).unwrap().0, ["truncate"]);
}

/// Tables that the plugin doesn't use aren't named to it, and without one left it isn't asked at all.
#[test]
fn truncates_of_tables_that_it_passes_by_are_none_of_its_business() {
    let guest = Guest {
        features: &["truncates"],
        ..transform(ints(&[0, 1]), arr(&[i(2), s("called")]))
    };
    assert_eq!(run(&guest).unwrap().0, ["insert 1 a", "truncate", "message", "message"]);
}
