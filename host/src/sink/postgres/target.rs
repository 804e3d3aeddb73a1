//! The target's side of a relation: which of its columns take what, and what identifies a row.

use super::about::About;
use super::error;
use super::lacking;
use super::run::Columns;
use super::straight::Landing;
use super::widens::{Kind, widens};
use crate::batch::{Column, Relation, ReplicaIdentity};
use crate::config::WriteMode;
use crate::problem::{Exit, Problem};
use crate::sink::{SinkContext, SinkError};
use std::borrow::Cow;
use tokio_postgres::Client;

pub(super) const MISSING_TABLE: &str = "E0402";
pub(super) const MISSING_COLUMN: &str = "E0403";
pub(super) const MISSING_KEY: &str = "E0404";
const HIDES_ROWS: &str = "E0408";

pub(super) const VARCHAR: u32 = 1043;
pub(super) const TEXT: u32 = 25;
/// Types of which each value has one text: bool, int8, int2, int4, text, oid, varchar, date, timestamp, timestamptz and
/// uuid.
const TOLD_BY_TEXT: [u32; 11] = [16, 20, 21, 23, TEXT, 26, VARCHAR, 1082, 1114, 1184, 2950];
/// Types whose modifier rounds values instead of refusing or cutting them, and the arrays of these: numeric, timestamp,
/// timestamptz, time, timetz and interval.
const ROUNDED: [u32; 12] = [1700, 1114, 1184, 1083, 1266, 1186, 1231, 1115, 1185, 1183, 1270, 1187];
/// A character type's typmod is its length and the size of a header.
pub(super) const TYPMOD_HEADER: i32 = 4;

/// A column that is there on both sides.
#[derive(Debug)]
pub(super) struct TargetColumn {
    /// Quoted.
    pub(super) name: String,
    pub(super) slot: u16,
    /// Part of the key that rows are found by.
    pub(super) key: bool,
    /// An identity column that is GENERATED ALWAYS: rows bring its value, and no statement may change it.
    pub(super) always: bool,
    /// The target's type without its modifier: values are cast to it, and then assigned, which checks lengths.
    pub(super) cast: String,
    /// What values are cast to that a row is found by. With the modifier where that rounds: what was assigned was rounded, too.
    pub(super) found_as: String,
    /// The type's own equality, wherever its extension lies; the search path is empty.
    pub(super) equals: String,
}

#[derive(Debug)]
pub(super) struct Target {
    pub(super) oid: u32,
    /// A number that is the same for all versions of a table.
    pub(super) table: u32,
    /// Quoted, with schema.
    pub(super) name: String,
    /// Whether rows are in it itself: what inherits from it then has rows of its own, which changes of its never touch. Else
    /// it is partitioned, or foreign.
    pub(super) plain: bool,
    pub(super) columns: Vec<TargetColumn>,
    /// Where a change's own facts go, in an appending sink.
    pub(super) about: Vec<(About, TargetColumn)>,
    /// Whether rows are found by key; else by all their columns.
    pub(super) keyed: bool,
    /// Whether it gets the key later (`keys`): no statement may name it yet.
    pub(super) due: bool,
    /// Whether COPY may be used.
    pub(super) copy: bool,
    /// What the relation's columns land in, where it has all of them and these are in the order of their slots: then rows
    /// may come in binary form.
    pub(super) lands: Option<Box<[Landing]>>,
    /// Whether triggers of its own act on what arrives: ENABLE ALWAYS or REPLICA ones.
    pub(super) triggers: bool,
    /// Whether nobody could tell that a row had other values meanwhile.
    pub(super) compacts: bool,
    /// Whether rows of different keys have nothing to do with each other, and those of one key have the same texts in
    /// its columns.
    pub(super) divides: bool,
}

/// The table as a whole.
#[derive(Clone, Copy)]
struct Traits {
    oid: u32,
    copy: bool,
    triggers: bool,
    /// It has at most one unique index or exclusion constraint, and so has each of its partitions.
    one_unique: bool,
    plain: bool,
}

/// The columns of a unique index.
struct Unique {
    columns: Vec<String>,
    /// Whether none of them may be NULL, so that each row has a key.
    not_null: bool,
}

/// A column as the target's catalog has it.
struct Found {
    name: String,
    cast: String,
    found_as: String,
    generated: bool,
    always: bool,
    /// Of the type, or of what the domain is made of.
    type_oid: u32,
    typmod: i32,
    /// Whether that is an enum.
    is_enum: bool,
    /// Whether its collation tells apart what differs.
    deterministic: bool,
    /// The schema of the type's own `=`.
    equality_schema: Option<String>,
}

impl Found {
    /// Whether equal values have equal texts, and the source's are of the same type: other types know one value in
    /// several forms (`1.0` and `1.00`). One that is narrower makes one value of several.
    fn is_told_by_text(&self, column: &Column) -> bool {
        let is_text = |oid: u32| [TEXT, VARCHAR].contains(&oid);
        let same = self.type_oid == column.type_oid || is_text(self.type_oid) && is_text(column.type_oid);
        let [there, here] = [(column.type_oid, column.typmod), (self.type_oid, self.typmod)];
        let [there, here] = [there, here].map(|(oid, typmod)| Kind { oid, typmod });
        same && widens(there, here) && self.deterministic && TOLD_BY_TEXT.contains(&self.type_oid)
    }

    fn column(&self, slot: u16, key: bool) -> TargetColumn {
        TargetColumn {
            name: quoted(&self.name),
            slot,
            key,
            always: self.always,
            cast: self.cast.clone(),
            found_as: self.found_as.clone(),
            equals: match &self.equality_schema {
                Some(schema) => format!("OPERATOR({}.=)", quoted(schema)),
                None => "=".to_owned(),
            },
        }
    }
}

impl Target {
    /// Whether a run brings values for columns that are GENERATED ALWAYS, besides the key.
    pub(super) fn brings_always(&self, columns: &Columns) -> bool {
        let mut all = self.columns.iter().enumerate();
        all.any(|(at, column)| column.always && !column.key && columns.contains(at))
    }

    /// What a statement names that finds rows: they are this table's own, as for a subscription's worker.
    pub(super) fn found_in(&self) -> Cow<'_, str> {
        match self.plain {
            true => format!("ONLY {}", self.name).into(),
            false => self.name.as_str().into(),
        }
    }

    /// The names of the columns that rows are found by.
    pub(super) fn key_names(&self) -> impl Iterator<Item = &str> {
        self.columns.iter().filter(|it| it.key).map(|it| it.name.as_str())
    }

    /// Looks the relation up at the target by its names.
    pub(super) async fn look_up(
        client: &Client,
        relation: &Relation,
        table: u32,
        mode: WriteMode,
        context: &SinkContext,
    ) -> Result<Self, SinkError> {
        Self::find(client, relation, (table, false), mode, context).await
    }

    /// The same of one that gets the relation's key later.
    pub(super) async fn look_up_due(
        client: &Client,
        relation: &Relation,
        table: u32,
        mode: WriteMode,
        context: &SinkContext,
    ) -> Result<Self, SinkError> {
        Self::find(client, relation, (table, true), mode, context).await
    }

    async fn find(
        client: &Client,
        relation: &Relation,
        (table, due): (u32, bool),
        mode: WriteMode,
        context: &SinkContext,
    ) -> Result<Self, SinkError> {
        let failed = |error| error::of(&error, context);
        let select = "SELECT c.oid, NOT pg_catalog.row_security_active(c.oid), EXISTS (\
                SELECT FROM pg_catalog.pg_trigger WHERE tgenabled IN ('A', 'R') AND (tgrelid = c.oid OR tgrelid IN (\
                    SELECT relid FROM pg_catalog.pg_partition_tree(c.oid)))), NOT EXISTS (\
                SELECT FROM pg_catalog.pg_index WHERE (indisunique OR indisexclusion) AND (indrelid = c.oid OR \
                    indrelid IN (SELECT relid FROM pg_catalog.pg_partition_tree(c.oid))) \
                GROUP BY indrelid HAVING count(*) > 1), c.relkind = 'r' \
            FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
            WHERE n.nspname = $1::text AND c.relname = $2::text AND c.relkind IN ('r', 'p', 'f')";
        let there = client
            .query_opt(select, &[&relation.schema, &relation.table])
            .await
            .map_err(failed)?;
        let Some(there) = there else {
            return Err(lacking::table(relation, context).into());
        };
        let traits = Traits {
            oid: there.get(0),
            copy: there.get(1),
            triggers: there.get(2),
            one_unique: there.get(3),
            plain: there.get(4),
        };
        if mode != WriteMode::Append && !traits.copy {
            return Err(hides_rows(relation, context).into());
        }
        let (found, unique) = Self::catalog(client, traits.oid).await.map_err(failed)?;
        if mode == WriteMode::Append {
            let mut target = Self::matched(relation, &found, Vec::new(), table, traits, context)?;
            target.about = about(relation, &found, context)?;
            return Ok(target);
        }
        let key = match due {
            true => relation.key_columns().map(|column| column.name.clone()).collect(),
            false => key(relation, &unique, context)?,
        };
        let mut target = Self::matched(relation, &found, key, table, traits, context)?;
        target.due = due;
        Ok(target)
    }

    /// The table's columns, and the columns of each of its unique indexes, the primary key first.
    async fn catalog(client: &Client, oid: u32) -> Result<(Vec<Found>, Vec<Unique>), tokio_postgres::Error> {
        // A cast of the type's own from text reads other texts than its input function does (regclass lacks `-`), by way
        // of bpchar it is the input function.
        let select = "SELECT attname::text, CASE WHEN EXISTS (SELECT FROM pg_catalog.pg_cast WHERE castmethod = 'f' \
                AND casttarget = base AND castsource = 'pg_catalog.text'::pg_catalog.regtype) \
            AND NOT EXISTS (SELECT FROM pg_catalog.pg_cast WHERE casttarget = base \
                AND castsource = 'pg_catalog.bpchar'::pg_catalog.regtype) THEN 'bpchar::' ELSE '' END \
            || pg_catalog.format_type(atttypid, -1), attgenerated <> '', \
            (SELECT n.nspname::text FROM pg_catalog.pg_operator o \
                JOIN pg_catalog.pg_namespace n ON n.oid = o.oprnamespace \
                WHERE o.oprname = '=' AND o.oprleft = atttypid AND o.oprright = atttypid LIMIT 1), \
            base, NOT EXISTS (SELECT FROM pg_catalog.pg_collation c WHERE c.oid = attcollation \
                AND NOT c.collisdeterministic), \
            EXISTS (SELECT FROM pg_catalog.pg_type e WHERE e.oid = base AND e.typtype = 'e'), attidentity = 'a', \
            CASE WHEN atttypid = ANY ($2) THEN pg_catalog.format_type(atttypid, atttypmod) END, typmod \
            FROM pg_catalog.pg_attribute JOIN pg_catalog.pg_type t ON t.oid = atttypid, \
            LATERAL (WITH RECURSIVE chain AS (\
                SELECT t.oid AS base, t.typbasetype AS under, atttypmod AS typmod, t.typtypmod AS next UNION ALL \
                SELECT u.oid, u.typbasetype, chain.next, u.typtypmod \
                FROM chain JOIN pg_catalog.pg_type u ON u.oid = chain.under) \
                SELECT base, typmod FROM chain WHERE under = 0) AS b \
            WHERE attrelid = $1 AND attnum > 0 AND NOT attisdropped ORDER BY attnum";
        let rows = client.query(select, &[&oid, &ROUNDED.as_slice()]).await?;
        let found = rows
            .iter()
            .map(|row| Found {
                name: row.get(0),
                cast: row.get(1),
                found_as: row.get::<_, Option<String>>(8).unwrap_or_else(|| row.get(1)),
                generated: row.get(2),
                equality_schema: row.get(3),
                type_oid: row.get(4),
                deterministic: row.get(5),
                is_enum: row.get(6),
                always: row.get(7),
                typmod: row.get(9),
            })
            .collect();
        let select = "SELECT ARRAY(SELECT attname::text FROM pg_catalog.pg_attribute a WHERE a.attrelid = indrelid \
                AND a.attnum = ANY ((indkey::int2[])[0:indnkeyatts - 1]) ORDER BY a.attname), \
            NOT EXISTS (SELECT FROM pg_catalog.pg_attribute a WHERE a.attrelid = indrelid AND NOT a.attnotnull \
                AND a.attnum = ANY ((indkey::int2[])[0:indnkeyatts - 1])) \
            FROM pg_catalog.pg_index WHERE indrelid = $1 AND indisunique AND indisvalid AND indimmediate \
            AND indpred IS NULL AND indexprs IS NULL ORDER BY indisprimary DESC";
        let rows = client.query(select, &[&oid]).await?;
        let unique = |row: &tokio_postgres::Row| Unique {
            columns: row.get(0),
            not_null: row.get(1),
        };
        Ok((found, rows.iter().map(unique).collect()))
    }

    fn matched(
        relation: &Relation,
        found: &[Found],
        key: Vec<String>,
        table: u32,
        traits: Traits,
        context: &SinkContext,
    ) -> Result<Self, SinkError> {
        let mut columns = Vec::with_capacity(relation.columns.len());
        let mut told_by_text = true;
        let mut lands = Vec::with_capacity(relation.columns.len());
        let mut has_all = relation.columns.is_sorted_by_key(|column| column.slot);
        let mut missing = Vec::new();
        for column in &relation.columns {
            let Some(at) = found.iter().find(|found| found.name == column.name) else {
                missing.push(column);
                continue;
            };
            has_all &= !at.generated;
            lands.push(Landing {
                type_oid: at.type_oid,
                is_enum: at.is_enum,
            });
            // The target computes it.
            if at.generated {
                continue;
            }
            let is_key = key.contains(&column.name);
            told_by_text &= !is_key || at.is_told_by_text(column);
            columns.push(at.column(column.slot, is_key));
        }
        if !missing.is_empty() {
            return Err(lacking::columns(relation, &missing, context).into());
        }
        let compacts = !key.is_empty() && traits.one_unique && !traits.triggers;
        Ok(Self {
            oid: traits.oid,
            table,
            name: qualified(relation),
            plain: traits.plain,
            columns,
            about: Vec::new(),
            keyed: !key.is_empty(),
            due: false,
            copy: traits.copy,
            lands: has_all.then(|| lands.into()),
            triggers: traits.triggers,
            compacts,
            divides: compacts && told_by_text,
        })
    }
}

/// The names of the columns that rows are found by; none where only the whole row tells. An index over some of the
/// source's key will do: the target may be the stricter one. Under REPLICA IDENTITY FULL every column counts as key at
/// the source, so there the target's own key decides.
fn key(relation: &Relation, unique: &[Unique], context: &SinkContext) -> Result<Vec<String>, SinkError> {
    let mut key: Vec<String> = relation.key_columns().map(|column| column.name.clone()).collect();
    key.sort_unstable();
    let full = relation.replica_identity == ReplicaIdentity::Full;
    // Rows with NULLs aren't found by an equality, and under FULL the key is whatever the columns are.
    let tells = |index: &Unique| index.columns == key && (index.not_null || !full);
    if unique.iter().any(tells) {
        return Ok(key);
    }
    let by_any = full || key.is_empty();
    let has = |name: &String| {
        if by_any {
            relation.column_index(name).is_some()
        } else {
            key.contains(name)
        }
    };
    let usable = unique
        .iter()
        .find(|index| index.not_null && index.columns.iter().all(has));
    if usable.is_some() || by_any {
        return Ok(usable.map_or_else(Vec::new, |index| index.columns.clone()));
    }
    Err(lacking::key(relation, context).into())
}

/// The columns for what is told of changes: all of them have to be there.
fn about(relation: &Relation, found: &[Found], context: &SinkContext) -> Result<Vec<(About, TargetColumn)>, SinkError> {
    let mut columns = Vec::new();
    let mut missing = Vec::new();
    for about in About::ALL {
        match found.iter().find(|found| found.name == about.column()) {
            Some(at) => columns.push((about, at.column(0, false))),
            None => missing.push(format!("ADD COLUMN {} {}", quoted(about.column()), about.type_name())),
        }
    }
    if missing.is_empty() {
        return Ok(columns);
    }
    let headline = format!(
        "{} at sink {} has no columns for changes",
        relation.full_name(),
        context.sink
    );
    let help = format!("ALTER TABLE {} {}", qualified(relation), missing.join(", "));
    let cause = "`mode: append` tells of each change in columns of its own";
    Err(Problem::new(MISSING_COLUMN, Exit::Sink, headline, help)
        .with_cause(cause)
        .into())
}

/// Rows that a policy hides can't be found, and would be taken for missing ones.
fn hides_rows(relation: &Relation, context: &SinkContext) -> Problem {
    let headline = format!(
        "row-level security of {} holds for the role of sink {}",
        relation.full_name(),
        context.sink
    );
    let help = "ALTER ROLE the role of the sink's url BYPASSRLS at the target, or write as the table's owner";
    let cause = "rows that its policies hide can't be updated or deleted, and nothing would tell";
    Problem::new(HIDES_ROWS, Exit::Sink, headline, help).with_cause(cause)
}

/// An identifier in quotes.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A string constant, whatever `standard_conforming_strings` is.
pub(super) fn literal(text: &str) -> String {
    format!(" E'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// The quoted name of the relation's table.
pub(super) fn qualified(relation: &Relation) -> String {
    format!("{}.{}", quoted(&relation.schema), quoted(&relation.table))
}
