//! A round as a batch: letters as rows again, each a transaction of its own.

use super::{LiveRequest, ReplayBatch, Ticket};
use crate::batch::{Batch, Cell, Lsn, OldImage, Origin, Part, Relation, Replay, Row, Transaction, Value};
use crate::dead_letter::fault;
use crate::dead_letter::letter::Letter;
use crate::dead_letter::store::{RouteId, State};
use crate::dead_letter::value::Owned;
use crate::problem::Problem;
use bytes::Bytes;
use rustc_hash::FxHashMap;
use std::sync::Arc;

/// Rounds that run beside the stream before it has to wait for one.
const FREE_ROUNDS: u32 = 3;
/// Relations kept before all are let go.
const RELATIONS_MAX: usize = 1_000;
impl State {
    pub(super) fn build(
        &mut self,
        ticket: Ticket,
        request: &LiveRequest,
        round: &[u64],
        position: Lsn,
    ) -> Result<ReplayBatch, Box<Problem>> {
        let mut replay = ReplayBatch {
            ticket,
            batch: Batch::default(),
            rows: Vec::new(),
            position,
            hold: request.rounds > FREE_ROUNDS || self.is_crowded(round),
            letters: round.to_vec(),
            only: FxHashMap::default(),
            force: request.force,
            waits_for_state: false,
        };
        let mut binary = Vec::new();
        for number in round {
            let letter = self.letter(*number)?;
            let Some(relation) = self.relation(&letter) else {
                return Err(fault::unknown(*number));
            };
            let entry = self.index.entries.get(number);
            let under = entry.and_then(|entry| entry.sent_under);
            if let Some(only) = entry.and_then(|entry| entry.sinks.clone()) {
                // Its transaction is the next one.
                replay.only.insert(replay.batch.transactions.len() as u32, only);
            }
            replay.push(
                self.route(&letter.route),
                &relation,
                &letter,
                under.unwrap_or(request.number),
                &mut binary,
            );
        }
        replay.batch.bytes = Bytes::from(binary);
        replay.rows.sort_by_key(|(route, _)| route.0);
        Ok(replay)
    }

    fn relation(&mut self, letter: &Letter) -> Option<Arc<Relation>> {
        if let Some(known) = self.relations.get(&letter.table) {
            return Some(Arc::clone(known));
        }
        if self.relations.len() >= RELATIONS_MAX {
            self.relations.clear();
        }
        let relation = Arc::new(letter.table.to_relation()?);
        self.relations.insert(letter.table.clone(), Arc::clone(&relation));
        Some(relation)
    }
}

impl ReplayBatch {
    /// How many letters it has.
    pub fn len(&self) -> usize {
        self.letters.len()
    }

    pub fn is_empty(&self) -> bool {
        self.letters.is_empty()
    }

    fn push(&mut self, route: RouteId, relation: &Arc<Relation>, letter: &Letter, request: u32, binary: &mut Vec<u8>) {
        let batch = &mut self.batch;
        let index = batch.relation_index(relation);
        let transaction = batch.transactions.len() as u32;
        batch.transactions.push(Transaction {
            xid: letter.change.xid,
            commit_lsn: letter.change.commit_lsn,
            // It moves no position.
            end_lsn: Lsn(0),
            commit_us: letter.change.commit_us,
            part: Part::Whole,
            origin: Origin::Replay(Replay {
                request,
                letter: letter.number,
                copy: letter.change.unit(),
            }),
        });
        let mut image = |image: &Option<Vec<Owned>>| {
            let values = image.as_ref()?;
            let cells: Vec<Cell> = values
                .iter()
                .map(|value| match value.as_value() {
                    Value::Null => Cell::NULL,
                    Value::Unchanged => Cell::UNCHANGED,
                    Value::Absent => Cell::ABSENT,
                    Value::Text(text) => batch.text_cell(text),
                    Value::Binary(bytes) => {
                        binary.extend_from_slice(bytes);
                        Cell::binary(binary.len() - bytes.len(), bytes.len())
                    }
                })
                .collect();
            Some(batch.push_tuple(cells))
        };
        let row = Row {
            relation: index,
            transaction,
            ordinal: letter.change.ordinal,
            new: image(&letter.new),
            old: image(&letter.old),
            extra: 0,
            fan_out: 0,
            op: letter.op,
            old_image: if letter.old_whole {
                OldImage::Full
            } else {
                OldImage::Key
            },
        };
        match self.rows.iter_mut().find(|(known, _)| *known == route) {
            Some((_, rows)) => rows.push(row),
            None => self.rows.push((route, vec![row])),
        }
    }
}
