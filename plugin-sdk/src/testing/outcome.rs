//! What a transform has made of a row.

use super::sample::{Cell, Sample};
use crate::Error;
use crate::projection::Output;
use crate::row::Op;
use crate::value::Value;
use rowmill_abi::{Malformed, Reader, action};

/// What becomes of a row.
///
/// ```
/// use rowmill_plugin::prelude::*;
/// use rowmill_plugin::testing::{self, Outcome};
/// use rowmill_plugin::row;
///
/// #[transform(read(total), write(total))]
/// fn doubled(row: &Row, patch: &mut Patch) -> Result<()> {
///     match row.int("total")? {
///         Some(total) if total < 0 => return Err(Error::new("a negative total").with_code("range")),
///         Some(total) => patch.set("total", 2 * total),
///         None => patch.drop_change(),
///     }
///     Ok(())
/// }
///
/// let mut plugin = testing::transform::<doubled>();
/// assert_eq!(plugin.apply(row! { total: 5 }), Outcome::Row(row! { total: 10 }));
/// assert_eq!(plugin.apply(row! { total: None::<i64> }), Outcome::Dropped);
/// assert!(matches!(plugin.apply(row! { total: -1 }), Outcome::Rejected(error) if error.code() == "range"));
/// ```
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// It goes on like this.
    Row(Sample),
    /// A truncate or message that goes on.
    Passed,
    /// The change is dropped; so is a truncate or message.
    Dropped,
    /// These go on in its place. One that was sent to another topic or table is [`of`](Sample::of) that one.
    Rows(Vec<Sample>),
    /// It goes on like this to another topic or table.
    Routed(String, Sample),
    /// A truncate that empties these tables or topics instead.
    To(Vec<String>),
    /// It goes to the dead letters.
    Rejected(Error),
    /// The pipeline stops.
    Stopped(String),
}

impl Outcome {
    /// The row that goes on.
    ///
    /// # Panics
    ///
    /// Where something else becomes of it.
    ///
    /// ```
    /// use rowmill_plugin::testing::Outcome;
    /// use rowmill_plugin::row;
    ///
    /// assert_eq!(Outcome::Row(row! { id: 1 }).row(), row! { id: 1 });
    /// ```
    #[track_caller]
    pub fn row(self) -> Sample {
        match self {
            Self::Row(sample) => sample,
            other => panic!("no row goes on: {other:?}"),
        }
    }

    /// Reads an action behind its row's index and applies it as the host does.
    pub(super) fn read(reader: &mut Reader<'_>, row: &Sample, outputs: &[Output]) -> Result<Self, Malformed> {
        let at = reader.position();
        Ok(match u8::try_from(reader.uint()?).unwrap_or(u8::MAX) {
            action::PASS => Self::Row(shaped(row, outputs)),
            action::DROP => Self::Dropped,
            action::PATCH => Self::Row(patched(reader, row, outputs)?),
            action::REPLACE => Self::Row(replaced(reader, row.op, row, outputs)?),
            action::FAN_OUT => {
                let count = reader.array()?;
                Self::Rows(
                    (0..count)
                        .map(|_| fanned_out(reader, row, outputs))
                        .collect::<Result<_, _>>()?,
                )
            }
            action::ROUTE => Self::Routed(reader.str()?.to_owned(), patched(reader, row, outputs)?),
            action::REJECT => Self::rejected(reader)?,
            action::STOP => Self::Stopped(reader.str()?.to_owned()),
            _ => {
                return Err(Malformed {
                    at,
                    expected: "an action",
                });
            }
        })
    }

    /// Reads the action of a truncate or message.
    pub(super) fn read_rowless(reader: &mut Reader<'_>, is_truncate: bool) -> Result<Self, Malformed> {
        let at = reader.position();
        Ok(match u8::try_from(reader.uint()?).unwrap_or(u8::MAX) {
            action::PASS => Self::Passed,
            action::DROP => Self::Dropped,
            action::REJECT => Self::rejected(reader)?,
            action::STOP => Self::Stopped(reader.str()?.to_owned()),
            action::FAN_OUT if is_truncate => {
                let place = |reader: &mut Reader<'_>| {
                    reader.array()?;
                    (0..3).try_for_each(|_| reader.skip())?;
                    Ok(reader.str()?.to_owned())
                };
                let count = reader.array()?;
                Self::To((0..count).map(|_| place(reader)).collect::<Result<_, _>>()?)
            }
            _ => {
                return Err(Malformed {
                    at,
                    expected: "an action that a truncate or message may have",
                });
            }
        })
    }

    fn rejected(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let code = reader.str()?.to_owned();
        Ok(Self::Rejected(Error::new(reader.str()?.to_owned()).with_code(code)))
    }
}

/// The row in the first output's shape: what keeps its name keeps its value.
pub(super) fn shaped(row: &Sample, outputs: &[Output]) -> Sample {
    let Some(output) = outputs.first() else {
        return row.clone();
    };
    let cell = |name: &str| match row.cells.iter().find(|(known, _)| known == name) {
        Some((_, cell)) => cell.clone(),
        None => Cell::Null,
    };
    Sample {
        cells: output
            .columns
            .iter()
            .map(|column| (column.name.clone(), cell(&column.name)))
            .collect(),
        table: row.table.clone(),
        ..*row
    }
}

fn patched(reader: &mut Reader<'_>, row: &Sample, outputs: &[Output]) -> Result<Sample, Malformed> {
    let mut row = shaped(row, outputs);
    for _ in 0..reader.array()? / 2 {
        let at = reader.position();
        let column = reader.uint()? as usize;
        let cell = Cell::of(Value::read(reader)?);
        match row.cells.get_mut(column) {
            Some((_, place)) => *place = cell,
            None => {
                return Err(Malformed {
                    at,
                    expected: "a column of the output",
                });
            }
        }
    }
    Ok(row)
}

fn replaced(reader: &mut Reader<'_>, op: Op, row: &Sample, outputs: &[Output]) -> Result<Sample, Malformed> {
    let at = reader.position();
    let output = reader.uint()? as usize;
    let names: Vec<String> = match outputs.get(output) {
        Some(output) => output.columns.iter().map(|column| column.name.clone()).collect(),
        None if outputs.is_empty() && output == 0 => row.cells.iter().map(|(name, _)| name.clone()).collect(),
        None => {
            return Err(Malformed {
                at,
                expected: "a declared output",
            });
        }
    };
    if reader.array()? != names.len() {
        return Err(Malformed {
            at,
            expected: "a value for each column of the output",
        });
    }
    let cells = names.into_iter().map(|name| Ok((name, Cell::of(Value::read(reader)?))));
    Ok(Sample {
        table: row.table.clone(),
        op,
        image: row.image,
        cells: cells.collect::<Result<_, Malformed>>()?,
    })
}

fn fanned_out(reader: &mut Reader<'_>, row: &Sample, outputs: &[Output]) -> Result<Sample, Malformed> {
    let at = reader.position();
    reader.array()?;
    let op = Op::from_wire(reader.uint()?).ok_or(Malformed { at, expected: "an op" })?;
    let sample = replaced(reader, op, row, outputs)?;
    Ok(match reader.take_nil() {
        true => sample,
        false => sample.of(reader.str()?),
    })
}
