//! A stub of WASI preview 1, for toolchains that can't do without it: output to the log, clock, random bytes, empty
//! environment and arguments. No file and no socket, ever: all else answers `ENOSYS`.

use super::error::GUEST_TEXT_MAX;
use super::host::{HostState, memory, random_bytes, range};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use wasmtime::{Caller, Error, ExternType, FuncType, Linker, Result, Val, ValType};

pub(crate) const MODULE: &str = "wasi_snapshot_preview1";

const SUCCESS: i32 = 0;
const EBADF: i32 = 8;
const EINVAL: i32 = 28;
const ENOSYS: i32 = 52;
/// Slices of one write that are looked at.
const IOVECS_MAX: i32 = 16;
/// How a guest's standard output appears in the log: as information.
const STDOUT_LEVEL: i32 = 3;

/// All functions of preview 1: <https://github.com/WebAssembly/WASI/blob/main/legacy/preview1/docs.md>
const FUNCTIONS: &str = " args_get args_sizes_get environ_get environ_sizes_get clock_res_get clock_time_get \
    fd_advise fd_allocate fd_close fd_datasync fd_fdstat_get fd_fdstat_set_flags fd_fdstat_set_rights \
    fd_filestat_get fd_filestat_set_size fd_filestat_set_times fd_pread fd_prestat_get fd_prestat_dir_name \
    fd_pwrite fd_read fd_readdir fd_renumber fd_seek fd_sync fd_tell fd_write path_create_directory \
    path_filestat_get path_filestat_set_times path_link path_open path_readlink path_remove_directory path_rename \
    path_symlink path_unlink_file poll_oneoff proc_exit proc_raise sched_yield random_get sock_accept sock_recv \
    sock_send sock_shutdown ";

pub(crate) fn is_function(name: &str) -> bool {
    !name.is_empty() && FUNCTIONS.split_ascii_whitespace().any(|known| known == name)
}

/// Offers one function to a module that imports it with the type `ty`.
pub(crate) fn define(linker: &mut Linker<HostState>, name: &str, ty: &ExternType) -> Result<()> {
    match name {
        "fd_write" => linker.func_wrap(MODULE, name, fd_write)?,
        "clock_time_get" => linker.func_wrap(MODULE, name, clock_time_get)?,
        "random_get" => linker.func_wrap(MODULE, name, random_get)?,
        "environ_sizes_get" | "args_sizes_get" => linker.func_wrap(MODULE, name, no_strings)?,
        "environ_get" | "args_get" => linker.func_wrap(MODULE, name, |_: i32, _: i32| SUCCESS)?,
        "sched_yield" => linker.func_wrap(MODULE, name, || SUCCESS)?,
        // Start-up code of libc asks from 3 upwards until it is told that there is no such descriptor.
        "fd_prestat_get" => linker.func_wrap(MODULE, name, |_: i32, _: i32| EBADF)?,
        "proc_exit" => linker.func_wrap(MODULE, name, |code: i32| -> Result<()> {
            Err(Error::msg(format!("the plugin called proc_exit({code})")))
        })?,
        _ => not_there(linker, name, ty)?,
    };
    Ok(())
}

fn not_there<'a>(linker: &'a mut Linker<HostState>, name: &str, ty: &ExternType) -> Result<&'a mut Linker<HostState>> {
    let ExternType::Func(ty) = ty else {
        return Err(Error::msg("no function"));
    };
    let results: Vec<ValType> = ty.results().collect();
    if !matches!(results.as_slice(), [ValType::I32]) {
        return Err(Error::msg("a function of WASI with a type of its own"));
    }
    let ty = FuncType::new(linker.engine(), ty.params(), results);
    linker.func_new(MODULE, name, ty, |_, _, results| {
        results[0] = Val::I32(ENOSYS);
        Ok(())
    })
}

fn fd_write(mut caller: Caller<'_, HostState>, fd: i32, iovecs: i32, count: i32, written: i32) -> Result<i32> {
    if fd != 1 && fd != 2 {
        return Ok(EBADF);
    }
    if !(0..=IOVECS_MAX).contains(&count) {
        return Ok(EINVAL);
    }
    let (memory, host) = memory(&mut caller)?;
    let mut total = 0u32;
    for at in 0..count {
        let ptr = word(memory, iovecs.wrapping_add(at * 8))?;
        let len = word(memory, iovecs.wrapping_add(at * 8 + 4))?;
        let text = &memory[range(ptr, len, memory.len())?];
        // No more of it is looked at than may be shown, and one byte that tells that there was more.
        let text = &text[..text.len().min(GUEST_TEXT_MAX + 1)];
        if !text.trim_ascii().is_empty() {
            host.log(STDOUT_LEVEL, text.trim_ascii_end());
        }
        total = total.wrapping_add(len as u32);
    }
    put(memory, written, &total.to_le_bytes())?;
    Ok(SUCCESS)
}

fn clock_time_get(mut caller: Caller<'_, HostState>, _clock: i32, _precision: i64, time: i32) -> Result<i32> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let (memory, _) = memory(&mut caller)?;
    put(memory, time, &(since.as_nanos() as u64).to_le_bytes())?;
    Ok(SUCCESS)
}

/// Repeatable per instance: what toolchains seed their hash tables with. Rows have `random` of the plugin ABI.
fn random_get(mut caller: Caller<'_, HostState>, ptr: i32, len: i32) -> Result<i32> {
    let (memory, host) = memory(&mut caller)?;
    let at = range(ptr, len, memory.len())?;
    host.random_counter += 1;
    host.random(0, host.random_counter, random_bytes(memory, at)?);
    Ok(SUCCESS)
}

fn no_strings(mut caller: Caller<'_, HostState>, count: i32, bytes: i32) -> Result<i32> {
    let (memory, _) = memory(&mut caller)?;
    put(memory, count, &[0; 4])?;
    put(memory, bytes, &[0; 4])?;
    Ok(SUCCESS)
}

fn word(memory: &[u8], ptr: i32) -> Result<i32> {
    let mut bytes = [0; 4];
    bytes.copy_from_slice(&memory[range(ptr, 4, memory.len())?]);
    Ok(i32::from_le_bytes(bytes))
}

fn put(memory: &mut [u8], ptr: i32, bytes: &[u8]) -> Result<()> {
    let at = range(ptr, bytes.len() as i32, memory.len())?;
    memory[at].copy_from_slice(bytes);
    Ok(())
}
