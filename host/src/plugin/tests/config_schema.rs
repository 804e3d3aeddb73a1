//! Configurations that fit and that don't, and how that is told.

use super::misfits;
use proptest::prelude::*;
use serde_json::{Value, json};

fn told(schema: &Value, config: &Value) -> Vec<String> {
    misfits(schema, config).iter().map(ToString::to_string).collect()
}

/// As type generators write them.
fn masking() -> Value {
    json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["columns"],
        "properties": {
            "columns": { "$ref": "#/$defs/Columns" },
            "salt": { "type": "string", "minLength": 3 },
            "keep": { "type": ["integer", "null"], "format": "uint8", "minimum": 0, "maximum": 255 },
        },
        "$defs": {
            "Columns": { "anyOf": [
                { "type": "array", "items": { "type": "string" }, "minItems": 1, "uniqueItems": true },
                { "type": "object", "additionalProperties": { "$ref": "#/$defs/Method" } },
            ] },
            "Method": { "oneOf": [{ "type": "string", "const": "hash" }, { "type": "string", "const": "redact" }] },
        },
    })
}

#[test]
fn what_fits_is_passed() {
    for config in [
        json!({ "columns": ["email"] }),
        json!({ "columns": { "email": "hash" }, "salt": "pepper", "keep": 4 }),
        json!({ "columns": ["a", "b"], "keep": null }),
    ] {
        assert!(told(&masking(), &config).is_empty(), "{config}");
    }
    assert!(told(&json!(true), &json!(5)).is_empty());
    assert!(told(&json!({ "unheard": "of" }), &json!([])).is_empty());
}

#[test]
fn each_misfit_is_told_with_its_path() {
    for (config, wanted) in [
        (
            json!({ "columns": { "email": "hsh" } }),
            r#"config.columns.email: expected one of "hash", "redact", found another text"#,
        ),
        (
            json!({ "columns": ["a", 5] }),
            "config.columns[1]: expected a text, found a number",
        ),
        (
            json!({ "columns": [] }),
            "config.columns: expected at least 1 items, found fewer",
        ),
        (
            json!({ "columns": ["a", "a"] }),
            "config.columns: expected items that differ, found one twice",
        ),
        (
            json!({ "columns": "email" }),
            "config.columns: expected a list or a block of keys, found a text",
        ),
        (
            json!({ "columns": ["a"], "keep": 256 }),
            "config.keep: expected at most 255, found a number beyond that",
        ),
        (
            json!({ "columns": ["a"], "keep": 1.5 }),
            "config.keep: expected a whole number or null, found a number",
        ),
        (
            json!({ "columns": ["a"], "slat": "x" }),
            "config.slat: expected one of the keys columns, salt, keep, found another key",
        ),
        (
            json!({ "columns": ["a"], "salt": "x" }),
            "config.salt: expected at least 3 characters, found fewer",
        ),
        (json!({}), "config.columns: expected a value, found nothing"),
        (json!(null), "config.columns: expected a value, found nothing"),
        (json!([]), "config: expected a block of keys, found a list"),
    ] {
        assert_eq!(told(&masking(), &config), [wanted]);
    }
}

#[test]
fn all_misfits_are_told_and_no_value() {
    let config = json!({ "columns": ["a"], "salt": ["secret"], "keep": "secret", "secrets": "secret" });
    let told = told(&masking(), &config);
    assert_eq!(told.len(), 3, "{told:?}");
    assert!(
        told.iter()
            .all(|line| !line.contains("secret ") && !line.contains("\"secret\"")),
        "{told:?}"
    );
}

#[test]
fn a_schema_that_refers_to_itself_comes_to_an_end() {
    assert!(told(&json!({ "$ref": "#" }), &json!(1)).is_empty());
    let branching = json!({ "anyOf": [{ "$ref": "#" }, { "$ref": "#" }, { "type": "null" }] });
    let _ = told(&branching, &json!(1));
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(json!(null)),
        any::<i64>().prop_map(|number| json!(number)),
        prop::sample::select(vec!["object", "string", "a", "$ref", "#"]).prop_map(|text| json!(text)),
    ];
    let key = prop::sample::select(vec![
        "type",
        "properties",
        "items",
        "anyOf",
        "a",
        "$ref",
        "enum",
        "minLength",
    ]);
    leaf.prop_recursive(4, 40, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::hash_map(key.clone(), inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())),
        ]
    })
}

proptest! {
    /// Whatever stands in a manifest.
    #[test]
    fn any_schema_comes_to_an_end(schema in value(), config in value()) {
        let _ = misfits(&schema, &config);
    }
}
