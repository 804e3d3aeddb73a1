//! Stands in for the host: encodes what it would send, reads what it would read.

use super::batch::{encode, relation};
use super::event::Event;
use super::kinds::Answers;
use super::outcome::Outcome;
use super::replies::{Answer, Sent, opened, read_answer};
use super::sample::{Sample, Table};
use super::script::Script;
use super::stand_in::World;
use crate::guest::{FilterPlugin, Guest, Plugin, TransformPlugin};
use crate::{Filter, Result, Transform};
use rowmill_abi::{ABI_VERSION, Writer, mode};
use std::ops::Range;

/// When transactions commit, unless the test says otherwise: November 14th, 2023.
const COMMIT_US: i64 = 1_700_000_000_000_000;

/// A plugin with the tables that it has been shown, its entries by key, its log and its metrics.
///
/// [`testing::filter`](super::filter) and [`testing::transform`](super::transform) make one.
///
/// ```
/// use rowmill_plugin::prelude::*;
/// use rowmill_plugin::{row, testing};
///
/// #[filter(read(total))]
/// fn large(row: &Row) -> Result<bool> {
///     host::count("rows", 1.0);
///     Ok(row.int("total")? >= Some(100))
/// }
///
/// let mut plugin = testing::filter::<large>();
/// assert_eq!(plugin.matches(row! { id: 1, total: 250 }), Ok(true));
/// assert_eq!(plugin.counter("rows"), 1.0);
/// ```
pub struct MockHost<P: Plugin> {
    pub(super) guest: Guest<P>,
    pub(super) world: World,
    config: Vec<u8>,
    pub(super) tables: Vec<(Table, Answer)>,
    /// Given by the test; else tables follow from the samples.
    fixed: bool,
    sequence: u64,
    /// The number of the next transaction, and when it commits unless it says so itself.
    transaction: u64,
    commit_us: i64,
}

impl<P: Plugin> std::fmt::Debug for MockHost<P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MockHost")
            .field("tables", &self.tables)
            .finish_non_exhaustive()
    }
}

impl<P: Plugin> MockHost<P> {
    pub(super) fn start(config: &[u8]) -> Result<Self> {
        let mut host = Self {
            guest: Guest::default(),
            world: World::default(),
            config: config.to_owned(),
            tables: Vec::new(),
            fixed: false,
            sequence: 0,
            transaction: 0,
            commit_us: COMMIT_US,
        };
        host.guest = host.started(None)?;
        Ok(host)
    }

    /// A new instance, which knows no table yet.
    pub(super) fn started(&mut self, state: Option<&[u8]>) -> Result<Guest<P>> {
        let mut input = Writer::new();
        input.array(8);
        input.int(ABI_VERSION.into());
        input.array(0);
        input.str("test");
        input.raw(&self.config);
        input.uint(mode::TEST.into());
        input.array(0);
        match state {
            Some(state) => input.bin(state),
            None => input.nil(),
        }
        input.uint(state.is_some().into());
        let mut guest = Guest::default();
        self.world
            .enter(false, || opened(guest.init(input.as_slice())).map(|_| ()))?;
        Ok(guest)
    }

    /// The same, as it would be in another process: a new instance with this state, shown the same tables.
    pub(super) fn replaced(&self, guest: Guest<P>) -> Result<Self> {
        let mut host = Self {
            guest,
            world: self.world.clone(),
            config: self.config.clone(),
            tables: Vec::new(),
            ..*self
        };
        for (table, _) in &self.tables {
            host.announce(table.clone())?;
        }
        Ok(host)
    }

    /// Has all rows be of this table, unless they say otherwise. An error is the plugin's refusal.
    ///
    /// ```
    /// use rowmill_plugin::prelude::*;
    /// use rowmill_plugin::{row, testing, types};
    ///
    /// #[filter(read(total))]
    /// fn large(row: &Row) -> Result<bool> {
    ///     Ok(row.int("total")? >= Some(100))
    /// }
    ///
    /// let orders = testing::Table::new("orders").key("id", types::INT8).column("total", types::NUMERIC);
    /// let mut plugin = testing::filter::<large>().with_table(orders).unwrap();
    /// assert_eq!(plugin.matches(row! { id: 1, total: "250" }), Ok(true));
    /// assert!(testing::filter::<large>().with_table(testing::Table::new("empty")).is_err());
    /// ```
    pub fn with_table(mut self, table: Table) -> Result<Self> {
        self.announce(table)?;
        self.fixed = true;
        Ok(self)
    }

    /// From now on transactions commit at this time, in microseconds since 1970, unless
    /// [`commit_at`](super::commit_at) says otherwise.
    ///
    /// ```
    /// # use rowmill_plugin::prelude::*;
    /// # use rowmill_plugin::{row, testing};
    /// #[filter(read(id))]
    /// fn recent(row: &Row) -> Result<bool> {
    ///     Ok(row.transaction().commit_us >= 1_000_000)
    /// }
    ///
    /// let mut plugin = testing::filter::<recent>();
    /// assert_eq!(plugin.at(0).matches(row! { id: 1 }), Ok(false));
    /// assert_eq!(plugin.at(1_000_000).matches(row! { id: 2 }), Ok(true));
    /// ```
    pub fn at(&mut self, commit_us: i64) -> &mut Self {
        self.commit_us = commit_us;
        self
    }

    fn announce(&mut self, mut table: Table) -> Result<usize> {
        table.relation.index = self.tables.len() as u32;
        let input = relation(&table.relation);
        let columns = table.relation.columns.len();
        let (world, guest) = (&mut self.world, &mut self.guest);
        let answer = world.enter(false, || read_answer(opened(guest.schema(&input))?, columns))?;
        self.tables.push((table, answer));
        Ok(self.tables.len() - 1)
    }

    /// The table that a sample is of, announced where it is new.
    fn table_of(&mut self, sample: &Sample) -> Result<usize> {
        let named = |(table, _): &(Table, Answer)| sample.table.as_ref() == Some(&table.relation.table);
        let known = match (self.fixed, &sample.table) {
            (true, None) => Some(0),
            (true, Some(_)) => self.tables.iter().position(named),
            (false, _) => self.tables.iter().position(|(table, _)| table.fits(sample)),
        };
        match known {
            Some(known) => Ok(known),
            None => self.announce(Table::of(sample)),
        }
    }

    /// The table of each step that is a row, the plugin's refusal of one as an error.
    pub(super) fn tables_of(&mut self, script: &Script<'_>) -> Result<Vec<Option<usize>>> {
        let table = |step: &super::script::Step<'_>| match step.event {
            Event::Row(row) => self.table_of(row).map(Some),
            _ => Ok(None),
        };
        script.steps.iter().map(table).collect()
    }

    pub(super) fn script<'e>(&mut self, events: &'e [Event]) -> Script<'e> {
        let script = Script::new(events, self.transaction, self.commit_us);
        self.transaction += script.commits.len() as u64;
        script
    }

    /// The batch of a part of a script. Rows of tables that the plugin passes by or drops aren't in it.
    pub(super) fn encode_part(
        &mut self,
        script: &Script<'_>,
        tables: &[Option<usize>],
        part: Range<usize>,
    ) -> (Vec<u8>, Vec<bool>) {
        let (bytes, sent, batch) = encode::<P>(self.sequence, &self.tables, script, tables, part);
        self.sequence += 1;
        self.world.batch = batch;
        (bytes, sent)
    }

    /// The batch that the host would send for these rows: one transaction. Rows of tables that the plugin passes by or
    /// drops aren't sent. For measurements, as [`call`](Self::call) is.
    ///
    /// ```
    /// # use rowmill_plugin::prelude::*;
    /// # use rowmill_plugin::{row, testing};
    /// # #[filter(read(id))]
    /// # fn all(_row: &Row) -> Result<bool> {
    /// #     Ok(true)
    /// # }
    /// let mut plugin = testing::filter::<all>();
    /// let batch = plugin.encode(&[row! { id: 1 }]).unwrap();
    /// assert_eq!(plugin.call(&batch), [0x93, 0, 0xc3, 0xc0]);
    /// ```
    pub fn encode(&mut self, samples: &[Sample]) -> Result<Vec<u8>> {
        let events: Vec<Event> = samples.iter().cloned().map(Event::Row).collect();
        let script = self.script(&events);
        let tables = self.tables_of(&script)?;
        Ok(self.encode_part(&script, &tables, 0..script.steps.len()).0)
    }

    /// Sends the batch that was encoded last and returns the raw reply, for measurements; see [`encode`](Self::encode).
    ///
    /// ```
    /// # use rowmill_plugin::prelude::*;
    /// # use rowmill_plugin::{row, testing};
    /// #[filter(read(id))]
    /// fn odd(row: &Row) -> Result<bool> {
    ///     Ok(row.int("id")?.is_some_and(|id| id % 2 == 1))
    /// }
    ///
    /// let mut plugin = testing::filter::<odd>();
    /// let batch = plugin.encode(&[row! { id: 1 }, row! { id: 2 }, row! { id: 3 }]).unwrap();
    /// // `[0, bitmap, nil]`
    /// assert_eq!(plugin.call(&batch), [0x93, 0, 0xc4, 1, 0b101, 0xc0]);
    /// ```
    pub fn call(&mut self, batch: &[u8]) -> &[u8] {
        let (world, guest) = (&mut self.world, &mut self.guest);
        world.enter(true, || guest.batch(batch))
    }
}

impl<P: Answers> MockHost<P> {
    /// What becomes of each event that is no commit, where a batch carries all of them.
    fn answers<E: Into<Event> + Clone>(&mut self, events: &[E]) -> Vec<P::Answer> {
        let events: Vec<Event> = events.iter().cloned().map(Into::into).collect();
        let script = self.script(&events);
        let tables = match self.tables_of(&script) {
            Ok(tables) => tables,
            Err(refusal) => return script.steps.iter().map(|_| P::rejected(refusal.clone())).collect(),
        };
        self.run(&script, &tables, 0..script.steps.len())
    }

    /// Sends a part of a script as a batch.
    pub(super) fn run(&mut self, script: &Script<'_>, tables: &[Option<usize>], part: Range<usize>) -> Vec<P::Answer> {
        let (batch, was_sent) = self.encode_part(script, tables, part.clone());
        let (world, guest, known) = (&mut self.world, &mut self.guest, &self.tables);
        let steps = || {
            script.steps[part.clone()]
                .iter()
                .zip(&tables[part.clone()])
                .zip(&was_sent)
        };
        let sent: Vec<Sent<'_>> = steps()
            .filter(|(_, was_sent)| **was_sent)
            .map(|((step, table), _)| Sent {
                row: row_of(step.event),
                is_truncate: matches!(step.event, Event::Truncate { .. }),
                outputs: table.map_or(&[], |table| known[table].1.outputs()),
            })
            .collect();
        let mut answers = world
            .enter(true, || {
                opened(guest.batch(&batch)).and_then(|reply| Ok(P::read(reply, &sent)?))
            })
            .unwrap_or_else(|error| panic!("the batch failed: {error}"))
            .into_iter();
        steps()
            .map(|((step, table), was_sent)| match table.map(|table| &known[table].1) {
                _ if *was_sent => answers.next().unwrap_or_else(P::dropped),
                Some(Answer::Drop) => P::dropped(),
                _ => P::passed(row_of(step.event)),
            })
            .collect()
    }
}

fn row_of(event: &Event) -> Option<&Sample> {
    match event {
        Event::Row(row) => Some(row),
        _ => None,
    }
}

impl<F: Filter> MockHost<FilterPlugin<F>> {
    /// Whether the row matches, or why it is rejected; of a message, whether it goes on. A batch and a transaction of
    /// its own.
    ///
    /// ```
    /// # use rowmill_plugin::prelude::*;
    /// # use rowmill_plugin::{row, testing};
    /// #[filter(read(total))]
    /// fn large(row: &Row) -> Result<bool> {
    ///     Ok(row.int("total")? >= Some(100))
    /// }
    ///
    /// let mut plugin = testing::filter::<large>();
    /// assert_eq!(plugin.matches(row! { total: 250 }), Ok(true));
    /// assert_eq!(plugin.matches(row! { total: "much" }).unwrap_err().code(), "type");
    /// ```
    pub fn matches(&mut self, event: impl Into<Event>) -> Result<bool> {
        self.verdicts(&[event.into()]).pop().unwrap_or(Ok(true))
    }

    /// What the filter says of each event of one batch; commits are left out. A table that it refuses is an error of
    /// all of them.
    ///
    /// ```
    /// # use rowmill_plugin::prelude::*;
    /// # use rowmill_plugin::{row, testing};
    /// # #[filter(read(total))]
    /// # fn large(row: &Row) -> Result<bool> {
    /// #     Ok(row.int("total")? >= Some(100))
    /// # }
    /// let mut plugin = testing::filter::<large>();
    /// assert_eq!(plugin.verdicts(&[row! { total: 250 }, row! { total: 7 }]), [Ok(true), Ok(false)]);
    /// ```
    ///
    /// # Panics
    ///
    /// Where its reply is against the ABI.
    pub fn verdicts<E: Into<Event> + Clone>(&mut self, events: &[E]) -> Vec<Result<bool>> {
        self.answers(events)
    }
}

impl<T: Transform> MockHost<TransformPlugin<T>> {
    /// What becomes of the row, truncate or message. A batch and a transaction of its own.
    ///
    /// ```
    /// # use rowmill_plugin::prelude::*;
    /// # use rowmill_plugin::{row, testing};
    /// #[transform(read(email), write(email))]
    /// fn hide(row: &Row, patch: &mut Patch) -> Result<()> {
    ///     if row.text("email")?.is_some() {
    ///         patch.set("email", "***");
    ///     }
    ///     Ok(())
    /// }
    ///
    /// let mut plugin = testing::transform::<hide>();
    /// assert_eq!(plugin.apply(row! { id: 1, email: "ada@example.org" }).row(), row! { id: 1, email: "***" });
    /// ```
    pub fn apply(&mut self, event: impl Into<Event>) -> Outcome {
        self.outcomes(&[event.into()]).pop().unwrap_or(Outcome::Passed)
    }

    /// What becomes of each event of one batch; commits are left out. A table that it refuses rejects all of them.
    ///
    /// ```
    /// # use rowmill_plugin::prelude::*;
    /// # use rowmill_plugin::testing::{self, Outcome};
    /// # use rowmill_plugin::row;
    /// #[transform(read(id), write(id))]
    /// fn odd(row: &Row, patch: &mut Patch) -> Result<()> {
    ///     if row.int("id")?.is_some_and(|id| id % 2 == 0) {
    ///         patch.drop_change();
    ///     }
    ///     Ok(())
    /// }
    ///
    /// let mut plugin = testing::transform::<odd>();
    /// let outcomes = plugin.outcomes(&[row! { id: 1 }, row! { id: 2 }]);
    /// assert_eq!(outcomes, [Outcome::Row(row! { id: 1 }), Outcome::Dropped]);
    /// ```
    ///
    /// # Panics
    ///
    /// Where the reply is against the ABI.
    pub fn outcomes<E: Into<Event> + Clone>(&mut self, events: &[E]) -> Vec<Outcome> {
        self.answers(events)
    }
}
