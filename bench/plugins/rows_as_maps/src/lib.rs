//! The way of other systems: each row arrives as a map of names, becomes owned values, is changed, and is encoded again
//! whole.
//!
//! The host hands rows over by position, so the map is made of those values, as a decoder would make it of a map on the
//! wire. What the host would have to do with maps, encoding each and reading the replies, isn't counted.

use rowmill_plugin::prelude::*;
use serde::Serialize;
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

#[derive(Serialize)]
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
    let mut map = BTreeMap::new();
    for name in COLUMNS {
        let value = match row.value(name)? {
            Value::Bool(value) => Owned::Bool(value),
            Value::Int(value) => Owned::Int(value),
            Value::Float(value) => Owned::Float(value),
            Value::Real(value) => Owned::Float(value.into()),
            Value::Text(value) => Owned::Text(value.to_owned()),
            _ => Owned::Null,
        };
        map.insert(name.to_owned(), value);
    }
    map.insert("email".to_owned(), Owned::Text("***".to_owned()));
    let reply = rmp_serde::to_vec(&map).map_err(|error| Error::new(error.to_string()))?;
    std::hint::black_box(&reply);
    if let Some(Owned::Text(email)) = map.get("email") {
        patch.set("email", email.as_str());
    }
    Ok(())
}
