//! What comes in a batch and is no row: truncates and logical messages.

use crate::Transaction;
use crate::relation::Relation;
use rowmill_abi::{Malformed, Reader, op, truncate};
use std::borrow::Cow;

/// A logical message, as `pg_logical_emit_message` makes it.
///
/// A plugin whose `impl` has a function `message` is shown them.
///
/// ```
/// use rowmill_plugin::prelude::*;
///
/// /// Passes the rows that come while a message has said so.
/// struct Switched { on: bool }
///
/// #[plugin(state_version = 1, state_scope = "whole")]
/// impl Transform for Switched {
///     fn new(_: ()) -> Result<Self> {
///         Ok(Self { on: false })
///     }
///
///     fn schema(&mut self, relation: &Relation) -> Result<Projection<()>> {
///         Ok(Selection::of(relation).with(()))
///     }
///
///     fn transform(&mut self, _: &Row, _: &(), patch: &mut Patch) -> Result<()> {
///         if !self.on {
///             patch.drop_change();
///         }
///         Ok(())
///     }
///
///     fn message(&mut self, message: &Message) -> Result<Verdict> {
///         if message.prefix == "switch" {
///             self.on = message.content == b"on";
///         }
///         Ok(Verdict::Pass)
///     }
/// }
///
/// impl Stateful for Switched {
///     fn checkpoint(&self, state: &mut Writer) {
///         state.bool(self.on);
///     }
///
///     fn restore(&mut self, state: &[u8]) -> Result<()> {
///         self.on = Reader::new(state).bool()?;
///         Ok(())
///     }
/// }
///
/// # use rowmill_plugin::testing::{self, Outcome, message};
/// # use rowmill_plugin::row;
/// let mut plugin = testing::transform::<Switched>();
/// assert_eq!(plugin.apply(row! { id: 1 }), Outcome::Dropped);
/// assert_eq!(plugin.apply(message("switch", "on")), Outcome::Passed);
/// assert_eq!(plugin.apply(row! { id: 2 }), Outcome::Row(row! { id: 2 }));
/// ```
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Message<'a> {
    /// Whether it belongs to its transaction; else it was sent at once, and stays if that is rolled back.
    pub is_transactional: bool,
    /// Whom it is for, by convention.
    pub prefix: &'a str,
    /// Bytes of the sender's own format.
    pub content: &'a [u8],
    /// The transaction that it stands in.
    pub transaction: &'a Transaction,
}

/// A truncate of one table or several.
///
/// A plugin whose `impl` has a function `truncate` is shown them.
///
/// ```
/// use rowmill_plugin::prelude::*;
///
/// /// Whether a truncate may leave.
/// fn may_leave(truncate: &Truncate) -> Verdict {
///     match truncate.relations().any(|relation| relation.table == "orders") {
///         true => Verdict::Stop("orders was truncated".into()),
///         false => Verdict::Pass,
///     }
/// }
/// ```
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Truncate<'a> {
    /// `TRUNCATE .. CASCADE`.
    pub cascades: bool,
    /// `TRUNCATE .. RESTART IDENTITY`.
    pub restarts_identity: bool,
    /// The transaction that it stands in.
    pub transaction: &'a Transaction,
    relations: &'a [&'a Relation],
}

impl<'a> Truncate<'a> {
    pub(crate) fn new(read: ReadTruncate, transaction: &'a Transaction, relations: &'a [&'a Relation]) -> Self {
        Self {
            cascades: read.flags & truncate::CASCADE != 0,
            restarts_identity: read.flags & truncate::RESTART_IDENTITY != 0,
            transaction,
            relations,
        }
    }

    /// The tables, as far as the plugin uses them.
    ///
    /// ```
    /// # use rowmill_plugin::Truncate;
    /// fn names(truncate: &Truncate) -> Vec<String> {
    ///     truncate.relations().map(|relation| relation.table.clone()).collect()
    /// }
    /// ```
    pub fn relations(&self) -> impl Iterator<Item = &'a Relation> + use<'a> {
        self.relations.iter().copied()
    }
}

/// What a transform says of a truncate or a message. An error rejects it.
///
/// ```
/// use rowmill_plugin::{Message, Result, Verdict};
///
/// fn message(message: &Message) -> Result<Verdict> {
///     Ok(match message.prefix {
///         "internal" => Verdict::Drop,
///         "halt" => Verdict::Stop("a message says so".into()),
///         _ => Verdict::Pass,
///     })
/// }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on.
    #[default]
    Pass,
    /// It ends here.
    Drop,
    /// The pipeline stops, for this reason.
    Stop(Cow<'static, str>),
    /// Of a truncate: it empties these tables or topics, to which rows were sent by [`Patch::route`](crate::Patch::route),
    /// in place of the table itself. A message can't be sent elsewhere.
    ///
    /// ```
    /// use rowmill_plugin::prelude::*;
    /// use rowmill_plugin::testing::{self, Outcome, truncate};
    /// use rowmill_plugin::{events, row};
    ///
    /// /// Orders that are paid have a table of their own.
    /// struct ByStatus;
    ///
    /// #[plugin]
    /// impl Transform for ByStatus {
    ///     type Table = ReadColumn;
    ///
    /// #     fn new(_: ()) -> Result<Self> {
    /// #         Ok(Self)
    /// #     }
    /// #     fn schema(&mut self, relation: &Relation) -> Result<Projection<ReadColumn>> {
    /// #         let mut selection = Selection::of(relation);
    /// #         let paid = selection.read("paid")?;
    /// #         Ok(selection.with(paid))
    /// #     }
    ///     fn transform(&mut self, row: &Row, paid: &ReadColumn, patch: &mut Patch) -> Result<()> {
    ///         patch.route(if row.bool(*paid)? == Some(true) { "paid" } else { "open" });
    ///         Ok(())
    ///     }
    ///
    ///     fn truncate(&mut self, _: &Truncate) -> Result<Verdict> {
    ///         Ok(Verdict::To(vec!["paid".into(), "open".into()]))
    ///     }
    /// }
    ///
    /// let mut plugin = testing::transform::<ByStatus>();
    /// let outcomes = plugin.outcomes(&events![row! { id: 1, paid: true }, truncate(["sample"])]);
    /// assert!(matches!(&outcomes[0], Outcome::Routed(to, _) if to == "paid"));
    /// assert_eq!(outcomes[1], Outcome::To(vec!["paid".to_owned(), "open".to_owned()]));
    /// ```
    To(Vec<Cow<'static, str>>),
}

/// Either, as it is read.
pub(crate) enum Rowless<'a> {
    Truncate(ReadTruncate),
    Message {
        is_transactional: bool,
        prefix: &'a str,
        content: &'a [u8],
    },
}

/// The flags of a truncate, and the relations, which are pushed to a list that is used again.
pub(crate) struct ReadTruncate {
    flags: u8,
}

/// Reads the row that begins at `start`.
pub(crate) fn read<'a>(bytes: &'a [u8], start: usize, relations: &mut Vec<u32>) -> Result<Rowless<'a>, Malformed> {
    let mut reader = Reader::starting_at(bytes, start);
    let bad = |expected| Malformed { at: start, expected };
    relations.clear();
    reader.array()?;
    reader.skip()?;
    match u8::try_from(reader.uint()?).unwrap_or(u8::MAX) {
        op::TRUNCATE => {
            let flags = reader.uint()? as u8;
            for _ in 0..reader.array()? {
                relations.push(reader.u32()?);
            }
            Ok(Rowless::Truncate(ReadTruncate { flags }))
        }
        op::MESSAGE => {
            let is_transactional = reader.bool()?;
            reader.array()?;
            Ok(Rowless::Message {
                is_transactional,
                prefix: reader.str()?,
                content: reader.bin()?,
            })
        }
        _ => Err(bad("a truncate or message")),
    }
}
