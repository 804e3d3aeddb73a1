//! Which sequences columns draw from, where they are, and setting them.

use super::position::{Position, Rules};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use tokio_postgres::{Client, Error};

/// Sequences that one statement reads: its text stays small.
const READ_AT_ONCE: usize = 100;

/// A column owns its sequence (serial, identity), names it in its default, or has a type whose default does.
const USES: &str = "WITH uses AS (\
    SELECT d.objid AS sequence, d.refobjid AS tab, d.refobjsubid AS num FROM pg_catalog.pg_depend d \
    WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.refclassid = 'pg_catalog.pg_class'::regclass \
    AND d.deptype IN ('a', 'i') AND d.refobjsubid > 0 \
    UNION SELECT d.refobjid, a.adrelid, a.adnum FROM pg_catalog.pg_depend d \
    JOIN pg_catalog.pg_attrdef a ON a.oid = d.objid \
    WHERE d.classid = 'pg_catalog.pg_attrdef'::regclass AND d.refclassid = 'pg_catalog.pg_class'::regclass \
    UNION SELECT d.refobjid, a.attrelid, a.attnum FROM pg_catalog.pg_depend d \
    JOIN pg_catalog.pg_attribute a ON a.atttypid = d.objid AND a.attnum > 0 AND NOT a.attisdropped \
    WHERE d.classid = 'pg_catalog.pg_type'::regclass AND d.refclassid = 'pg_catalog.pg_class'::regclass) \
    SELECT u.sequence, n.nspname::text, t.relname::text, a.attname::text FROM uses u \
    JOIN pg_catalog.pg_sequence s ON s.seqrelid = u.sequence \
    JOIN pg_catalog.pg_class t ON t.oid = u.tab AND t.relkind IN ('r', 'p', 'f') \
    JOIN pg_catalog.pg_namespace n ON n.oid = t.relnamespace \
    JOIN pg_catalog.pg_attribute a ON a.attrelid = u.tab AND a.attnum = u.num AND NOT a.attisdropped \
    ORDER BY 2, 3, 4";

const SEQUENCES: &str = "SELECT c.oid, pg_catalog.format('%I.%I', n.nspname, c.relname), s.seqincrement, s.seqmin, \
    s.seqmax, s.seqcycle FROM pg_catalog.pg_sequence s JOIN pg_catalog.pg_class c ON c.oid = s.seqrelid \
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
    WHERE c.relpersistence <> 't' AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast', 'rowmill') \
    ORDER BY 2";

/// Defaults that call for a sequence by a name that is only looked up when a row comes.
const UNTOLD: &str = "SELECT n.nspname::text, c.relname::text, a.attname::text FROM pg_catalog.pg_attrdef d \
    JOIN pg_catalog.pg_class c ON c.oid = d.adrelid AND c.relkind IN ('r', 'p') \
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
    JOIN pg_catalog.pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum AND a.attgenerated = '' \
    WHERE pg_catalog.pg_get_expr(d.adbin, d.adrelid) LIKE '%nextval(%' AND NOT EXISTS (\
        SELECT FROM pg_catalog.pg_depend e JOIN pg_catalog.pg_sequence s ON s.seqrelid = e.refobjid \
        WHERE e.classid = 'pg_catalog.pg_attrdef'::regclass AND e.objid = d.oid \
        AND e.refclassid = 'pg_catalog.pg_class'::regclass) ORDER BY 1, 2, 3";

/// `(schema, table, column)`.
pub(super) type ColumnName = (String, String, String);

#[derive(Clone, Debug)]
pub(super) struct Sequence {
    pub(super) oid: u32,
    /// As SQL writes it, with its schema.
    pub(super) name: String,
    pub(super) rules: Rules,
}

/// The sequences of a side.
pub(super) struct Sequences {
    pub(super) all: BTreeMap<u32, Sequence>,
    /// Which columns draw from which.
    pub(super) uses: Vec<(u32, ColumnName)>,
}

pub(super) async fn read(client: &Client) -> Result<Sequences, Error> {
    let rows = client.query(SEQUENCES, &[]).await?;
    let sequence = |row: &tokio_postgres::Row| Sequence {
        oid: row.get(0),
        name: row.get(1),
        rules: Rules {
            increment: row.get(2),
            min: row.get(3),
            max: row.get(4),
            cycles: row.get(5),
        },
    };
    let all: BTreeMap<u32, Sequence> = rows.iter().map(sequence).map(|it| (it.oid, it)).collect();
    let rows = client.query(USES, &[]).await?;
    let uses = rows
        .iter()
        .map(|row| (row.get(0), (row.get(1), row.get(2), row.get(3))))
        .filter(|(sequence, _)| all.contains_key(sequence))
        .collect();
    Ok(Sequences { all, uses })
}

impl Sequences {
    pub(super) fn by_name(&self, name: &str) -> Option<&Sequence> {
        self.all.values().find(|sequence| sequence.name == name)
    }

    /// What a column draws from. A default that was given to a serial column leaves the one that it owns unused, and
    /// both are told.
    pub(super) fn of_column(&self, column: &ColumnName) -> BTreeSet<u32> {
        let uses = self.uses.iter().filter(|(_, used_by)| used_by == column);
        uses.map(|(sequence, _)| *sequence).collect()
    }
}

/// Columns whose sequence can't be told.
pub(super) async fn untold(client: &Client) -> Result<Vec<ColumnName>, Error> {
    let rows = client.query(UNTOLD, &[]).await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect())
}

/// Where sequences are.
pub(super) async fn positions<'a>(
    client: &Client,
    sequences: impl Iterator<Item = &'a Sequence>,
) -> Result<HashMap<u32, Position>, Error> {
    let selects: Vec<String> = sequences
        .map(|it| format!("SELECT {}::oid, last_value, is_called FROM {}", it.oid, it.name))
        .collect();
    let mut positions = HashMap::with_capacity(selects.len());
    for some in selects.chunks(READ_AT_ONCE) {
        for row in client.query(&some.join(" UNION ALL "), &[]).await? {
            let (last, called) = (row.get(1), row.get(2));
            positions.insert(row.get(0), Position { last, called });
        }
    }
    Ok(positions)
}

pub(super) async fn set(client: &Client, sequence: &Sequence, to: Position) -> Result<(), Error> {
    let set = "SELECT pg_catalog.setval($1::oid::regclass, $2, $3)";
    client.query_one(set, &[&sequence.oid, &to.last, &to.called]).await?;
    Ok(())
}
