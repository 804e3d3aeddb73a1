use super::*;
use serde::Deserialize;
use std::collections::BTreeMap;

#[derive(Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
struct Config {
    #[serde(default)]
    numbers: Vec<i32>,
    #[serde(default)]
    share: Option<f64>,
    #[serde(default)]
    shapes: BTreeMap<String, Shape>,
    #[serde(default)]
    either: Option<Either>,
}

#[derive(Debug, Deserialize, PartialEq)]
enum Shape {
    Point,
    Circle(u32),
    Box { width: u32, height: u32 },
    Line(i8, i8),
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(untagged)]
enum Either {
    One(String),
    Many(Vec<String>),
}

fn parse(config: serde_json::Value) -> Result<Config> {
    read(&rmp_serde::to_vec_named(&config).unwrap())
}

#[test]
fn every_shape_of_a_config_is_read() {
    let config = parse(serde_json::json!({
        "numbers": [1, -2, 70_000],
        "share": 0.5,
        "shapes": {
            "a": "Point",
            "b": { "Circle": 3 },
            "c": { "Box": { "width": 1, "height": 2 } },
            "d": { "Line": [-1, 1] },
        },
        "either": ["x", "y"],
    }))
    .unwrap();
    assert_eq!(config.numbers, [1, -2, 70_000]);
    assert_eq!(config.share, Some(0.5));
    let shapes: Vec<_> = config.shapes.into_values().collect();
    let wanted = [
        Shape::Point,
        Shape::Circle(3),
        Shape::Box { width: 1, height: 2 },
        Shape::Line(-1, 1),
    ];
    assert_eq!(shapes, wanted);
    assert_eq!(config.either, Some(Either::Many(vec!["x".to_owned(), "y".to_owned()])));
}

#[test]
fn a_config_that_is_left_out_is_an_empty_one() {
    assert_eq!(parse(serde_json::Value::Null), parse(serde_json::json!({})));
}

#[test]
fn errors_name_what_was_expected_and_no_value() {
    for (config, reason) in [
        (
            serde_json::json!({ "numbers": "secret" }),
            "config: a sequence expected, a string found",
        ),
        (
            serde_json::json!({ "numbers": [1.5] }),
            "config: i32 expected, a number with a fraction found",
        ),
        (serde_json::json!([]), "config: a map expected"),
    ] {
        let error = parse(config).unwrap_err();
        assert!(error.reason().starts_with(reason), "{error}");
        assert!(!error.reason().contains("secret"));
    }
    assert!(
        parse(serde_json::json!({ "number": [] }))
            .unwrap_err()
            .reason()
            .contains("unknown field `number`")
    );
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
struct Login {
    method: Method,
    #[serde(default)]
    parts: (String, String),
    #[serde(default)]
    secret: String,
}

#[derive(Debug, Deserialize, PartialEq)]
enum Method {
    None,
    Token(String),
    Both(String, String),
    Named { name: String },
}

#[derive(Debug, Deserialize, PartialEq)]
enum Only {
    This,
}

/// Neither the one that is wrong nor one that stands behind it.
#[test]
fn no_error_quotes_a_value() {
    let none = serde_json::json!("None");
    let login = |method: serde_json::Value, parts: serde_json::Value| {
        // In the order of the fields, as the host may send them.
        let mut bytes = vec![0x83];
        for (key, value) in [("method", &method), ("parts", &parts), ("secret", &"hunter2".into())] {
            bytes.extend(rmp_serde::to_vec_named(key).unwrap());
            bytes.extend(rmp_serde::to_vec_named(value).unwrap());
        }
        read::<Login>(&bytes)
    };
    let two = serde_json::json!(["a", "b"]);
    assert!(login(none.clone(), two.clone()).is_ok());
    assert!(login(serde_json::json!({ "Token": "x" }), two.clone()).is_ok());
    assert!(login(serde_json::json!({ "None": null }), two.clone()).is_ok());
    for (method, parts, reason) in [
        (
            serde_json::json!("hunter2"),
            two.clone(),
            "config: one of `None`, `Token`, `Both`, `Named` expected, something else found",
        ),
        (
            serde_json::json!({ "hunter2": 1 }),
            two.clone(),
            "config: one of `None`, `Token`, `Both`, `Named` expected, something else found",
        ),
        (
            serde_json::json!("Token"),
            two.clone(),
            "config: a variant that holds something has nothing",
        ),
        (
            serde_json::json!("Both"),
            two.clone(),
            "config: a variant that holds something has nothing",
        ),
        (
            serde_json::json!("Named"),
            two.clone(),
            "config: a variant that holds something has nothing",
        ),
        (
            serde_json::json!({ "None": "hunter2" }),
            two.clone(),
            "config: a variant that holds nothing has something",
        ),
        (
            serde_json::json!({ "Both": ["a", "b", "hunter2"] }),
            two.clone(),
            "config: more elements than expected",
        ),
        (
            none,
            serde_json::json!(["a", "b", "hunter2", "hunter2"]),
            "config: more elements than expected",
        ),
    ] {
        let error = login(method.clone(), parts).unwrap_err();
        assert_eq!(error.reason(), reason, "{method}");
    }
    let only = read::<Only>(&rmp_serde::to_vec_named("hunter2").unwrap()).unwrap_err();
    assert_eq!(only.reason(), "config: `This` expected, something else found");
}

#[test]
fn depth_is_bounded() {
    let mut bytes = vec![0x91; 100_000];
    bytes.push(0xc0);
    assert!(read::<serde::de::IgnoredAny>(&bytes).is_err());
}
