//! Rows that are the same on every machine: twelve columns, or as many as are asked for.

use rowmill::batch::{Batch, Column, Lsn, OldImage, Op, Origin, Part, Relation, ReplicaIdentity, Row, Transaction};
use std::sync::Arc;

pub const ROWS: u64 = 1_024;
/// Name and type; the first column is the key.
pub const COLUMNS: [(&str, u32, &str); 12] = [
    ("id", 20, "int8"),
    ("quantity", 23, "int4"),
    ("shard", 21, "int2"),
    ("weight", 701, "float8"),
    ("score", 701, "float8"),
    ("gift", 16, "bool"),
    ("status", 25, "text"),
    ("email", 25, "text"),
    ("note", 25, "text"),
    ("amount", 1700, "numeric"),
    ("created_at", 1184, "timestamptz"),
    ("token", 2950, "uuid"),
];
/// One in five isn't paid.
const STATUSES: [&str; 5] = ["paid", "paid", "shipped", "paid", "paid"];

/// What stands in columns beyond the twelve.
pub const UNREAD: &str = "not read";

/// Values of a row: lengths, digits and branches vary as they do in tables.
pub fn values(ordinal: u64) -> [String; 12] {
    // Knuth's multiplier: all bits change from row to row, the same in every run.
    let noise = (ordinal + 1).wrapping_mul(6_364_136_223_846_793_005) >> 16;
    let part = |shift: u32, limit: u64| (noise >> shift) % limit;
    let name = ["al", "alice", "bob", "christina", "dan", "evangeline"][part(3, 6) as usize];
    [
        (part(0, 9_000_000_000) + 1).to_string(),
        part(5, 200).to_string(),
        part(7, 16).to_string(),
        format!("{}.{}", part(2, 80), part(9, 8) * 125),
        format!("0.{}", part(4, 10)),
        if part(11, 3) == 0 { "t" } else { "f" }.to_owned(),
        STATUSES[part(13, 5) as usize].to_owned(),
        format!("{name}.{}@example.org", part(1, 10_000)),
        "leave it with the neighbours"
            .chars()
            .cycle()
            .take(part(6, 60) as usize)
            .collect(),
        format!("{}.{:02}", part(8, 10_000), part(12, 100)),
        format!(
            "2024-{:02}-{:02} {:02}:{:02}:{:02}.{:06}+00",
            part(1, 12) + 1,
            part(2, 28) + 1,
            part(3, 24),
            part(4, 60),
            part(5, 60),
            // Postgres leaves trailing zeros away.
            part(6, 99_999) * 10 + 1,
        ),
        format!("{:08x}-7d41-4a5e-9d3b-{noise:012x}", part(9, 1 << 32)),
    ]
}

/// A batch of inserts with as many columns, 8 or more; those beyond the twelve are texts.
pub fn batch(columns: usize) -> Batch {
    let mut batch = Batch {
        relations: vec![Arc::new(relation(columns))],
        transactions: vec![Transaction {
            xid: 7,
            commit_lsn: Lsn(0x10),
            end_lsn: Lsn(0x18),
            commit_us: 0,
            part: Part::Whole,
            origin: Origin::Stream,
        }],
        ..Batch::default()
    };
    for ordinal in 0..ROWS {
        let mut cells: Vec<_> = values(ordinal)
            .iter()
            .take(columns)
            .map(|value| batch.text_cell(value.as_bytes()))
            .collect();
        cells.extend((COLUMNS.len()..columns).map(|_| batch.text_cell(UNREAD.as_bytes())));
        let new = Some(batch.push_tuple(cells));
        batch.rows.push(Row {
            relation: 0,
            transaction: 0,
            ordinal,
            old: None,
            new,
            extra: 0,
            fan_out: 0,
            op: Op::Insert,
            old_image: OldImage::Full,
        });
    }
    batch
}

/// The table of such rows.
pub fn relation(columns: usize) -> Relation {
    let beyond = (COLUMNS.len()..columns).map(|at| (format!("text_{at}"), 25, "text"));
    let named = COLUMNS.iter().map(|(name, oid, of)| ((*name).to_owned(), *oid, *of));
    let columns = named.chain(beyond).take(columns).enumerate();
    let columns: Vec<Column> = columns
        .map(|(slot, (name, type_oid, type_name))| Column {
            name,
            type_oid,
            typmod: -1,
            type_name: type_name.to_owned(),
            nullable: slot > 0,
            key: slot == 0,
            slot: slot as u16,
        })
        .collect();
    Relation {
        index: Relation::next_index(),
        version: 1,
        oid: 1,
        schema: "public".to_owned(),
        table: "orders".to_owned(),
        replica_identity: ReplicaIdentity::Default,
        slots: columns.len() as u16,
        columns,
    }
}
