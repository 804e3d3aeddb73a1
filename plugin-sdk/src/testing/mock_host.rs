//! Stands in for the host: encodes what it would send, reads what it would read.

use super::outcome::{Outcome, shaped};
use super::sample::{Cell, Sample, Table};
use super::stand_in::COMMIT_US;
use crate::guest::{FilterPlugin, Guest, Plugin, TransformPlugin};
use crate::projection::{Output, OutputColumn};
use crate::{Error, Filter, Result, Transform};
use rowmill_abi::{ABI_VERSION, Malformed, Reader, Token, Writer, mode, part, reply, schema_action};

/// A plugin with the tables that it has been shown.
pub struct MockHost<P: Plugin> {
    guest: Guest<P>,
    tables: Vec<(Table, Answer)>,
    /// Given by the test; else tables follow from the samples.
    fixed: bool,
    sequence: u64,
}

/// What a plugin has answered for a table.
#[derive(Clone, Debug, PartialEq)]
enum Answer {
    Use { read: Vec<usize>, outputs: Vec<Output> },
    PassBy,
    Drop,
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
        let answer = answer(opened(self.guest.schema(input.as_slice()))?, relation.columns.len())?;
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

    /// The batch that the host would send for these rows: one transaction.
    pub fn encode(&mut self, samples: &[Sample]) -> Result<Vec<u8>> {
        let tables = samples
            .iter()
            .map(|sample| self.table_of(sample))
            .collect::<Result<Vec<_>>>()?;
        let mut input = Writer::new();
        self.sequence += 1;
        input.array(4);
        input.uint(self.sequence);
        input.uint(0);
        input.array(1);
        input.array(6);
        for field in [
            700,
            0x100_0000,
            COMMIT_US as u64,
            0,
            samples.len() as u64,
            part::WHOLE.into(),
        ] {
            input.uint(field);
        }
        input.array(samples.len());
        for (sample, table) in samples.iter().zip(tables) {
            self.encode_row(sample, table, &mut input);
        }
        Ok(input.into_vec())
    }

    fn encode_row(&self, sample: &Sample, table: usize, input: &mut Writer) {
        let (table, answer) = &self.tables[table];
        input.array(4);
        input.uint(table.relation.index.into());
        input.uint(sample.op.to_wire().into());
        input.uint(sample.image.to_wire().into());
        let Answer::Use { read, .. } = answer else {
            return input.array(0);
        };
        input.array(read.len());
        for column in read {
            match table.relation.columns.get(*column) {
                Some(column) => sample.get(&column.name).write(input),
                None => Cell::Absent.write(input),
            }
        }
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

    /// What the filter says of each row of one batch.
    ///
    /// # Panics
    ///
    /// Where its reply is against the ABI.
    pub fn verdicts(&mut self, samples: &[Sample]) -> Vec<Result<bool>> {
        let batch = match self.encode(samples) {
            Ok(batch) => batch,
            Err(refusal) => return samples.iter().map(|_| Err(refusal.clone())).collect(),
        };
        let verdicts = opened(self.guest.batch(&batch))
            .and_then(|reply| Ok(read_verdicts(reply, samples.len())?))
            .unwrap_or_else(|error| panic!("the batch failed: {error}"));
        let passed_by = |sample: &Sample| match self.tables.iter().find(|(table, _)| self.fixed || table.fits(sample)) {
            Some((_, Answer::PassBy)) => Some(true),
            Some((_, Answer::Drop)) => Some(false),
            _ => None,
        };
        let judged = |(sample, verdict)| passed_by(sample).map_or(verdict, Ok);
        samples.iter().zip(verdicts).map(judged).collect()
    }
}

impl<T: Transform> MockHost<TransformPlugin<T>> {
    /// What becomes of the row.
    pub fn apply(&mut self, sample: Sample) -> Outcome {
        self.outcomes(&[sample]).remove(0)
    }

    /// What becomes of each row of one batch.
    ///
    /// # Panics
    ///
    /// Where the reply is against the ABI.
    pub fn outcomes(&mut self, samples: &[Sample]) -> Vec<Outcome> {
        let batch = match self.encode(samples) {
            Ok(batch) => batch,
            Err(refusal) => return samples.iter().map(|_| Outcome::Rejected(refusal.clone())).collect(),
        };
        let (fixed, tables) = (self.fixed, &self.tables);
        let outputs = |sample: &Sample| match tables.iter().find(|(table, _)| fixed || table.fits(sample)) {
            Some((_, Answer::Use { outputs, .. })) => outputs.as_slice(),
            _ => &[],
        };
        opened(self.guest.batch(&batch))
            .and_then(|reply| Ok(read_outcomes(reply, samples, outputs)?))
            .unwrap_or_else(|error| panic!("the batch failed: {error}"))
    }
}

/// The reply behind its status; a failure is an error with its message.
fn opened(bytes: &[u8]) -> Result<Reader<'_>> {
    let mut reader = Reader::new(bytes);
    reader.array()?;
    match reader.uint()? {
        status if status == u64::from(reply::DONE) => Ok(reader),
        _ => Err(Error::new(reader.str()?.to_owned())),
    }
}

fn answer(mut reader: Reader<'_>, columns: usize) -> Result<Answer> {
    match u8::try_from(reader.uint()?)? {
        schema_action::USE => {}
        schema_action::PASS_BY => return Ok(Answer::PassBy),
        schema_action::DROP => return Ok(Answer::Drop),
        _ => return Err(Error::new(reader.str()?.to_owned())),
    }
    let read = if reader.take_nil() {
        (0..columns).collect()
    } else {
        indexes(&mut reader)?
    };
    indexes(&mut reader)?;
    reader.skip()?;
    let mut outputs = Vec::new();
    if !reader.take_nil() {
        for _ in 0..reader.array()? {
            outputs.push(output(&mut reader)?);
        }
    }
    Ok(Answer::Use { read, outputs })
}

fn indexes(reader: &mut Reader<'_>) -> Result<Vec<usize>, Malformed> {
    (0..reader.array()?).map(|_| Ok(reader.u32()? as usize)).collect()
}

fn output(reader: &mut Reader<'_>) -> Result<Output, Malformed> {
    reader.array()?;
    let (schema, table) = (reader.str()?.to_owned(), reader.str()?.to_owned());
    let mut columns = Vec::new();
    for _ in 0..reader.array()? {
        reader.array()?;
        columns.push(OutputColumn {
            name: reader.str()?.to_owned(),
            type_oid: reader.u32()?,
            type_name: reader.str()?.to_owned(),
            key: reader.bool()?,
        });
    }
    Ok(Output { schema, table, columns })
}

fn read_verdicts(mut reader: Reader<'_>, rows: usize) -> Result<Vec<Result<bool>>, Malformed> {
    let at = reader.position();
    let mut verdicts: Vec<Result<bool>> = match reader.token()? {
        Token::Bool(all) => vec![Ok(all); rows],
        Token::Bin(bits) if bits.len() == rows.div_ceil(8) => {
            (0..rows).map(|row| Ok(bits[row / 8] >> (row % 8) & 1 == 1)).collect()
        }
        _ => {
            return Err(Malformed {
                at,
                expected: "a verdict",
            });
        }
    };
    if reader.take_nil() {
        return Ok(verdicts);
    }
    for _ in 0..reader.array()? {
        let at = reader.position();
        reader.array()?;
        let row = reader.u32()? as usize;
        let code = reader.str()?.to_owned();
        let error = Error::new(reader.str()?.to_owned()).with_code(code);
        *verdicts.get_mut(row).ok_or(Malformed {
            at,
            expected: "a row of the batch",
        })? = Err(error);
    }
    Ok(verdicts)
}

fn read_outcomes<'o>(
    mut reader: Reader<'_>,
    samples: &[Sample],
    outputs: impl Fn(&Sample) -> &'o [Output],
) -> Result<Vec<Outcome>, Malformed> {
    // The default, which is always pass here.
    reader.skip()?;
    let pass = |sample: &Sample| Outcome::Row(shaped(sample, outputs(sample)));
    let mut outcomes: Vec<Outcome> = samples.iter().map(pass).collect();
    let mut next = 0;
    for _ in 0..reader.array()? {
        let at = reader.position();
        reader.array()?;
        let row = reader.u32()? as usize;
        if row < next || row >= samples.len() {
            return Err(Malformed {
                at,
                expected: "actions in ascending order",
            });
        }
        next = row + 1;
        outcomes[row] = Outcome::read(&mut reader, &samples[row], outputs(&samples[row]))?;
    }
    Ok(outcomes)
}
