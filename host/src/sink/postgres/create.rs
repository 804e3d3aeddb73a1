//! Makes what is missing at the target: tables, columns, and the types that they need.

use super::about::About;
use super::error;
use super::keys::Due;
use super::lacking;
use super::target::{literal, qualified, quoted};
use crate::batch::{Column, Relation};
use crate::config::WriteMode;
use crate::problem::{Exit, Problem};
use crate::sink::{SinkContext, SinkError, UserType, UserTypeKind};
use tokio_postgres::Client;

/// OIDs below are the same at every server.
const FIRST_USER_OID: u32 = 16_384;
/// Types within types: far more than anybody has, so that a circle ends.
const DEPTH_MAX: usize = 32;

/// Who asks for what, at which target.
pub(super) struct Maker<'a> {
    pub(super) client: &'a Client,
    pub(super) context: &'a SinkContext,
    pub(super) mode: WriteMode,
}

impl Maker<'_> {
    /// Makes the table, with its schema, its types, its key and NOT NULL as at the source. A table for changes as rows
    /// has neither. It has a key where there is one (`has_key`); where that is `due`, it comes later, and that is noted.
    pub(super) async fn table(&self, relation: &Relation, has_key: bool, due: Option<&Due>) -> Result<(), SinkError> {
        self.schema(&relation.schema).await?;
        let appends = self.mode == WriteMode::Append;
        let mut lines = Vec::new();
        for column in &relation.columns {
            let not_null = if column.nullable || appends { "" } else { " NOT NULL" };
            let kind = self.type_of(relation, column).await?;
            lines.push(format!("{} {kind}{not_null}", quoted(&column.name)));
        }
        if appends {
            let about = About::ALL.iter();
            lines.extend(about.map(|about| format!("{} {}", quoted(about.column()), about.type_name())));
        } else if has_key && due.is_none() {
            let key: Vec<String> = relation.key_columns().map(|column| quoted(&column.name)).collect();
            lines.push(format!("PRIMARY KEY ({})", key.join(", ")));
        }
        let name = qualified(relation);
        let note = due.map_or_else(String::new, |due| format!("; {}", due.note(self.context)));
        self.execute(&format!(
            "CREATE TABLE IF NOT EXISTS {name} ({}){note}",
            lines.join(", ")
        ))
        .await?;
        tracing::info!(
            sink = self.context.sink,
            table = relation.full_name(),
            "the table was made"
        );
        Ok(())
    }

    /// Adds those `which` the target's table lacks. They may be NULL: rows that are there have no value for them.
    pub(super) async fn columns(&self, relation: &Relation, which: impl Fn(&Column) -> bool) -> Result<(), SinkError> {
        let name = qualified(relation);
        for column in relation.columns.iter().filter(|column| which(column)) {
            let kind = self.type_of(relation, column).await?;
            let add = format!(
                "ALTER TABLE {name} ADD COLUMN IF NOT EXISTS {} {kind}",
                quoted(&column.name)
            );
            self.execute(&add).await?;
        }
        if self.mode == WriteMode::Append {
            for about in About::ALL {
                let (column, kind) = (quoted(about.column()), about.type_name());
                self.execute(&format!("ALTER TABLE {name} ADD COLUMN IF NOT EXISTS {column} {kind}"))
                    .await?;
            }
        }
        tracing::info!(
            sink = self.context.sink,
            table = relation.full_name(),
            "columns were added"
        );
        Ok(())
    }

    async fn execute(&self, text: &str) -> Result<(), SinkError> {
        let done = self.client.batch_execute(text).await;
        done.map_err(|error| error::of_making(&error, self.context))
    }

    /// Making one that is there needs a privilege that using it doesn't.
    async fn schema(&self, name: &str) -> Result<(), SinkError> {
        let there = "SELECT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = $1::text)";
        if self.ask::<bool>(there, &[&name]).await?.unwrap_or(false) {
            return Ok(());
        }
        self.execute(&format!("CREATE SCHEMA IF NOT EXISTS {}", quoted(name)))
            .await
    }

    async fn ask<T: for<'a> tokio_postgres::types::FromSql<'a>>(
        &self,
        select: &str,
        parameters: &[&(dyn tokio_postgres::types::ToSql + Sync)],
    ) -> Result<Option<T>, SinkError> {
        let row = self.client.query_opt(select, parameters).await;
        let row = row.map_err(|error| error::of(&error, self.context))?;
        Ok(row.and_then(|row| row.get(0)))
    }

    async fn type_of(&self, relation: &Relation, column: &Column) -> Result<String, SinkError> {
        match self.sql_type(column.type_oid, column.typmod, 0).await? {
            Some(name) => Ok(name),
            None => Err(self.unknown(relation, column).into()),
        }
    }

    /// How the target calls a type of the source, made there where it has to be. `None` where it can't be made.
    async fn sql_type(&self, oid: u32, typmod: i32, depth: usize) -> Result<Option<String>, SinkError> {
        if oid < FIRST_USER_OID {
            let select = "SELECT pg_catalog.format_type(oid, $2) FROM pg_catalog.pg_type WHERE oid = $1";
            return self.ask(select, &[&oid, &typmod]).await;
        }
        let Some(known) = self.context.types.0.get(&oid).filter(|_| depth < DEPTH_MAX) else {
            return Ok(None);
        };
        let name = format!("{}.{}", quoted(&known.schema), quoted(&known.name));
        match &known.kind {
            UserTypeKind::Array(element) => {
                let element = Box::pin(self.sql_type(*element, typmod, depth + 1)).await?;
                Ok(element.map(|element| format!("{element}[]")))
            }
            UserTypeKind::Other { .. } => self.elsewhere(known).await,
            UserTypeKind::Enum(labels) => {
                if !self.is_there(known).await? {
                    self.schema(&known.schema).await?;
                    let labels: Vec<String> = labels.iter().map(|label| literal(label)).collect();
                    self.execute(&format!("CREATE TYPE {name} AS ENUM ({})", labels.join(", ")))
                        .await?;
                }
                Ok(Some(name))
            }
            UserTypeKind::Domain {
                base_oid,
                base_typmod,
                not_null,
                checks,
            } => {
                if self.is_there(known).await? {
                    return Ok(Some(name));
                }
                let Some(base) = Box::pin(self.sql_type(*base_oid, *base_typmod, depth + 1)).await? else {
                    return Ok(None);
                };
                self.schema(&known.schema).await?;
                let not_null = if *not_null { " NOT NULL" } else { "" };
                self.execute(&format!(
                    "CREATE DOMAIN {name} AS {base}{not_null} {}",
                    checks.join(" ")
                ))
                .await?;
                Ok(Some(name))
            }
        }
    }

    async fn is_there(&self, kind: &UserType) -> Result<bool, SinkError> {
        let select = "SELECT EXISTS (SELECT FROM pg_catalog.pg_type t \
            JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace \
            WHERE n.nspname = $1::text AND t.typname = $2::text)";
        Ok(self.ask(select, &[&kind.schema, &kind.name]).await?.unwrap_or(false))
    }

    /// An extension's type may lie in another schema here.
    async fn elsewhere(&self, kind: &UserType) -> Result<Option<String>, SinkError> {
        let select = "SELECT pg_catalog.format('%I.%I', n.nspname, t.typname) FROM pg_catalog.pg_type t \
            JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace WHERE t.typname = $2::text \
            ORDER BY n.nspname = $1::text DESC LIMIT 1";
        self.ask(select, &[&kind.schema, &kind.name]).await
    }

    fn unknown(&self, relation: &Relation, column: &Column) -> Problem {
        let (table, sink) = (relation.full_name(), &self.context.sink);
        let headline = format!("sink {sink} lacks the type of column {} of {table}", column.name);
        let known = self.context.types.0.get(&column.type_oid);
        let extension = known.and_then(|known| match &known.kind {
            UserTypeKind::Other { extension } => extension.as_ref(),
            _ => None,
        });
        let help = match extension {
            Some(extension) => format!("CREATE EXTENSION {} at the target", quoted(extension)),
            None => format!("make table {} at the target by hand", qualified(relation)),
        };
        let cause = match known {
            Some(known) => format!("the target has no type {}.{}", known.schema, known.name),
            None => format!("type {} isn't known", column.type_name),
        };
        Problem::new("E0416", Exit::Sink, headline, help).with_cause(cause)
    }
}

/// Whether the key can be a primary key. Under REPLICA IDENTITY FULL all columns may stand for one: then there is none, unless
/// rows are copied `by_key`.
pub(super) fn has_key(relation: &Relation, by_key: bool) -> bool {
    let mut key = relation.key_columns();
    let is_told = by_key || lacking::told_key(relation).is_some();
    is_told && relation.key_columns().next().is_some() && key.all(|column| !column.nullable)
}
