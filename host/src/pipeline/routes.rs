//! Which routes the rows of a relation take, resolved once per relation version.

use super::columns::{KnownColumns, project, route_key};
use super::shape;
use crate::batch::{Batch, Lsn, Op, Relation, Row, Truncate};
use crate::checkpoint::STATE_DISK_FULL;
use crate::config::{OnSchemaChange, Route, TablePattern};
use crate::problem::{Exit, Problem};
use crate::sink::AddedColumns;
use rustc_hash::FxHashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// One way for the rows of a relation: through this route, with these columns.
#[derive(Clone, Debug)]
struct Way {
    route: usize,
    relation: Arc<Relation>,
}

/// The relations that rows of a route have had so far in this process, as the route lets them out: what a new version
/// of its plugins is tried on.
#[derive(Debug, Default)]
pub struct LiveRelations(Mutex<Vec<(usize, Arc<Relation>)>>, Arc<AddedColumns>);

impl LiveRelations {
    pub fn of_route(&self, route: usize) -> Vec<Arc<Relation>> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter()
            .filter(|(other, _)| *other == route)
            .map(|(_, relation)| Arc::clone(relation))
            .collect()
    }

    /// Columns that have come, and that targets may add.
    pub fn added(&self) -> Arc<AddedColumns> {
        Arc::clone(&self.1)
    }

    /// A newer version of a table takes the place of the one before.
    fn insert(&self, route: usize, relation: &Arc<Relation>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|(other, known)| *other != route || known.oid != relation.oid);
        all.push((route, Arc::clone(relation)));
    }
}

/// The routes of a pipeline and what they let out.
pub(super) struct Routes {
    routes: Vec<Arc<Route>>,
    keys: Vec<String>,
    ways: FxHashMap<u32, Arc<[Way]>>,
    known: Box<dyn KnownColumns>,
    live: Arc<LiveRelations>,
    /// By route: whether its plugins ask for logical messages.
    messages: Vec<bool>,
}

impl Routes {
    pub(super) fn new(routes: Vec<Arc<Route>>, known: Box<dyn KnownColumns>, live: Arc<LiveRelations>) -> Self {
        let keys = routes.iter().map(|route| route_key(route)).collect();
        let messages = vec![false; routes.len()];
        Self {
            routes,
            keys,
            ways: FxHashMap::default(),
            known,
            live,
            messages,
        }
    }

    /// Whether logical messages go to the route.
    pub(super) fn send_messages(&mut self, route: usize, asked: bool) {
        self.messages[route] = asked;
    }

    /// Hands every row of the batch to the routes of its relation: `rows[route]` gets its own copy, pointing at the
    /// relation as that route lets it out.
    pub(super) fn assign(&mut self, batch: &mut Batch, rows: &mut [Vec<Row>]) -> Result<(), Box<Problem>> {
        let mut by_relation: Vec<Vec<(usize, u32)>> = Vec::with_capacity(batch.relations.len());
        for at in 0..batch.relations.len() {
            let ways = self.ways_of(batch, at)?;
            let listed = ways.iter().map(|way| (way.route, batch.relation_index(&way.relation)));
            by_relation.push(listed.collect());
        }
        let taken = std::mem::take(&mut batch.rows);
        for (route, rows) in rows.iter_mut().enumerate() {
            if by_relation.iter().flatten().any(|(other, _)| *other == route) {
                rows.reserve(taken.len());
            }
        }
        for row in taken {
            match row.op {
                Op::Truncate => truncate(batch, &by_relation, row, rows),
                // Messages belong to plugins that ask for them. To sinks they never go as rows.
                Op::Message => {
                    batch.message_rows.push(row);
                    let asked = rows.iter_mut().zip(&self.messages).filter(|(_, asks)| **asks);
                    asked.for_each(|(rows, _)| rows.push(row));
                }
                _ => {
                    for (route, relation) in &by_relation[row.relation as usize] {
                        rows[*route].push(Row {
                            relation: *relation,
                            ..row
                        });
                    }
                }
            }
        }
        Ok(())
    }

    /// The ways of the batch's relation at `index`.
    fn ways_of(&mut self, batch: &Batch, index: usize) -> Result<Arc<[Way]>, Box<Problem>> {
        let relation = &batch.relations[index];
        if let Some(ways) = self.ways.get(&relation.index) {
            return Ok(Arc::clone(ways));
        }
        let mut ways = Vec::new();
        for (at, route) in self.routes.iter().enumerate() {
            if !takes(route, relation) {
                continue;
            }
            let present: Vec<String> = relation.columns.iter().map(|column| column.name.clone()).collect();
            let known = self
                .known
                .known(&self.keys[at], &relation.full_name(), &present)
                .map_err(forgotten)?;
            let position = begins(batch, index);
            let kept = shape::meet(route, &self.keys[at], relation, position, self.known.as_mut());
            let kept = kept.map_err(forgotten)??;
            let relation = project(route, &known, kept.as_deref(), relation)?;
            if route.on_schema_change == OnSchemaChange::Evolve {
                let added = relation.columns.iter().filter(|column| !known.contains(&column.name));
                added.for_each(|column| self.live.1.insert(&relation, &column.name));
            }
            self.live.insert(at, &relation);
            ways.push(Way { route: at, relation });
        }
        let ways: Arc<[Way]> = ways.into();
        self.ways.insert(relation.index, Arc::clone(&ways));
        Ok(ways)
    }
}

/// The commit of the first transaction in the batch that has rows of a relation.
fn begins(batch: &Batch, relation: usize) -> Lsn {
    let of_relation = |row: &&Row| !matches!(row.op, Op::Message | Op::Truncate) && row.relation as usize == relation;
    let first = batch.rows.iter().find(of_relation);
    first.map_or(batch.end, |row| batch.transaction(row).commit_lsn)
}

/// A full disk is waited for, as everywhere.
fn forgotten(error: anyhow::Error) -> Box<Problem> {
    match error.downcast_ref::<Problem>() {
        Some(full) if full.code == STATE_DISK_FULL => Box::new(full.clone()),
        _ => {
            let headline = "the state store can't remember a route's columns";
            let help = "free space on the disk of the state folder, then start again";
            Box::new(Problem::new("E0704", Exit::Bug, headline, help).with_cause(format!("{error:#}")))
        }
    }
}

/// A truncate reaches each route with those of its tables that the route has.
fn truncate(batch: &mut Batch, by_relation: &[Vec<(usize, u32)>], row: Row, rows: &mut [Vec<Row>]) {
    let Some(whole) = batch.truncates.get(row.extra as usize).cloned() else {
        return;
    };
    for (route, rows) in rows.iter_mut().enumerate() {
        let of_route = whole.relations.iter().filter_map(|at| {
            let ways = &by_relation[*at as usize];
            ways.iter()
                .find(|(other, _)| *other == route)
                .map(|(_, relation)| *relation)
        });
        let relations: Vec<u32> = of_route.collect();
        if !relations.is_empty() {
            let extra = batch.truncates.len() as u32;
            batch.truncates.push(Truncate { relations, ..whole });
            rows.push(Row { extra, ..row });
        }
    }
}

/// Whether rows of the relation go through the route.
pub fn takes(route: &Route, relation: &Relation) -> bool {
    route.tables.iter().any(|pattern| matches(pattern, relation))
}

/// Whether a pattern of the configuration names the relation.
fn matches(pattern: &TablePattern, relation: &Relation) -> bool {
    glob(pattern.schema.as_bytes(), relation.schema.as_bytes())
        && glob(pattern.table.as_bytes(), relation.table.as_bytes())
}

/// `*` stands for anything, `?` for one byte.
fn glob(pattern: &[u8], name: &[u8]) -> bool {
    match (pattern.split_first(), name.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), _) => glob(rest, name) || !name.is_empty() && glob(pattern, &name[1..]),
        (Some((b'?', rest)), Some((_, name))) => glob(rest, name),
        (Some((wanted, rest)), Some((found, name))) => wanted == found && glob(rest, name),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::glob;

    #[test]
    fn globs() {
        for (pattern, name, expected) in [
            ("orders", "orders", true),
            ("orders", "orders2", false),
            ("order*", "orders", true),
            ("*", "", true),
            ("*_log", "a_log_log", true),
            ("o?ders", "orders", true),
            ("o?ders", "oders", false),
        ] {
            assert_eq!(glob(pattern.as_bytes(), name.as_bytes()), expected, "{pattern} {name}");
        }
    }
}
