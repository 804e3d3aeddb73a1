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

/// A host with this filter, without a config.
///
/// # Panics
///
/// Where the plugin refuses to start.
pub fn filter<F: Filter>() -> MockHost<FilterPlugin<F>> {
    started(MockHost::start(&nil()))
}

/// A host with this filter and what would stand under `config:`, or why it refuses.
pub fn filter_with<F: Filter>(config: impl Serialize) -> Result<MockHost<FilterPlugin<F>>> {
    MockHost::start(&rmp_serde::to_vec_named(&config)?)
}

/// A host with this transform, without a config.
///
/// # Panics
///
/// Where the plugin refuses to start.
pub fn transform<T: Transform>() -> MockHost<TransformPlugin<T>> {
    started(MockHost::start(&nil()))
}

/// A host with this transform and what would stand under `config:`, or why it refuses.
pub fn transform_with<T: Transform>(config: impl Serialize) -> Result<MockHost<TransformPlugin<T>>> {
    MockHost::start(&rmp_serde::to_vec_named(&config)?)
}

/// The JSON Schema of a config, as text.
pub fn config_schema<C: schemars::JsonSchema>() -> String {
    let schema = schemars::schema_for!(C);
    format!("{:#}\n", schema.as_value())
}

/// Compares `config.schema.json` in the crate's folder with the config's type; with `UPDATE_SCHEMA` set, writes it.
///
/// # Panics
///
/// Where they differ.
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
