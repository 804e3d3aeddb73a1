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
///
/// ```
/// use rowmill_plugin::prelude::*;
/// use rowmill_plugin::{row, testing};
///
/// #[config]
/// struct Config {
///     /// The column that is compared.
///     column: String,
///     least: i64,
/// }
///
/// struct Large(Config);
///
/// #[plugin]
/// impl Filter for Large {
///     type Config = Config;
///     type Table = ReadColumn;
///
///     fn new(config: Config) -> Result<Self> {
///         Ok(Self(config))
///     }
///
///     fn schema(&mut self, relation: &Relation) -> Result<Projection<ReadColumn>> {
///         let mut selection = Selection::of(relation);
///         let column = selection.read(&self.0.column)?;
///         Ok(selection.with(column))
///     }
///
///     fn matches(&mut self, row: &Row, column: &ReadColumn) -> Result<bool> {
///         Ok(row.int(*column)? >= Some(self.0.least))
///     }
/// }
///
/// let config = serde_json::json!({ "column": "total", "least": 100 });
/// let mut plugin = testing::filter_with::<Large>(config).unwrap();
/// assert_eq!(plugin.matches(row! { id: 1, total: 250 }), Ok(true));
/// ```
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
///
/// ```
/// use rowmill_plugin::prelude::*;
/// use rowmill_plugin::{row, testing, types};
///
/// /// Adds a column with the time of the commit.
/// struct Stamped;
///
/// #[plugin]
/// impl Transform for Stamped {
///     type Table = WriteColumn;
///
///     fn new(_: ()) -> Result<Self> {
///         Ok(Self)
///     }
///
///     fn schema(&mut self, relation: &Relation) -> Result<Projection<WriteColumn>> {
///         let mut output = Output::like(relation);
///         output.add("committed_us", types::INT8, "bigint")?;
///         let mut selection = Selection::of(relation);
///         selection.output(output);
///         let column = selection.write("committed_us")?;
///         Ok(selection.with(column))
///     }
///
///     fn transform(&mut self, row: &Row, column: &WriteColumn, patch: &mut Patch) -> Result<()> {
///         patch.set(*column, row.transaction().commit_us);
///         Ok(())
///     }
/// }
///
/// let mut plugin = testing::transform::<Stamped>();
/// let stamped = plugin.at(5_000_000).apply(row! { id: 1 }).row();
/// assert_eq!(stamped, row! { id: 1, committed_us: 5_000_000 });
/// ```
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
