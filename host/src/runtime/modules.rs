//! The plugins as they are taken up now, and every version that recorded chains need.

use super::versions::{ConfigKey, limits_of};
use crate::batch::Lsn;
use crate::checkpoint::{self, PluginRecord, StateStore};
use crate::config::{self, Limits};
use crate::pipeline::{Input, Queue};
use crate::plugin::reload::{ModuleRefusal, ModuleStore, read_module};
use crate::plugin::{self, Engine, Module};
use crate::problem::{Exit, Problem};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A plugin as it is taken up: a module, and what the file says of it.
#[derive(Clone)]
pub(super) struct Taken {
    pub(super) module: Arc<Module>,
    pub(super) plugin: Arc<config::Plugin>,
}

impl Taken {
    pub(super) fn runnable(&self) -> plugin::PluginVersion {
        plugin::PluginVersion {
            name: self.plugin.name.clone(),
            module: Arc::clone(&self.module),
            config: self.plugin.config.clone(),
            limits: self.plugin.limits,
            policies: self.plugin.policies,
        }
    }
}

pub(super) struct Modules {
    store: ModuleStore,
    pub(super) key: ConfigKey,
    base: PathBuf,
    /// Where modules have to lie.
    root: PathBuf,
    inner: Mutex<Inner>,
    /// Held while a version is tried, swapped or gone back from: one after the other.
    pub(super) changing: Mutex<()>,
}

#[derive(Default)]
struct Inner {
    newest: HashMap<String, Taken>,
    by_hash: HashMap<String, Arc<Module>>,
    /// Where the intake of the present session takes its input; `None` between sessions.
    lane: Option<Arc<Queue<Input>>>,
    rollbacks: u64,
}

impl Inner {
    fn accept(&mut self, taken: Taken) {
        let hash = taken.module.hash_hex().to_owned();
        self.by_hash.insert(hash, Arc::clone(&taken.module));
        self.newest.insert(taken.plugin.name.clone(), taken);
    }
}

impl Modules {
    /// Loads every plugin of the configuration from its file. One whose file holds a version that was set aside runs
    /// as it did before.
    pub(super) fn load(
        kept: ModuleStore,
        engine: &Engine,
        config: &config::Pipeline,
        state: &StateStore,
    ) -> Result<Self, Box<Problem>> {
        let modules = Self {
            store: kept,
            key: ConfigKey::of(state)?,
            base: config.base_dir.clone(),
            root: config.module_root.clone(),
            inner: Mutex::default(),
            changing: Mutex::default(),
        };
        for plugin in &config.plugins {
            modules.accept(modules.of_file(engine, plugin, state)?);
        }
        Ok(modules)
    }

    /// A plugin as its file has it; as it ran before where that holds a version that was set aside.
    pub(super) fn of_file(
        &self,
        engine: &Engine,
        plugin: &config::Plugin,
        state: &StateStore,
    ) -> Result<Taken, Box<Problem>> {
        let refused = |refusal: ModuleRefusal| Box::new(refusal.into_problem(&plugin.name, &plugin.module));
        let (bytes, hash) = read_module(&plugin.module, Some(&self.root), plugin.limits.module.0).map_err(refused)?;
        let record = state.plugin_record(&plugin.name).map_err(Box::new)?;
        let hex = plugin::reload::hash_hex(&hash);
        if let Some(before) = self.instead(engine, plugin, &hex, &record)? {
            return Ok(before);
        }
        self.store.put(&bytes).map_err(|error| Box::new(not_kept(&error)))?;
        let module = engine
            .load(&bytes, &plugin.limits)
            .map_err(|error| Box::new(error.problem()))?;
        let plugin = Arc::new(plugin.clone());
        Ok(Taken { module, plugin })
    }

    /// Only these plugins are in the file now; recorded versions of others can still be run.
    pub(super) fn retain(&self, plugins: &[String]) {
        self.lock().newest.retain(|name, _| plugins.contains(name));
    }

    /// The version before, where the file still holds the one that was set aside.
    fn instead(
        &self,
        engine: &Engine,
        plugin: &config::Plugin,
        hash: &str,
        record: &PluginRecord,
    ) -> Result<Option<Taken>, Box<Problem>> {
        let (Some(aside), Some(good)) = (&record.set_aside, record.good.last()) else {
            return Ok(None);
        };
        if aside.version.module != hash || aside.version.config != self.key.hash(&plugin.config) {
            return Ok(None);
        }
        tracing::warn!(
            plugin = plugin.name,
            set_aside = short(hash),
            running = short(&good.version.module),
            reason = aside.reason,
            "the plugin's file still holds the version that was set aside; the one before runs"
        );
        self.revive(engine, plugin, &good.version).map(Some)
    }

    /// A version that was recorded, with the rest as the file has it now.
    pub(super) fn revive(
        &self,
        engine: &Engine,
        plugin: &config::Plugin,
        version: &checkpoint::PluginVersion,
    ) -> Result<Taken, Box<Problem>> {
        let module = self.by_hash(engine, &version.module, &plugin.limits)?;
        let plugin = config::Plugin {
            config: self.config_of(version, Some(plugin))?,
            written: version.written.clone(),
            ..plugin.clone()
        };
        let plugin = Arc::new(plugin);
        Ok(Taken { module, plugin })
    }

    /// The configuration that a recorded version had. Secrets are resolved anew; where that gives another value than
    /// the version had, it is said.
    fn config_of(
        &self,
        version: &checkpoint::PluginVersion,
        present: Option<&config::Plugin>,
    ) -> Result<serde_json::Value, Box<Problem>> {
        if let Some(plugin) = present
            && self.key.hash(&plugin.config) == version.config
        {
            return Ok(plugin.config.clone());
        }
        let Some(config) = config::expand_stored(&version.written, &self.base) else {
            return Err(Box::new(config_gone(&version.name)));
        };
        if self.key.hash(&config) != version.config {
            tracing::warn!(
                plugin = version.name,
                "a secret in the plugin's config has changed: rows that are sent again meet the new value"
            );
        }
        Ok(config)
    }

    /// A recorded version as it is run, also where its plugin is out of the file.
    pub(super) fn recorded(
        &self,
        engine: &Engine,
        version: &checkpoint::PluginVersion,
    ) -> Result<plugin::PluginVersion, Box<Problem>> {
        let present = self.newest(&version.name);
        let present = present.as_ref().map(|taken| &*taken.plugin);
        let limits: Limits = match present {
            Some(plugin) => plugin.limits,
            None => limits_of(version).ok_or_else(|| Box::new(plugin_gone(&version.name)))?,
        };
        Ok(plugin::PluginVersion {
            name: version.name.clone(),
            module: self.by_hash(engine, &version.module, &limits)?,
            config: self.config_of(version, present)?,
            limits,
            policies: present.map_or_else(Default::default, |plugin| plugin.policies),
        })
    }

    /// A version that passed all checks: routes begun from now on take it.
    pub(super) fn accept(&self, taken: Taken) {
        let mut inner = self.lock();
        inner.accept(taken);
    }

    /// As [`Self::accept`]; `hand_over` gets the present session's queue. Neither a session's start nor another change
    /// comes in between.
    /// False where a rollback came after `generation`: what was tried beside it isn't what runs any more.
    pub(super) fn accept_and(
        &self,
        taken: Taken,
        generation: u64,
        hand_over: impl FnOnce(Option<&Queue<Input>>),
    ) -> bool {
        let mut inner = self.lock();
        if inner.rollbacks != generation {
            return false;
        }
        inner.accept(taken);
        hand_over(inner.lane.as_deref());
        true
    }

    /// How many rollbacks there were.
    pub(super) fn generation(&self) -> u64 {
        self.lock().rollbacks
    }

    /// A version broke while it was on probation: what is taken up is the one before, unless something newer is.
    pub(super) fn went_back(&self, gone: &checkpoint::PluginVersion, before: Taken) {
        let mut inner = self.lock();
        inner.rollbacks += 1;
        let newest = inner.newest.get(&gone.name);
        if newest.is_some_and(|newest| self.key.version(newest).is_same(gone)) {
            inner.accept(before);
        }
    }

    pub(super) fn newest(&self, plugin: &str) -> Option<Taken> {
        self.lock().newest.get(plugin).cloned()
    }

    pub(super) fn store(&self) -> &ModuleStore {
        &self.store
    }

    /// Gives the present session's intake something; false where there is none.
    pub(super) fn hand_over(&self, input: Input) -> bool {
        let inner = self.lock();
        inner.lane.as_ref().is_some_and(|lane| lane.push_now(input).is_ok())
    }

    /// The intake of a session that begins.
    pub(super) fn running(&self, lane: Arc<Queue<Input>>) {
        self.lock().lane = Some(lane);
    }

    pub(super) fn stopped(&self) {
        self.lock().lane = None;
    }

    fn by_hash(&self, engine: &Engine, hash: &str, limits: &Limits) -> Result<Arc<Module>, Box<Problem>> {
        if let Some(module) = self.lock().by_hash.get(hash) {
            return Ok(Arc::clone(module));
        }
        let bytes = self
            .store
            .get_hex(hash)
            .map_err(|error| Box::new(version_gone(hash, &error)))?;
        let module = engine.load(&bytes, limits).map_err(|error| Box::new(error.problem()))?;
        self.lock().by_hash.insert(hash.to_owned(), Arc::clone(&module));
        Ok(module)
    }

    /// The module of these bytes, compiled unless it is at hand.
    pub(super) fn module(
        &self,
        engine: &Engine,
        hash: &str,
        bytes: &[u8],
        limits: &Limits,
    ) -> Result<Arc<Module>, Box<Problem>> {
        let known = self.lock().by_hash.get(hash).cloned();
        match known {
            Some(module) => Ok(module),
            None => engine.load(bytes, limits).map_err(|error| Box::new(error.problem())),
        }
    }

    /// Drops every module that no recorded chain, no plugin and no way back needs: from memory, from the folder of
    /// modules, and from that of compiled code.
    pub(super) fn prune(&self, engine: &Engine, state: &StateStore) -> Result<(), Box<Problem>> {
        // Of routes that aren't in the file now too: they may come back.
        let mut keep = state.recorded_modules().map_err(Box::new)?;
        let names: Vec<String> = self.lock().newest.keys().cloned().collect();
        for name in &names {
            let record = state.plugin_record(name).map_err(Box::new)?;
            keep.extend(record.good.into_iter().map(|ran| ran.version.module));
        }
        let mut inner = self.lock();
        keep.extend(inner.newest.values().map(|taken| taken.module.hash_hex().to_owned()));
        inner.by_hash.retain(|hash, _| keep.contains(hash));
        drop(inner);
        let pruned = self.store.retain_hex(&keep).and_then(|_| engine.prune_cache(&keep));
        if let Err(error) = pruned {
            tracing::warn!(%error, "modules that nothing needs any more can't be removed");
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// As much of a hash as people read.
pub(super) fn short(hash: &str) -> &str {
    hash.get(..12).unwrap_or(hash)
}

/// The version that counts at `position`, of those recorded.
pub(super) fn at(recorded: &[(Lsn, checkpoint::ChainVersion)], position: Lsn) -> usize {
    recorded.iter().rposition(|(from, _)| *from <= position).unwrap_or(0)
}

/// There is no room for a module in the state folder.
pub(super) const NOT_KEPT: &str = "E0330";

pub(super) fn not_kept(error: &dyn std::fmt::Display) -> Problem {
    let help = "free space on the disk of the state folder, then start again";
    Problem::new(NOT_KEPT, Exit::Plugin, "a plugin's module can't be kept", help).with_cause(error)
}

fn version_gone(hash: &str, error: &dyn std::fmt::Display) -> Problem {
    let headline = format!("plugin version {} is not kept any more", short(hash));
    let help = "put the module back into the state folder's modules: rows that are sent again must go through it";
    Problem::new("E0331", Exit::Plugin, headline, help).with_cause(error)
}

fn plugin_gone(name: &str) -> Problem {
    let headline = format!("plugin `{name}` has rows to be sent again and isn't in the file any more");
    let help = "put it back under `plugins` until `rowmill run --once` has ended, then take it out";
    Problem::new("E0332", Exit::Plugin, headline, help)
}

fn config_gone(name: &str) -> Problem {
    let headline = format!("a secret that plugin `{name}` had in its config can't be read any more");
    let help = "set the variable or file that its config named: rows that are sent again go through that version";
    Problem::new("E0336", Exit::Plugin, headline, help)
}
