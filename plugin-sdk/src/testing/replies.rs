//! Reads a plugin's replies as the host does.

use super::outcome::{Outcome, shaped};
use super::sample::Sample;
use crate::projection::{Output, OutputColumn};
use crate::{Error, Result};
use rowmill_abi::{Malformed, Reader, Token, reply, schema_action};

/// What a plugin has answered for a table.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Answer {
    Use { read: Vec<usize>, outputs: Vec<Output> },
    PassBy,
    Drop,
}

impl Answer {
    /// The shapes that rows leave in; none where that is the table's own.
    pub fn outputs(&self) -> &[Output] {
        match self {
            Self::Use { outputs, .. } => outputs,
            Self::PassBy | Self::Drop => &[],
        }
    }
}

/// The reply behind its status; a failure is an error with its message.
pub(super) fn opened(bytes: &[u8]) -> Result<Reader<'_>> {
    let mut reader = Reader::new(bytes);
    reader.array()?;
    match reader.uint()? {
        status if status == u64::from(reply::DONE) => Ok(reader),
        _ => Err(Error::new(reader.str()?.to_owned())),
    }
}

pub(super) fn read_answer(mut reader: Reader<'_>, columns: usize) -> Result<Answer> {
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

pub(super) fn read_verdicts(mut reader: Reader<'_>, rows: usize) -> Result<Vec<Result<bool>>, Malformed> {
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

/// What was sent as a row of a batch.
#[derive(Clone, Copy, Debug)]
pub struct Sent<'a> {
    /// `None` for a truncate or message.
    pub(super) row: Option<&'a Sample>,
    pub(super) is_truncate: bool,
    /// The outputs of the row's table.
    pub(super) outputs: &'a [Output],
}

impl Sent<'_> {
    fn passed(&self) -> Outcome {
        self.row
            .map_or(Outcome::Passed, |row| Outcome::Row(shaped(row, self.outputs)))
    }
}

pub(super) fn read_outcomes(mut reader: Reader<'_>, sent: &[Sent<'_>]) -> Result<Vec<Outcome>, Malformed> {
    // The default, which is always pass here.
    reader.skip()?;
    let mut outcomes: Vec<Outcome> = sent.iter().map(Sent::passed).collect();
    let mut next = 0;
    for _ in 0..reader.array()? {
        let at = reader.position();
        reader.array()?;
        let row = reader.u32()? as usize;
        let Some(sent) = sent.get(row).filter(|_| row >= next) else {
            return Err(Malformed {
                at,
                expected: "actions in ascending order",
            });
        };
        next = row + 1;
        outcomes[row] = match sent.row {
            Some(sample) => Outcome::read(&mut reader, sample, sent.outputs)?,
            None => Outcome::read_rowless(&mut reader, sent.is_truncate)?,
        };
    }
    Ok(outcomes)
}
