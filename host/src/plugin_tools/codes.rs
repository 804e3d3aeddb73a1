//! What can go wrong with a live database that a plugin's author works with.

use crate::problem::Code;

pub const CODES: &[Code] = &[NO_TABLE, NOT_RECORDED];

const fn code(code: &'static str, title: &'static str, explanation: &'static str) -> Code {
    Code {
        code,
        title,
        explanation,
    }
}

pub(crate) const NO_TABLE: Code = code(
    "E0949",
    "the database has no such table or column",
    "`rowmill plugin record` and `inspect` look tables up in the database's catalog, as `schema.table`, written as the \
     catalog has them: without quotes, and with capitals where the table was made with them.",
);
pub(crate) const NOT_RECORDED: Code = code(
    "E0950",
    "samples can't be recorded",
    "`rowmill plugin record` reads rows in a transaction that can't write, leaves every value at the server that \
     `--keep` doesn't name, and writes a file that isn't there yet, for its owner alone.",
);
