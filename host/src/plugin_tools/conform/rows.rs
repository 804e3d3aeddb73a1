//! Rows of any table: all operations, all kinds of images, all that a value can be.

use crate::batch::{Batch, Cell, Lsn, OldImage, Op, Origin, Part, Relation, ReplicaIdentity, Row, Transaction, Tuple};
use std::sync::Arc;

const LARGE_BYTES: usize = 1 << 20;
const MANY: usize = 20_000;

/// Which values an image has.
#[derive(Clone, Copy)]
enum Fill {
    /// The `n`th of the examples of each type.
    Example(usize),
    /// NULL outside of the key.
    Null,
    /// Unchanged outside of the key.
    Unchanged,
    /// The key alone.
    Key,
}

/// A batch of some twenty changes.
pub fn of(relation: &Arc<Relation>) -> Batch {
    let mut batch = begin(relation, 1);
    for number in 0..4 {
        push(&mut batch, 0, Op::Insert, None, Some(Fill::Example(number)));
        push(&mut batch, 0, Op::Read, None, Some(Fill::Example(number)));
    }
    push(&mut batch, 0, Op::Insert, None, Some(Fill::Null));
    let old = match relation.replica_identity {
        ReplicaIdentity::Full => (OldImage::Full, Fill::Example(1)),
        _ => (OldImage::Key, Fill::Key),
    };
    // Without an identity the server sends neither updates nor deletes.
    if relation.replica_identity != ReplicaIdentity::Nothing {
        for new in [Fill::Example(2), Fill::Null, Fill::Unchanged] {
            push(&mut batch, 0, Op::Update, None, Some(new));
            push(&mut batch, 0, Op::Update, Some(old), Some(new));
        }
        push(&mut batch, 0, Op::Delete, Some(old), None);
    }
    batch
}

/// A row whose text columns hold a large value.
pub fn large(relation: &Arc<Relation>) -> Batch {
    let mut batch = begin(relation, 1);
    push(&mut batch, 0, Op::Insert, None, Some(Fill::Example(0)));
    let cell = batch.text_cell("x".repeat(LARGE_BYTES).as_bytes());
    let large = relation.columns.iter().rfind(|column| column.type_name == "text");
    if let (Some(column), Some(tuple)) = (large, batch.rows[0].new) {
        batch.set(tuple, column.slot, cell);
    }
    batch
}

pub fn many(relation: &Arc<Relation>) -> Batch {
    let mut batch = begin(relation, 1);
    for number in 0..MANY {
        push(&mut batch, 0, Op::Insert, None, Some(Fill::Example(number)));
    }
    batch
}

pub fn transactions(relation: &Arc<Relation>) -> Batch {
    let mut batch = begin(relation, 5);
    for number in 0..40 {
        push(&mut batch, number / 8, Op::Insert, None, Some(Fill::Example(number)));
    }
    batch
}

fn begin(relation: &Arc<Relation>, transactions: u32) -> Batch {
    Batch {
        relations: vec![Arc::clone(relation)],
        transactions: (0..transactions).map(transaction).collect(),
        ..Batch::default()
    }
}

pub fn transaction(number: u32) -> Transaction {
    Transaction {
        xid: 700 + number,
        commit_lsn: Lsn(0x1000 * u64::from(number + 1)),
        end_lsn: Lsn(0x1000 * u64::from(number + 1) + 8),
        commit_us: 1_000_000 * i64::from(number),
        part: Part::Whole,
        origin: Origin::Stream,
    }
}

fn push(batch: &mut Batch, transaction: usize, op: Op, old: Option<(OldImage, Fill)>, new: Option<Fill>) {
    let old_image = old.map_or(OldImage::Full, |(image, _)| image);
    let row = Row {
        relation: 0,
        transaction: transaction as u32,
        ordinal: batch.rows.len() as u64,
        old: old.map(|(_, fill)| image(batch, fill)),
        new: new.map(|fill| image(batch, fill)),
        extra: 0,
        fan_out: 0,
        op,
        old_image,
    };
    batch.rows.push(row);
}

fn image(batch: &mut Batch, fill: Fill) -> Tuple {
    let relation = Arc::clone(&batch.relations[0]);
    let mut cells = Vec::with_capacity(relation.columns.len());
    for column in &relation.columns {
        let number = match fill {
            Fill::Example(number) => Some(number),
            _ if column.key => Some(0),
            _ => None,
        };
        cells.push(match (number, fill) {
            (Some(number), _) => batch.text_cell(example(&column.type_name, number).as_bytes()),
            (None, Fill::Unchanged) => Cell::UNCHANGED,
            (None, Fill::Key) => Cell::ABSENT,
            _ => Cell::NULL,
        });
    }
    batch.push_tuple(cells)
}

/// A value in Postgres' text, the extremes of its type among them.
fn example(type_name: &str, number: usize) -> &'static str {
    let all: &[&str] = match type_name {
        "smallint" => &["1", "-32768", "32767"],
        "integer" => &["1", "-2147483648", "2147483647", "127", "128"],
        "bigint" => &["1", "-9223372036854775808", "9223372036854775807"],
        "real" | "double precision" => &["1.5", "NaN", "-Infinity", "1e-05"],
        "boolean" => &["t", "f"],
        "bytea" => &["\\x00ff10", "\\x"],
        "numeric" => &["12.5000", "NaN", "123456789012345678901234567890.1"],
        "uuid" => &["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"],
        "timestamp with time zone" => &["2024-01-01 00:00:00+00", "infinity", "0044-03-15 00:00:00+00 BC"],
        "jsonb" => &[r#"{"a": [1, null]}"#, "null", r#""\u0000x""#],
        "integer[]" => &["{1,NULL,3}", "{}"],
        "interval" => &["1 year 2 mons -3 days +04:05:06.789"],
        _ => &["paid", "", "ada@example.org", "größe 名前 \u{1F980}", "a\nb\\c\"d'"],
    };
    all[number % all.len()]
}
