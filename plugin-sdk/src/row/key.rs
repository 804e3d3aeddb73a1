//! How plugins name the columns that they read.

use crate::projection::{Named, ReadColumn};
use crate::{Error, Result};

/// How a column is named: by the handle that [`Selection::read`](crate::Selection::read) gave, or by its name.
///
/// The attribute macros turn names into places while compiling. Elsewhere a name costs a comparison per column read.
///
/// ```
/// use rowmill_plugin::{ReadKey, Result, Row};
///
/// fn trimmed<'a>(row: &Row<'a>, column: impl ReadKey) -> Result<&'a str> {
///     Ok(row.text(column)?.unwrap_or("").trim())
/// }
/// ```
pub trait ReadKey: Copy {
    #[doc(hidden)]
    fn position(self, read: &[Named]) -> Result<usize>;
}

impl ReadKey for ReadColumn {
    #[inline]
    fn position(self, _: &[Named]) -> Result<usize> {
        Ok(self.0.into())
    }
}

impl ReadKey for &str {
    fn position(self, read: &[Named]) -> Result<usize> {
        read.iter()
            .position(|column| column.name == self)
            .ok_or_else(|| Error::new(format!("column {self} is read but not declared as such")))
    }
}
