//! A table is known by its OID, and goes by its name: one that is renamed goes on under the name that a route takes.
//!
//! The catalog that the names are from is of the session's start, and the stream may be before it. So another name is an
//! older one up to where the WAL ended then, and a newer one from there on.

use super::routes::takes;
use crate::batch::{Lsn, Relation};
use crate::checkpoint::RoutedTable;
use crate::config::{OnSchemaChange, Route};
use crate::problem::{Exit, Problem};
use rustc_hash::FxHashMap;
use std::sync::Arc;

/// The names under which tables leave.
pub(super) struct Names {
    /// By OID.
    known: FxHashMap<u32, RoutedTable>,
    /// By OID: the other name that was told last, as it is told once.
    told: FxHashMap<u32, String>,
    /// Where the WAL ended when the catalog was read.
    catalog_at: Lsn,
}

impl Names {
    pub(super) fn new(tables: Vec<RoutedTable>, catalog_at: Lsn) -> Self {
        Self {
            known: tables.into_iter().map(|table| (table.oid, table)).collect(),
            told: FxHashMap::default(),
            catalog_at,
        }
    }

    /// Whether the table was selected at the session's start, or is followed since.
    pub(super) fn knows(&self, oid: u32) -> bool {
        self.known.contains_key(&oid)
    }

    /// The relation under the name that it leaves by: its own where a route takes that, or else the one by which a route
    /// knows the table. `position` is the commit of its first row.
    ///
    /// # Errors
    /// A route's that stops; or the name by which the route knows the table is another table's now, so that the changes of
    /// both would meet in one.
    pub(super) fn resolve(
        &mut self,
        routes: &[Arc<Route>],
        relation: &Arc<Relation>,
        position: Lsn,
    ) -> Result<Arc<Relation>, Box<Problem>> {
        let own = || Arc::clone(relation);
        let is_taken = routes.iter().any(|route| takes(route, relation));
        let Some(known) = self.known.get(&relation.oid).cloned() else {
            if is_taken {
                self.known.insert(relation.oid, routed(relation));
            }
            return Ok(own());
        };
        if (&known.schema, &known.table) == (&relation.schema, &relation.table) {
            return Ok(own());
        }
        let is_new = position > self.catalog_at;
        if is_taken {
            if is_new {
                self.tell(relation, &known.full_name(), RENAMED);
                self.known.insert(relation.oid, routed(relation));
            }
            return Ok(own());
        }
        let followed = Relation {
            index: Relation::next_index(),
            schema: known.schema.clone(),
            table: known.table.clone(),
            ..Relation::clone(relation)
        };
        let mut of = routes.iter().filter(|route| takes(route, &followed)).peekable();
        if of.peek().is_none() {
            return Ok(own());
        }
        if self.is_of_another(&followed) {
            return Err(Box::new(displaced(
                &followed.full_name(),
                &relation.full_name(),
                position,
            )));
        }
        if is_new {
            if of.any(|route| route.on_schema_change == OnSchemaChange::Stop) {
                let from = format!("from the transaction at {position} on; the route says `on_schema_change: stop`");
                return Err(Box::new(
                    renamed(&followed.full_name(), &relation.full_name()).with_cause(from),
                ));
            }
            self.tell(relation, &followed.full_name(), FOLLOWED);
        }
        Ok(Arc::new(followed))
    }

    fn is_of_another(&self, followed: &Relation) -> bool {
        let mut others = self.known.values().filter(|known| known.oid != followed.oid);
        others.any(|known| (&known.schema, &known.table) == (&followed.schema, &followed.table))
    }

    fn tell(&mut self, relation: &Relation, before: &str, advice: &str) {
        let now = relation.full_name();
        if self.told.insert(relation.oid, now.clone()).as_ref() != Some(&now) {
            tracing::warn!(table = before, now, "the table has another name: {advice}");
        }
    }
}

/// What is said of a table whose new name a route takes, too.
pub const RENAMED: &str = "its changes leave under the new one, and what targets have of it stands under the old one; rename \
                           it there";
const FOLLOWED: &str = "no route takes the new one, so its changes leave under the old one; name the new one in the file \
                        before the next start, and rename the table at the targets";

fn routed(relation: &Relation) -> RoutedTable {
    RoutedTable {
        oid: relation.oid,
        schema: relation.schema.clone(),
        table: relation.table.clone(),
    }
}

/// A table's old name went to another one, and no route takes its new name.
fn displaced(before: &str, now: &str, position: Lsn) -> Problem {
    let headline = format!("table {before} is called {now} now, and another table has its old name");
    let help = format!(
        "give {now} a route of its own in pipeline.yaml, to a `discard` sink where nobody wants it, and start again"
    );
    Problem::new("E0707", Exit::Usage, headline, help).with_cause(format!(
        "the transaction at {position} changes {now}, which no route takes"
    ))
}

/// A table has a name that no route takes.
pub fn renamed(before: &str, now: &str) -> Problem {
    let headline = format!("table {before} is called {now} now, and no route takes it");
    let help =
        format!("name {now} in place of {before} in pipeline.yaml, rename the table at the targets, start again");
    Problem::new("E0707", Exit::Usage, headline, help)
}
