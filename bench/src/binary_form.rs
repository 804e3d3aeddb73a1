//! Values of the fixed rows as a server sends them in binary form.

use crate::rows::COLUMNS;
use rowmill::decode::{TypeEntry, Types};

/// Days from 2000 to 2024.
const TO_2024: i64 = 8766;
/// Digits of a numeric to the base of 10,000.
const BASE: u32 = 10_000;

/// The types of the columns, with the functions that a catalog names for them.
pub fn types() -> Types {
    let entry = |(_, oid, name): &(&str, u32, &str)| {
        let function = match *name {
            "timestamptz" | "numeric" | "uuid" => format!("{name}_"),
            name => name.to_owned(),
        };
        TypeEntry {
            oid: *oid,
            name: (*name).to_owned(),
            output: format!("{function}out"),
            send: format!("{function}send"),
            ..TypeEntry::default()
        }
    };
    Types::new(150_000, COLUMNS.iter().map(entry))
}

/// A value of the column at this place.
pub fn value(at: usize, text: &str) -> Vec<u8> {
    let integer = || text.parse::<i64>().expect("an integer");
    match COLUMNS.get(at).map(|(.., kind)| *kind) {
        Some("int8") => integer().to_be_bytes().to_vec(),
        Some("int4") => (integer() as i32).to_be_bytes().to_vec(),
        Some("int2") => (integer() as i16).to_be_bytes().to_vec(),
        Some("float8") => text.parse::<f64>().expect("a float").to_be_bytes().to_vec(),
        Some("bool") => vec![u8::from(text == "t")],
        Some("numeric") => numeric(text),
        Some("timestamptz") => timestamp(text).to_be_bytes().to_vec(),
        Some("uuid") => uuid(text),
        _ => text.as_bytes().to_vec(),
    }
}

/// Of two decimals: groups of four digits, their weight, sign and scale.
fn numeric(text: &str) -> Vec<u8> {
    let (whole, cents) = text.split_once('.').expect("two decimals");
    let (whole, cents): (u32, u32) = (whole.parse().expect("digits"), cents.parse().expect("digits"));
    let mut groups: Vec<(i16, u32)> = [(1, whole / BASE), (0, whole % BASE), (-1, cents * 100)].into();
    while groups.first().is_some_and(|(_, digits)| *digits == 0) {
        groups.remove(0);
    }
    while groups.last().is_some_and(|(_, digits)| *digits == 0) {
        groups.pop();
    }
    let weight = groups.first().map_or(0, |(weight, _)| *weight);
    let fields = [groups.len() as i16, weight, 0, 2];
    let digits = groups.iter().map(|(_, digits)| *digits as i16);
    fields.into_iter().chain(digits).flat_map(i16::to_be_bytes).collect()
}

/// `2024-MM-DD hh:mm:ss.ffffff+00` in microseconds since 2000.
fn timestamp(text: &str) -> i64 {
    const BEFORE_MONTH: [i64; 12] = [0, 31, 60, 91, 121, 152, 182, 213, 244, 274, 305, 335];
    let field = |from: usize, to: usize| text[from..to].parse::<i64>().expect("digits");
    let days = TO_2024 + BEFORE_MONTH[field(5, 7) as usize - 1] + field(8, 10) - 1;
    let seconds = ((days * 24 + field(11, 13)) * 60 + field(14, 16)) * 60 + field(17, 19);
    seconds * 1_000_000 + field(20, 26)
}

fn uuid(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b'-').collect();
    let byte = |pair: &[u8]| u8::from_str_radix(&String::from_utf8_lossy(pair), 16).expect("digits");
    digits.chunks(2).map(byte).collect()
}
