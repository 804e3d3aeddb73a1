use crate::projection::Projection;
use crate::relation::Relation;
use crate::row::Row;
use crate::{Message, Patch, Result, Truncate, Verdict};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;

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
    ///
    /// ```
    /// use rowmill_plugin::prelude::*;
    /// use rowmill_plugin::{row, testing};
    ///
    /// #[config]
    /// struct Config {
    ///     /// What stands in front of each name.
    ///     prefix: String,
    /// }
    ///
    /// struct Prefixed(Config);
    ///
    /// #[plugin]
    /// impl Transform for Prefixed {
    ///     type Config = Config;
    ///
    ///     fn new(config: Config) -> Result<Self> {
    ///         Ok(Self(config))
    ///     }
    ///
    ///     fn schema(&mut self, relation: &Relation) -> Result<Projection<()>> {
    ///         let mut output = Output::like(relation);
    ///         output.table.insert_str(0, &self.0.prefix);
    ///         let mut selection = Selection::of(relation);
    ///         selection.output(output);
    ///         Ok(selection.with(()))
    ///     }
    /// #     fn transform(&mut self, _: &Row, _: &(), _: &mut Patch) -> Result<()> {
    /// #         Ok(())
    /// #     }
    /// }
    ///
    /// let config = serde_json::json!({ "prefix": "raw_" });
    /// let mut plugin = testing::transform_with::<Prefixed>(config).unwrap();
    /// assert_eq!(plugin.apply(row! { id: 1 }).row(), row! { id: 1 });
    /// assert!(testing::transform_with::<Prefixed>(serde_json::json!({ "suffix": "_raw" })).is_err());
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

    /// Chooses what is read and written of a table, and its new shape. Called for each version of each table. An
    /// error refuses the table.
    ///
    /// ```
    /// use rowmill_plugin::prelude::*;
    /// use rowmill_plugin::{row, testing};
    ///
    /// /// Leaves out what nobody may see, wherever there is such a column. No row is looked at.
    /// struct WithoutPassword;
    ///
    /// #[plugin]
    /// impl Transform for WithoutPassword {
    /// #     fn new(_: ()) -> Result<Self> {
    /// #         Ok(Self)
    /// #     }
    ///     fn schema(&mut self, relation: &Relation) -> Result<Projection<()>> {
    ///         let mut output = Output::like(relation);
    ///         output.columns.retain(|column| column.name != "password");
    ///         let mut selection = Selection::of(relation);
    ///         selection.output(output);
    ///         Ok(selection.with(()))
    ///     }
    ///
    ///     fn transform(&mut self, _: &Row, _: &(), _: &mut Patch) -> Result<()> {
    ///         Ok(())
    ///     }
    /// }
    ///
    /// let mut plugin = testing::transform::<WithoutPassword>();
    /// assert_eq!(plugin.apply(row! { id: 1, password: "hunter2" }).row(), row! { id: 1 });
    /// ```
    fn schema(&mut self, relation: &Relation) -> Result<Projection<Self::Table>>;

    /// Changes one image of a row. An error rejects the change.
    ///
    /// Must not depend on where batches are cut.
    ///
    /// ```
    /// use rowmill_plugin::prelude::*;
    /// use rowmill_plugin::testing::{self, Outcome};
    /// use rowmill_plugin::row;
    ///
    /// /// What a plugin keeps of a table.
    /// struct Columns {
    ///     read: ReadColumn,
    ///     written: WriteColumn,
    /// }
    ///
    /// struct Rounded;
    ///
    /// #[plugin]
    /// impl Transform for Rounded {
    ///     type Table = Columns;
    ///
    /// #     fn new(_: ()) -> Result<Self> {
    /// #         Ok(Self)
    /// #     }
    ///     fn schema(&mut self, relation: &Relation) -> Result<Projection<Columns>> {
    ///         let mut selection = Selection::of(relation);
    ///         let read = selection.read("total")?;
    ///         let written = selection.write("total")?;
    ///         Ok(selection.with(Columns { read, written }))
    ///     }
    ///
    ///     fn transform(&mut self, row: &Row, columns: &Columns, patch: &mut Patch) -> Result<()> {
    ///         match row.int(columns.read)? {
    ///             Some(total) if total < 0 => patch.drop_change(),
    ///             Some(total) => patch.set(columns.written, total - total % 100),
    ///             None => {}
    ///         }
    ///         Ok(())
    ///     }
    /// }
    ///
    /// let mut plugin = testing::transform::<Rounded>();
    /// assert_eq!(plugin.apply(row! { total: 250 }).row(), row! { total: 200 });
    /// assert_eq!(plugin.apply(row! { total: -1 }), Outcome::Dropped);
    /// ```
    fn transform(&mut self, row: &Row<'_>, table: &Self::Table, patch: &mut Patch<'_>) -> Result<()>;

    /// What becomes of a logical message. An error rejects it. Where this is written, [`#[plugin]`](crate::plugin) has
    /// the manifest ask for messages; else the plugin sees none, and all go on.
    ///
    /// ```
    /// use rowmill_plugin::prelude::*;
    /// use rowmill_plugin::testing::{self, Outcome, message};
    ///
    /// /// Stops where the application says so.
    /// struct Halts;
    ///
    /// #[plugin]
    /// impl Transform for Halts {
    /// #     fn new(_: ()) -> Result<Self> {
    /// #         Ok(Self)
    /// #     }
    /// #     fn schema(&mut self, relation: &Relation) -> Result<Projection<()>> {
    /// #         Ok(Selection::of(relation).with(()))
    /// #     }
    /// #     fn transform(&mut self, _: &Row, _: &(), _: &mut Patch) -> Result<()> {
    /// #         Ok(())
    /// #     }
    ///     fn message(&mut self, message: &Message) -> Result<Verdict> {
    ///         Ok(match message.prefix {
    ///             "halt" => Verdict::Stop("the application asked for it".into()),
    ///             _ => Verdict::Drop,
    ///         })
    ///     }
    /// }
    ///
    /// let mut plugin = testing::transform::<Halts>();
    /// assert!(matches!(plugin.apply(message("halt", "")), Outcome::Stopped(_)));
    /// assert_eq!(plugin.apply(message("audit", "checked")), Outcome::Dropped);
    /// ```
    fn message(&mut self, message: &Message<'_>) -> Result<Verdict> {
        let _ = message;
        Ok(Verdict::Pass)
    }

    /// What becomes of a truncate. An error rejects it. Where this is written, [`#[plugin]`](crate::plugin) has the
    /// manifest ask for truncates; else the plugin sees none, and all go on.
    ///
    /// ```
    /// use rowmill_plugin::prelude::*;
    /// use rowmill_plugin::testing::{self, Outcome, truncate};
    /// use rowmill_plugin::{events, row};
    ///
    /// /// Keeps at the target what is truncated at the source.
    /// struct Archive;
    ///
    /// #[plugin]
    /// impl Transform for Archive {
    /// #     fn new(_: ()) -> Result<Self> {
    /// #         Ok(Self)
    /// #     }
    /// #     fn schema(&mut self, relation: &Relation) -> Result<Projection<()>> {
    /// #         Ok(Selection::of(relation).with(()))
    /// #     }
    /// #     fn transform(&mut self, _: &Row, _: &(), _: &mut Patch) -> Result<()> {
    /// #         Ok(())
    /// #     }
    ///     fn truncate(&mut self, _: &Truncate) -> Result<Verdict> {
    ///         Ok(Verdict::Drop)
    ///     }
    /// }
    ///
    /// let mut plugin = testing::transform::<Archive>();
    /// let outcomes = plugin.outcomes(&events![row! { id: 1 }, truncate(["sample"])]);
    /// assert_eq!(outcomes, [Outcome::Row(row! { id: 1 }), Outcome::Dropped]);
    /// ```
    fn truncate(&mut self, truncate: &Truncate<'_>) -> Result<Verdict> {
        let _ = truncate;
        Ok(Verdict::Pass)
    }
}
