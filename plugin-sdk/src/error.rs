//! What a plugin's function answers where a row can't go on.

use std::borrow::Cow;
use std::fmt;

/// The code of an error that was given none.
const DEFAULT_CODE: &str = "error";

/// A row's own error: the change goes to the dead letters under this code, with this reason.
///
/// Made of any [`std::error::Error`] by `?`. Keep row values out of it: codes and reasons are logged.
// In a box, so that results that carry one are small.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error(Box<Parts>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Parts {
    code: Cow<'static, str>,
    reason: Cow<'static, str>,
}

/// What plugins return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error with the code `error`.
    #[cold]
    pub fn new(reason: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Parts {
            code: Cow::Borrowed(DEFAULT_CODE),
            reason: reason.into(),
        }))
    }

    /// Gives it a code that dead letters are counted and sought by.
    #[must_use]
    pub fn with_code(mut self, code: impl Into<Cow<'static, str>>) -> Self {
        self.0.code = code.into();
        self
    }

    /// What dead letters are counted by.
    pub fn code(&self) -> &str {
        &self.0.code
    }

    /// Why the row can't go on, for people.
    pub fn reason(&self) -> &str {
        &self.0.reason
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.reason)
    }
}

// As with `anyhow::Error`, this is why `Error` itself is no `std::error::Error`.
impl<E: std::error::Error> From<E> for Error {
    #[cold]
    fn from(error: E) -> Self {
        Self::new(error.to_string())
    }
}
