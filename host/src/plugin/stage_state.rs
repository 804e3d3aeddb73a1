//! The stage's part in what its plugin keeps: see `state`.

use super::error::{self, PluginError};
use super::stage::Stage;
use super::state::{Kept, State};
use std::sync::PoisonError;

impl Stage {
    /// A call was answered and its reply taken: it is never undone from here on.
    pub(super) fn accepted(&mut self) -> Result<(), PluginError> {
        self.instance.accept();
        self.worked = true;
        let (instance, encoder) = (&self.instance, &self.encoder);
        self.keeper.accepted(|| instance.last_call(encoder));
        if self.keeper.wants_base() {
            // No fault of this call, which was accepted: trying it again would count it twice.
            self.rebase()
                .map_err(|error| error::state_not_given(&self.plugin.name, &error))?;
        }
        Ok(())
    }

    /// The plugin's state as of the last call that was accepted; `None` where it has none.
    ///
    /// # Errors
    ///
    /// A plugin that breaks at it twice.
    pub fn checkpoint(&mut self) -> Result<Option<State>, PluginError> {
        if self.keeper.wants_checkpoint() {
            self.rebase()?;
        }
        Ok(self.keeper.kept.state.clone().filter(|_| self.keeper.has_state))
    }

    fn rebase(&mut self) -> Result<(), PluginError> {
        let version = self.plugin.module.manifest().state_version;
        let given = match self.instance.checkpoint(version) {
            // With a journal nothing is lost by a second attempt.
            Err(PluginError::Fault(_)) if !self.keeper.has_entries => {
                self.renew()?;
                self.instance.checkpoint(version)?
            }
            given => given?,
        };
        if let Some(state) = given {
            self.keeper.rebase(state);
        }
        Ok(())
    }

    /// Begins with what another version of the plugin has kept, instead of with what it was made with.
    ///
    /// # Errors
    ///
    /// Where it can't take that up. Then it is not to be used.
    pub fn inherit(&mut self, kept: Kept) -> Result<(), PluginError> {
        self.renew_with(kept)
    }

    /// What the next version begins with.
    pub fn bequeath(&mut self) -> Result<Kept, PluginError> {
        Ok(Kept {
            state: self.checkpoint()?,
            entries: self.instance.entries(),
        })
    }

    /// Notes what the plugin has kept so far, for [`Self::keep`] or [`Self::put_back`]; they may be nested.
    pub fn save(&mut self) {
        if self.keeper.keeps() {
            self.keeper.save();
            self.saved_metrics.push(self.instance.metrics().to_vec());
            self.entries().iter().for_each(super::SharedEntries::save);
        }
    }

    /// What it has kept since the last [`Self::save`] stays.
    pub fn keep(&mut self) {
        if self.keeper.keeps() {
            self.keeper.keep();
            self.saved_metrics.pop();
            self.entries().iter().for_each(super::SharedEntries::keep);
        }
    }

    /// No call since the last [`Self::save`] was made.
    ///
    /// # Errors
    ///
    /// A plugin that doesn't start again.
    pub fn put_back(&mut self) -> Result<(), PluginError> {
        if !self.keeper.keeps() {
            return Ok(());
        }
        self.entries().iter().for_each(super::SharedEntries::put_back);
        let metrics = self.saved_metrics.pop();
        if !self.keeper.put_back() {
            return Ok(());
        }
        self.instance.set_metrics(metrics.unwrap_or_default());
        self.renew()
    }

    /// Takes the base anew where going back from here would mean to run batches again. What hinders it shows at the next
    /// call.
    pub fn shorten_journal(&mut self) {
        if self.keeper.has_journal()
            && let Err(error) = self.checkpoint()
        {
            let (plugin, problem) = (&self.plugin.name, error.problem());
            tracing::debug!(plugin, %problem, "the plugin's state can't be had between two calls");
        }
    }

    /// A fault that was counted will be met again, or isn't one.
    pub fn forgive(&mut self) {
        let mut breaker = self.breaker.lock().unwrap_or_else(PoisonError::into_inner);
        breaker.take_back();
    }

    /// Its entries by key are those of a version that waits.
    pub fn step_aside(&mut self) {
        self.instance.change_entries(super::SharedEntries::step_aside);
    }

    /// Its entries by key count.
    pub fn step_in(&mut self, others_wait: bool) {
        self.instance.change_entries(|entries| entries.step_in(others_wait));
    }

    pub fn entries(&self) -> Option<super::SharedEntries> {
        self.instance.entries()
    }
}
