//! Plugins as types: what they decide per table, what they answer, and that batches may be cut anywhere.

use rowmill_plugin::prelude::*;
use rowmill_plugin::testing::{self, Cell, Outcome, Table};
use rowmill_plugin::{ToValue, row, types};

mod threshold {
    use super::*;

    #[config]
    pub struct Config {
        column: String,
        least: i64,
    }

    pub struct Threshold(Config);

    #[plugin]
    impl Filter for Threshold {
        type Config = Config;
        type Table = ReadColumn;

        fn new(config: Config) -> Result<Self> {
            Ok(Self(config))
        }

        fn schema(&mut self, relation: &Relation) -> Result<Projection<ReadColumn>> {
            if relation.table == "audit" {
                return Ok(Projection::pass_by());
            }
            if relation.table == "secrets" {
                return Ok(Projection::drop_table());
            }
            let mut selection = Selection::of(relation);
            let column = selection.read(&self.0.column)?;
            Ok(selection.with(column))
        }

        fn matches(&mut self, row: &Row, column: &ReadColumn) -> Result<bool> {
            match row.int(*column)? {
                Some(value) if value < 0 => Err(Error::new("negative").with_code("range")),
                value => Ok(value >= Some(self.0.least)),
            }
        }
    }
}

fn threshold() -> testing::MockHost<rowmill_plugin::guest::FilterPlugin<threshold::Threshold>> {
    testing::filter_with::<threshold::Threshold>(serde_json::json!({ "column": "total", "least": 100 })).unwrap()
}

#[test]
fn a_config_decides_which_column_is_read() {
    let mut plugin = threshold();
    assert_eq!(plugin.matches(row! { id: 1, total: 100 }), Ok(true));
    assert_eq!(plugin.matches(row! { total: 99 }), Ok(false));
    // A numeric comes as text.
    assert_eq!(plugin.matches(row! { total: "250" }), Ok(true));
    assert_eq!(plugin.matches(row! { total: "a lot" }).unwrap_err().code(), "type");
    assert_eq!(plugin.matches(row! { total: None::<i64> }), Ok(false));
    assert_eq!(plugin.matches(row! { total: -1 }).unwrap_err().code(), "range");
}

#[test]
fn tables_can_be_passed_by_or_dropped() {
    let passed = Table::new("audit").key("id", types::INT8);
    assert_eq!(
        threshold().with_table(passed).unwrap().matches(row! { id: 1 }),
        Ok(true)
    );
    let dropped = Table::new("secrets").key("id", types::INT8);
    assert_eq!(
        threshold().with_table(dropped).unwrap().matches(row! { id: 1 }),
        Ok(false)
    );
}

/// Where batches are cut, and which tables their rows are of, changes no verdict.
#[test]
fn cuts_do_not_matter() {
    let rows: Vec<_> = (0..100)
        .map(|id| match id % 3 {
            0 => row! { id: id, total: id * 2 },
            1 => row! { total: format!("{}", id * 2) },
            _ => row! { total: id - 50, note: "x" },
        })
        .collect();
    let whole = threshold().verdicts(&rows);
    assert!(whole.contains(&Ok(true)) && whole.contains(&Ok(false)) && whole.iter().any(Result::is_err));
    for size in [1, 7, 8, 9, 64] {
        let mut plugin = threshold();
        let cut: Vec<_> = rows.chunks(size).flat_map(|rows| plugin.verdicts(rows)).collect();
        assert_eq!(cut, whole, "batches of {size}");
    }
}

mod answers {
    use super::*;

    pub struct Answers;

    #[plugin]
    impl Transform for Answers {
        type Table = (ReadColumn, WriteColumn);

        fn new(_: ()) -> Result<Self> {
            Ok(Self)
        }

        fn schema(&mut self, relation: &Relation) -> Result<Projection<Self::Table>> {
            let mut selection = Selection::of(relation);
            let (read, write) = (selection.read("what")?, selection.write("what")?);
            Ok(selection.with((read, write)))
        }

        fn transform(&mut self, row: &Row, (read, write): &Self::Table, patch: &mut Patch) -> Result<()> {
            match row.text(*read)? {
                Some("drop") => patch.drop_change(),
                Some("stop") => patch.stop("enough"),
                Some("reject") => return Err(Error::new("no good").with_code("quality")),
                Some("replace") => patch.replace(0, &[Value::Text("replaced")]),
                Some("split") => {
                    patch.emit(Op::Insert, 0, &[Value::Text("left")]);
                    patch.emit(Op::Insert, 0, &[Value::Text("right")]);
                }
                Some("route") => {
                    patch.set(*write, "routed");
                    patch.route("elsewhere");
                }
                Some("twice") => {
                    patch.set(*write, "first");
                    patch.set(*write, "second");
                }
                Some("undeclared") => patch.set("other", 1),
                Some("random") => {
                    let mut bytes = [0; 12];
                    row.random(&mut bytes);
                    patch.set(*write, format!("{bytes:?}"));
                }
                Some("time") => patch.set(*write, row.transaction().commit_us.to_string()),
                Some("null") => patch.set(*write, None::<&str>),
                _ => {}
            }
            host::count("rows", 1.0);
            Ok(())
        }
    }
}

#[test]
fn every_answer_reaches_the_host() {
    let mut plugin = testing::transform::<answers::Answers>();
    let mut answer = |what: &str| plugin.apply(row! { what: what });
    let row = |what: &str| Outcome::Row(row! { what: what });
    assert_eq!(answer("leave"), row("leave"));
    assert_eq!(answer("drop"), Outcome::Dropped);
    assert_eq!(answer("stop"), Outcome::Stopped("enough".to_owned()));
    assert_eq!(
        answer("reject"),
        Outcome::Rejected(Error::new("no good").with_code("quality"))
    );
    assert_eq!(answer("replace"), row("replaced"));
    assert_eq!(
        answer("split"),
        Outcome::Rows(vec![row! { what: "left" }, row! { what: "right" }])
    );
    assert_eq!(
        answer("route"),
        Outcome::Routed("elsewhere".to_owned(), row! { what: "routed" })
    );
    assert_eq!(answer("twice"), row("second"));
    assert!(matches!(answer("undeclared"), Outcome::Rejected(error) if error.reason().contains("other")));
    assert_eq!(answer("random"), answer("random"));
    assert_eq!(answer("time"), row("1700000000000000"));
    assert_eq!(answer("null").row().get("what"), &Cell::Null);
    assert!(testing::measured().iter().any(|(_, name, _)| name == "rows"));
}

#[test]
fn a_plugin_without_config_takes_none() {
    assert!(testing::transform_with::<answers::Answers>(()).is_ok());
    assert!(testing::transform_with::<answers::Answers>(serde_json::json!({})).is_ok());
    assert!(testing::transform_with::<answers::Answers>(serde_json::json!({ "a": 1 })).is_err());
}

/// Whatever comes in, a guest answers with an error and not with a panic.
#[test]
fn damaged_batches_are_answered_with_an_error() {
    let mut plugin = threshold();
    let batch = plugin.encode(&[row! { total: 100 }, row! { total: 7 }]).unwrap();
    for at in 0..batch.len() {
        for byte in [0x00, 0x7f, 0x91, 0xc0, 0xc1, 0xdb, 0xff] {
            let mut damaged = batch.clone();
            damaged[at] = byte;
            plugin.call(&damaged);
        }
        assert_eq!(plugin.call(&batch[..at])[..2], [0x92, 2], "cut at {at}");
    }
    assert_eq!(plugin.call(&batch)[..2], [0x93, 0]);
}

/// A value of a type of the author's own.
#[test]
fn values_can_be_converted_by_the_author() {
    struct Cents(i64);
    impl ToValue for Cents {
        fn write(self, out: &mut rowmill_plugin::abi::Writer) {
            out.str(&format!("{}.{:02}", self.0 / 100, self.0 % 100));
        }
    }
    let mut writer = rowmill_plugin::abi::Writer::new();
    Cents(1_234).write(&mut writer);
    assert_eq!(rowmill_plugin::abi::Reader::new(writer.as_slice()).str(), Ok("12.34"));
}
