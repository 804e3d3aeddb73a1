//! A guest in its store: how it starts, and what it is asked.

use crate::batch::Batch;
use crate::plugin::chain::PluginVersion;
use crate::plugin::compiled::check_abi;
use crate::plugin::cursor::{Reply, open};
use crate::plugin::deadline::Spent;
use crate::plugin::encode::Encoder;
use crate::plugin::engine::Engine;
use crate::plugin::entries::SharedEntries;
use crate::plugin::error::{self, Fault, FaultKind, PluginError, guest_text};
use crate::plugin::host::HostState;
use crate::plugin::kv;
use crate::plugin::state::{Kept, State};
use crate::plugin::write;
use call::{account_fuel, begin, fault};
use row_at_work::{RowAtWork, row_at_work};
use rowmill_abi::{ABI_VERSION, mode};
use std::ops::Range;
use wasmtime::{Memory, Store, StoreContextMut, TypedFunc, UpdateDeadline};

mod call;
/// State: taking it up, giving it, and running calls again.
mod restore;
mod row_at_work;

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

pub(crate) struct Instance {
    store: Store<HostState>,
    memory: Memory,
    alloc: TypedFunc<i32, i32>,
    free: TypedFunc<(i32, i32), ()>,
    schema: TypedFunc<(i32, i32), i64>,
    batch: TypedFunc<(i32, i32), i64>,
    /// Where the plugin keeps state.
    checkpoint: Option<TypedFunc<(), i64>>,
    /// Where the guest says which row it works on, if it does.
    row: Option<RowAtWork>,
    /// The buffer that the guest gave for its input: address and size.
    input: Range<usize>,
    output_max: u64,
    sequence: u64,
    pub name: String,
    version: Option<String>,
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
    /// # Errors
    ///
    /// A plugin that breaks while it starts, refuses its configuration, or can't take up the state that it gets.
    pub fn new(engine: &Engine, plugin: &PluginVersion, mode: Mode, kept: &Kept) -> Result<Self, PluginError> {
        let mut host = HostState::new(&plugin.name, &plugin.limits, plugin.module.log_budget());
        host.kv = plugin.limits.kv.map(|quota| {
            let own = || SharedEntries::new(&plugin.name, quota.0, []);
            kv::Access::new(kept.entries.clone().unwrap_or_else(own))
        });
        let mut store = Store::new(engine.wasmtime(), host);
        store.limiter(|host| &mut host.limiter);
        store.epoch_deadline_callback(
            |mut store: StoreContextMut<'_, HostState>| -> wasmtime::Result<UpdateDeadline> {
                Ok(store.data_mut().deadline.look())
            },
        );
        store.data_mut().is_metered = engine.is_metered;
        let (name, hash) = (plugin.name.clone(), plugin.module.hash_short().to_owned());
        let version = plugin.module.manifest().version.clone();
        begin(&mut store, START);
        let started = (|store: &mut Store<HostState>| {
            let instance = plugin.module.pre.instantiate(&mut *store)?;
            let memory = instance.get_memory(&mut *store, "memory");
            let memory = memory.ok_or_else(|| wasmtime::Error::msg("it has no memory"))?;
            let row = row_at_work(&mut *store, &instance);
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
            let state = restore::exports(&instance, store, plugin.module.manifest())?;
            Ok((memory, row, abi, init, alloc, free, schema, batch, state))
        })(&mut store);
        let (memory, row, abi, init, alloc, free, schema, batch, state) = match started {
            Ok(started) => started,
            Err(error) => return Err(PluginError::Fault(fault(&mut store, &name, version, &hash, &error))),
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
            checkpoint: state.checkpoint,
            row,
            input: 0..0,
            output_max,
            sequence: 0,
            name,
            version,
            hash,
            dead: false,
        };
        let version = plugin.module.manifest().state_version;
        let given = kept.state.as_ref();
        let own = given.filter(|state| state.version == version);
        if let Some(newer) = given.filter(|state| state.version > version) {
            return Err(restore::newer(&instance.name, newer.version, version));
        }
        instance.initialize(&init, plugin, mode, own)?;
        if let Some(older) = given.filter(|state| state.version < version) {
            instance.migrate(state.migrate.as_ref(), older)?;
        }
        Ok(instance)
    }

    fn initialize(
        &mut self,
        init: &TypedFunc<(i32, i32), i64>,
        plugin: &PluginVersion,
        mode: Mode,
        state: Option<&State>,
    ) -> Result<(), PluginError> {
        let request = init_request(plugin, mode, state).map_err(|cause| {
            let headline = format!("the configuration of plugin {} can't be handed over", self.name);
            PluginError::refused_because(error::INIT, headline, cause, "use plain YAML values under `config:`")
        })?;
        let range = match self.call("rowmill_init", init, &[&request]) {
            Ok(range) => range,
            Err(Failed::Fault(fault)) => return Err(PluginError::Fault(fault)),
            Err(Failed::TooLarge) => {
                let what = if state.is_some() {
                    "state and configuration"
                } else {
                    "the configuration"
                };
                let headline = format!("{what} of plugin {} doesn't fit into its memory", self.name);
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
        if state.is_some() {
            return Err(restore::refused(&self.name, &message));
        }
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
        self.forget_row();
        let called = self.call_batch(&[&encoder.head, &encoder.body]);
        std::mem::swap(&mut self.store.data_mut().seeds, &mut encoder.seeds);
        called
    }

    /// Entries by key may be written here, and nowhere else.
    fn call_batch(&mut self, parts: &[&[u8]]) -> Result<Range<usize>, Failed> {
        if let Some(kv) = &mut self.store.data_mut().kv {
            // What a call before has written and nobody has accepted.
            kv.take_back();
            kv.writable = true;
        }
        let function = self.batch.clone();
        let called = self.call("rowmill_batch", &function, parts);
        if let Some(kv) = &mut self.store.data_mut().kv {
            kv.writable = false;
        }
        called
    }

    /// The bytes of a reply. It was checked to lie in memory, which never shrinks.
    pub fn reply(&self, range: Range<usize>) -> &[u8] {
        self.memory.data(&self.store).get(range).unwrap_or_default()
    }

    /// Fuel of all calls so far; 0 where none is counted.
    pub fn fuel_used(&mut self) -> u64 {
        account_fuel(&mut self.store);
        self.store.data().fuel_used
    }

    /// The guest's memory now. It never shrinks.
    pub fn memory_bytes(&self) -> usize {
        self.memory.data_size(&self.store)
    }

    pub fn take_metrics(&mut self, into: &crate::plugin::GuestMetrics) {
        for metric in self.store.data_mut().take_metrics() {
            into.add(&self.name, metric);
        }
    }

    /// What the plugin counted since it was taken last.
    pub fn metrics(&self) -> &[crate::plugin::Metric] {
        &self.store.data().metrics
    }

    pub fn set_metrics(&mut self, metrics: Vec<crate::plugin::Metric>) {
        self.store.data_mut().metrics = metrics;
    }

    /// What an instance counted before it broke isn't lost.
    pub fn inherit_metrics(&mut self, broken: &mut Self) {
        let before = std::mem::take(&mut broken.store.data_mut().metrics);
        self.store.data_mut().inherit_metrics(before);
    }

    /// The instance must not be used again after what it has done.
    pub fn fault(&mut self, kind: FaultKind, message: String) -> Box<Fault> {
        self.die();
        self.failure(kind, message)
    }

    /// What it has done leaves it usable.
    pub fn failure(&self, kind: FaultKind, message: String) -> Box<Fault> {
        Box::new(Fault {
            kind,
            plugin: self.name.clone(),
            version: self.version.clone(),
            hash: self.hash.clone(),
            message,
            row: None,
            panic: None,
            backtrace: None,
        })
    }

    /// Since the last call began, and what had to be made ready for it.
    pub fn spent(&self) -> Spent {
        self.store.data().deadline.spent()
    }

    pub fn is_dead(&self) -> bool {
        self.dead
    }

    pub fn kill(&mut self) {
        self.die();
    }

    /// It is never called again, and what it has written in the call at hand never happened.
    fn die(&mut self) {
        self.dead = true;
        if let Some(kv) = &mut self.store.data_mut().kv {
            kv.take_back();
        }
    }
}

/// `[abi, host_features, name, config, mode, [memory bytes, time µs, output bytes], state, state_version]`
fn init_request(
    plugin: &PluginVersion,
    mode: Mode,
    state: Option<&State>,
) -> Result<Vec<u8>, rmp_serde::encode::Error> {
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
    match state {
        None => write::nil(&mut request),
        Some(state) => {
            write::bin_header(&mut request, state.bytes.len());
            request.extend_from_slice(&state.bytes);
        }
    }
    write::uint(&mut request, state.map_or(0, |state| u64::from(state.version)));
    Ok(request)
}
