//! Single values: variables filled in, units, ranges and forms checked.

use super::codes;
use super::convert::{Misfit, convert, core_schema, name_rule};
use super::expand::{ExpandError, expand, has_reference};
use super::item::Value;
use super::keys::MAX_NAME_CHARS;
use super::mask::has_password;
use super::node::{Kind, Node, Span};
use super::report::{Finding, nearest, quote};
use super::shape::Shape;
use super::walk::{Walker, last, quote_example, quote_path};
use serde_json::Map;

/// A value as the file has it: references stay as they are.
pub(super) fn written(node: &Node) -> serde_json::Value {
    match &node.kind {
        Kind::Scalar { text, plain: true } if !has_reference(text) => core_schema(text),
        Kind::Scalar { text, .. } => text.clone().into(),
        Kind::List(nodes) => nodes.iter().map(written).collect(),
        Kind::Map(entries) => {
            let of = |(key, value): &(Node, Node)| Some((key.text()?.to_owned(), written(value)));
            serde_json::Value::Object(entries.iter().filter_map(of).collect())
        }
    }
}

impl Walker<'_, '_> {
    pub(super) fn scalar(&mut self, shape: &Shape, node: &Node, path: &str) -> Option<Value> {
        let written = node.text().unwrap_or_default();
        if matches!(shape, Shape::Secret) && has_password(written) {
            self.plain_secret(node.span, path);
            return None;
        }
        let text = self.expanded(written, node.span, path)?;
        match convert(shape, &text) {
            Ok(Value::Secret(secret)) if has_reference(written) => {
                Some(Value::Secret(secret.written_as(written, self.base)))
            }
            Ok(value) => Some(value),
            Err(Misfit(why)) => {
                self.misfit(shape, &why, written, node.span, path);
                None
            }
        }
    }

    fn expanded(&mut self, written: &str, span: Span, path: &str) -> Option<String> {
        match expand(written, self.variables, self.base) {
            Ok(text) => Some(text),
            Err(errors) => {
                for error in errors {
                    let finding = variable_finding(&error, path);
                    self.report.push(span, finding);
                }
                None
            }
        }
    }

    /// A plugin's own config: numbers and booleans as YAML has them, values with a variable always texts.
    pub(super) fn any(&mut self, node: &Node, path: &str) -> Option<serde_json::Value> {
        match &node.kind {
            Kind::Scalar { text, .. } if has_reference(text) => self.expanded(text, node.span, path).map(Into::into),
            Kind::Scalar { text, plain: true } => Some(core_schema(text)),
            Kind::Scalar { text, .. } => Some(text.clone().into()),
            Kind::List(nodes) => {
                let items: Vec<_> = nodes.iter().map(|node| self.any(node, path)).collect();
                items.into_iter().collect()
            }
            Kind::Map(entries) => {
                let mut map = Map::new();
                let mut whole = true;
                for (key, value) in entries {
                    let Some(name) = key.text() else {
                        return self.wrong_type(&Shape::Name("shop"), key, path);
                    };
                    let value = self.any(value, &format!("{path}.{name}"));
                    whole &= value.is_some();
                    if map.insert(name.to_owned(), value.unwrap_or_default()).is_some() {
                        let first = entries.iter().find(|(key, _)| key.text() == Some(name));
                        self.twice("key", name, key.span, first.map_or(key.span, |(key, _)| key.span));
                    }
                }
                whole.then_some(map.into())
            }
        }
    }

    /// Names that the user gives to plugins and sinks.
    pub(super) fn check_name(&mut self, name: &str, span: Span) {
        let valid = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-');
        if name.is_empty() || name.chars().count() > MAX_NAME_CHARS || !name.chars().all(valid) {
            self.misfit(&Shape::Name("shop"), &name_rule("_-"), name, span, name);
        }
    }

    fn misfit(&mut self, shape: &Shape, why: &str, written: &str, span: Span, path: &str) {
        let shown = !matches!(shape, Shape::Secret) && !has_reference(written);
        let found = if shown {
            format!(", found {}", quote(written))
        } else {
            String::new()
        };
        let help = match shape {
            Shape::Choice(words) => match nearest(written, words.iter().copied()) {
                Some(near) => format!("write `{}: {near}`", last(path)),
                None => format!("write {}", quote_example(path, shape)),
            },
            Shape::Name(_) => "write a name such as `shop`".to_owned(),
            _ => format!("write {}, for example", quote_example(path, shape)),
        };
        self.report.push(
            span,
            Finding {
                code: &codes::RANGE,
                headline: format!("{}: expected {}{found}", quote_path(path), shape.expected()),
                label: why.to_owned(),
                cause: None,
                help,
            },
        );
    }

    fn plain_secret(&mut self, span: Span, path: &str) {
        self.report.push(
            span,
            Finding {
                code: &codes::SECRET,
                headline: format!("{} holds a password as plain text", quote_path(path)),
                label: "a password stands in the file".to_owned(),
                cause: None,
                help: format!("take it from the environment: `{}: ${{DATABASE_URL}}`", last(path)),
            },
        );
    }
}

fn variable_finding(error: &ExpandError, path: &str) -> Finding {
    let key = quote_path(path);
    let mut code = &codes::VARIABLE;
    let (headline, label, cause, help) = match error {
        ExpandError::Unset(name) => (
            format!("environment variable {} isn't set", quote(name)),
            format!("{key} needs it"),
            None,
            format!("set it: `export {name}=...`"),
        ),
        ExpandError::Unclosed => (
            format!("{key}: a variable is left open"),
            "`${` without `}`".to_owned(),
            None,
            "close it, or write `$${` for the characters themselves".to_owned(),
        ),
        ExpandError::NoName(name) => (
            format!("{key}: {} isn't the name of a variable", quote(name)),
            "letters, digits and `_` make a name".to_owned(),
            None,
            "write it like `${DATABASE_URL}`".to_owned(),
        ),
        ExpandError::File { path, error } => (
            format!("file {} of {key} can't be read", quote(path)),
            "the value comes from this file".to_owned(),
            Some(format!("{path}: {error}")),
            format!("make it a file that Rowmill can read: `ls -l {path}`"),
        ),
        ExpandError::Exposed(path) => {
            code = &codes::SECRET;
            (
                format!("secret file {} of {key} can be read by all", quote(path)),
                "everybody on this machine can read it".to_owned(),
                None,
                format!("`chmod 600 {path}`"),
            )
        }
    };
    Finding {
        code,
        headline,
        label,
        cause,
        help,
    }
}
