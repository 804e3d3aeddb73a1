//! Calling a guest: the buffers that cross, the clock, and what a trap tells.

use super::{Failed, Instance};
use crate::plugin::error::{Fault, FaultKind, guest_lines};
use crate::plugin::host::HostState;
use std::ops::Range;
use wasmtime::{Store, Trap, TypedFunc, WasmBacktrace};

/// The smallest input buffer that is asked for; it grows by doubling.
const INPUT_BYTES_MIN: usize = 64 * 1024;

/// Fuel of one call. An optimised guest burns about a thousand per row, so that this stops endless loops alone.
const FUEL_PER_CALL: u64 = 10_000_000_000;

impl Instance {
    pub(super) fn call(
        &mut self,
        name: &'static str,
        function: &TypedFunc<(i32, i32), i64>,
        parts: &[&[u8]],
    ) -> Result<Range<usize>, Failed> {
        let (start, len) = self.place(name, parts)?;
        let replied = function.call(&mut self.store, (start, len));
        self.answer(replied)
    }

    /// Writes the input into the guest and starts the clock. Returns where it lies.
    pub(super) fn place(&mut self, name: &'static str, parts: &[&[u8]]) -> Result<(i32, i32), Failed> {
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
        Ok((self.input.start as i32, len as i32))
    }

    /// Where the reply lies, checked to be in memory.
    pub(super) fn answer(&mut self, replied: wasmtime::Result<i64>) -> Result<Range<usize>, Failed> {
        let reply = match replied {
            Ok(reply) => reply as u64,
            Err(error) => return Err(self.trapped(&error)),
        };
        let (start, len) = ((reply >> 32) as usize, reply as u32 as usize);
        let memory_len = self.memory.data_size(&self.store);
        let message = if reply == 0 {
            "it answered nothing".to_owned()
        } else if len as u64 > self.output_max {
            let message = format!(
                "its reply of {len} bytes is larger than the limit of {}",
                self.output_max
            );
            return Err(Failed::Fault(self.failure(FaultKind::Output, message)));
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
        if len as u64 > self.store.data().limiter.memory_bytes as u64 {
            return Err(Failed::TooLarge);
        }
        let wanted = len.max(INPUT_BYTES_MIN).checked_next_power_of_two();
        let wanted = wanted.ok_or(Failed::TooLarge)?;
        if !self.input.is_empty() {
            let old = std::mem::take(&mut self.input);
            self.store.data_mut().calling = "rowmill_free";
            let freed = self.free.call(&mut self.store, (old.start as i32, old.len() as i32));
            freed.map_err(|error| self.trapped(&error))?;
        }
        self.store.data_mut().calling = "rowmill_alloc";
        // A buffer that is larger than it need be may not fit where one that isn't does.
        let (mut start, mut size) = (0, 0);
        for bytes in [wanted, len.next_multiple_of(8)] {
            size = bytes;
            let bytes = i32::try_from(bytes).map_err(|_| Failed::TooLarge)?;
            start = match self.alloc.call(&mut self.store, bytes) {
                Ok(start) => start,
                Err(error) => {
                    let failed = self.trapped(&error);
                    // It gave up for want of memory, before it has seen a row.
                    let no_memory = self.store.data().limiter.memory_hit;
                    return Err(if no_memory { Failed::TooLarge } else { failed });
                }
            };
            if start != 0 {
                break;
            }
        }
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

    pub(super) fn trapped(&mut self, error: &wasmtime::Error) -> Failed {
        self.die();
        let version = self.version.clone();
        Failed::Fault(fault(&mut self.store, &self.name, version, &self.hash, error))
    }
}

/// Adds what was burnt since the last time, and fills up.
pub(super) fn account_fuel(store: &mut Store<HostState>) {
    if !store.data().is_metered {
        return;
    }
    // Before the first call there is none.
    let left = store.get_fuel().unwrap_or(0);
    let host = store.data_mut();
    if host.has_fuel {
        host.fuel_used += FUEL_PER_CALL.saturating_sub(left);
    }
    host.has_fuel = true;
    // Only fails where the engine counts none.
    let _ = store.set_fuel(FUEL_PER_CALL);
}

/// Starts the clock of a call: of the whole start, or of an export with what is allocated for it.
pub(super) fn begin(store: &mut Store<HostState>, calling: &'static str) {
    account_fuel(store);
    let host = store.data_mut();
    host.calling = calling;
    host.panic = None;
    host.limiter.memory_hit = false;
    let ticks = host.deadline.begin();
    store.set_epoch_deadline(ticks);
}

/// A call that did not return: what it was, and what the guest said of it.
pub(super) fn fault(
    store: &mut Store<HostState>,
    name: &str,
    version: Option<String>,
    hash: &str,
    error: &wasmtime::Error,
) -> Box<Fault> {
    let host = store.data_mut();
    let out_of_fuel = matches!(error.downcast_ref::<Trap>(), Some(Trap::OutOfFuel));
    let kind = if host.deadline.expired || out_of_fuel {
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
        version,
        hash: hash.to_owned(),
        message,
        row: None,
        panic: host.panic.take(),
        backtrace: error
            .downcast_ref::<WasmBacktrace>()
            .map(|backtrace| guest_lines(&backtrace.to_string())),
    })
}
