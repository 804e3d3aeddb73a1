//! What a plugin remembers from row to row.

use crate::{Error, Result};
use rowmill_abi::Writer;

/// A plugin with state: `#[plugin(state_version = 1, state_scope = "whole")]` on its `impl Filter` or `impl Transform`.
///
/// The format of the bytes is the plugin's own. What isn't in them is gone after a restart.
///
/// Without these arguments it doesn't compile, since nobody would ask it for its state:
///
/// ```compile_fail
/// # use rowmill_plugin::prelude::*;
/// # struct Counter(u64);
/// #[plugin]
/// impl Filter for Counter {
///     // ..
/// #     fn new(_: ()) -> Result<Self> { Ok(Self(0)) }
/// #     fn schema(&mut self, relation: &Relation) -> Result<Projection<()>> {
/// #         Ok(Selection::of(relation).with(()))
/// #     }
/// #     fn matches(&mut self, _: &Row, _: &()) -> Result<bool> { Ok(true) }
/// }
///
/// impl Stateful for Counter {
///     // ..
/// #     fn checkpoint(&self, state: &mut Writer) { state.uint(self.0); }
/// #     fn restore(&mut self, _: &[u8]) -> Result<()> { Ok(()) }
/// }
/// # fn main() {}
/// ```
///
/// [`MockHost::checkpoint`](crate::testing::MockHost::checkpoint) has a whole plugin with its test. The functions alone:
///
/// ```
/// use rowmill_plugin::Stateful;
/// use rowmill_plugin::abi::{Reader, Writer};
/// use rowmill_plugin::Result;
///
/// struct Counter(u64);
///
/// impl Stateful for Counter {
///     fn checkpoint(&self, state: &mut Writer) {
///         state.uint(self.0);
///     }
///
///     fn restore(&mut self, state: &[u8]) -> Result<()> {
///         self.0 = Reader::new(state).uint()?;
///         Ok(())
///     }
/// }
///
/// let mut state = Writer::new();
/// Counter(7).checkpoint(&mut state);
/// let mut counter = Counter(0);
/// assert!(counter.restore(state.as_slice()).is_ok());
/// assert_eq!(counter.0, 7);
/// ```
pub trait Stateful {
    /// Writes all that is needed to go on from here. Changes nothing.
    ///
    /// ```
    /// # use rowmill_plugin::abi::Writer;
    /// struct Totals(Vec<(String, i64)>);
    ///
    /// impl Totals {
    ///     fn checkpoint(&self, state: &mut Writer) {
    ///         state.array(2 * self.0.len());
    ///         for (name, total) in &self.0 {
    ///             state.str(name);
    ///             state.int(*total);
    ///         }
    ///     }
    /// }
    /// ```
    fn checkpoint(&self, state: &mut Writer);

    /// Takes over what [`checkpoint`](Self::checkpoint) of this version wrote. An error refuses the plugin.
    ///
    /// ```
    /// # use rowmill_plugin::{Result, abi::Reader};
    /// struct Totals(Vec<(String, i64)>);
    ///
    /// impl Totals {
    ///     fn restore(&mut self, state: &[u8]) -> Result<()> {
    ///         let mut reader = Reader::new(state);
    ///         for _ in 0..reader.array()? / 2 {
    ///             self.0.push((reader.str()?.to_owned(), reader.int()?));
    ///         }
    ///         Ok(())
    ///     }
    /// }
    /// ```
    fn restore(&mut self, state: &[u8]) -> Result<()>;

    /// Takes over what an older version wrote. An error, which this is unless it is written, refuses the plugin.
    ///
    /// ```
    /// # use rowmill_plugin::{Error, Result, abi::Reader};
    /// struct Total(i64);
    ///
    /// impl Total {
    ///     fn migrate(&mut self, old_version: u32, state: &[u8]) -> Result<()> {
    ///         match old_version {
    ///             // Of version 1, in which it was a text.
    ///             1 => self.0 = Reader::new(state).str()?.parse()?,
    ///             other => return Err(Error::new(format!("version {other} was never released"))),
    ///         }
    ///         Ok(())
    ///     }
    /// }
    /// ```
    fn migrate(&mut self, old_version: u32, state: &[u8]) -> Result<()> {
        let _ = state;
        Err(Error::new(format!("state of version {old_version} can't be migrated")))
    }
}
