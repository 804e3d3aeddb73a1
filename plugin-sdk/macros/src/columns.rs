//! `read(a, b), write("odd name"), kv`

use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::{Ident, LitStr, Token, parenthesized};

#[derive(Default)]
pub struct Columns {
    pub read: Vec<LitStr>,
    pub write: Vec<LitStr>,
    /// Whether the function is handed entries by key.
    pub kv: bool,
}

impl Parse for Columns {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let mut columns = Self::default();
        while !input.is_empty() {
            let which: Ident = input.parse()?;
            let list = match which.to_string().as_str() {
                "read" => &mut columns.read,
                "write" => &mut columns.write,
                "kv" => {
                    columns.kv = true;
                    comma(input)?;
                    continue;
                }
                _ => {
                    return Err(syn::Error::new(
                        which.span(),
                        "expected `read(..)`, `write(..)` or `kv`",
                    ));
                }
            };
            let names;
            parenthesized!(names in input);
            for name in Punctuated::<Name, Token![,]>::parse_terminated(&names)? {
                if list.iter().any(|known| known.value() == name.0.value()) {
                    return Err(syn::Error::new(name.0.span(), "this column is named twice"));
                }
                list.push(name.0);
            }
            comma(input)?;
        }
        Ok(columns)
    }
}

/// What stands between two arguments, and may stand behind the last.
pub fn comma(input: ParseStream<'_>) -> syn::Result<()> {
    if !input.is_empty() {
        input.parse::<Token![,]>()?;
    }
    Ok(())
}

/// A column, as identifier or string.
struct Name(LitStr);

impl Parse for Name {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        if input.peek(LitStr) {
            return input.parse().map(Self);
        }
        let ident = syn::ext::IdentExt::parse_any(input)?;
        let name: &Ident = &ident;
        Ok(Self(LitStr::new(
            name.to_string().trim_start_matches("r#"),
            name.span(),
        )))
    }
}
