//! What the database holds of the selected tables, as its catalog has it now.
//!
//! The stream's own Relation messages say what a table was when its rows were written; this is only for what has to
//! be known before anything streams: which tables there are, whether they can be copied and published.
//!
//! ```text
//!   patterns --names.rs--> OIDs --load.rs--> Table, Column
//!   publication -----------^
//! ```

mod load;
mod names;
mod narrow;
mod types;

pub use types::types;

use crate::batch::{OwnType, ReplicaIdentity};
use crate::config::TablePattern;
use crate::problem::Problem;
use tokio_postgres::Client;

/// The tables that were selected, and what was selected but is none.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    /// By schema and name. A leaf whose partitioned table is selected too isn't listed: its rows are the root's.
    pub tables: Vec<Table>,
    /// Patterns without wildcards that match nothing.
    pub missing: Vec<TablePattern>,
    /// Patterns with wildcards that match nothing.
    pub unmatched: Vec<TablePattern>,
    /// Views and the like that a pattern matches.
    pub unsupported: Vec<Unsupported>,
}

/// Something that a pattern matches and that has no changes to stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsupported {
    pub schema: String,
    pub name: String,
    /// `schema.name` as SQL writes it.
    pub sql_name: String,
    /// `view`, `foreign table`, ..., in the words of the server's manual.
    pub kind: &'static str,
    /// Named as it is, rather than matched by a wildcard.
    pub by_name: bool,
}

/// A table, ordinary or partitioned.
#[derive(Clone, Debug)]
pub struct Table {
    pub oid: u32,
    pub schema: String,
    pub table: String,
    /// `schema.table` as SQL writes it, quoted where needed.
    pub sql_name: String,
    /// A partitioned table, without rows of its own.
    pub partitioned: bool,
    /// Itself a partition of another table.
    pub is_partition: bool,
    pub replica_identity: ReplicaIdentity,
    /// Whether the server can tell which row an UPDATE or DELETE meant. False where the identity is NOTHING, or
    /// rests on a primary key or index that isn't there or is deferrable.
    pub identity_usable: bool,
    /// A primary key that REPLICA IDENTITY DEFAULT can rest on: there, valid and immediate.
    pub default_identity: bool,
    /// An index that could be the identity where there is none, as SQL writes its name: unique, valid, immediate,
    /// over columns that are NOT NULL.
    pub identity_candidate: Option<String>,
    /// Below a partitioned table: the leaves that lack a usable identity of their own.
    pub leaves_without_identity: Vec<Leaf>,
    /// In the order of their numbers; dropped columns are left out.
    pub columns: Vec<Column>,
    /// The planner's estimate, leaves included; `None` where the table was never analysed.
    pub rows_estimated: Option<u64>,
    /// Bytes of heap and TOAST, leaves included, as of the last VACUUM where there was one.
    pub bytes_estimated: u64,
    /// Whether the role may read the table and use its schema.
    pub select_granted: bool,
    /// Whether the schema may be used; without it a SELECT privilege is worth nothing.
    pub usage_granted: bool,
    /// Row-level security applies to the role: it sees some rows only.
    pub row_security: bool,
    /// Whether the role may add the table to a publication, which its owner may.
    pub owned: bool,
    /// `pg_class.relfilenode`: another one behind a rewrite; 0 where the table has no rows of its own.
    pub file: u32,
    /// Its rows lie in a heap, the access method that Postgres itself brings (always number 2 of `pg_am`).
    pub heap: bool,
    /// A value may be stored out of line, and is then left out of updates that don't change it.
    pub toastable: bool,
    /// A serial or identity column draws from a sequence.
    pub has_sequence: bool,
    /// The adopted publication's, as SQL: other rows must not leave.
    pub row_filter: Option<String>,
    /// What `snapshot: where` asks of copied rows, as SQL.
    pub condition: Option<String>,
}

/// A partition that holds rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf {
    pub sql_name: String,
    /// It has a primary key that REPLICA IDENTITY DEFAULT can rest on.
    pub default_identity: bool,
}

/// A column of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    pub name: String,
    /// `pg_attribute.attnum`.
    pub number: i16,
    pub type_oid: u32,
    pub typmod: i32,
    /// As `format_type` writes it without the modifier, e.g. `integer`.
    pub type_name: String,
    pub nullable: bool,
    pub primary_key: bool,
    /// Part of the replica identity: the primary key, an index's columns, or every column.
    pub identity: bool,
    /// Computed by the server, and not streamed: servers from 18 on send stored ones where the publication says so.
    pub generated: bool,
    /// Its values may be stored out of line.
    pub toastable: bool,
    /// Not in the adopted publication's list: it must not leave.
    pub withheld: bool,
    /// What its type is in binary form where that is an enum or a domain of the database's own.
    pub own_type: Option<OwnType>,
}

impl Table {
    /// `schema.table`, for people; not quoted.
    pub fn full_name(&self) -> String {
        format!("{}.{}", self.schema, self.table)
    }

    /// The columns of the primary key, in column order.
    pub fn primary_key(&self) -> impl Iterator<Item = &Column> {
        self.columns.iter().filter(|column| column.primary_key)
    }
}

impl Catalog {
    /// Whether nothing at all was meant: not even a name that isn't there.
    pub fn is_empty(&self) -> bool {
        self.tables.is_empty() && self.missing.is_empty() && !self.unsupported.iter().any(|entry| entry.by_name)
    }

    pub fn table(&self, schema: &str, table: &str) -> Option<&Table> {
        self.tables
            .iter()
            .find(|known| known.schema == schema && known.table == table)
    }
}

/// Reads the tables that `patterns` select. System schemas match no wildcard.
pub async fn read(client: &Client, patterns: &[TablePattern]) -> Result<Catalog, Box<Problem>> {
    let found = names::matching(client, patterns).await?;
    Ok(Catalog {
        tables: load::tables(client, &found.oids).await?,
        missing: found.missing,
        unmatched: found.unmatched,
        unsupported: found.unsupported,
    })
}

/// Reads the tables whose changes a publication sends, under the names that it sends them with: leaves, or their
/// roots where it publishes via the root. Empty where there is no such publication.
pub async fn read_publication(client: &Client, name: &str) -> Result<Catalog, Box<Problem>> {
    let oids = names::published(client, name).await?;
    let mut tables = load::tables(client, &oids).await?;
    narrow::narrow(client, name, &mut tables).await?;
    Ok(Catalog {
        tables,
        ..Catalog::default()
    })
}

/// The tables of `patterns` where there are any, else those of the adopted publication, which may withhold columns and
/// rows of either.
pub async fn read_selected(
    client: &Client,
    patterns: &[TablePattern],
    publication: Option<&str>,
) -> Result<Catalog, Box<Problem>> {
    match publication {
        Some(name) if patterns.is_empty() => read_publication(client, name).await,
        Some(name) => {
            let mut catalog = read(client, patterns).await?;
            narrow::narrow(client, name, &mut catalog.tables).await?;
            Ok(catalog)
        }
        None => read(client, patterns).await,
    }
}

/// The OIDs of the tables that [`read_selected`] reads.
pub async fn selected(
    client: &Client,
    patterns: &[TablePattern],
    publication: Option<&str>,
) -> Result<Vec<u32>, Box<Problem>> {
    match publication {
        Some(name) if patterns.is_empty() => names::published(client, name).await,
        _ => Ok(names::matching(client, patterns).await?.oids),
    }
}

#[cfg(test)]
mod tests;
