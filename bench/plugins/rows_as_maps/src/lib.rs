//! The way of other systems: each row arrives as a map of names, is decoded into owned values, changed, and encoded
//! again whole.

use rowmill_plugin::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

const COLUMNS: [&str; 12] = [
    "id",
    "quantity",
    "shard",
    "weight",
    "score",
    "gift",
    "status",
    "email",
    "note",
    "amount",
    "created_at",
    "token",
];

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Owned {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
}

#[transform(
    read(
        id, quantity, shard, weight, score, gift, status, email, note, amount, created_at, token
    ),
    write(email)
)]
fn rows_as_maps(row: &Row, patch: &mut Patch) -> Result<()> {
    let broken = |error: &dyn std::fmt::Display| Error::new(error.to_string());
    let mut sent = BTreeMap::new();
    for name in COLUMNS {
        let value = match row.value(name)? {
            Value::Bool(value) => Owned::Bool(value),
            Value::Int(value) => Owned::Int(value),
            Value::Float(value) => Owned::Float(value),
            Value::Real(value) => Owned::Float(value.into()),
            Value::Text(value) => Owned::Text(value.to_owned()),
            _ => Owned::Null,
        };
        sent.insert(name.to_owned(), value);
    }
    sent.insert("email".to_owned(), Owned::Text("***".to_owned()));
    // The reply as such a system sends it, and reads it back.
    let bytes = rmp_serde::to_vec(&sent).map_err(|error| broken(&error))?;
    let back: BTreeMap<String, Owned> = rmp_serde::from_slice(&bytes).map_err(|error| broken(&error))?;
    if let Some(Owned::Text(email)) = back.get("email") {
        patch.set("email", email.as_str());
    }
    Ok(())
}
