//! A target's table follows what has become of the source's columns: it renames, widens, and lets be empty. It never loses
//! what it has: a column that the source dropped stays, with its values.
//!
//! All of it can be done again, and changes nothing where it is done already: by an earlier session that was killed behind
//! it, or by hand.

use super::error;
use super::keys::Due;
use super::target::{TYPMOD_HEADER, qualified, quoted};
use super::widens::{Kind, widens};
use crate::batch::{Column, Relation};
use crate::problem::{Exit, Problem};
use crate::sink::{Renamed, SinkContext, SinkError, TableChanges};
use std::borrow::Cow;
use tokio_postgres::Client;

/// OIDs below are the same at every server.
const FIRST_USER_OID: u32 = 16_384;

/// The table's columns, and how the target calls the types whose OIDs and modifiers stand in $3 and $4, by the names in $2.
const COLUMNS: &str = "SELECT a.attname::text, CASE t.typtype WHEN 'd' THEN t.typbasetype ELSE t.oid END, \
        CASE t.typtype WHEN 'd' THEN t.typtypmod ELSE a.atttypmod END, pg_catalog.format_type(t.oid, NULL), \
        a.attnotnull AND NOT (a.atthasdef OR a.attidentity <> '' OR a.attgenerated <> ''), \
        EXISTS (SELECT FROM pg_catalog.pg_index i WHERE i.indrelid = a.attrelid AND i.indisprimary \
            AND a.attnum = ANY (i.indkey::int2[])), \
        a.attgenerated <> '', pg_catalog.format_type(k.oid, s.typmod), t.typtype = 'd' \
    FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid \
    LEFT JOIN ROWS FROM (pg_catalog.unnest($2::text[]), pg_catalog.unnest($3::oid[]), \
        pg_catalog.unnest($4::int4[])) AS s (name, type, typmod) ON s.name = a.attname \
    LEFT JOIN pg_catalog.pg_type k ON k.oid = s.type AND k.oid < 16384 \
    WHERE a.attrelid = pg_catalog.to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum";

/// A column of the target's table.
struct Here {
    name: String,
    /// Of a domain, what that is made of.
    kind: Kind,
    is_domain: bool,
    /// Without its modifier.
    type_name: String,
    /// It is NOT NULL, and nothing fills it where no value comes.
    needs_value: bool,
    in_primary_key: bool,
    generated: bool,
    /// The source's type of the column of this name, where it is one of every server's.
    type_there: Option<String>,
}

/// Who follows, at which target.
pub(super) struct Follower<'a> {
    pub(super) client: &'a Client,
    pub(super) context: &'a SinkContext,
}

impl Follower<'_> {
    /// Has the table follow, and with it the key that it is to get.
    ///
    /// # Errors
    /// What it can't follow without loss, and what the target refuses.
    pub(super) async fn follow(
        &self,
        relation: &Relation,
        changes: &TableChanges,
        due: Option<&mut Due>,
    ) -> Result<(), SinkError> {
        if self.rename(relation, changes, due).await? {
            self.context.changes.count_rename();
        }
        for column in self.columns(relation).await? {
            match relation.columns.iter().find(|known| known.name == column.name) {
                Some(known) if changes.retyped.contains(&known.name) => {
                    self.widen(relation, known, &column).await?;
                }
                None if changes.dropped.contains(&column.name) && column.needs_value => {
                    self.let_be_empty(relation, &column).await?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Whether any has another name now.
    async fn rename(
        &self,
        relation: &Relation,
        changes: &TableChanges,
        mut due: Option<&mut Due>,
    ) -> Result<bool, SinkError> {
        let mut any = false;
        // By a version from before, too: its rows may come first, and the name is looked up as it will be.
        let names_it = |column: &Column, renamed: &Renamed| changes.name_now(relation, &column.name) == renamed.now;
        let is_meant = |renamed: &&Renamed| relation.columns.iter().any(|column| names_it(column, renamed));
        let meant = changes.renamed.iter().filter(is_meant);
        for renamed in meant {
            let here = self.columns(relation).await?;
            let has = |name: &String| here.iter().any(|column| column.name == *name);
            let mut before = renamed.before.iter().filter(|name| has(name));
            // Where several are there, one of them is the target's own.
            let (Some(before), None) = (before.next(), before.next()) else {
                continue;
            };
            if has(&renamed.now) {
                continue;
            }
            let what = format!("RENAME COLUMN {} TO {}", quoted(before), quoted(&renamed.now));
            let key = due.as_deref().map(|due| due.renamed(before, &renamed.now));
            let note = key.as_ref().map(|key| key.note(self.context));
            self.alter(relation, &renamed.now, &what, note).await?;
            if let (Some(due), Some(key)) = (&mut due, key) {
                **due = key;
            }
            let (sink, table) = (&self.context.sink, relation.full_name());
            tracing::info!(sink, table, column = before, now = renamed.now, "a column was renamed");
            any = true;
        }
        Ok(any)
    }

    async fn widen(&self, relation: &Relation, known: &Column, here: &Here) -> Result<(), SinkError> {
        let there = Kind {
            oid: known.type_oid,
            typmod: known.typmod,
        };
        let is_same = there.oid >= FIRST_USER_OID && unqualified(&known.type_name) == unqualified(&here.type_name);
        if here.generated || is_same || widens(there, here.kind) {
            return Ok(());
        }
        let type_there = here.type_there.as_ref().unwrap_or(&known.type_name);
        let what = format!(
            "ALTER COLUMN {0} TYPE {type_there} USING {0}::{type_there}",
            quoted(&known.name)
        );
        if !widens(here.kind, there) || here.type_there.is_none() || here.is_domain {
            let cause = format!(
                "it is {} here and {type_there} at the source, which doesn't hold the same",
                here.shown()
            );
            return Err(self.cannot(relation, &known.name, &what, cause));
        }
        self.alter(relation, &known.name, &what, None).await?;
        let (sink, table, column) = (&self.context.sink, relation.full_name(), &known.name);
        tracing::info!(
            sink,
            table,
            column,
            from = here.shown(),
            to = type_there,
            "a column got a wider type"
        );
        Ok(())
    }

    async fn let_be_empty(&self, relation: &Relation, here: &Here) -> Result<(), SinkError> {
        let what = format!("ALTER COLUMN {} DROP NOT NULL", quoted(&here.name));
        if here.in_primary_key {
            let what = format!("DROP COLUMN {}", quoted(&here.name));
            let cause = "the source has dropped it, and it is part of the target's primary key";
            return Err(self.cannot(relation, &here.name, &what, cause.to_owned()));
        }
        self.alter(relation, &here.name, &what, None).await?;
        let (sink, table, column) = (&self.context.sink, relation.full_name(), &here.name);
        tracing::warn!(
            sink,
            table,
            column,
            "the source has dropped a column: it stays with what it holds, and may be NULL now"
        );
        Ok(())
    }

    async fn columns(&self, relation: &Relation) -> Result<Vec<Here>, SinkError> {
        let name = qualified(relation);
        let names: Vec<&str> = relation.columns.iter().map(|column| column.name.as_str()).collect();
        let types: Vec<u32> = relation.columns.iter().map(|column| column.type_oid).collect();
        let typmods: Vec<i32> = relation.columns.iter().map(|column| column.typmod).collect();
        let rows = self.client.query(COLUMNS, &[&name, &names, &types, &typmods]).await;
        let rows = rows.map_err(|error| error::of(&error, self.context))?;
        let here = |row: &tokio_postgres::Row| Here {
            name: row.get(0),
            kind: Kind {
                oid: row.get(1),
                typmod: row.get(2),
            },
            type_name: row.get(3),
            needs_value: row.get(4),
            in_primary_key: row.get(5),
            generated: row.get(6),
            type_there: row.get(7),
            is_domain: row.get(8),
        };
        Ok(rows.iter().map(here).collect())
    }

    /// What is to be noted is so together with it, or not at all.
    async fn alter(
        &self,
        relation: &Relation,
        column: &str,
        what: &str,
        note: Option<String>,
    ) -> Result<(), SinkError> {
        let note = note.unwrap_or_default();
        let text = format!("ALTER TABLE {} {what}; {note}", qualified(relation));
        let altered = self.client.batch_execute(&text).await;
        altered.map_err(|error| match error::of(&error, self.context) {
            SinkError::Definite(problem) => {
                self.cannot(relation, column, what, problem.cause.clone().unwrap_or_default())
            }
            other => other,
        })
    }

    fn cannot(&self, relation: &Relation, column: &str, what: &str, cause: String) -> SinkError {
        let (table, sink) = (relation.full_name(), &self.context.sink);
        let headline = format!("column {column} of {table} at sink {sink} can't follow the source");
        let help = format!("ALTER TABLE {} {what}", qualified(relation));
        Problem::new("E0419", Exit::Sink, headline, help)
            .with_cause(cause)
            .into()
    }
}

impl Here {
    fn shown(&self) -> String {
        match self.kind.typmod {
            typmod if typmod >= TYPMOD_HEADER && self.kind.is_of_characters() => {
                format!("{}({})", self.type_name, typmod - TYPMOD_HEADER)
            }
            _ => self.type_name.clone(),
        }
    }
}

fn unqualified(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}

/// The relation with the names that its columns have at a target that has followed later changes.
pub(super) fn called_now<'a>(relation: &'a Relation, changes: &TableChanges) -> Cow<'a, Relation> {
    let is_old = |column: &Column| changes.name_now(relation, &column.name) != column.name;
    if !relation.columns.iter().any(is_old) {
        return Cow::Borrowed(relation);
    }
    let mut called = relation.clone();
    for column in &mut called.columns {
        column.name = changes.name_now(relation, &column.name).to_owned();
    }
    Cow::Owned(called)
}
