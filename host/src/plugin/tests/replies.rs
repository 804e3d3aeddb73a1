//! Replies that are wrong, and those that are right.

use super::*;
use crate::plugin::FaultKind;

/// Sends two inserts through a guest; tells what is left, or the fault.
fn outcome(guest: &Guest) -> Result<Vec<String>, PluginError> {
    let mut chain = guest.chain()?;
    let mut batch = batch(&people());
    let mut rows = vec![
        row(&mut batch, Op::Insert, None, Some(&["1", "a"])),
        row(&mut batch, Op::Insert, None, Some(&["2", "b"])),
    ];
    rows[1].ordinal = 1;
    chain.process(&mut batch, &mut rows, &mut Processed::default())?;
    Ok(shown(&batch, &rows))
}

fn transformed(reply: Vec<u8>) -> Result<Vec<String>, PluginError> {
    outcome(&transform(wishes(&[1], &[1], None), reply))
}

fn fault_of(result: Result<Vec<String>, PluginError>) -> (FaultKind, String) {
    match result {
        Err(PluginError::Fault(fault)) => (fault.kind, fault.message),
        other => panic!("{other:?}"),
    }
}

#[test]
fn verdicts() {
    let judged = |verdict| outcome(&filter(wishes(&[1], &[], None), arr(&[i(0), verdict, nil()]))).unwrap();
    assert_eq!(judged(yes(true)), ["insert 1 a", "insert 2 b"]);
    assert!(judged(yes(false)).is_empty());
    assert_eq!(judged(bin(&[0b01])), ["insert 1 a"]);
    assert_eq!(judged(bin(&[0b10])), ["insert 2 b"]);
}

#[test]
fn actions_of_a_transform() {
    assert_eq!(transformed(actions(&[])).unwrap(), ["insert 1 a", "insert 2 b"]);
    assert!(transformed(arr(&[i(0), i(1), arr(&[])])).unwrap().is_empty());
    assert_eq!(
        transformed(arr(&[i(0), i(1), arr(&[ints(&[1, 0])])])).unwrap(),
        ["insert 2 b"]
    );
    assert_eq!(transformed(actions(&[ints(&[0, 1])])).unwrap(), ["insert 2 b"]);
    assert_eq!(
        transformed(actions(&[patch(1, 1, s("***"))])).unwrap(),
        ["insert 1 a", "insert 2 ***"]
    );
    assert_eq!(
        transformed(actions(&[patch(0, 1, nil())])).unwrap(),
        ["insert 1 null", "insert 2 b"]
    );
    let replaced = arr(&[i(0), i(3), i(0), arr(&[i(1), s("new")])]);
    assert_eq!(
        transformed(actions(&[replaced])).unwrap(),
        ["insert 1 new", "insert 2 b"]
    );
    let made = |op, text| arr(&[i(op), i(0), arr(&[i(1), s(text)]), nil()]);
    let fan = arr(&[i(0), i(4), arr(&[made(0, "x"), made(1, "y"), made(2, "z")])]);
    assert_eq!(
        transformed(actions(&[fan])).unwrap(),
        ["insert 1 x", "upsert 1 y", "delete (1 z)", "insert 2 b"]
    );
}

#[test]
fn p12_what_a_plugin_may_not_do() {
    let wide = arr(&vec![arr(&[i(0), i(0), arr(&[i(1), s("x")]), nil()]); 1001]);
    for (reply, named) in [
        (actions(&[patch(0, 0, i(5))]), "id, which isn't in its `writes`"),
        (
            actions(&[arr(&[i(0), i(3), i(0), arr(&[i(9), s("new")])])]),
            "id, which isn't in its `writes`",
        ),
        (
            actions(&[arr(&[i(0), i(5), s("a."), nil()])]),
            "a part of its name is empty",
        ),
        (actions(&[arr(&[i(0), i(4), wide])]), "1001 rows"),
        (actions(&[patch(0, 1, bin(b"x"))]), "email is no text"),
        (
            actions(&[patch(0, 1, vec![0xc7, 0, 1])]),
            "email is none, where one is needed",
        ),
    ] {
        let (kind, message) = fault_of(transformed(reply));
        assert_eq!(kind, FaultKind::Breach, "{message}");
        assert!(message.contains(named), "{message}");
    }
}

#[test]
fn rejects_and_stops_are_errors_of_the_row() {
    for (result, named) in [
        (
            transformed(actions(&[arr(&[i(1), i(6), i(42), s("too old")])])),
            "code 42: too old",
        ),
        (transformed(actions(&[arr(&[i(1), i(7), s("enough")])])), "stop: enough"),
        (
            outcome(&filter(
                wishes(&[1], &[], None),
                arr(&[i(0), yes(true), arr(&[arr(&[i(1), i(42), s("bad")])])]),
            )),
            "code 42: bad",
        ),
    ] {
        let Err(PluginError::Row(error)) = result else {
            panic!("{result:?}")
        };
        assert!(error.to_string().contains(named), "{error}");
        assert_eq!((error.plugin.as_str(), error.row.ordinal), ("guest", 1));
    }
}

#[test]
fn p6_bad_replies() {
    let nested = [vec![0x93, 0, 0], vec![0x91; 100]].concat();
    let table: Vec<(Vec<u8>, &str)> = vec![
        (vec![], "ends too early"),
        (vec![0x93], "beyond the end"),
        (vec![0x90], "empty"),
        (vec![0x93, 0, 0], "beyond the end"),
        (vec![0xdd, 0xff, 0xff, 0xff, 0xff, 0], "beyond the end"),
        (vec![0x93, 0, 0, 0xdd, 0xff, 0xff, 0xff, 0xff], "beyond the end"),
        (nested, "an action is"),
        (s("done"), "array was expected"),
        (ints(&[3]), "out of range"),
        (ints(&[0]), "transform's reply"),
        (ints(&[0, 2, 0]), "out of range"),
        (arr(&[i(0), i(0), nil()]), "array was expected"),
        (actions(&[ints(&[2, 0])]), "out of range"),
        (actions(&[ints(&[-1, 0])]), "out of range"),
        (actions(&[ints(&[1, 0]), ints(&[0, 0])]), "ascend"),
        (actions(&[ints(&[0, 0]), ints(&[0, 0])]), "ascend"),
        (actions(&[ints(&[0])]), "an action is"),
        (actions(&[ints(&[0, 8])]), "out of range"),
        (actions(&[ints(&[0, 0, 0])]), "wrong number"),
        (actions(&[arr(&[i(0), i(2), arr(&[i(1)])])]), "a patch is"),
        (actions(&[patch(0, 2, s("x"))]), "out of range"),
        (
            actions(&[arr(&[i(0), i(2), arr(&vec![[i(1), s("x")]; 8].concat())])]),
            "more columns",
        ),
        (actions(&[patch(0, 1, arr(&[]))]), "plain value"),
        (actions(&[patch(0, 1, vec![0xa2, 0xff, 0xfe])]), "UTF-8"),
        (actions(&[arr(&[i(0), i(3), i(1), arr(&[])])]), "out of range"),
        (actions(&[arr(&[i(0), i(3), i(0), arr(&[i(1)])])]), "as many values"),
        ([actions(&[]), vec![0]].concat(), "follows its end"),
        (arr(&[i(1)]), "without its message"),
    ];
    for (reply, named) in table {
        let (kind, message) = fault_of(transformed(reply.clone()));
        assert_eq!(kind, FaultKind::BadReply, "{reply:?}");
        assert!(message.contains(named), "{reply:?}: {message}");
    }
    for (verdict, named) in [
        (bin(&[1, 2]), "wrong length"),
        (bin(&[]), "wrong length"),
        (i(1), "a verdict is"),
    ] {
        let (kind, message) = fault_of(outcome(&filter(wishes(&[1], &[], None), arr(&[i(0), verdict, nil()]))));
        assert_eq!(kind, FaultKind::BadReply);
        assert!(message.contains(named), "{message}");
    }
}

#[test]
fn p10_replies_outside_of_the_memory() {
    for (body, named) in [
        ("(i64.const 0)", "answered nothing"),
        ("(i64.const 0xffffffff00000001)", "outside"),
        ("(i64.const 0x0000000000020001)", "outside"),
        ("(i64.const 0x00020000ffffffff)", "larger than the limit"),
    ] {
        let guest = Guest {
            body: Some(body),
            ..transform(wishes(&[1], &[1], None), Vec::new())
        };
        let (kind, message) = fault_of(outcome(&guest));
        let wanted = match named {
            "larger than the limit" => FaultKind::Output,
            _ => FaultKind::BadReply,
        };
        assert_eq!(kind, wanted);
        assert!(message.contains(named), "{body}: {message}");
    }
}

#[test]
fn bad_schema_replies() {
    for schema in [
        vec![],
        ints(&[0]),
        ints(&[0, 4]),
        [vec![0x93, 0, 1], vec![0x91; 10_000]].concat(),
        arr(&[i(0), i(0), ints(&[2])]),
        arr(&[i(0), i(0), s("all")]),
        arr(&[i(0), i(0), nil(), nil(), i(2)]),
        arr(&[i(0), i(0), nil(), nil(), i(0), arr(&[])]),
        arr(&[i(0), i(0), nil(), nil(), i(0), arr(&[arr(&[s("s"), s(""), arr(&[])])])]),
    ] {
        let mut chain = transform(schema.clone(), actions(&[])).chain().unwrap();
        let error = chain.relation(&people()).unwrap_err();
        let PluginError::Fault(fault) = error else {
            panic!("{schema:?}: {error}")
        };
        assert_eq!(fault.kind, FaultKind::BadReply);
    }
}

/// One that Postgres may have, and that sends rows: `CREATE TABLE t ()`.
#[test]
fn a_table_without_columns() {
    let sent = |action: Vec<u8>| -> Result<Vec<String>, PluginError> {
        let takes_all = arr(&[i(0), i(0), nil(), nil(), i(0), nil()]);
        let mut chain = transform(takes_all, actions(&[action])).chain()?;
        let mut batch = batch(&table(&[]));
        let mut rows = vec![row(&mut batch, Op::Insert, None, Some(&[]))];
        chain.process(&mut batch, &mut rows, &mut Processed::default())?;
        Ok(shown(&batch, &rows))
    };
    for action in [
        arr(&[i(0), i(2), arr(&[i(0), s("x")])]),
        arr(&[i(0), i(2), arr(&vec![[i(0), s("x")]; 8].concat())]),
        arr(&[i(0), i(5), s("elsewhere"), arr(&[i(0), s("x")])]),
    ] {
        let (kind, message) = fault_of(sent(action));
        assert_eq!(kind, FaultKind::BadReply);
        assert!(message.contains("more columns"), "{message}");
    }
    for action in [
        arr(&[i(0), i(2), arr(&[])]),
        arr(&[i(0), i(3), i(0), arr(&[])]),
        arr(&[i(0), i(5), s("elsewhere"), arr(&[])]),
        arr(&[i(0), i(4), arr(&[arr(&[i(0), i(0), arr(&[]), nil()])])]),
    ] {
        assert_eq!(sent(action).unwrap(), ["insert "]);
    }
}
