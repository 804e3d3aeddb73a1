//! Encodes what the host sends.

use super::event::Event;
use super::replies::Answer;
use super::sample::{Cell, Sample, Table};
use super::script::{Script, Step};
use super::stand_in::Batch;
use crate::guest::Plugin;
use crate::relation::Relation;
use rowmill_abi::{Writer, op, part, truncate};
use std::ops::Range;

/// What goes into `rowmill_schema`.
pub(super) fn relation(relation: &Relation) -> Vec<u8> {
    let mut input = Writer::new();
    input.array(7);
    input.uint(relation.index.into());
    input.uint(relation.version.into());
    input.str(&relation.schema);
    input.str(&relation.table);
    input.str(relation.replica_identity.encode_utf8(&mut [0; 4]));
    input.array(relation.columns.len());
    for column in &relation.columns {
        input.array(6);
        input.str(&column.name);
        input.uint(column.type_oid.into());
        input.int(column.typmod.into());
        input.str(&column.type_name);
        input.bool(column.nullable);
        input.bool(column.key);
    }
    input.nil();
    input.into_vec()
}

/// A part of a script as it goes into `rowmill_batch`, which of its steps are in there, and what the imports must know.
pub(super) fn encode<P: Plugin>(
    sequence: u64,
    known: &[(Table, Answer)],
    script: &Script<'_>,
    tables: &[Option<usize>],
    range: Range<usize>,
) -> (Vec<u8>, Vec<bool>, Batch) {
    let (mut rows, mut batch) = (Writer::new(), Batch::default());
    let mut sent = Vec::new();
    // Transactions with their number of rows.
    let mut transactions: Vec<(usize, u64)> = Vec::new();
    for (step, table) in script.steps[range.clone()].iter().zip(&tables[range.clone()]) {
        if transactions.last().is_none_or(|(known, _)| *known != step.transaction) {
            transactions.push((step.transaction, 0));
            batch.commit_us.push(script.commits[step.transaction].us);
        }
        let is_sent = encode_step::<P>(step, *table, known, &mut rows);
        sent.push(is_sent);
        if let (true, Some((transaction, count))) = (is_sent, transactions.last_mut()) {
            *count += 1;
            batch.seeds.push((script.commits[*transaction].lsn, step.ordinal));
        }
    }
    let mut input = Writer::new();
    input.array(4);
    input.uint(sequence);
    input.uint(0);
    input.array(transactions.len());
    let mut first_row = 0;
    for (transaction, count) in transactions {
        let commit = script.commits[transaction];
        input.array(6);
        input.uint(commit.xid);
        input.uint(commit.lsn);
        input.int(commit.us);
        input.uint(first_row);
        input.uint(count);
        input.uint(part_of(script, transaction, &range).into());
        first_row += count;
    }
    input.array(first_row as usize);
    input.raw(rows.as_slice());
    (input.into_vec(), sent, batch)
}

/// Which part of a transaction lies in the range.
fn part_of(script: &Script<'_>, transaction: usize, range: &Range<usize>) -> u8 {
    let is_there = |step: Option<&Step<'_>>| step.is_some_and(|step| step.transaction == transaction);
    let began = is_there(range.start.checked_sub(1).and_then(|before| script.steps.get(before)));
    let goes_on = is_there(script.steps.get(range.end));
    match (began, goes_on) {
        (false, false) => part::WHOLE,
        (false, true) => part::FIRST,
        (true, true) => part::MIDDLE,
        (true, false) => part::LAST,
    }
}

fn encode_step<P: Plugin>(step: &Step<'_>, table: Option<usize>, known: &[(Table, Answer)], rows: &mut Writer) -> bool {
    match (step.event, table) {
        (Event::Row(row), Some(table)) => encode_row(row, &known[table], rows),
        (
            Event::Message {
                is_transactional,
                prefix,
                content,
            },
            _,
        ) if P::MESSAGES => {
            rows.array(4);
            rows.nil();
            rows.uint(op::MESSAGE.into());
            rows.bool(*is_transactional);
            rows.array(2);
            rows.str(prefix);
            rows.bin(content);
            true
        }
        (
            Event::Truncate {
                tables,
                cascades,
                restarts_identity,
            },
            _,
        ) if P::TRUNCATES => {
            let mut relations: Vec<u32> = tables.iter().filter_map(|table| in_use(table, known)).collect();
            relations.dedup();
            if relations.is_empty() {
                return false;
            }
            rows.array(4);
            rows.nil();
            rows.uint(op::TRUNCATE.into());
            let flag = |is_set: bool, flag: u8| if is_set { flag } else { 0 };
            let flags = flag(*cascades, truncate::CASCADE) | flag(*restarts_identity, truncate::RESTART_IDENTITY);
            rows.uint(flags.into());
            rows.array(relations.len());
            relations.iter().for_each(|relation| rows.uint((*relation).into()));
            true
        }
        _ => false,
    }
}

/// The present version of a table, where the plugin uses it.
fn in_use(table: &str, known: &[(Table, Answer)]) -> Option<u32> {
    let (found, answer) = known.iter().rev().find(|(known, _)| known.relation.table == table)?;
    matches!(answer, Answer::Use { .. }).then_some(found.relation.index)
}

fn encode_row(sample: &Sample, (table, answer): &(Table, Answer), rows: &mut Writer) -> bool {
    let Answer::Use { read, .. } = answer else {
        return false;
    };
    rows.array(4);
    rows.uint(table.relation.index.into());
    rows.uint(sample.op.to_wire().into());
    rows.uint(sample.image.to_wire().into());
    rows.array(read.len());
    for column in read {
        match table.relation.columns.get(*column) {
            Some(column) => sample.get(&column.name).write(rows),
            None => Cell::Absent.write(rows),
        }
    }
    true
}
