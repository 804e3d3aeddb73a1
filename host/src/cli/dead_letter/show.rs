//! Letters as people and programs see them. Values stand in them only where they were asked for.

use crate::dead_letter::{Image, Letter, Peeked};
use crate::problem::escape;
use crate::sink::json::time_text;
use serde_json::{Value, json};
use std::fmt::Write as _;

/// From 1970 to 2000, where Postgres' clock begins.
const POSTGRES_EPOCH_US: i64 = 946_684_800_000_000;

pub(super) fn as_json(letter: &Letter, among: &Peeked) -> Value {
    let change = &letter.change;
    let copied = change.copy.is_some();
    json!({
        "letter": letter.number,
        "route": letter.route,
        "sinks": letter.sinks,
        "table": letter.table.full_name(),
        "key": letter.table.key_columns().collect::<Vec<_>>(),
        "op": letter.op.name(),
        "position": change.commit_lsn.to_string(),
        "ordinal": change.ordinal,
        "xid": (!copied).then_some(change.xid),
        "commit_time": (!copied).then(|| time_text(change.commit_us)),
        "set_aside": time_text(letter.set_aside_us.saturating_sub(POSTGRES_EPOCH_US)),
        "cause": letter.cause,
        "plugin": letter.plugin,
        "behind": letter.behind,
        "superseded": among.superseded.contains(&letter.number),
        "replay_requested": among.requested.contains(&letter.number),
    })
}

/// Names with values, or with what may be said of them.
pub(super) fn image(letter: &Letter, image: &Option<Image>, values: bool) -> Value {
    let Some(image) = image else { return Value::Null };
    let names = letter.table.columns.iter().map(|column| column.name.clone());
    let shown = image.iter().map(|value| match values {
        true => serde_json::to_value(value).unwrap_or_default(),
        false => Value::String(value.redacted()),
    });
    names.zip(shown).collect()
}

pub(super) fn list(peeked: &Peeked) -> String {
    let mut text = String::new();
    for letter in peeked.letters.values() {
        // Writing to a String can't fail.
        let _ = write!(
            text,
            "{:>6}  {} {} at {}: {}",
            letter.number,
            escape(&letter.table.full_name()),
            letter.op.name(),
            letter.change.commit_lsn,
            escape(&letter.reason())
        );
        if let Some(plugin) = &letter.plugin {
            let _ = write!(text, " (plugin {})", escape(&plugin.name));
        }
        if peeked.superseded.contains(&letter.number) {
            text.push_str(", superseded");
        }
        if peeked.requested.contains(&letter.number) {
            text.push_str(", replay requested");
        }
        text.push('\n');
    }
    for ((lsn, ordinal), sink) in &peeked.refused {
        let sink = escape(sink);
        let _ = writeln!(
            text,
            "     -  the change at {lsn}, ordinal {ordinal}, is set aside when it comes again: sink {sink} can't take it"
        );
    }
    let count = peeked.letters.len();
    let _ = match count {
        0 => write!(text, "no dead letters"),
        1 => write!(text, "1 dead letter"),
        _ => write!(text, "{count} dead letters"),
    };
    text
}

/// One letter, as [`as_json`] with its images has it.
pub(super) fn letter(value: &Value) -> String {
    let mut text = String::new();
    lines(&mut text, value, 0);
    text
}

fn lines(text: &mut String, value: &Value, indent: usize) {
    let Value::Object(fields) = value else { return };
    for (key, value) in fields {
        let key = escape(&if indent == 0 {
            key.replace('_', " ")
        } else {
            key.clone()
        });
        let single = match value {
            Value::Null => continue,
            Value::Object(fields) if is_marker(fields) => value.to_string(),
            Value::Object(_) => {
                let _ = writeln!(text, "{:indent$}{key}", "");
                lines(text, value, indent + 2);
                continue;
            }
            Value::Bool(false) => continue,
            Value::Bool(true) => "yes".to_owned(),
            Value::String(value) => value.clone(),
            Value::Array(values) => {
                let texts = values
                    .iter()
                    .map(|v| v.as_str().map_or_else(|| v.to_string(), str::to_owned));
                texts.collect::<Vec<_>>().join(", ")
            }
            Value::Number(number) => number.to_string(),
        };
        let mut of_value = single.lines().map(escape);
        let first = of_value.next().unwrap_or_default();
        let _ = writeln!(text, "{:indent$}{key}: {first}", "");
        // A backtrace has a line per frame.
        for line in of_value {
            let _ = writeln!(text, "{:indent$}    {line}", "");
        }
    }
}

/// What stands for a value that is no text.
fn is_marker(fields: &serde_json::Map<String, Value>) -> bool {
    let names = ["hex", "binary", "unchanged", "absent"];
    fields.len() == 1 && fields.keys().all(|key| names.contains(&key.as_str()))
}

fn numbers(value: &Value) -> Vec<String> {
    let numbers = value.as_array().into_iter().flatten();
    numbers
        .filter_map(Value::as_u64)
        .map(|number| number.to_string())
        .collect()
}

pub(super) fn replayed(value: &Value) -> String {
    let (letters, superseded) = (numbers(&value["replay"]), numbers(&value["superseded"]));
    let mut text = match letters.len() {
        0 => "there is nothing to send".to_owned(),
        1 => format!("letter {} will be sent again", letters[0]),
        count => format!("{count} letters will be sent again: {}", letters.join(", ")),
    };
    if !superseded.is_empty() {
        let which = superseded.join(", ");
        let _ = write!(text, "\nleft out, their table was truncated since: {which}");
    }
    text
}

pub(super) fn dropped(value: &Value) -> String {
    let letters = numbers(&value["dropped"]);
    let mut text = match letters.len() {
        0 => "there is nothing to drop".to_owned(),
        1 => format!("dropped letter {}", letters[0]),
        count => format!("dropped {count} letters: {}", letters.join(", ")),
    };
    for waiting in value["still_waiting"].as_array().into_iter().flatten() {
        let (letter, behind) = (&waiting["letter"], &waiting["behind"]);
        let _ = write!(
            text,
            "\nwarning: {behind} other letters of the key of {letter} stay set aside; replay or drop them too"
        );
    }
    text
}
