//! The two kinds of plugin.

use crate::projection::Projection;
use crate::relation::Relation;
use crate::row::Row;
use crate::{Message, Patch, Result, Truncate, Verdict};
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

    /// Whether messages are shown to it; for the macros.
    #[doc(hidden)]
    const MESSAGES: bool = false;
    /// Whether truncates are shown to it; for the macros.
    #[doc(hidden)]
    const TRUNCATES: bool = false;

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

    /// Whether a logical message goes on. An error rejects it. Where this is written, [`#[plugin]`](crate::plugin) has
    /// the manifest ask for messages; else the plugin sees none, and all go on.
    fn message(&mut self, message: &Message<'_>) -> Result<bool> {
        let _ = message;
        Ok(true)
    }

    /// A truncate comes by; it always goes on, unless an error rejects it. Where this is written,
    /// [`#[plugin]`](crate::plugin) has the manifest ask for truncates; else the plugin sees none.
    fn truncate(&mut self, truncate: &Truncate<'_>) -> Result<()> {
        let _ = truncate;
        Ok(())
    }
}

/// Changes rows.
///
/// It sees every image: a mask must be a mask of new, old and key alike.
pub trait Transform: Sized + 'static {
    /// What stands under `config:` in pipeline.yaml; `()` for none.
    type Config: DeserializeOwned + JsonSchema;
    /// What the plugin keeps per table, such as the columns it reads and writes.
    type Table: 'static;

    /// Whether messages are shown to it; for the macros.
    #[doc(hidden)]
    const MESSAGES: bool = false;
    /// Whether truncates are shown to it; for the macros.
    #[doc(hidden)]
    const TRUNCATES: bool = false;

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

    /// What becomes of a logical message. An error rejects it. Where this is written, [`#[plugin]`](crate::plugin) has
    /// the manifest ask for messages; else the plugin sees none, and all go on.
    fn message(&mut self, message: &Message<'_>) -> Result<Verdict> {
        let _ = message;
        Ok(Verdict::Pass)
    }

    /// What becomes of a truncate. An error rejects it. Where this is written, [`#[plugin]`](crate::plugin) has the
    /// manifest ask for truncates; else the plugin sees none, and all go on.
    fn truncate(&mut self, truncate: &Truncate<'_>) -> Result<Verdict> {
        let _ = truncate;
        Ok(Verdict::Pass)
    }
}
