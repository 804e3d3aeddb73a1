//! A guest's replies to `rowmill_schema` and `rowmill_batch`, through the checking and application that live rows
//! go through.

use super::decoders::{is_whole, table, transaction};
use crate::batch::{Batch, Cell, OldImage, Op, Relation, Row, Tuple, Value};
use crate::config::FilterMode;
use crate::plugin::fuzzing::{
    Encoder, Entry, Images, InUse, Kind, Plan, Refused, SchemaReply, Scratch, Shapes, apply_filter, apply_transform,
    build, parse_schema,
};
use std::sync::Arc;

/// Name, type, whether it is part of the key, and its text in an image.
type Described = (&'static str, u32, bool, &'static str);

/// One column of each class, and the texts of one image.
const COLUMNS: [Described; 8] = [
    ("id", 23, true, "1"),
    ("email", 25, false, "a@example.org"),
    ("count", 20, false, "-9223372036854775808"),
    ("rate", 701, false, "NaN"),
    ("paid", 16, false, "t"),
    ("photo", 17, false, "\\x00ff"),
    ("total", 1700, false, "1.50"),
    ("small", 21, false, "7"),
];

/// In the first byte: the table has no columns, as one of Postgres may.
const BARE: u8 = 0x80;

/// The first byte says which kind of plugin it is and whether its table has columns, the next two how long the reply to `rowmill_schema` is; what follows
/// it is the reply to `rowmill_batch`.
pub(super) fn guest_reply(bytes: &[u8]) {
    let [which, high, low, replies @ ..] = bytes else {
        return;
    };
    let len = usize::from(u16::from_be_bytes([*high, *low])).min(replies.len());
    let (schema, reply) = replies.split_at(len);
    let (kind, mode, images) = match which % 3 {
        0 => (Kind::Transform, FilterMode::Membership, Images::All),
        1 => (Kind::Filter, FilterMode::Membership, Images::Judged),
        _ => (Kind::Filter, FilterMode::Event, Images::Newest),
    };
    let columns: &[Described] = if which & BARE == 0 { &COLUMNS[..] } else { &[] };
    let relation = table(columns.iter().map(|(name, oid, key, _)| (*name, *oid, *key)));
    let Ok(SchemaReply::Use(wishes)) = parse_schema(schema, relation.columns.len()) else {
        return;
    };
    let Ok(plan) = build(kind, &wishes, &relation, &Shapes::default()) else {
        return;
    };
    let (mut batch, rows) = changes(&relation, columns);
    let originals = batch.clone();
    let plans = [Plan::Use(Box::new(plan))];
    let mut entries = [Entry {
        plan: 0,
        output: u32::MAX,
    }];
    let mut encoder = Encoder::new(false);
    let mut from = 0;
    let mut out = Vec::new();
    let (mut refused, shapes) = (Refused::default(), Shapes::default());
    while from < rows.len() {
        let to = encoder.fill(&batch, &rows, from, &entries, &plans, images);
        refused.base = from;
        encoder.finish(&batch, 0, None);
        let applied = match kind {
            Kind::Filter => apply_filter(
                reply,
                &encoder,
                &rows[from..to],
                mode,
                &mut batch,
                &mut out,
                &mut refused,
            )
            .is_ok(),
            Kind::Transform => apply_transform(
                reply,
                &encoder,
                &rows[from..to],
                &plans,
                &mut entries,
                &mut Scratch::default(),
                &shapes,
                &mut batch,
                &mut out,
                &mut refused,
            )
            .is_ok(),
        };
        if !applied {
            return;
        }
        from = to;
    }
    let Plan::Use(plan) = &plans[0] else { return };
    for (at, _) in &refused.list {
        let same = |row: &Row| (row.transaction, row.ordinal) == (rows[*at].transaction, rows[*at].ordinal);
        assert!(!out.iter().any(same), "a refused change goes on");
    }
    for row in &out {
        is_whole(&batch, row);
        nothing_undeclared(plan, &originals, &rows, &batch, row);
    }
}

/// A column that isn't in `writes` holds what it held in some image, or is left out.
fn nothing_undeclared(plan: &InUse, originals: &Batch, rows: &[Row], batch: &Batch, row: &Row) {
    let relation = batch.relation(row);
    let output = plan
        .outputs
        .iter()
        .find(|output| output.relation.index == relation.index)
        // Where it was sent elsewhere, the shape is an output's all the same.
        .or_else(|| {
            plan.outputs
                .iter()
                .find(|output| output.relation.columns == relation.columns)
        });
    let output = output.expect("rows go to a declared output");
    for column in output.columns.iter().filter(|column| !column.writable) {
        for tuple in [row.old, row.new].into_iter().flatten() {
            let value = batch.value(tuple, column.slot);
            let was = |image: Tuple| originals.value(image, column.slot) == value;
            let kept = match column.added {
                true => value == Value::Null,
                false => rows.iter().flat_map(|row| [row.old, row.new]).flatten().any(was),
            };
            assert!(kept || value == Value::Absent, "an undeclared column was written");
        }
    }
}

/// A change of each kind, with old images of each kind.
fn changes(relation: &Arc<Relation>, columns: &[Described]) -> (Batch, Vec<Row>) {
    let mut batch = Batch {
        relations: vec![Arc::clone(relation)],
        transactions: vec![transaction()],
        ..Batch::default()
    };
    let [full, key, toast] = std::array::from_fn(|_| image(&mut batch, columns));
    for slot in 1..relation.slots {
        batch.set(key, slot, Cell::ABSENT);
    }
    if !columns.is_empty() {
        batch.set(toast, 1, Cell::UNCHANGED);
        batch.set(toast, 6, Cell::NULL);
    }
    let row = |op, old: Option<(OldImage, Tuple)>, new| Row {
        relation: 0,
        transaction: 0,
        ordinal: 0,
        new,
        old: old.map(|(_, tuple)| tuple),
        extra: 0,
        fan_out: 0,
        op,
        old_image: old.map_or(OldImage::Full, |(image, _)| image),
    };
    let rows = vec![
        row(Op::Insert, None, Some(full)),
        row(Op::Update, Some((OldImage::Full, full)), Some(full)),
        row(Op::Update, Some((OldImage::Key, key)), Some(full)),
        row(Op::Delete, Some((OldImage::Key, key)), None),
        row(Op::Delete, Some((OldImage::Full, full)), None),
        row(Op::Read, None, Some(full)),
        row(Op::Update, None, Some(toast)),
    ];
    let numbered = rows.into_iter().zip(0..).map(|(row, ordinal)| Row { ordinal, ..row });
    let rows = numbered.collect();
    (batch, rows)
}

fn image(batch: &mut Batch, columns: &[Described]) -> Tuple {
    let cells: Vec<Cell> = columns
        .iter()
        .map(|(.., text)| batch.text_cell(text.as_bytes()))
        .collect();
    batch.push_tuple(cells)
}
