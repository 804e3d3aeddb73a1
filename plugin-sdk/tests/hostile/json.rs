//! Members of json.

use rowmill_plugin::prelude::*;
use rowmill_plugin::testing::{self, Table};
use rowmill_plugin::{row, types};

mod harmless {
    use super::*;

    /// Rows without an address.
    #[filter(read(data))]
    pub fn harmless(row: &Row) -> Result<bool> {
        let Some(data) = row.json("data")? else {
            return Ok(true);
        };
        // The same, whichever way it is read.
        assert_eq!(row.get("data")?, Some(data));
        Ok(data.get("email").is_none())
    }
}

/// `None` where the row is rejected, by its type.
fn harmless(type_oid: u32, data: &str) -> Option<bool> {
    let table = Table::new("t").column("data", type_oid);
    let mut plugin = testing::filter::<harmless::harmless>().with_table(table).unwrap();
    match plugin.matches(row! { data: data }) {
        Ok(verdict) => Some(verdict),
        Err(error) => {
            assert_eq!((error.code(), error.reason()), ("type", "column data is not a json"));
            None
        }
    }
}

/// A json, which isn't a jsonb, is kept as it was written.
#[test]
fn no_member_hides_behind_another_one() {
    let long = format!(r#"{{"note": "{}", "\udc00": 1, "email": "x"}}"#, "long ".repeat(100));
    for json in [
        r#"{"email": "x"}"#,
        r#"{"\ud800": 1, "email": "x"}"#,
        r#"{"\ud800\ud800": 1, "email": "x"}"#,
        r#"{"\udc00": {"\ud800": 1}, "email": "x"}"#,
        r#"{"a": "\ud800", "email": "x"}"#,
        r#"{"\u0000": 1, "email": "x"}"#,
        r#"{"\u0065mail": "x"}"#,
        r#"{"a": 1, "email": null, "email": "x"}"#,
        " {\n \"a\" :\t[ 1 , { } ] ,\r\n \"email\" : 1 } ",
        &long,
    ] {
        assert_eq!(harmless(types::JSON, json), Some(false), "{json}");
        // A text that is one, too.
        assert_eq!(harmless(types::TEXT, json), Some(false), "{json}");
    }
    assert_eq!(harmless(types::JSONB, r#"{"a": {"email": "x"}}"#), Some(true));
    assert_eq!(harmless(types::TEXT, r#"{"a": {"email": "x"}}"#), Some(true));
}

/// Nobody has checked what a text holds.
#[test]
fn a_text_that_is_no_json_is_an_error() {
    for text in [
        r#"{"a": 1,, "email": "x"}"#,
        r#"{"a": 1; "email": "x"}"#,
        r#"{"a" 1, "email": "x"}"#,
        r#"{a: 1, "email": "x"}"#,
        r#"{"a": 1} {"email": "x"}"#,
        r#"{"a": 1]}, "email": "x"}"#,
        "",
        " ",
    ] {
        assert_eq!(harmless(types::TEXT, text), None, "{text}");
    }
}
