//! Changes as rows of the trail.

use super::ROWS_MAX;
use super::context::Stitcher;
use crate::batch::{Batch, Op, Origin, Relation, Replay, Row, Tuple, Value};
use crate::sink::SinkError;
use crate::sink::json::{EncodeError, Images, commit_time};
use crate::sink::postgres::apply::Work;
use crate::sink::postgres::encode::TextArray;
use std::io::Write;
use std::ops::Range;
use tokio_postgres::types::ToSql;

/// The column by which Bemi knows rows: it comes before any key.
const ID: &str = "id";
/// The arrays' order is that of [`super::table::insert`].
const COLUMNS: usize = 12;
/// Where the sink's own tables lie.
const OWN_SCHEMA: &str = "rowmill";

/// Rows of the trail, by column; each part is one statement.
pub(in crate::sink::postgres) struct Arrays(Vec<Part>);

pub(super) struct Part {
    arrays: Vec<TextArray>,
    pub(super) rows: u64,
}

impl Arrays {
    pub(super) fn parts(self) -> impl Iterator<Item = Part> {
        self.0.into_iter()
    }
}

impl Part {
    pub(super) fn parameters<'a>(&'a self, database: &'a &'a str) -> Vec<&'a (dyn ToSql + Sync)> {
        let arrays = self.arrays.iter().map(|array| array as &(dyn ToSql + Sync));
        arrays.chain([database as &(dyn ToSql + Sync)]).collect()
    }
}

pub(super) struct Encoder {
    images: Images,
    /// The trail itself, where it lies in the source's database.
    own: Option<(String, String)>,
    buffers: Buffers,
}

/// Texts of the row under way, kept for their memory.
#[derive(Default)]
struct Buffers {
    before: Vec<u8>,
    after: Vec<u8>,
    key: Vec<u8>,
    time: Vec<u8>,
    number: Vec<u8>,
}

/// What becomes of one change of one table.
struct Told<'a> {
    operation: &'static str,
    relation: &'a Relation,
    row: &'a Row,
}

impl Encoder {
    pub(super) fn new(own: Option<(String, String)>) -> Self {
        Self {
            images: Images::default(),
            own,
            buffers: Buffers::default(),
        }
    }

    pub(super) fn encode(
        &mut self,
        work: Work<'_>,
        range: Range<usize>,
        stitcher: &Stitcher,
    ) -> Result<Option<Arrays>, SinkError> {
        let batch = work.batch;
        let mut parts = Vec::new();
        let mut open: Vec<TextArray> = Vec::new();
        let mut count = 0;
        for at in range {
            let row = &work.rows[at];
            let failed = |error: EncodeError| SinkError::Row {
                row: at,
                error: error.into(),
            };
            let operation = match row.op {
                // What a table held before is no change.
                Op::Read | Op::Message => continue,
                _ if is_copied(batch, row) => continue,
                Op::Insert => "CREATE",
                Op::Update | Op::Upsert => "UPDATE",
                Op::Delete => "DELETE",
                Op::Truncate => "TRUNCATE",
            };
            let one = [row.relation];
            let relations = match row.op {
                Op::Truncate => batch.truncates[row.extra as usize].relations.as_slice(),
                _ => &one,
            };
            for relation in relations {
                let relation = &batch.relations[*relation as usize];
                if self.is_own(relation) {
                    continue;
                }
                if open.is_empty() {
                    open = (0..COLUMNS).map(|_| TextArray::with_capacity(ROWS_MAX)).collect();
                }
                let told = Told {
                    operation,
                    relation,
                    row,
                };
                self.push(batch, &told, stitcher, &mut open).map_err(failed)?;
                count += 1;
                if count % ROWS_MAX == 0 {
                    parts.push(finish(&mut open, ROWS_MAX));
                }
            }
        }
        if !open.is_empty() {
            parts.push(finish(&mut open, count % ROWS_MAX));
        }
        Ok((!parts.is_empty()).then_some(Arrays(parts)))
    }

    fn is_own(&self, relation: &Relation) -> bool {
        let Some((schema, table)) = &self.own else {
            return false;
        };
        relation.schema == OWN_SCHEMA || relation.schema == *schema && relation.table == *table
    }

    fn push(
        &mut self,
        batch: &Batch,
        told: &Told<'_>,
        stitcher: &Stitcher,
        arrays: &mut [TextArray],
    ) -> Result<(), EncodeError> {
        let Told {
            operation,
            relation,
            row,
        } = *told;
        let Buffers {
            before,
            after,
            key,
            time,
            number,
        } = &mut self.buffers;
        for buffer in [&mut *before, &mut *after, &mut *key, &mut *time] {
            buffer.clear();
        }
        self.images.push(batch, relation, row.old, row.new, before)?;
        self.images.push(batch, relation, row.new, row.old, after)?;
        let newest = if row.op == Op::Delete { row.old } else { row.new };
        let has_key = match newest {
            Some(tuple) => push_key(&mut self.images, batch, relation, tuple, row.old, key)?,
            None => false,
        };
        let transaction = batch.transaction(row);
        commit_time(time, transaction.commit_us);
        let context = stitcher.of(batch, row);
        let texts: [Option<&[u8]>; 8] = [
            Some(before),
            Some(after),
            Some(context.as_bytes()),
            Some(relation.schema.as_bytes()),
            Some(relation.table.as_bytes()),
            has_key.then_some(key.as_slice()),
            Some(operation.as_bytes()),
            Some(time),
        ];
        for (array, text) in arrays.iter_mut().zip(texts) {
            array.push(text);
        }
        let numbers = [
            u64::from(transaction.xid),
            transaction.commit_lsn.0,
            row.ordinal,
            u64::from(row.fan_out),
        ];
        for (array, value) in arrays[texts.len()..].iter_mut().zip(numbers) {
            number.clear();
            // Writing to a Vec can't fail.
            let _ = write!(number, "{value}");
            array.push(Some(number));
        }
        Ok(())
    }
}

/// Writes the text of column `id`, of the key's one column, or of all as a JSON array. `false` where there is none.
fn push_key(
    images: &mut Images,
    batch: &Batch,
    relation: &Relation,
    tuple: Tuple,
    other: Option<Tuple>,
    out: &mut Vec<u8>,
) -> Result<bool, EncodeError> {
    let slots: Vec<u16> = match relation.columns.iter().find(|column| column.name == ID) {
        Some(id) => vec![id.slot],
        None => relation.key_columns().map(|column| column.slot).collect(),
    };
    match slots.as_slice() {
        [] => Ok(false),
        [one] => {
            let value = match (batch.value(tuple, *one), other) {
                (Value::Unchanged, Some(other)) => batch.value(other, *one),
                (value, _) => value,
            };
            let Some(text) = value.text() else { return Ok(false) };
            out.extend_from_slice(text);
            std::str::from_utf8(out).map_err(|_| EncodeError::NotUtf8)?;
            Ok(true)
        }
        // Under REPLICA IDENTITY FULL a table without a key has all its columns here: they are no name for a row.
        several if several.len() == relation.columns.len() && is_keyless(relation) => Ok(false),
        several => {
            images.push_array(batch, relation, tuple, several, out)?;
            Ok(true)
        }
    }
}

fn is_keyless(relation: &Relation) -> bool {
    relation.replica_identity == crate::batch::ReplicaIdentity::Full
        && relation.key_columns().any(|column| column.nullable)
}

fn is_copied(batch: &Batch, row: &Row) -> bool {
    matches!(
        batch.transaction(row).origin,
        Origin::Copy(_) | Origin::Replay(Replay { copy: Some(_), .. })
    )
}

fn finish(arrays: &mut Vec<TextArray>, rows: usize) -> Part {
    Part {
        arrays: std::mem::take(arrays).into_iter().map(TextArray::finish).collect(),
        rows: rows as u64,
    }
}
