//! Which routes the rows of a relation take, resolved once per relation version.

use super::columns::{KnownColumns, Met, project, route_key};
use super::names::Names;
use super::numbers;
use super::selected::{Selected, Selection};
use super::shape::{Versions, shape};
use crate::batch::{Batch, HEARTBEAT_PREFIX, Lsn, Op, Relation, Row, Truncate};
use crate::checkpoint::STATE_DISK_FULL;
use crate::config::{OnSchemaChange, Route};
use crate::problem::{Exit, Problem};
use crate::sink::ColumnChanges;
use rustc_hash::FxHashMap;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// One way for the rows of a relation: through this route, with these columns.
#[derive(Clone, Debug)]
struct Way {
    route: usize,
    relation: Arc<Relation>,
}

/// The relations that rows of a route have had so far in this process, as the route lets them out: what a new version
/// of its plugins is tried on. By the route's name, since a reload may give it another place, and the table's OID.
#[derive(Debug, Default)]
pub struct LiveRelations(Mutex<BTreeMap<(String, u32), Arc<Relation>>>, Arc<ColumnChanges>);

impl LiveRelations {
    pub fn of_route(&self, name: &str) -> Vec<Arc<Relation>> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.range((name.to_owned(), 0)..=(name.to_owned(), u32::MAX))
            .map(|(_, relation)| Arc::clone(relation))
            .collect()
    }

    /// Whether rows of the table with this OID have gone the way of any route.
    pub(super) fn has(&self, oid: u32) -> bool {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.keys().any(|(_, live)| *live == oid)
    }

    /// What has become of columns, for targets that follow.
    pub fn changes(&self) -> Arc<ColumnChanges> {
        Arc::clone(&self.1)
    }

    /// A newer version of a table takes the place of the one before.
    fn insert(&self, route: &str, relation: &Arc<Relation>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert((route.to_owned(), relation.oid), Arc::clone(relation));
    }
}

/// The routes of a pipeline and what they let out.
pub(super) struct Routes {
    routes: Vec<Arc<Route>>,
    /// As [`super::columns::route_names`] has them.
    route_names: Arc<[String]>,
    keys: Vec<String>,
    ways: FxHashMap<u32, Arc<[Way]>>,
    known: Box<dyn KnownColumns>,
    names: Names,
    selection: Selection,
    live: Arc<LiveRelations>,
    /// By route: whether its plugins ask for logical messages.
    messages: Vec<bool>,
}

impl Routes {
    /// `known` has the tables' names, and `selected` what there was, where the WAL ended at `catalog_at`.
    ///
    /// # Errors
    /// They can't be read.
    pub(super) fn new(
        routes: Vec<Arc<Route>>,
        route_names: Arc<[String]>,
        mut known: Box<dyn KnownColumns>,
        live: Arc<LiveRelations>,
        selected: Selected,
        catalog_at: Lsn,
    ) -> Result<Self, Box<Problem>> {
        let keys = routes.iter().map(|route| route_key(route)).collect();
        let messages = vec![false; routes.len()];
        let names = Names::new(known.names().map_err(forgotten)?, catalog_at);
        Ok(Self {
            routes,
            route_names,
            keys,
            ways: FxHashMap::default(),
            known,
            names,
            selection: Selection::new(selected, catalog_at),
            live,
            messages,
        })
    }

    /// From the next batch on a route lets out what this says; its tables, plugins and sinks are what they were.
    pub(super) fn change(&mut self, at: usize, route: Arc<Route>) {
        if let Some(before) = self.routes.get_mut(at) {
            *before = route;
            self.ways.clear();
        }
    }

    /// Whether rows of the table have gone the way of any route.
    pub(super) fn has_met(&self, oid: u32) -> bool {
        self.live.has(oid)
    }

    /// Whether logical messages go to the route.
    pub(super) fn send_messages(&mut self, route: usize, asked: bool) {
        self.messages[route] = asked;
    }

    /// Hands every row of the batch to the routes of its relation: `rows[route]` gets its own copy, pointing at the
    /// relation as that route lets it out.
    pub(super) fn assign(&mut self, batch: &mut Batch, rows: &mut [Vec<Row>]) -> Result<(), Box<Problem>> {
        self.hear(batch)?;
        self.meet(batch)?;
        let by_relation = self.listed(batch);
        let mut taken = std::mem::take(&mut batch.rows);
        let has_rowless = !batch.truncates.is_empty() || !batch.messages.is_empty();
        if let Some(route) = by_relation.only_route().filter(|_| !has_rowless)
            && let Some(rows) = rows.get_mut(route)
        {
            by_relation.lead(&mut taken);
            match rows.is_empty() {
                true => *rows = taken,
                false => rows.append(&mut taken),
            }
            return Ok(());
        }
        for (route, rows) in rows.iter_mut().enumerate() {
            if by_relation.ways.iter().any(|(other, _)| *other == route) {
                rows.reserve(taken.len());
            }
        }
        for row in taken {
            match row.op {
                Op::Truncate => truncate(batch, &by_relation, row, rows),
                Op::Message if is_heartbeat(batch, &row) => {}
                // Messages belong to plugins that ask for them. To sinks they never go as rows.
                Op::Message => {
                    batch.message_rows.push(row);
                    let asked = rows.iter_mut().zip(&self.messages).filter(|(_, asks)| **asks);
                    asked.for_each(|(rows, _)| rows.push(row));
                }
                _ => {
                    for (route, relation) in by_relation.of(row.relation) {
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

    /// The ways of the batch's relations.
    fn listed(&self, batch: &mut Batch) -> Listed {
        let count = batch.relations.len();
        let mut listed = Listed {
            ways: Vec::with_capacity(count),
            ends: Vec::with_capacity(count),
        };
        for at in 0..count {
            let index = batch.relations[at].index;
            for way in self.ways.get(&index).into_iter().flat_map(|ways| ways.iter()) {
                let relation = match way.relation.index == index {
                    true => at as u32,
                    false => batch.relation_index(&way.relation),
                };
                listed.ways.push((way.route, relation));
            }
            listed.ends.push(listed.ways.len());
        }
        listed
    }

    /// Takes up what the source's DDL trigger says of columns.
    fn hear(&mut self, batch: &Batch) -> Result<(), Box<Problem>> {
        if batch.messages.is_empty() {
            return Ok(());
        }
        let (routes, keys) = (&self.routes, &self.keys);
        let wanted = |schema: &str, table: &str| {
            let mut patterns = routes.iter().flat_map(|route| &route.tables);
            patterns.any(|pattern| pattern.matches(schema, table))
        };
        let heard = numbers::hear(batch, self.known.as_mut(), wanted, |known, oid, table| {
            for key in keys {
                if let Some(newest) = known.shapes(key, table)?.pop() {
                    return Ok(Some(newest));
                }
            }
            // No route has met it before: what comes first in the batch is older than the message, if anything is.
            Ok(batch.relations.iter().find(|it| it.oid == oid).map(|it| shape(it)))
        });
        heard.map_err(forgotten)
    }

    /// Resolves the relations of the batch that are new here.
    fn meet(&mut self, batch: &Batch) -> Result<(), Box<Problem>> {
        let is_new = |relation: &&Arc<Relation>| !self.ways.contains_key(&relation.index);
        let new: Vec<_> = batch.relations.iter().filter(is_new).collect();
        if new.is_empty() {
            return Ok(());
        }
        let (mut met, mut of) = (Vec::new(), Vec::new());
        // They are asked for again: a reload may select them.
        let mut left_out = Vec::new();
        for relation in &new {
            let index = relation.index;
            if !self.selection.has(relation, self.names.knows(relation.oid)) {
                left_out.push(index);
                continue;
            }
            let position = begins(batch, index);
            let relation = self.names.resolve(&self.routes, relation, position)?;
            let relation = self.selection.without_withheld(relation, position);
            for (at, route) in self.routes.iter().enumerate() {
                if !takes(route, &relation) {
                    continue;
                }
                met.push(Met {
                    route: self.keys[at].clone(),
                    table: relation.full_name(),
                    present: relation.columns.iter().map(|column| column.name.clone()).collect(),
                });
                of.push((at, index, Arc::clone(&relation)));
            }
        }
        let known = match met.is_empty() {
            true => Vec::new(),
            false => self.known.known(&met).map_err(forgotten)?,
        };
        let mut ways: FxHashMap<u32, Vec<Way>> = new.iter().map(|relation| (relation.index, Vec::new())).collect();
        ways.retain(|index, _| !left_out.contains(index));
        let mut versions = Versions::new(self.known.as_mut());
        for ((route, index, relation), known) in of.into_iter().zip(&known) {
            let config = &self.routes[route];
            let met = versions.meet(config, &self.route_names[route], &relation, begins(batch, index));
            let taken = match met.map_err(forgotten)? {
                Ok(taken) => taken,
                Err(problem) => {
                    // What came before it counts.
                    versions.record().map_err(forgotten)?;
                    return Err(problem);
                }
            };
            self.live.1.note(&relation.full_name(), taken.changes);
            let relation = project(config, known, taken.kept.as_deref(), &relation)?;
            if config.on_schema_change == OnSchemaChange::Evolve {
                let added = relation.columns.iter().filter(|column| !known.contains(&column.name));
                added.for_each(|column| self.live.1.add(&relation, &column.name));
            }
            self.live.insert(&self.route_names[route], &relation);
            ways.entry(index).or_default().push(Way { route, relation });
        }
        versions.record().map_err(forgotten)?;
        self.ways
            .extend(ways.into_iter().map(|(index, ways)| (index, ways.into())));
        Ok(())
    }
}

/// Where rows of a batch's relations go: routes, and the relations as those let them out.
struct Listed {
    ways: Vec<(usize, u32)>,
    /// By relation: where its own end, which begin where those of the one before do.
    ends: Vec<usize>,
}

impl Listed {
    fn of(&self, relation: u32) -> &[(usize, u32)] {
        let at = relation as usize;
        let begin = at.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.ways[begin..self.ends[at]]
    }

    /// The route that takes the rows of every relation, and alone.
    fn only_route(&self) -> Option<usize> {
        let (route, _) = *self.ways.first()?;
        let is_each = self.ends.iter().enumerate().all(|(at, end)| *end == at + 1);
        (is_each && self.ways.iter().all(|(other, _)| *other == route)).then_some(route)
    }

    /// Points rows at the relations as that route lets them out.
    fn lead(&self, rows: &mut [Row]) {
        let is_same = |(at, way): (usize, &(usize, u32))| way.1 as usize == at;
        if self.ways.iter().enumerate().all(is_same) {
            return;
        }
        for row in rows {
            row.relation = self.ways[row.relation as usize].1;
        }
    }
}

fn is_heartbeat(batch: &Batch, row: &Row) -> bool {
    let message = batch.messages.get(row.extra as usize);
    message.is_some_and(|message| message.prefix == HEARTBEAT_PREFIX)
}

/// The commit of the first transaction in the batch that has rows of the relation with this index.
fn begins(batch: &Batch, index: u32) -> Lsn {
    let is_it = |row: &&Row| {
        batch
            .relations
            .get(row.relation as usize)
            .is_some_and(|it| it.index == index)
    };
    let mut rows = batch
        .rows
        .iter()
        .filter(|row| !matches!(row.op, Op::Message | Op::Truncate));
    rows.find(is_it)
        .map_or(batch.end, |row| batch.transaction(row).commit_lsn)
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
fn truncate(batch: &mut Batch, by_relation: &Listed, row: Row, rows: &mut [Vec<Row>]) {
    let Some(whole) = batch.truncates.get(row.extra as usize).cloned() else {
        return;
    };
    for (route, rows) in rows.iter_mut().enumerate() {
        let of_route = whole.relations.iter().filter_map(|at| {
            let ways = by_relation.of(*at);
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
    takes_table(route, &relation.schema, &relation.table)
}

/// Whether rows of a table of this name go through the route.
pub fn takes_table(route: &Route, schema: &str, table: &str) -> bool {
    let mut patterns = route.tables.iter();
    patterns.any(|pattern| pattern.matches(schema, table))
}

#[cfg(test)]
mod tests {
    use super::Listed;
    use crate::batch::{OldImage, Op, Row};

    fn listed(ways: &[&[(usize, u32)]]) -> Listed {
        let mut listed = Listed {
            ways: Vec::new(),
            ends: Vec::new(),
        };
        for of_relation in ways {
            listed.ways.extend_from_slice(of_relation);
            listed.ends.push(listed.ways.len());
        }
        listed
    }

    #[test]
    fn a_batch_goes_whole_where_one_route_takes_each_of_its_tables_and_alone() {
        assert_eq!(listed(&[&[(1, 0)], &[(1, 2)]]).only_route(), Some(1));
        assert_eq!(listed(&[]).only_route(), None);
        assert_eq!(listed(&[&[(1, 0)], &[]]).only_route(), None);
        assert_eq!(listed(&[&[], &[(1, 0), (1, 1)]]).only_route(), None);
        assert_eq!(listed(&[&[(0, 0)], &[(1, 1)]]).only_route(), None);
        assert_eq!(listed(&[&[(0, 0), (1, 0)]]).only_route(), None);
    }

    #[test]
    fn its_rows_have_the_relations_as_the_route_lets_them_out() {
        let row = |relation| Row {
            relation,
            transaction: 0,
            ordinal: 0,
            new: None,
            old: None,
            extra: 0,
            fan_out: 0,
            op: Op::Insert,
            old_image: OldImage::Key,
        };
        let led = |ways: &[&[(usize, u32)]]| {
            let mut rows = [row(1), row(0), row(1)];
            listed(ways).lead(&mut rows);
            rows.map(|row| row.relation)
        };
        assert_eq!(led(&[&[(0, 0)], &[(0, 1)]]), [1, 0, 1]);
        assert_eq!(led(&[&[(0, 0)], &[(0, 2)]]), [2, 0, 2]);
    }
}
