//! What a plugin remembers, and that it does so rightly.

use super::event::Event;
use super::kinds::Answers;
use super::mock_host::MockHost;
use super::replies::opened;
use super::script::Script;
use crate::guest::{FilterPlugin, Plugin, TransformPlugin};
use crate::host::Level;
use crate::{Filter, Result, Transform};
use rowmill_abi::{Token, metric};
use std::collections::BTreeMap;
use std::fmt;

impl<P: Plugin> MockHost<P> {
    /// The state that the plugin gives, as it would be stored.
    ///
    /// ```
    /// use rowmill_plugin::prelude::*;
    /// use rowmill_plugin::{row, testing};
    ///
    /// struct FirstThree(u64);
    ///
    /// #[plugin(state_version = 1, state_scope = "whole")]
    /// impl Filter for FirstThree {
    ///     fn new(_: ()) -> Result<Self> {
    ///         Ok(Self(0))
    ///     }
    ///
    ///     fn schema(&mut self, relation: &Relation) -> Result<Projection<()>> {
    ///         Ok(Selection::of(relation).with(()))
    ///     }
    ///
    ///     fn matches(&mut self, _: &Row, _: &()) -> Result<bool> {
    ///         self.0 += 1;
    ///         Ok(self.0 <= 3)
    ///     }
    /// }
    ///
    /// impl Stateful for FirstThree {
    ///     fn checkpoint(&self, state: &mut Writer) {
    ///         state.uint(self.0);
    ///     }
    ///
    ///     fn restore(&mut self, state: &[u8]) -> Result<()> {
    ///         self.0 = Reader::new(state).uint()?;
    ///         Ok(())
    ///     }
    ///
    ///     fn migrate(&mut self, _old_version: u32, state: &[u8]) -> Result<()> {
    ///         self.0 = state.len() as u64;
    ///         Ok(())
    ///     }
    /// }
    ///
    /// let mut plugin = testing::filter::<FirstThree>();
    /// assert_eq!(plugin.verdicts(&[row! { id: 1 }, row! { id: 2 }]), [Ok(true), Ok(true)]);
    /// let state = plugin.checkpoint();
    /// assert_eq!(state, [2]);
    ///
    /// // The process ends, and another goes on.
    /// plugin.restart();
    /// assert_eq!(plugin.verdicts(&[row! { id: 3 }, row! { id: 4 }]), [Ok(true), Ok(false)]);
    ///
    /// // Bytes that it can't read refuse the plugin; those of an older version are migrated.
    /// assert!(plugin.restore(b"\xc1").is_err());
    /// plugin.migrate(0, b"xxx").unwrap();
    /// assert_eq!(plugin.matches(row! { id: 5 }), Ok(false));
    ///
    /// // Wherever batches are cut, and wherever it is restarted, the result is the same.
    /// plugin.restore(&state).unwrap();
    /// let verdicts = plugin.cut_everywhere(&[row! { id: 6 }, row! { id: 7 }, row! { id: 8 }]);
    /// assert_eq!(verdicts, [Ok(true), Ok(false), Ok(false)]);
    /// ```
    ///
    /// # Panics
    ///
    /// Where the plugin has no state.
    pub fn checkpoint(&mut self) -> Vec<u8> {
        assert!(
            self.guest.is_stateful(),
            "the plugin has no state: `#[plugin(state_version = .., state_scope = ..)]`"
        );
        let (world, guest) = (&mut self.world, &mut self.guest);
        let state = world.enter(false, || {
            let mut reply = opened(guest.checkpoint())?;
            match reply.token()? {
                Token::Bin(state) => Ok(state.to_owned()),
                _ => Err(crate::Error::new("the state is no bytes")),
            }
        });
        state.unwrap_or_else(|error| panic!("the plugin gives no state: {error}"))
    }

    /// Ends the instance behind a checkpoint and goes on with a new one, as a new process does: what is in neither state
    /// nor entries is gone.
    ///
    /// # Panics
    ///
    /// Where the plugin refuses its own state, or a table that it took before.
    pub fn restart(&mut self) {
        let state = self.guest.is_stateful().then(|| self.checkpoint());
        let restarted = self.started(state.as_deref()).and_then(|guest| self.replaced(guest));
        *self = restarted.unwrap_or_else(|error| panic!("the plugin refuses to go on: {error}"));
    }

    /// Goes on with a new instance that is given this state. An error is its refusal; the old one goes on then.
    ///
    /// # Panics
    ///
    /// Where the plugin refuses a table that it took before.
    pub fn restore(&mut self, state: &[u8]) -> Result<()> {
        let guest = self.started(Some(state))?;
        *self = self.replaced(guest)?;
        Ok(())
    }

    /// Goes on with a new instance that is given state of an older version. An error is its refusal; the old one goes
    /// on then.
    pub fn migrate(&mut self, old_version: u32, state: &[u8]) -> Result<()> {
        let mut guest = self.started(None)?;
        self.world
            .enter(false, || opened(guest.migrate(old_version, state)).map(|_| ()))?;
        *self = self.replaced(guest)?;
        Ok(())
    }

    /// The entries by key.
    ///
    /// ```
    /// use rowmill_plugin::prelude::*;
    /// use rowmill_plugin::{row, testing};
    ///
    /// #[filter(read(customer), kv)]
    /// fn first_of_customer(row: &Row, kv: Kv) -> Result<bool> {
    ///     let customer = row.text("customer")?.unwrap_or("nobody");
    ///     let is_first = !kv.contains(customer);
    ///     kv.put(customer, [])?;
    ///     Ok(is_first)
    /// }
    ///
    /// let mut plugin = testing::filter::<first_of_customer>();
    /// plugin.set_entry("ada", "");
    /// assert_eq!(plugin.matches(row! { customer: "ada" }), Ok(false));
    /// assert_eq!(plugin.matches(row! { customer: "grace" }), Ok(true));
    /// assert_eq!(plugin.entries().len(), 2);
    ///
    /// // No room for another.
    /// plugin.limit_entries(128);
    /// assert_eq!(plugin.matches(row! { customer: "edsger" }).unwrap_err().code(), "kv");
    /// ```
    pub fn entries(&self) -> &BTreeMap<Vec<u8>, Vec<u8>> {
        &self.world.entries.map
    }

    /// Puts an entry there before the plugin comes by, see [`entries`](Self::entries).
    ///
    /// # Panics
    ///
    /// Where the host would not have it.
    pub fn set_entry(&mut self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        let entries = &mut self.world.entries;
        entries.writable = true;
        let put = entries.put(key.as_ref(), value.as_ref());
        assert_eq!(put, rowmill_abi::kv::DONE, "the host would refuse this entry");
    }

    /// Bounds keys and values together, in bytes, as `limits: kv` in pipeline.yaml does, see
    /// [`entries`](Self::entries). What is there stays.
    pub fn limit_entries(&mut self, bytes: u64) {
        self.world.entries.quota = bytes;
    }

    /// Takes the lines that were logged so far.
    ///
    /// ```
    /// # use rowmill_plugin::prelude::*;
    /// # use rowmill_plugin::{row, testing};
    /// #[filter(read(id))]
    /// fn talkative(row: &Row) -> Result<bool> {
    ///     host::log(Level::Info, "a row");
    ///     host::count("rows", 1.0);
    ///     host::gauge("columns", 1.0);
    ///     host::observe("size", 8.0);
    ///     Ok(true)
    /// }
    ///
    /// let mut plugin = testing::filter::<talkative>();
    /// assert_eq!(plugin.matches(row! { id: 1 }), Ok(true));
    /// assert_eq!(plugin.logged(), [(Level::Info, "a row".to_owned())]);
    /// assert_eq!(plugin.counter("rows"), 1.0);
    /// assert_eq!(plugin.gauge("columns"), Some(1.0));
    /// assert_eq!(plugin.observed("size"), [8.0]);
    /// ```
    pub fn logged(&mut self) -> Vec<(Level, String)> {
        std::mem::take(&mut self.world.lines)
    }

    /// What a counter has come to, see [`logged`](Self::logged); 0 where nothing was counted.
    pub fn counter(&self, name: &str) -> f64 {
        self.world.metric(metric::COUNTER, name).first().copied().unwrap_or(0.0)
    }

    /// What a gauge was set to last, see [`logged`](Self::logged).
    pub fn gauge(&self, name: &str) -> Option<f64> {
        self.world.metric(metric::GAUGE, name).first().copied()
    }

    /// What a histogram was given, see [`logged`](Self::logged).
    pub fn observed(&self, name: &str) -> &[f64] {
        self.world.metric(metric::HISTOGRAM, name)
    }

    /// Another host at the same point: the same tables, state and entries.
    fn fork(&mut self) -> Self {
        let state = self.guest.is_stateful().then(|| self.checkpoint());
        let forked = self.started(state.as_deref()).and_then(|guest| self.replaced(guest));
        forked.unwrap_or_else(|error| panic!("the plugin refuses to go on: {error}"))
    }
}

impl<P: Answers> MockHost<P> {
    fn cut<E: Into<Event> + Clone>(&mut self, events: &[E]) -> Vec<P::Answer>
    where
        P::Answer: fmt::Debug,
    {
        let events: Vec<Event> = events.iter().cloned().map(Into::into).collect();
        let script = self.script(&events);
        let tables = self
            .tables_of(&script)
            .unwrap_or_else(|refusal| panic!("the plugin refuses a table: {refusal}"));
        let len = script.steps.len();
        let mut whole = self.fork();
        let expected = whole.run(&script, &tables, 0..len);
        let places: Vec<usize> = (1..len).filter(|at| script.may_cut_before(*at)).collect();
        let one_each = places.iter().map(|at| vec![*at]);
        for (cuts, restarts) in one_each
            .chain([places.clone()])
            .flat_map(|cuts| [(cuts.clone(), false), (cuts, true)])
        {
            let mut host = self.fork();
            let found = host.run_cut(&script, &tables, &cuts, restarts);
            let how = if restarts { "and restarted " } else { "" };
            assert_eq!(found, expected, "cut {how}before events {cuts:?}, as against one batch");
            let (found, expected) = (host.entries(), whole.entries());
            assert_eq!(found, expected, "entries by key, cut {how}before events {cuts:?}");
        }
        expected
    }

    fn run_cut(
        &mut self,
        script: &Script<'_>,
        tables: &[Option<usize>],
        cuts: &[usize],
        restarts: bool,
    ) -> Vec<P::Answer> {
        let (mut answers, mut start) = (Vec::new(), 0);
        for end in cuts.iter().copied().chain([script.steps.len()]) {
            if restarts && start > 0 {
                self.restart();
            }
            answers.extend(self.run(script, tables, start..end));
            start = end;
        }
        answers
    }
}

impl<F: Filter> MockHost<FilterPlugin<F>> {
    /// Runs the same events in one batch, cut into two at every place, and each in a batch of its own; then all of that
    /// with a new process at each cut. Returns what the filter says, which must be the same, and so must the entries by
    /// key that it leaves. This host stays as it was. [`checkpoint`](Self::checkpoint) has an example.
    ///
    /// # Panics
    ///
    /// Where a cut makes a difference: then the plugin keeps something that is neither state nor entry, or asks for
    /// something else than its rows.
    pub fn cut_everywhere<E: Into<Event> + Clone>(&mut self, events: &[E]) -> Vec<Result<bool>> {
        self.cut(events)
    }
}

impl<T: Transform> MockHost<TransformPlugin<T>> {
    /// Runs the same events in one batch, cut into two at every place, and each in a batch of its own; then all of that
    /// with a new process at each cut. Returns what becomes of them, which must be the same, and so must the entries by
    /// key that it leaves. This host stays as it was. [`checkpoint`](Self::checkpoint) has an example.
    ///
    /// # Panics
    ///
    /// Where a cut makes a difference: then the plugin keeps something that is neither state nor entry, or asks for
    /// something else than its rows.
    pub fn cut_everywhere<E: Into<Event> + Clone>(&mut self, events: &[E]) -> Vec<super::Outcome> {
        self.cut(events)
    }
}
