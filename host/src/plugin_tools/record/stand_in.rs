//! What stands in the place of a value that doesn't leave: of its type, from the row's number alone.

use super::refused;
use crate::batch::{Column, Relation};
use crate::problem::Problem;
use std::collections::HashMap;
use tokio_postgres::Client;
use tokio_postgres::types::Type;

/// What a type that isn't built in comes down to.
#[derive(Clone, Debug)]
pub(super) struct Kind {
    /// Of a domain: the type below it.
    base: String,
    /// Its first label, where it is an enumeration.
    label: Option<String>,
    /// As `pg_type.typcategory` has it.
    category: String,
}

/// Domains are followed down to what they rest on.
const KINDS: &str = "
WITH RECURSIVE base AS (
    SELECT t.oid AS named, t.oid, t.typtype, t.typbasetype, t.typcategory
    FROM pg_catalog.pg_type t WHERE t.oid = ANY($1::oid[])
    UNION ALL
    SELECT b.named, t.oid, t.typtype, t.typbasetype, t.typcategory
    FROM base b JOIN pg_catalog.pg_type t ON t.oid = b.typbasetype WHERE b.typtype = 'd'
)
SELECT b.named, format_type(b.oid, NULL) AS base, b.typcategory::text AS category,
       (SELECT e.enumlabel::text FROM pg_catalog.pg_enum e WHERE e.enumtypid = b.oid
        ORDER BY e.enumsortorder LIMIT 1) AS label
FROM base b WHERE b.typtype <> 'd'";

pub(super) async fn kinds(client: &Client, relation: &Relation) -> Result<HashMap<u32, Kind>, Box<Problem>> {
    let oids: Vec<u32> = relation.columns.iter().map(|column| column.type_oid).collect();
    let rows = client.query_typed(KINDS, &[(&oids, Type::OID_ARRAY)]).await;
    let rows = rows.map_err(|error| Box::new(refused(&relation.full_name(), &error)))?;
    let kind = |row: &tokio_postgres::Row| Kind {
        base: row.get("base"),
        label: row.get("label"),
        category: row.get("category"),
    };
    Ok(rows.iter().map(|row| (row.get("named"), kind(row))).collect())
}

/// The value in Postgres' text for row `number`, counted from 1. Numbers tell rows apart where the type has room for
/// them, so that keys stay different.
pub(super) fn value(column: &Column, kind: Option<&Kind>, number: u64) -> String {
    let base = kind.map_or(column.type_name.as_str(), |kind| kind.base.as_str());
    let category = kind.map_or("", |kind| kind.category.as_str());
    if let Some(label) = kind.and_then(|kind| kind.label.as_ref()) {
        return label.clone();
    }
    let second = number % 60;
    match base {
        "smallint" | "integer" | "bigint" | "oid" | "real" | "double precision" => number.to_string(),
        "numeric" => numeric(column.typmod, number),
        "boolean" => (if number % 2 == 1 { "t" } else { "f" }).to_owned(),
        "text" | "character varying" | "character" | "name" | "citext" => text(column, number),
        "\"char\"" => "x".to_owned(),
        "uuid" => format!("00000000-0000-4000-8000-{number:012x}"),
        "bytea" => format!("\\x{number:08x}"),
        "json" | "jsonb" | "hstore" => if base == "hstore" { "" } else { "{}" }.to_owned(),
        "xml" => "<redacted/>".to_owned(),
        "date" => "2000-01-01".to_owned(),
        "timestamp without time zone" => format!("2000-01-01 00:00:{second:02}"),
        "timestamp with time zone" => format!("2000-01-01 00:00:{second:02}+00"),
        "time without time zone" => format!("00:00:{second:02}"),
        "time with time zone" => format!("00:00:{second:02}+00"),
        "interval" => format!("00:00:{second:02}"),
        "inet" => "192.0.2.1".to_owned(),
        "cidr" => "192.0.2.0/24".to_owned(),
        "macaddr" => "00:00:5e:00:53:01".to_owned(),
        "macaddr8" => "00:00:5e:00:53:01:00:00".to_owned(),
        "money" => "$1.00".to_owned(),
        "bit" => "0".repeat(usize::try_from(column.typmod).unwrap_or(1)),
        "bit varying" => "0".to_owned(),
        "point" => "(0,0)".to_owned(),
        _ if category == "A" || base.ends_with("[]") || base.ends_with("multirange") => "{}".to_owned(),
        _ if category == "R" => "empty".to_owned(),
        _ => "redacted".to_owned(),
    }
}

/// With as many digits behind the point as the column has, and no more before it.
fn numeric(typmod: i32, number: u64) -> String {
    // The lower 11 bits are the scale, signed; those above 16 the precision.
    let Ok(packed) = u32::try_from(typmod - 4) else {
        return number.to_string();
    };
    let (precision, scale) = (packed >> 16, packed & 0x7ff);
    if scale >= 1024 {
        return "0".to_owned();
    }
    let whole = 10u64.checked_pow(precision.saturating_sub(scale)).unwrap_or(u64::MAX);
    let whole = number % whole;
    match scale {
        0 => whole.to_string(),
        _ => format!("{whole}.{}", "0".repeat(scale as usize)),
    }
}

/// `NAME NUMBER`, as much of it as the column holds, from its end: the number tells rows apart.
fn text(column: &Column, number: u64) -> String {
    let text = format!("{} {number}", column.name);
    let Ok(len_max) = usize::try_from(column.typmod - 4) else {
        return text;
    };
    let skip = text.chars().count().saturating_sub(len_max);
    let cut: String = text.chars().skip(skip).collect();
    match column.type_name.as_str() {
        "character" => format!("{cut:len_max$}"),
        _ => cut,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(type_name: &str, typmod: i32) -> Column {
        Column {
            name: "email".to_owned(),
            type_oid: 0,
            typmod,
            type_name: type_name.to_owned(),
            nullable: true,
            key: false,
            slot: 0,
        }
    }

    #[test]
    fn a_stand_in_fits_its_column() {
        for (type_name, typmod, expected) in [
            ("bigint", -1, "12"),
            ("text", -1, "email 12"),
            ("character varying", 4 + 4, "l 12"),
            ("character", 4 + 10, "email 12  "),
            ("numeric", -1, "12"),
            ("numeric", (10 << 16 | 2) + 4, "12.00"),
            ("numeric", (3 << 16 | 2) + 4, "2.00"),
            ("numeric", (2 << 16 | 2) + 4, "0.00"),
            ("numeric", (2 << 16 | 0x7fd) + 4, "0"),
            ("boolean", -1, "f"),
            ("uuid", -1, "00000000-0000-4000-8000-00000000000c"),
            ("timestamp with time zone", -1, "2000-01-01 00:00:12+00"),
            ("bit", 3, "000"),
            ("integer[]", -1, "{}"),
            ("public.geometry", -1, "redacted"),
        ] {
            assert_eq!(
                value(&of(type_name, typmod), None, 12),
                expected,
                "{type_name} {typmod}"
            );
        }
    }

    #[test]
    fn a_type_of_ones_own_is_what_it_comes_down_to() {
        let kind = |base: &str, label: Option<&str>, category: &str| Kind {
            base: base.to_owned(),
            label: label.map(str::to_owned),
            category: category.to_owned(),
        };
        let mood = kind("public.mood", Some("happy"), "E");
        assert_eq!(value(&of("public.mood", -1), Some(&mood), 1), "happy");
        let amount = kind("integer", None, "N");
        assert_eq!(value(&of("public.amount", -1), Some(&amount), 7), "7");
        let span = kind("public.span", None, "R");
        assert_eq!(value(&of("public.span", -1), Some(&span), 7), "empty");
    }
}
