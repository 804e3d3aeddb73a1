//! The SDK's typed accessors against Postgres: what it writes is read, compared, taken apart and written as it does
//! itself.

use rowmill_plugin::Value;
use rowmill_plugin::postgres::{Date, FromText, Interval, Numeric, Time, TimeTz, Timestamp, TimestampTz, Uuid};
use rowmill_tests::{Oracle, number};
use std::cmp::Ordering;
use std::fmt::{Debug, Display};

/// Reads each value and has it written again as it was. Returns it with the rest of its row.
fn read<'r, T: FromText<'r> + Display>(rows: &'r [Vec<Option<String>>]) -> Vec<(T, &'r [Option<String>])> {
    let one = |row: &'r Vec<Option<String>>| {
        let text = row[0].as_deref().unwrap();
        let value = T::from_text(text).unwrap_or_else(|| panic!("{} isn't read: {text}", T::WANTED));
        assert_eq!(value.to_string(), text, "{}", T::WANTED);
        (value, &row[1..])
    };
    rows.iter().map(one).collect()
}

/// Rows that Postgres has put in order are in order.
fn in_order<T: PartialOrd + Debug>(values: &[(T, &[Option<String>])]) {
    for pair in values.windows(2) {
        let order = pair[0].0.partial_cmp(&pair[1].0);
        assert!(
            matches!(order, Some(Ordering::Less | Ordering::Equal)),
            "{:?} {:?}",
            pair[0].0,
            pair[1].0
        );
    }
}

#[test]
fn dates() {
    let oracle = Oracle::start();
    let list = [
        "infinity",
        "-infinity",
        "4713-01-01 BC",
        "0001-12-31 BC",
        "0001-01-01",
        "1969-12-31",
        "2000-02-29",
        "5874897-12-31",
    ];
    let of = "CASE WHEN isfinite(v) THEN v - date '1970-01-01' END, extract(year FROM v), extract(month FROM v),
        extract(day FROM v), isfinite(v)";
    let random = "CASE n % 2 WHEN 0 THEN date '4713-01-01 BC' + pg_temp.below(2147483640 - 10)::int
                  ELSE date '1000-01-01 BC' + pg_temp.below(1500000)::int END";
    let rows = oracle.values("date", &list, random, of);
    let dates = read::<Date>(&rows);
    in_order(&dates);
    for (date, facts) in dates {
        let days = number::<i32>(&facts[0]);
        assert_eq!(date.is_finite(), facts[4].as_deref() == Some("t"));
        assert_eq!(date.days_since_1970(), days, "{date}");
        let Some((year, month, day)) = date.year_month_day() else {
            assert!(!date.is_finite());
            continue;
        };
        // Postgres has no year 0: 1 BC is -1.
        let written = if year <= 0 { year - 1 } else { year };
        assert_eq!(Some(written), number(&facts[1]), "{date}");
        assert_eq!(
            (Some(month), Some(day)),
            (number(&facts[2]), number(&facts[3])),
            "{date}"
        );
        assert_eq!(Date::from_ymd(year, month, day), Some(date));
        assert_eq!(days.map(Date::from_days), Some(date));
    }
}

/// Of timestamps and timestamptz: microseconds since 2000 in hexadecimal, date and time of day.
const OF_TIMESTAMP: &str = "encode(KIND_send(v), 'hex'), v::date, CASE WHEN isfinite(v) THEN v::time END, isfinite(v)";
const TIMESTAMPS: [&str; 10] = [
    "infinity",
    "-infinity",
    "4713-01-01 00:00:00 BC",
    "0001-12-31 23:59:59.999999 BC",
    "0001-01-01 00:00:00",
    "1969-12-31 23:59:59.999999",
    "1970-01-01",
    "2000-01-01 00:00:00.000001",
    "294246-12-31 23:59:59",
    "294276-12-31 23:59:59.999999",
];

fn random_timestamp(kind: &str) -> String {
    format!(
        "CASE n % 3 WHEN 0 THEN {kind} '4713-01-01 BC' + make_interval(days => pg_temp.below(109203527)::int,
                     secs => pg_temp.below(86400) + pg_temp.below(1000000) / 1000000)
         WHEN 1 THEN {kind} '1900-01-01' + make_interval(secs => pg_temp.below(6e9))
         ELSE {kind} '1990-01-01' + make_interval(secs => pg_temp.below(1e9) + pg_temp.below(1000) / 1000) END"
    )
}

fn of_timestamps(oracle: &Oracle, kind: &str) -> Vec<Vec<Option<String>>> {
    let of = OF_TIMESTAMP.replace("KIND", kind);
    oracle.values(kind, &TIMESTAMPS, &random_timestamp(kind), &of)
}

fn micros(hex: &Option<String>) -> i64 {
    u64::from_str_radix(hex.as_deref().unwrap(), 16).unwrap() as i64
}

/// What a timestamp of either kind says of itself.
struct Facts {
    micros: i64,
    unix_micros: Option<i64>,
    date: Date,
    time: Option<Time>,
    is_finite: bool,
}

fn check_timestamp(value: &dyn Debug, facts: &[Option<String>], found: &Facts) {
    let micros = micros(&facts[0]);
    assert_eq!(found.is_finite, facts[3].as_deref() == Some("t"), "{value:?}");
    assert_eq!(found.micros, micros, "{value:?}");
    let unix_micros = micros.checked_add(946_684_800_000_000).filter(|_| found.is_finite);
    assert_eq!(found.unix_micros, unix_micros, "{value:?}");
    assert_eq!(Some(found.date.to_string()), facts[1], "{value:?}");
    assert_eq!(found.time.map(|time| time.to_string()), facts[2], "{value:?}");
}

#[test]
fn timestamps() {
    let oracle = Oracle::start();
    let rows = of_timestamps(&oracle, "timestamp");
    let values = read::<Timestamp>(&rows);
    in_order(&values);
    for (value, facts) in values {
        let found = Facts {
            micros: value.micros_since_2000(),
            unix_micros: value.unix_micros(),
            date: value.date(),
            time: value.time(),
            is_finite: value.is_finite(),
        };
        check_timestamp(&value, facts, &found);
        assert_eq!(Timestamp::from_micros_since_2000(value.micros_since_2000()), value);
    }
    let rows = of_timestamps(&oracle, "timestamptz");
    let values = read::<TimestampTz>(&rows);
    in_order(&values);
    for (value, facts) in values {
        let found = Facts {
            micros: value.micros_since_2000(),
            unix_micros: value.unix_micros(),
            date: value.date(),
            time: value.time(),
            is_finite: value.is_finite(),
        };
        check_timestamp(&value, facts, &found);
    }
    // Offsets of other sessions: of hours, minutes and, long ago, seconds.
    for zone in [
        "Asia/Kathmandu",
        "America/St_Johns",
        "Europe/Amsterdam",
        "Pacific/Kiritimati",
    ] {
        let sql = format!(
            "SET TimeZone = '{zone}'; SELECT v, encode(timestamptz_send(v), 'hex') FROM
             (SELECT timestamptz '1800-01-01' + make_interval(secs => pg_temp.below(9e9)) AS v FROM generate_series(1, 500)) t"
        );
        for row in oracle.rows(&sql) {
            let text = row[0].as_deref().unwrap();
            let value = TimestampTz::from_text(text).unwrap_or_else(|| panic!("{text}"));
            assert_eq!(value.micros_since_2000(), micros(&row[1]), "{text}");
        }
    }
}

#[test]
fn times_and_intervals() {
    let oracle = Oracle::start();
    let list = [
        "00:00:00",
        "00:00:00.000001",
        "12:34:56.7",
        "23:59:59.999999",
        "24:00:00",
    ];
    let of = "(extract(epoch FROM v) * 1000000)::bigint";
    let random =
        "make_time(pg_temp.below(24)::int, pg_temp.below(60)::int, pg_temp.below(60) + pg_temp.below(1e6) / 1e6)";
    let rows = oracle.values("time", &list, random, of);
    let times = read::<Time>(&rows);
    in_order(&times);
    for (time, facts) in times {
        assert_eq!(Some(time.micros()), number(&facts[0]), "{time}");
        assert_eq!(Time::from_micros(time.micros()), Some(time));
    }
    let list = [
        "00:00:00+00",
        "24:00:00-12",
        "12:34:56.7+05:45",
        "00:00:00+15:59:59",
        "23:59:59-15:59:59",
    ];
    let random = format!("(({random})::text || (ARRAY['+00','-03:30','+05:45','+13','-09'])[n % 5 + 1])");
    let rows = oracle.values("timetz", &list, &random, "v::time, extract(timezone FROM v)");
    for (time, facts) in read::<TimeTz>(&rows) {
        assert_eq!(Some(time.time().to_string()), facts[0], "{time}");
        assert_eq!(Some(time.offset_seconds()), number(&facts[1]), "{time}");
    }
    let list = [
        "0",
        "1 year",
        "-1 year",
        "1 mon -1 day",
        "-1 mon +1 day -00:00:00.000001",
        "-1 year 1 mon",
        "1 year -13 mons",
        "178000000 years",
        "-178000000 years",
        "2147483647 mons",
        "-2147483648 mons",
        "2147483647 days",
        "-2147483648 days",
        "2562047788:00:54.775807",
        "-2562047788:00:54.775807",
        "1 day -23:59:59.5",
        "-1 days +00:00:01",
        "25:00:00",
    ];
    let of = "extract(year FROM v) * 12 + extract(month FROM v), extract(day FROM v),
        ((extract(hour FROM v) * 60 + extract(minute FROM v)) * 60000000 + extract(microseconds FROM v))::numeric(30)";
    let random = "make_interval(
        years => (pg_temp.below(20) * (n % 2) - 10 * (n % 2))::int, months => (pg_temp.below(40) * (n / 2 % 2) - 20 * (n / 2 % 2))::int,
        days => (pg_temp.below(100) * (n / 4 % 2) - 50 * (n / 4 % 2))::int,
        secs => (pg_temp.below(4e9) - 2e9) / (ARRAY[1, 1000, 1e6, 1e6])[n / 8 % 4 + 1] * (n / 32 % 2))";
    let rows = oracle.values("interval", &list, random, of);
    for (interval, facts) in read::<Interval>(&rows) {
        let parts = (Some(interval.months), Some(interval.days), Some(interval.micros));
        assert_eq!(
            parts,
            (number(&facts[0]), number(&facts[1]), number(&facts[2])),
            "{interval}"
        );
    }
}

#[test]
fn numerics() {
    let oracle = Oracle::start();
    let long = format!("{}.{}", "9".repeat(1000), "1".repeat(16_383));
    let tiny = format!("-0.{}1", "0".repeat(16_382));
    let list = [
        "NaN",
        "Infinity",
        "-Infinity",
        "0",
        "0.000",
        "-0.5",
        "1.50",
        "1.5",
        "100",
        "9999999999999999999999999999",
        "170141183460469231731687303715884105727",
        "-170141183460469231731687303715884105728",
        &long,
        &tiny,
    ];
    let of = "CASE WHEN v NOT IN ('NaN', 'Infinity', '-Infinity') THEN scale(v) END,
        CASE WHEN v NOT IN ('NaN', 'Infinity', '-Infinity') AND abs(v) < 1e30 AND min_scale(v) <= 4 THEN trunc(v * 10000) END,
        CASE WHEN abs(v) < 1e300 AND (v = 0 OR abs(v) > 1e-300) THEN v::float8 END,
        CASE WHEN abs(v) < 1e20 AND scale(v) < 10 THEN v + 0.125 END,
        CASE WHEN abs(v) < 1e20 AND scale(v) < 10 THEN v - 1000000.5 END";
    let random = "trunc((random() - 0.5)::numeric * (ARRAY[1, 1000, 1e9, 1e18, 1e40])[n % 5 + 1], n % 7) * (ARRAY[1, 1, 1e-8])[n % 3 + 1]";
    let rows = oracle.values("numeric", &list, random, of);
    let values = read::<Numeric<'_>>(&rows);
    in_order(&values);
    let eighth = Numeric::from_text("0.125").unwrap().decimal().unwrap();
    let million = Numeric::from_text("1000000.5").unwrap().decimal().unwrap();
    for (value, facts) in &values {
        let is_finite = facts[0].is_some();
        assert_eq!(value.is_finite(), is_finite);
        assert_eq!(value.is_nan(), value.as_str() == "NaN");
        assert_eq!(value.scale(), number(&facts[0]).unwrap_or(0), "{value}");
        if let Some(scaled) = number::<i128>(&facts[1]) {
            assert_eq!(value.scaled(4), Some(scaled), "{value}");
        }
        if let Some(float) = number::<f64>(&facts[2]) {
            assert_eq!(value.to_f64(), float, "{value}");
        }
        if let (Some(sum), Some(difference)) = (&facts[3], &facts[4]) {
            let decimal = value.decimal().unwrap();
            assert_eq!(&decimal.to_string(), value.as_str());
            assert_eq!(&decimal.checked_add(eighth).unwrap().to_string(), sum);
            assert_eq!(&decimal.checked_sub(million).unwrap().to_string(), difference);
        }
    }
    // Those that Postgres has for equal are equal.
    let equal = "SELECT a.v, b.v FROM (VALUES ('1.0'::numeric), ('0'), ('NaN'), ('-5.50')) a(v)
        JOIN (VALUES ('1.000'::numeric), ('0.00'), ('NaN'), ('-5.5'), ('1.0001')) b(v) ON a.v = b.v";
    let rows = oracle.rows(equal);
    assert_eq!(rows.len(), 4);
    for row in &rows {
        let [one, other] = [0, 1].map(|at: usize| Numeric::from_text(row[at].as_deref().unwrap()).unwrap());
        assert_eq!(one, other);
    }
}

#[test]
fn integers_floats_booleans_and_bytes() {
    let oracle = Oracle::start();
    let list = ["0", "-1", "32767", "-32768"];
    for row in oracle.values("int2", &list, "pg_temp.below(65536) - 32768", "v") {
        check_integer(&row, i16::from_text(row[0].as_deref().unwrap()).map(i64::from));
    }
    let list = ["0", "2147483647", "-2147483648"];
    for row in oracle.values("int4", &list, "pg_temp.below(4294967296) - 2147483648", "v") {
        check_integer(&row, i32::from_text(row[0].as_deref().unwrap()).map(i64::from));
    }
    let list = ["0", "9223372036854775807", "-9223372036854775808"];
    for row in oracle.values(
        "int8",
        &list,
        "trunc((random()::numeric - 0.5) * 18446744073709551614)",
        "v",
    ) {
        check_integer(&row, i64::from_text(row[0].as_deref().unwrap()));
    }
    let floats = [
        "NaN",
        "Infinity",
        "-Infinity",
        "0",
        "-0",
        "1",
        "0.1",
        "1e15",
        "1e14",
        "123456789012345",
        "1234567890123456",
        "1e-4",
        "1e-5",
        "1.5e-5",
        "1e6",
        "999999",
        "1234567",
        "1e20",
        "1e37",
        "1.17549435e-38",
        "3.40282347e38",
        "1e-45",
    ];
    let random = "(random() - 0.5) * power(10, pg_temp.below(70) - 35)";
    for row in oracle.values("float4", &floats, random, "encode(float4send(v), 'hex')") {
        let (text, bits) = (row[0].as_deref().unwrap(), row[1].as_deref().unwrap());
        let value = f32::from_bits(u32::from_str_radix(bits, 16).unwrap());
        let read = f32::from_text(text).unwrap();
        assert!(
            read.to_bits() == value.to_bits() || read.is_nan() && value.is_nan(),
            "{text}"
        );
        check_float(&Value::Real(value).to_text().unwrap(), text, |written| {
            f32::from_text(written) == Some(value)
        });
    }
    let large = [
        "1.7976931348623157e308",
        "5e-324",
        "2.2250738585072014e-308",
        "9007199254740993",
        "1e300",
    ];
    let floats: Vec<&str> = floats.into_iter().chain(large).collect();
    let random = "(random() - 0.5) * power(10, pg_temp.below(600) - 300)";
    for row in oracle.values("float8", &floats, random, "encode(float8send(v), 'hex')") {
        let (text, bits) = (row[0].as_deref().unwrap(), row[1].as_deref().unwrap());
        let value = f64::from_bits(u64::from_str_radix(bits, 16).unwrap());
        let read = f64::from_text(text).unwrap();
        assert!(
            read.to_bits() == value.to_bits() || read.is_nan() && value.is_nan(),
            "{text}"
        );
        check_float(&Value::Float(value).to_text().unwrap(), text, |written| {
            f64::from_text(written) == Some(value)
        });
    }
    for row in oracle.rows("SELECT v, v::text FROM (VALUES (true), (false)) b(v)") {
        let value = bool::from_text(row[0].as_deref().unwrap()).unwrap();
        assert_eq!(Value::Bool(value).to_text(), row[1].as_deref().map(Into::into));
    }
    let bytes = oracle.rows(
        r"SELECT v, get_byte(v, 0) FROM (SELECT decode(md5(n::text), 'hex') AS v FROM generate_series(1, 500) n
          UNION ALL SELECT '\x00ff'::bytea) b",
    );
    for row in bytes {
        let text = row[0].as_deref().unwrap();
        let value: Vec<u8> = (2..text.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
            .collect();
        assert_eq!(value.first().copied(), number(&row[1]));
        assert_eq!(Value::Bytes(&value).to_text().as_deref(), Some(text));
    }
    let uuids = [
        "00000000-0000-0000-0000-000000000000",
        "ffffffff-ffff-ffff-ffff-ffffffffffff",
    ];
    let rows = oracle.values("uuid", &uuids, "gen_random_uuid()", "encode(uuid_send(v), 'hex')");
    let values = read::<Uuid>(&rows);
    in_order(&values);
    for (uuid, facts) in values {
        let hex: String = uuid.0.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(Some(&hex), facts[0].as_ref());
    }
}

/// The same float in the same form. Of two texts of a length that are equally near Postgres may take the other one, and
/// it writes more digits where the shortest lies just between two floats.
fn check_float(written: &str, text: &str, is_it: impl Fn(&str) -> bool) {
    let exponent = |text: &str| text.split_once('e').map(|(_, exponent)| exponent.to_owned());
    assert!(
        is_it(written) || written == "NaN" && text == "NaN",
        "{written}, not {text}"
    );
    assert_eq!(exponent(written), exponent(text), "{written}, not {text}");
    assert!(written.len() <= text.len(), "{written}, not {text}");
}

fn check_integer(row: &[Option<String>], value: Option<i64>) {
    let value = value.unwrap_or_else(|| panic!("{row:?}"));
    assert_eq!(Some(value), number(&row[1]));
    assert_eq!(Value::Int(value).to_text().as_deref(), row[0].as_deref());
    let numeric = <Numeric<'_> as FromText<'_>>::from_int(value).unwrap();
    assert_eq!(Some(numeric.as_str()), row[0].as_deref());
    assert_eq!(numeric, Numeric::from_text(row[0].as_deref().unwrap()).unwrap());
}
