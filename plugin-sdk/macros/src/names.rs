//! Turns names of columns into places: `row.text("status")` becomes `row.text(ReadColumn::at(0))`.
//!
//! This works on tokens, not on syntax, so that it reaches into the arguments of macros such as `matches!`. What it
//! doesn't recognise (a row under another name, in a function that is called) keeps its name, which is looked up then.

use proc_macro2::{Delimiter, Group, Ident, TokenStream, TokenTree};
use quote::quote_spanned;
use syn::LitStr;

/// A variable whose methods take names of columns.
pub struct Subject<'a> {
    pub variable: &'a Ident,
    pub methods: &'static [&'static str],
    pub columns: &'a [LitStr],
    /// `read` or `write`.
    pub list: &'static str,
}

pub const ROW_METHODS: &[&str] = &[
    "value",
    "text",
    "int",
    "float",
    "bool",
    "bytes",
    "is_null",
    "get",
    "uuid",
    "date",
    "time",
    "time_tz",
    "timestamp",
    "timestamp_tz",
    "interval",
    "numeric",
    "json",
    "array",
    "range",
];
pub const PATCH_METHODS: &[&str] = &["set"];

pub fn resolve(tokens: TokenStream, subjects: &[Subject<'_>]) -> syn::Result<TokenStream> {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let mut resolved = Vec::with_capacity(tokens.len());
    for (at, token) in tokens.iter().enumerate() {
        let TokenTree::Group(group) = token else {
            resolved.push(token.clone());
            continue;
        };
        let called = subjects.iter().find(|subject| is_call(&tokens[..at], group, subject));
        let content = match called {
            Some(subject) => first_resolved(group.stream(), subject)?,
            None => group.stream(),
        };
        let mut inner = Group::new(group.delimiter(), resolve(content, subjects)?);
        inner.set_span(group.span());
        resolved.push(TokenTree::Group(inner));
    }
    Ok(resolved.into_iter().collect())
}

/// Whether `group` holds the arguments of `subject.method`, whose tokens come before it.
fn is_call(before: &[TokenTree], group: &Group, subject: &Subject<'_>) -> bool {
    let [
        ..,
        TokenTree::Ident(variable),
        TokenTree::Punct(dot),
        TokenTree::Ident(method),
    ] = before
    else {
        return false;
    };
    let is_field = matches!(before.iter().rev().nth(3), Some(TokenTree::Punct(dot)) if dot.as_char() == '.');
    group.delimiter() == Delimiter::Parenthesis
        && dot.as_char() == '.'
        && variable == subject.variable
        && !is_field
        && subject.methods.iter().any(|known| method == known)
}

/// The arguments with the first one, where it is a string literal, replaced by the column's place.
fn first_resolved(arguments: TokenStream, subject: &Subject<'_>) -> syn::Result<TokenStream> {
    let mut rest = arguments.clone().into_iter();
    let Some(TokenTree::Literal(literal)) = rest.next() else {
        return Ok(arguments);
    };
    let span = literal.span();
    let Ok(name) = syn::parse2::<LitStr>(TokenTree::Literal(literal).into()) else {
        return Ok(arguments);
    };
    let Some(position) = subject.columns.iter().position(|column| column.value() == name.value()) else {
        let list = subject.list;
        let message = format!("column `{}` isn't in `{list}(..)` of the attribute", name.value());
        return Err(syn::Error::new(span, message));
    };
    let position = position as u16;
    let kind = Ident::new(
        if subject.list == "read" {
            "ReadColumn"
        } else {
            "WriteColumn"
        },
        span,
    );
    let place = quote_spanned! { span => ::rowmill_plugin::#kind::at(#position) };
    Ok(place.into_iter().chain(rest).collect())
}
