//! From JSON lines to a batch.

use crate::batch::{
    Batch, Cell, Column, Lsn, OldImage, Op, Origin, Part, Relation, ReplicaIdentity, Row, Transaction, Tuple,
};
use crate::decode::builtin_type_oid;
use serde_json::{Map, Value};
use std::sync::Arc;

/// A line that isn't as the format has it. Holds no values.
#[derive(Debug, PartialEq, Eq)]
pub struct BadLine {
    /// Counted from 1.
    pub line: usize,
    pub what: String,
}

type Read<T> = Result<T, String>;

/// What changes of a type get that the file gives by a name which isn't built in.
const UNKNOWN_TYPE_OID: u32 = 0;
/// The transactions' positions, so far apart that each has room for its rows.
const LSN_STEP: u64 = 0x1000;

/// Reads a file's text. All rows stand in `Batch::rows`.
///
/// # Errors
///
/// The first line that isn't as the format has it.
pub fn read(text: &str) -> Result<Batch, BadLine> {
    let mut reader = Reader {
        batch: Batch::default(),
        ordinal: 0,
        open: false,
    };
    for (at, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let read = serde_json::from_str(line).map_err(|error| format!("it is no JSON: column {}", error.column()));
        read.and_then(|value: Value| reader.line(&value))
            .map_err(|what| BadLine { line: at + 1, what })?;
    }
    Ok(reader.batch)
}

struct Reader {
    batch: Batch,
    ordinal: u64,
    /// Whether a transaction has begun.
    open: bool,
}

impl Reader {
    fn line(&mut self, value: &Value) -> Read<()> {
        let object = value.as_object().ok_or("an object was expected")?;
        if object.contains_key("columns") {
            let relation = relation(object)?;
            self.batch.relations.push(Arc::new(relation));
            return Ok(());
        }
        if object.contains_key("commit") {
            self.open = false;
            return Ok(());
        }
        self.change(object)
    }

    fn change(&mut self, object: &Map<String, Value>) -> Read<()> {
        let op = match object.get("op").and_then(Value::as_str) {
            Some("insert") => Op::Insert,
            Some("update") => Op::Update,
            Some("delete") => Op::Delete,
            Some("read") => Op::Read,
            Some("upsert") => Op::Upsert,
            _ => return Err("`op` is insert, update, delete, read or upsert".to_owned()),
        };
        if let Some(key) = object
            .keys()
            .find(|key| !["op", "new", "old", "key"].contains(&&***key))
        {
            return Err(format!("`{key}` is no part of a change"));
        }
        let relation = self.batch.relations.last().cloned();
        let relation = relation.ok_or("a table's line has to come before the first change")?;
        let left_out = if matches!(op, Op::Update | Op::Upsert) {
            Cell::UNCHANGED
        } else {
            Cell::NULL
        };
        let new = self.image(&relation, object.get("new"), left_out)?;
        let (old, old_image) = match (object.get("old"), object.get("key")) {
            (Some(_), Some(_)) => return Err("a change has `old` or `key`, not both".to_owned()),
            (old @ Some(_), None) => (self.image(&relation, old, Cell::ABSENT)?, OldImage::Full),
            (None, key) => (self.image(&relation, key, Cell::ABSENT)?, OldImage::Key),
        };
        match (op, new.is_some(), old.is_some()) {
            (Op::Delete, false, true) | (Op::Update, true, _) | (Op::Insert | Op::Read | Op::Upsert, true, false) => {}
            _ => return Err(format!("the images don't fit an {}", op.name())),
        }
        if !self.open {
            self.begin();
        }
        let row = Row {
            relation: (self.batch.relations.len() - 1) as u32,
            transaction: (self.batch.transactions.len() - 1) as u32,
            ordinal: self.ordinal,
            new,
            old,
            extra: 0,
            fan_out: 0,
            op,
            old_image: if old.is_some() { old_image } else { OldImage::Full },
        };
        self.ordinal += 1;
        self.batch.rows.push(row);
        Ok(())
    }

    fn begin(&mut self) {
        self.open = true;
        self.ordinal = 0;
        let number = self.batch.transactions.len() as u64 + 1;
        self.batch.transactions.push(Transaction {
            xid: number as u32,
            commit_lsn: Lsn(number * LSN_STEP),
            end_lsn: Lsn(number * LSN_STEP + 8),
            commit_us: number as i64 * 1_000_000,
            part: Part::Whole,
            origin: Origin::Stream,
        });
    }

    fn image(&mut self, relation: &Relation, values: Option<&Value>, left_out: Cell) -> Read<Option<Tuple>> {
        let Some(values) = values else {
            return Ok(None);
        };
        let values = values.as_object().ok_or("an image is an object")?;
        if let Some(name) = values.keys().find(|name| relation.column_index(name).is_none()) {
            return Err(format!("{} has no column {name}", relation.full_name()));
        }
        let mut cells = Vec::with_capacity(relation.columns.len());
        for column in &relation.columns {
            cells.push(match values.get(&column.name) {
                None => left_out,
                Some(Value::Null) => Cell::NULL,
                Some(Value::String(text)) => self.batch.text_cell(text.as_bytes()),
                Some(Value::Bool(value)) => self.batch.text_cell(if *value { b"t" } else { b"f" }),
                Some(Value::Number(number)) if number.is_i64() || number.is_u64() => {
                    self.batch.text_cell(number.to_string().as_bytes())
                }
                Some(_) => return Err(format!("column {}: Postgres' text as a string, or null", column.name)),
            });
        }
        Ok(Some(self.batch.push_tuple(cells)))
    }
}

/// A table's line; also what `inspect --schema` takes.
pub(super) fn relation(object: &Map<String, Value>) -> Read<Relation> {
    let text = |key: &str| object.get(key).and_then(Value::as_str);
    let table = text("table").ok_or("a table's line names its `table`")?;
    let replica_identity = match text("replica_identity").unwrap_or("default") {
        "default" => ReplicaIdentity::Default,
        "full" => ReplicaIdentity::Full,
        "index" => ReplicaIdentity::Index,
        "nothing" => ReplicaIdentity::Nothing,
        _ => return Err("`replica_identity` is default, full, index or nothing".to_owned()),
    };
    let columns = object.get("columns").and_then(Value::as_array);
    let columns = columns.ok_or("`columns` is a list")?;
    let columns: Vec<Column> = columns.iter().enumerate().map(column).collect::<Read<_>>()?;
    let slots = u16::try_from(columns.len()).map_err(|_| "too many columns")?;
    let index = Relation::next_index();
    Ok(Relation {
        index,
        version: 1,
        oid: index,
        schema: text("schema").unwrap_or("public").to_owned(),
        table: table.to_owned(),
        replica_identity,
        columns,
        slots,
    })
}

fn column((at, value): (usize, &Value)) -> Read<Column> {
    let text = |key: &str| value.get(key).and_then(Value::as_str);
    let yes = |key: &str, default: bool| value.get(key).and_then(Value::as_bool).unwrap_or(default);
    let name = text("name").ok_or("a column has a `name`")?;
    let type_name = text("type").ok_or_else(|| format!("column {name} has a `type`, e.g. \"text\""))?;
    let given = value.get("type_oid").and_then(Value::as_u64);
    let given = given.and_then(|oid| u32::try_from(oid).ok());
    let typmod = value.get("typmod").and_then(Value::as_i64);
    Ok(Column {
        name: name.to_owned(),
        type_oid: given
            .or_else(|| builtin_type_oid(type_name))
            .unwrap_or(UNKNOWN_TYPE_OID),
        typmod: typmod.and_then(|typmod| i32::try_from(typmod).ok()).unwrap_or(-1),
        type_name: type_name.to_owned(),
        nullable: yes("nullable", true),
        key: yes("key", false),
        slot: at as u16,
    })
}

#[cfg(test)]
mod tests {
    use super::super::write;
    use super::*;

    const SAMPLE: &str = r#"{"schema":"public","table":"orders","replica_identity":"full","columns":[{"name":"id","type":"bigint","key":true},{"name":"note","type":"text"}]}
{"op":"insert","new":{"id":"1","note":null}}
{"op":"update","new":{"id":"1"},"old":{"id":"1","note":"a\nb"}}
{"op":"delete","key":{"id":"1"}}
"#;

    #[test]
    fn what_is_read_is_written_the_same() {
        let batch = read(SAMPLE).unwrap();
        let mut text = format!("{}\n", write::table(&batch.relations[0]));
        for row in &batch.rows {
            text.push_str(&format!("{}\n", write::change(&batch, row)));
        }
        assert_eq!(text, SAMPLE);
        assert_eq!(batch.transactions.len(), 1);
    }

    #[test]
    fn a_line_that_is_wrong_is_named_without_its_values() {
        let head = SAMPLE.lines().next().unwrap();
        for (line, says) in [
            (r#"{"op":"insert","new":{"idd":"secret"}}"#, "no column idd"),
            (r#"{"op":"delete","new":{"id":"secret"}}"#, "images"),
            (r#"{"op":"insert","new":{"id":1.5}}"#, "column id"),
            (r#"{"op":"insert""#, "no JSON"),
            (r#"{"op":"insert","nwe":{}}"#, "`nwe`"),
        ] {
            let bad = read(&format!("{head}\n\n{line}\n")).unwrap_err();
            assert_eq!(bad.line, 3);
            assert!(bad.what.contains(says) && !bad.what.contains("secret"), "{}", bad.what);
        }
        assert_eq!(read(r#"{"op":"insert","new":{}}"#).unwrap_err().line, 1);
    }

    #[test]
    fn a_commit_ends_a_transaction() {
        let twice = format!("{SAMPLE}{{\"commit\":true}}\n{}", SAMPLE.lines().nth(1).unwrap());
        let batch = read(&twice).unwrap();
        assert_eq!(batch.transactions.len(), 2);
        let last = batch.rows.last().unwrap();
        assert_eq!((last.transaction, last.ordinal), (1, 0));
    }
}
