//! Lines of JSON with their values as they are written: a number of any size stays what it is.

use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::path::Path;

/// A row's new image: its columns' values as JSON texts.
pub type Image = BTreeMap<String, String>;

/// The new images of a table's rows of this operation, by id.
pub fn images(file: &Path, table: &str, operation: &str) -> Result<BTreeMap<i64, Image>> {
    let text = std::fs::read_to_string(file)?;
    let mut images = BTreeMap::new();
    for line in text.lines() {
        let line = members(line);
        let is = |name: &str, value: &str| line.get(name).is_some_and(|found| *found == format!("\"{value}\""));
        if is("table", table) && is("op", operation) {
            let mut image = members(line.get("new").context("new")?);
            let id = image.remove("id").context("id")?;
            image.extend(
                line.get("json_null")
                    .map(|names| ("json_null".to_owned(), names.clone())),
            );
            images.insert(id.parse()?, image);
        }
    }
    Ok(images)
}

/// The members of an object, by name. Names have no escapes here.
fn members(object: &str) -> Image {
    let mut members = Image::new();
    let (mut depth, mut in_text, mut escaped, mut start, mut name) = (0, false, false, 1, None);
    for (at, byte) in object.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            _ if in_text => {}
            b':' if depth == 1 && name.is_none() => {
                name = Some(object[start..at].trim_matches('"').to_owned());
                start = at + 1;
            }
            b',' | b'}' if depth == 1 => {
                if let Some(name) = name.take() {
                    members.insert(name, object[start..at].to_owned());
                }
                start = at + 1;
                depth -= i32::from(byte == b'}');
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth -= 1,
            _ => {}
        }
    }
    members
}
