//! The custom section that the host reads before it compiles a module.

use proc_macro2::{Literal, Span, TokenStream};
use quote::quote;
use rowmill_abi::{ABI_VERSION, MANIFEST_SECTION, Writer, manifest as key};

/// What the macros know of a plugin besides what Cargo says.
pub struct Plugin<'a> {
    pub kind: &'a str,
    pub features: &'a [&'a str],
    pub config_schema: Option<&'a str>,
    /// Version and scope.
    pub state: Option<(u32, &'a str)>,
}

/// The section as an item of the crate that is compiled.
pub fn section(plugin: &Plugin<'_>) -> syn::Result<TokenStream> {
    let bytes = encode(plugin, &package("CARGO_PKG_NAME")?, &package("CARGO_PKG_VERSION")?);
    let (len, bytes) = (bytes.len(), Literal::byte_string(&bytes));
    Ok(quote! {
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            #[used]
            #[unsafe(link_section = #MANIFEST_SECTION)]
            static MANIFEST: [u8; #len] = *#bytes;
        };
    })
}

/// What Cargo says of the crate that is compiled.
pub fn package(variable: &str) -> syn::Result<String> {
    std::env::var(variable)
        .map_err(|_| syn::Error::new(Span::call_site(), format!("{variable} isn't set: build with cargo")))
}

fn encode(plugin: &Plugin<'_>, name: &str, version: &str) -> Vec<u8> {
    let mut writer = Writer::new();
    writer.map(if plugin.config_schema.is_some() { 9 } else { 8 });
    writer.str(key::ABI);
    writer.int(ABI_VERSION.into());
    writer.str(key::MIN_MINOR);
    writer.uint(0);
    for (name, value) in [(key::NAME, name), (key::VERSION, version), (key::KIND, plugin.kind)] {
        writer.str(name);
        writer.str(value);
    }
    writer.str(key::FEATURES);
    writer.array(plugin.features.len());
    plugin.features.iter().for_each(|feature| writer.str(feature));
    writer.str(key::STATE_VERSION);
    let (state_version, state_scope) = plugin.state.unwrap_or((0, key::SCOPE_NONE));
    writer.uint(state_version.into());
    writer.str(key::STATE_SCOPE);
    writer.str(state_scope);
    if let Some(schema) = plugin.config_schema {
        writer.str(key::CONFIG_SCHEMA);
        writer.str(schema);
    }
    writer.into_vec()
}
