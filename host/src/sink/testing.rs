//! Batches written by hand, for tests of sinks.

use crate::batch::{
    Batch, Cell, Column, CopyUnit, Delivery, Lsn, Message, OldImage, Op, Origin, Part, Relation, ReplicaIdentity, Row,
    Transaction, Truncate, Tuple, Value,
};
use crate::sink::SinkContext;
use std::sync::Arc;

/// A commit record's length: where a transaction of [`Builder::transaction`] ends behind its commit LSN.
pub(crate) const COMMIT_BYTES: u64 = 8;

/// What a test's column has: name, type OID, type name, whether it is part of the key.
pub(crate) type ColumnSpec<'a> = (&'a str, u32, &'a str, bool);

pub(crate) fn relation(table: &str, columns: &[ColumnSpec<'_>]) -> Arc<Relation> {
    let column = |(at, (name, type_oid, type_name, key)): (usize, &ColumnSpec<'_>)| Column {
        name: (*name).to_owned(),
        type_oid: *type_oid,
        typmod: -1,
        type_name: (*type_name).to_owned(),
        nullable: !key,
        key: *key,
        slot: at as u16,
    };
    Arc::new(Relation {
        index: Relation::next_index(),
        version: 1,
        oid: 16_384,
        schema: "public".to_owned(),
        table: table.to_owned(),
        replica_identity: ReplicaIdentity::Default,
        columns: columns.iter().enumerate().map(column).collect(),
        slots: columns.len() as u16,
    })
}

/// `id` as the key, `name`, and `total`.
pub(crate) fn orders() -> Arc<Relation> {
    relation(
        "orders",
        &[
            ("id", 20, "bigint", true),
            ("name", 25, "text", false),
            ("total", 1700, "numeric", false),
        ],
    )
}

pub(crate) fn text(text: &str) -> Value<'_> {
    Value::Text(text.as_bytes())
}

pub(crate) fn context(sink: &str) -> SinkContext {
    SinkContext {
        pipeline: "shop".to_owned(),
        slot: "rowmill_shop".to_owned(),
        sink: sink.to_owned(),
        system_identifier: 7301,
        source_database: "shop".to_owned(),
        state_dir: std::env::temp_dir(),
        passed_over: Arc::default(),
        known: Arc::default(),
        types: Arc::default(),
        changes: Arc::default(),
    }
}

#[derive(Default)]
pub(crate) struct Builder {
    pub(crate) batch: Batch,
    rows: Vec<Row>,
    ordinal: u64,
}

impl Builder {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Begins a transaction whose commit record lies at `commit_lsn`.
    pub(crate) fn transaction(mut self, commit_lsn: u64, part: Part) -> Self {
        let complete = matches!(part, Part::Whole | Part::Last);
        let end_lsn = Lsn(if complete { commit_lsn + COMMIT_BYTES } else { 0 });
        self.push_transaction(Transaction {
            xid: 741,
            commit_lsn: Lsn(commit_lsn),
            end_lsn,
            commit_us: 820_638_245_678_901,
            part,
            origin: Origin::Stream,
        });
        self
    }

    /// Begins a copied unit, merged at `position`.
    pub(crate) fn copy(mut self, position: u64, unit: u32) -> Self {
        self.push_transaction(Transaction {
            xid: 0,
            commit_lsn: Lsn(position),
            end_lsn: Lsn(position),
            commit_us: 0,
            part: Part::Whole,
            origin: Origin::Copy(CopyUnit {
                epoch: 1,
                table_oid: 16_384,
                unit,
            }),
        });
        self
    }

    fn push_transaction(&mut self, transaction: Transaction) {
        self.batch.end = self.batch.end.max(transaction.end_lsn);
        self.batch.transactions.push(transaction);
        self.ordinal = 0;
    }

    pub(crate) fn insert(self, relation: &Arc<Relation>, new: &[Value<'_>]) -> Self {
        self.row(Op::Insert, relation, Some(new), None)
    }

    pub(crate) fn update(self, relation: &Arc<Relation>, new: &[Value<'_>], old: Option<&[Value<'_>]>) -> Self {
        self.row(Op::Update, relation, Some(new), old)
    }

    pub(crate) fn delete(self, relation: &Arc<Relation>, old: &[Value<'_>]) -> Self {
        self.row(Op::Delete, relation, None, Some(old))
    }

    pub(crate) fn row(
        mut self,
        op: Op,
        relation: &Arc<Relation>,
        new: Option<&[Value<'_>]>,
        old: Option<&[Value<'_>]>,
    ) -> Self {
        let at = self.batch.relation_index(relation);
        let new = new.map(|values| self.tuple(values));
        let old_is_key = old.is_some_and(|values| values.contains(&Value::Absent));
        let old = old.map(|values| self.tuple(values));
        self.push(Row {
            relation: at,
            transaction: 0,
            ordinal: 0,
            new,
            old,
            extra: 0,
            fan_out: 0,
            op,
            old_image: if old_is_key { OldImage::Key } else { OldImage::Full },
        });
        self
    }

    pub(crate) fn truncate(mut self, relations: &[&Arc<Relation>], cascade: bool, restart_identity: bool) -> Self {
        let relations = relations
            .iter()
            .map(|relation| self.batch.relation_index(relation))
            .collect();
        let extra = self.batch.truncates.len() as u32;
        self.batch.truncates.push(Truncate {
            relations,
            cascade,
            restart_identity,
        });
        self.push_extra(Op::Truncate, extra);
        self
    }

    pub(crate) fn message(mut self, prefix: &str, content: &[u8]) -> Self {
        let extra = self.batch.messages.len() as u32;
        self.batch.messages.push(Message {
            transactional: true,
            lsn: Lsn(0),
            prefix: prefix.to_owned(),
            content: content.to_vec().into(),
        });
        self.push_extra(Op::Message, extra);
        self
    }

    fn push_extra(&mut self, op: Op, extra: u32) {
        self.push(Row {
            relation: 0,
            transaction: 0,
            ordinal: 0,
            new: None,
            old: None,
            extra,
            fan_out: 0,
            op,
            old_image: OldImage::Key,
        });
    }

    fn push(&mut self, row: Row) {
        self.rows.push(Row {
            transaction: self.batch.transactions.len() as u32 - 1,
            ordinal: self.ordinal,
            ..row
        });
        self.ordinal += 1;
    }

    fn tuple(&mut self, values: &[Value<'_>]) -> Tuple {
        let mut cells = Vec::with_capacity(values.len());
        for value in values {
            cells.push(match value {
                Value::Null => Cell::NULL,
                Value::Unchanged => Cell::UNCHANGED,
                Value::Absent => Cell::ABSENT,
                Value::Text(text) => self.batch.text_cell(text),
                Value::Binary(bytes) => {
                    let mut received = self.batch.bytes.to_vec();
                    received.extend_from_slice(bytes);
                    self.batch.bytes = received.into();
                    Cell::binary(self.batch.bytes.len() - bytes.len(), bytes.len())
                }
            });
        }
        self.batch.push_tuple(cells)
    }

    pub(crate) fn delivery(self, sequence: u64) -> Delivery {
        Delivery {
            sequence,
            batch: Arc::new(Batch {
                rows: self.rows.clone(),
                ..self.batch
            }),
            rows: self.rows,
            copying: Vec::new(),
        }
    }
}
