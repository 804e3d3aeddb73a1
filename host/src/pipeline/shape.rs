//! What becomes of a table whose columns change: taken up, left aside, or a reason to stop.
//!
//! What pgoutput describes is compared, in the order of the stream: a change counts from the first row on that has it,
//! in the midst of a transaction too. What a route has met is remembered durably, several versions of it, so that a
//! start before a change that has been taken up doesn't take the old version for another one.

use super::columns::{KnownColumns, route_key};
use super::numbers;
use crate::batch::{Lsn, Relation};
use crate::checkpoint::{RouteShapes, ShapeColumn, TableShape};
use crate::config::{OnSchemaChange, Route};
use crate::problem::{Exit, Problem};
use crate::sink::{Renamed, TableChanges};

/// Versions that are remembered of a table: more than a start can be behind, as each of them has its DDL.
const SHAPES_MAX: usize = 64;

/// What is different in a version.
#[derive(Debug, Default, PartialEq, Eq)]
struct Difference {
    added: Vec<String>,
    dropped: Vec<String>,
    /// `old -> new`: another name at the same place with the same type.
    renamed: Vec<String>,
    retyped: Vec<String>,
}

/// What routes meet in a batch. What is new in it is recorded at its end, at once: a durable write per table would cost more
/// than its rows.
pub(super) struct Versions<'k> {
    known: &'k mut dyn KnownColumns,
    met: Vec<RouteShapes>,
}

impl<'k> Versions<'k> {
    pub(super) fn new(known: &'k mut dyn KnownColumns) -> Self {
        Self { known, met: Vec::new() }
    }

    /// Takes a version up as the route says. `name` tells it from others with the same tables: what one of them takes up,
    /// another may stop at.
    ///
    /// # Errors
    /// The inner one is a route's that stops.
    pub(super) fn meet(
        &mut self,
        route: &Route,
        name: &str,
        relation: &Relation,
        position: Lsn,
    ) -> anyhow::Result<Result<Taken, Box<Problem>>> {
        let table = relation.full_name();
        let now = shape(relation);
        // The same table again in one batch is one that has changed, which is rare.
        let pending = |of: &RouteShapes| of.route == name && of.table == table;
        let mut shapes = match self.met.iter().rposition(pending) {
            Some(at) => self.met[at].shapes.clone(),
            None => self.known.shapes(name, &table)?,
        };
        if shapes.is_empty() {
            // It was the first of these routes before, or there was one.
            shapes = self.known.shapes(&route_key(route), &table)?;
            if !shapes.is_empty() {
                self.put(name, table.clone(), shapes.clone());
            }
        }
        let ignores = route.on_schema_change == OnSchemaChange::Ignore;
        let Some(newest) = shapes.last() else {
            self.put(name, table, vec![now]);
            return Ok(Ok(Taken::default()));
        };
        if ignores {
            let kept = newest.0.iter().map(|column| column.name.clone()).collect();
            if !shapes.contains(&now) {
                Difference::between(newest, &now).tell(&table, position, true, &[]);
            }
            let changes = TableChanges::default();
            let kept = Some(kept);
            return Ok(Ok(Taken { kept, changes }));
        }
        let renamed: Vec<Renamed> = numbers::renamed(&self.known.numbers(relation.oid)?, relation)
            .map(|(before, now)| Renamed {
                before,
                now,
                version: relation.version,
            })
            .collect();
        if let Some(at) = shapes.iter().position(|known| *known == now) {
            let changes = since(&shapes[..at], &now, renamed);
            return Ok(Ok(Taken { kept: None, changes }));
        }
        let difference = Difference::between(newest, &now);
        if route.on_schema_change == OnSchemaChange::Stop {
            return Ok(Err(Box::new(difference.problem(&table, position))));
        }
        difference.tell(&table, position, false, &renamed);
        let changes = since(&shapes, &now, renamed);
        shapes.push(now);
        let first = shapes.len().saturating_sub(SHAPES_MAX);
        shapes.drain(..first);
        self.put(name, table, shapes);
        Ok(Ok(Taken { kept: None, changes }))
    }

    fn put(&mut self, name: &str, table: String, shapes: Vec<TableShape>) {
        let route = name.to_owned();
        self.met.push(RouteShapes { route, table, shapes });
    }

    /// Records what is new.
    pub(super) fn record(self) -> anyhow::Result<()> {
        match self.met.is_empty() {
            true => Ok(()),
            false => self.known.set_shapes(&self.met),
        }
    }
}

/// How a route goes on with a version.
#[derive(Debug, Default)]
pub(super) struct Taken {
    /// The columns that it goes on with; `None` where all that there are may leave that otherwise may.
    pub(super) kept: Option<Vec<String>>,
    /// What targets may follow.
    pub(super) changes: TableChanges,
}

/// What has become of the columns of earlier versions. All of them count, and not the last one alone: a target may be
/// behind by several.
fn since(before: &[TableShape], now: &TableShape, renamed: Vec<Renamed>) -> TableChanges {
    let mut changes = TableChanges::default();
    for old in before.iter().flat_map(|shape| &shape.0) {
        let moved = renamed.iter().find(|renamed| renamed.before.contains(&old.name));
        let name = moved.map_or(&old.name, |renamed| &renamed.now);
        match now.0.iter().find(|column| column.name == *name) {
            Some(column) if (column.type_oid, column.typmod) != (old.type_oid, old.typmod) => {
                changes.retyped.insert(name.clone());
            }
            Some(_) => {}
            None => {
                changes.dropped.insert(name.clone());
            }
        }
    }
    changes.renamed = renamed;
    changes
}

pub(super) fn shape(relation: &Relation) -> TableShape {
    let column = |column: &crate::batch::Column| ShapeColumn {
        name: column.name.clone(),
        type_oid: column.type_oid,
        typmod: column.typmod,
    };
    TableShape(relation.columns.iter().map(column).collect())
}

impl Difference {
    fn between(before: &TableShape, now: &TableShape) -> Self {
        let mut difference = Self::default();
        let find = |shape: &TableShape, name: &str| shape.0.iter().find(|column| column.name == name).cloned();
        let same_length = before.0.len() == now.0.len();
        for (at, column) in now.0.iter().enumerate() {
            match find(before, &column.name) {
                Some(old) if old == *column => {}
                Some(_) => difference.retyped.push(column.name.clone()),
                None => match before
                    .0
                    .get(at)
                    .filter(|old| same_length && is_renamed(old, column, now))
                {
                    Some(old) => difference.renamed.push(format!("{} -> {}", old.name, column.name)),
                    None => difference.added.push(column.name.clone()),
                },
            }
        }
        for (at, column) in before.0.iter().enumerate() {
            let renamed = now
                .0
                .get(at)
                .filter(|fresh| same_length && find(before, &fresh.name).is_none() && is_renamed(column, fresh, now));
            if find(now, &column.name).is_none() && renamed.is_none() {
                difference.dropped.push(column.name.clone());
            }
        }
        difference
    }

    fn parts(&self) -> Vec<String> {
        let parts = [
            ("added", &self.added),
            ("dropped", &self.dropped),
            ("renamed", &self.renamed),
            ("of another type", &self.retyped),
        ];
        let parts = parts.into_iter().filter(|(_, names)| !names.is_empty());
        let mut parts: Vec<String> = parts
            .map(|(what, names)| format!("{what}: {}", names.join(", ")))
            .collect();
        if parts.is_empty() {
            parts.push("in another order".to_owned());
        }
        parts
    }

    fn problem(&self, table: &str, position: Lsn) -> Problem {
        let headline = format!("table {table} has other columns, and its route says `on_schema_change: stop`");
        let help = "set `on_schema_change: evolve` or `ignore` for the route, and start again";
        let cause = format!("from the transaction at {position} on: {}", self.parts().join("; "));
        Problem::new("E0706", Exit::Usage, headline, help).with_cause(cause)
    }

    /// What targets hold already isn't changed by it, which somebody may want to know.
    fn tell(&self, table: &str, position: Lsn, ignores: bool, certain: &[Renamed]) {
        let different = self.parts().join("; ");
        let is_certain = |name: &String| {
            certain
                .iter()
                .any(|renamed| name.ends_with(&format!(" -> {}", renamed.now)))
        };
        let certain = self.renamed.iter().all(is_certain);
        let advice = match (ignores, self.added.is_empty()) {
            (true, _) => "the route goes on with the columns that there were",
            (false, _) if !certain => {
                "whether a column was renamed, or one dropped and another added, nothing tells without the DDL trigger: it \
                 counts as the latter, and `rowmill resync` brings the values of rows that are there"
            }
            (false, false) => {
                "rows that are at the targets get values in what was added when they change; `rowmill resync` brings them all"
            }
            (false, true) => "Postgres targets follow; what was dropped stays there, and may be NULL",
        };
        tracing::warn!(table, %position, different, "the table has other columns: {advice}");
    }
}

fn is_renamed(old: &ShapeColumn, new: &ShapeColumn, now: &TableShape) -> bool {
    let is_gone = now.0.iter().all(|column| column.name != old.name);
    is_gone && (old.type_oid, old.typmod) == (new.type_oid, new.typmod)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(columns: &[(&str, u32)]) -> TableShape {
        let column = |(name, type_oid): &(&str, u32)| ShapeColumn {
            name: (*name).into(),
            type_oid: *type_oid,
            typmod: -1,
        };
        TableShape(columns.iter().map(column).collect())
    }

    #[test]
    fn what_is_different_is_named() {
        let before = shape(&[("id", 23), ("a", 25), ("b", 25)]);
        let parts = |now: &[(&str, u32)]| Difference::between(&before, &shape(now)).parts().join("; ");
        assert_eq!(parts(&[("id", 23), ("a", 25), ("b", 25), ("c", 23)]), "added: c");
        assert_eq!(parts(&[("id", 23), ("b", 25)]), "dropped: a");
        assert_eq!(parts(&[("id", 23), ("a", 25), ("c", 25)]), "renamed: b -> c");
        assert_eq!(parts(&[("id", 20), ("a", 25), ("b", 25)]), "of another type: id");
        // Another one at its place.
        assert_eq!(parts(&[("id", 23), ("a", 25), ("c", 23)]), "added: c; dropped: b");
        assert_eq!(parts(&[("id", 23), ("b", 25), ("a", 25)]), "in another order");
        assert_eq!(
            parts(&[("id", 23), ("b", 25), ("c", 25), ("d", 25)]),
            "added: c, d; dropped: a"
        );
    }
}
