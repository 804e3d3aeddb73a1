//! The file sink's output as a reader sees it who stops at the manifest.

use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, HashSet};
use std::path::Path;

/// The lines that the manifest covers, in order.
pub struct Lines {
    pub rows: Vec<Value>,
}

/// Rows of a table by the text of their key.
pub type Table = BTreeMap<i64, Map<String, Value>>;

impl Lines {
    /// Reads what the manifest of `path` covers. Fails on a torn line, and where a file is shorter than the manifest
    /// says.
    pub fn read(path: &Path) -> Result<Self> {
        let folder = path.parent().context("a file lies in a folder")?;
        let name = path.file_name().context("a file has a name")?.to_string_lossy();
        let manifest = std::fs::read(folder.join(format!("{name}.manifest")))?;
        let manifest: Value = serde_json::from_slice(&manifest)?;
        let mut rows = Vec::new();
        for part in manifest["files"].as_array().context("files")? {
            let (name, length) = (part["name"].as_str(), part["length"].as_u64());
            let (name, length) = (name.context("name")?, usize::try_from(length.context("length")?)?);
            let bytes = std::fs::read(folder.join(name))?;
            let covered = bytes.get(..length);
            let covered = covered.with_context(|| format!("{name}: {} bytes, {length} covered", bytes.len()))?;
            ensure!(covered.is_empty() || covered.ends_with(b"\n"), "{name}: a torn line");
            for line in covered.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                let row = serde_json::from_slice(line);
                rows.push(row.with_context(|| format!("{name}: {}", String::from_utf8_lossy(line)))?);
            }
        }
        Ok(Self { rows })
    }

    /// Fails where a streamed change is there twice.
    pub fn streamed_once(&self) -> Result<()> {
        let mut seen = HashSet::new();
        for row in &self.rows {
            let id = row["id"].as_str().context("id")?;
            ensure!(
                !row["commit_time"].is_string() || seen.insert(id),
                "{id} is there twice"
            );
        }
        Ok(())
    }

    /// The tables, keyed by the integer column `id`, after all lines were applied in order.
    pub fn replay(&self) -> Result<BTreeMap<String, Table>> {
        let mut tables: BTreeMap<String, Table> = BTreeMap::new();
        for row in &self.rows {
            if row["op"] == "truncate" {
                for table in row["tables"].as_array().context("tables")? {
                    let name = table["table"].as_str().context("table")?;
                    tables.entry(name.to_owned()).or_default().clear();
                }
                continue;
            }
            let name = row["table"].as_str().context("table")?;
            let table = tables.entry(name.to_owned()).or_default();
            apply(table, row).with_context(|| row.to_string())?;
        }
        Ok(tables)
    }
}

fn apply(table: &mut Table, row: &Value) -> Result<()> {
    let key = |image: &str| row[image]["id"].as_i64();
    let operation = row["op"].as_str().context("op")?;
    if operation == "delete" {
        table.remove(&key("old").context("the old key")?);
        return Ok(());
    }
    ensure!(
        ["insert", "read", "upsert", "update"].contains(&operation),
        "operation {operation}"
    );
    let new_key = key("new").context("the new key")?;
    let before = match key("old") {
        Some(old_key) if old_key != new_key => table.remove(&old_key),
        _ => table.get(&new_key).cloned(),
    };
    let mut new = row["new"].as_object().context("new")?.clone();
    for column in row["unchanged"].as_array().into_iter().flatten() {
        let column = column.as_str().context("a column's name")?;
        // Before its row's copy, what it was isn't there; the copy brings it.
        let Some(value) = before.as_ref().and_then(|before| before.get(column)) else {
            continue;
        };
        new.insert(column.to_owned(), value.clone());
    }
    table.insert(new_key, new);
    Ok(())
}
