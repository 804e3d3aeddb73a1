//! `docs/reference/pipeline.md`, made of the table of keys, so that it can't say anything else.
//!
//! `ROWMILL_BLESS=1 cargo nextest run -p rowmill reference` writes it.

use super::keys::PIPELINE;
use super::shape::{Block, Key, Presence, Shape, Short};
use std::fmt::Write;

const HEAD: &str = "\
# pipeline.yaml

Every key, made from the table that `rowmill check` and `rowmill schema` read. `rowmill schema` prints the JSON Schema:
an editor that knows it completes keys and shows what they mean.

- A value may hold `${NAME}` for an environment variable, `${NAME:-text}` for one that may be unset or empty, and
  `${file:PATH}` for the text of a file that others can't read; `$${` stands for `${`.
- Durations are written `300ms`, `5s`, `10m`, `1h`; sizes `64KiB`, `32MiB`, `1GiB`.
- Relative paths start at the folder of the file.
- Unknown keys, unset variables, references to nothing and values out of range are refused, all in one go, each with
  line, column and fix.

";

/// The whole page.
fn page() -> String {
    let mut page = HEAD.to_owned();
    section(&mut page, "The file", &PIPELINE, Short::No, "");
    page
}

/// A block's table, then those of the blocks within.
fn section(page: &mut String, title: &str, block: &Block, short: Short, path: &str) {
    // Writing to a String can't fail.
    let _ = writeln!(page, "## {title}\n");
    match short {
        Short::No => {}
        Short::Value(key) => {
            let _ = writeln!(page, "A single word stands for `{key}`.\n");
        }
        Short::Key(words) => {
            let words: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
            let _ = writeln!(page, "A single word will do for {}.\n", words.join(" and "));
        }
    }
    page.push_str("| key | value | default | |\n| --- | --- | --- | --- |\n");
    for key in block.keys {
        let _ = writeln!(
            page,
            "| `{}` | {} | {} | {} |",
            key.name,
            expected(key.shape),
            default(key),
            key.doc.replace('|', "\\|")
        );
    }
    page.push('\n');
    for key in block.keys {
        if let Some((suffix, inner, short)) = inner(key.shape).filter(|(_, inner, _)| !inner.keys.is_empty()) {
            let path = match path {
                "" => format!("{}{suffix}", key.name),
                path => format!("{path}.{}{suffix}", key.name),
            };
            section(page, &format!("`{path}`"), inner, short, &path);
        }
    }
}

/// What follows the key's name in a path, and the block that is there.
fn inner(shape: &Shape) -> Option<(&'static str, &'static Block, Short)> {
    match shape {
        Shape::Block(block, short) => Some(("", block, *short)),
        Shape::List(of) | Shape::ListOrNone(of) => inner(of).map(|(_, block, short)| ("[]", block, short)),
        Shape::Named(_, of) => inner(of).map(|(_, block, short)| (".NAME", block, short)),
        _ => None,
    }
}

fn expected(shape: &Shape) -> String {
    match shape {
        Shape::List(of) => format!("list, at least one: {}", expected(of)),
        Shape::ListOrNone(of) => format!("list: {}", expected(of)),
        Shape::Named(_, of) => format!("names, each with {}", expected(of)),
        Shape::ByTable(of) => format!("tables, each with {}", expected(of)),
        Shape::Block(block, _) if block.keys.is_empty() => "nothing, or `{}`".to_owned(),
        Shape::Block(..) => "a block".to_owned(),
        Shape::Any => "anything".to_owned(),
        Shape::Choice(words) => words
            .iter()
            .map(|word| format!("`{word}`"))
            .collect::<Vec<_>>()
            .join(", "),
        _ => shape.expected(),
    }
}

fn default(key: &Key) -> String {
    match key.presence {
        Presence::Required => "required".to_owned(),
        Presence::Optional | Presence::Default("") => String::new(),
        Presence::Default(value) => format!("`{value}`"),
    }
}

#[test]
fn the_reference_is_up_to_date() {
    crate::reference::check("pipeline.md", &page());
}
