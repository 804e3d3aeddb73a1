//! The tables that rows come from.

use rowmill_abi::{Malformed, Reader, Token};

/// OIDs of common types; they are the same in every Postgres.
pub mod types {
    pub const BOOL: u32 = 16;
    pub const BYTEA: u32 = 17;
    pub const INT8: u32 = 20;
    pub const INT2: u32 = 21;
    pub const INT4: u32 = 23;
    pub const TEXT: u32 = 25;
    pub const JSON: u32 = 114;
    pub const FLOAT4: u32 = 700;
    pub const FLOAT8: u32 = 701;
    pub const BPCHAR: u32 = 1042;
    pub const VARCHAR: u32 = 1043;
    pub const DATE: u32 = 1082;
    pub const TIMESTAMP: u32 = 1114;
    pub const TIMESTAMPTZ: u32 = 1184;
    pub const NUMERIC: u32 = 1700;
    pub const UUID: u32 = 2950;
    pub const JSONB: u32 = 3802;
}

/// A column of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    pub name: String,
    pub type_oid: u32,
    /// Postgres' type modifier; -1 where there is none.
    pub typmod: i32,
    /// E.g. `integer`.
    pub type_name: String,
    pub nullable: bool,
    /// Whether it is part of the replica identity.
    pub key: bool,
}

impl Column {
    /// The most characters that a `varchar(n)` or `char(n)` holds.
    pub fn length_max(&self) -> Option<usize> {
        /// Postgres counts its own length field in.
        const HEADER: i32 = 4;
        match self.type_oid {
            types::VARCHAR | types::BPCHAR if self.typmod > HEADER => Some((self.typmod - HEADER) as usize),
            _ => None,
        }
    }
}

/// One version of a table, or of what the plugins before have made of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relation {
    pub(crate) index: u32,
    /// Counted by the host from 1.
    pub version: u32,
    pub schema: String,
    pub table: String,
    /// `d` default, `n` nothing, `f` full, `i` index.
    pub replica_identity: char,
    pub columns: Vec<Column>,
}

impl Relation {
    /// The column of that name.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// Where the column of that name stands.
    pub fn column_index(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.name == name)
    }

    /// Reads what comes into `rowmill_schema`.
    pub(crate) fn parse(input: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(input);
        reader.array()?;
        let (index, version) = (reader.u32()?, reader.u32()?);
        let (schema, table) = (reader.str()?.to_owned(), reader.str()?.to_owned());
        let replica_identity = match reader.token()? {
            Token::Str([letter, ..]) => char::from(*letter),
            // As a number, where a host writes the catalog's `"char"` as one.
            Token::Int(letter) => u8::try_from(letter).map_or('d', char::from),
            _ => 'd',
        };
        let count = reader.array()?;
        // A loop and not an iterator: it makes a smaller module.
        let mut columns = Vec::new();
        for _ in 0..count {
            columns.push(parse_column(&mut reader)?);
        }
        Ok(Self {
            index,
            version,
            schema,
            table,
            replica_identity,
            columns,
        })
    }
}

fn parse_column(reader: &mut Reader<'_>) -> Result<Column, Malformed> {
    let fields = reader.array()?;
    let column = Column {
        name: reader.str()?.to_owned(),
        type_oid: reader.u32()?,
        typmod: reader.int()? as i32,
        type_name: reader.str()?.to_owned(),
        nullable: reader.bool()?,
        key: reader.bool()?,
    };
    // What a newer host may add.
    for _ in 6..fields {
        reader.skip()?;
    }
    Ok(column)
}
