//! What has arrived, in the order in which it did: at the target by a trigger, in the file as far as its manifest goes.

use super::ledger::{Lsn, Table};
use crate::Cluster;
use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// At the target: writes down each row of `events` as it arrives.
pub const WATCH: &str = "
    CREATE TABLE told (n bigserial PRIMARY KEY, op text, id bigint, txn bigint, key bigint, payload text, email text,
        tag text);
    CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $$ DECLARE r public.events := COALESCE(NEW, OLD); BEGIN
        INSERT INTO public.told (op, id, txn, key, payload, email, tag)
        VALUES (TG_OP, r.id, r.txn, r.key, r.payload, r.email, r.tag); RETURN NULL; END $$;
    CREATE TRIGGER tell AFTER INSERT OR UPDATE OR DELETE ON events FOR EACH ROW EXECUTE FUNCTION tell();
    ALTER TABLE events ENABLE ALWAYS TRIGGER tell;
";

/// A change at a sink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival {
    pub table: Table,
    pub key: u64,
    /// As of the change that was written.
    pub number: u64,
    pub is_delete: bool,
    pub transaction: u64,
    pub payload: String,
    pub email: String,
    pub tag: String,
    /// Grows with what arrives; a sink that has come to `at` has this change.
    pub at: u64,
    /// Where it was committed, if the sink tells.
    pub lsn: Option<Lsn>,
    /// Of the copy of what was there, not of the stream.
    pub is_copy: bool,
}

impl Arrival {
    pub fn id(&self) -> u64 {
        self.number * 2 + u64::from(self.is_delete)
    }
}

/// Reads on in the table `told`.
#[derive(Debug, Default)]
pub struct Told {
    last: u64,
}

impl Told {
    /// What has arrived since. Numbers that were drawn for what was then rolled back are missing.
    pub fn read(&mut self, target: &Cluster) -> Result<Vec<Arrival>> {
        let rows = target.sql(
            "target",
            &format!(
                "SELECT n, op, id, txn, key, payload, email, tag FROM told WHERE n > {} ORDER BY n",
                self.last
            ),
        )?;
        let mut arrivals = Vec::new();
        for row in rows.lines() {
            let cells: Vec<&str> = row.split('|').collect();
            let [at, op, id, transaction, key, payload, email, tag] = cells[..] else {
                bail!("{} cells in a row of `told`", cells.len());
            };
            let at = at.parse()?;
            arrivals.push(Arrival {
                table: Table::Events,
                key: key.parse()?,
                number: id.parse()?,
                is_delete: op == "DELETE",
                transaction: transaction.parse()?,
                payload: payload.to_owned(),
                email: email.to_owned(),
                tag: tag.to_owned(),
                at,
                lsn: None,
                is_copy: false,
            });
            self.last = at;
        }
        Ok(arrivals)
    }
}

/// Reads on in the file sink's output.
#[derive(Debug)]
pub struct Feed {
    path: PathBuf,
    at: u64,
    shelves: BTreeMap<String, Shelf>,
}

/// Rows by their ids, of a table that isn't judged change by change.
pub type Shelf = BTreeMap<u64, String>;

impl Feed {
    pub fn new(path: &Path) -> Self {
        Self {
            path: path.to_path_buf(),
            at: 0,
            shelves: BTreeMap::new(),
        }
    }

    /// The tables whose names begin with `shelf_`, as the lines make them.
    pub fn shelves(&self) -> &BTreeMap<String, Shelf> {
        &self.shelves
    }

    /// The bytes that the manifest covers, of all files together; 0 where there is none yet.
    pub fn covered(path: &Path) -> Result<u64> {
        Ok(files(path)?.iter().map(|(_, length)| length).sum())
    }

    /// What has arrived since; fails on torn lines, and where a file is shorter than the manifest says.
    pub fn read(&mut self) -> Result<Vec<Arrival>> {
        let mut arrivals = Vec::new();
        let mut start = 0;
        for (file, length) in files(&self.path)? {
            let end = start + length;
            if end > self.at {
                let bytes = std::fs::read(&file)?;
                let skipped = usize::try_from(self.at.saturating_sub(start))?;
                let fresh = bytes.get(skipped..usize::try_from(length)?);
                let fresh = fresh.with_context(|| format!("{}: shorter than covered", file.display()))?;
                ensure!(fresh.ends_with(b"\n"), "{}: a torn line", file.display());
                for line in fresh.split_inclusive(|byte| *byte == b'\n') {
                    self.at += line.len() as u64;
                    let line: Value = serde_json::from_slice(line)?;
                    if !shelved(&mut self.shelves, &line)? {
                        arrivals.push(of_line(&line, self.at)?);
                    }
                }
            }
            start = end;
        }
        ensure!(
            start >= self.at,
            "the manifest covers less than before: {start}, {}",
            self.at
        );
        Ok(arrivals)
    }
}

fn files(path: &Path) -> Result<Vec<(PathBuf, u64)>> {
    let folder = path.parent().context("a file lies in a folder")?;
    let name = path.file_name().context("a file has a name")?.to_string_lossy();
    let manifest = match std::fs::read(folder.join(format!("{name}.manifest"))) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        read => read?,
    };
    let manifest: Value = serde_json::from_slice(&manifest)?;
    let parts = manifest["files"].as_array().context("files")?.iter();
    let of = |part: &Value| Some((folder.join(part["name"].as_str()?), part["length"].as_u64()?));
    parts.map(|part| of(part).context("a file of the manifest")).collect()
}

/// Takes a line of one of those tables; tells whether it is one.
fn shelved(shelves: &mut BTreeMap<String, Shelf>, line: &Value) -> Result<bool> {
    const BEGIN: &str = "shelf_";
    if line["op"] == "truncate" {
        let tables = line["tables"].as_array().context("tables")?.iter();
        let names: Vec<&str> = tables.filter_map(|table| table["table"].as_str()).collect();
        for name in &names {
            shelves.entry((*name).to_owned()).or_default().clear();
        }
        return Ok(names.iter().all(|name| name.starts_with(BEGIN)));
    }
    let name = line["table"].as_str().context("table")?;
    if !name.starts_with(BEGIN) {
        return Ok(false);
    }
    let shelf = shelves.entry(name.to_owned()).or_default();
    let id = |image: &str| line[image]["id"].as_u64();
    if line["op"] == "delete" {
        shelf.remove(&id("old").context("the old id")?);
    } else {
        let body = line["new"]["body"].as_str().context("body")?;
        shelf.insert(id("new").context("the new id")?, body.to_owned());
    }
    Ok(true)
}

pub(super) fn of_line(line: &Value, at: u64) -> Result<Arrival> {
    let table = match line["table"].as_str().context("table")? {
        "events" => Table::Events,
        "accounts" => Table::Accounts,
        other => bail!("a row of {other}"),
    };
    let is_delete = line["op"] == "delete";
    let row = if is_delete { &line["old"] } else { &line["new"] };
    let number_of = |column: &str| row[column].as_u64().with_context(|| format!("{column} at byte {at}"));
    let text_of = |column: &str| row[column].as_str().unwrap_or_default().to_owned();
    let id = line["id"].as_str().context("id")?;
    let position = id.split(':').nth(1).context("an id's position")?;
    let is_copy = line["commit_time"].is_null();
    Ok(Arrival {
        table,
        key: number_of("key")?,
        number: number_of(if table == Table::Events { "id" } else { "seq" })?,
        is_delete,
        transaction: number_of("txn")?,
        payload: text_of("payload"),
        email: text_of("email"),
        tag: text_of("tag"),
        at,
        lsn: if is_copy {
            None
        } else {
            u64::from_str_radix(position, 16).ok()
        },
        is_copy,
    })
}
