//! Output relations, shared by all lanes: what the same plugin makes of the same table is one relation, however many
//! instances declare it. So a sink sees a new relation only where the shape is new.

use super::schema_reply::Shape;
use crate::batch::{Column, Relation};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Tables and topics that the rows of one output may be sent to. Each is a relation that sinks keep what they know of,
/// so that a plugin that takes values for names must come to an end.
const ROUTES_MAX: usize = 1_000;
/// As for the names of outputs.
const NAME_MAX: usize = 255;

type Made = (Shape, Arc<Relation>);

#[derive(Debug, Default)]
pub(crate) struct Shapes {
    /// By the index of the input relation.
    made: Mutex<HashMap<u32, Vec<Made>>>,
    /// By the index of the output relation, by schema and table.
    routed: Mutex<HashMap<u32, Routed>>,
}

type Routed = HashMap<(String, String), Arc<Relation>>;

impl Shapes {
    /// The relation of that shape made of `input`; `None` where it would have too many cells.
    ///
    /// Columns of the same name and type keep their slots, so that rows need no new tuple where nothing is added.
    pub fn relation(&self, input: &Relation, shape: &Shape) -> Option<Arc<Relation>> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let known = made.entry(input.index).or_default();
        if let Some((_, relation)) = known.iter().find(|(made_of, _)| made_of == shape) {
            return Some(Arc::clone(relation));
        }
        let relation = Arc::new(build(input, shape)?);
        known.push((shape.clone(), Arc::clone(&relation)));
        Some(relation)
    }
}

impl Shapes {
    /// An output relation under another name: `schema.table`, or `table` in the same schema. The error says what is
    /// wrong with the name.
    pub fn routed(&self, output: &Arc<Relation>, name: &str) -> Result<Arc<Relation>, &'static str> {
        let (schema, table) = name.split_once('.').unwrap_or((&output.schema, name));
        for part in [schema, table] {
            if part.is_empty() || part.len() > NAME_MAX || part.contains(char::is_control) {
                return Err("a part of its name is empty, too long or holds a control character");
            }
        }
        if schema == output.schema && table == output.table {
            return Ok(Arc::clone(output));
        }
        let mut routed = self.routed.lock().unwrap_or_else(PoisonError::into_inner);
        let of_output = routed.entry(output.index).or_default();
        let name = (schema.to_owned(), table.to_owned());
        if let Some(relation) = of_output.get(&name) {
            return Ok(Arc::clone(relation));
        }
        if of_output.len() >= ROUTES_MAX {
            return Err("it is one more than the 1,000 tables that the rows of an output may be sent to");
        }
        let relation = Arc::new(Relation {
            index: Relation::next_index(),
            schema: name.0.clone(),
            table: name.1.clone(),
            ..Relation::clone(output)
        });
        of_output.insert(name, Arc::clone(&relation));
        Ok(relation)
    }
}

/// The input's column that an output column carries on.
pub(crate) fn carried<'a>(input: &'a Relation, name: &str, type_oid: u32) -> Option<&'a Column> {
    input
        .columns
        .iter()
        .find(|column| column.name == name && column.type_oid == type_oid)
}

fn build(input: &Relation, shape: &Shape) -> Option<Relation> {
    let mut slots = input.slots;
    let mut columns = Vec::with_capacity(shape.columns.len());
    for wanted in &shape.columns {
        let from = carried(input, &wanted.name, wanted.type_oid);
        let slot = match from {
            Some(column) => column.slot,
            None => {
                let slot = slots;
                slots = slots.checked_add(1)?;
                slot
            }
        };
        columns.push(Column {
            name: wanted.name.clone(),
            type_oid: wanted.type_oid,
            typmod: from.map_or(-1, |column| column.typmod),
            type_name: wanted.type_name.clone(),
            nullable: from.is_none_or(|column| column.nullable),
            key: wanted.key,
            slot,
        });
    }
    Some(Relation {
        index: Relation::next_index(),
        version: input.version,
        oid: input.oid,
        schema: shape.schema.clone(),
        table: shape.table.clone(),
        replica_identity: input.replica_identity,
        columns,
        slots,
    })
}
