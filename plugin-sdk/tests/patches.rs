//! What is said of a row, one thing after the other, and what becomes of it.

use rowmill_plugin::prelude::*;
use rowmill_plugin::row;
use rowmill_plugin::testing::{self, Outcome, Sample};

/// Says what the row itself says.
struct Said;

#[plugin]
impl Transform for Said {
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
        for word in row.text(*read)?.unwrap_or("").split(' ') {
            match word {
                "set" => patch.set(*write, "set"),
                "undeclared" => patch.set("nobody", 1),
                "drop" => patch.drop_change(),
                "stop" => patch.stop("enough"),
                "stop_again" => patch.stop("again"),
                "replace" => patch.replace(0, &[Value::Text("replaced")]),
                "emit" => patch.emit(Op::Insert, 0, &[Value::Text("emitted")]),
                "emit_to" => patch.emit_to("own", Op::Insert, 0, &[Value::Text("emitted")]),
                "thousand" => (0..1_000).for_each(|_| patch.emit(Op::Insert, 0, &[Value::Text("one")])),
                "route" => patch.route("elsewhere"),
                "fail" => return Err(Error::new("no good").with_code("quality")),
                other => panic!("{other}"),
            }
        }
        Ok(())
    }
}

fn row(what: &str) -> Sample {
    row! { what: what }
}

fn rejected(outcome: &Outcome, code: &str) -> bool {
    matches!(outcome, Outcome::Rejected(error) if error.code() == code)
}

/// Also where all of it is said of rows of one batch: nothing is left behind for the next one.
#[test]
fn what_is_dropped_or_stops_stays_so() {
    let stopped = || Outcome::Stopped("enough".to_owned());
    let expected = [
        ("drop", Outcome::Dropped),
        ("drop set", Outcome::Dropped),
        ("drop set set", Outcome::Dropped),
        ("set drop set", Outcome::Dropped),
        ("drop replace", Outcome::Dropped),
        ("drop emit", Outcome::Dropped),
        ("emit drop emit", Outcome::Dropped),
        ("drop route", Outcome::Dropped),
        ("route drop", Outcome::Dropped),
        ("set", Outcome::Row(row("set"))),
        ("drop stop", stopped()),
        ("stop set", stopped()),
        ("stop drop", stopped()),
        ("stop replace", stopped()),
        ("stop emit emit_to", stopped()),
        ("stop route", stopped()),
        ("stop stop_again", stopped()),
        ("stop undeclared", stopped()),
        ("stop fail", stopped()),
        ("set set", Outcome::Row(row("set"))),
    ];
    let mut plugin = testing::transform::<Said>();
    for (what, expected) in &expected {
        assert_eq!(plugin.apply(row(what)), *expected, "{what}");
    }
    let (rows, expected): (Vec<_>, Vec<_>) = expected
        .into_iter()
        .map(|(what, expected)| (row(what), expected))
        .unzip();
    assert_eq!(plugin.outcomes(&rows), expected);
    // An error rejects the change all the same: it says that the function didn't come to its end.
    for (what, code) in [("drop fail", "quality"), ("drop undeclared", "error")] {
        assert!(rejected(&plugin.apply(row(what)), code), "{what}");
    }
}

#[test]
fn a_route_goes_for_every_row_that_has_none_of_its_own() {
    let mut plugin = testing::transform::<Said>();
    let routed = Outcome::Routed("elsewhere".to_owned(), row("set"));
    for what in ["set route", "route set"] {
        assert_eq!(plugin.apply(row(what)), routed, "{what}");
    }
    let (plain, own, elsewhere) = (row("emitted"), row("emitted").of("own"), row("emitted").of("elsewhere"));
    for (what, expected) in [
        ("emit", vec![&plain]),
        ("emit emit_to emit", vec![&plain, &own, &plain]),
        ("route emit", vec![&elsewhere]),
        ("emit route", vec![&elsewhere]),
        ("emit emit route emit_to", vec![&elsewhere, &elsewhere, &own]),
        ("route emit_to emit emit_to", vec![&own, &elsewhere, &own]),
        ("emit_to route", vec![&own]),
    ] {
        let expected = Outcome::Rows(expected.into_iter().cloned().collect());
        assert_eq!(plugin.apply(row(what)), expected, "{what}");
    }
}

/// Of two that contradict each other none is passed over.
#[test]
fn a_row_becomes_one_thing() {
    let mut plugin = testing::transform::<Said>();
    assert_eq!(plugin.apply(row("replace replace")), Outcome::Row(row("replaced")));
    for what in [
        "set replace",
        "replace set",
        "set emit",
        "emit set",
        "emit_to set",
        "replace emit",
        "emit replace",
        "replace route",
        "route replace",
        "route emit replace",
        "emit set fail",
    ] {
        let code = if what.ends_with("fail") { "quality" } else { "patch" };
        let outcome = plugin.apply(row(what));
        assert!(rejected(&outcome, code), "{what}: {outcome:?}");
    }
    assert!(rejected(&plugin.apply(row("set replace drop")), "patch"));
}

/// A row that is to blame alone is no fault of the plugin.
#[test]
fn a_row_of_which_too_many_are_made_is_rejected() {
    let mut plugin = testing::transform::<Said>();
    let outcomes = plugin.outcomes(&["thousand", "thousand emit", "thousand thousand emit_to", "set"].map(row));
    assert!(matches!(&outcomes[0], Outcome::Rows(rows) if rows.len() == 1_000));
    assert!(outcomes[1..3].iter().all(|outcome| rejected(outcome, "fan_out")));
    assert_eq!(outcomes[3], Outcome::Row(row("set")));
}
