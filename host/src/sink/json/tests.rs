use super::*;
use crate::batch::{Delivery, Part, RowId};
use crate::sink::testing::{Builder, orders, relation, text};
use proptest::prelude::*;
use serde_json::{Value as Json, json};

const SYSTEM: u64 = 7301;

fn lines(delivery: &Delivery) -> Vec<Json> {
    let mut encoder = Encoder::new(SYSTEM);
    let mut out = Vec::new();
    let mut first = 0;
    for (transaction, rows) in delivery.transactions() {
        encoder.transaction(transaction);
        encoder.rows(&delivery.batch, rows, first, &mut out).unwrap();
        first += rows.len();
    }
    let out = String::from_utf8(out).unwrap();
    assert!(out.is_empty() || out.ends_with('\n'));
    out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn an_update_is_told_whole() {
    let orders = orders();
    let delivery = Builder::new()
        .transaction(0x16B_3748, Part::Whole)
        .update(
            &orders,
            &[text("1"), Value::Unchanged, text("9.50")],
            Some(&[text("2"), Value::Absent, Value::Absent]),
        )
        .delivery(1);
    assert_eq!(
        lines(&delivery),
        [json!({
            "id": "7301:16B3748:0:0", "op": "update", "schema": "public", "table": "orders",
            "new": {"id": 1, "total": "9.50"}, "unchanged": ["name"], "old": {"id": 2},
            "xid": 741, "position": "0/16B3748", "commit_time": "2026-01-02T03:04:05.678901Z"
        })]
    );
}

#[test]
fn every_type_has_its_form() {
    let table = relation(
        "t",
        &[
            ("yes", 16, "boolean", false),
            ("no", 16, "boolean", false),
            ("real", 700, "real", false),
            ("nan", 701, "double precision", false),
            ("word", 23, "integer", false),
            ("json", 114, "json", false),
            ("broken", 114, "json", false),
            ("null", 3802, "jsonb", false),
            ("we\"ird", 25, "text", false),
        ],
    );
    let values = [
        text("t"),
        text("f"),
        text("-1.5e+20"),
        text("NaN"),
        text("masked"),
        text("{\"a\":\r\n [1,\n2.50],\"b\":\"x\\ny\"}"),
        text("{\"a\":"),
        Value::Null,
        text("\u{1}\n\"\\é"),
    ];
    let delivery = Builder::new()
        .transaction(1, Part::Whole)
        .insert(&table, &values)
        .delivery(1);
    assert_eq!(
        lines(&delivery)[0]["new"],
        json!({
            "yes": true, "no": false, "real": -1.5e20, "nan": "NaN", "word": "masked",
            "json": {"a": [1, 2.5], "b": "x\ny"}, "broken": "{\"a\":", "null": null, "we\"ird": "\u{1}\n\"\\é"
        })
    );
}

#[test]
fn truncates_messages_and_copied_rows() {
    let orders = orders();
    let delivery = Builder::new()
        .transaction(0x10, Part::Whole)
        .truncate(&[&orders], true, false)
        .message("audit", b"who")
        .message("raw", &[0xFF, 0, 1])
        .copy(0x20, 3)
        .row(Op::Read, &orders, Some(&[text("1"), Value::Null, Value::Null]), None)
        .delivery(1);
    let lines = lines(&delivery);
    assert_eq!(lines[0]["tables"], json!([{"schema": "public", "table": "orders"}]));
    assert_eq!(lines[0]["cascade"], json!(true));
    assert_eq!(lines[1]["content"], json!("who"));
    assert_eq!(lines[2]["content_base64"], json!("/wAB"));
    assert_eq!(lines[3]["id"], json!("7301:copy1-16384-3:0:0"));
    assert_eq!(lines[3]["op"], json!("read"));
    assert_eq!(lines[3]["commit_time"], Json::Null);
}

#[test]
fn a_value_that_is_not_utf8_is_refused_and_leaves_nothing() {
    let orders = orders();
    let delivery = Builder::new()
        .transaction(1, Part::Whole)
        .insert(&orders, &[text("1"), Value::Text(&[0xC3]), text("1")])
        .delivery(1);
    let mut encoder = Encoder::new(SYSTEM);
    let mut out = b"before".to_vec();
    encoder.transaction(&delivery.batch.transactions[0]);
    let error = encoder.row(&delivery.batch, &delivery.rows[0], &mut out);
    assert_eq!(error, Err(EncodeError::NotUtf8));
    assert_eq!(out, b"before");
}

#[test]
fn ids_are_those_of_the_batch() {
    let orders = orders();
    let delivery = Builder::new()
        .transaction(0xABC, Part::First)
        .insert(&orders, &[text("1"), text("x"), text("1")])
        .insert(&orders, &[text("2"), text("x"), text("1")])
        .copy(0xABD, 9)
        .row(Op::Read, &orders, Some(&[text("3"), text("x"), text("1")]), None)
        .delivery(1);
    for (line, row) in lines(&delivery).iter().zip(&delivery.rows) {
        let transaction = delivery.batch.transaction(row);
        let id = RowId {
            system_identifier: SYSTEM,
            commit_lsn: transaction.commit_lsn,
            origin: transaction.origin,
            ordinal: row.ordinal,
            fan_out: row.fan_out,
        };
        assert_eq!(line["id"], json!(id.to_string()));
    }
}

#[test]
fn base64_of_every_length() {
    for (bytes, expected) in [
        ("", ""),
        ("f", "Zg=="),
        ("fo", "Zm8="),
        ("foo", "Zm9v"),
        ("foob", "Zm9vYg=="),
    ] {
        let mut out = Vec::new();
        text::push_base64(&mut out, bytes.as_bytes());
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}

proptest! {
    #[test]
    fn x10_any_text_comes_back(name in any::<String>(), value in any::<String>(), number in any::<i64>(), float in any::<f64>()) {
        let table = relation(&name, &[(&name, 25, "text", false), ("n ", 20, "bigint", true), ("f ", 701, "float", false)]);
        let number_text = number.to_string();
        let float_text = format!("{float:e}");
        let delivery = Builder::new()
            .transaction(1, Part::Whole)
            .insert(&table, &[text(&value), text(&number_text), text(&float_text)])
            .delivery(1);
        let line = lines(&delivery).remove(0);
        prop_assert_eq!(line["table"].as_str(), Some(name.as_str()));
        if name != "n " && name != "f " {
            prop_assert_eq!(line["new"][&name].as_str(), Some(value.as_str()));
        }
        prop_assert_eq!(line["new"]["n "].as_i64(), Some(number));
        if float.is_finite() {
            prop_assert!(line["new"]["f "].is_number());
        }
    }

    #[test]
    fn numbers_are_those_of_json(candidate in "-?[0-9]{0,3}(\\.[0-9]{0,2})?([eE][+-]?[0-9]{0,2})?") {
        prop_assert_eq!(text::is_number(candidate.as_bytes()), text::is_json(candidate.as_bytes()));
    }
}

#[test]
fn a_bytea_in_binary_form_has_the_line_of_its_text() {
    let table = relation("t", &[("id", 23, "integer", true), ("body", 17, "bytea", false)]);
    let line = |body: Value<'static>| {
        let rows = Builder::new().transaction(1, Part::Whole);
        lines(
            &rows
                .update(&table, &[text("1"), body], Some(&[text("2"), body]))
                .delivery(1),
        )
    };
    assert_eq!(line(Value::Binary(&[0, 0xAB, 0x10])), line(text("\\x00ab10")));
}
