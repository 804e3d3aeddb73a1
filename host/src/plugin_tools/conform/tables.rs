//! Tables that the suite shows to a plugin.

use crate::batch::{Column, Relation, ReplicaIdentity};
use crate::decode::builtin_type_oid;
use std::sync::Arc;

/// Every class of value that crosses, and some that come as text.
const TYPES: [&str; 14] = [
    "smallint",
    "integer",
    "bigint",
    "real",
    "double precision",
    "boolean",
    "bytea",
    "text",
    "numeric",
    "uuid",
    "timestamp with time zone",
    "jsonb",
    "integer[]",
    "interval",
];
/// A type of an extension: its OID is any that the server gave it.
const EXTENSION_OID: u32 = 98_765;

/// Names with what is special about each.
pub fn all() -> Vec<(String, Arc<Relation>)> {
    let types: Vec<(String, &str)> = TYPES
        .iter()
        .enumerate()
        .map(|(at, name)| (format!("c{at}"), *name))
        .collect();
    let wide: Vec<(String, &str)> = (0..200).map(|at| (format!("c{at}"), TYPES[at % TYPES.len()])).collect();
    let shop = [
        ("id", "bigint"),
        ("customer_id", "bigint"),
        ("status", "text"),
        ("name", "text"),
        ("email", "text"),
        ("phone", "text"),
        ("note", "text"),
        ("total", "numeric"),
        ("created_at", "timestamp with time zone"),
    ];
    let shop: Vec<(String, &str)> = shop.iter().map(|(name, of)| ((*name).to_owned(), *of)).collect();
    let unicode = vec![("schlüssel".to_owned(), "integer"), ("名前 \"x\"".to_owned(), "text")];
    let mut full = (*table("events", &types, 1)).clone();
    full.replica_identity = ReplicaIdentity::Full;
    full.columns.iter_mut().for_each(|column| column.key = true);
    let mut nothing = (*table("log", &types, 0)).clone();
    nothing.replica_identity = ReplicaIdentity::Nothing;
    vec![
        ("a shop's orders".to_owned(), table("orders", &shop, 1)),
        ("every class of type".to_owned(), table("types", &types, 1)),
        ("REPLICA IDENTITY FULL".to_owned(), Arc::new(full)),
        ("no key".to_owned(), Arc::new(nothing)),
        ("one column".to_owned(), table("one", &types[1..2], 1)),
        ("200 columns".to_owned(), table("wide", &wide, 2)),
        (
            "types of an extension".to_owned(),
            table(
                "shapes",
                &[("id".to_owned(), "integer"), ("shape".to_owned(), "geometry")],
                1,
            ),
        ),
        ("names beyond ASCII".to_owned(), table("größe", &unicode, 1)),
    ]
}

fn table(name: &str, columns: &[(String, &str)], keys: usize) -> Arc<Relation> {
    let column = |(at, (name, type_name)): (usize, &(String, &str))| Column {
        name: name.clone(),
        type_oid: builtin_type_oid(type_name).unwrap_or(EXTENSION_OID),
        typmod: -1,
        type_name: (*type_name).to_owned(),
        nullable: at >= keys,
        key: at < keys,
        slot: at as u16,
    };
    let index = Relation::next_index();
    Arc::new(Relation {
        index,
        version: 1,
        oid: index,
        schema: "public".to_owned(),
        table: name.to_owned(),
        replica_identity: ReplicaIdentity::Default,
        columns: columns.iter().enumerate().map(column).collect(),
        slots: columns.len() as u16,
    })
}
