//! What changes of the source's tables themselves: columns come, go and get other names under load, tables are emptied,
//! tables come. What is on the shelves is held against both sinks once nothing is written any more.

use super::schedule::Altered;
use crate::oracle::Shelf;
use crate::{Cluster, Random};
use anyhow::Result;
use std::collections::BTreeMap;

/// There from the start, and altered; others come.
pub(super) const FIRST: &str = "CREATE TABLE shelf_0 (id bigint PRIMARY KEY, body text, spare text DEFAULT 's')";
/// Rows of a table that comes: several units of its copy.
const ROWS: u64 = 900;

/// Tables that the hand alone writes to.
pub(super) struct Shelves {
    tables: u64,
    rows: u64,
    columns: u64,
    /// Those that may be dropped or renamed, of each table that is altered.
    spare: BTreeMap<&'static str, Vec<String>>,
    random: Random,
}

impl Shelves {
    pub fn new(seed: u64) -> Self {
        let spare = |table| (table, vec!["spare".to_owned()]);
        Self {
            tables: 1,
            rows: 0,
            columns: 0,
            spare: [Altered::Events, Altered::Accounts, Altered::Shelf]
                .map(|table| spare(table.name()))
                .into(),
            random: Random::new(seed ^ 0x5E1F),
        }
    }

    /// A statement that writes so many rows.
    fn write(&mut self, table: u64, rows: u64) -> String {
        let first = self.rows + 1;
        self.rows += rows;
        let last = self.rows;
        format!("INSERT INTO shelf_{table} (id, body) SELECT n, 'row ' || n FROM generate_series({first}, {last}) n;")
    }

    /// In one transaction with rows before and behind.
    fn altered(&mut self, source: &Cluster, statement: &str, is_kept: bool) -> Result<()> {
        let (before, behind) = (self.write(0, 3), self.write(0, 3));
        let end = if is_kept { "COMMIT" } else { "ROLLBACK" };
        source.script("source", &format!("BEGIN; {before} {statement}; {behind} {end};"))
    }

    pub fn add_column(&mut self, source: &Cluster, table: Altered, is_kept: bool) -> Result<()> {
        self.columns += 1;
        let (name, column) = (table.name(), format!("extra_{}", self.columns));
        self.altered(
            source,
            &format!("ALTER TABLE {name} ADD COLUMN {column} text DEFAULT 'x'"),
            is_kept,
        )?;
        if is_kept {
            self.spare.entry(name).or_default().push(column);
        }
        Ok(())
    }

    pub fn drop_column(&mut self, source: &Cluster, table: Altered) -> Result<()> {
        let name = table.name();
        match self.taken(name) {
            Some(column) => self.altered(source, &format!("ALTER TABLE {name} DROP COLUMN {column}"), true),
            None => self.add_column(source, table, true),
        }
    }

    pub fn rename_column(&mut self, source: &Cluster, table: Altered) -> Result<()> {
        let name = table.name();
        let Some(column) = self.taken(name) else {
            return self.add_column(source, table, true);
        };
        self.columns += 1;
        let to = format!("renamed_{}", self.columns);
        self.altered(
            source,
            &format!("ALTER TABLE {name} RENAME COLUMN {column} TO {to}"),
            true,
        )?;
        self.spare.entry(name).or_default().push(to);
        Ok(())
    }

    fn taken(&mut self, table: &'static str) -> Option<String> {
        let of_table = self.spare.get_mut(table)?;
        let at = self.random.below(of_table.len() as u64) as usize;
        (!of_table.is_empty()).then(|| of_table.remove(at))
    }

    /// With rows before and behind, which of them is which transaction's.
    pub fn empty(&mut self, source: &Cluster) -> Result<()> {
        let (before, amid, behind) = (self.write(0, 20), self.write(0, 20), self.write(0, 20));
        source.script(
            "source",
            &format!("{before} BEGIN; {amid} TRUNCATE shelf_0; {behind} COMMIT;"),
        )
    }

    /// A table that the file's pattern meets, with rows; put into the publication at once, or found by looking.
    pub fn add_table(&mut self, source: &Cluster, by_hand: bool) -> Result<()> {
        let table = self.tables;
        let rows = self.write(table, ROWS);
        let publication = match by_hand {
            true => format!("ALTER PUBLICATION rowmill_chaos ADD TABLE shelf_{table};"),
            false => String::new(),
        };
        let more = self.write(table, 10);
        source.script(
            "source",
            &format!("CREATE TABLE shelf_{table} (id bigint PRIMARY KEY, body text); {rows} {publication} {more}"),
        )?;
        self.tables += 1;
        Ok(())
    }

    /// What a sink has otherwise than the source; `None` where they are the same.
    pub fn difference(
        &self,
        source: &Cluster,
        target: &Cluster,
        feed: &BTreeMap<String, Shelf>,
    ) -> Result<Option<String>> {
        for table in 0..self.tables {
            let name = format!("shelf_{table}");
            let query = format!("SELECT id, body FROM {name} ORDER BY id");
            let there = source.sql("source", &query)?;
            let rows = |text: &str| text.lines().count();
            let at_target = match target.sql("target", &query) {
                Ok(text) => text,
                // Made with its first row.
                Err(error) if error.to_string().contains("does not exist") => String::new(),
                Err(error) => return Err(error),
            };
            let of_feed = feed.get(&name).into_iter().flatten();
            let in_feed: Vec<String> = of_feed.map(|(id, body)| format!("{id}|{body}")).collect();
            for (sink, found) in [("warehouse", at_target), ("feed", in_feed.join("\n"))] {
                if found != there {
                    return Ok(Some(format!(
                        "{sink}: {name} has {} rows, other ones than the {} of the source",
                        rows(&found),
                        rows(&there)
                    )));
                }
            }
        }
        Ok(None)
    }
}
