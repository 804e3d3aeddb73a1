//! The SQL of a run.

use super::about::About;
use super::run::{Columns, Kind, Run};
use super::target::{Target, TargetColumn};
use crate::config::OnConflict;

/// Where a parameter's values come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Image {
    New,
    /// The old image.
    Old,
    /// The key of a row whose key stays: from the new image, or the old one where the new one has it unchanged.
    Key,
    /// What is known of the row: from the new image, or where that lacks it, from the old one.
    Newest,
    /// No column's, but the change's own.
    About(About),
}

/// A statement's text, and what its parameters are in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sql {
    pub(super) text: String,
    /// The slot of each parameter, one array of text each.
    pub(super) parameters: Vec<(Image, u16)>,
    /// Those that are arrays of `bytea` instead.
    pub(super) binary: Columns,
}

/// The parameters of a statement as they are handed out.
struct Source<'a> {
    target: &'a Target,
    columns: &'a Columns,
    /// The columns whose newest value comes in binary form.
    binary: &'a Columns,
    parameters: Vec<(Image, u16)>,
    /// The table that holds the rows, where they aren't parameters.
    table: Option<&'static str>,
}

impl<'a> Source<'a> {
    fn present(&self) -> impl Iterator<Item = &'a TargetColumn> + use<'a> {
        let columns = self.columns;
        let present = move |(at, _): &(usize, &TargetColumn)| columns.contains(*at);
        self.target
            .columns
            .iter()
            .enumerate()
            .filter(present)
            .map(|(_, column)| column)
    }

    fn key(&self) -> impl Iterator<Item = &'a TargetColumn> + use<'a> {
        self.target.columns.iter().filter(|column| column.key)
    }

    /// The next parameter, as the expression that stands for its value in a row of `s`.
    fn value(&mut self, image: Image, column: &TargetColumn) -> String {
        self.parameter(image, column.slot, &column.cast)
    }

    /// The same as what the column made of the value when it was assigned.
    fn assigned(&mut self, image: Image, column: &TargetColumn) -> String {
        self.parameter(image, column.slot, &column.found_as)
    }

    fn parameter(&mut self, image: Image, slot: u16, cast: &str) -> String {
        self.parameters.push((image, slot));
        format!("s.v{}::{cast}", self.parameters.len())
    }

    /// In the select list the arrays are gone through in step; in FROM each would be put by first, which takes twice as
    /// long.
    fn rows(&self) -> String {
        if let Some(table) = self.table {
            return format!("{table} AS s");
        }
        let arrays = (1..=self.parameters.len()).map(|at| {
            let element = if self.is_binary(at - 1) { "bytea" } else { "text" };
            format!("unnest(${at}::{element}[]) AS v{at}")
        });
        format!("(SELECT {}) AS s", arrays.collect::<Vec<_>>().join(", "))
    }

    fn is_binary(&self, parameter: usize) -> bool {
        let (image, slot) = self.parameters[parameter];
        let column = self.target.columns.iter().position(|column| column.slot == slot);
        matches!(image, Image::New | Image::Newest) && column.is_some_and(|at| self.binary.contains(at))
    }

    /// No statement may set what is GENERATED ALWAYS.
    fn assignments(&mut self, of: impl Fn(&TargetColumn) -> bool) -> String {
        let set: Vec<String> = self
            .present()
            .filter(|column| !column.always && of(column))
            .map(|column| format!("{} = {}", column.name, self.value(Image::New, column)))
            .collect();
        set.join(", ")
    }

    /// The columns that are GENERATED ALWAYS and come with a value.
    fn always(&self) -> impl Iterator<Item = &'a TargetColumn> + use<'a> {
        self.present().filter(|column| column.always && !column.key)
    }

    /// ` AND` that these are in the table what comes.
    fn keeps_always(&mut self) -> String {
        let columns = self.always();
        columns
            .map(|column| {
                let value = self.assigned(Image::New, column);
                format!(" AND t.{} IS NOT DISTINCT FROM {value}", column.name)
            })
            .collect()
    }

    /// That one of these isn't.
    fn differs_always(&mut self) -> String {
        let columns = self.always();
        let differ: Vec<String> = columns
            .map(|column| {
                let value = self.value(Image::New, column);
                format!("t.{} IS DISTINCT FROM {value}", column.name)
            })
            .collect();
        differ.join(" OR ")
    }

    fn key_matches(&mut self, image: Image) -> String {
        let equal: Vec<String> = self
            .key()
            .map(|column| format!("t.{} {} {}", column.name, column.equals, self.assigned(image, column)))
            .collect();
        equal.join(" AND ")
    }

    /// Compares text with text: not every type has an equality.
    fn row_matches(&mut self) -> String {
        let all: Vec<String> = self
            .target
            .columns
            .iter()
            .map(|column| {
                let value = self.assigned(Image::Old, column);
                format!("t.{}::text IS NOT DISTINCT FROM ({value})::text", column.name)
            })
            .collect();
        all.join(" AND ")
    }

    fn done(self, text: String) -> Sql {
        let mut binary = Columns::default();
        let count = self.parameters.len();
        (0..count)
            .filter(|at| self.is_binary(*at))
            .for_each(|at| binary.set(at, count));
        Sql {
            text,
            parameters: self.parameters,
            binary,
        }
    }
}

/// A row whose key changes. At the source nothing has the new key; at the target a row may, where changes are sent
/// again that a copy or an earlier run was ahead of. That row is the newer one: it stays, with what the change says,
/// and the one with the old key goes. So values that the change doesn't bring are never taken from the wrong row.
fn moved(source: &mut Source<'_>) -> String {
    let name = source.target.found_in();
    let update = source.assignments(|_| true);
    let is_there = source.key_matches(Image::New);
    let is_old = source.key_matches(Image::Old);
    format!(
        "WITH s AS (SELECT * FROM {rows}), \
         there AS (UPDATE {name} AS t SET {update} FROM s WHERE {is_there} RETURNING 1), \
         gone AS (DELETE FROM {name} AS t USING s WHERE {is_old} AND NOT ({is_there}) AND EXISTS (SELECT FROM there)) \
         UPDATE {name} AS t SET {update} FROM s WHERE {is_old} AND NOT EXISTS (SELECT FROM there)",
        rows = source.rows()
    )
}

/// The statement that applies a run; `None` where there is nothing to set.
pub(super) fn sql(target: &Target, run: &Run, conflict: OnConflict) -> Option<Sql> {
    made(target, run, conflict, None)
}

/// The same where the rows lie in a table, whose columns are called `v1`, `v2` and so on in the parameters' order.
pub(super) fn sql_from(table: &'static str, target: &Target, run: &Run, conflict: OnConflict) -> Option<Sql> {
    made(target, run, conflict, Some(table))
}

fn made(target: &Target, run: &Run, conflict: OnConflict, table: Option<&'static str>) -> Option<Sql> {
    let mut source = Source {
        target,
        columns: &run.columns,
        binary: &run.binary,
        parameters: Vec::new(),
        table,
    };
    let name = target.found_in();
    let text = match run.kind {
        Kind::Add if conflict == OnConflict::Skip => insert(&mut source) + " ON CONFLICT DO NOTHING",
        Kind::Add if conflict == OnConflict::Error => insert(&mut source),
        Kind::Add | Kind::Insert | Kind::Upsert => upsert(&mut source),
        Kind::Update | Kind::Complete => {
            let mut set = source.assignments(|column| !column.key);
            if set.is_empty() {
                // Nothing changes, and yet it is seen whether the row is there, or what it should be; and triggers see it.
                if run.kind == Kind::Update && !target.triggers {
                    source.always().next()?;
                }
                let key = source.key().next()?;
                set = format!("{0} = t.{0}", key.name);
            }
            let matches = source.key_matches(Image::Key) + &source.keeps_always();
            format!("UPDATE {name} AS t SET {set} FROM {} WHERE {matches}", source.rows())
        }
        Kind::Shift if conflict != OnConflict::Overwrite => {
            let set = source.assignments(|_| true);
            let matches = source.key_matches(Image::Old) + &source.keeps_always();
            format!("UPDATE {name} AS t SET {set} FROM {} WHERE {matches}", source.rows())
        }
        Kind::Shift | Kind::Move => moved(&mut source),
        Kind::Delete => {
            let matches = source.key_matches(Image::Key);
            format!("DELETE FROM {name} AS t USING {} WHERE {matches}", source.rows())
        }
        Kind::Replaced => {
            let matches = source.key_matches(Image::Key);
            let differs = source.differs_always();
            let rows = source.rows();
            format!("DELETE FROM {name} AS t USING {rows} WHERE {matches} AND ({differs})")
        }
        Kind::Differing => {
            let matches = source.key_matches(Image::Key);
            let differs = source.differs_always();
            format!(
                "SELECT FROM {name} AS t, {} WHERE {matches} AND ({differs})",
                source.rows()
            )
        }
        Kind::UpdateEqual => {
            let set = source.assignments(|_| true);
            if set.is_empty() {
                return None;
            }
            let matches = source.row_matches() + &source.keeps_always();
            let rows = source.rows();
            format!(
                "UPDATE {name} AS u SET {set} FROM {rows}, LATERAL (SELECT t.ctid, t.tableoid FROM {name} AS t \
                 WHERE {matches} LIMIT 1) AS f WHERE u.ctid = f.ctid AND u.tableoid = f.tableoid"
            )
        }
        Kind::DeleteEqual => {
            let matches = source.row_matches();
            let rows = source.rows();
            format!(
                "DELETE FROM {name} AS u USING {rows}, LATERAL (SELECT t.ctid, t.tableoid FROM {name} AS t \
                 WHERE {matches} LIMIT 1) AS f WHERE u.ctid = f.ctid AND u.tableoid = f.tableoid"
            )
        }
        Kind::Append => appended(&mut source),
        Kind::Truncate => return None,
    };
    Some(source.done(text))
}

fn insert(source: &mut Source<'_>) -> String {
    let names: Vec<&str> = source.present().map(|column| column.name.as_str()).collect();
    let values: Vec<String> = source
        .present()
        .map(|column| source.value(Image::New, column))
        .collect();
    format!(
        "INSERT INTO {} AS t ({}) OVERRIDING SYSTEM VALUE SELECT {} FROM {}",
        source.target.name,
        names.join(", "),
        values.join(", "),
        source.rows()
    )
}

fn upsert(source: &mut Source<'_>) -> String {
    let target = source.target;
    let insert = insert(source);
    if !target.keyed || target.due {
        return insert;
    }
    let key: Vec<&str> = source.key().map(|column| column.name.as_str()).collect();
    let set: Vec<String> = source
        .present()
        .filter(|column| !column.key && !column.always)
        .map(|column| format!("{0} = EXCLUDED.{0}", column.name))
        .collect();
    let action = if set.is_empty() {
        "NOTHING".to_owned()
    } else {
        format!("UPDATE SET {}", set.join(", "))
    };
    format!("{insert} ON CONFLICT ({}) DO {action}", key.join(", "))
}

/// A row of its own for each change.
fn appended(source: &mut Source<'_>) -> String {
    let target = source.target;
    let mut names: Vec<&str> = source.present().map(|column| column.name.as_str()).collect();
    let mut values: Vec<String> = source
        .present()
        .map(|column| source.value(Image::Newest, column))
        .collect();
    for (about, column) in &target.about {
        names.push(&column.name);
        values.push(source.value(Image::About(*about), column));
    }
    format!(
        "INSERT INTO {} AS t ({}) OVERRIDING SYSTEM VALUE SELECT {} FROM {}",
        target.name,
        names.join(", "),
        values.join(", "),
        source.rows()
    )
}

/// With columns in `binary`, the rows come as a binary COPY has them.
pub(super) fn copy(target: &Target, kind: Kind, columns: &Columns, binary: &Columns) -> Sql {
    let mut source = Source {
        target,
        columns,
        binary: &Columns::default(),
        parameters: Vec::new(),
        table: None,
    };
    let mut names = Vec::new();
    let image = match kind {
        Kind::Append => Image::Newest,
        _ => Image::New,
    };
    for column in source.present() {
        names.push(column.name.as_str());
        source.parameters.push((image, column.slot));
    }
    if kind == Kind::Append {
        for (about, column) in &target.about {
            names.push(&column.name);
            source.parameters.push((Image::About(*about), 0));
        }
    }
    let mut text = format!("COPY {} ({}) FROM STDIN", target.name, names.join(", "));
    if !binary.is_empty() {
        text.push_str(" (FORMAT binary)");
    }
    source.done(text)
}
