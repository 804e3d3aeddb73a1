//! The tables that rows come from.

use rowmill_abi::{Malformed, Reader, Token};

/// OIDs of common types; they are the same in every Postgres.
///
/// ```
/// use rowmill_plugin::{Column, types};
///
/// fn is_text(column: &Column) -> bool {
///     matches!(column.type_oid, types::TEXT | types::VARCHAR | types::BPCHAR)
/// }
/// ```
pub mod types {
    /// `boolean`
    pub const BOOL: u32 = 16;
    /// `bytea`
    pub const BYTEA: u32 = 17;
    /// `bigint`
    pub const INT8: u32 = 20;
    /// `smallint`
    pub const INT2: u32 = 21;
    /// `integer`
    pub const INT4: u32 = 23;
    /// `text`
    pub const TEXT: u32 = 25;
    /// `json`
    pub const JSON: u32 = 114;
    /// `real`
    pub const FLOAT4: u32 = 700;
    /// `double precision`
    pub const FLOAT8: u32 = 701;
    /// `character`
    pub const BPCHAR: u32 = 1042;
    /// `character varying`
    pub const VARCHAR: u32 = 1043;
    /// `date`
    pub const DATE: u32 = 1082;
    /// `timestamp without time zone`
    pub const TIMESTAMP: u32 = 1114;
    /// `timestamp with time zone`
    pub const TIMESTAMPTZ: u32 = 1184;
    /// `numeric`
    pub const NUMERIC: u32 = 1700;
    /// `uuid`
    pub const UUID: u32 = 2950;
    /// `jsonb`
    pub const JSONB: u32 = 3802;
}

/// A column of a table.
///
/// ```
/// use rowmill_plugin::{Relation, types};
///
/// /// Names of the columns that may hold an address.
/// fn texts(relation: &Relation) -> Vec<&str> {
///     let texts = relation.columns.iter().filter(|column| column.type_oid == types::TEXT);
///     texts.map(|column| column.name.as_str()).collect()
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// As Postgres has it, with its capitals.
    pub name: String,
    /// See [`types`] for some.
    pub type_oid: u32,
    /// Postgres' type modifier; -1 where there is none.
    pub typmod: i32,
    /// E.g. `integer`.
    pub type_name: String,
    /// Whether it may hold NULL.
    pub nullable: bool,
    /// Whether it is part of the replica identity.
    pub key: bool,
}

impl Column {
    /// The most characters that a `varchar(n)` or `char(n)` holds.
    ///
    /// ```
    /// use rowmill_plugin::{Column, types};
    ///
    /// let column = Column {
    ///     name: "phone".to_owned(),
    ///     type_oid: types::VARCHAR,
    ///     typmod: 24,
    ///     type_name: "character varying".to_owned(),
    ///     nullable: true,
    ///     key: false,
    /// };
    /// assert_eq!(column.length_max(), Some(20));
    /// ```
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
///
/// ```
/// use rowmill_plugin::Relation;
///
/// fn has_whole_old_rows(relation: &Relation) -> bool {
///     relation.replica_identity == 'f'
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relation {
    pub(crate) index: u32,
    /// Counted by the host from 1.
    pub version: u32,
    /// E.g. `public`.
    pub schema: String,
    /// Its name in that schema.
    pub table: String,
    /// `d` default, `n` nothing, `f` full, `i` index.
    pub replica_identity: char,
    /// In the table's order.
    pub columns: Vec<Column>,
}

impl Relation {
    /// The column of that name.
    ///
    /// ```
    /// # use rowmill_plugin::Relation;
    /// fn is_masked(relation: &Relation) -> bool {
    ///     relation.column("email").is_some_and(|column| !column.key)
    /// }
    /// ```
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// Where the column of that name stands.
    ///
    /// ```
    /// # use rowmill_plugin::Relation;
    /// fn is_first(relation: &Relation) -> bool {
    ///     relation.column_index("id") == Some(0)
    /// }
    /// ```
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
