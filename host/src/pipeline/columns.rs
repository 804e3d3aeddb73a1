//! Which columns of a table may leave through a route. Fails closed: what nobody has decided on stays.

use crate::batch::{Column, Relation, ReplicaIdentity};
use crate::checkpoint::{NumberedColumn, RouteShapes, RoutedTable, TableShape};
use crate::config::{OnNewColumn, Route};
use crate::dead_letter;
use crate::problem::{Exit, Problem};
use std::sync::Arc;

/// A table that a route meets, for the first time in this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Met {
    /// As [`route_key`] names it.
    pub route: String,
    /// "schema.table".
    pub table: String,
    /// The columns that it has now.
    pub present: Vec<String>,
}

/// Remembers, for ever, which columns a table had when a route first met it.
pub trait KnownColumns: Send {
    /// The columns recorded for each of these, in order; where none are, those that are present are recorded durably
    /// and returned, and of several versions of a table the first decides. All at once: a durable write per table would
    /// cost more than its rows.
    fn known(&mut self, met: &[Met]) -> anyhow::Result<Vec<Vec<String>>>;

    /// The versions of the table that the route has taken up, the newest last.
    fn shapes(&mut self, route: &str, table: &str) -> anyhow::Result<Vec<TableShape>>;

    /// The tables that routes take, under the names that they had at the session's start.
    fn names(&mut self) -> anyhow::Result<Vec<RoutedTable>>;

    /// Records them durably, all at once.
    fn set_shapes(&mut self, shapes: &[RouteShapes]) -> anyhow::Result<()>;

    /// The columns of a table, by its OID, with their numbers, as the source's DDL trigger has told them; none where it
    /// hasn't.
    fn numbers(&mut self, table: u32) -> anyhow::Result<Vec<NumberedColumn>>;

    /// Records them durably.
    fn set_numbers(&mut self, table: u32, columns: Vec<NumberedColumn>) -> anyhow::Result<()>;
}

/// The name under which the columns are kept that a route has met: its tables, so that other sinks or plugins don't make it
/// forget.
pub fn route_key(route: &Route) -> String {
    let names: Vec<String> = route
        .tables
        .iter()
        .map(|table| format!("{}.{}", table.schema, table.table))
        .collect();
    names.join(",")
}

/// The names under which the versions of each route's plugins, what these keep, and the route's dead letters are stored. Where
/// nothing is known of earlier routes: its tables, and which of the routes with these tables it is.
pub fn route_names<'r>(routes: impl IntoIterator<Item = &'r Route>) -> Vec<String> {
    let routes: Vec<&Route> = routes.into_iter().collect();
    let known: Option<Vec<String>> = routes.iter().map(|route| route.known_as.clone()).collect();
    known.unwrap_or_else(|| dead_letter::route_names(routes.into_iter().map(route_key)))
}

/// The relation with only those columns that the route lets out. Values stay where they are: only the list of columns
/// gets shorter. Where the route leaves changes of its tables aside, `kept` are the columns that it goes on with.
pub fn project(
    route: &Route,
    known: &[String],
    kept: Option<&[String]>,
    relation: &Arc<Relation>,
) -> Result<Arc<Relation>, Box<Problem>> {
    let mut allowed: Vec<Column> = Vec::with_capacity(relation.columns.len());
    for column in &relation.columns {
        let is_new = !known.contains(&column.name);
        let listed = route.columns.as_ref().map(|names| names.contains(&column.name));
        let has_come = kept.is_some_and(|kept| !kept.contains(&column.name));
        if has_come && listed != Some(true) {
            continue;
        }
        // Whoever lists a column has decided on it.
        let undecided = is_new && listed != Some(true);
        if undecided && route.on_new_column == OnNewColumn::Stop {
            return Err(Box::new(new_column(relation, column)));
        }
        if listed.unwrap_or(!is_new) || is_new && route.on_new_column == OnNewColumn::Pass {
            allowed.push(column.clone());
        }
    }
    // A table without a key is known by all of its columns; then those that leave have to do.
    let keyless =
        relation.replica_identity == ReplicaIdentity::Full && relation.columns.iter().all(|column| column.key);
    let left_out = relation
        .key_columns()
        .find(|key| !allowed.iter().any(|column| column.name == key.name));
    if let (Some(key), false) = (left_out, keyless) {
        return Err(Box::new(missing_key(relation, key)));
    }
    missing_column(route, kept, relation)?;
    if allowed.len() == relation.columns.len() {
        return Ok(Arc::clone(relation));
    }
    Ok(Arc::new(Relation {
        index: Relation::next_index(),
        columns: allowed,
        ..Relation::clone(relation)
    }))
}

fn missing_column(route: &Route, kept: Option<&[String]>, relation: &Relation) -> Result<(), Box<Problem>> {
    let names = route.columns.iter().flatten();
    let was_there = |name: &String| kept.is_some_and(|kept| kept.contains(name));
    let is_missing = |name: &&String| relation.column_index(name).is_none() && !was_there(name);
    let Some(missing) = names.into_iter().find(is_missing) else {
        return Ok(());
    };
    let table = relation.full_name();
    let headline = format!("column `{missing}` of the route isn't in table {table}");
    let help = format!("take `{missing}` out of the route's `columns`, or add it to {table}");
    Err(Box::new(Problem::new("E0702", Exit::Usage, headline, help)))
}

fn new_column(relation: &Relation, column: &Column) -> Problem {
    let (table, name) = (relation.full_name(), &column.name);
    let headline = format!("table {table} has a new column `{name}`, and its route says `on_new_column: stop`");
    let help = format!("list `{name}` under the route's `columns`, or set `on_new_column: drop`");
    Problem::new("E0701", Exit::Usage, headline, help)
}

fn missing_key(relation: &Relation, key: &Column) -> Problem {
    let (table, name) = (relation.full_name(), &key.name);
    let headline = format!("the route leaves out `{name}`, part of the key of table {table}");
    let help = format!("add `{name}` to the route's `columns`: rows are known by it at the sinks");
    Problem::new("E0703", Exit::Usage, headline, help)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{FilterMode, OnSchemaChange, TablePattern};

    fn relation(columns: &[(&str, bool)], replica_identity: ReplicaIdentity) -> Arc<Relation> {
        let column = |(slot, (name, key)): (usize, &(&str, bool))| Column {
            name: (*name).into(),
            type_oid: 25,
            typmod: -1,
            type_name: "text".into(),
            nullable: true,
            key: *key,
            slot: slot as u16,
        };
        Arc::new(Relation {
            index: Relation::next_index(),
            version: 1,
            oid: 1,
            schema: "public".into(),
            table: "t".into(),
            replica_identity,
            columns: columns.iter().enumerate().map(column).collect(),
            slots: columns.len() as u16,
        })
    }

    fn route(columns: Option<&[&str]>, on_new_column: OnNewColumn) -> Route {
        Route {
            tables: vec![TablePattern {
                schema: "public".into(),
                table: "t".into(),
            }],
            columns: columns.map(|names| names.iter().map(|name| (*name).into()).collect()),
            on_new_column,
            on_schema_change: OnSchemaChange::Evolve,
            filter: FilterMode::Membership,
            plugins: vec![],
            sinks: vec![],
            known_as: None,
        }
    }

    fn leaving(route: &Route, known: &[&str], relation: &Arc<Relation>) -> Result<Vec<(String, u16)>, &'static str> {
        let known: Vec<String> = known.iter().map(|name| (*name).to_string()).collect();
        let projected = project(route, &known, None, relation).map_err(|problem| problem.code)?;
        Ok(projected
            .columns
            .iter()
            .map(|column| (column.name.clone(), column.slot))
            .collect())
    }

    #[test]
    fn a_column_added_later_leaves_only_where_the_file_says_so() {
        let table = relation(
            &[("id", true), ("email", false), ("ssn", false)],
            ReplicaIdentity::Default,
        );
        let known = ["id", "email"];
        let old = Ok(vec![("id".into(), 0), ("email".into(), 1)]);
        let all = Ok(vec![("id".into(), 0), ("email".into(), 1), ("ssn".into(), 2)]);
        assert_eq!(leaving(&route(None, OnNewColumn::Drop), &known, &table), old);
        assert_eq!(leaving(&route(None, OnNewColumn::Pass), &known, &table), all);
        assert_eq!(leaving(&route(None, OnNewColumn::Stop), &known, &table), Err("E0701"));
        // What the problem's fix says: list it.
        let listed = route(Some(&["id", "email", "ssn"]), OnNewColumn::Stop);
        assert_eq!(leaving(&listed, &known, &table), all);
        assert_eq!(
            leaving(&route(Some(&["id", "email"]), OnNewColumn::Drop), &known, &table),
            old
        );
        assert_eq!(
            leaving(&route(Some(&["id", "ssn"]), OnNewColumn::Drop), &known, &table).unwrap()[1].1,
            2
        );
    }

    #[test]
    fn a_route_that_leaves_changes_aside_goes_on_with_what_there_was() {
        let table = relation(
            &[("id", true), ("email", false), ("ssn", false)],
            ReplicaIdentity::Default,
        );
        let strings = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let leaving = |route: &Route, kept: &[&str]| {
            let projected = project(route, &strings(&["id", "email", "gone"]), Some(&strings(kept)), &table);
            let names = |relation: Arc<Relation>| relation.columns.iter().map(|column| column.name.clone()).collect();
            projected.map(names).map_err(|problem| problem.code)
        };
        let kept = ["id", "email", "gone"];
        for on_new_column in [OnNewColumn::Pass, OnNewColumn::Drop, OnNewColumn::Stop] {
            assert_eq!(
                leaving(&route(None, on_new_column), &kept),
                Ok(strings(&["id", "email"]))
            );
        }
        let listed = route(Some(&["id", "gone", "ssn"]), OnNewColumn::Drop);
        assert_eq!(leaving(&listed, &kept), Ok(strings(&["id", "ssn"])));
        let never = route(Some(&["id", "never"]), OnNewColumn::Drop);
        assert_eq!(leaving(&never, &kept), Err("E0702"));
        // What was held back before doesn't leave because it is kept.
        let came = ["id", "email", "gone", "ssn"];
        assert_eq!(
            leaving(&route(None, OnNewColumn::Drop), &came),
            Ok(strings(&["id", "email"]))
        );
    }

    #[test]
    fn a_list_lets_out_what_it_names_and_needs_the_key() {
        let table = relation(&[("id", true), ("email", false)], ReplicaIdentity::Default);
        let known = ["id", "email"];
        assert_eq!(
            leaving(&route(Some(&["id"]), OnNewColumn::Drop), &known, &table),
            Ok(vec![("id".into(), 0)])
        );
        assert_eq!(
            leaving(&route(Some(&["email"]), OnNewColumn::Drop), &known, &table),
            Err("E0703")
        );
        assert_eq!(
            leaving(&route(Some(&["id", "mail"]), OnNewColumn::Drop), &known, &table),
            Err("E0702")
        );
        let keyless = relation(&[("a", true), ("b", true)], ReplicaIdentity::Full);
        assert_eq!(
            leaving(&route(Some(&["b"]), OnNewColumn::Drop), &["a", "b"], &keyless),
            Ok(vec![("b".into(), 1)])
        );
    }
}
