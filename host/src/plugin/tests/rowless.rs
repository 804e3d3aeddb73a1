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
            ;; The relation's number has 16 or 32 bits here.
            (if (i32.ne (i32.load (i32.sub (local.get $end) (i32.const 30))) (i32.const 0x0103c094))
                (then (if (i32.ne (i32.load (i32.sub (local.get $end) (i32.const 32))) (i32.const 0x0103c094))
                    (then (unreachable)))))
            (i64.const 0x0000400000000004)",
        ),
        ..transform(wishes(&[1], &[1], None), actions(&[]))
    };
    // How many bytes it takes doesn't depend on what ran before in this process then.
    while Relation::next_index() < 256 {}
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
    let made = arr(&[i(0), i(0), arr(&[i(1), s("made")]), nil()]);
    for (action, what) in [
        (patch(1, 1, s("x")), "a truncate"),
        (arr(&[i(1), i(3), i(0), arr(&[])]), "a truncate"),
        (arr(&[i(2), i(3), i(0), arr(&[i(1), s("made")])]), "a message"),
        (arr(&[i(2), i(4), arr(&[made])]), "a message"),
        (arr(&[i(2), i(4), arr(&[])]), "a message"),
        (arr(&[i(2), i(5), s("t"), nil()]), "a message"),
    ] {
        let text = text_of(&run(&of(&[action])).unwrap_err());
        assert!(text.contains(&format!("it makes rows of {what}")), "{text}");
        assert!(text.contains("outputs belong to tables"), "{text}");
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

/// The tables that each truncate empties, where the plugin, which makes two tables of `t`, answers the one of `t` like that.
fn emptied(action: Vec<u8>) -> Result<Vec<Vec<String>>, PluginError> {
    let copy = |table: &str| {
        let columns = [
            arr(&[s("id"), i(23), s("int4"), yes(true)]),
            arr(&[s("email"), i(25), s("text"), yes(false)]),
        ];
        arr(&[s("public"), s(table), arr(&columns)])
    };
    let outputs = arr(&[copy("t"), copy("copied")]);
    let guest = Guest {
        features: &["truncates"],
        ..transform(wishes(&[1], &[1], Some(outputs)), actions(&[action]))
    };
    let mut chain = guest.chain()?;
    let people = people();
    let mut batch = batch(&people);
    batch.truncates.push(Truncate {
        relations: vec![0],
        cascade: false,
        restart_identity: true,
    });
    let mut rows = vec![row(&mut batch, Op::Truncate, None, None)];
    chain.process(&mut batch, &mut rows, &mut Processed::default())?;
    let tables = |row: &Row| {
        let truncate = &batch.truncates[row.extra as usize];
        assert!(truncate.restart_identity);
        let name = |at: &u32| batch.relations[*at as usize].full_name();
        truncate.relations.iter().map(name).collect()
    };
    Ok(rows.iter().map(tables).collect())
}

/// Where rows were sent elsewhere (action 5), only the plugin knows which tables a truncate has to empty.
#[test]
fn a_truncate_goes_where_the_plugin_sends_it() {
    let pass = emptied(ints(&[0, 0])).unwrap();
    assert_eq!(pass, [["public.t", "public.copied"]]);
    let route = |to: &str, patch: Vec<u8>| arr(&[i(0), i(5), s(to), patch]);
    assert_eq!(emptied(route("archive.t", nil())).unwrap(), [["archive.t"]]);
    let places = |places: &[Vec<u8>]| arr(&[i(0), i(4), arr(places)]);
    let place = |op: i64, output: i64, values: Vec<u8>, route: Vec<u8>| arr(&[i(op), i(output), values, route]);
    let all = [
        place(3, 0, nil(), s("vip")),
        place(3, 1, nil(), nil()),
        place(3, 1, nil(), s("archive.copied")),
    ];
    let expected = [["public.vip", "public.copied", "archive.copied"]];
    assert_eq!(emptied(places(&all)).unwrap(), expected);
    assert!(emptied(places(&[])).unwrap().is_empty());
    for (action, why) in [
        (route("vip", arr(&[i(1), s("x")])), "patches a truncate"),
        (places(&[place(0, 0, nil(), nil())]), "truncates alone"),
        (places(&[place(3, 0, arr(&[]), nil())]), "truncates alone"),
        (
            places(&[place(3, 2, nil(), nil())]),
            "an output that a table doesn't have",
        ),
        (route("archive.", nil()), "a part of its name"),
    ] {
        let error = emptied(action).unwrap_err();
        assert!(text_of(&error).contains(why), "{}", text_of(&error));
    }
}
