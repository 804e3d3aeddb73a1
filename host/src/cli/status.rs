//! `rowmill status`: what a running host says about itself.

use super::client::{Args, get_json};
use super::{DONE, Outcome, Output, block_on};
use crate::problem::escape;
use serde_json::Value;
use std::fmt::Write as _;

pub(super) fn run(args: &Args, mut output: Output) -> Outcome {
    let status = block_on(get_json(args.console, "/api/status"))?;
    output.value(&status, text)?;
    Ok(DONE)
}

/// Any JSON as indented lines, so that what a newer host says is shown too.
fn text(status: &Value) -> String {
    let mut text = String::new();
    lines(&mut text, status, 0);
    text
}

fn lines(text: &mut String, value: &Value, indent: usize) {
    match value {
        Value::Object(fields) => {
            let width = fields.iter().filter(|(_, value)| is_single(value));
            let width = width.map(|(key, _)| key.chars().count()).max().unwrap_or(0) + 1;
            for (key, value) in fields {
                let key = escape(&key.replace('_', " "));
                if is_single(value) {
                    let _ = writeln!(text, "{:indent$}{key:width$} {}", "", single(value));
                } else {
                    let _ = writeln!(text, "{:indent$}{key}", "");
                    lines(text, value, indent + 2);
                }
            }
        }
        Value::Array(items) => {
            for item in items {
                let mut block = String::new();
                lines(&mut block, item, indent + 2);
                // The item's first line carries the dash.
                let _ = writeln!(text, "{:indent$}- {}", "", block.trim());
            }
        }
        single_value => {
            let _ = writeln!(text, "{:indent$}{}", "", single(single_value));
        }
    }
}

/// Whether it fits on the line of its key.
fn is_single(value: &Value) -> bool {
    match value {
        Value::Object(fields) => fields.is_empty(),
        Value::Array(items) => items.iter().all(|item| !item.is_object() && !item.is_array()),
        _ => true,
    }
}

fn single(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => escape(text),
        Value::Bool(yes) => if *yes { "yes" } else { "no" }.to_owned(),
        Value::Array(items) if items.is_empty() => "none".to_owned(),
        Value::Array(items) => items.iter().map(single).collect::<Vec<_>>().join(", "),
        Value::Object(_) => "none".to_owned(),
        Value::Number(number) => number.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn people_get_indented_lines() {
        let status = json!({
            "version": "0.1.0",
            "pipelines": [{
                "name": "shop",
                "ready": true,
                "lag_bytes": 0,
                "sinks": [{ "name": "feed\u{1b}", "error": null }],
                "tables": ["public.orders", "public.items"],
            }],
        });
        let expected = "\
version  0.1.0
pipelines
  - name       shop
    ready      yes
    lag bytes  0
    sinks
      - name   feed\\x1b
        error  -
    tables     public.orders, public.items
";
        let found: String = text(&status)
            .lines()
            .map(|line| format!("{}\n", line.trim_end()))
            .collect();
        assert_eq!(found, expected);
    }
}
