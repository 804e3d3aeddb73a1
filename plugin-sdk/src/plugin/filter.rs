use crate::projection::Projection;
use crate::relation::Relation;
use crate::row::Row;
use crate::{Message, Result, Truncate};
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
    ///
    /// ```
    /// use rowmill_plugin::prelude::*;
    /// use rowmill_plugin::testing;
    ///
    /// #[config]
    /// struct Config {
    ///     /// Parts in a thousand that are let through.
    ///     share: u16,
    /// }
    ///
    /// struct Sampled(u16);
    ///
    /// #[plugin]
    /// impl Filter for Sampled {
    ///     type Config = Config;
    ///
    ///     fn new(config: Config) -> Result<Self> {
    ///         match config.share {
    ///             share @ 0..=1000 => Ok(Self(share)),
    ///             share => Err(Error::new(format!("a share of {share} in a thousand"))),
    ///         }
    ///     }
    /// #     fn schema(&mut self, relation: &Relation) -> Result<Projection<()>> {
    /// #         Ok(Selection::of(relation).with(()))
    /// #     }
    /// #     fn matches(&mut self, row: &Row, _: &()) -> Result<bool> {
    /// #         let mut bytes = [0; 2];
    /// #         row.random(&mut bytes);
    /// #         Ok(u16::from_le_bytes(bytes) % 1000 < self.0)
    /// #     }
    /// }
    ///
    /// let refusal = testing::filter_with::<Sampled>(serde_json::json!({ "share": 5000 })).err().unwrap();
    /// assert_eq!(refusal.reason(), "a share of 5000 in a thousand");
    /// ```
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
    ///
    /// ```
    /// use rowmill_plugin::prelude::*;
    /// use rowmill_plugin::{row, testing};
    ///
    /// struct Visible;
    ///
    /// #[plugin]
    /// impl Filter for Visible {
    ///     type Table = ReadColumn;
    ///
    /// #     fn new(_: ()) -> Result<Self> {
    /// #         Ok(Self)
    /// #     }
    ///     /// Tables that have no such column aren't shown to it: they cost nothing.
    ///     fn schema(&mut self, relation: &Relation) -> Result<Projection<ReadColumn>> {
    ///         if relation.column("hidden").is_none() {
    ///             return Ok(Projection::pass_by());
    ///         }
    ///         let mut selection = Selection::of(relation);
    ///         let hidden = selection.read("hidden")?;
    ///         Ok(selection.with(hidden))
    ///     }
    ///
    ///     fn matches(&mut self, row: &Row, hidden: &ReadColumn) -> Result<bool> {
    ///         Ok(row.bool(*hidden)? != Some(true))
    ///     }
    /// }
    ///
    /// let mut plugin = testing::filter::<Visible>();
    /// assert_eq!(plugin.matches(row! { id: 1 }), Ok(true));
    /// assert_eq!(plugin.matches(row! { id: 1, hidden: true }), Ok(false));
    /// ```
    fn schema(&mut self, relation: &Relation) -> Result<Projection<Self::Table>>;

    /// Whether the row is in the set. An error rejects the change.
    ///
    /// Must not depend on where batches are cut.
    ///
    /// ```
    /// use rowmill_plugin::prelude::*;
    /// use rowmill_plugin::{row, testing};
    ///
    /// /// Orders that cost something.
    /// struct Payable;
    ///
    /// #[plugin]
    /// impl Filter for Payable {
    ///     type Table = ReadColumn;
    ///
    /// #     fn new(_: ()) -> Result<Self> {
    /// #         Ok(Self)
    /// #     }
    /// #     fn schema(&mut self, relation: &Relation) -> Result<Projection<ReadColumn>> {
    /// #         let mut selection = Selection::of(relation);
    /// #         let total = selection.read("total")?;
    /// #         Ok(selection.with(total))
    /// #     }
    ///     fn matches(&mut self, row: &Row, total: &ReadColumn) -> Result<bool> {
    ///         match row.int(*total)? {
    ///             Some(total) if total < 0 => Err(Error::new("a negative total").with_code("range")),
    ///             total => Ok(total > Some(0)),
    ///         }
    ///     }
    /// }
    ///
    /// let mut plugin = testing::filter::<Payable>();
    /// assert_eq!(plugin.matches(row! { total: None::<i64> }), Ok(false));
    /// assert_eq!(plugin.matches(row! { total: -1 }).unwrap_err().code(), "range");
    /// ```
    fn matches(&mut self, row: &Row<'_>, table: &Self::Table) -> Result<bool>;

    /// Whether a logical message goes on. An error rejects it. Where this is written, [`#[plugin]`](crate::plugin) has
    /// the manifest ask for messages; else the plugin sees none, and all go on.
    ///
    /// ```
    /// use rowmill_plugin::prelude::*;
    /// use rowmill_plugin::testing::{self, message};
    ///
    /// /// Keeps what is for one's own use back.
    /// struct Public;
    ///
    /// #[plugin]
    /// impl Filter for Public {
    /// #     fn new(_: ()) -> Result<Self> {
    /// #         Ok(Self)
    /// #     }
    /// #     fn schema(&mut self, relation: &Relation) -> Result<Projection<()>> {
    /// #         Ok(Selection::of(relation).with(()))
    /// #     }
    /// #     fn matches(&mut self, _: &Row, _: &()) -> Result<bool> {
    /// #         Ok(true)
    /// #     }
    ///     fn message(&mut self, message: &Message) -> Result<bool> {
    ///         Ok(message.prefix != "internal")
    ///     }
    /// }
    ///
    /// let mut plugin = testing::filter::<Public>();
    /// assert_eq!(plugin.matches(message("audit", "checked")), Ok(true));
    /// assert_eq!(plugin.matches(message("internal", "checked")), Ok(false));
    /// ```
    fn message(&mut self, message: &Message<'_>) -> Result<bool> {
        let _ = message;
        Ok(true)
    }

    /// A truncate comes by; it always goes on, unless an error rejects it. Where this is written,
    /// [`#[plugin]`](crate::plugin) has the manifest ask for truncates; else the plugin sees none.
    ///
    /// ```
    /// use rowmill_plugin::prelude::*;
    /// use rowmill_plugin::testing::{self, truncate};
    /// use rowmill_plugin::{events, row};
    ///
    /// /// Lets the first two rows through, and begins anew when the table is emptied.
    /// struct FirstTwo(u64);
    ///
    /// #[plugin(state_version = 1, state_scope = "whole")]
    /// impl Filter for FirstTwo {
    /// #     fn new(_: ()) -> Result<Self> {
    /// #         Ok(Self(0))
    /// #     }
    /// #     fn schema(&mut self, relation: &Relation) -> Result<Projection<()>> {
    /// #         Ok(Selection::of(relation).with(()))
    /// #     }
    ///     fn matches(&mut self, _: &Row, _: &()) -> Result<bool> {
    ///         self.0 += 1;
    ///         Ok(self.0 <= 2)
    ///     }
    ///
    ///     fn truncate(&mut self, _: &Truncate) -> Result<()> {
    ///         self.0 = 0;
    ///         Ok(())
    ///     }
    /// }
    /// #
    /// # impl Stateful for FirstTwo {
    /// #     fn checkpoint(&self, state: &mut Writer) {
    /// #         state.uint(self.0);
    /// #     }
    /// #
    /// #     fn restore(&mut self, state: &[u8]) -> Result<()> {
    /// #         self.0 = Reader::new(state).uint()?;
    /// #         Ok(())
    /// #     }
    /// # }
    ///
    /// let mut plugin = testing::filter::<FirstTwo>();
    /// let row = || row! { id: 1 };
    /// let verdicts = plugin.verdicts(&events![row(), row(), row(), truncate(["sample"]), row()]);
    /// assert_eq!(verdicts, [Ok(true), Ok(true), Ok(false), Ok(true), Ok(true)]);
    /// ```
    fn truncate(&mut self, truncate: &Truncate<'_>) -> Result<()> {
        let _ = truncate;
        Ok(())
    }
}
