//! Which share of a window a row belongs to.
//!
//! It depends on nothing but the names and texts that are given, and is written down beside the position of each share:
//! after a crash the same rows are found again, whatever the target's tables have become and however many connections
//! there are now.

use crate::batch::{Batch, Op, Row, Tuple, Value};
use crate::sink::postgres::run::key_value;
use crate::sink::postgres::target::{Target, qualified};
use serde_json::Value as Json;
use std::collections::BTreeMap;

/// How the rows of a table are divided.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Rule {
    /// All of them are one share's.
    Share(usize),
    /// By the values of these columns.
    Key(Vec<String>),
}

/// How the rows of tables are divided, by their quoted names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::sink::postgres) struct Division {
    shares: usize,
    rules: BTreeMap<String, Rule>,
}

/// A change that concerns several shares, or of which it can't be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sink::postgres) struct Undivided;

/// A rule with the relation's slots.
#[derive(Debug)]
enum Way {
    Share(usize),
    Key { seed: u64, slots: Vec<u16> },
}

/// The ways of a batch's relations, by their place in it; `None` where nothing is known of one.
pub(in crate::sink::postgres) struct Ways {
    shares: usize,
    ways: Vec<Option<Way>>,
}

impl Division {
    pub(super) fn new(shares: usize) -> Self {
        Self {
            shares,
            rules: BTreeMap::new(),
        }
    }

    /// `None` where the text isn't what [`Self::to_text`] makes.
    pub(super) fn from_text(shares: usize, rules: &str) -> Option<Self> {
        let Ok(Json::Object(tables)) = serde_json::from_str(rules) else {
            return None;
        };
        let rule = |rule: &Json| match rule {
            Json::Array(columns) => {
                let columns = columns.iter().map(|column| column.as_str().map(str::to_owned));
                columns.collect::<Option<Vec<String>>>().map(Rule::Key)
            }
            share => share.as_u64().map(|share| Rule::Share(share as usize)),
        };
        let rules = tables.iter().map(|(name, it)| Some((name.clone(), rule(it)?)));
        Some(Self {
            shares,
            rules: rules.collect::<Option<BTreeMap<String, Rule>>>()?,
        })
    }

    /// The rules as JSON: an object with a number or a list of columns for each table.
    pub(super) fn to_text(&self) -> String {
        let rule = |rule: &Rule| match rule {
            Rule::Share(share) => Json::from(*share),
            Rule::Key(columns) => Json::from(columns.as_slice()),
        };
        let tables = self.rules.iter().map(|(name, it)| (name.clone(), rule(it)));
        Json::Object(tables.collect()).to_string()
    }

    pub(super) fn shares(&self) -> usize {
        self.shares
    }

    pub(super) fn clear(&mut self) {
        self.rules.clear();
    }

    /// Adds the rule of a table. Triggers of the target's own may write to each other's tables: theirs are all in the
    /// first share.
    pub(super) fn add(&mut self, target: &Target, columns: impl Fn(u16) -> Option<String>) {
        if self.rules.contains_key(&target.name) {
            return;
        }
        let key = || {
            let key = target.columns.iter().filter(|column| column.key);
            key.map(|column| columns(column.slot)).collect::<Option<Vec<String>>>()
        };
        let rule = match target.divides.then(key).flatten() {
            Some(key) => Rule::Key(key),
            None if target.triggers => Rule::Share(0),
            None => Rule::Share(place(hash(SEED, target.name.as_bytes()), self.shares)),
        };
        self.rules.insert(target.name.clone(), rule);
    }

    pub(super) fn ways(&self, batch: &Batch) -> Ways {
        let way = |relation: &crate::batch::Relation| {
            let name = qualified(relation);
            Some(match self.rules.get(&name)? {
                Rule::Share(share) => Way::Share(*share),
                Rule::Key(columns) => Way::Key {
                    seed: hash(SEED, name.as_bytes()),
                    slots: columns
                        .iter()
                        .map(|column| relation.columns.iter().find(|it| it.name == *column).map(|it| it.slot))
                        .collect::<Option<Vec<u16>>>()?,
                },
            })
        };
        Ways {
            shares: self.shares,
            ways: batch.relations.iter().map(|relation| way(relation)).collect(),
        }
    }
}

impl Ways {
    pub(super) fn is_by_key(&self, row: &Row) -> bool {
        matches!(self.ways.get(row.relation as usize), Some(Some(Way::Key { .. })))
    }

    /// The share of a row; `None` where nothing is known of its table, or where it is of none.
    pub(super) fn share(&self, batch: &Batch, row: &Row) -> Result<Option<usize>, Undivided> {
        match row.op {
            Op::Truncate => return Err(Undivided),
            Op::Message => return Ok(None),
            _ => {}
        }
        let (seed, slots) = match self.ways.get(row.relation as usize) {
            Some(Some(Way::Share(share))) => return Ok(Some(*share)),
            Some(Some(Way::Key { seed, slots })) => (*seed, slots),
            _ => return Ok(None),
        };
        let share = |image: Tuple, old: Option<Tuple>| {
            let key = slots
                .iter()
                .try_fold(seed, |so_far, slot| match key_value(batch, *slot, image, old) {
                    Value::Text(text) => Ok(hash(hash(so_far, text), &[0xFF])),
                    Value::Null | Value::Unchanged | Value::Absent | Value::Binary(_) => Err(Undivided),
                });
            key.map(|key| place(key, self.shares))
        };
        match (row.new.filter(|_| row.op != Op::Delete), row.old) {
            (Some(new), None) => share(new, None).map(Some),
            (None, Some(old)) => share(old, None).map(Some),
            (Some(new), Some(old)) => match (share(new, Some(old))?, share(old, None)?) {
                (now, before) if now == before => Ok(Some(now)),
                _ => Err(Undivided),
            },
            (None, None) => Err(Undivided),
        }
    }
}

const SEED: u64 = 0xCBF2_9CE4_8422_2325;

/// FNV-1a: it is the same in every version and on every machine.
fn hash(so_far: u64, bytes: &[u8]) -> u64 {
    const PRIME: u64 = 0x0000_0100_0000_01B3;
    bytes
        .iter()
        .fold(so_far, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(PRIME))
}

/// The last bytes have gone into few of the hash's bits: they are spread over all of them (MurmurHash3's end).
fn place(hash: u64, shares: usize) -> usize {
    let spread = |hash: u64, by: u64| (hash ^ (hash >> 33)).wrapping_mul(by);
    let hash = spread(spread(hash, 0xFF51_AFD7_ED55_8CCD), 0xC4CE_B9FE_1A85_EC53);
    let hash = hash ^ (hash >> 33);
    (((hash >> 32) * shares as u64) >> 32) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is stored has to be understood by every later version.
    #[test]
    fn shares_stay_what_they_are() {
        assert_eq!(hash(SEED, b"foobar"), 0x85944171F73967E8);
        let shares: Vec<usize> = (0..12_u8).map(|id| place(hash(SEED, &[b'0' + id]), 4)).collect();
        assert_eq!(shares, [3, 1, 2, 2, 2, 1, 2, 3, 0, 0, 1, 0]);
        let division = Division::from_text(2, r#"{"\"public\".\"a\"": 1, "\"public\".\"b\"": ["id", "at"]}"#).unwrap();
        assert_eq!(
            division.to_text(),
            r#"{"\"public\".\"a\"":1,"\"public\".\"b\"":["id","at"]}"#
        );
    }
}
