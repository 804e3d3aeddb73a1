//! Postgres values to MessagePack and back.
//!
//! Integers, floats, booleans and bytes cross as such, everything else as Postgres' text, so that nothing is lost.

mod from_guest;
mod to_guest;

pub(crate) use from_guest::{Decoded, append_f64, decode};
pub(crate) use to_guest::{Presence, encode, is_hex_of, nearest_f64, parse_f64, parse_int};

/// How a column's values cross the boundary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    Int2,
    Int4,
    Int8,
    Float4,
    Float8,
    Bool,
    Bytea,
    /// As Postgres' text.
    Text,
}

impl Class {
    /// By the OIDs of pg_type.dat, which never change.
    pub const fn of(type_oid: u32) -> Self {
        match type_oid {
            16 => Self::Bool,
            17 => Self::Bytea,
            20 => Self::Int8,
            21 => Self::Int2,
            23 => Self::Int4,
            700 => Self::Float4,
            701 => Self::Float8,
            _ => Self::Text,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Int2 => "no smallint",
            Self::Int4 => "no integer",
            Self::Int8 => "no bigint",
            Self::Float4 | Self::Float8 => "no floating-point number",
            Self::Bool => "no boolean",
            Self::Bytea => "no bytea",
            Self::Text => "no text",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::Value;
    use crate::plugin::cursor::{Cursor, Scalar};
    use proptest::prelude::*;

    /// Through the guest's encoding and back.
    fn round_trip(oid: u32, text: &str) -> String {
        let class = Class::of(oid);
        let mut wire = Vec::new();
        encode(class, oid, Value::Text(text.as_bytes()), &mut wire).unwrap();
        let scalar = Cursor::new(&wire).scalar().unwrap();
        let mut arena = Vec::new();
        match decode(class, scalar, &mut arena).unwrap() {
            Decoded::Text(at) => String::from_utf8(arena[at..].to_vec()).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn postgres_spelling_survives() {
        for (oid, texts) in [
            (21, &["-32768", "0", "32767"][..]),
            (23, &["-2147483648", "-129", "-33", "127", "128", "65536"]),
            (20, &["-9223372036854775808", "9223372036854775807"]),
            (
                700,
                &[
                    "1.1",
                    "1e+06",
                    "999999",
                    "1e-05",
                    "0.0001",
                    "3.4028235e+38",
                    "-0",
                    "NaN",
                    "Infinity",
                    "-Infinity",
                ],
            ),
            (
                701,
                &[
                    "1.1",
                    "1e+15",
                    "999999999999999",
                    "5e-324",
                    "1.7976931348623157e+308",
                    "-Infinity",
                    "1.25e-07",
                ],
            ),
            (16, &["t", "f"]),
            (17, &["\\x", "\\x00ff10"]),
            (1700, &["123.4500", "NaN"]),
            (1114, &["infinity", "0044-03-15 00:00:00 BC"]),
        ] {
            for text in texts {
                assert_eq!(round_trip(oid, text), *text, "type {oid}");
            }
        }
    }

    proptest! {
        #[test]
        fn integers_survive(value: i64) {
            prop_assert_eq!(round_trip(20, &value.to_string()), value.to_string());
        }

        #[test]
        fn integers_of_few_digits_survive(value: i64, shift in 0..64) {
            let text = i64::to_string(&(value >> shift));
            prop_assert_eq!(round_trip(20, &text), text);
        }

        /// To the bit as they are otherwise read.
        #[test]
        fn floats_of_few_digits_are_the_nearest(digits in 0..1_000_000_000u32, scale in 0..9usize, negative: bool) {
            let mut text = format!("{digits:0width$}", width = scale + 1);
            text.insert(text.len() - scale, '.');
            let text = format!("{}{}", if negative { "-" } else { "" }, text.trim_end_matches('.'));
            let mut wire = Vec::new();
            encode(Class::Float8, 701, Value::Text(text.as_bytes()), &mut wire).unwrap();
            let expected = Scalar::F64(text.parse().unwrap());
            prop_assert_eq!(Cursor::new(&wire).scalar().unwrap(), expected);
        }

        #[test]
        fn floats_survive(value: f64) {
            let shown = round_trip(701, &format!("{value}"));
            if value.is_finite() {
                prop_assert_eq!(shown.parse::<f64>().unwrap().to_bits(), value.to_bits());
            }
        }
    }

    #[test]
    fn binary_form_is_the_same_to_the_guest() {
        let uuid = [
            0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde, 0xf0, 0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde, 0xf0,
        ];
        for (oid, binary, text) in [
            (23, &(-5i32).to_be_bytes()[..], "-5"),
            (20, &77i64.to_be_bytes(), "77"),
            (701, &1.5f64.to_be_bytes(), "1.5"),
            (16, &[1], "t"),
            (17, &[0xab, 0xcd], "\\xabcd"),
            (25, b"text", "text"),
            (2950, &uuid, "12345678-9abc-def0-1234-56789abcdef0"),
            (3802, b"\x01{\"a\": 1}", "{\"a\": 1}"),
        ] {
            let class = Class::of(oid);
            let (mut from_binary, mut from_text) = (Vec::new(), Vec::new());
            encode(class, oid, Value::Binary(binary), &mut from_binary).unwrap();
            encode(class, oid, Value::Text(text.as_bytes()), &mut from_text).unwrap();
            assert_eq!(from_binary, from_text, "type {oid}");
        }
        let timestamp = 0i64.to_be_bytes();
        assert!(encode(Class::Text, 1114, Value::Binary(&timestamp), &mut Vec::new()).is_err());
    }

    #[test]
    fn values_of_another_type_are_refused() {
        for (class, scalar) in [
            (Class::Int2, Scalar::Int(32_768)),
            (Class::Int4, Scalar::Int(1 << 31)),
            (Class::Int8, Scalar::Huge(u64::MAX)),
            (Class::Int4, Scalar::Str("12x")),
            (Class::Int4, Scalar::F64(1.0)),
            (Class::Bool, Scalar::Int(1)),
            (Class::Bool, Scalar::Str("maybe")),
            (Class::Bytea, Scalar::Str("\\xabc")),
            (Class::Bytea, Scalar::Str("abcd")),
            (Class::Float8, Scalar::Str("one")),
            (Class::Text, Scalar::Bin(b"x")),
            (Class::Text, Scalar::Str("nul\0")),
            (Class::Text, Scalar::Ext(9, b"")),
            (Class::Text, Scalar::Ext(1, b"x")),
        ] {
            assert!(decode(class, scalar, &mut Vec::new()).is_err(), "{class:?} {scalar:?}");
        }
    }

    /// Powers, steps and middles between floats, and many at random, as the server itself writes them.
    #[test]
    fn floats_are_spelled_as_the_server_spells_them() {
        let cluster = rowmill_tests::Cluster::start().unwrap();
        let mut seed = 7_u64;
        let mut random = || {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            seed ^ seed >> 29
        };
        let powers = (-300..300).flat_map(|power| [format!("1e{power}"), format!("9e{power}"), format!("1.5e{power}")]);
        let mut wide: Vec<f64> = powers.map(|text| text.parse().unwrap()).collect();
        wide.extend((-1074..1024).map(|power| f64::from(2).powi(power)));
        wide.extend([
            1e23,
            -1e23,
            9_007_199_254_740_993.0,
            5e-324,
            f64::MAX,
            f64::INFINITY,
            f64::NAN,
            -0.0,
            1e15,
            1e-4,
        ]);
        wide.extend((0..3000).map(|_| f64::from_bits(random())));
        wide.extend((0..3000).map(|_| (random() >> 20) as f64 / 1000.0));
        let mut narrow: Vec<f32> = (-126..128).map(|power| 2_f32.powi(power)).collect();
        narrow.extend((-37..38).map(|power| format!("1e{power}").parse::<f32>().unwrap()));
        narrow.extend([1e6, 999_999.9, 1e-4, 9.5e-5, f32::MAX, f32::NEG_INFINITY, -0.0]);
        narrow.extend((0..3000).map(|_| f32::from_bits(random() as u32)));
        let asked = |kind: &str, values: Vec<String>| {
            let sql = format!(
                "CREATE TABLE of_{kind} AS SELECT * FROM unnest('{{{}}}'::{kind}[]) WITH ORDINALITY AS v (v, n)",
                values.join(",")
            );
            cluster.script("postgres", &sql).unwrap();
            let select = format!("SELECT v::text FROM of_{kind} ORDER BY n");
            let answer = cluster.sql("postgres", &select).unwrap();
            answer.lines().map(str::to_owned).collect::<Vec<_>>()
        };
        let spelled = |class, scalar| {
            let mut arena = Vec::new();
            decode(class, scalar, &mut arena).unwrap();
            String::from_utf8(arena).unwrap()
        };
        let server = asked("float8", wide.iter().map(|value| format!("{value:e}")).collect());
        assert_eq!(server.len(), wide.len());
        for (value, text) in wide.iter().zip(&server) {
            assert_eq!(spelled(Class::Float8, Scalar::F64(*value)), *text, "{value:e}");
        }
        let server = asked("float4", narrow.iter().map(|value| format!("{value:e}")).collect());
        for (value, text) in narrow.iter().zip(&server) {
            assert_eq!(spelled(Class::Float4, Scalar::F32(*value)), *text, "{value:e}");
        }
    }
}
