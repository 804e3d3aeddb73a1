//! Tables of a live database, for tools that show them to a plugin or take samples of them.

use crate::batch::Relation;
use crate::config::TablePattern;
use crate::postgres::{Conninfo, install_crypto_provider, sql};
use crate::problem::{Exit, Problem};
use crate::source::catalog;
use std::sync::Arc;
use tokio_postgres::Client;

/// How the connections call themselves at the server.
const APPLICATION: &str = "rowmill_plugin";

/// An ordinary connection.
pub struct Live {
    pub(super) client: Client,
}

/// A table as the catalog has it now.
#[derive(Clone, Debug)]
pub struct LiveTable {
    pub relation: Arc<Relation>,
    /// `schema.table` as SQL writes it.
    pub sql_name: String,
    /// Without rows of its own.
    pub partitioned: bool,
    /// The publication's, as SQL: other rows must not leave.
    pub row_filter: Option<String>,
}

impl Live {
    /// # Errors
    ///
    /// A connection string that can't be used, a server that can't be reached.
    pub async fn connect(url: &str) -> Result<Self, Box<Problem>> {
        install_crypto_provider();
        let conninfo = Conninfo::parse(url).map_err(|error| Box::new(error.into()))?;
        let client = sql::connect(&conninfo, APPLICATION).await;
        let client = client.map_err(|error| Box::new(error.into()))?;
        Ok(Self { client })
    }

    /// The tables that are named, or those of a publication where none are. One that isn't there is an error.
    ///
    /// # Errors
    ///
    /// As the server has it; a name without a table.
    pub async fn tables(
        &self,
        patterns: &[TablePattern],
        publication: Option<&str>,
    ) -> Result<Vec<LiveTable>, Box<Problem>> {
        let found = catalog::read_selected(&self.client, patterns, publication).await?;
        if let Some(missing) = found.missing.first() {
            return Err(Box::new(no_table(&missing.to_string())));
        }
        let live = found.tables.iter().map(|table| LiveTable {
            relation: Arc::new(crate::runtime::relation_of(table)),
            sql_name: table.sql_name.clone(),
            partitioned: table.partitioned,
            row_filter: table.row_filter.clone(),
        });
        Ok(live.collect())
    }

    /// One table by its name, without what the publication withholds of it.
    ///
    /// # Errors
    ///
    /// As [`Self::tables`].
    pub async fn table(&self, name: &str, publication: Option<&str>) -> Result<LiveTable, Box<Problem>> {
        let pattern = pattern(name);
        let mut tables = self.tables(std::slice::from_ref(&pattern), publication).await?;
        match tables.pop() {
            Some(table) if tables.is_empty() => Ok(table),
            _ => Err(Box::new(no_table(name))),
        }
    }
}

/// `schema.table`, or a table of the schema `public`; only the first dot divides.
pub fn pattern(name: &str) -> TablePattern {
    let (schema, table) = name.split_once('.').unwrap_or(("public", name));
    TablePattern {
        schema: schema.to_owned(),
        table: table.to_owned(),
    }
}

fn no_table(name: &str) -> Problem {
    let headline = format!("the database has no table `{name}`");
    let help = "name one that `\\dt *.*` of psql shows, as schema.table";
    Problem::new(super::codes::NO_TABLE.code, Exit::Usage, headline, help)
}
