//! What travels between the stages: a [`Batch`] of [`Row`]s with the bytes they were received in.
//!
//! ```text
//!   bytes   |B....|I..1..Alice..|I..2..Bob..|C....|      as received, never copied
//!                     ^ ^            ^ ^
//!   cells   [ start,len | start,len | ... ]              one per column of every tuple
//!              ^                  ^
//!   rows    [ Row{new: 0} , Row{new: 2} ]                one per change, in commit order
//! ```
//!
//! Decoding indexes, it copies nothing. A value that did not arrive as it is needed (a COPY value with
//! backslashes, what a plugin wrote) lies in the `arena`. A row is a handful of indexes, so routes and sinks
//! pass lists of rows around and share one batch. Whoever changes a tuple appends a new one and points its own
//! copy of the row at it; a chain that alone has the batch's tuples writes over their cells, and what they were is
//! noted (`overwritten.rs`).
//!
//! These are the only types that all stages share; they depend on nothing else in the crate.

mod cell;
mod copied;
mod extent;
mod join;
mod overwritten;
mod own_types;
mod position;
mod relation;

pub use cell::{Cell, Value};
pub use copied::{Copied, Left};
pub use extent::Extent;
pub use join::Joined;
pub use overwritten::Overwritten;
pub use own_types::{OwnType, OwnTypes};
pub use position::{CopyUnit, Lsn, Origin, Part, Replay, RowId, Transaction};
pub use relation::{Column, Relation, ReplicaIdentity};

use bytes::Bytes;
use std::sync::Arc;

/// What a change does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Op {
    Insert = 0,
    Update = 1,
    Delete = 2,
    /// Every row of the relations in [`Batch::truncates`] is gone.
    Truncate = 3,
    /// A row copied by the snapshot.
    Read = 4,
    /// A logical message, in [`Batch::messages`].
    Message = 5,
    /// The row is to be there with these values, whether it was before or not: what a membership filter makes of
    /// an update whose old image it can't judge.
    Upsert = 6,
}

impl Op {
    /// The name used in JSON, metrics and `tail`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Insert => "insert",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::Truncate => "truncate",
            Self::Read => "read",
            Self::Message => "message",
            Self::Upsert => "upsert",
        }
    }

    /// Whether [`Row::relation`] says which table it concerns.
    pub const fn is_of_a_table(self) -> bool {
        !matches!(self, Self::Truncate | Self::Message)
    }
}

/// How much of the old row an image holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OldImage {
    /// Only the columns of the replica identity; all others are [`Value::Absent`].
    Key,
    /// The whole old row (REPLICA IDENTITY FULL).
    Full,
}

/// Where a tuple's cells begin in [`Batch::cells`]. A tuple has as many cells as its relation has *slots*.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tuple(pub u32);

/// One change. All fields are indexes into the batch that it belongs to.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Index into [`Batch::relations`]. Meaningless for truncates and messages.
    pub relation: u32,
    /// Index into [`Batch::transactions`].
    pub transaction: u32,
    /// The change's number in its transaction (or copied unit), counted over rows, truncates and messages.
    pub ordinal: u64,
    /// The new image; for a truncate or message, [`Row::extra`].
    pub new: Option<Tuple>,
    /// The old image, where the server sent one.
    pub old: Option<Tuple>,
    /// Index into [`Batch::truncates`] or [`Batch::messages`], for those two operations.
    pub extra: u32,
    /// Which of the rows that a plugin made of one change; 0 for the first or only one.
    pub fan_out: u16,
    pub op: Op,
    pub old_image: OldImage,
}

/// A TRUNCATE of one or several tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Truncate {
    /// Indexes into [`Batch::relations`].
    pub relations: Vec<u32>,
    pub cascade: bool,
    pub restart_identity: bool,
}

/// The prefix of what the source's DDL trigger says.
pub const DDL_PREFIX: &str = "rowmill.ddl";
/// The prefix of the messages that are only there to move the WAL: nobody gets them.
pub const HEARTBEAT_PREFIX: &str = "rowmill.heartbeat";

/// A logical message (`pg_logical_emit_message`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub transactional: bool,
    pub lsn: Lsn,
    pub prefix: String,
    pub content: Bytes,
}

/// Rows in commit order, the bytes behind them, and how far the stream is complete with them.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// The bytes as received. Less than 4 GiB.
    pub bytes: Bytes,
    /// Whether copied rows among it came in binary form, so that nothing of the bytes is a line of COPY.
    pub binary: bool,
    /// Whether its rows are copied ones of which all but the key is as the source's binary COPY wrote it, and no text yet
    /// (`decode::straight`). Behind the cells of each tuple one more spans the whole row.
    pub straight: bool,
    /// What the source's own types among those of straight rows are.
    pub own_types: Arc<OwnTypes>,
    /// Whether copied rows among it, or what empties the targets for them, are of a table without a key. Its relation doesn't
    /// tell: under REPLICA IDENTITY FULL all of its columns are called a key, and a plugin may add others that aren't.
    pub keyless: bool,
    /// Values that were made here. Less than 4 GiB.
    pub arena: Vec<u8>,
    pub cells: Vec<Cell>,
    pub rows: Vec<Row>,
    /// Ascending; a row's `transaction` never goes back. The first and last may be parts of larger ones.
    pub transactions: Vec<Transaction>,
    pub relations: Vec<Arc<Relation>>,
    pub truncates: Vec<Truncate>,
    pub messages: Vec<Message>,
    /// Where messages stood among the rows, in order; those that a plugin dropped are left out. Rows for sinks are
    /// without them.
    pub message_rows: Vec<Row>,
    /// Where the stream stands behind this batch: everything that committed before it has been seen. It only moves
    /// at a commit's end or at a keepalive outside of transactions; `Lsn(0)` where this batch doesn't move it.
    pub end: Lsn,
    /// Cells that plugins wrote over, as they were.
    pub overwritten: Overwritten,
    /// Changes that some sinks have by a copied row already, in order.
    pub copied: Box<[Copied]>,
}

impl Batch {
    pub fn relation(&self, row: &Row) -> &Arc<Relation> {
        &self.relations[row.relation as usize]
    }

    pub fn transaction(&self, row: &Row) -> &Transaction {
        &self.transactions[row.transaction as usize]
    }

    /// The value in a slot of a tuple. A slot beyond the batch is `Absent`.
    #[inline]
    pub fn value(&self, tuple: Tuple, slot: u16) -> Value<'_> {
        match self.cells.get(tuple.0 as usize + slot as usize) {
            Some(cell) => cell.resolve(&self.bytes, &self.arena),
            None => Value::Absent,
        }
    }

    /// The value in a slot of a tuple where it is a text of less than 32 bytes, in a form that is quickly copied: its
    /// length, and 32 bytes that begin with it. `None` says nothing: ask for [`Self::value`].
    #[inline]
    pub fn short_text(&self, tuple: Tuple, slot: u16) -> Option<(usize, &[u8; 32])> {
        let cell = self.cells.get(tuple.0 as usize + slot as usize)?;
        cell.short_text(&self.bytes, &self.arena)
    }

    /// The values in some slots as a line of COPY, where they lie like that in the received bytes: tabs between them,
    /// `\N` for NULL. `None` where one was made or changed, or lies elsewhere.
    #[inline]
    pub fn copied_line(&self, tuple: Tuple, slots: impl Iterator<Item = u16>) -> Option<&[u8]> {
        const NULL: &[u8] = b"\\N";
        if self.binary {
            return None;
        }
        let mut line: Option<std::ops::Range<usize>> = None;
        let mut nulls = 0;
        for slot in slots {
            let cell = *self.cells.get(tuple.0 as usize + usize::from(slot))?;
            let next = line.as_ref().map(|line| line.end + 1);
            let field = match (cell.received(), next) {
                (Some(field), _) => field,
                _ if cell != Cell::NULL => return None,
                (None, Some(next)) => next..next + NULL.len(),
                // Nothing says yet where it lies.
                (None, None) => {
                    nulls += NULL.len() + 1;
                    continue;
                }
            };
            let text = self.bytes.get(field.clone())?;
            match &mut line {
                None => {
                    let start = field.start.checked_sub(nulls)?;
                    let before = self.bytes.get(start..field.start)?;
                    if before.chunks(NULL.len() + 1).any(|field| field != b"\\N\t") {
                        return None;
                    }
                    line = Some(start..field.end);
                }
                Some(line) => {
                    let adjoins = field.start == line.end + 1 && self.bytes.get(line.end) == Some(&b'\t');
                    if !adjoins || cell == Cell::NULL && text != NULL {
                        return None;
                    }
                    line.end = field.end;
                }
            }
        }
        self.bytes.get(line?)
    }

    /// A row of a straight batch as a binary COPY has it, the number of its fields first, which are in the order of their
    /// slots. `None` where it has others than the relation has columns.
    #[inline]
    pub fn straight_row(&self, tuple: Tuple, relation: &Relation) -> Option<&[u8]> {
        if !self.straight {
            return None;
        }
        let Value::Binary(row) = self.value(tuple, relation.slots) else {
            return None;
        };
        let fields = u16::from_be_bytes(*row.first_chunk()?);
        (usize::from(fields) == relation.columns.len()).then_some(row)
    }

    /// The values of a tuple in the order of the relation's columns.
    pub fn values<'a>(&'a self, tuple: Tuple, relation: &'a Relation) -> impl ExactSizeIterator<Item = Value<'a>> {
        relation
            .columns
            .iter()
            .map(move |column| self.value(tuple, column.slot))
    }

    /// Puts text into the arena and returns the cell that stands for it.
    pub fn text_cell(&mut self, text: &[u8]) -> Cell {
        let start = self.arena.len();
        self.arena.extend_from_slice(text);
        Cell::arena(start, text.len())
    }

    /// Appends a tuple made of `cells` and returns its place.
    pub fn push_tuple(&mut self, cells: impl IntoIterator<Item = Cell>) -> Tuple {
        let start = self.cells.len();
        self.cells.extend(cells);
        Tuple(start as u32)
    }

    /// Appends a copy of the `slots` cells of `tuple`, to be changed by the caller.
    pub fn copy_tuple(&mut self, tuple: Tuple, slots: u16) -> Tuple {
        /// A copy of a fixed size is a few instructions; what is too much of it is taken back.
        const FEW: usize = 16;
        let (start, slots) = (tuple.0 as usize, usize::from(slots));
        let copy = self.cells.len();
        let few = self.cells.get(start..).and_then(<[Cell]>::first_chunk::<FEW>).copied();
        match few.filter(|_| slots <= FEW) {
            Some(few) => {
                self.cells.extend_from_slice(&few);
                self.cells.truncate(copy + slots);
            }
            None => self.cells.extend_from_within(start..start + slots),
        }
        Tuple(copy as u32)
    }

    /// Sets one cell of a tuple made by [`Self::push_tuple`] or [`Self::copy_tuple`].
    pub fn set(&mut self, tuple: Tuple, slot: u16, cell: Cell) {
        self.cells[tuple.0 as usize + slot as usize] = cell;
    }

    /// The index of `relation` in this batch, added where it isn't there yet.
    pub fn relation_index(&mut self, relation: &Arc<Relation>) -> u32 {
        if let Some(at) = self.relations.iter().rposition(|known| known.index == relation.index) {
            return at as u32;
        }
        self.relations.push(Arc::clone(relation));
        (self.relations.len() - 1) as u32
    }

    /// Whether the batch ends outside of any transaction, so that other rows may be delivered behind it.
    pub fn ends_at_commit(&self) -> bool {
        self.transactions
            .last()
            .is_none_or(|last| matches!(last.part, Part::Whole | Part::Last))
    }

    /// Bytes that this batch keeps in memory, for queues that are bounded in bytes.
    pub fn size_bytes(&self) -> usize {
        self.bytes.len()
            + self.arena.len()
            + self.cells.len() * size_of::<Cell>()
            + self.rows.len() * size_of::<Row>()
            + self.transactions.len() * size_of::<Transaction>()
    }
}

/// What one sink gets of a batch: the rows routed to it, after the plugins, in commit order.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// The batch's number in this process, ascending. Progress is counted in it.
    pub sequence: u64,
    pub batch: Arc<Batch>,
    pub rows: Vec<Row>,
    /// OIDs of the batch's tables that are being copied: their changes may meet rows that a copy has brought already,
    /// or rows that it hasn't brought yet.
    pub copying: Vec<u32>,
}

impl Delivery {
    /// The transactions of the batch in order, each with its rows for this sink. A transaction of which nothing is
    /// left comes with no rows; `part` and `end_lsn` tell where transactions begin and end.
    pub fn transactions(&self) -> impl Iterator<Item = (&Transaction, &[Row])> {
        let mut rest = self.rows.as_slice();
        self.batch
            .transactions
            .iter()
            .enumerate()
            .map(move |(at, transaction)| {
                let count = rest.iter().take_while(|row| row.transaction as usize == at).count();
                let (own, behind) = rest.split_at(count);
                rest = behind;
                (transaction, own)
            })
    }
}
