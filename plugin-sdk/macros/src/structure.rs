//! Plugins that are a type.

use crate::columns::comma;
use crate::manifest::{self, Plugin};
use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use rowmill_abi::manifest::{
    FEATURE_KV, FEATURE_MESSAGES, FEATURE_TRUNCATES, KIND_FILTER, KIND_TRANSFORM, SCOPE_KEY, SCOPE_WHOLE,
};
use std::path::Path;
use syn::parse::{Parse, ParseStream};
use syn::{Ident, ImplItem, ItemImpl, LitInt, LitStr, Token, Type, parse_quote};

/// `config_schema = "config.schema.json", state_version = 1, state_scope = "key", kv`
#[derive(Default)]
pub struct Arguments {
    config_schema: Option<LitStr>,
    state_version: Option<LitInt>,
    state_scope: Option<LitStr>,
    kv: bool,
}

impl Parse for Arguments {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let mut arguments = Self::default();
        while !input.is_empty() {
            let name: Ident = input.parse()?;
            if name == "kv" {
                arguments.kv = true;
                comma(input)?;
                continue;
            }
            input.parse::<Token![=]>()?;
            match name.to_string().as_str() {
                "config_schema" => arguments.config_schema = Some(input.parse()?),
                "state_version" => arguments.state_version = Some(input.parse()?),
                "state_scope" => arguments.state_scope = Some(input.parse()?),
                _ => {
                    let expected = "expected `config_schema`, `state_version`, `state_scope` or `kv`";
                    return Err(syn::Error::new(name.span(), expected));
                }
            }
            comma(input)?;
        }
        Ok(arguments)
    }
}

impl Arguments {
    /// Version and scope, where the plugin has state.
    fn state(&self) -> syn::Result<Option<(u32, String)>> {
        let (version, scope) = match (&self.state_version, &self.state_scope) {
            (None, None) => return Ok(None),
            (Some(version), Some(scope)) => (version, scope),
            (Some(version), None) => return Err(syn::Error::new(version.span(), "state needs a `state_scope`, too")),
            (None, Some(scope)) => return Err(syn::Error::new(scope.span(), "state needs a `state_version`, too")),
        };
        if !matches!(scope.value().as_str(), SCOPE_KEY | SCOPE_WHOLE) {
            return Err(syn::Error::new(scope.span(), "expected \"key\" or \"whole\""));
        }
        match version.base10_parse::<u32>()? {
            number @ 1..=0x7fff_ffff => Ok(Some((number, scope.value()))),
            _ => Err(syn::Error::new(version.span(), "a version is 1 or more")),
        }
    }
}

pub fn plugin(arguments: Arguments, mut implementation: ItemImpl) -> syn::Result<TokenStream> {
    let wrong = "put `#[plugin]` on `impl Filter for ..` or `impl Transform for ..`";
    let name = implementation
        .trait_
        .as_ref()
        .and_then(|(_, path, _)| path.segments.last());
    let (kind, adapter) = match name.map(|segment| segment.ident.to_string()).as_deref() {
        Some("Filter") => (KIND_FILTER, format_ident!("FilterPlugin")),
        Some("Transform") => (KIND_TRANSFORM, format_ident!("TransformPlugin")),
        _ => return Err(syn::Error::new_spanned(&implementation, wrong)),
    };
    for defaulted in ["Config", "Table"] {
        let is_there = |item: &ImplItem| matches!(item, ImplItem::Type(item) if item.ident == defaulted);
        if implementation.items.iter().any(is_there) {
            continue;
        }
        let name = format_ident!("{defaulted}");
        implementation.items.push(parse_quote! { type #name = (); });
        if defaulted == "Config" {
            // Without what reads configs, the module is a third of its size.
            implementation.items.push(parse_quote! {
                fn start(config: &[u8]) -> ::rowmill_plugin::Result<Self> {
                    ::rowmill_plugin::macro_support::no_config(config)?;
                    Self::new(())
                }
            });
        }
    }
    let features = features(&arguments, &mut implementation);
    let state = arguments.state()?;
    if state.is_some() {
        implementation.items.push(parse_quote! {
            fn stateful(&mut self) -> Option<&mut dyn ::rowmill_plugin::Stateful> {
                Some(self)
            }
        });
    }
    let stateful = state.as_ref().map(|_| quote! { , stateful });
    let state = state.as_ref().map(|(version, scope)| (*version, scope.as_str()));
    let plugin = &implementation.self_ty;
    let (schema, tracked) = read_schema(arguments.config_schema.as_ref())?;
    let section = manifest::section(&Plugin {
        kind,
        features: &features,
        config_schema: schema.as_deref(),
        state,
    })?;
    let unnoticed = state.is_none().then(|| no_state(plugin));
    let kv = arguments
        .kv
        .then(|| quote! { impl ::rowmill_plugin::WithKv for #plugin {} });
    Ok(quote! {
        #implementation
        ::rowmill_plugin::export!(::rowmill_plugin::guest::#adapter<#plugin> #stateful);
        #section
        #tracked
        #unnoticed
        #kv
    })
}

/// What the manifest asks for: entries by key where the attribute says so, messages and truncates where there is a
/// function for them, which then is called.
fn features(arguments: &Arguments, implementation: &mut ItemImpl) -> Vec<&'static str> {
    let mut features = Vec::new();
    if arguments.kv {
        features.push(FEATURE_KV);
    }
    for (function, constant, feature) in [
        ("message", "MESSAGES", FEATURE_MESSAGES),
        ("truncate", "TRUNCATES", FEATURE_TRUNCATES),
    ] {
        let is_it = |item: &ImplItem| matches!(item, ImplItem::Fn(item) if item.sig.ident == function);
        if implementation.items.iter().any(is_it) {
            let constant = format_ident!("{constant}");
            implementation
                .items
                .push(parse_quote! { const #constant: bool = true; });
            features.push(feature);
        }
    }
    features
}

/// Fails to compile where a plugin without the attribute's arguments for state implements `Stateful`: nobody would ask
/// it for its state. An associated constant of the type's own goes before that of a trait.
fn no_state(plugin: &Type) -> TokenStream {
    quote! {
        const _: () = {
            trait Stateless {
                const IS_STATEFUL: bool = false;
            }
            struct Probe<T>(::std::marker::PhantomData<T>);
            impl<T> Stateless for Probe<T> {}
            #[allow(dead_code)]
            impl<T: ::rowmill_plugin::Stateful> Probe<T> {
                const IS_STATEFUL: bool = true;
            }
            assert!(
                !Probe::<#plugin>::IS_STATEFUL,
                "a plugin that is `Stateful` needs `#[plugin(state_version = 1, state_scope = \"whole\")]`, or its state is never kept",
            );
        };
    }
}

/// The file's content, and an item by which a change of the file has the crate built again.
fn read_schema(file: Option<&LitStr>) -> syn::Result<(Option<String>, TokenStream)> {
    let Some(file) = file else {
        return Ok((None, TokenStream::new()));
    };
    let path = Path::new(&manifest::package("CARGO_MANIFEST_DIR")?).join(file.value());
    // A test may be what writes it: then the module has none until it is built again.
    let schema = std::fs::read_to_string(&path)
        .map_err(|error| syn::Error::new(file.span(), format!("{}: {error}", path.display())))?;
    let path = path.display().to_string();
    Ok((Some(schema), quote! { const _: &[u8] = include_bytes!(#path); }))
}

pub fn config(item: TokenStream) -> TokenStream {
    quote! {
        #[derive(::rowmill_plugin::serde::Deserialize, ::rowmill_plugin::schemars::JsonSchema)]
        #[serde(crate = "::rowmill_plugin::serde", deny_unknown_fields)]
        #[schemars(crate = "::rowmill_plugin::schemars")]
        #item
    }
}
