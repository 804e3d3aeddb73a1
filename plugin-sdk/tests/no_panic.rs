//! Whatever text a column holds: it is read or it isn't, and nothing panics. What is read is written and read again.

use proptest::prelude::*;
use rowmill_plugin::postgres::{
    Array, Date, Decimal, FromText, Interval, Json, JsonKind, Numeric, Range, Time, TimeTz, Timestamp, TimestampTz,
    Uuid,
};
use std::cmp::Ordering;
use std::fmt::{Debug, Display};

/// Texts that are anything, and texts of what Postgres writes, put together at random.
fn text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => "[0-9]{1,6}",
        2 => Just("99999999999999999999".to_owned()),
        6 => "[-+:;./ ,{}\\[\\]()\"\\\\=TtZ]",
        3 => prop::sample::select(vec![
            "infinity", "-infinity", "Infinity", "NaN", " BC", "-00", "24:00:00", "+15:59", " years", " mon", " day",
            "{\"a\":1}", "\"a\":", "NULL", "empty", "true", "null", "\\u00e9", "\\ud800", "é", "🦀", "e+300", "9223372036854775807",
            "-9223372036854775808", "2147483647", "294276-12-31", "5874897-12-31", "4713-01-01",
        ]).prop_map(str::to_owned),
        1 => "\\PC",
    ];
    prop_oneof![
        1 => ".{0,40}",
        6 => prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat()),
    ]
}

fn again<T: for<'t> FromText<'t> + Display + Debug + PartialEq>(text: &str) {
    if let Some(value) = T::from_text(text) {
        let written = value.to_string();
        assert_eq!(T::from_text(&written), Some(value), "{text:?} written as {written:?}");
    }
}

/// Everything that can be asked of a value.
fn ask(text: &str) {
    again::<Date>(text);
    again::<Time>(text);
    again::<TimeTz>(text);
    again::<Timestamp>(text);
    again::<TimestampTz>(text);
    again::<Interval>(text);
    again::<Uuid>(text);
    if let Some(date) = Date::from_text(text) {
        let _ = (date.year_month_day(), date.days_since_1970());
    }
    for value in [Timestamp::from_text(text)].into_iter().flatten() {
        let _ = (value.date().year_month_day(), value.time(), value.unix_micros());
    }
    if let Some(numeric) = Numeric::from_text(text) {
        let _ = (numeric.scaled(0), numeric.scaled(40), numeric.to_f64(), numeric.scale());
        if let Some(decimal) = numeric.decimal() {
            let _ = (
                decimal.checked_add(decimal),
                Decimal::new(1, 38).checked_sub(decimal),
                decimal.to_string(),
            );
        }
        assert_eq!(numeric.cmp(&numeric), Ordering::Equal);
    }
    if let Some(Range::Between(lower, upper)) = Range::from_text(text) {
        let _ = (lower.get::<i32>(), upper.try_get::<Timestamp>().is_ok());
    }
    for array in [Array::from_text(text), Array::delimited(text, b';')]
        .into_iter()
        .flatten()
    {
        assert_eq!(array.elements().count(), array.len(), "{text:?}");
        for element in array.elements() {
            let _ = (
                element.text(),
                element.get::<i64>(),
                element.get::<Date>(),
                element.get::<Numeric>(),
                element.try_get::<Json>().is_ok(),
            );
        }
    }
    for (at, json) in [Json::from_text(text), Json::of_postgres(text)].into_iter().enumerate() {
        let Some(json) = json else { continue };
        if at == 0 {
            // It was checked: nothing is passed over.
            assert!(json.kind() != JsonKind::Text || json.as_text().is_some(), "{text:?}");
            assert!(
                json.members()
                    .all(|(_, member)| Json::from_text(member.as_str()).is_some()),
                "{text:?}"
            );
            assert!(
                json.items().all(|item| Json::from_text(item.as_str()).is_some()),
                "{text:?}"
            );
        }
        let _ = (
            json.kind(),
            json.get("a"),
            json.at(1),
            json.as_text(),
            json.as_i64(),
            json.as_f64(),
            json.as_bool(),
        );
        let _ = (json.items().count(), json.members().count());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_text_panics(text in text()) {
        ask(&text);
    }

    /// What can be made can be written and is read again.
    #[test]
    fn what_is_made_is_read_again(days in any::<i32>(), micros in any::<i64>(), months in any::<i32>(), offset in -60_000..60_000i32) {
        again::<Date>(&Date::from_days(days).to_string());
        let timestamp = Timestamp::from_micros_since_2000(micros);
        let _ = (timestamp.date(), timestamp.time(), timestamp.unix_micros(), timestamp.to_string());
        let interval = Interval { months, days, micros };
        prop_assert_eq!(Interval::from_text(&interval.to_string()), Some(interval));
        if let Some(time) = Time::from_micros(micros.rem_euclid(90_000_000_000)) {
            prop_assert_eq!(Time::from_text(&time.to_string()), Some(time));
            if let Some(time) = TimeTz::new(time, offset) {
                prop_assert_eq!(TimeTz::from_text(&time.to_string()), Some(time));
            }
        }
    }
}
