//! The binary: everything it does stands in the library.

fn main() -> std::process::ExitCode {
    keep_freed_memory();
    rowmill::cli::main()
}

/// Batches of hundreds of KiB are made by one thread and freed by another, thousands in a second. As glibc has it, their
/// memory goes back to the system each time and is zeroed and mapped anew page by page: a tenth of a first copy's CPU. One
/// arena is enough where nothing is allocated for each row, and what one thread frees is there for the next. Rows of
/// megabytes still go back at once.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn keep_freed_memory() {
    let settings = [
        (libc::M_ARENA_MAX, 1),
        (libc::M_MMAP_THRESHOLD, 4 << 20),
        (libc::M_TRIM_THRESHOLD, 32 << 20),
    ];
    for (setting, value) in settings {
        #[allow(unsafe_code, reason = "no safe way to these settings")]
        // SAFETY: it sets a number, before there is another thread.
        unsafe {
            libc::mallopt(setting, value);
        }
    }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn keep_freed_memory() {}
