//! The publication: made for exactly the selected tables, or adopted as it is. An adopted one is never altered. One of
//! ours follows the selection once it has been streamed from.

use super::catalog::Table;
use super::failure::{headline, refused, server_text, shown};
use super::preflight::codes;
use crate::problem::{Exit, Problem};
use postgres_protocol::escape::escape_identifier;
use std::collections::HashSet;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;

/// A publication that the stream can be started with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publication {
    pub name: String,
    /// Made just now.
    pub created: bool,
    /// Made just now, or given other tables.
    pub altered: bool,
    /// OIDs of the tables whose changes it sends.
    pub tables: Vec<u32>,
    /// Whether it sends updates.
    pub updates: bool,
}

/// A publication as the server has it.
#[derive(Clone, Debug)]
pub struct PublicationState {
    /// As SQL writes it.
    pub sql_name: String,
    /// FOR ALL TABLES.
    pub all_tables: bool,
    /// Changes of partitions are sent as changes of their root.
    pub via_root: bool,
    pub inserts: bool,
    pub updates: bool,
    pub deletes: bool,
    pub truncates: bool,
    /// Values of generated columns are sent, also of tables without a column list.
    pub generated: bool,
    /// What it sends changes of: leaves, or roots where `via_root`.
    pub tables: Vec<Published>,
}

/// A table of a publication.
#[derive(Clone, Debug)]
pub struct Published {
    pub oid: u32,
    pub sql_name: String,
    /// `schema.table`, for people.
    pub full_name: String,
    /// The OID of the publication: another one where it was dropped and made again.
    pub publication: u32,
    /// The OID of the entry that makes it one of the publication's, in `pg_publication_rel`: another one where it was taken out
    /// and put in again. `None` where it is published by its schema, by a partitioned table above it, or as all tables are.
    pub entry: Option<u32>,
    /// Whether that entry is from the publication's own beginning, and not from later.
    pub from_the_first: bool,
    /// As SQL.
    pub row_filter: Option<String>,
    /// The columns that it is limited to.
    pub column_list: Option<Vec<String>>,
}

const PUBLICATION: &str = r"
SELECT quote_ident(p.pubname) AS sql_name, p.puballtables, p.pubinsert, p.pubupdate, p.pubdelete,
       COALESCE((j->>'pubtruncate')::bool, false) AS truncates, COALESCE((j->>'pubviaroot')::bool, false) AS via_root,
       COALESCE(j->>'pubgencols', 'n') <> 'n' AS generated
FROM pg_catalog.pg_publication p, to_jsonb(p) AS j WHERE p.pubname = $1";

/// An entry is from the first where the transaction that made the publication wrote it. That is the one that noted the owner: the
/// publication's own row is written anew by each ALTER PUBLICATION, and the note by OWNER TO alone. Of a server's first role
/// nothing is noted. Where an entry is older than that, it wasn't that one. What is in doubt isn't from the first.
const PUBLISHED: &str = r"
SELECT c.oid, format('%I.%I', n.nspname, c.relname) AS sql_name, format('%s.%s', n.nspname, c.relname) AS full_name,
       p.oid AS publication, r.oid AS entry,
       COALESCE(r.xmin = COALESCE(s.xmin, p.xmin), false) AND NOT EXISTS (
           SELECT FROM pg_catalog.pg_publication_rel o
           WHERE o.prpubid = p.oid AND pg_catalog.age(o.xmin) > pg_catalog.age(r.xmin)) AS from_the_first,
       CASE WHEN to_jsonb(r)->>'prqual' IS NOT NULL THEN to_jsonb(t)->>'rowfilter' END AS row_filter,
       CASE WHEN to_jsonb(r)->>'prattrs' IS NOT NULL
           THEN ARRAY(SELECT jsonb_array_elements_text(to_jsonb(t)->'attnames')) END AS column_list
FROM pg_catalog.pg_publication_tables t
JOIN pg_catalog.pg_publication p ON p.pubname = t.pubname
JOIN pg_catalog.pg_namespace n ON n.nspname = t.schemaname
JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = t.tablename
LEFT JOIN pg_catalog.pg_publication_rel r ON r.prpubid = p.oid AND r.prrelid = c.oid
LEFT JOIN pg_catalog.pg_shdepend s ON s.classid = 'pg_catalog.pg_publication'::regclass AND s.objid = p.oid
    AND s.deptype = 'o' AND s.dbid = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = current_database())
WHERE t.pubname = $1 ORDER BY n.nspname, c.relname";

/// The name of the publication that Rowmill makes for a pipeline.
pub fn own_name(pipeline: &str) -> String {
    format!("rowmill_{pipeline}")
}

/// What a publication holds; `None` where there is none of that name.
pub async fn state(client: &Client, name: &str) -> Result<Option<PublicationState>, Box<Problem>> {
    let parameter: &[(&(dyn tokio_postgres::types::ToSql + Sync), Type)] = &[(&name, Type::TEXT)];
    // In this order: a publication that is dropped in between is none, and not one whose tables have all left.
    let (tables, publication) = tokio::try_join!(
        client.query_typed(PUBLISHED, parameter),
        client.query_typed_opt(PUBLICATION, parameter),
    )
    .map_err(|error| refused("read the publication", &error))?;
    Ok(publication.map(|row| PublicationState {
        sql_name: row.get("sql_name"),
        all_tables: row.get("puballtables"),
        via_root: row.get("via_root"),
        inserts: row.get("pubinsert"),
        updates: row.get("pubupdate"),
        deletes: row.get("pubdelete"),
        truncates: row.get("truncates"),
        generated: row.get("generated"),
        tables: tables
            .iter()
            .map(|row| Published {
                oid: row.get("oid"),
                sql_name: row.get("sql_name"),
                full_name: row.get("full_name"),
                publication: row.get("publication"),
                entry: row.get("entry"),
                from_the_first: row.get("from_the_first"),
                row_filter: row.get("row_filter"),
                column_list: row.get("column_list"),
            })
            .collect(),
    }))
}

/// The name of the publication that a pipeline streams from.
pub fn name(pipeline: &str, adopted: Option<&str>) -> String {
    adopted.map_or_else(|| own_name(pipeline), str::to_owned)
}

/// The publication to stream from, which was `found` as it is: the adopted one is left so, else `rowmill_<pipeline>` is made
/// where it isn't there. One that is there with other tables is a problem, and isn't altered, unless it `adjusts`: then
/// it has been streamed from, and gets the tables that are selected now.
pub async fn ensure(
    client: &Client,
    pipeline: &str,
    adopted: Option<&str>,
    found: Option<&PublicationState>,
    tables: &[Table],
    adjusts: bool,
) -> Result<Publication, Box<Problem>> {
    let name = name(pipeline, adopted);
    match (found, adopted) {
        (None, Some(_)) => Err(Box::new(missing(&name, tables))),
        (None, None) => {
            let statement = create_statement(&name, tables);
            client
                .batch_execute(&statement)
                .await
                .map_err(|error| create_refused(&name, &statement, &error))?;
            Ok(Publication {
                name,
                created: true,
                altered: true,
                tables: tables.iter().map(|table| table.oid).collect(),
                updates: true,
            })
        }
        (Some(state), None) if adjusts => Ok(Publication {
            name,
            created: false,
            altered: adjust(client, state, tables).await?,
            tables: tables.iter().map(|table| table.oid).collect(),
            updates: state.updates,
        }),
        (Some(state), adopted) => {
            let problem = match adopted {
                Some(_) => lacks(state, tables),
                None => differs(state, tables),
            };
            match problem {
                Some(problem) => Err(Box::new(problem)),
                None => Ok(Publication {
                    name,
                    created: false,
                    altered: false,
                    tables: state.tables.iter().map(|table| table.oid).collect(),
                    updates: state.updates,
                }),
            }
        }
    }
}

/// The statements that give a publication of ours the tables that are selected now.
///
/// # Errors
/// It publishes otherwise than ours do: somebody has altered it.
pub(super) fn adjustment(state: &PublicationState, tables: &[Table]) -> Result<Vec<String>, Problem> {
    let lacking = lacking(state, tables);
    let is_ours = !state.all_tables && (state.via_root || !lacking.iter().any(|table| table.partitioned));
    if let (false, Some(problem)) = (is_ours, differs(state, tables)) {
        return Err(problem);
    }
    let name = &state.sql_name;
    let mut statements = Vec::new();
    if !lacking.is_empty() {
        let names = names(lacking.iter().copied());
        statements.push(format!("ALTER PUBLICATION {name} ADD TABLE {names};"));
    }
    let extra: Vec<String> = extra(state, tables).map(|table| table.sql_name.clone()).collect();
    if !extra.is_empty() {
        statements.push(format!(
            "ALTER PUBLICATION {name} DROP TABLE {};",
            joined(extra.into_iter())
        ));
    }
    Ok(statements)
}

/// Says whether there was anything to do.
async fn adjust(client: &Client, state: &PublicationState, tables: &[Table]) -> Result<bool, Box<Problem>> {
    let statements = adjustment(state, tables)?;
    for statement in &statements {
        let done = client.batch_execute(statement).await;
        done.map_err(|error| alter_refused(&state.sql_name, statement, &error))?;
        tracing::info!(statement, "the publication follows the tables that are selected");
    }
    Ok(!statements.is_empty())
}

fn alter_refused(name: &str, statement: &str, error: &tokio_postgres::Error) -> Box<Problem> {
    let problem = Problem::new(
        codes::PUBLICATION_DIFFERS,
        Exit::Preflight,
        headline(format!("publication {} can't be given the tables", shown(name))),
        format!("alter it as the tables' owner: `{statement}`"),
    );
    Box::new(problem.with_cause(server_text(error)))
}

/// The statement that makes a publication for exactly `tables`. ONLY keeps the children of inheritance out; it
/// doesn't concern partitions.
pub(super) fn create_statement(name: &str, tables: &[Table]) -> String {
    let via_root = match tables.iter().any(|table| table.partitioned) {
        true => " WITH (publish_via_partition_root = true)",
        false => "",
    };
    format!(
        "CREATE PUBLICATION {} FOR TABLE {}{via_root};",
        escape_identifier(name),
        names(tables.iter())
    )
}

fn names<'a>(tables: impl Iterator<Item = &'a Table>) -> String {
    joined(tables.map(|table| format!("ONLY {}", table.sql_name)))
}

fn joined(names: impl Iterator<Item = String>) -> String {
    names.collect::<Vec<_>>().join(", ")
}

fn create_refused(name: &str, statement: &str, error: &tokio_postgres::Error) -> Box<Problem> {
    match error.code() {
        Some(&SqlState::INSUFFICIENT_PRIVILEGE) => Box::new(denied(name, statement).with_cause(server_text(error))),
        _ => refused(&format!("create the publication {}", shown(name)), error),
    }
}

/// The role may not make the publication; an owner or superuser can, once.
pub(super) fn denied(name: &str, statement: &str) -> Problem {
    Problem::new(
        codes::PUBLICATION_DENIED,
        Exit::Preflight,
        headline(format!("the role may not create the publication {}", shown(name))),
        format!("create it as the tables' owner: `{statement}`"),
    )
}

pub(super) fn missing(name: &str, tables: &[Table]) -> Problem {
    let statement = match tables.is_empty() {
        true => format!("CREATE PUBLICATION {} FOR TABLE ...;", escape_identifier(name)),
        false => create_statement(name, tables),
    };
    Problem::new(
        codes::PUBLICATION_MISSING,
        Exit::Preflight,
        headline(format!("publication {} does not exist", shown(name))),
        format!("create it: `{statement}`"),
    )
    .with_cause(format!(
        "no \"{name}\" in pg_publication of this database; the stream would fail at its first change"
    ))
}

/// Selected tables that an adopted publication sends no changes of.
pub(super) fn lacks(state: &PublicationState, tables: &[Table]) -> Option<Problem> {
    let lacking = lacking(state, tables);
    let name = &state.sql_name;
    let first = lacking.first()?;
    let leaves_only = !state.via_root && lacking.iter().any(|table| table.partitioned);
    let help = match leaves_only {
        true => format!("publish the partitioned table itself: {}", set_via_root(name)),
        false => format!(
            "add them: `ALTER PUBLICATION {name} ADD TABLE {};`",
            names(lacking.iter().copied())
        ),
    };
    let what = match lacking.len() {
        1 => shown(&first.full_name()),
        count => format!("{count} of the tables"),
    };
    let cause = joined(lacking.iter().map(|table| table.sql_name.clone()));
    Some(
        Problem::new(
            codes::PUBLICATION_LACKS,
            Exit::Preflight,
            headline(format!("publication {} lacks {what}", shown(name))),
            help,
        )
        .with_cause(format!("{name} sends no changes of {cause}")),
    )
}

/// What sets a publication of ours apart from the tables that are selected now.
pub(super) fn differs(state: &PublicationState, tables: &[Table]) -> Option<Problem> {
    let name = &state.sql_name;
    let lacking = lacking(state, tables);
    let extra: Vec<&Published> = extra(state, tables).collect();
    if lacking.is_empty() && extra.is_empty() {
        return None;
    }
    let help = if state.all_tables {
        format!("drop it, it is made anew for the selected tables: `DROP PUBLICATION {name};`")
    } else if !state.via_root && lacking.iter().any(|table| table.partitioned) {
        format!("publish the partitioned table itself: {}", set_via_root(name))
    } else if extra.is_empty() {
        format!(
            "`ALTER PUBLICATION {name} ADD TABLE {};`",
            names(lacking.iter().copied())
        )
    } else if lacking.is_empty() {
        let extra = joined(extra.iter().map(|table| table.sql_name.clone()));
        format!("`ALTER PUBLICATION {name} DROP TABLE {extra};`")
    } else {
        format!("`ALTER PUBLICATION {name} SET TABLE {};`", names(tables.iter()))
    };
    let list = |names: Vec<&str>| names.join(", ");
    let mut cause = Vec::new();
    if !lacking.is_empty() {
        let names = list(lacking.iter().map(|table| table.sql_name.as_str()).collect());
        cause.push(format!("it lacks {names}"));
    }
    if !extra.is_empty() {
        let names = list(extra.iter().map(|table| table.sql_name.as_str()).collect());
        cause.push(format!("it has {names} besides"));
    }
    Some(
        Problem::new(
            codes::PUBLICATION_DIFFERS,
            Exit::Preflight,
            headline(format!("publication {} has other tables than selected", shown(name))),
            help,
        )
        .with_cause(cause.join("; ")),
    )
}

fn set_via_root(name: &str) -> String {
    format!("`ALTER PUBLICATION {name} SET (publish_via_partition_root = true);`")
}

fn lacking<'a>(state: &PublicationState, tables: &'a [Table]) -> Vec<&'a Table> {
    let published: HashSet<u32> = state.tables.iter().map(|known| known.oid).collect();
    tables.iter().filter(|table| !published.contains(&table.oid)).collect()
}

/// Tables of a publication that nobody selected.
pub(super) fn extra<'a>(
    state: &'a PublicationState,
    tables: &'a [Table],
) -> impl Iterator<Item = &'a Published> + use<'a> {
    let selected: HashSet<u32> = tables.iter().map(|table| table.oid).collect();
    state.tables.iter().filter(move |known| !selected.contains(&known.oid))
}

#[cfg(test)]
mod tests;
