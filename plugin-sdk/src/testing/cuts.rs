//! That it makes no difference where batches are cut, and where another process goes on.

use super::event::Event;
use super::kinds::Answers;
use super::mock_host::MockHost;
use super::script::Script;
use crate::guest::{FilterPlugin, Plugin, TransformPlugin};
use crate::{Filter, Result, Transform};
use std::fmt;

impl<P: Plugin> MockHost<P> {
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
    /// ```should_panic
    /// use rowmill_plugin::prelude::*;
    /// use rowmill_plugin::testing::{self, commit};
    /// use rowmill_plugin::{events, row};
    ///
    /// /// Counts in a field that is in no checkpoint: wrong wherever another process goes on.
    /// struct Forgetful(u64);
    ///
    /// #[plugin]
    /// impl Filter for Forgetful {
    /// #     fn new(_: ()) -> Result<Self> {
    /// #         Ok(Self(0))
    /// #     }
    /// #     fn schema(&mut self, relation: &Relation) -> Result<Projection<()>> {
    /// #         Ok(Selection::of(relation).with(()))
    /// #     }
    ///     fn matches(&mut self, _: &Row, _: &()) -> Result<bool> {
    ///         self.0 += 1;
    ///         Ok(self.0 <= 1)
    ///     }
    /// }
    ///
    /// testing::filter::<Forgetful>().cut_everywhere(&events![row! { id: 1 }, commit(), row! { id: 2 }]);
    /// ```
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
    /// ```
    /// use rowmill_plugin::prelude::*;
    /// use rowmill_plugin::testing::{self, Outcome, commit};
    /// use rowmill_plugin::{events, row};
    ///
    /// #[transform(read(email), write(email))]
    /// fn lower(row: &Row, patch: &mut Patch) -> Result<()> {
    ///     if let Some(email) = row.text("email")? {
    ///         patch.set("email", email.to_lowercase());
    ///     }
    ///     Ok(())
    /// }
    ///
    /// let mut plugin = testing::transform::<lower>();
    /// let outcomes = plugin.cut_everywhere(&events![row! { email: "ADA@example.org" }, commit(), row! { email: None::<&str> }]);
    /// assert_eq!(outcomes[0], Outcome::Row(row! { email: "ada@example.org" }));
    /// assert_eq!(outcomes.len(), 2);
    /// ```
    ///
    /// # Panics
    ///
    /// Where a cut makes a difference: then the plugin keeps something that is neither state nor entry, or asks for
    /// something else than its rows.
    pub fn cut_everywhere<E: Into<Event> + Clone>(&mut self, events: &[E]) -> Vec<super::Outcome> {
        self.cut(events)
    }
}
