//! A letter: one change that was set aside, with all that it takes to send it again.

use super::cause::{Cause, PluginName};
use super::value::Owned;
use crate::batch::{Batch, Column, CopyUnit, Lsn, OldImage, Op, Origin, Relation, ReplicaIdentity, Row, Tuple};
use serde::{Deserialize, Serialize};

/// The values of an image in the order of the table's columns.
pub type Image = Vec<Owned>;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Letter {
    /// What people call it by; never given twice.
    pub number: u64,
    /// The route whose sinks lack it.
    pub route: String,
    /// The names of those sinks, where the route's others lack nothing: of a row that was copied for sinks that had come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sinks: Option<Vec<String>>,
    pub table: Table,
    #[serde(with = "op_name")]
    pub op: Op,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new: Option<Image>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old: Option<Image>,
    /// Whether the old image is the whole row, rather than its key.
    #[serde(default)]
    pub old_whole: bool,
    pub change: Change,
    /// Why; `None` where it only had to wait behind another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<Cause>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plugin: Option<PluginName>,
    /// The earlier letter of its key that it had to wait behind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub behind: Option<u64>,
    /// µs since 1970.
    pub set_aside_us: i64,
}

/// Which change it was at the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    pub xid: u32,
    /// For a copied row, where it was merged into the stream.
    #[serde(with = "lsn_text")]
    pub commit_lsn: Lsn,
    /// µs since 2000.
    pub commit_us: i64,
    /// Its number in the transaction or copied unit.
    pub ordinal: u64,
    /// Epoch, table OID and number of the unit that a copied row belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copy: Option<[u32; 3]>,
}

impl Change {
    pub fn of(batch: &Batch, row: &Row) -> Self {
        let transaction = batch.transaction(row);
        Self {
            xid: transaction.xid,
            commit_lsn: transaction.commit_lsn,
            commit_us: transaction.commit_us,
            ordinal: row.ordinal,
            copy: match transaction.origin {
                Origin::Copy(unit) => Some([unit.epoch, unit.table_oid, unit.unit]),
                Origin::Stream | Origin::Replay(_) => None,
            },
        }
    }

    pub fn order(&self) -> Standing {
        Standing {
            lsn: self.commit_lsn,
            streamed: self.copy.is_none(),
            ordinal: self.ordinal,
        }
    }

    pub(super) fn unit(&self) -> Option<CopyUnit> {
        let [epoch, table_oid, unit] = self.copy?;
        Some(CopyUnit { epoch, table_oid, unit })
    }
}

/// Where a change stands in the order of delivery. A copied row that was merged at a position went out before what
/// commits there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Standing {
    pub lsn: Lsn,
    pub streamed: bool,
    pub ordinal: u64,
}

/// A relation as the route let it out, complete enough to make it anew.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Table {
    pub oid: u32,
    pub schema: String,
    pub name: String,
    pub version: u32,
    pub replica_identity: char,
    pub columns: Vec<TableColumn>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TableColumn {
    pub name: String,
    pub type_oid: u32,
    pub typmod: i32,
    pub type_name: String,
    pub nullable: bool,
    pub key: bool,
}

impl Table {
    pub fn full_name(&self) -> String {
        format!("{}.{}", self.schema, self.name)
    }

    pub fn key_columns(&self) -> impl Iterator<Item = &str> {
        self.columns.iter().filter(|column| column.key).map(|c| c.name.as_str())
    }

    /// A relation of this process with the values in the order of its columns. `None` for what no table can be.
    pub(super) fn to_relation(&self) -> Option<Relation> {
        let slots = u16::try_from(self.columns.len()).ok()?;
        let byte = u8::try_from(self.replica_identity).ok()?;
        let columns = self.columns.iter().zip(0..slots).map(|(column, slot)| Column {
            name: column.name.clone(),
            type_oid: column.type_oid,
            typmod: column.typmod,
            type_name: column.type_name.clone(),
            nullable: column.nullable,
            key: column.key,
            slot,
        });
        Some(Relation {
            index: Relation::next_index(),
            version: self.version,
            oid: self.oid,
            schema: self.schema.clone(),
            table: self.name.clone(),
            replica_identity: ReplicaIdentity::from_byte(byte)?,
            columns: columns.collect(),
            slots,
        })
    }
}

impl From<&Relation> for Table {
    fn from(relation: &Relation) -> Self {
        let column = |column: &Column| TableColumn {
            name: column.name.clone(),
            type_oid: column.type_oid,
            typmod: column.typmod,
            type_name: column.type_name.clone(),
            nullable: column.nullable,
            key: column.key,
        };
        Self {
            oid: relation.oid,
            schema: relation.schema.clone(),
            name: relation.table.clone(),
            version: relation.version,
            replica_identity: relation.replica_identity.as_char(),
            columns: relation.columns.iter().map(column).collect(),
        }
    }
}

impl Letter {
    /// A change of a route as it was before the plugins. Number, cause and place in the line are for the caller.
    pub(super) fn of(batch: &Batch, row: &Row, route: &str, set_aside_us: i64) -> Self {
        let relation = batch.relation(row);
        let image = |tuple: Tuple| batch.values(tuple, relation).map(Owned::from).collect();
        Self {
            number: 0,
            route: route.to_owned(),
            sinks: None,
            table: Table::from(&**relation),
            op: row.op,
            new: row.new.map(image),
            old: row.old.map(image),
            old_whole: row.old_image == OldImage::Full,
            change: Change::of(batch, row),
            cause: None,
            plugin: None,
            behind: None,
            set_aside_us,
        }
    }

    /// Whether its parts fit together, so that it can be sent again.
    pub(super) fn is_sound(&self) -> bool {
        let fits = |image: &Option<Image>| image.as_ref().is_none_or(|i| i.len() == self.table.columns.len());
        !matches!(self.op, Op::Truncate | Op::Message)
            && (self.new.is_some() || self.old.is_some())
            && fits(&self.new)
            && fits(&self.old)
    }

    /// In a few words, why it is here.
    pub fn reason(&self) -> String {
        match (&self.cause, self.behind) {
            (Some(cause), _) => cause.to_string(),
            (None, Some(number)) => format!("waits behind letter {number}"),
            (None, None) => "set aside".to_owned(),
        }
    }
}

mod op_name {
    use super::Op;
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serializer};

    const OPS: [Op; 5] = [Op::Insert, Op::Update, Op::Delete, Op::Read, Op::Upsert];

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands out references")]
    pub(super) fn serialize<S: Serializer>(op: &Op, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(op.name())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Op, D::Error> {
        let name = String::deserialize(from)?;
        let found = OPS.into_iter().find(|op| op.name() == name);
        found.ok_or_else(|| D::Error::custom("no operation on a row"))
    }
}

mod lsn_text {
    use super::Lsn;
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serializer};

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands out references")]
    pub(super) fn serialize<S: Serializer>(lsn: &Lsn, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(lsn)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Lsn, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}
