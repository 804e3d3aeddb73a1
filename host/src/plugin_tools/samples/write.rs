//! From rows to JSON lines, without loss.

use crate::batch::{Batch, OldImage, Op, Relation, ReplicaIdentity, Row, Tuple, Value};
use serde_json::{Map, Value as Json, json};

/// A table's line.
pub fn table(relation: &Relation) -> Json {
    let identity = match relation.replica_identity {
        ReplicaIdentity::Default => "default",
        ReplicaIdentity::Nothing => "nothing",
        ReplicaIdentity::Full => "full",
        ReplicaIdentity::Index => "index",
    };
    let columns = relation.columns.iter().map(|column| {
        let mut value = json!({ "name": column.name, "type": column.type_name });
        if crate::decode::builtin_type_oid(&column.type_name) != Some(column.type_oid) {
            value["type_oid"] = column.type_oid.into();
        }
        if column.typmod != -1 {
            value["typmod"] = column.typmod.into();
        }
        if !column.nullable {
            value["nullable"] = false.into();
        }
        if column.key {
            value["key"] = true.into();
        }
        value
    });
    json!({
        "schema": relation.schema,
        "table": relation.table,
        "replica_identity": identity,
        "columns": columns.collect::<Vec<_>>(),
    })
}

/// A change's line. Unchanged and absent values are left out. Messages end behind a chain: they have no line.
pub fn change(batch: &Batch, row: &Row) -> Json {
    if let (Op::Truncate, Some(of)) = (row.op, batch.truncates.get(row.extra as usize)) {
        let name = |at: &u32| batch.relations[*at as usize].full_name();
        let tables: Vec<String> = of.relations.iter().map(name).collect();
        return json!({
            "op": row.op.name(),
            "tables": tables,
            "cascade": of.cascade,
            "restart_identity": of.restart_identity,
        });
    }
    let relation = batch.relation(row);
    let mut line = Map::new();
    line.insert("op".to_owned(), row.op.name().into());
    if let Some(new) = row.new {
        line.insert("new".to_owned(), image(batch, relation, new));
    }
    if let Some(old) = row.old {
        let name = match row.old_image {
            OldImage::Key => "key",
            OldImage::Full => "old",
        };
        line.insert(name.to_owned(), image(batch, relation, old));
    }
    line.into()
}

fn image(batch: &Batch, relation: &Relation, tuple: Tuple) -> Json {
    let mut values = Map::new();
    for (column, value) in relation.columns.iter().zip(batch.values(tuple, relation)) {
        let json = match value {
            Value::Unchanged | Value::Absent => continue,
            Value::Null => Json::Null,
            Value::Text(text) => String::from_utf8_lossy(text).into(),
            // A long `bytea`: as its text.
            Value::Binary(bytes) => {
                let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
                let digits = digits.filter_map(|digit| char::from_digit(u32::from(digit), 16));
                "\\x".chars().chain(digits).collect::<String>().into()
            }
        };
        values.insert(column.name.clone(), json);
    }
    values.into()
}
