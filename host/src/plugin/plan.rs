//! What a plugin wants of a relation, worked out once so that rows need no look-ups.

use super::manifest::Kind;
use super::schema_reply::Wishes;
use super::shapes::{Shapes, carried};
use super::values::Class;
use super::write;
use crate::batch::{Relation, ReplicaIdentity};
use std::sync::Arc;

/// What happens to the rows of one relation at one plugin.
#[derive(Debug)]
pub(crate) enum Plan {
    /// The plugin is never called for it.
    PassBy,
    Drop,
    Use(Box<InUse>),
}

#[derive(Debug)]
pub(crate) struct InUse {
    pub input: Arc<Relation>,
    pub read: Vec<ReadColumn>,
    /// Whether all that it reads may be encoded as short values are.
    pub may_be_short: bool,
    pub head: RowHead,
    /// At least one; patches and passes go to the first.
    pub outputs: Vec<Output>,
}

/// What each of its rows begins with: array of four, relation index, op, image, header of the values.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RowHead {
    /// As large as it can be, and more: a copy of a fixed size is two instructions.
    bytes: [u8; 16],
    len: usize,
    /// Where op and image stand.
    op_at: usize,
}

impl RowHead {
    fn new(relation: u32, values: usize) -> Self {
        let mut head = Vec::new();
        write::array(&mut head, 4);
        write::uint(&mut head, u64::from(relation));
        let op_at = head.len();
        head.extend_from_slice(&[0, 0]);
        write::array(&mut head, values);
        // 1 + 5 + 2 + 5 at most.
        let mut bytes = [0; 16];
        bytes[..head.len()].copy_from_slice(&head);
        Self {
            bytes,
            len: head.len(),
            op_at,
        }
    }

    /// The head of rows with this operation and image, to be appended up to its length.
    #[inline]
    pub fn of(&self, op: u8, image: u8) -> ([u8; 16], usize) {
        let mut bytes = self.bytes;
        if let Some([at_op, at_image]) = bytes.get_mut(self.op_at..).and_then(|rest| rest.first_chunk_mut()) {
            (*at_op, *at_image) = (op, image);
        }
        (bytes, self.len)
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct ReadColumn {
    pub slot: u16,
    pub class: Class,
    pub type_oid: u32,
    /// Index in the input relation.
    pub column: usize,
}

#[derive(Debug)]
pub(crate) struct Output {
    pub relation: Arc<Relation>,
    /// Whether it is the input relation itself.
    pub same: bool,
    /// Cells that it has beyond the input's.
    pub added: u16,
    pub columns: Vec<OutputColumn>,
    /// Whether it may write a column of the key: then each image is looked at once more.
    pub writes_key: bool,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct OutputColumn {
    pub slot: u16,
    pub class: Class,
    /// Whether patches may touch it.
    pub writable: bool,
    pub key: bool,
    /// Not in the input relation.
    pub added: bool,
}

/// What a stage knows of a relation of the batch at hand.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    /// Index into the stage's plans.
    pub plan: u32,
    /// Index of the first output relation in the batch.
    pub output: u32,
}

impl Entry {
    pub const UNKNOWN: Self = Self {
        plan: u32::MAX,
        output: u32::MAX,
    };
}

/// The host's own call: `rowmill_schema`'s argument.
pub(crate) fn request(relation: &Relation, previous_version: Option<u32>, out: &mut Vec<u8>) {
    write::array(out, 7);
    write::uint(out, u64::from(relation.index));
    write::uint(out, u64::from(relation.version));
    write::str(out, relation.schema.as_bytes());
    write::str(out, relation.table.as_bytes());
    write::str(out, relation.replica_identity.as_char().to_string().as_bytes());
    write::array(out, relation.columns.len());
    for column in &relation.columns {
        write::array(out, 6);
        write::str(out, column.name.as_bytes());
        write::uint(out, u64::from(column.type_oid));
        write::int(out, i64::from(column.typmod));
        write::str(out, column.type_name.as_bytes());
        write::bool(out, column.nullable);
        write::bool(out, column.key);
    }
    match previous_version {
        Some(version) => write::uint(out, u64::from(version)),
        None => write::nil(out),
    }
}

/// Why the wishes can't be met, and what would mend it.
#[derive(Debug)]
pub(crate) struct Unmet {
    pub what: String,
    pub help: String,
}

/// Turns a plugin's wishes into a plan.
pub(crate) fn build(kind: Kind, wishes: &Wishes, relation: &Arc<Relation>, shapes: &Shapes) -> Result<InUse, Unmet> {
    let table = relation.full_name();
    let unmet = |what: String| Unmet {
        what,
        help: "fix what the plugin declares in `rowmill_schema`".to_owned(),
    };
    if wishes.full_images && relation.replica_identity != ReplicaIdentity::Full {
        return Err(Unmet {
            what: format!("it needs the whole old row of {table}, which the server doesn't send"),
            help: format!("ALTER TABLE {table} REPLICA IDENTITY FULL;"),
        });
    }
    if kind == Kind::Filter && (wishes.outputs.is_some() || !wishes.writes.is_empty()) {
        return Err(unmet(format!(
            "it is a filter, but declares outputs or writes for {table}"
        )));
    }
    let outputs = match &wishes.outputs {
        None => vec![output(relation, relation, &wishes.writes)],
        Some(declared) => {
            let mut outputs = Vec::with_capacity(declared.len());
            for (at, shape) in declared.iter().enumerate() {
                let made = shapes
                    .relation(relation, shape)
                    .ok_or_else(|| unmet(format!("its output {at} for {table} has too many columns")))?;
                // Whoever declares a further output makes all of its rows.
                let all: Vec<usize> = (0..made.columns.len()).collect();
                outputs.push(output(relation, &made, if at == 0 { &wishes.writes } else { &all }));
            }
            outputs
        }
    };
    if let Some(beyond) = wishes.writes.iter().find(|column| **column >= outputs[0].columns.len()) {
        return Err(unmet(format!("it writes column {beyond} of {table}, which has fewer")));
    }
    let read: Vec<ReadColumn> = match &wishes.read {
        None => (0..relation.columns.len())
            .map(|column| read_column(relation, column))
            .collect(),
        Some(columns) => columns.iter().map(|column| read_column(relation, *column)).collect(),
    };
    Ok(InUse {
        input: Arc::clone(relation),
        head: RowHead::new(relation.index, read.len()),
        may_be_short: !read
            .iter()
            .any(|read| matches!(read.class, Class::Float4 | Class::Bytea)),
        read,
        outputs,
    })
}

fn read_column(relation: &Relation, column: usize) -> ReadColumn {
    let of = &relation.columns[column];
    ReadColumn {
        slot: of.slot,
        class: Class::of(of.type_oid),
        type_oid: of.type_oid,
        column,
    }
}

fn output(input: &Arc<Relation>, relation: &Arc<Relation>, writes: &[usize]) -> Output {
    let columns: Vec<OutputColumn> = relation
        .columns
        .iter()
        .enumerate()
        .map(|(at, column)| OutputColumn {
            slot: column.slot,
            class: Class::of(column.type_oid),
            writable: writes.contains(&at),
            key: column.key,
            added: carried(input, &column.name, column.type_oid).is_none(),
        })
        .collect();
    Output {
        same: relation.index == input.index,
        added: relation.slots - input.slots,
        writes_key: columns
            .iter()
            .any(|column| column.key && (column.writable || column.added)),
        relation: Arc::clone(relation),
        columns,
    }
}
