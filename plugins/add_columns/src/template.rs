//! Texts with places for the values of columns: `{first} {last}`.

use rowmill_plugin::prelude::*;
use std::fmt::Write;

/// A piece of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part<C> {
    Text(String),
    Column(C),
}

/// A text as the config has it.
#[derive(Debug)]
pub struct Template(Vec<Part<String>>);

impl Template {
    pub fn parse(text: &str) -> Result<Self> {
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut rest = text.chars();
        while let Some(character) = rest.next() {
            match (character, rest.as_str().chars().next()) {
                ('{', Some('{')) | ('}', Some('}')) => {
                    rest.next();
                    literal.push(character);
                }
                ('{', _) => {
                    let Some((name, behind)) = rest.as_str().split_once('}').filter(|(name, _)| !name.is_empty())
                    else {
                        return Err(Error::new("`{` begins the name of a column, which ends with `}`"));
                    };
                    if !literal.is_empty() {
                        parts.push(Part::Text(std::mem::take(&mut literal)));
                    }
                    parts.push(Part::Column(name.to_owned()));
                    rest = behind.chars();
                }
                ('}', _) => return Err(Error::new("`}` without `{`: a brace is written twice")),
                _ => literal.push(character),
            }
        }
        if !literal.is_empty() {
            parts.push(Part::Text(literal));
        }
        Ok(Self(parts))
    }

    /// The same with handles for names.
    pub fn resolve<C>(&self, mut column: impl FnMut(&str) -> Result<C>) -> Result<Vec<Part<C>>> {
        let resolve = |part: &Part<String>| {
            Ok(match part {
                Part::Text(text) => Part::Text(text.clone()),
                Part::Column(name) => Part::Column(column(name)?),
            })
        };
        self.0.iter().map(resolve).collect()
    }
}

/// Writes the text for a row. Without a value where one of the columns is NULL, as `||` has it in SQL.
pub fn fill(parts: &[Part<ReadColumn>], row: &Row, text: &mut String) -> Result<Option<()>> {
    text.clear();
    for part in parts {
        match part {
            Part::Text(literal) => text.push_str(literal),
            Part::Column(column) => match row.value(*column)? {
                Value::Null => return Ok(None),
                Value::Text(value) => text.push_str(value),
                Value::Int(value) => write!(text, "{value}")?,
                Value::Unchanged | Value::Absent => {
                    // The accessor's error names the column.
                    row.text(*column)?;
                }
                value => text.push_str(value.to_text().as_deref().unwrap_or_default()),
            },
        }
    }
    Ok(Some(()))
}
