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

fn threshold() -> testing::FilterHost<threshold::Threshold> {
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
    // Of another transaction, and so of another change.
    assert_ne!(answer("random"), answer("random"));
    assert_eq!(answer("time"), row("1700000000000000"));
    assert_eq!(answer("null").row().get("what"), &Cell::Null);
    assert!(plugin.counter("rows") > 0.0);
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

mod numbered {
    use super::*;

    #[filter(read(id), kv)]
    pub fn known_only(row: &Row, kv: Kv) -> Result<bool> {
        Ok(kv.contains(row.text("id")?.unwrap_or("")))
    }
}

mod counted {
    use super::*;

    #[transform(read(id), write(id), kv)]
    pub fn counted(row: &Row, patch: &mut Patch, kv: Kv) -> Result<()> {
        let key = row.text("id")?.unwrap_or("nobody");
        let count = kv.get(key).map_or(0, |value| value.len()) + 1;
        kv.put(key, vec![b'x'; count])?;
        patch.set("id", format!("{key}{count}"));
        if count == 3 {
            kv.delete(key)?;
        }
        Ok(())
    }
}

#[test]
fn functions_are_handed_entries_by_key() {
    let mut plugin = testing::filter::<numbered::known_only>();
    plugin.set_entry("a", [0; 1000]);
    assert_eq!(
        plugin.verdicts(&[row! { id: "a" }, row! { id: "b" }]),
        [Ok(true), Ok(false)]
    );
    let mut plugin = testing::transform::<counted::counted>();
    let rows = ["a", "a", "b", "a", "a"].map(|id| row! { id: id });
    let outcomes = plugin.cut_everywhere(&rows);
    let expected = ["a1", "a2", "b1", "a3", "a1"].map(|id| Outcome::Row(row! { id: id }));
    assert_eq!(outcomes, expected);
    assert!(plugin.entries().is_empty());
    // Longer than what is read at once.
    plugin.set_entry("a", [0; 5000]);
    assert_eq!(plugin.apply(row! { id: "a" }).row().text("id"), Some("a5001"));
    // Beyond the bounds of the contract.
    plugin.set_entry("a", vec![0; Kv::VALUE_LEN_MAX]);
    assert!(matches!(plugin.apply(row! { id: "a" }), Outcome::Rejected(error) if error.code() == "kv"));
    assert!(matches!(plugin.apply(row! { id: "" }), Outcome::Rejected(error) if error.code() == "kv"));
}

mod watching {
    use super::*;

    pub struct Watching;

    #[plugin]
    impl Transform for Watching {
        fn new(_: ()) -> Result<Self> {
            Ok(Self)
        }

        fn schema(&mut self, relation: &Relation) -> Result<Projection<()>> {
            if relation.table == "audit" {
                return Ok(Projection::pass_by());
            }
            Ok(Selection::of(relation).with(()))
        }

        fn transform(&mut self, _: &Row, _: &(), _: &mut Patch) -> Result<()> {
            Ok(())
        }

        fn message(&mut self, message: &Message) -> Result<Verdict> {
            host::log(Level::Info, &format!("at {}", message.transaction.commit_us));
            match (message.prefix, message.content) {
                ("drop", b"\xff") => Ok(Verdict::Drop),
                ("stop", _) => Ok(Verdict::Stop("enough".into())),
                ("reject", _) => Err(Error::new("no good").with_code("quality")),
                _ => Ok(Verdict::Pass),
            }
        }

        fn truncate(&mut self, truncate: &Truncate) -> Result<Verdict> {
            let tables: Vec<_> = truncate.relations().map(|relation| relation.table.as_str()).collect();
            host::log(Level::Warn, &tables.join(","));
            Ok(match truncate.cascades {
                true => Verdict::Drop,
                false => Verdict::Pass,
            })
        }
    }
}

#[test]
fn transforms_are_shown_messages_and_truncates() {
    let mut plugin = testing::transform::<watching::Watching>();
    let rejected = Outcome::Rejected(Error::new("no good").with_code("quality"));
    let script = rowmill_plugin::events![
        row! { id: 1 }.of("orders"),
        row! { id: 1 }.of("audit"),
        testing::commit(),
        testing::message("drop", b"\xff"),
        testing::commit_at(5),
        testing::message("other", "x"),
        testing::message("reject", ""),
        testing::truncate(["orders", "audit", "unheard of"]),
        testing::truncate(["audit"]),
        testing::Event::Truncate {
            tables: vec!["orders".to_owned()],
            cascades: true,
            restarts_identity: false,
        },
        testing::message("stop", ""),
    ];
    let outcomes = plugin.outcomes(&script);
    assert_eq!(
        outcomes,
        [
            Outcome::Row(row! { id: 1 }.of("orders")),
            Outcome::Row(row! { id: 1 }.of("audit")),
            Outcome::Dropped,
            Outcome::Passed,
            rejected,
            Outcome::Passed,
            Outcome::Passed,
            Outcome::Dropped,
            Outcome::Stopped("enough".to_owned()),
        ]
    );
    let lines: Vec<_> = plugin.logged().into_iter().map(|(_, line)| line).collect();
    let later = "at 1700000000000000";
    assert_eq!(lines, ["at 5", later, later, "orders", "orders", later]);
    assert_eq!(plugin.cut_everywhere(&script), outcomes);
}

mod attentive {
    use super::*;

    pub struct Attentive;

    #[plugin]
    impl Filter for Attentive {
        fn new(_: ()) -> Result<Self> {
            Ok(Self)
        }

        fn schema(&mut self, relation: &Relation) -> Result<Projection<()>> {
            Ok(Selection::of(relation).with(()))
        }

        fn matches(&mut self, _: &Row, _: &()) -> Result<bool> {
            Ok(true)
        }

        fn message(&mut self, message: &Message) -> Result<bool> {
            Ok(message.is_transactional)
        }

        fn truncate(&mut self, truncate: &Truncate) -> Result<()> {
            match truncate.restarts_identity {
                true => Err(Error::new("ids begin anew")),
                false => Ok(()),
            }
        }
    }
}

#[test]
fn filters_judge_messages_and_may_reject_truncates() {
    let mut plugin = testing::filter::<attentive::Attentive>();
    let not_transactional = testing::Event::Message {
        is_transactional: false,
        prefix: String::new(),
        content: Vec::new(),
    };
    let restarting = testing::Event::Truncate {
        tables: vec!["sample".to_owned()],
        cascades: false,
        restarts_identity: true,
    };
    let verdicts = plugin.verdicts(&rowmill_plugin::events![
        row! { id: 1 },
        testing::message("a", "b"),
        not_transactional,
        testing::truncate(["sample"]),
        restarting,
    ]);
    assert_eq!(verdicts[..4], [Ok(true), Ok(true), Ok(false), Ok(true)]);
    assert_eq!(verdicts[4].as_ref().map_err(Error::reason), Err("ids begin anew"));
    // One that doesn't ask isn't shown any.
    assert_eq!(threshold().matches(testing::message("a", "b")), Ok(true));
}

/// What a test can't see in one batch: a plugin that counts rows since the batch began, one that forgets.
#[test]
fn what_depends_on_cuts_is_found_out() {
    struct Forgetful(u64);

    impl Filter for Forgetful {
        type Config = ();
        type Table = ();

        fn new(_: ()) -> Result<Self> {
            Ok(Self(0))
        }

        fn schema(&mut self, relation: &Relation) -> Result<Projection<()>> {
            Ok(Selection::of(relation).with(()))
        }

        fn matches(&mut self, _: &Row, _: &()) -> Result<bool> {
            self.0 += 1;
            Ok(self.0 <= 2)
        }
    }

    let rows = [row! { id: 1 }, row! { id: 2 }, row! { id: 3 }];
    let found = std::panic::catch_unwind(|| testing::filter::<Forgetful>().cut_everywhere(&rows));
    let text = *found.unwrap_err().downcast::<String>().unwrap();
    assert!(text.contains("cut and restarted before events [1]"), "{text}");
}

/// The images of an update aren't torn apart, and random bytes are those of the change.
#[test]
fn a_change_stays_whole_and_has_bytes_of_its_own() {
    let mut plugin = testing::transform::<answers::Answers>();
    let random = || row! { what: "random" };
    let outcomes = plugin.cut_everywhere(&rowmill_plugin::events![
        random(),
        random().old(Op::Update),
        random().updated(),
        testing::commit(),
        random(),
    ]);
    let bytes: Vec<_> = outcomes
        .into_iter()
        .map(|outcome| outcome.row().text("what").map(str::to_owned))
        .collect();
    assert_eq!(bytes[1], bytes[2]);
    assert!(bytes[0] != bytes[1] && bytes[0] != bytes[3] && bytes[1] != bytes[3]);
}

mod typed {
    use super::*;
    use rowmill_plugin::postgres::Numeric;

    #[transform(read(what), write(what))]
    pub fn typed(row: &Row, patch: &mut Patch) -> Result<()> {
        let Some(value) = row.numeric("what")? else {
            return Ok(());
        };
        assert_eq!(row.get::<Numeric>("what")?, Some(value));
        patch.set("what", format!("{value} {:?}", value.scaled(2)));
        Ok(())
    }
}

#[test]
fn a_numeric_is_read_of_every_column_that_holds_one() {
    let mut plugin = testing::transform::<typed::typed>();
    for (int, text) in [
        (0, "0 Some(0)"),
        (-7, "-7 Some(-700)"),
        (i64::MIN, "-9223372036854775808 Some(-922337203685477580800)"),
        (i64::MAX, "9223372036854775807 Some(922337203685477580700)"),
    ] {
        assert_eq!(plugin.apply(row! { what: int }).row().text("what"), Some(text));
    }
    assert_eq!(
        plugin.apply(row! { what: "1.5" }).row().text("what"),
        Some("1.5 Some(150)")
    );
    // A float isn't exact.
    let outcome = plugin.apply(row! { what: 1.5 });
    assert!(matches!(&outcome, Outcome::Rejected(error) if error.reason() == "column what is not a numeric"));
}
