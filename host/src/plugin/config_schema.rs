//! A plugin's configuration against its JSON Schema: the part of JSON Schema that type generators write. A keyword that
//! isn't known is passed over, since the plugin reads its configuration itself too.
//!
//! Nothing that is found is ever shown, only its kind: a configuration holds secrets.

use serde_json::{Map, Number, Value};

/// How deep references and subschemas may nest: a schema that refers to itself has to come to an end.
const DEPTH_MAX: usize = 64;
/// Subschemas that are looked at. Alternatives of alternatives would take for ever; what is left then is up to the plugin.
const STEPS_MAX: usize = 100_000;
/// Places that are told of.
const MISFITS_MAX: usize = 10;
/// Words of an `enum` that are listed.
const WORDS_MAX: usize = 20;

/// A place of the configuration that doesn't fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Misfit {
    /// Like `config.columns[2].method`.
    pub path: String,
    pub expected: String,
    /// The kind of what is there.
    pub found: String,
}

impl std::fmt::Display for Misfit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: expected {}, found {}", self.path, self.expected, self.found)
    }
}

/// Checks the configuration of a plugin that brings a schema along.
#[cfg(feature = "engine")]
pub(crate) fn check(plugin: &super::PluginVersion) -> Result<(), super::PluginError> {
    use super::error;
    let Some(schema) = &plugin.module.manifest().config_schema else {
        return Ok(());
    };
    let schema = serde_json::from_str(schema).map_err(|cause| {
        let headline = format!("the configuration schema of plugin {} is no JSON", plugin.name);
        let help = "build the plugin again";
        super::PluginError::refused_because(error::CONFIG, headline, cause, help)
    })?;
    let misfits = misfits(&schema, &plugin.config);
    let Some(first) = misfits.first() else {
        return Ok(());
    };
    let headline = format!("plugin {}: {} doesn't fit its schema", plugin.name, first.path);
    let all: Vec<String> = misfits.iter().map(Misfit::to_string).collect();
    let help = format!("correct `{}` of plugin {} in pipeline.yaml", first.path, plugin.name);
    Err(super::PluginError::refused_because(
        error::CONFIG,
        headline,
        all.join("\n"),
        help,
    ))
}

/// Where a configuration doesn't fit, at most [`MISFITS_MAX`] places.
pub(crate) fn misfits(schema: &Value, config: &Value) -> Vec<Misfit> {
    let mut walk = Walk {
        root: schema,
        steps: 0,
        found: Vec::new(),
    };
    let empty = Value::Object(Map::new());
    // No configuration is one whose fields all have defaults.
    let config = match config {
        Value::Null if !walk.fits(schema, config) => &empty,
        config => config,
    };
    walk.check(schema, config, &mut "config".to_owned(), 0);
    walk.found
}

/// Whether a number keeps to a bound.
type Holds = fn(f64, f64) -> bool;

struct Walk<'a> {
    root: &'a Value,
    steps: usize,
    found: Vec<Misfit>,
}

impl<'a> Walk<'a> {
    fn fits(&mut self, schema: &'a Value, value: &Value) -> bool {
        self.fits_at(schema, value, 0)
    }

    fn fits_at(&mut self, schema: &'a Value, value: &Value, depth: usize) -> bool {
        let before = std::mem::take(&mut self.found);
        self.check(schema, value, &mut "config".to_owned(), depth);
        std::mem::replace(&mut self.found, before).is_empty()
    }

    fn misfit(&mut self, path: &str, expected: impl Into<String>, value: &Value) {
        self.told(path, expected, kind(value));
    }

    fn told(&mut self, path: &str, expected: impl Into<String>, found: impl Into<String>) {
        if self.found.len() < MISFITS_MAX {
            self.found.push(Misfit {
                path: path.to_owned(),
                expected: expected.into(),
                found: found.into(),
            });
        }
    }

    fn check(&mut self, schema: &'a Value, value: &Value, path: &mut String, depth: usize) {
        self.steps += 1;
        if depth > DEPTH_MAX || self.steps > STEPS_MAX {
            return;
        }
        let schema = match schema {
            Value::Bool(false) => return self.told(path, "nothing", kind(value)),
            Value::Object(schema) => schema,
            _ => return,
        };
        if let Some(referred) = schema
            .get("$ref")
            .and_then(Value::as_str)
            .and_then(|to| self.referred(to))
        {
            self.check(referred, value, path, depth + 1);
        }
        // Whatever else is asked of another kind of value says nothing more.
        if let Some(wanted) = schema.get("type")
            && !is_of_type(wanted, value)
        {
            return self.misfit(path, types(wanted), value);
        }
        self.words(schema, value, path);
        self.combined(schema, value, path, depth);
        match value {
            Value::Object(fields) => self.object(schema, fields, path, depth),
            Value::Array(items) => self.array(schema, items, path, depth),
            Value::Number(number) => self.number(schema, number, path),
            Value::String(text) => {
                let length = text.chars().count();
                self.size(schema, ["minLength", "maxLength"], length, "characters", path);
            }
            Value::Null | Value::Bool(_) => {}
        }
    }

    /// `#/$defs/Name`, or `#` for the whole schema.
    fn referred(&self, to: &str) -> Option<&'a Value> {
        self.root.pointer(to.strip_prefix('#')?)
    }

    fn words(&mut self, schema: &Map<String, Value>, value: &Value, path: &str) {
        if let Some(only) = schema.get("const")
            && only != value
        {
            self.misfit_word(path, std::slice::from_ref(only), value);
        }
        if let Some(Value::Array(words)) = schema.get("enum")
            && !words.contains(value)
        {
            self.misfit_word(path, words, value);
        }
    }

    fn misfit_word(&mut self, path: &str, words: &[Value], value: &Value) {
        let found = match value {
            Value::String(_) => "another text".to_owned(),
            other => kind(other).to_owned(),
        };
        self.told(path, one_of(words), found);
    }

    fn combined(&mut self, schema: &'a Map<String, Value>, value: &Value, path: &mut String, depth: usize) {
        let list = |key: &str| match schema.get(key) {
            Some(Value::Array(schemas)) => schemas.as_slice(),
            _ => &[],
        };
        for all in list("allOf") {
            self.check(all, value, path, depth + 1);
        }
        for key in ["anyOf", "oneOf"] {
            let schemas = list(key);
            if schemas.is_empty() {
                continue;
            }
            let fitting = schemas.iter().filter(|one| self.fits_at(one, value, depth + 1)).count();
            if fitting == 0 {
                self.no_alternative(schemas, value, path, depth);
            } else if key == "oneOf" && fitting > 1 {
                self.misfit(path, "what fits exactly one of its alternatives", value);
            }
        }
        if let Some(not) = schema.get("not")
            && self.fits_at(not, value, depth + 1)
        {
            self.misfit(path, "something else", value);
        }
    }

    /// Where one alternative alone is of the value's kind, it is the one that was meant.
    fn no_alternative(&mut self, schemas: &'a [Value], value: &Value, path: &mut String, depth: usize) {
        let words: Vec<Value> = schemas.iter().filter_map(|one| one.get("const")).cloned().collect();
        if words.len() == schemas.len() {
            return self.misfit_word(path, &words, value);
        }
        let resolved = |one: &'a Value| {
            let to = one.get("$ref").and_then(Value::as_str);
            to.and_then(|to| self.referred(to)).unwrap_or(one)
        };
        let of_kind = |one: &&&'a Value| match one.get("type") {
            Some(wanted) => is_of_type(wanted, value),
            None => true,
        };
        let resolved: Vec<&'a Value> = schemas.iter().map(resolved).collect();
        let meant: Vec<&&'a Value> = resolved.iter().filter(of_kind).collect();
        if let [meant] = meant[..] {
            return self.check(meant, value, path, depth + 1);
        }
        let kinds: Vec<String> = resolved.iter().filter_map(|one| one.get("type")).map(types).collect();
        let expected = match kinds.len() == schemas.len() && meant.is_empty() {
            true => kinds.join(" or "),
            false => "one of its alternatives".to_owned(),
        };
        self.misfit(path, expected, value);
    }

    fn object(&mut self, schema: &'a Map<String, Value>, fields: &Map<String, Value>, path: &mut String, depth: usize) {
        let empty = Map::new();
        if let Some(Value::Array(required)) = schema.get("required") {
            for key in required.iter().filter_map(Value::as_str) {
                if !fields.contains_key(key) {
                    let missing = format!("{path}.{key}");
                    self.told(&missing, "a value", "nothing");
                }
            }
        }
        let properties = schema.get("properties").and_then(Value::as_object);
        let additional = schema.get("additionalProperties");
        for (key, value) in fields {
            let known = properties.and_then(|properties| properties.get(key));
            let len = path.len();
            path.push('.');
            path.push_str(key);
            match (known, additional) {
                (Some(of_key), _) => self.check(of_key, value, path, depth + 1),
                (None, Some(Value::Bool(false))) => {
                    let names: Vec<&str> = properties.unwrap_or(&empty).keys().map(String::as_str).collect();
                    let expected = match names.is_empty() {
                        true => "no key".to_owned(),
                        false => format!("one of the keys {}", names.join(", ")),
                    };
                    self.told(path, expected, "another key");
                }
                (None, Some(additional)) => self.check(additional, value, path, depth + 1),
                (None, None) => {}
            }
            path.truncate(len);
        }
        self.size(schema, ["minProperties", "maxProperties"], fields.len(), "keys", path);
    }

    fn array(&mut self, schema: &'a Map<String, Value>, items: &[Value], path: &mut String, depth: usize) {
        let first = match schema.get("prefixItems") {
            Some(Value::Array(first)) => first.as_slice(),
            _ => &[],
        };
        for (at, item) in items.iter().enumerate() {
            let Some(of_item) = first.get(at).or(schema.get("items")) else {
                break;
            };
            let len = path.len();
            path.push_str(&format!("[{at}]"));
            self.check(of_item, item, path, depth + 1);
            path.truncate(len);
        }
        self.size(schema, ["minItems", "maxItems"], items.len(), "items", path);
        let is_unique = schema.get("uniqueItems") == Some(&Value::Bool(true));
        if is_unique && items.iter().enumerate().any(|(at, item)| items[..at].contains(item)) {
            self.told(path, "items that differ", "one twice");
        }
    }

    fn number(&mut self, schema: &Map<String, Value>, number: &Number, path: &str) {
        let Some(value) = number.as_f64() else {
            return;
        };
        let bounds: [(&str, &str, Holds); 4] = [
            ("minimum", "at least", |value, bound| value >= bound),
            ("maximum", "at most", |value, bound| value <= bound),
            ("exclusiveMinimum", "more than", |value, bound| value > bound),
            ("exclusiveMaximum", "less than", |value, bound| value < bound),
        ];
        for (key, words, holds) in bounds {
            if let Some(Value::Number(bound)) = schema.get(key)
                && bound.as_f64().is_some_and(|bound| !holds(value, bound))
            {
                self.told(path, format!("{words} {bound}"), "a number beyond that");
            }
        }
    }

    fn size(&mut self, schema: &Map<String, Value>, keys: [&str; 2], size: usize, of: &str, path: &str) {
        let bound = |key| schema.get(key).and_then(Value::as_u64);
        if bound(keys[0]).is_some_and(|least| (size as u64) < least) {
            let least = bound(keys[0]).unwrap_or_default();
            self.told(path, format!("at least {least} {of}"), "fewer");
        }
        if bound(keys[1]).is_some_and(|most| size as u64 > most) {
            let most = bound(keys[1]).unwrap_or_default();
            self.told(path, format!("at most {most} {of}"), "more");
        }
    }
}

fn is_of_type(wanted: &Value, value: &Value) -> bool {
    match wanted {
        Value::Array(any) => any.iter().any(|one| is_of_type(one, value)),
        Value::String(word) => match (word.as_str(), value) {
            ("integer", Value::Number(number)) => {
                number.is_i64() || number.is_u64() || number.as_f64().is_some_and(|float| float.fract() == 0.0)
            }
            ("null", Value::Null)
            | ("boolean", Value::Bool(_))
            | ("number", Value::Number(_))
            | ("string", Value::String(_))
            | ("array", Value::Array(_))
            | ("object", Value::Object(_)) => true,
            ("null" | "boolean" | "number" | "integer" | "string" | "array" | "object", _) => false,
            _ => true,
        },
        _ => true,
    }
}

fn types(wanted: &Value) -> String {
    let one = |word: &Value| match word.as_str() {
        Some("null") => "null",
        Some("boolean") => "true or false",
        Some("number") => "a number",
        Some("integer") => "a whole number",
        Some("string") => "a text",
        Some("array") => "a list",
        Some("object") => "a block of keys",
        _ => "something else",
    };
    match wanted {
        Value::Array(any) => any.iter().map(one).collect::<Vec<_>>().join(" or "),
        word => one(word).to_owned(),
    }
}

fn one_of(words: &[Value]) -> String {
    let shown: Vec<String> = words.iter().take(WORDS_MAX).map(Value::to_string).collect();
    match (&shown[..], words.len() > WORDS_MAX) {
        ([word], _) => word.clone(),
        (_, true) => format!("one of {} and others", shown.join(", ")),
        (_, false) => format!("one of {}", shown.join(", ")),
    }
}

const fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a block of keys",
    }
}

#[cfg(test)]
#[path = "tests/config_schema.rs"]
mod tests;
