//! What a guest may import: log, panic, metric, commit time, repeatable random bytes. Nothing else of the host.

use super::deadline::Deadline;
use super::encode::Seed;
use super::error::{GUEST_TEXT_MAX, guest_text};
use super::kv;
use super::metrics::{COUNTER, HISTOGRAM, METRICS_MAX, Metric};
use crate::config::Limits;
use rowmill_abi::IMPORT_MODULE;
use sha2::{Digest, Sha256};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use wasmtime::{Caller, Extern, Linker, ResourceLimiter};

/// Imports of the plugin ABI.
pub(crate) const IMPORTS: [&str; 5] = ["log", "panic", "metric", "now_us", "random"];
/// Lines that all instances of a module may log in [`LOG_WINDOW`].
const LOG_LINES_MAX: u32 = 20;
const LOG_WINDOW: Duration = Duration::from_secs(1);
const METRIC_NAME_MAX: usize = 100;
/// Random bytes of one call: none needs more, and the call isn't stopped while they are made.
pub(crate) const RANDOM_BYTES_MAX: usize = 64 * 1024;
/// Elements of each table of a guest.
const TABLE_ELEMENTS_MAX: usize = 10_000;
/// Tables of a guest: one for indirect calls, one for references, and some to spare.
const TABLES_MAX: usize = 8;

/// Memory and table bounds, and whether one was reached.
#[derive(Debug)]
pub(crate) struct Limiter {
    pub memory_bytes: usize,
    pub memory_hit: bool,
}

impl ResourceLimiter for Limiter {
    fn memory_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let allowed = desired <= self.memory_bytes;
        self.memory_hit |= !allowed;
        Ok(allowed)
    }

    fn table_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let allowed = desired <= TABLE_ELEMENTS_MAX;
        self.memory_hit |= !allowed;
        Ok(allowed)
    }

    fn instances(&self) -> usize {
        1
    }

    fn tables(&self) -> usize {
        TABLES_MAX
    }

    fn memories(&self) -> usize {
        1
    }
}

/// What a store keeps beside the guest.
#[derive(Debug)]
pub(crate) struct HostState {
    pub plugin: Arc<str>,
    pub limiter: Limiter,
    pub deadline: Deadline,
    /// Whether fuel is counted, whether it has been filled up once, and what was burnt.
    pub is_metered: bool,
    pub has_fuel: bool,
    pub fuel_used: u64,
    /// The export that is being called, for what is said of a fault.
    pub calling: &'static str,
    /// What the guest said as it panicked.
    pub panic: Option<String>,
    /// Of the call at hand.
    pub commit_us: Vec<i64>,
    pub seeds: Vec<Seed>,
    pub metrics: Vec<Metric>,
    /// Its entries by key, where it may use them.
    pub kv: Option<kv::Access>,
    log: SharedLogBudget,
    /// Counts the requests for random bytes that belong to no row.
    pub random_counter: u64,
}

impl HostState {
    pub fn new(plugin: &str, limits: &Limits, log: SharedLogBudget) -> Self {
        Self {
            plugin: Arc::from(plugin),
            limiter: Limiter {
                memory_bytes: usize::try_from(limits.memory.0).unwrap_or(usize::MAX),
                memory_hit: false,
            },
            deadline: Deadline::new(limits.time.0),
            calling: "nothing",
            is_metered: false,
            has_fuel: false,
            fuel_used: 0,
            panic: None,
            commit_us: Vec::new(),
            seeds: Vec::new(),
            metrics: Vec::new(),
            kv: None,
            log,
            random_counter: 0,
        }
    }

    /// Passes a guest's line on to the log, within its budget. 1 error, 2 warning, 3 information, 4 debug, else trace.
    pub fn log(&mut self, level: i32, bytes: &[u8]) {
        let taken = self.log.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(dropped) = taken else {
            return;
        };
        let plugin = &*self.plugin;
        if dropped > 0 {
            tracing::warn!(plugin, dropped, "lines of the plugin's log were dropped");
        }
        let text = guest_text(bytes);
        match level {
            1 => tracing::error!(plugin, "{text}"),
            2 => tracing::warn!(plugin, "{text}"),
            3 => tracing::info!(plugin, "{text}"),
            4 => tracing::debug!(plugin, "{text}"),
            _ => tracing::trace!(plugin, "{text}"),
        }
    }

    /// What was counted since the last time. Names stay taken, so that a guest can't have others each time.
    pub fn take_metrics(&mut self) -> impl Iterator<Item = Metric> {
        let counted = self.metrics.iter_mut().filter(|metric| metric.count > 0);
        counted.map(|metric| {
            let empty = Metric::new(metric.kind, &metric.name);
            std::mem::replace(metric, empty)
        })
    }

    /// What the instance before this one has counted comes before what this one has by now. The names of both together are
    /// no more than one may have.
    pub fn inherit_metrics(&mut self, before: Vec<Metric>) {
        for metric in std::mem::replace(&mut self.metrics, before) {
            if let Some(known) = self.known_metric(metric.kind, &metric.name) {
                known.add(&metric);
            } else if self.metrics.len() < METRICS_MAX {
                self.metrics.push(metric);
            }
        }
    }

    fn known_metric(&mut self, kind: i32, name: &str) -> Option<&mut Metric> {
        let is_same = |metric: &&mut Metric| metric.kind == kind && metric.name == name;
        self.metrics.iter_mut().find(is_same)
    }

    fn metric(&mut self, kind: i32, name: &str, value: f64) {
        if let Some(metric) = self.known_metric(kind, name) {
            return metric.observe(value);
        }
        if self.metrics.len() < METRICS_MAX && (COUNTER..=HISTOGRAM).contains(&kind) {
            let mut metric = Metric::new(kind, name);
            metric.observe(value);
            self.metrics.push(metric);
        }
    }

    /// Fills `out` from a seed, the plugin's name and a number: the same again for the same.
    pub fn random(&self, position: u64, ordinal: u64, out: &mut [u8]) {
        for (block, chunk) in out.chunks_mut(32).enumerate() {
            let mut hash = Sha256::new();
            hash.update(self.plugin.as_bytes());
            hash.update(position.to_be_bytes());
            hash.update(ordinal.to_be_bytes());
            hash.update((block as u64).to_be_bytes());
            chunk.copy_from_slice(&hash.finalize()[..chunk.len()]);
        }
    }
}

/// One for all instances of a module: one that breaks and is made anew has no more than the others.
pub(crate) type SharedLogBudget = Arc<Mutex<LogBudget>>;

#[derive(Debug)]
pub(crate) struct LogBudget {
    since: Instant,
    lines: u32,
    dropped: u64,
}

impl LogBudget {
    pub fn new() -> SharedLogBudget {
        Arc::new(Mutex::new(Self {
            since: Instant::now(),
            lines: 0,
            dropped: 0,
        }))
    }

    /// Takes a line; returns how many were dropped before it.
    fn take(&mut self) -> Option<u64> {
        if self.since.elapsed() >= LOG_WINDOW {
            self.since = Instant::now();
            self.lines = 0;
        }
        if self.lines >= LOG_LINES_MAX {
            self.dropped += 1;
            return None;
        }
        self.lines += 1;
        Some(std::mem::take(&mut self.dropped))
    }
}

/// Guest memory and the host's state, at the same time.
pub(crate) fn memory<'a>(caller: &'a mut Caller<'_, HostState>) -> wasmtime::Result<(&'a mut [u8], &'a mut HostState)> {
    match caller.get_export("memory") {
        Some(Extern::Memory(memory)) => Ok(memory.data_and_store_mut(caller)),
        _ => Err(wasmtime::Error::msg("the guest has no memory")),
    }
}

/// A range that a guest names. Its numbers are unsigned, whatever their type says.
pub(crate) fn range(ptr: i32, len: i32, memory_len: usize) -> wasmtime::Result<std::ops::Range<usize>> {
    let (start, len) = (ptr as u32 as usize, len as u32 as usize);
    match start.checked_add(len) {
        Some(end) if end <= memory_len => Ok(start..end),
        _ => Err(wasmtime::Error::msg(
            "a pointer outside of the guest's memory was handed to the host",
        )),
    }
}

/// Where random bytes go.
pub(crate) fn random_bytes(memory: &mut [u8], at: std::ops::Range<usize>) -> wasmtime::Result<&mut [u8]> {
    if at.len() > RANDOM_BYTES_MAX {
        let what = format!("more than {RANDOM_BYTES_MAX} random bytes were asked for at once");
        return Err(wasmtime::Error::msg(what));
    }
    Ok(&mut memory[at])
}

/// Offers one import of the plugin ABI to a module that asks for it.
pub(crate) fn define(linker: &mut Linker<HostState>, name: &str) -> wasmtime::Result<()> {
    match name {
        "log" => linker.func_wrap(
            IMPORT_MODULE,
            name,
            |mut caller: Caller<'_, HostState>, level: i32, ptr: i32, len: i32| -> wasmtime::Result<()> {
                let (memory, host) = memory(&mut caller)?;
                let text = &memory[range(ptr, len, memory.len())?];
                host.log(level, text);
                Ok(())
            },
        )?,
        "panic" => linker.func_wrap(
            IMPORT_MODULE,
            name,
            |mut caller: Caller<'_, HostState>, ptr: i32, len: i32| -> wasmtime::Result<()> {
                let (memory, host) = memory(&mut caller)?;
                let text = &memory[range(ptr, len, memory.len())?];
                host.panic = Some(guest_text(&text[..text.len().min(GUEST_TEXT_MAX + 1)]));
                Ok(())
            },
        )?,
        "metric" => linker.func_wrap(
            IMPORT_MODULE,
            name,
            |mut caller: Caller<'_, HostState>, kind: i32, ptr: i32, len: i32, value: f64| -> wasmtime::Result<()> {
                let (memory, host) = memory(&mut caller)?;
                let name = &memory[range(ptr, len, memory.len())?];
                // What is no metric is passed over, as what is one too many.
                if name.len() <= METRIC_NAME_MAX
                    && value.is_finite()
                    && let Ok(name) = std::str::from_utf8(name)
                {
                    host.metric(kind, name, value);
                }
                Ok(())
            },
        )?,
        "now_us" => linker.func_wrap(
            IMPORT_MODULE,
            name,
            |caller: Caller<'_, HostState>, transaction: i32| -> wasmtime::Result<i64> {
                let times = &caller.data().commit_us;
                let time = times.get(transaction as u32 as usize).copied();
                time.ok_or_else(|| wasmtime::Error::msg("now_us: no such transaction in the batch"))
            },
        )?,
        "random" => linker.func_wrap(
            IMPORT_MODULE,
            name,
            |mut caller: Caller<'_, HostState>, row: i32, ptr: i32, len: i32| -> wasmtime::Result<()> {
                let (memory, host) = memory(&mut caller)?;
                let at = range(ptr, len, memory.len())?;
                let seed = host.seeds.get(row as u32 as usize).copied();
                let seed = seed.ok_or_else(|| wasmtime::Error::msg("random: no such row in the batch"))?;
                host.random(seed.position, seed.ordinal, random_bytes(memory, at)?);
                Ok(())
            },
        )?,
        _ => kv::define(linker, name).map(|()| linker)?,
    };
    Ok(())
}
