//! The two kinds of plugin.

use crate::projection::Projection;
use crate::relation::Relation;
use crate::row::Row;
use crate::{Patch, Result};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;

/// Says which rows belong to a set.
///
/// A filter means membership: the host makes inserts, updates and deletes out of what it says of old and new images,
/// so that no row stays behind that left the set. An image that lacks a column that is read isn't shown to it.
pub trait Filter: Sized + 'static {
    /// What stands under `config:` in pipeline.yaml; `()` for none.
    type Config: DeserializeOwned + JsonSchema;
    /// What the plugin keeps per table, such as the columns it reads.
    type Table: 'static;

    /// An error refuses the plugin.
    fn new(config: Self::Config) -> Result<Self>;

    /// Reads the config; for the macros, which know where there is none to read.
    #[doc(hidden)]
    fn start(config: &[u8]) -> Result<Self> {
        Self::new(crate::config::read(config)?)
    }

    /// Where the plugin has state; for the macros.
    #[doc(hidden)]
    fn stateful(&mut self) -> Option<&mut dyn crate::Stateful> {
        None
    }

    /// Chooses what is read of a table. Called for each version of each table. An error refuses the table.
    fn schema(&mut self, relation: &Relation) -> Result<Projection<Self::Table>>;

    /// Whether the row is in the set. An error rejects the change.
    ///
    /// Must not depend on where batches are cut.
    fn matches(&mut self, row: &Row<'_>, table: &Self::Table) -> Result<bool>;
}

/// Changes rows.
///
/// It sees every image: a mask must be a mask of new, old and key alike.
pub trait Transform: Sized + 'static {
    /// What stands under `config:` in pipeline.yaml; `()` for none.
    type Config: DeserializeOwned + JsonSchema;
    /// What the plugin keeps per table, such as the columns it reads and writes.
    type Table: 'static;

    /// An error refuses the plugin.
    fn new(config: Self::Config) -> Result<Self>;

    /// Reads the config; for the macros, which know where there is none to read.
    #[doc(hidden)]
    fn start(config: &[u8]) -> Result<Self> {
        Self::new(crate::config::read(config)?)
    }

    /// Where the plugin has state; for the macros.
    #[doc(hidden)]
    fn stateful(&mut self) -> Option<&mut dyn crate::Stateful> {
        None
    }

    /// Chooses what is read and written of a table, and its new shape. Called for each version of each table. An
    /// error refuses the table.
    fn schema(&mut self, relation: &Relation) -> Result<Projection<Self::Table>>;

    /// Changes one image of a row. An error rejects the change.
    ///
    /// Must not depend on where batches are cut.
    fn transform(&mut self, row: &Row<'_>, table: &Self::Table, patch: &mut Patch<'_>) -> Result<()>;
}
