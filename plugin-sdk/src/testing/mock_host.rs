//! Stands in for the host: encodes what it would send, reads what it would read.

use super::outcome::Outcome;
use super::replies::{Answer, opened, read_answer, read_outcomes, read_verdicts};
use super::sample::{Cell, Sample, Table};
use super::stand_in::COMMIT_US;
use crate::guest::{FilterPlugin, Guest, Plugin, TransformPlugin};
use crate::projection::Output;
use crate::{Filter, Result, Transform};
use rowmill_abi::{ABI_VERSION, Writer, mode, part};

/// A plugin with the tables that it has been shown.
pub struct MockHost<P: Plugin> {
    guest: Guest<P>,
    tables: Vec<(Table, Answer)>,
    /// Given by the test; else tables follow from the samples.
    fixed: bool,
    sequence: u64,
}

impl<P: Plugin> MockHost<P> {
    pub(super) fn start(config: &[u8]) -> Result<Self> {
        let mut input = Writer::new();
        input.array(8);
        input.int(ABI_VERSION.into());
        input.array(0);
        input.str("test");
        input.raw(config);
        input.uint(mode::TEST.into());
        input.array(0);
        input.nil();
        input.uint(0);
        let mut guest = Guest::default();
        opened(guest.init(input.as_slice()))?;
        Ok(Self {
            guest,
            tables: Vec::new(),
            fixed: false,
            sequence: 0,
        })
    }

    /// Has all rows be of this table. An error is the plugin's refusal.
    pub fn with_table(mut self, table: Table) -> Result<Self> {
        self.announce(table)?;
        self.fixed = true;
        Ok(self)
    }

    fn announce(&mut self, mut table: Table) -> Result<usize> {
        table.relation.index = self.tables.len() as u32;
        let relation = &table.relation;
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
        let answer = read_answer(opened(self.guest.schema(input.as_slice()))?, relation.columns.len())?;
        self.tables.push((table, answer));
        Ok(self.tables.len() - 1)
    }

    /// The table that a sample is of, announced where it is new.
    fn table_of(&mut self, sample: &Sample) -> Result<usize> {
        if self.fixed {
            return Ok(0);
        }
        match self.tables.iter().position(|(table, _)| table.fits(sample)) {
            Some(known) => Ok(known),
            None => self.announce(Table::of(sample)),
        }
    }

    /// The tables of samples.
    fn tables_of(&mut self, samples: &[Sample]) -> Result<Vec<usize>> {
        samples.iter().map(|sample| self.table_of(sample)).collect()
    }

    /// The batch that the host would send for these rows: one transaction. Rows of tables that the plugin passes by or
    /// drops aren't sent.
    pub fn encode(&mut self, samples: &[Sample]) -> Result<Vec<u8>> {
        let tables = self.tables_of(samples)?;
        let mut rows = Writer::new();
        let mut count = 0;
        for (sample, table) in samples.iter().zip(tables) {
            count += u64::from(self.encode_row(sample, table, &mut rows));
        }
        let mut input = Writer::new();
        self.sequence += 1;
        input.array(4);
        input.uint(self.sequence);
        input.uint(0);
        input.array(1);
        input.array(6);
        for field in [700, 0x100_0000, COMMIT_US as u64, 0, count, part::WHOLE.into()] {
            input.uint(field);
        }
        input.array(count as usize);
        input.raw(rows.as_slice());
        Ok(input.into_vec())
    }

    fn encode_row(&self, sample: &Sample, table: usize, rows: &mut Writer) -> bool {
        let (table, answer) = &self.tables[table];
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

    /// Sends an encoded batch and returns the raw reply, for measurements.
    pub fn call(&mut self, batch: &[u8]) -> &[u8] {
        self.guest.batch(batch)
    }
}

impl<F: Filter> MockHost<FilterPlugin<F>> {
    /// Whether the row matches, or why it is rejected.
    pub fn matches(&mut self, sample: Sample) -> Result<bool> {
        self.verdicts(&[sample]).remove(0)
    }

    /// What the filter says of each row of one batch. A table that it refuses is an error of all of them.
    ///
    /// # Panics
    ///
    /// Where its reply is against the ABI.
    pub fn verdicts(&mut self, samples: &[Sample]) -> Vec<Result<bool>> {
        let encoded = self
            .tables_of(samples)
            .and_then(|tables| Ok((tables, self.encode(samples)?)));
        let (tables, batch) = match encoded {
            Ok(encoded) => encoded,
            Err(refusal) => return vec![Err(refusal); samples.len()],
        };
        let answers = tables.iter().map(|table| &self.tables[*table].1);
        let sent = answers
            .clone()
            .filter(|answer| matches!(answer, Answer::Use { .. }))
            .count();
        let mut verdicts = opened(self.guest.batch(&batch))
            .and_then(|reply| Ok(read_verdicts(reply, sent)?))
            .unwrap_or_else(|error| panic!("the batch failed: {error}"))
            .into_iter();
        let verdict = |answer: &Answer| match answer {
            Answer::Use { .. } => verdicts.next().unwrap_or(Ok(false)),
            Answer::PassBy => Ok(true),
            Answer::Drop => Ok(false),
        };
        answers.map(verdict).collect()
    }
}

impl<T: Transform> MockHost<TransformPlugin<T>> {
    /// What becomes of the row.
    pub fn apply(&mut self, sample: Sample) -> Outcome {
        self.outcomes(&[sample]).remove(0)
    }

    /// What becomes of each row of one batch. A table that it refuses rejects all of them.
    ///
    /// # Panics
    ///
    /// Where the reply is against the ABI.
    pub fn outcomes(&mut self, samples: &[Sample]) -> Vec<Outcome> {
        let encoded = self
            .tables_of(samples)
            .and_then(|tables| Ok((tables, self.encode(samples)?)));
        let (tables, batch) = match encoded {
            Ok(encoded) => encoded,
            Err(refusal) => return vec![Outcome::Rejected(refusal); samples.len()],
        };
        let with_answers = || samples.iter().zip(tables.iter().map(|table| &self.tables[*table].1));
        let sent: Vec<(&Sample, &[Output])> = with_answers()
            .filter_map(|(sample, answer)| match answer {
                Answer::Use { outputs, .. } => Some((sample, outputs.as_slice())),
                _ => None,
            })
            .collect();
        let mut outcomes = opened(self.guest.batch(&batch))
            .and_then(|reply| Ok(read_outcomes(reply, &sent)?))
            .unwrap_or_else(|error| panic!("the batch failed: {error}"))
            .into_iter();
        let outcome = |(sample, answer): (&Sample, &Answer)| match answer {
            Answer::Use { .. } => outcomes.next().unwrap_or(Outcome::Dropped),
            Answer::PassBy => Outcome::Row(sample.clone()),
            Answer::Drop => Outcome::Dropped,
        };
        with_answers().map(outcome).collect()
    }
}
