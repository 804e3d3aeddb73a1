//! A version that has broken in one route is on probation in others too: they go back with it.

use super::lane::{Lane, LaneChain, LaneVersion, Later};
use super::probation::{ProbationEnd, Warden};
use crate::batch::{Batch, Lsn, Part, Transaction};
use crate::checkpoint::{PluginVersion, SetAside};
use crate::problem::Problem;
use std::sync::Arc;

impl Lane {
    /// From their next transaction on. Rows of this batch that a route has in front of it meet the version before.
    pub(super) fn put_back_others(
        &mut self,
        broke_in: usize,
        broke: &[SetAside],
        batch: &Batch,
    ) -> Result<(), Box<Problem>> {
        let warden = Arc::clone(&self.warden);
        let continues = |transaction: &Transaction| matches!(transaction.part, Part::Middle | Part::Last);
        let before = batch.transactions.first().is_some_and(continues);
        let behind = !batch.ends_at_commit();
        for (at, route) in self.routes.iter_mut().enumerate().filter(|(at, _)| *at != broke_in) {
            route.put_back_waiting(at, &warden, broke)?;
            // The routes are taken in order: those before have had their rows of this batch.
            let under_way = if at < broke_in { behind } else { before };
            route.put_back(at, &warden, broke, under_way)?;
        }
        Ok(())
    }
}

impl LaneChain {
    /// The version that runs here, where it is on probation. The transaction under way stays with it.
    fn put_back(
        &mut self,
        route: usize,
        warden: &Warden,
        broke: &[SetAside],
        under_way: bool,
    ) -> Result<(), Box<Problem>> {
        if has_any(&self.version.plugins, broke) {
            self.go_back(route, warden, Vec::new(), under_way)?;
        }
        Ok(())
    }

    /// From the next transaction on, where the version is on probation. Tells whether it was.
    pub(super) fn go_back(
        &mut self,
        route: usize,
        warden: &Warden,
        set_aside: Vec<SetAside>,
        under_way: bool,
    ) -> Result<bool, Box<Problem>> {
        let Some(probation) = self.probation.as_mut().filter(|on| on.fallback.is_some()) else {
            return Ok(false);
        };
        let from = Lsn(self.seen.0 + 1).max(self.version.from);
        let (id, plugins) = (probation.id, probation.fallback_plugins.clone());
        warden.roll_back(route, from, &plugins, &set_aside)?;
        let Some(chain) = probation.fallback.take() else {
            return Ok(false);
        };
        self.probation = None;
        let version = LaneVersion {
            from,
            plugins: plugins.clone(),
        };
        let gone = self.version.plugins.clone();
        let back = Later {
            chain,
            version,
            probation: None,
            follows: true,
        };
        match under_way {
            // In front of what comes later.
            true => self.later.push_front(back),
            false => self.begin(route, warden, back),
        }
        let end = ProbationEnd::RolledBack {
            from,
            gone,
            plugins,
            set_aside,
        };
        warden.tell(route, id, end);
        Ok(true)
    }

    /// A version that hasn't begun here never does.
    fn put_back_waiting(&mut self, route: usize, warden: &Warden, broke: &[SetAside]) -> Result<(), Box<Problem>> {
        let is_bad = |later: &Later| later.probation.is_some() && has_any(&later.version.plugins, broke);
        while let Some(at) = self.later.iter().position(is_bad) {
            let plugins = match (at.checked_sub(1), &self.probation) {
                (Some(before), _) => self.later[before].version.plugins.clone(),
                // It would have taken the place of the one on probation, never of what waits behind that.
                (None, Some(probation)) => probation.fallback_plugins.clone(),
                (None, None) => self.version.plugins.clone(),
            };
            let Some(later) = self.later.get(at) else { break };
            warden.roll_back(route, later.version.from, &plugins, &[])?;
            let Some(Later { version, probation, .. }) = self.later.remove(at) else {
                break;
            };
            let id = probation.unwrap_or_default();
            tell(warden, route, id, version.from, version.plugins, plugins);
        }
        Ok(())
    }
}

fn has_any(plugins: &[PluginVersion], broke: &[SetAside]) -> bool {
    let is_bad = |plugin: &PluginVersion| broke.iter().any(|aside| aside.version.is_same(plugin));
    plugins.iter().any(is_bad)
}

fn tell(warden: &Warden, route: usize, id: u64, from: Lsn, gone: Vec<PluginVersion>, plugins: Vec<PluginVersion>) {
    let end = ProbationEnd::RolledBack {
        from,
        gone,
        plugins,
        set_aside: Vec::new(),
    };
    warden.tell(route, id, end);
}
