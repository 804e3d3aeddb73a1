//! The forms of a table's columns, looked up once per version of it.

use super::{Bad, Form, Types, cell};
use crate::batch::{Cell, OwnTypes, Relation};
use crate::decode::DecodeError;
use rustc_hash::FxHashMap;
use std::sync::Arc;

/// Values of columns to cells.
#[derive(Clone, Debug)]
pub(in crate::decode) struct Columns {
    types: Arc<Types>,
    /// Those of the source's own that are read as others.
    own_types: Arc<OwnTypes>,
    /// By a relation's index.
    forms: FxHashMap<u32, Box<[Form]>>,
}

impl Columns {
    pub(in crate::decode) fn new(types: Arc<Types>) -> Self {
        Self::with_own(types, Arc::default())
    }

    pub(in crate::decode) fn with_own(types: Arc<Types>, own_types: Arc<OwnTypes>) -> Self {
        Self {
            types,
            own_types,
            forms: FxHashMap::default(),
        }
    }

    /// What reads the values of a relation's columns.
    #[inline]
    pub(in crate::decode) fn of<'a>(&'a mut self, relation: &'a Relation) -> OfRelation<'a> {
        let (types, own_types) = (&*self.types, &*self.own_types);
        let forms = self.forms.entry(relation.index).or_insert_with(|| {
            let columns = relation.columns.iter();
            columns
                .map(|column| types.form(own_types.read_as(column.type_oid)))
                .collect()
        });
        OfRelation { types, forms, relation }
    }
}

pub(in crate::decode) struct OfRelation<'a> {
    types: &'a Types,
    forms: &'a [Form],
    relation: &'a Relation,
}

impl OfRelation<'_> {
    /// The cell of the `column`th column's value, which lies at `at` of the received bytes.
    #[inline]
    pub(in crate::decode) fn cell(
        &self,
        column: usize,
        value: &[u8],
        at: usize,
        arena: &mut Vec<u8>,
    ) -> Result<Cell, DecodeError> {
        let Some(form) = self.forms.get(column) else {
            return Ok(Cell::ABSENT);
        };
        cell(self.types, *form, value, at, arena).map_err(|bad| self.error(column, bad))
    }

    #[cold]
    fn error(&self, column: usize, bad: Bad) -> DecodeError {
        let known = self.relation.columns.get(column);
        let column = known.map_or_else(String::new, |column| column.name.clone());
        let type_oid = known.map_or(0, |column| column.type_oid);
        let table = self.relation.full_name();
        match bad {
            Bad::Malformed => DecodeError::Value {
                table,
                column,
                type_name: known.map_or_else(String::new, |column| column.type_name.clone()),
            },
            Bad::Unknown(within) => {
                let type_oid = if within == 0 { type_oid } else { within };
                DecodeError::NoText {
                    table,
                    column,
                    type_name: self.types.name(type_oid),
                    type_oid,
                }
            }
            Bad::TooLarge => DecodeError::TextTooLarge { table, column },
        }
    }
}
