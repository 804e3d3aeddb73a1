//! Takes down at the source what Rowmill made there, and nothing else.

use super::failure::{refused, shown};
use super::{publication, slot};
use crate::problem::Problem;
use postgres_protocol::escape::{escape_identifier, escape_literal};
use tokio_postgres::Client;

/// One object that is to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removal {
    pub object: Object,
    pub name: String,
    /// What takes it down, as it can be typed into psql.
    pub statement: String,
    /// Why it can't go yet: the slot is in use.
    pub held_by: Option<slot::Consumer>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Object {
    Slot,
    Publication,
}

/// What [`apply`] would take down: the slot with this name, and the publication named `rowmill_<pipeline>`, where they are
/// there. The slot must be a pgoutput one of this database; `None` where it isn't Rowmill's to drop. A publication that was
/// adopted is never among them, whatever its name.
pub async fn plan(
    client: &Client,
    pipeline: &str,
    slot: Option<&str>,
    adopted: Option<&str>,
) -> Result<Vec<Removal>, Box<Problem>> {
    let name = publication::own_name(pipeline);
    let mut removals = Vec::new();
    let there = match slot {
        Some(slot) => slot::state(client, slot).await?,
        None => None,
    };
    let there = there.filter(|slot| {
        slot.plugin.as_deref() == Some("pgoutput") && slot.database.as_ref() == Some(&slot.current_database)
    });
    if let Some(slot) = there {
        removals.push(Removal {
            object: Object::Slot,
            statement: format!("SELECT pg_drop_replication_slot({});", escape_literal(&slot.name)),
            name: slot.name,
            held_by: slot.active,
        });
    }
    if adopted != Some(name.as_str()) && publication::state(client, &name).await?.is_some() {
        removals.push(Removal {
            object: Object::Publication,
            statement: format!("DROP PUBLICATION {};", escape_identifier(&name)),
            name,
            held_by: None,
        });
    }
    Ok(removals)
}

/// Takes down what [`plan`] found, the slot first: while it is in use, all of it stays.
pub async fn apply(client: &Client, removals: &[Removal]) -> Result<(), Box<Problem>> {
    for removal in removals {
        match removal.object {
            Object::Slot => slot::drop(client, &removal.name).await?,
            Object::Publication => client
                .batch_execute(&removal.statement)
                .await
                .map_err(|error| refused(&format!("drop the publication {}", shown(&removal.name)), &error))?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
