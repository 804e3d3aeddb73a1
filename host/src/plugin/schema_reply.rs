//! What a plugin answers to `rowmill_schema`.

use super::cursor::{BadReply, Cursor, Reply, open};
use rowmill_abi::schema_action;

/// Output relations that one plugin may make of one table.
const OUTPUTS_MAX: usize = 64;
/// Postgres' own limit for a table (MaxHeapAttributeNumber).
const COLUMNS_MAX: usize = 1_600;
/// Postgres' own limit for a name (NAMEDATALEN is 64), with room for other systems'.
const NAME_MAX: usize = 255;

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum SchemaReply {
    Use(Wishes),
    PassBy,
    Drop,
    Refuse(String),
    /// The guest failed: message.
    Failed(String),
}

#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Wishes {
    /// Column indexes in the order in which rows carry them; `None` for all.
    pub read: Option<Vec<usize>>,
    /// Columns of the first output that may be written.
    pub writes: Vec<usize>,
    /// Whether the whole old row is needed.
    pub full_images: bool,
    pub outputs: Option<Vec<Shape>>,
}

/// An output relation as the plugin declares it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    pub schema: String,
    pub table: String,
    pub columns: Vec<ShapeColumn>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ShapeColumn {
    pub name: String,
    pub type_oid: u32,
    pub type_name: String,
    pub key: bool,
}

/// Reads the reply for a table of `columns` columns.
pub(crate) fn parse(bytes: &[u8], columns: usize) -> Result<SchemaReply, BadReply> {
    let (mut cursor, left) = match open(bytes)? {
        Reply::Done(cursor, left) => (cursor, left),
        Reply::Retryable(message) | Reply::Fatal(message) => return Ok(SchemaReply::Failed(message.to_owned())),
    };
    if left == 0 {
        return cursor.bad("no action");
    }
    let action = cursor.index(usize::from(schema_action::REFUSE))? as u8;
    let mut left = left - 1;
    let reply = match action {
        schema_action::USE => SchemaReply::Use(wishes(&mut cursor, &mut left, columns)?),
        schema_action::PASS_BY => SchemaReply::PassBy,
        schema_action::DROP => SchemaReply::Drop,
        _ => {
            let reason = if left > 0 && !cursor.nil() {
                cursor.str()?.to_owned()
            } else {
                String::new()
            };
            left = left.saturating_sub(1);
            SchemaReply::Refuse(reason)
        }
    };
    for _ in 0..left {
        cursor.skip()?;
    }
    cursor.finish()?;
    Ok(reply)
}

/// Elements that a shorter reply leaves out are nil.
fn wishes(cursor: &mut Cursor<'_>, left: &mut usize, columns: usize) -> Result<Wishes, BadReply> {
    let mut wishes = Wishes::default();
    let mut present = |cursor: &mut Cursor<'_>| {
        let there = *left > 0;
        *left = left.saturating_sub(1);
        there && !cursor.nil()
    };
    if present(cursor) {
        wishes.read = Some(indexes(cursor, columns)?);
    }
    if present(cursor) {
        // Checked against the output's columns by the caller, who knows them.
        wishes.writes = indexes(cursor, COLUMNS_MAX)?;
    }
    if present(cursor) {
        wishes.full_images = cursor.index(1)? == 1;
    }
    if present(cursor) {
        let count = cursor.array()?;
        if count == 0 || count > OUTPUTS_MAX {
            return cursor.bad("no output relation, or too many");
        }
        wishes.outputs = Some((0..count).map(|_| shape(cursor)).collect::<Result<_, _>>()?);
    }
    Ok(wishes)
}

fn indexes(cursor: &mut Cursor<'_>, below: usize) -> Result<Vec<usize>, BadReply> {
    let count = cursor.array()?;
    if count > COLUMNS_MAX {
        return cursor.bad("too many columns");
    }
    let mut indexes = Vec::with_capacity(count);
    for _ in 0..count {
        if below == 0 {
            return cursor.bad("a column index out of range");
        }
        indexes.push(cursor.index(below - 1)?);
    }
    Ok(indexes)
}

fn shape(cursor: &mut Cursor<'_>) -> Result<Shape, BadReply> {
    if cursor.array()? != 3 {
        return cursor.bad("an output is [schema, table, columns]");
    }
    let (schema, table) = (name(cursor)?, name(cursor)?);
    let count = cursor.array()?;
    if count == 0 || count > COLUMNS_MAX {
        return cursor.bad("an output without columns, or with too many");
    }
    let mut columns = Vec::with_capacity(count);
    for _ in 0..count {
        if cursor.array()? != 4 {
            return cursor.bad("a column is [name, type_oid, type_name, key]");
        }
        columns.push(ShapeColumn {
            name: name(cursor)?,
            type_oid: cursor.index(u32::MAX as usize)? as u32,
            type_name: name(cursor)?,
            key: cursor.bool()?,
        });
    }
    Ok(Shape { schema, table, columns })
}

fn name(cursor: &mut Cursor<'_>) -> Result<String, BadReply> {
    let start = *cursor;
    let name = cursor.str()?;
    if name.is_empty() || name.len() > NAME_MAX || name.contains('\0') {
        return start.bad("a name that is empty, too long or holds a NUL");
    }
    Ok(name.to_owned())
}
