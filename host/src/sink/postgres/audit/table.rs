//! The table of changes: made where it is missing, looked at where it is there.

use crate::config;
use crate::problem::{Exit, Problem};
use crate::sink::postgres::error;
use crate::sink::postgres::target::quoted;
use crate::sink::{SinkContext, SinkError};
use tokio_postgres::Client;

/// The table isn't as it has to be.
pub(super) const SHAPE: &str = "E0440";
/// Another change has the place of one.
const TAKEN: &str = "E0444";

/// Every column, with its type where it was made here.
const COLUMNS: [(&str, &str); 16] = [
    ("id", "uuid PRIMARY KEY"),
    ("created_at", "timestamptz NOT NULL DEFAULT pg_catalog.now()"),
    ("before", "jsonb NOT NULL DEFAULT '{}'"),
    ("after", "jsonb NOT NULL DEFAULT '{}'"),
    ("context", "jsonb NOT NULL DEFAULT '{}'"),
    ("database", "varchar(255) NOT NULL"),
    ("schema", "varchar(255) NOT NULL"),
    ("table", "varchar(255) NOT NULL"),
    ("primary_key", "varchar(255)"),
    (
        "operation",
        "text NOT NULL CHECK (operation IN ('CREATE', 'UPDATE', 'DELETE', 'TRUNCATE', 'MESSAGE'))",
    ),
    ("committed_at", "timestamptz NOT NULL"),
    ("queued_at", "timestamptz NOT NULL"),
    ("transaction_id", "bigint NOT NULL"),
    ("position", "bigint NOT NULL"),
    ("ordinal", "bigint NOT NULL DEFAULT 0"),
    ("fan_out", "integer NOT NULL DEFAULT 0"),
];

/// By which a change is known.
const UNIQUE: [&str; 7] = [
    "position",
    "table",
    "schema",
    "database",
    "operation",
    "ordinal",
    "fan_out",
];

/// Quoted, with schema.
pub(super) fn name(config: &config::Audit) -> String {
    format!("{}.{}", quoted(&config.schema), quoted(&config.table))
}

/// The arrays are those of [`super::encode`]; what comes behind them is the source's database. A key is there to look
/// changes up by: beyond what its column takes it is cut, the images have it whole.
pub(super) fn insert(name: &str) -> String {
    format!(
        "INSERT INTO {name} (\"before\", \"after\", \"context\", \"database\", \"schema\", \"table\", \"primary_key\", \
            \"operation\", \"committed_at\", \"queued_at\", \"created_at\", \"transaction_id\", \"position\", \"ordinal\", \
            \"fan_out\") \
         SELECT b::jsonb, a::jsonb, c::jsonb, $13::text, s, t, pg_catalog.left(k, 255), o, m::timestamptz, \
            pg_catalog.clock_timestamp(), pg_catalog.clock_timestamp(), x::bigint, p::bigint, n::bigint, f::int \
         FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], \
            $8::text[], $9::text[], $10::text[], $11::text[], $12::text[]) AS r (b, a, c, s, t, k, o, m, x, p, n, f) \
         ON CONFLICT DO NOTHING"
    )
}

/// With the same parameters: whether one of these changes is missing, as another one has its place. What was sent before is
/// there with its transaction and the time of its commit; changes of another cluster at the same position have others.
pub(super) fn others(name: &str) -> String {
    format!(
        "SELECT EXISTS (SELECT FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], \
            $7::text[], $8::text[], $9::text[], $10::text[], $11::text[], $12::text[]) \
                AS r (b, a, c, s, t, k, o, m, x, p, n, f) \
            WHERE NOT EXISTS (SELECT FROM {name} AS told WHERE told.\"position\" = r.p::bigint \
                AND told.\"table\" = r.t AND told.\"schema\" = r.s AND told.\"database\" = $13::text \
                AND told.\"operation\" = r.o AND told.\"ordinal\" = r.n::bigint AND told.\"fan_out\" = r.f::int \
                AND told.\"transaction_id\" = r.x::bigint AND told.\"committed_at\" = r.m::timestamptz))"
    )
}

pub(super) fn taken(name: &str, context: &SinkContext) -> Problem {
    let headline = format!("{name} at sink {} has another change in a change's place", context.sink);
    let help = "give the trail of each source a table of its own: `audit: { table: NAME }`";
    let cause = "changes of another cluster, or of this one before it was restored, whose database has the same name, \
                 are told there";
    Problem::new(TAKEN, Exit::Sink, headline, help).with_cause(cause)
}

/// Whether a change is the reason, so that others may be told.
pub(super) fn is_taken(error: &SinkError) -> bool {
    matches!(error, SinkError::Definite(problem) if problem.code == TAKEN)
}

/// $1 the context, $2 the source's database, $3 where the transaction commits.
pub(super) fn settle(name: &str) -> String {
    format!(
        "UPDATE {name} SET \"context\" = ($1::text)::jsonb \
         WHERE \"database\" = $2::text AND \"position\" = ($3::text)::bigint AND \"context\" = '{{}}'::jsonb"
    )
}

/// Makes the table with its indexes, or says how the one that is there has to be changed.
pub(super) async fn make(client: &Client, config: &config::Audit, context: &SinkContext) -> Result<(), SinkError> {
    if is_there(client, config, context).await? {
        return Ok(());
    }
    let failed = |error| error::of(&error, context);
    let schema = "SELECT pg_catalog.to_regnamespace($1::text) IS NOT NULL, (SELECT n.nspname::text \
        FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace \
        WHERE e.extname = 'uuid-ossp')";
    let row = client
        .query_one(schema, &[&quoted(&config.schema)])
        .await
        .map_err(failed)?;
    let mut statements = Vec::new();
    if !row.get::<_, bool>(0) {
        statements.push(format!("CREATE SCHEMA IF NOT EXISTS {}", quoted(&config.schema)));
    }
    let uuid = match row.get::<_, Option<&str>>(1) {
        Some(schema) => format!("{}.uuid_generate_v4()", quoted(schema)),
        None => "pg_catalog.gen_random_uuid()".to_owned(),
    };
    statements.extend(create(config, &uuid));
    // One string is one transaction: all of it is there or none.
    let made = client.batch_execute(&statements.join("; ")).await;
    made.map_err(|error| error::of_making(&error, context))?;
    tracing::info!(
        sink = context.sink,
        table = name(config),
        "the table of changes was made"
    );
    Ok(())
}

fn create(config: &config::Audit, uuid: &str) -> Vec<String> {
    let name = name(config);
    let columns: Vec<String> = COLUMNS
        .iter()
        .map(|(column, kind)| match *column {
            "id" => format!("\"id\" {kind} DEFAULT {uuid}"),
            _ => format!("{} {kind}", quoted(column)),
        })
        .collect();
    let mut statements = vec![
        format!("CREATE TABLE {name} ({})", columns.join(", ")),
        create_unique(config),
    ];
    if config.indexes {
        for column in ["committed_at", "primary_key", "table", "operation"] {
            let index = quoted(&format!("{}_{column}_index", config.table));
            statements.push(format!("CREATE INDEX {index} ON {name} ({})", quoted(column)));
        }
        for column in ["before", "after", "context"] {
            let index = quoted(&format!("{}_{column}_index", config.table));
            let column = quoted(column);
            statements.push(format!(
                "CREATE INDEX {index} ON {name} USING gin ({column} jsonb_path_ops)"
            ));
        }
    }
    statements
}

fn unique_name(config: &config::Audit) -> String {
    quoted(&format!(
        "{}_position_table_schema_database_operation_unique",
        config.table
    ))
}

fn create_unique(config: &config::Audit) -> String {
    let columns: Vec<String> = UNIQUE.iter().map(|column| quoted(column)).collect();
    format!(
        "CREATE UNIQUE INDEX {} ON {} ({})",
        unique_name(config),
        name(config),
        columns.join(", ")
    )
}

/// Whether there is a table that takes changes.
///
/// # Errors
/// One that doesn't, with the statements that make it do so.
pub(super) async fn is_there(
    client: &Client,
    config: &config::Audit,
    context: &SinkContext,
) -> Result<bool, SinkError> {
    let select = "SELECT ARRAY(SELECT attname::text FROM pg_catalog.pg_attribute \
            WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped), \
        ARRAY(SELECT pg_catalog.array_to_string(ARRAY(SELECT a.attname::text FROM pg_catalog.pg_attribute a \
                WHERE a.attrelid = c.oid AND a.attnum = ANY (i.indkey) ORDER BY 1), ' ') \
            FROM pg_catalog.pg_index i WHERE i.indrelid = c.oid AND i.indisunique AND NOT i.indisprimary) \
        FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
        WHERE n.nspname = $1::text AND c.relname = $2::text AND c.relkind IN ('r', 'p')";
    let row = client.query_opt(select, &[&config.schema, &config.table]).await;
    let Some(row) = row.map_err(|error| error::of(&error, context))? else {
        return Ok(false);
    };
    let (columns, uniques): (Vec<&str>, Vec<&str>) = (row.get(0), row.get(1));
    let missing: Vec<_> = COLUMNS
        .into_iter()
        .filter(|(column, _)| !columns.contains(column))
        .collect();
    let mut wanted = UNIQUE;
    wanted.sort_unstable();
    let wanted = wanted.join(" ");
    if missing.is_empty() && uniques == [wanted] {
        return Ok(true);
    }
    Err(shape(config, context, &missing).into())
}

fn shape(config: &config::Audit, context: &SinkContext, missing: &[(&str, &str)]) -> Problem {
    let table = name(config);
    let sink = &context.sink;
    let headline = format!(
        "{}.{} at sink {sink} isn't a table of changes",
        config.schema, config.table
    );
    let mut help = String::new();
    if !missing.is_empty() {
        let add = missing
            .iter()
            .map(|(column, kind)| format!("ADD COLUMN {} {kind}", quoted(column)));
        let add: Vec<String> = add.collect();
        help.push_str(&format!("ALTER TABLE {table} {}; ", add.join(", ")));
    }
    let unique = unique_name(config);
    help.push_str(&format!(
        "DROP INDEX IF EXISTS {}.{unique}; {}",
        quoted(&config.schema),
        create_unique(config)
    ));
    let names: Vec<&str> = missing.iter().map(|(column, _)| *column).collect();
    let cause = match names.is_empty() {
        true => "its one unique index besides the primary key has to be over what tells changes apart".to_owned(),
        false => format!("it lacks {}", names.join(", ")),
    };
    Problem::new(SHAPE, Exit::Sink, headline, help).with_cause(cause)
}
