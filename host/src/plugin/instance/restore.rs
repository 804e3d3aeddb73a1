use super::{Failed, Instance};
use crate::plugin::compiled::{CHECKPOINT, MIGRATE};
use crate::plugin::cursor::{Reply, Scalar, open};
use crate::plugin::error::{self, FaultKind, PluginError, guest_text};
use crate::plugin::host::HostState;
use crate::plugin::manifest::Manifest;
use crate::plugin::state::{BatchCall, Call, State};
use std::ops::Range;
use wasmtime::{Store, TypedFunc};

type Migrate = TypedFunc<(i32, i32, i32), i64>;

/// What only plugins with state export.
pub(super) struct Exports {
    pub checkpoint: Option<TypedFunc<(), i64>>,
    pub migrate: Option<Migrate>,
}

pub(super) fn exports(
    instance: &wasmtime::Instance,
    store: &mut Store<HostState>,
    manifest: &Manifest,
) -> wasmtime::Result<Exports> {
    if !manifest.has_state() {
        return Ok(Exports {
            checkpoint: None,
            migrate: None,
        });
    }
    let migrate = match instance.get_func(&mut *store, MIGRATE) {
        Some(function) => Some(function.typed(&*store)?),
        None => None,
    };
    Ok(Exports {
        checkpoint: Some(instance.get_typed_func(&mut *store, CHECKPOINT)?),
        migrate,
    })
}

pub(super) fn newer(plugin: &str, stored: u32, own: u32) -> PluginError {
    let headline = format!("plugin {plugin} can't take up its state: it is of a newer version");
    let cause = format!("the state has version {stored}, the module takes up to {own}");
    let help = format!("put the module of {plugin} that wrote the state, or a newer one, in its place");
    PluginError::refused_because(error::STATE, headline, cause, help)
}

pub(super) fn refused(plugin: &str, message: &str) -> PluginError {
    let headline = format!("plugin {plugin} refused its configuration or its state");
    let help = format!("correct `config:` of plugin {plugin}, or put the module that wrote the state in its place");
    PluginError::refused_because(error::STATE, headline, message, help)
}

impl Instance {
    /// Hands over state of an older version.
    pub(super) fn migrate(&mut self, function: Option<&Migrate>, state: &State) -> Result<(), PluginError> {
        let cant = |plugin: &str, cause: String| {
            let headline = format!("plugin {plugin} can't take up its state of version {}", state.version);
            let help = format!("give {plugin} a rowmill_migrate that takes version {}", state.version);
            PluginError::refused_because(error::STATE, headline, cause, help)
        };
        let Some(function) = function else {
            return Err(cant(&self.name, format!("it doesn't export {MIGRATE}")));
        };
        let called = self.place("rowmill_migrate", &[&state.bytes]).and_then(|(start, len)| {
            let replied = function.call(&mut self.store, (state.version as i32, start, len));
            self.answer(replied)
        });
        let range = match called {
            Ok(range) => range,
            Err(Failed::Fault(fault)) => return Err(PluginError::Fault(fault)),
            Err(Failed::TooLarge) => {
                let cause = format!("its {} bytes don't fit into the plugin's memory", state.bytes.len());
                return Err(cant(&self.name, cause));
            }
        };
        match open(self.reply(range)) {
            Ok(Reply::Done(..)) => Ok(()),
            Ok(Reply::Retryable(message) | Reply::Fatal(message)) => {
                Err(cant(&self.name, guest_text(message.as_bytes())))
            }
            Err(bad) => Err(PluginError::Fault(self.fault(FaultKind::BadReply, bad.to_string()))),
        }
    }

    /// Asks for the state; `None` where the plugin has none.
    pub fn checkpoint(&mut self, version: u32) -> Result<Option<State>, PluginError> {
        let Some(function) = self.checkpoint.clone() else {
            return Ok(None);
        };
        let called = self.place("rowmill_checkpoint", &[]).and_then(|_| {
            let replied = function.call(&mut self.store, ());
            self.answer(replied)
        });
        let range = match called {
            Ok(range) => range,
            Err(Failed::Fault(fault)) => return Err(PluginError::Fault(fault)),
            Err(Failed::TooLarge) => {
                let message = "there was no room for an input of no bytes".to_owned();
                return Err(PluginError::Fault(self.fault(FaultKind::Memory, message)));
            }
        };
        let given = match open(self.reply(range)) {
            Ok(Reply::Done(mut cursor, 1)) => match cursor.scalar() {
                Ok(Scalar::Bin(bytes)) if cursor.finish().is_ok() => Ok(bytes.into()),
                _ => Err("its checkpoint is not `[0, bin]`".to_owned()),
            },
            Ok(Reply::Done(..)) => Err("its checkpoint is not `[0, bin]`".to_owned()),
            Ok(Reply::Retryable(message) | Reply::Fatal(message)) => {
                let message = guest_text(message.as_bytes());
                return Err(PluginError::Fault(self.fault(FaultKind::Fatal, message)));
            }
            Err(bad) => Err(bad.to_string()),
        };
        match given {
            Ok(bytes) => Ok(Some(State { version, bytes })),
            Err(message) => Err(PluginError::Fault(self.fault(FaultKind::BadReply, message))),
        }
    }

    /// What the last batch has written by key counts.
    pub fn accept(&mut self) {
        if let Some(kv) = &mut self.store.data_mut().kv {
            kv.accept();
        }
    }

    /// The entries by key, where it has some.
    pub fn entries(&self) -> Option<crate::plugin::entries::SharedEntries> {
        self.store.data().kv.as_ref().map(|kv| kv.entries.clone())
    }

    /// Has it use them in another way from the next call on.
    pub fn change_entries(&mut self, change: impl FnOnce(&mut crate::plugin::SharedEntries)) {
        if let Some(kv) = &mut self.store.data_mut().kv {
            kv.take_back();
            change(&mut kv.entries);
        }
    }

    /// The last batch with all that went into it.
    pub fn last_call(&self, encoder: &crate::plugin::encode::Encoder) -> BatchCall {
        BatchCall {
            request: [&*encoder.head, &*encoder.body].concat(),
            commit_us: self.store.data().commit_us.clone(),
            seeds: encoder.seeds.clone(),
        }
    }

    /// Runs a call again that was accepted from an instance before this one; what it answers is thrown away.
    pub fn again(&mut self, call: &Call) -> Result<(), PluginError> {
        let called = match call {
            Call::Schema(request) => self.schema(request),
            Call::Batch(call) => {
                let host = self.store.data_mut();
                host.commit_us.clone_from(&call.commit_us);
                host.seeds.clone_from(&call.seeds);
                self.sequence += 1;
                self.call_batch(&[&call.request])
            }
        };
        // Counted already, and written already.
        self.store.data_mut().metrics.clear();
        self.accept();
        called.map(|_: Range<usize>| ()).map_err(|failed| match failed {
            Failed::Fault(fault) => PluginError::Fault(fault),
            Failed::TooLarge => {
                let message = "a call that it has taken before doesn't fit into its memory any more".to_owned();
                PluginError::Fault(self.fault(FaultKind::Memory, message))
            }
        })
    }
}
