//! Every public item has an example in its documentation, which `cargo test --doc` runs.
//!
//! The compiler's own lint for that (`missing_doc_code_examples`) isn't stable, and passes traits' functions over. So the
//! sources are read: what can be named from outside is what stands in a public module, or is re-exported from one. Fields,
//! variants, constants and modules need no example of their own.

use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens;
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use syn::{Attribute, ImplItem, Item, TraitItem, UseTree, Visibility};

#[test]
fn every_public_item_has_an_example() {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR"));
    let sdk = Crate::read(&sources.join("src/lib.rs"));
    assert_eq!(sdk.without_example(), Vec::<String>::new());
    let macros = Crate::read(&sources.join("macros/src/lib.rs"));
    assert_eq!(macros.without_example(), Vec::<String>::new());
}

#[test]
fn what_has_none_is_found() {
    let shown = r#"
        /// ```
        /// ```
        pub struct Shown;
        impl Shown {
            pub fn bare(&self) {}
            /// ```
            /// ```
            pub fn shown(&self) {}
            #[doc(hidden)]
            pub fn hidden(&self) {}
            fn private(&self) {}
        }
        pub struct Unreachable;
        pub(crate) struct Private;
        /// ```
        /// ```
        pub trait Asks { fn asked(&self); const SIZE: usize; }
        macro_rules! made {
            () => { /** ``` */ pub fn shown_too() {} pub fn bare_too() {} };
        }
    "#;
    let read = Crate {
        files: vec![(
            Place {
                path: PathBuf::from("shown.rs"),
                is_public: false,
            },
            syn::parse_file(shown).unwrap().items,
        )],
        exported: ["Shown", "Asks"].map(str::to_owned).into(),
    };
    assert_eq!(
        read.without_example(),
        ["shown.rs: Shown::bare", "shown.rs: Asks::asked", "shown.rs: bare_too"]
    );
}

/// The sources of a crate, but for its tests and hidden modules.
struct Crate {
    files: Vec<(Place, Vec<Item>)>,
    /// Names that public modules re-export.
    exported: HashSet<String>,
}

struct Place {
    path: PathBuf,
    /// Whether all that is `pub` in it can be named from outside.
    is_public: bool,
}

impl Crate {
    fn read(root: &Path) -> Self {
        let mut read = Self {
            files: Vec::new(),
            exported: HashSet::new(),
        };
        let (of, items) = (root.parent().unwrap(), items(root));
        read.module(root, of, items, true);
        read
    }

    /// Takes in a module and those below it; `folder` is where theirs are.
    fn module(&mut self, path: &Path, folder: &Path, items: Vec<Item>, is_public: bool) {
        let mut own = Vec::new();
        for item in items {
            match item {
                Item::Mod(module) if is_hidden(&module.attrs) || is_test(&module.attrs) => {}
                Item::Mod(module) => {
                    let (name, is_public) = (module.ident.to_string(), is_public && is_pub(&module.vis));
                    let folder = folder.join(&name);
                    match module.content {
                        Some((_, items)) => self.module(path, &folder, items, is_public),
                        None => {
                            let beside = folder.with_extension("rs");
                            let path = if beside.exists() { beside } else { folder.join("mod.rs") };
                            self.module(&path, &folder, self::items(&path), is_public);
                        }
                    }
                }
                Item::Use(used) if is_public && is_pub(&used.vis) && !is_hidden(&used.attrs) => {
                    names(&used.tree, &mut self.exported);
                }
                item => own.push(item),
            }
        }
        let path = path.to_owned();
        self.files.push((Place { path, is_public }, own));
    }

    /// Where an example is missing.
    fn without_example(&self) -> Vec<String> {
        let mut bare = Vec::new();
        for (place, items) in &self.files {
            let file = place
                .path
                .strip_prefix(env!("CARGO_MANIFEST_DIR"))
                .unwrap_or(&place.path);
            let mut found = Vec::new();
            for item in items {
                self.item(item, place, &mut found);
            }
            bare.extend(found.into_iter().map(|name| format!("{}: {name}", file.display())));
        }
        bare
    }

    fn item(&self, item: &Item, place: &Place, bare: &mut Vec<String>) {
        let is_named = |name: &str| place.is_public || self.exported.contains(name);
        let mut of = |name: String, vis: &Visibility, attributes: &[Attribute]| {
            if is_pub(vis) && is_named(&name) && !is_shown(attributes) {
                bare.push(name);
            }
        };
        match item {
            Item::Struct(item) => of(item.ident.to_string(), &item.vis, &item.attrs),
            Item::Enum(item) => of(item.ident.to_string(), &item.vis, &item.attrs),
            Item::Union(item) => of(item.ident.to_string(), &item.vis, &item.attrs),
            Item::Type(item) => of(item.ident.to_string(), &item.vis, &item.attrs),
            Item::Fn(item) => of(item.sig.ident.to_string(), &item.vis, &item.attrs),
            Item::Trait(item) => {
                let name = item.ident.to_string();
                of(name.clone(), &item.vis, &item.attrs);
                if !is_pub(&item.vis) || is_hidden(&item.attrs) || !is_named(&name) {
                    return;
                }
                for part in &item.items {
                    if let TraitItem::Fn(function) = part
                        && !is_shown(&function.attrs)
                    {
                        bare.push(format!("{name}::{}", function.sig.ident));
                    }
                }
            }
            Item::Impl(item) if item.trait_.is_none() => {
                let name = match &*item.self_ty {
                    syn::Type::Path(path) => path.path.segments.last().map(|last| last.ident.to_string()),
                    _ => None,
                };
                let Some(name) = name.filter(|name| is_named(name)) else {
                    return;
                };
                for part in &item.items {
                    if let ImplItem::Fn(function) = part
                        && is_pub(&function.vis)
                        && !is_shown(&function.attrs)
                    {
                        bare.push(format!("{name}::{}", function.sig.ident));
                    }
                }
            }
            Item::Macro(item) => {
                let is_exported = item
                    .attrs
                    .iter()
                    .any(|attribute| attribute.path().is_ident("macro_export"));
                match &item.ident {
                    Some(name) if is_exported && !is_shown(&item.attrs) => bare.push(format!("{name}!")),
                    // What it makes can be public where it itself isn't.
                    Some(_) if !is_exported => made(item.mac.tokens.clone(), bare),
                    _ => {}
                }
            }
            _ => {}
        }
    }
}

/// The functions that a macro of the crate's own makes, where it writes `pub fn`.
fn made(tokens: TokenStream, bare: &mut Vec<String>) {
    let mut is_shown = false;
    let mut is_pub = false;
    let mut is_function = false;
    for token in tokens {
        match token {
            TokenTree::Group(group) => {
                let text = group.stream().to_string();
                if text.starts_with("doc") {
                    is_shown |= text.contains("```") || text.contains("hidden");
                } else {
                    made(group.stream(), bare);
                    (is_shown, is_pub, is_function) = (false, false, false);
                }
            }
            TokenTree::Ident(word) if is_function => {
                if !is_shown {
                    bare.push(word.to_string());
                }
                (is_shown, is_pub, is_function) = (false, false, false);
            }
            TokenTree::Ident(word) => match word.to_string().as_str() {
                "pub" => is_pub = true,
                "fn" => is_function = is_pub,
                "const" | "async" | "unsafe" => {}
                _ => is_pub = false,
            },
            TokenTree::Punct(mark) if mark.as_char() == ';' => (is_shown, is_pub) = (false, false),
            _ => {}
        }
    }
}

fn items(path: &Path) -> Vec<Item> {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    syn::parse_file(&text).unwrap().items
}

fn names(tree: &UseTree, into: &mut HashSet<String>) {
    match tree {
        UseTree::Path(path) => names(&path.tree, into),
        UseTree::Name(name) => _ = into.insert(name.ident.to_string()),
        UseTree::Rename(renamed) => _ = into.insert(renamed.ident.to_string()),
        UseTree::Group(group) => group.items.iter().for_each(|tree| names(tree, into)),
        UseTree::Glob(_) => {}
    }
}

fn is_pub(visibility: &Visibility) -> bool {
    matches!(visibility, Visibility::Public(_))
}

fn is_test(attributes: &[Attribute]) -> bool {
    attributes
        .iter()
        .any(|attribute| attribute.path().is_ident("cfg") && attribute.to_token_stream().to_string().contains("(test)"))
}

fn is_hidden(attributes: &[Attribute]) -> bool {
    documentation(attributes).any(|text| text == "doc (hidden)" || text == "doc(hidden)")
}

/// Whether it has an example, or isn't shown to anybody.
fn is_shown(attributes: &[Attribute]) -> bool {
    is_hidden(attributes) || documentation(attributes).any(|text| text.contains("```"))
}

fn documentation(attributes: &[Attribute]) -> impl Iterator<Item = String> {
    let of_doc = attributes.iter().filter(|attribute| attribute.path().is_ident("doc"));
    of_doc.map(|attribute| attribute.meta.to_token_stream().to_string())
}
