//! What a plugin's function answers where a row can't go on.

use std::borrow::Cow;
use std::fmt;

/// The code of an error that was given none.
const DEFAULT_CODE: &str = "error";

/// A row's own error: the change goes to the dead letters under this code, with this reason.
///
/// Made of any [`std::error::Error`] by `?`. Keep row values out of it: codes and reasons are logged.
// In a box, so that results that carry one are small.
/// ```
/// use rowmill_plugin::{Error, Result};
///
/// fn year(text: &str) -> Result<i32> {
///     // Any error becomes one by `?`.
///     let year: i32 = text.parse()?;
///     if year < 1970 {
///         return Err(Error::new("a year before 1970").with_code("range"));
///     }
///     Ok(year)
/// }
///
/// assert_eq!(year("1492").unwrap_err().code(), "range");
/// assert_eq!(year("now").unwrap_err().reason(), "invalid digit found in string");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error(Box<Parts>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Parts {
    code: Cow<'static, str>,
    reason: Cow<'static, str>,
}

/// What plugins return.
///
/// ```
/// fn checked(total: i64) -> rowmill_plugin::Result<i64> {
///     total.checked_add(1).ok_or_else(|| rowmill_plugin::Error::new("too large"))
/// }
///
/// assert_eq!(checked(1), Ok(2));
/// ```
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error with the code `error`.
    ///
    /// ```
    /// use rowmill_plugin::Error;
    ///
    /// let error = Error::new("the total is negative");
    /// assert_eq!((error.code(), error.reason()), ("error", "the total is negative"));
    /// ```
    #[cold]
    pub fn new(reason: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Parts {
            code: Cow::Borrowed(DEFAULT_CODE),
            reason: reason.into(),
        }))
    }

    /// Gives it a code that dead letters are counted and sought by.
    ///
    /// ```
    /// # use rowmill_plugin::Error;
    /// assert_eq!(Error::new("the total is negative").with_code("range").code(), "range");
    /// ```
    #[must_use]
    pub fn with_code(mut self, code: impl Into<Cow<'static, str>>) -> Self {
        self.0.code = code.into();
        self
    }

    /// What dead letters are counted by.
    ///
    /// ```
    /// # use rowmill_plugin::Error;
    /// assert_eq!(Error::new("anything").code(), "error");
    /// ```
    pub fn code(&self) -> &str {
        &self.0.code
    }

    /// Why the row can't go on, for people.
    ///
    /// ```
    /// # use rowmill_plugin::Error;
    /// assert_eq!(Error::new("the total is negative").reason(), "the total is negative");
    /// ```
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
