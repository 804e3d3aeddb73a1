//! Starting a pipeline: state, plugins and console first, then the source's thread.

use super::modules::Modules;
use super::process::Process;
use super::reload;
use super::status::StatusBoard;
use super::stop::StopRequest;
use super::supervise::{Ended, RunOptions, supervise};
use crate::checkpoint::StateStore;
use crate::config::Pipeline;
use crate::console::Tail;
use crate::dead_letter::DeadLetters;
use crate::plugin::Engine;
use crate::plugin::reload::{ModuleStore, ModuleWatcher, hash_hex};
use crate::postgres::{Conninfo, install_crypto_provider};
use crate::problem::{Exit, Problem};
use crate::snapshot::Pace;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use tokio::sync::oneshot;

/// A pipeline at work.
pub struct Running {
    pub(super) process: Arc<Process>,
    ended: oneshot::Receiver<Result<Ended, Box<Problem>>>,
    /// Takes up changed plugins for as long as it lives; `None` where a bounded run takes them as they are.
    _watcher: Arc<Mutex<Option<ModuleWatcher>>>,
}

/// Starts a pipeline. To be called on the runtime that sinks and console are to run on. Nothing is changed at the
/// database before configuration, state and plugins are known to be good.
pub fn run(config: Pipeline, options: RunOptions, stop: StopRequest, tail: Tail) -> Result<Running, Box<Problem>> {
    install_crypto_provider();
    let process = Arc::new(process(config, tail)?);
    let watcher: Arc<Mutex<Option<ModuleWatcher>>> = Arc::default();
    if !options.once {
        super::config_watch::watch(&process)
            .map_err(|error| Box::new(super::failure::bug(&format!("a thread for pipeline.yaml: {error}"))))?;
        let _ = process.watcher.set(Arc::downgrade(&watcher));
        if !process.config().plugins.is_empty() {
            let watching = reload::watch(&process).map_err(|error| Box::new(unwatchable(&error)))?;
            *watcher.lock().unwrap_or_else(PoisonError::into_inner) = Some(watching);
        }
    }
    let (send, ended) = oneshot::channel();
    let of_source = Arc::clone(&process);
    let thread = std::thread::Builder::new().name("source".into()).spawn(move || {
        let ended = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime.block_on(supervise(&of_source, options, stop)),
            Err(error) => Err(Box::new(super::failure::bug(&format!("the source's runtime: {error}")))),
        };
        let _ = send.send(ended);
    });
    thread.map_err(|error| Box::new(super::failure::bug(&format!("the source's thread: {error}"))))?;
    Ok(Running {
        process,
        ended,
        _watcher: watcher,
    })
}

impl Running {
    /// Takes up a version of a plugin as if its file had changed to these bytes. Blocks until it counts; not to be
    /// called on a runtime's thread.
    ///
    /// # Errors
    /// Why it is refused; the version that runs goes on.
    pub fn reload(&self, plugin: &str, module: &[u8]) -> Result<(), Box<Problem>> {
        reload::changed(&self.process, plugin, module, &hash_of_module(module))
    }

    /// Waits until it has ended.
    pub async fn ended(self) -> Result<Ended, Box<Problem>> {
        match self.ended.await {
            Ok(ended) => ended,
            Err(_) => Err(Box::new(super::failure::bug("the source's thread panicked"))),
        }
    }
}

pub(super) fn process(mut config: Pipeline, tail: Tail) -> Result<Process, Box<Problem>> {
    let source = Conninfo::parse(config.source.url.reveal()).map_err(|error| Box::new(Problem::from(error)))?;
    let store = StateStore::open(&config.state_dir, &config.name)?;
    super::routes::know(&mut config, &store)?;
    let config = super::detach::without(config, &store)?;
    // Of an earlier run; whether or not this one streams.
    if let Err(error) = crate::assemble::clear(&config.state_dir) {
        tracing::warn!(%error, "the spill of an earlier run can't be deleted");
    }
    let dead_letters = DeadLetters::open(&config.state_dir, &config.name, &config.dead_letters)?;
    let engine = Engine::new(Some(config.state_dir.join("compiled"))).map_err(|error| Box::new(error.problem()))?;
    let kept = ModuleStore::open(&config.state_dir).map_err(|error| Box::new(no_store(&error)))?;
    let modules = Modules::load(kept, &engine, &config, &store)?;
    let status = StatusBoard::new();
    for plugin in &config.plugins {
        if let Some(taken) = modules.newest(&plugin.name) {
            status.runs(&plugin.name, &taken.module);
        }
    }
    let pace = Pace::new(config.source.snapshot.rows_per_second);
    let process = Process {
        name: config.name.clone(),
        config: RwLock::new(Arc::new(config)),
        first_source: source,
        store,
        dead_letters,
        engine,
        modules,
        stats: Arc::default(),
        metrics: Arc::default(),
        live: Arc::default(),
        recent: Arc::default(),
        pace: Arc::new(pace),
        spill: Arc::default(),
        unstreamed: OnceLock::new(),
        types_asked_for: Mutex::default(),
        status,
        streamed: Mutex::default(),
        watcher: OnceLock::new(),
        again: tokio::sync::watch::Sender::new(0),
        asked_for_copies: tokio::sync::Notify::new(),
        settings: Default::default(),
        tail,
        workers: tokio::runtime::Handle::current(),
    };
    Ok(process)
}

fn hash_of_module(module: &[u8]) -> String {
    use sha2::{Digest, Sha256};
    hash_hex(&Sha256::digest(module).into())
}

fn no_store(error: &std::io::Error) -> Problem {
    let help = "let the user who runs rowmill write to the state folder";
    Problem::new(
        "E0334",
        Exit::Usage,
        "the folder for plugin modules can't be made",
        help,
    )
    .with_cause(error)
}

fn unwatchable(error: &std::io::Error) -> Problem {
    let help = "raise fs.inotify.max_user_instances with sysctl";
    Problem::new("E0335", Exit::Plugin, "the plugins' folders can't be watched", help).with_cause(error)
}
