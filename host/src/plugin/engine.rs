//! The WebAssembly engine: one per process.

use super::code_cache::CodeCache;
use super::compile_work;
use super::compiled::{Module, check, hex};
use super::deadline::{TICK, ThreadClock, WALL_FACTOR};
use super::error::{self, PluginError, guest_text};
use super::module_file::{BadModule, ModuleFile};
use super::shapes::Shapes;
use crate::config::Limits;
use sha2::{Digest, Sha256};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};
use wasmtime::{Config, OptLevel, Strategy, WasmBacktraceDetails};

/// Deep serde types need more than the default of 512 KiB.
const WASM_STACK_BYTES: usize = 1024 * 1024;
const BACKTRACE_FRAMES: usize = 64;
/// With no more cores than this, compiling on all of them would stall the rows.
const CORES_FOR_PARALLEL_COMPILATION: usize = 5;
/// How much a compiling thread gives way to those that work on rows.
const COMPILE_NICENESS: libc::c_int = 10;

/// Compiles plugins, and keeps the clock that their calls are stopped by.
pub struct Engine {
    wasmtime: wasmtime::Engine,
    cache: Option<CodeCache>,
    pub(crate) shapes: Shapes,
    /// Whether calls are bounded and counted by fuel, the same on every machine, rather than by time.
    pub(crate) is_metered: bool,
    /// Held while something compiles: one at a time.
    compiling: Arc<Mutex<()>>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine")
            .field("cache", &self.cache)
            .finish_non_exhaustive()
    }
}

impl Engine {
    /// Sets the engine up, with a folder for compiled code if one is given, and starts its clock.
    ///
    /// # Errors
    ///
    /// Where the folder can't be made this user's own, or the machine can't run the engine.
    pub fn new(cache_dir: Option<PathBuf>) -> Result<Arc<Self>, PluginError> {
        Self::with(cache_dir, false)
    }

    /// An engine for tests of plugins: what a call costs is counted in fuel, and bounded by it, so that a result never
    /// hangs on the machine. Code runs a fifth to a half slower; none is kept.
    ///
    /// # Errors
    ///
    /// As [`Engine::new`].
    pub fn metered() -> Result<Arc<Self>, PluginError> {
        Self::with(None, true)
    }

    fn with(cache_dir: Option<PathBuf>, is_metered: bool) -> Result<Arc<Self>, PluginError> {
        let help = "report this with the output of `rowmill --version`";
        let wasmtime = wasmtime::Engine::new(settings().consume_fuel(is_metered)).map_err(|cause| {
            let headline = "the WebAssembly engine can't run on this machine";
            PluginError::refused_because(error::ENGINE, headline, format!("{cause:#}"), help)
        })?;
        let mut compatibility = DefaultHasher::new();
        wasmtime.precompile_compatibility_hash().hash(&mut compatibility);
        let cache = match cache_dir {
            None => None,
            Some(folder) => Some(CodeCache::open(&folder, compatibility.finish()).map_err(|cause| {
                let headline = format!("the folder for compiled plugins, {}, can't be used", folder.display());
                let help = format!(
                    "remove {0}, or make it a folder of the user that rowmill runs as: chmod 700 {0}",
                    folder.display()
                );
                PluginError::refused_because(error::ENGINE, headline, cause, help)
            })?),
        };
        let weak = wasmtime.weak();
        let ticker = thread::Builder::new().name("rowmill-epoch".to_owned()).spawn(move || {
            // Ends with the engine.
            while let Some(engine) = weak.upgrade() {
                engine.increment_epoch();
                drop(engine);
                thread::sleep(TICK);
            }
        });
        ticker.map_err(|cause| {
            PluginError::refused_because(error::ENGINE, "the clock of the plugins can't be started", cause, help)
        })?;
        Ok(Arc::new(Self {
            wasmtime,
            cache,
            shapes: Shapes::default(),
            is_metered,
            compiling: Arc::default(),
        }))
    }

    /// Checks a module and compiles it, or takes the code that was compiled of it before. Blocks while it compiles.
    ///
    /// # Errors
    ///
    /// The first of: too large; no core module; exports missing (all are named); an import that isn't offered (named);
    /// another ABI; code that isn't valid, or compiles too long.
    pub fn load(&self, bytes: &[u8], limits: &Limits) -> Result<Arc<Module>, PluginError> {
        if bytes.len() as u64 > limits.module.0 {
            return Err(PluginError::refused(
                error::UNREADABLE,
                format!(
                    "the plugin has {} bytes; at most {} are allowed",
                    bytes.len(),
                    limits.module.0
                ),
                "build it with `opt-level = \"s\"` and `lto`, or raise `limits: module`",
            ));
        }
        let file = ModuleFile::parse(bytes).map_err(not_loaded)?;
        let manifest = check(&file, limits)?;
        let hash: [u8; 32] = Sha256::digest(bytes).into();
        let module = self.compile(bytes, &hex(&hash), limits)?;
        Module::link(hash, manifest, &module).map(Arc::new)
    }

    fn compile(&self, bytes: &[u8], hash: &str, limits: &Limits) -> Result<wasmtime::Module, PluginError> {
        if let Some(module) = self.cached(hash) {
            return Ok(module);
        }
        compile_work::check(bytes).map_err(not_loaded)?;
        let (engine, compiling, bytes) = (self.wasmtime.clone(), Arc::clone(&self.compiling), bytes.to_vec());
        // It says by which clock it begins, and what came of it.
        let (begins, begun) = mpsc::sync_channel(1);
        let (ends, ended) = mpsc::sync_channel(1);
        let spawned = thread::Builder::new()
            .name("rowmill-compile".to_owned())
            .spawn(move || {
                give_way();
                let _one_at_a_time = compiling.lock().unwrap_or_else(PoisonError::into_inner);
                // Whoever waited may have given up; then there is nothing to do any more.
                if begins.send(own_clock()).is_ok() {
                    let _ = ends.send(wasmtime::Module::from_binary(&engine, &bytes));
                }
            });
        let failed = |cause: String| {
            let help = "rebuild the plugin with a released toolchain and no experimental WebAssembly feature";
            PluginError::refused_because(error::COMPILE, "the plugin doesn't compile", cause, help)
        };
        spawned.map_err(|cause| failed(cause.to_string()))?;
        let late = |what: &str| {
            let headline = format!("the plugin {what} within {:?}", limits.compile_time.0);
            let help = "make the plugin smaller, or raise `limits: compile_time`";
            PluginError::refused(error::COMPILE, headline, help)
        };
        let time = limits.compile_time.0;
        // A compiler can't be stopped: one that outlives its time is left to end, and the next module waits for it.
        let Ok(clock) = begun.recv_timeout(time * WALL_FACTOR) else {
            return Err(late("didn't begin to compile, as another one still compiles,"));
        };
        let compiled = within(time, clock, &ended).map_err(|error| match error {
            mpsc::RecvTimeoutError::Timeout => late("didn't compile"),
            mpsc::RecvTimeoutError::Disconnected => failed("the compiler said nothing".to_owned()),
        })?;
        let module = compiled.map_err(|cause| failed(guest_text(format!("{cause:#}").as_bytes())))?;
        self.keep(hash, &module);
        Ok(module)
    }

    fn cached(&self, hash: &str) -> Option<wasmtime::Module> {
        let code = self.cache.as_ref()?.get(hash)?;
        #[allow(
            unsafe_code,
            reason = "native code that this user's own process put into a folder of mode 0700, whole by its checksum; \
                      written by rename alone, so that nothing changes under the mapping"
        )]
        let module = unsafe { wasmtime::Module::deserialize_open_file(&self.wasmtime, code) };
        module.ok()
    }

    /// Removes the compiled code of every module but those in `keep`, by hash.
    ///
    /// # Errors
    ///
    /// Where the folder can't be read or a file not be removed.
    pub fn prune_cache(&self, keep: &std::collections::HashSet<String>) -> std::io::Result<()> {
        self.cache.as_ref().map_or(Ok(()), |cache| cache.retain(keep))
    }

    /// A cache that can't be written costs time, nothing else.
    fn keep(&self, hash: &str, module: &wasmtime::Module) {
        let Some(cache) = &self.cache else {
            return;
        };
        match module.serialize() {
            Ok(code) => {
                if let Err(error) = cache.put(hash, &code) {
                    tracing::warn!(%error, "compiled code of a plugin could not be kept");
                }
            }
            Err(error) => tracing::warn!(error = %format!("{error:#}"), "compiled code of a plugin could not be kept"),
        }
    }
}

fn not_loaded(cause: BadModule) -> PluginError {
    let headline = "the file is no plugin that can be loaded";
    PluginError::refused_because(error::UNREADABLE, headline, cause, "build the plugin again")
}

/// What isn't named here has its default on purpose: 4 GiB of address space reserved per memory and guard pages (so
/// that bounds checks vanish), traps by signals, memory images by copy on write, instances on demand.
///
/// Proposals that compilers don't need are off: less to attack. GC, exceptions, threads and components aren't built in.
fn settings() -> Config {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let mut config = Config::new();
    config
        .strategy(Strategy::Cranelift)
        .cranelift_opt_level(OptLevel::Speed)
        .epoch_interruption(true)
        .concurrency_support(false)
        .max_wasm_stack(WASM_STACK_BYTES)
        .wasm_backtrace_details(WasmBacktraceDetails::Enable)
        .wasm_backtrace_max_frames(std::num::NonZeroUsize::new(BACKTRACE_FRAMES))
        .generate_address_map(true)
        .parallel_compilation(cores >= CORES_FOR_PARALLEL_COMPILATION)
        .wasm_memory64(false)
        .wasm_multi_memory(false)
        .wasm_relaxed_simd(false)
        .wasm_gc(false);
    config
}

/// The CPU time of the compiling thread. None where it isn't the only one that compiles: the wall clock counts then.
fn own_clock() -> Option<ThreadClock> {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    (cores < CORES_FOR_PARALLEL_COMPILATION).then(ThreadClock::of_this_thread)?
}

/// What is received while `clock` hasn't gone on by more than `time`: it gives way to the rows, so that on a busy machine it
/// may be long in coming without having had its time. The wall clock may take [`WALL_FACTOR`] times that.
fn within<T>(
    time: Duration,
    clock: Option<ThreadClock>,
    receiver: &mpsc::Receiver<T>,
) -> Result<T, mpsc::RecvTimeoutError> {
    let Some(clock) = clock else {
        return receiver.recv_timeout(time);
    };
    let (at_start, begun) = (clock.read(), Instant::now());
    loop {
        let used = clock.read().saturating_sub(at_start);
        let left = time
            .saturating_sub(used)
            .min((time * WALL_FACTOR).saturating_sub(begun.elapsed()));
        match receiver.recv_timeout(left) {
            Err(mpsc::RecvTimeoutError::Timeout) if !left.is_zero() => {}
            received => return received,
        }
    }
}

/// Lowers the priority of this thread; where that fails it merely doesn't give way.
fn give_way() {
    #[allow(
        unsafe_code,
        reason = "no safe form in std; on Linux 0 means the calling thread, and no memory is touched"
    )]
    unsafe {
        libc::setpriority(libc::PRIO_PROCESS, 0, COMPILE_NICENESS);
    }
}

impl Engine {
    pub(crate) fn wasmtime(&self) -> &wasmtime::Engine {
        &self.wasmtime
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mpsc::RecvTimeoutError::Timeout;

    const LIMIT: Duration = Duration::from_millis(100);

    /// What comes of waiting for a thread that computes or rests for `long`, and then answers.
    fn waited(computes: bool, long: Duration) -> Result<(), mpsc::RecvTimeoutError> {
        let (begins, begun) = mpsc::sync_channel(1);
        let (ends, ended) = mpsc::sync_channel(1);
        thread::spawn(move || {
            begins.send(ThreadClock::of_this_thread()).unwrap();
            let start = Instant::now();
            while start.elapsed() < long {
                if !computes {
                    thread::sleep(long.saturating_sub(start.elapsed()));
                }
            }
            let _ = ends.send(());
        });
        let clock = begun.recv().unwrap();
        assert!(clock.is_some());
        within(LIMIT, clock, &ended)
    }

    #[test]
    fn who_is_kept_from_computing_is_waited_for() {
        assert_eq!(waited(false, LIMIT * 3), Ok(()));
        assert_eq!(waited(false, LIMIT * (WALL_FACTOR + 20)), Err(Timeout));
        assert_eq!(waited(true, LIMIT * (WALL_FACTOR + 20)), Err(Timeout));
    }
}
