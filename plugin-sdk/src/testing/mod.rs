//! Runs a plugin natively under `cargo test`, against a stand-in for the host, through the very encoding and decoding
//! that it has in production.
//!
//! ```
//! use rowmill_plugin::prelude::*;
//! use rowmill_plugin::{row, testing};
//!
//! #[filter(read(status))]
//! fn paid_only(row: &Row) -> Result<bool> {
//!     Ok(row.text("status")? == Some("paid"))
//! }
//!
//! let mut plugin = testing::filter::<paid_only>();
//! assert_eq!(plugin.matches(row! { id: 1, status: "paid" }), Ok(true));
//! assert_eq!(plugin.matches(row! { id: 2, status: "open" }), Ok(false));
//! ```
//!
//! A function under `#[filter]` or `#[transform]` is tested by its own name; so is a type with `#[plugin]`.

mod batch;
mod cuts;
mod entries;
mod event;
mod kinds;
mod mock_host;
mod outcome;
mod remembering;
mod replies;
mod sample;
mod script;
pub(crate) mod stand_in;

pub use event::{Event, commit, commit_at, message, truncate};
pub use mock_host::MockHost;
pub use outcome::Outcome;
pub use sample::{Cell, Sample, Table};

use crate::guest::{FilterPlugin, TransformPlugin};
use crate::{Filter, Result, Transform};
use rowmill_abi::Writer;
use serde::Serialize;

/// A host with a filter.
///
/// ```
/// use rowmill_plugin::prelude::*;
/// use rowmill_plugin::{row, testing};
///
/// #[filter(read(id))]
/// fn odd(row: &Row) -> Result<bool> {
///     Ok(row.int("id")?.is_some_and(|id| id % 2 == 1))
/// }
///
/// fn plugin() -> testing::FilterHost<odd> {
///     testing::filter()
/// }
///
/// assert_eq!(plugin().matches(row! { id: 2 }), Ok(false));
/// ```
pub type FilterHost<F> = MockHost<FilterPlugin<F>>;

/// A host with a transform, as [`FilterHost`].
///
/// ```
/// use rowmill_plugin::prelude::*;
/// use rowmill_plugin::{row, testing};
///
/// #[transform(read(total), write(total))]
/// fn doubled(row: &Row, patch: &mut Patch) -> Result<()> {
///     if let Some(total) = row.int("total")? {
///         patch.set("total", 2 * total);
///     }
///     Ok(())
/// }
///
/// fn plugin() -> testing::TransformHost<doubled> {
///     testing::transform()
/// }
///
/// assert_eq!(plugin().apply(row! { total: 2 }).row(), row! { total: 4 });
/// ```
pub type TransformHost<T> = MockHost<TransformPlugin<T>>;

/// A host with this filter, without a config.
///
/// # Panics
///
/// Where the plugin refuses to start.
///
/// ```
/// # use rowmill_plugin::prelude::*;
/// # use rowmill_plugin::{row, testing};
/// #[filter(read(id))]
/// fn odd(row: &Row) -> Result<bool> {
///     Ok(row.int("id")?.is_some_and(|id| id % 2 == 1))
/// }
///
/// assert_eq!(testing::filter::<odd>().matches(row! { id: 1 }), Ok(true));
/// ```
pub fn filter<F: Filter>() -> FilterHost<F> {
    started(MockHost::start(&nil()))
}

/// A host with this filter and what would stand under `config:`, or why it refuses.
///
/// ```
/// use rowmill_plugin::prelude::*;
/// use rowmill_plugin::{row, testing};
///
/// #[config]
/// struct Config {
///     least: i64,
/// }
///
/// struct Large(i64);
///
/// #[plugin]
/// impl Filter for Large {
///     type Config = Config;
///     type Table = ReadColumn;
///
///     fn new(config: Config) -> Result<Self> {
///         Ok(Self(config.least))
///     }
///
///     fn schema(&mut self, relation: &Relation) -> Result<Projection<ReadColumn>> {
///         let mut selection = Selection::of(relation);
///         let total = selection.read("total")?;
///         Ok(selection.with(total))
///     }
///
///     fn matches(&mut self, row: &Row, total: &ReadColumn) -> Result<bool> {
///         Ok(row.int(*total)? >= Some(self.0))
///     }
/// }
///
/// let mut plugin = testing::filter_with::<Large>(serde_json::json!({ "least": 100 })).unwrap();
/// assert_eq!(plugin.matches(row! { total: 250 }), Ok(true));
/// assert!(testing::filter_with::<Large>(serde_json::json!({ "most": 100 })).is_err());
/// ```
pub fn filter_with<F: Filter>(config: impl Serialize) -> Result<FilterHost<F>> {
    MockHost::start(&rmp_serde::to_vec_named(&config)?)
}

/// A host with this transform, without a config.
///
/// # Panics
///
/// Where the plugin refuses to start.
///
/// ```
/// # use rowmill_plugin::prelude::*;
/// # use rowmill_plugin::{row, testing};
/// #[transform(read(email), write(email))]
/// fn hide(row: &Row, patch: &mut Patch) -> Result<()> {
///     if row.text("email")?.is_some() {
///         patch.set("email", "***");
///     }
///     Ok(())
/// }
///
/// assert_eq!(testing::transform::<hide>().apply(row! { email: "a@b.c" }).row().text("email"), Some("***"));
/// ```
pub fn transform<T: Transform>() -> TransformHost<T> {
    started(MockHost::start(&nil()))
}

/// A host with this transform and what would stand under `config:`, or why it refuses.
///
/// ```
/// use rowmill_plugin::prelude::*;
/// use rowmill_plugin::{row, testing};
///
/// #[config]
/// struct Config {
///     with: String,
/// }
///
/// struct Hide(String);
///
/// #[plugin]
/// impl Transform for Hide {
///     type Config = Config;
///     type Table = WriteColumn;
///
///     fn new(config: Config) -> Result<Self> {
///         Ok(Self(config.with))
///     }
///
///     fn schema(&mut self, relation: &Relation) -> Result<Projection<WriteColumn>> {
///         let mut selection = Selection::of(relation);
///         let email = selection.write("email")?;
///         Ok(selection.with(email))
///     }
///
///     fn transform(&mut self, _: &Row, email: &WriteColumn, patch: &mut Patch) -> Result<()> {
///         patch.set(*email, self.0.as_str());
///         Ok(())
///     }
/// }
///
/// let mut plugin = testing::transform_with::<Hide>(serde_json::json!({ "with": "***" })).unwrap();
/// assert_eq!(plugin.apply(row! { email: "a@b.c" }).row(), row! { email: "***" });
/// ```
pub fn transform_with<T: Transform>(config: impl Serialize) -> Result<TransformHost<T>> {
    MockHost::start(&rmp_serde::to_vec_named(&config)?)
}

/// The JSON Schema of a config, as text.
///
/// ```
/// use rowmill_plugin::{config, testing};
///
/// #[config]
/// struct Config {
///     /// The least that is let through.
///     least: i64,
/// }
///
/// assert!(testing::config_schema::<Config>().contains("The least that is let through."));
/// ```
pub fn config_schema<C: schemars::JsonSchema>() -> String {
    let schema = schemars::schema_for!(C);
    format!("{:#}\n", schema.as_value())
}

/// Compares `config.schema.json` in the crate's folder with the config's type; with `UPDATE_SCHEMA` set, writes it.
///
/// # Panics
///
/// Where they differ.
///
/// ```no_run
/// # use rowmill_plugin::{config, testing};
/// # #[config]
/// # struct Config {
/// #     least: i64,
/// # }
/// #[test]
/// fn the_schema_is_up_to_date() {
///     testing::check_config_schema::<Config>(env!("CARGO_MANIFEST_DIR"));
/// }
/// ```
pub fn check_config_schema<C: schemars::JsonSchema>(manifest_dir: &str) {
    let path = std::path::Path::new(manifest_dir).join("config.schema.json");
    let schema = config_schema::<C>();
    if std::env::var_os("UPDATE_SCHEMA").is_some() {
        std::fs::write(&path, &schema).expect("the crate's folder can be written");
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(
        written, schema,
        "config.schema.json is out of date: run with UPDATE_SCHEMA=1"
    );
}

fn nil() -> Vec<u8> {
    let mut writer = Writer::new();
    writer.nil();
    writer.into_vec()
}

fn started<P: crate::guest::Plugin>(host: Result<MockHost<P>>) -> MockHost<P> {
    match host {
        Ok(host) => host,
        Err(error) => panic!("the plugin refuses to start: {error}"),
    }
}
