//! Numbers and times.

use rowmill_plugin::postgres::{Date, Decimal, FromText, Interval, Numeric, Time, TimeTz, Timestamp};
use rowmill_plugin::prelude::*;
use rowmill_plugin::row;
use rowmill_plugin::testing;

#[test]
fn what_postgres_does_not_write_is_not_read() {
    for text in [
        "1 day 2 days",
        "1 mon 1 year",
        "1 year 1 year",
        "1 days 1 mons",
        "1 day 1 day 00:00:01",
    ] {
        assert_eq!(Interval::from_text(text), None, "{text}");
    }
    let all = Interval::from_text("-1 years -2 mons +3 days -04:05:06.5").unwrap();
    assert_eq!((all.months, all.days, all.micros), (-14, 3, -14_706_500_000));
    // What would be the number of an infinity.
    assert_eq!(Timestamp::from_text("294277-01-09 04:00:54.775807"), None);
    assert!(Timestamp::from_text("294277-01-09 04:00:54.775806").is_some());
    let last = Date::from_days(i32::MAX - 1).year_month_day().unwrap();
    assert_eq!(
        Date::from_ymd(last.0, last.1, last.2),
        Some(Date::from_days(i32::MAX - 1))
    );
    assert_eq!(Date::from_ymd(last.0, last.1, last.2 + 1), None);
    let noon = Time::from_text("12:00:00").unwrap();
    assert_eq!(TimeTz::new(noon, i32::MIN), None);
}

mod decimals {
    use super::*;

    #[transform(read(total), write(total))]
    pub fn kept(row: &Row, patch: &mut Patch) -> Result<()> {
        if let Some(total) = row.numeric("total")?.and_then(|total| total.decimal()) {
            patch.set("total", total);
        }
        Ok(())
    }
}

/// It may stand in a text; and its value is never cut.
#[test]
fn a_number_of_many_places_is_no_fault() {
    let mut plugin = testing::transform::<decimals::kept>();
    for places in [10, 16_383, 65_534, 70_000, 200_000] {
        let total = format!("-0.{}7", "0".repeat(places - 1));
        let written = plugin.apply(row! { total: total.clone() }).row();
        assert!(written.text("total") == Some(total.as_str()), "{places}");
    }
}

#[test]
fn numbers_are_equal_by_value() {
    let decimal = |text| Numeric::from_text(text).and_then(|numeric| numeric.decimal()).unwrap();
    assert_eq!(decimal("1.50"), decimal("1.5"));
    assert_eq!(decimal("100"), Decimal::new(10_000, 2));
    assert!(decimal("-1.5") < decimal("0.00") && decimal("2") < decimal("10.0"));
}
