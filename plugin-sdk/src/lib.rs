//! Write Rowmill plugins: filters and transforms of Postgres row changes, as small WebAssembly modules.
//!
//! The smallest filter and the smallest transform are one short function each:
//!
//! ```
//! # mod paid_only {
//! use rowmill_plugin::prelude::*;
//!
//! #[filter(read(status))]
//! fn paid_only(row: &Row) -> Result<bool> {
//!     Ok(row.text("status")? == Some("paid"))
//! }
//! # }
//! # mod lower_email {
//! # use rowmill_plugin::prelude::*;
//!
//! #[transform(read(email), write(email))]
//! fn lower_email(row: &Row, patch: &mut Patch) -> Result<()> {
//!     if let Some(email) = row.text("email")? {
//!         patch.set("email", email.to_lowercase());
//!     }
//!     Ok(())
//! }
//! # }
//! # fn main() {}
//! ```
//!
//! Names are resolved while compiling: a column that isn't declared doesn't compile, and a row costs no comparison of
//! names. A plugin with a configuration, or one that decides per table, is a type that implements [`Filter`] or
//! [`Transform`], with [`#[plugin]`](plugin) on the implementation.
//!
//! # Images
//!
//! A row that a plugin sees is one *image*: an update that comes with its old row is seen twice, old first. A column
//! may be *absent* from an old image (of which the server sent the key only), or *unchanged* (a large value that the
//! change left alone, so that the server didn't send it). Neither is NULL. An accessor such as [`Row::text`] answers
//! them with an error that names the column, and `?` makes a rejected change of that. [`Row::value`] has them as variants.
//!
//! - A filter isn't asked about an image in which a column that it reads is absent; the host decides then.
//! - A function under [`#[transform]`](transform) isn't called for an image in which it has nothing to write: every column
//!   that it writes is absent, or both read and unchanged. Where some are there and others aren't, it is called, and an
//!   accessor's error rejects the change, so that nothing leaves half masked.
//! - [`Transform::transform`] is called for every image, and so is a function that writes nothing.
//!
//! # Keeping something from row to row
//!
//! A field of the type is gone after a restart. What must stay is either state, which the plugin hands over as a whole
//! ([`Stateful`]), or entries by key, which the host keeps for it ([`Kv`]). Both are stored with the position that the
//! stream goes on at, so that each row counts once, whatever happens.
//!
//! # Tests
//!
//! The same plugin runs natively: see [`testing`].

#![deny(missing_docs)]

extern crate self as rowmill_plugin;

mod ascii;
mod batch;
mod config;
mod error;
#[doc(hidden)]
pub mod export;
#[doc(hidden)]
pub mod guest;
pub mod host;
mod kv;
#[doc(hidden)]
pub mod macro_support;
mod patch;
mod plugin;
pub mod postgres;
mod projection;
mod relation;
mod row;
mod rowless;
mod state;
#[cfg(not(target_arch = "wasm32"))]
pub mod testing;
mod value;
mod walk;

pub use error::{Error, Result};
pub use kv::{Kv, WithKv};
pub use patch::{Patch, WriteKey};
pub use plugin::{Filter, Transform};
pub use projection::{Output, OutputColumn, Projection, ReadColumn, Selection, WriteColumn};
pub use relation::{Column, Relation, types};
pub use row::{Image, Op, ReadKey, Row, Transaction};
pub use rowless::{Message, Truncate, Verdict};
pub use rowmill_plugin_macros::{config, filter, plugin, transform};
pub use state::Stateful;
pub use value::{ToValue, Value};

/// The codec that values are written with.
pub use rowmill_abi as abi;
/// What `#[config]` derives from.
#[doc(hidden)]
pub use {schemars, serde};

/// What nearly every plugin needs.
pub mod prelude {
    pub use crate::abi::{Reader, Writer};
    pub use crate::host::{self, Level};
    pub use crate::{
        Error, Filter, Image, Kv, Message, Op, Output, Patch, Projection, ReadColumn, Relation, Result, Row, Selection,
        Stateful, Transform, Truncate, Value, Verdict, WithKv, WriteColumn, config, filter, plugin, transform,
    };
}
