//! The JSON Schema of pipeline.yaml, for editors and for `rowmill schema`.

use super::keys::{MAX_NAME_CHARS, PIPELINE};
use super::shape::{Block, Key, Presence, Shape, Short};
use serde_json::{Map, Value, json};

/// The schema as an object.
pub fn schema() -> Value {
    let mut schema = block(&PIPELINE);
    if let Some(fields) = schema.as_object_mut() {
        fields.shift_insert(
            0,
            "$schema".to_owned(),
            "https://json-schema.org/draft/2020-12/schema".into(),
        );
        fields.shift_insert(1, "title".to_owned(), "Rowmill pipeline".into());
    }
    schema
}

fn block(block: &Block) -> Value {
    let properties: Map<String, Value> = block
        .keys
        .iter()
        .map(|key| (key.name.to_owned(), property(key)))
        .collect();
    let required: Vec<&str> = block
        .keys
        .iter()
        .filter(|key| matches!(key.presence, Presence::Required))
        .map(|key| key.name)
        .collect();
    let mut schema = json!({ "type": "object", "properties": properties, "additionalProperties": false });
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    schema
}

fn property(key: &Key) -> Value {
    let mut schema = shape(key.shape);
    schema["description"] = key.doc.into();
    if let Presence::Default(text) = key.presence
        && !text.is_empty()
    {
        schema["default"] = match key.shape {
            Shape::Count(..) => text.parse::<u64>().map_or_else(|_| text.into(), Value::from),
            _ => text.into(),
        };
    }
    schema
}

fn shape(of: &Shape) -> Value {
    match of {
        Shape::Text | Shape::Secret | Shape::Path(_) => json!({ "type": "string", "minLength": 1 }),
        Shape::Name(_) => json!({ "type": "string", "pattern": name_pattern() }),
        Shape::Table => json!({ "type": "string", "examples": [of.example()] }),
        Shape::Address => json!({ "type": "string", "examples": [of.example(), "off"] }),
        // A variable may stand in place of any value.
        Shape::Duration(..) => json!({ "type": "string", "pattern": "^([0-9]+ ?(ms|s|m|h|d)|.*\\$\\{.*)$" }),
        Shape::Size(..) => json!({ "type": "string", "pattern": "^([0-9]+ ?(B|KiB|MiB|GiB)|.*\\$\\{.*)$" }),
        Shape::Count(min, max) => json!({ "anyOf": [
            { "type": "integer", "minimum": min, "maximum": max },
            { "type": "string", "pattern": "\\$\\{" },
        ] }),
        Shape::Choice(words) => json!({ "enum": words }),
        Shape::List(of) => json!({ "type": "array", "items": shape(of), "minItems": 1 }),
        Shape::ListOrNone(of) => json!({ "type": "array", "items": shape(of) }),
        Shape::Named(_, of) => json!({
            "type": "object",
            "propertyNames": { "pattern": name_pattern() },
            "additionalProperties": shape(of),
        }),
        Shape::ByTable(of) => json!({ "type": "object", "additionalProperties": shape(of) }),
        Shape::Block(of, short) => match short {
            Short::No if of.keys.is_empty() => json!({ "anyOf": [block(of), { "type": "null" }] }),
            Short::No => block(of),
            Short::Value(key) => {
                let short = of.key(key).map_or_else(|| json!({}), |key| shape(key.shape));
                json!({ "anyOf": [short, block(of)] })
            }
            Short::Key(words) => json!({ "anyOf": [{ "enum": words }, block(of)] }),
        },
        Shape::Any => json!({}),
    }
}

fn name_pattern() -> String {
    format!("^[a-z0-9_-]{{1,{MAX_NAME_CHARS}}}$")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_described() {
        let schema = schema();
        assert_eq!(schema["required"], json!(["name", "source", "routes", "sinks"]));
        assert_eq!(schema["additionalProperties"], json!(false));
        let limits = &schema["properties"]["plugins"]["additionalProperties"]["properties"]["limits"];
        assert_eq!(limits["properties"]["memory"]["default"], "64MiB");
        let snapshot = &schema["properties"]["source"]["properties"]["postgres"]["properties"]["snapshot"];
        assert_eq!(snapshot["anyOf"][0], json!({ "enum": ["initial", "never"] }));
        assert_eq!(snapshot["anyOf"][1]["properties"]["unit_rows"]["default"], 80_000);
    }
}
