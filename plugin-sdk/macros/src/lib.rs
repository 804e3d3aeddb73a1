//! The attribute macros of `rowmill-plugin`, which documents them.

#![deny(missing_docs)]

mod columns;
mod function;
mod manifest;
mod names;
mod structure;

use proc_macro::TokenStream;
use syn::parse_macro_input;

/// Makes a filter of a function: `#[filter(read(status))] fn paid_only(row: &Row) -> Result<bool>`.
///
/// `read(...)` names the columns that rows carry; a name that is no identifier is written as a string. In the function,
/// `row.text("status")` and its like find their column's place while compiling; another name is a compile error.
///
/// With `#[filter(read(status), kv)]` the function takes a second parameter, `kv: Kv`: the host's entries by key.
///
/// ```
/// use rowmill_plugin::prelude::*;
///
/// #[filter(read(status, "odd name"))]
/// fn paid_only(row: &Row) -> Result<bool> {
///     Ok(row.text("status")? == Some("paid") && !row.is_null("odd name")?)
/// }
/// # fn main() {}
/// ```
#[proc_macro_attribute]
pub fn filter(arguments: TokenStream, item: TokenStream) -> TokenStream {
    let columns = parse_macro_input!(arguments as columns::Columns);
    let function = parse_macro_input!(item as syn::ItemFn);
    function::filter(columns, function)
        .unwrap_or_else(syn::Error::into_compile_error)
        .into()
}

/// Makes a transform of a function:
/// `#[transform(read(email), write(email))] fn mask(row: &Row, patch: &mut Patch) -> Result<()>`.
///
/// `write(...)` names the columns that may be set. The function isn't called for images in which none of them has a
/// value that could be written; see the crate's documentation on images. Without `write(..)` it is called for every image,
/// and may drop the change, stop, or send the row elsewhere.
///
/// With `#[transform(read(..), write(..), kv)]` the function takes a third parameter, `kv: Kv`: the host's entries by key.
///
/// ```
/// use rowmill_plugin::prelude::*;
///
/// #[transform(read(email), write(email))]
/// fn lower_email(row: &Row, patch: &mut Patch) -> Result<()> {
///     if let Some(email) = row.text("email")? {
///         patch.set("email", email.to_lowercase());
///     }
///     Ok(())
/// }
/// # fn main() {}
/// ```
#[proc_macro_attribute]
pub fn transform(arguments: TokenStream, item: TokenStream) -> TokenStream {
    let columns = parse_macro_input!(arguments as columns::Columns);
    let function = parse_macro_input!(item as syn::ItemFn);
    function::transform(columns, function)
        .unwrap_or_else(syn::Error::into_compile_error)
        .into()
}

/// Makes the crate's plugin of a type: `#[plugin] impl Filter for Mine { .. }`, or `Transform`.
///
/// `type Config` and `type Table` are `()` where they are left out. `#[plugin(config_schema = "config.schema.json")]`
/// puts that file, relative to Cargo.toml, into the module, so that the host checks the config before it starts.
///
/// What else the manifest asks for:
///
/// - `#[plugin(state_version = 1, state_scope = "whole")]`: the type is `Stateful`, and the host keeps its state with the
///   position. A plugin that is `Stateful` without these doesn't compile.
/// - `#[plugin(kv)]`: `self.kv()` is there, the host's entries by key.
/// - A function `message` or `truncate` in the implementation: logical messages or truncates are shown to the plugin.
///
/// ```
/// use rowmill_plugin::prelude::*;
///
/// struct Everything;
///
/// #[plugin]
/// impl Filter for Everything {
///     fn new(_: ()) -> Result<Self> {
///         Ok(Self)
///     }
///
///     fn schema(&mut self, relation: &Relation) -> Result<Projection<()>> {
///         Ok(Selection::of(relation).with(()))
///     }
///
///     fn matches(&mut self, _: &Row, _: &()) -> Result<bool> {
///         Ok(true)
///     }
/// }
/// # fn main() {}
/// ```
#[proc_macro_attribute]
pub fn plugin(arguments: TokenStream, item: TokenStream) -> TokenStream {
    let arguments = parse_macro_input!(arguments as structure::Arguments);
    let implementation = parse_macro_input!(item as syn::ItemImpl);
    structure::plugin(arguments, implementation)
        .unwrap_or_else(syn::Error::into_compile_error)
        .into()
}

/// Derives what a config needs, `Deserialize` and `JsonSchema`, without a dependency on `serde` and `schemars` of the
/// plugin's own. Unknown keys are refused.
///
/// ```
/// use rowmill_plugin::config;
///
/// #[config]
/// struct Config {
///     /// The least that is let through.
///     least: i64,
///     #[serde(default)]
///     currency: Option<String>,
/// }
/// ```
#[proc_macro_attribute]
pub fn config(_: TokenStream, item: TokenStream) -> TokenStream {
    structure::config(item.into()).into()
}
