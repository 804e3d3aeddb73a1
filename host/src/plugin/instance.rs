//! A guest in its store: calls, the buffers that cross, and what a trap tells.

use super::chain::PluginVersion;
use super::compiled::check_abi;
use super::cursor::{Reply, open};
use super::encode::Encoder;
use super::engine::Engine;
use super::error::{self, Fault, FaultKind, PluginError, guest_lines, guest_text};
use super::host::HostState;
use super::write;
use crate::batch::Batch;
use rowmill_abi::{ABI_VERSION, mode};
use std::ops::Range;
use wasmtime::{Global, Memory, Store, StoreContextMut, Trap, TypedFunc, UpdateDeadline, Val, WasmBacktrace};

/// What a chain is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Its output is delivered.
    Live,
    /// A new version, tried beside the live one; its output is thrown away.
    Candidate,
    /// `rowmill plugin test`.
    Test,
}

/// What runs before the first export is called: memory and tables are made and filled, and the start function called.
const START: &str = "the module's start";
/// The smallest input buffer that is asked for; it grows by doubling.
const INPUT_BYTES_MIN: usize = 64 * 1024;

pub(crate) struct Instance {
    store: Store<HostState>,
    memory: Memory,
    alloc: TypedFunc<i32, i32>,
    free: TypedFunc<(i32, i32), ()>,
    schema: TypedFunc<(i32, i32), i64>,
    batch: TypedFunc<(i32, i32), i64>,
    /// The row that the guest works on, where it says.
    row: Option<Global>,
    /// The buffer that the guest gave for its input: address and size.
    input: Range<usize>,
    output_max: u64,
    sequence: u64,
    pub name: String,
    pub hash: String,
    /// Whether it broke: then it is never called again.
    dead: bool,
}

impl std::fmt::Debug for Instance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Instance")
            .field("plugin", &self.name)
            .field("hash", &self.hash)
            .finish_non_exhaustive()
    }
}

/// A call that failed.
pub(crate) enum Failed {
    Fault(Box<Fault>),
    /// The input doesn't fit into the guest.
    TooLarge,
}

impl Instance {
    pub fn new(engine: &Engine, plugin: &PluginVersion, mode: Mode) -> Result<Self, PluginError> {
        let host = HostState::new(&plugin.name, &plugin.limits, plugin.module.log_budget());
        let mut store = Store::new(engine.wasmtime(), host);
        store.limiter(|host| &mut host.limiter);
        store.epoch_deadline_callback(
            |mut store: StoreContextMut<'_, HostState>| -> wasmtime::Result<UpdateDeadline> {
                Ok(store.data_mut().deadline.look())
            },
        );
        let (name, hash) = (plugin.name.clone(), plugin.module.hash_short().to_owned());
        begin(&mut store, START);
        let started = (|store: &mut Store<HostState>| {
            let instance = plugin.module.pre.instantiate(&mut *store)?;
            let memory = instance.get_memory(&mut *store, "memory");
            let memory = memory.ok_or_else(|| wasmtime::Error::msg("it has no memory"))?;
            let row = instance.get_global(&mut *store, "rowmill_row");
            if let Some(initialize) = instance.get_func(&mut *store, "_initialize") {
                store.data_mut().calling = "_initialize";
                initialize.typed::<(), ()>(&*store)?.call(&mut *store, ())?;
            }
            store.data_mut().calling = "rowmill_abi";
            let abi = instance
                .get_typed_func::<(), i32>(&mut *store, "rowmill_abi")?
                .call(&mut *store, ())?;
            let init = instance.get_typed_func::<(i32, i32), i64>(&mut *store, "rowmill_init")?;
            let alloc = instance.get_typed_func(&mut *store, "rowmill_alloc")?;
            let free = instance.get_typed_func(&mut *store, "rowmill_free")?;
            let schema = instance.get_typed_func(&mut *store, "rowmill_schema")?;
            let batch = instance.get_typed_func(&mut *store, "rowmill_batch")?;
            Ok((memory, row, abi, init, alloc, free, schema, batch))
        })(&mut store);
        let (memory, row, abi, init, alloc, free, schema, batch) = match started {
            Ok(started) => started,
            Err(error) => return Err(PluginError::Fault(fault(&mut store, &name, &hash, &error))),
        };
        check_abi(abi, plugin.module.manifest())?;
        let output_max = plugin.limits.output.0;
        let mut instance = Self {
            store,
            memory,
            alloc,
            free,
            schema,
            batch,
            row,
            input: 0..0,
            output_max,
            sequence: 0,
            name,
            hash,
            dead: false,
        };
        instance.initialize(&init, plugin, mode)?;
        Ok(instance)
    }

    fn initialize(
        &mut self,
        init: &TypedFunc<(i32, i32), i64>,
        plugin: &PluginVersion,
        mode: Mode,
    ) -> Result<(), PluginError> {
        let request = init_request(plugin, mode).map_err(|cause| {
            let headline = format!("the configuration of plugin {} can't be handed over", self.name);
            PluginError::refused_because(error::INIT, headline, cause, "use plain YAML values under `config:`")
        })?;
        let range = match self.call("rowmill_init", init, &[&request]) {
            Ok(range) => range,
            Err(Failed::Fault(fault)) => return Err(PluginError::Fault(fault)),
            Err(Failed::TooLarge) => {
                let headline = format!("the configuration of plugin {} doesn't fit into its memory", self.name);
                return Err(PluginError::refused(
                    error::INIT,
                    headline,
                    "raise `limits: memory` of the plugin",
                ));
            }
        };
        let message = match open(self.reply(range.clone())) {
            Ok(Reply::Done(mut cursor, left)) => {
                let rest = (0..left).try_for_each(|_| cursor.skip()).and_then(|()| cursor.finish());
                return rest.map_err(|bad| PluginError::Fault(self.fault(FaultKind::BadReply, bad.to_string())));
            }
            Ok(Reply::Retryable(message) | Reply::Fatal(message)) => guest_text(message.as_bytes()),
            Err(bad) => return Err(PluginError::Fault(self.fault(FaultKind::BadReply, bad.to_string()))),
        };
        let headline = format!("plugin {} refused its configuration", self.name);
        let help = format!("correct `config:` of plugin {} in pipeline.yaml", self.name);
        Err(PluginError::refused_because(error::INIT, headline, message, help))
    }

    /// Calls `rowmill_schema`; the reply lies in the guest.
    pub fn schema(&mut self, request: &[u8]) -> Result<Range<usize>, Failed> {
        let function = self.schema.clone();
        self.call("rowmill_schema", &function, &[request])
    }

    /// Calls `rowmill_batch` with the rows of the encoder; the reply lies in the guest.
    pub fn batch(&mut self, encoder: &mut Encoder, batch: &Batch, next: Option<u32>) -> Result<Range<usize>, Failed> {
        encoder.finish(batch, self.sequence, next);
        self.sequence += 1;
        let host = self.store.data_mut();
        host.commit_us.clear();
        host.commit_us.extend(encoder.commit_times(batch));
        std::mem::swap(&mut host.seeds, &mut encoder.seeds);
        let function = self.batch.clone();
        let called = self.call("rowmill_batch", &function, &[&encoder.head, &encoder.body]);
        std::mem::swap(&mut self.store.data_mut().seeds, &mut encoder.seeds);
        called
    }

    /// The bytes of a reply. It was checked to lie in memory, which never shrinks.
    pub fn reply(&self, range: Range<usize>) -> &[u8] {
        self.memory.data(&self.store).get(range).unwrap_or_default()
    }

    pub fn is_worn(&self) -> bool {
        self.memory.data_size(&self.store) > self.store.data().limiter.memory_bytes / 2
    }

    pub fn take_metrics(&mut self, into: &super::GuestMetrics) {
        for metric in self.store.data_mut().take_metrics() {
            into.add(&self.name, metric);
        }
    }

    /// The instance must not be used again after what it has done.
    pub fn fault(&mut self, kind: FaultKind, message: String) -> Box<Fault> {
        self.dead = true;
        Box::new(Fault {
            kind,
            plugin: self.name.clone(),
            hash: self.hash.clone(),
            message,
            row: None,
            panic: None,
            backtrace: None,
        })
    }

    /// The guest row that the guest says it works on.
    pub fn row_at_work(&mut self) -> Option<u32> {
        match self.row?.get(&mut self.store) {
            Val::I32(row) => u32::try_from(row).ok(),
            _ => None,
        }
    }

    fn call(
        &mut self,
        name: &'static str,
        function: &TypedFunc<(i32, i32), i64>,
        parts: &[&[u8]],
    ) -> Result<Range<usize>, Failed> {
        if self.dead {
            return Err(Failed::Fault(
                self.fault(FaultKind::Fatal, "it broke before and was not replaced".to_owned()),
            ));
        }
        let len = parts.iter().map(|part| part.len()).sum();
        begin(&mut self.store, name);
        self.make_room(len)?;
        self.store.data_mut().calling = name;
        let mut at = self.input.start;
        let memory = self.memory.data_mut(&mut self.store);
        for part in parts {
            memory[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        }
        let reply = match function.call(&mut self.store, (self.input.start as i32, len as i32)) {
            Ok(reply) => reply as u64,
            Err(error) => return Err(self.trapped(&error)),
        };
        let (start, len) = ((reply >> 32) as usize, reply as u32 as usize);
        let memory_len = self.memory.data_size(&self.store);
        let message = if reply == 0 {
            "it answered nothing".to_owned()
        } else if len as u64 > self.output_max {
            format!(
                "its reply of {len} bytes is larger than the limit of {}",
                self.output_max
            )
        } else if start + len > memory_len {
            format!("its reply lies outside of its memory of {memory_len} bytes")
        } else {
            return Ok(start..start + len);
        };
        Err(Failed::Fault(self.fault(FaultKind::BadReply, message)))
    }

    /// Sees to it that the input buffer holds `len` bytes.
    fn make_room(&mut self, len: usize) -> Result<(), Failed> {
        if len <= self.input.len() {
            return Ok(());
        }
        let size = len
            .max(INPUT_BYTES_MIN)
            .checked_next_power_of_two()
            .ok_or(Failed::TooLarge)?;
        let size_wasm = i32::try_from(size).map_err(|_| Failed::TooLarge)?;
        if !self.input.is_empty() {
            let old = std::mem::take(&mut self.input);
            self.store.data_mut().calling = "rowmill_free";
            let freed = self.free.call(&mut self.store, (old.start as i32, old.len() as i32));
            freed.map_err(|error| self.trapped(&error))?;
        }
        self.store.data_mut().calling = "rowmill_alloc";
        let start = self
            .alloc
            .call(&mut self.store, size_wasm)
            .map_err(|error| self.trapped(&error))?;
        if start == 0 {
            return Err(Failed::TooLarge);
        }
        let start = start as u32 as usize;
        if start + size > self.memory.data_size(&self.store) || !start.is_multiple_of(8) {
            let message = "rowmill_alloc gave a buffer outside of its memory, or not aligned to 8".to_owned();
            return Err(Failed::Fault(self.fault(FaultKind::BadReply, message)));
        }
        self.input = start..start + size;
        Ok(())
    }

    fn trapped(&mut self, error: &wasmtime::Error) -> Failed {
        self.dead = true;
        Failed::Fault(fault(&mut self.store, &self.name, &self.hash, error))
    }
}

/// Starts the clock of a call: of the whole start, or of an export with what is allocated for it.
fn begin(store: &mut Store<HostState>, calling: &'static str) {
    let host = store.data_mut();
    host.calling = calling;
    host.panic = None;
    host.limiter.memory_hit = false;
    let ticks = host.deadline.begin();
    store.set_epoch_deadline(ticks);
}

/// `[abi, host_features, name, config, mode, [memory bytes, time µs, output bytes], state, state_version]`
fn init_request(plugin: &PluginVersion, mode: Mode) -> Result<Vec<u8>, rmp_serde::encode::Error> {
    let mut request = Vec::new();
    write::array(&mut request, 8);
    write::int(&mut request, i64::from(ABI_VERSION));
    write::array(&mut request, 0);
    write::str(&mut request, plugin.name.as_bytes());
    rmp_serde::encode::write(&mut request, &plugin.config)?;
    write::uint(
        &mut request,
        u64::from(match mode {
            Mode::Live => mode::LIVE,
            Mode::Candidate => mode::CANDIDATE,
            Mode::Test => mode::TEST,
        }),
    );
    let limits = &plugin.limits;
    write::array(&mut request, 3);
    write::uint(&mut request, limits.memory.0);
    write::uint(
        &mut request,
        u64::try_from(limits.time.0.as_micros()).unwrap_or(u64::MAX),
    );
    write::uint(&mut request, limits.output.0);
    write::nil(&mut request);
    write::uint(&mut request, 0);
    Ok(request)
}

fn fault(store: &mut Store<HostState>, name: &str, hash: &str, error: &wasmtime::Error) -> Box<Fault> {
    let host = store.data_mut();
    let kind = if host.deadline.expired {
        FaultKind::Timeout
    } else if host.limiter.memory_hit {
        FaultKind::Memory
    } else {
        FaultKind::Trap
    };
    let message = match error.downcast_ref::<Trap>() {
        Some(Trap::Interrupt) => format!("{} was stopped", host.calling),
        Some(trap) => format!("{trap} in {}", host.calling),
        None => format!("{} in {}", error.root_cause(), host.calling),
    };
    Box::new(Fault {
        kind,
        plugin: name.to_owned(),
        hash: hash.to_owned(),
        message,
        row: None,
        panic: host.panic.take(),
        backtrace: error
            .downcast_ref::<WasmBacktrace>()
            .map(|backtrace| guest_lines(&backtrace.to_string())),
    })
}
