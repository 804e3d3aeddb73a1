//! Walks the tree beside the table of keys, and reports everything that doesn't fit.

use super::codes;
use super::expand::Variables;
use super::item::{Entry, Item, Value};
use super::node::{Kind, Node, Span};
use super::report::{Finding, Report, nearest, quote, quote_all};
use super::shape::{Block, Key, Presence, Shape, Short};
use std::path::Path;

pub(super) struct Walker<'a, 'r> {
    pub report: &'r mut Report<'a>,
    pub variables: Variables<'r>,
    /// Where relative paths start.
    pub base: &'r Path,
}

impl Walker<'_, '_> {
    /// The value of `node`, or `None` after what is wrong has been reported. `path` is how messages call it.
    pub fn value(&mut self, shape: &Shape, node: &Node, path: &str) -> Option<Item> {
        let value = match shape {
            Shape::Block(block, short) => return self.block_or_short(block, *short, shape, node, path),
            Shape::List(of) => self.list(of, 1, shape, node, path)?,
            Shape::ListOrNone(of) => self.list(of, 0, shape, node, path)?,
            Shape::Named(_, of) | Shape::ByTable(of) => self.named(of, shape, node, path)?,
            Shape::Any => Value::Any {
                value: self.any(node, path)?,
                written: super::scalar::written(node),
            },
            _ => match &node.kind {
                Kind::Scalar { .. } if !node.is_null() => self.scalar(shape, node, path)?,
                _ => return self.wrong_type(shape, node, path),
            },
        };
        let span = node.span;
        Some(Item { span, value })
    }

    fn block_or_short(&mut self, block: &Block, short: Short, shape: &Shape, node: &Node, path: &str) -> Option<Item> {
        match (&node.kind, short) {
            (Kind::Map(entries), _) => Some(self.block(block, entries, node.span, path)),
            // `stdout:` with nothing behind it.
            _ if node.is_null() => Some(self.block(block, &[], node.span, path)),
            (Kind::Scalar { .. }, Short::Value(key)) => {
                let key = scalar(key, node.span);
                Some(self.block(block, &[(key, node.clone())], node.span, path))
            }
            (Kind::Scalar { text, .. }, Short::Key(keys)) if keys.contains(&text.as_str()) => {
                let entry = (node.clone(), scalar("", node.span));
                Some(self.block(block, &[entry], node.span, path))
            }
            _ => self.wrong_type(shape, node, path),
        }
    }

    /// The block itself is always there, whatever is wrong with its keys: what refers to it can still be checked.
    pub fn block(&mut self, block: &Block, entries: &[(Node, Node)], span: Span, path: &str) -> Item {
        let mut done: Vec<Entry> = Vec::new();
        for (key, node) in entries {
            let Some(name) = self.key_name(key, path) else { continue };
            let Some(known) = block.key(name) else {
                self.unknown_key(block, key.span, name, path);
                continue;
            };
            if let Some(first) = done.iter().find(|entry| entry.key == name) {
                self.twice("key", name, key.span, first.span);
                continue;
            }
            let item = self.value(known.shape, node, &join(path, name));
            done.push(Entry {
                key: name.to_owned(),
                span: key.span,
                given: true,
                item,
            });
        }
        for key in block.keys {
            if !done.iter().any(|entry| entry.key == key.name) {
                done.extend(self.absent(key, span, path));
            }
        }
        let value = Value::Map(done);
        Item { span, value }
    }

    fn absent(&mut self, key: &Key, span: Span, path: &str) -> Option<Entry> {
        let item = match key.presence {
            Presence::Optional => return None,
            Presence::Required => {
                self.missing(key, span, path);
                None
            }
            Presence::Default(text) => {
                let node = match key.shape {
                    Shape::ListOrNone(_) => Node {
                        span,
                        kind: Kind::List(Vec::new()),
                    },
                    _ => scalar(text, span),
                };
                self.value(key.shape, &node, &join(path, key.name))
            }
        };
        Some(Entry {
            key: key.name.to_owned(),
            span,
            given: false,
            item,
        })
    }

    fn list(&mut self, of: &Shape, least: usize, shape: &Shape, node: &Node, path: &str) -> Option<Value> {
        let Kind::List(nodes) = &node.kind else {
            return self.wrong_type(shape, node, path);
        };
        if nodes.len() < least {
            self.report.push(
                node.span,
                Finding {
                    code: &codes::RANGE,
                    headline: format!("{} is an empty list, at least one is expected", quote_path(path)),
                    label: "nothing stands here".to_owned(),
                    cause: None,
                    help: format!("write one: `{}: {}`", last(path), shape.example()),
                },
            );
            return None;
        }
        let items = nodes.iter().enumerate();
        let items = items.filter_map(|(at, node)| self.value(of, node, &format!("{path}[{at}]")));
        Some(Value::List(items.collect()))
    }

    fn named(&mut self, of: &Shape, shape: &Shape, node: &Node, path: &str) -> Option<Value> {
        let entries = match &node.kind {
            Kind::Map(entries) => entries.as_slice(),
            _ if node.is_null() => &[],
            _ => return self.wrong_type(shape, node, path),
        };
        let mut done: Vec<Entry> = Vec::new();
        for (key, node) in entries {
            let Some(name) = self.key_name(key, path) else { continue };
            if let Some(first) = done.iter().find(|entry| entry.key == name) {
                let kind = path.strip_suffix('s').unwrap_or(path);
                self.twice(kind, name, key.span, first.span);
                continue;
            }
            match shape {
                Shape::ByTable(_) => drop(self.scalar(&Shape::Table, key, path)),
                _ => self.check_name(name, key.span),
            }
            let item = self.value(of, node, &join(path, name));
            done.push(Entry {
                key: name.to_owned(),
                span: key.span,
                given: true,
                item,
            });
        }
        Some(Value::Map(done))
    }

    fn key_name<'n>(&mut self, key: &'n Node, path: &str) -> Option<&'n str> {
        let name = key.text();
        if name.is_none() {
            self.wrong_type::<()>(&Shape::Name("shop"), key, path);
        }
        name
    }

    pub fn wrong_type<T>(&mut self, shape: &Shape, node: &Node, path: &str) -> Option<T> {
        let found = match &node.kind {
            Kind::List(_) => "a list",
            Kind::Map(_) => "a block of keys",
            Kind::Scalar { .. } if node.is_null() => "nothing",
            Kind::Scalar { .. } => "a single value",
        };
        self.report.push(
            node.span,
            Finding {
                code: &codes::WRONG_TYPE,
                headline: format!("{}: expected {}, found {found}", quote_path(path), shape.expected()),
                label: format!("this is {found}"),
                cause: None,
                help: format!("write {}", quote_example(path, shape)),
            },
        );
        None
    }

    fn unknown_key(&mut self, block: &Block, span: Span, name: &str, path: &str) {
        let names = || block.keys.iter().map(|key| key.name);
        let (label, help) = match nearest(name, names()) {
            Some(near) => (
                format!("no such key; the nearest is `{near}`"),
                format!("write `{near}`"),
            ),
            None if block.keys.is_empty() => ("nothing is set here".to_owned(), "take it out".to_owned()),
            None => (
                format!("the keys here are {}", quote_all(names())),
                "take it out".to_owned(),
            ),
        };
        let block = if path.is_empty() {
            "the pipeline".to_owned()
        } else {
            quote_path(path)
        };
        self.report.push(
            span,
            Finding {
                code: &codes::UNKNOWN_KEY,
                headline: format!("unknown key {} in {block}", quote(name)),
                label,
                cause: None,
                help,
            },
        );
    }

    fn missing(&mut self, key: &Key, span: Span, path: &str) {
        let block = if path.is_empty() {
            "the pipeline".to_owned()
        } else {
            quote_path(path)
        };
        self.report.push(
            span,
            Finding {
                code: &codes::MISSING_KEY,
                headline: format!("required key `{}` is missing in {block}", key.name),
                label: format!("this block has no `{}`", key.name),
                cause: None,
                help: format!("add {}", quote_example(key.name, key.shape)),
            },
        );
    }

    pub fn twice(&mut self, kind: &str, name: &str, span: Span, first: Span) {
        self.report.push(
            span,
            Finding {
                code: &codes::TWICE,
                headline: format!("{kind} {} stands twice", quote(name)),
                label: "the second one".to_owned(),
                cause: Some(format!("the first one stands at {}", self.report.location(first))),
                help: "rename one of them, or take it out".to_owned(),
            },
        );
    }
}

/// A value as if it stood in the file.
fn scalar(text: &str, span: Span) -> Node {
    let text = text.to_owned();
    Node {
        span,
        kind: Kind::Scalar { text, plain: true },
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}

/// The key that a path ends with.
pub(super) fn last(path: &str) -> &str {
    path.rsplit('.').next().unwrap_or(path)
}

/// A path in backticks; what is too long loses its beginning.
pub(super) fn quote_path(path: &str) -> String {
    const CHARS: usize = 28;
    let mut rest = path;
    while rest.chars().count() > CHARS {
        match rest.split_once('.') {
            Some((_, after)) => rest = after,
            None => break,
        }
    }
    quote(rest)
}

/// `key: example`, or the example alone for what stands in a list.
pub(super) fn quote_example(path: &str, shape: &Shape) -> String {
    let key = last(path);
    if key.ends_with(']') {
        format!("`{}`", shape.example())
    } else {
        format!("`{key}: {}`", shape.example())
    }
}
