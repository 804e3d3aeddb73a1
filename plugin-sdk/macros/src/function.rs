//! Plugins that are one function.

use crate::columns::Columns;
use crate::manifest::{self, Plugin};
use crate::names::{PATCH_METHODS, ROW_METHODS, Subject, resolve};
use proc_macro2::TokenStream;
use quote::quote;
use rowmill_abi::manifest::{FEATURE_KV, KIND_FILTER, KIND_TRANSFORM};
use syn::{FnArg, Ident, ItemFn, LitStr, Pat};

pub fn filter(columns: Columns, function: ItemFn) -> syn::Result<TokenStream> {
    if let Some(column) = columns.write.first() {
        return Err(syn::Error::new(column.span(), "a filter writes nothing"));
    }
    let row = match columns.kv {
        false => parameters::<1>(&function, "a filter takes one parameter: `row: &Row`")?[0].clone(),
        true => parameters::<2>(
            &function,
            "with `kv` a filter takes two parameters: `row: &Row, kv: Kv`",
        )?[0]
            .clone(),
    };
    let kv = declared(&columns);
    let read = &columns.read;
    let function = rewritten(&function, &[row_subject(&row, read)])?;
    let name = &function.sig.ident;
    let implementation = quote! {
        impl ::rowmill_plugin::Filter for #name {
            type Config = ();
            type Table = ();

            fn new(_: ()) -> ::rowmill_plugin::Result<Self> {
                Ok(Self {})
            }

            fn start(config: &[u8]) -> ::rowmill_plugin::Result<Self> {
                ::rowmill_plugin::macro_support::no_config(config)?;
                Self::new(())
            }

            fn schema(
                &mut self,
                relation: &::rowmill_plugin::Relation,
            ) -> ::rowmill_plugin::Result<::rowmill_plugin::Projection<()>> {
                ::rowmill_plugin::macro_support::select_read(relation, &[#(#read),*])
            }

            #[inline]
            fn matches(&mut self, row: &::rowmill_plugin::Row<'_>, _: &()) -> ::rowmill_plugin::Result<bool> {
                #name(row #kv)
            }
        }
        ::rowmill_plugin::export!(::rowmill_plugin::guest::FilterPlugin<#name>);
    };
    assembled(&function, KIND_FILTER, &columns, implementation)
}

pub fn transform(columns: Columns, function: ItemFn) -> syn::Result<TokenStream> {
    let [row, patch] = match columns.kv {
        false => parameters(
            &function,
            "a transform takes two parameters: `row: &Row, patch: &mut Patch`",
        )?,
        true => {
            let expected = "with `kv` a transform takes three parameters: `row: &Row, patch: &mut Patch, kv: Kv`";
            let [row, patch, _] = parameters(&function, expected)?;
            [row, patch]
        }
    };
    let kv = declared(&columns);
    let Columns { read, write, .. } = &columns;
    let patch = Subject {
        variable: &patch,
        methods: PATCH_METHODS,
        columns: write,
        list: "write",
    };
    let function = rewritten(&function, &[row_subject(&row, read), patch])?;
    let name = &function.sig.ident;
    let written = write.iter().map(|column| written(column, &columns));
    // One that writes nothing may drop, route or stop: it is asked about every image.
    let nothing_to_write = (!write.is_empty()).then(|| {
        quote! {
            if ::rowmill_plugin::macro_support::nothing_to_write(row, *table, &[#(#written),*]) {
                return Ok(());
            }
        }
    });
    let implementation = quote! {
        impl ::rowmill_plugin::Transform for #name {
            type Config = ();
            type Table = ::rowmill_plugin::macro_support::Written;

            fn new(_: ()) -> ::rowmill_plugin::Result<Self> {
                Ok(Self {})
            }

            fn start(config: &[u8]) -> ::rowmill_plugin::Result<Self> {
                ::rowmill_plugin::macro_support::no_config(config)?;
                Self::new(())
            }

            fn schema(
                &mut self,
                relation: &::rowmill_plugin::Relation,
            ) -> ::rowmill_plugin::Result<::rowmill_plugin::Projection<::rowmill_plugin::macro_support::Written>> {
                ::rowmill_plugin::macro_support::select_write(relation, &[#(#read),*], &[#(#write),*])
            }

            #[inline]
            fn transform(
                &mut self,
                row: &::rowmill_plugin::Row<'_>,
                table: &::rowmill_plugin::macro_support::Written,
                patch: &mut ::rowmill_plugin::Patch<'_>,
            ) -> ::rowmill_plugin::Result<()> {
                let _ = table;
                #nothing_to_write
                #name(row, patch #kv)
            }
        }
        ::rowmill_plugin::export!(::rowmill_plugin::guest::TransformPlugin<#name>);
    };
    assembled(&function, KIND_TRANSFORM, &columns, implementation)
}

/// The argument that follows, where the function is handed entries by key.
fn declared(columns: &Columns) -> TokenStream {
    match columns.kv {
        true => quote! { , ::rowmill_plugin::Kv::declared() },
        false => TokenStream::new(),
    }
}

/// The place of a written column among those that rows carry, where the function reads it as well.
fn written(column: &LitStr, columns: &Columns) -> TokenStream {
    let place = columns.read.iter().position(|read| read.value() == column.value());
    match place.map(|place| place as u16) {
        Some(place) => quote! { Some(#place) },
        None => quote! { None },
    }
}

fn row_subject<'a>(row: &'a Ident, read: &'a [LitStr]) -> Subject<'a> {
    Subject {
        variable: row,
        methods: ROW_METHODS,
        columns: read,
        list: "read",
    }
}

/// The names of the parameters, of which there must be `N`.
fn parameters<const N: usize>(function: &ItemFn, expected: &str) -> syn::Result<[Ident; N]> {
    let wrong = || syn::Error::new_spanned(&function.sig, expected);
    let mut names = Vec::new();
    for parameter in &function.sig.inputs {
        let FnArg::Typed(parameter) = parameter else {
            return Err(wrong());
        };
        match &*parameter.pat {
            Pat::Ident(name) => names.push(name.ident.clone()),
            Pat::Wild(wild) => names.push(Ident::new("_unused", wild.underscore_token.span)),
            _ => return Err(wrong()),
        }
    }
    names.try_into().map_err(|_| wrong())
}

/// The function with the names of columns turned into places.
fn rewritten(function: &ItemFn, subjects: &[Subject<'_>]) -> syn::Result<ItemFn> {
    let block = &function.block;
    let block = syn::parse2(resolve(quote! { #block }, subjects)?)?;
    Ok(ItemFn {
        block: Box::new(block),
        ..function.clone()
    })
}

/// The function, a type of the same name (types and functions don't share names), and what makes a plugin of it.
fn assembled(
    function: &ItemFn,
    kind: &str,
    columns: &Columns,
    implementation: TokenStream,
) -> syn::Result<TokenStream> {
    let (name, visibility) = (&function.sig.ident, &function.vis);
    let doc = format!("The plugin that the function `{name}` is.");
    let section = manifest::section(&Plugin {
        kind,
        features: if columns.kv { &[FEATURE_KV] } else { &[] },
        config_schema: None,
        state: None,
    })?;
    Ok(quote! {
        // It has one caller, the loop over the rows.
        #[inline(always)]
        #function

        #[doc = #doc]
        #[allow(non_camel_case_types)]
        #visibility struct #name {}

        #implementation
        #section
    })
}
