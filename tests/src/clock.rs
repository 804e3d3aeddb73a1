//! A wall clock that the process under test looks at, and that can be set: a library in front of the C library's. The
//! servers' own clocks stay as they are.

use anyhow::{Result, ensure};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Reads seconds to be added from a file that is mapped: no call of the system per look at the clock.
const SHIM: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
static long shift(void) {
    static volatile long *shared;
    if (!shared) {
        const char *path = getenv("ROWMILL_CLOCK");
        int file = path ? open(path, O_RDONLY) : -1;
        void *mapped = file < 0 ? MAP_FAILED : mmap(0, sizeof(long), PROT_READ, MAP_SHARED, file, 0);
        static long none;
        shared = mapped == MAP_FAILED ? &none : mapped;
    }
    return *shared;
}
int clock_gettime(clockid_t clock, struct timespec *time) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int failed = real(clock, time);
    if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) time->tv_sec += shift();
    return failed;
}
"#;

/// Shifts the wall clock of processes that run with its [variables](Self::variables).
#[derive(Debug)]
pub struct Clock {
    library: PathBuf,
    file: PathBuf,
}

impl Clock {
    /// In this folder, and not shifted. Takes a C compiler.
    pub fn new(folder: &Path) -> Result<Self> {
        std::fs::write(folder.join("clock.c"), SHIM)?;
        let build = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-o", "clock.so", "clock.c", "-ldl"])
            .current_dir(folder)
            .status()?;
        ensure!(build.success(), "cc: {build}");
        let clock = Self {
            library: folder.join("clock.so"),
            file: folder.join("clock"),
        };
        std::fs::write(&clock.file, 0_i64.to_ne_bytes())?;
        Ok(clock)
    }

    /// The environment of a process that looks at this clock.
    pub fn variables(&self) -> [(&'static str, String); 2] {
        [
            ("LD_PRELOAD", self.library.display().to_string()),
            ("ROWMILL_CLOCK", self.file.display().to_string()),
        ]
    }

    /// Seconds from the true time. In place: the file is mapped.
    pub fn set(&self, seconds: i64) -> Result<()> {
        let file = std::fs::File::options().write(true).open(&self.file)?;
        Ok(file.write_all_at(&seconds.to_ne_bytes(), 0)?)
    }
}
