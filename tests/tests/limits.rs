//! H5, H16: too little memory, and very many tables.

use rowmill_tests::{Host, LONG, Shop, wait_until};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// What the process may take beyond what it has: less than one of the rows.
const MORE_BYTES: u64 = 8 << 20;
const ROW_CHARS: u64 = 16 << 20;
const TABLES: u64 = 10_000;
/// Of a release build; the build of the tests isn't optimised.
const UP: Duration = Duration::from_secs(10);
const UNOPTIMISED: u32 = 3;

/// A memory cgroup of version 1 or 2, which root may make.
struct Group(PathBuf);

impl Group {
    fn new(name: &str, bytes: u64) -> std::io::Result<Self> {
        let first = PathBuf::from("/sys/fs/cgroup/memory");
        let is_first = first.exists();
        let folder = if is_first { first } else { "/sys/fs/cgroup".into() }.join(name);
        std::fs::create_dir(&folder)?;
        let group = Self(folder);
        let limit = if is_first {
            "memory.limit_in_bytes"
        } else {
            "memory.max"
        };
        std::fs::write(group.0.join(limit), bytes.to_string())?;
        Ok(group)
    }

    fn take(&self, pid: u32) -> std::io::Result<()> {
        std::fs::write(self.0.join("cgroup.procs"), pid.to_string())
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.0);
    }
}

/// H5: the kernel ends the process for want of memory, amid a row; the next start has everything.
#[test]
fn h5_killed_for_want_of_memory() {
    let shop = Shop::new().unwrap();
    let mut host = Host::run(shop.folder(), &shop.pipeline()).unwrap();
    shop.source("INSERT INTO customers VALUES (1, 'a', 'b', 'c')").unwrap();
    shop.wait_equal(&mut host).unwrap();
    let name = format!("rowmill-h5-{}", host.pid());
    // What it has taken so far counts elsewhere.
    let group = match Group::new(&name, MORE_BYTES).and_then(|group| group.take(host.pid()).map(|()| group)) {
        Ok(group) => group,
        Err(error) => return println!("skipped, only root makes memory cgroups: {error}"),
    };
    let large = format!(
        "INSERT INTO orders SELECT n, 1, 'paid', 'c', 1, repeat('x', {ROW_CHARS}) FROM generate_series(1, 4) n"
    );
    shop.source(&large).unwrap();
    let status = host.wait(LONG).unwrap();
    assert_eq!(status.signal(), Some(libc::SIGKILL), "{status}\n{}", host.log());
    drop(group);
    let mut host = Host::run(shop.folder(), &shop.pipeline()).unwrap();
    shop.wait_equal(&mut host).unwrap();
    host.terminate().unwrap();
}

/// H16: with very many tables the stream begins soon.
#[test]
#[ignore = "makes 10,000 tables"]
fn h16_ten_thousand_tables() {
    let shop = Shop::new().unwrap();
    let tables: String = (0..TABLES)
        .map(|n| format!("CREATE TABLE many.t{n} (id bigint PRIMARY KEY, a int, b text);\n"))
        .collect();
    shop.cluster
        .script("source", &format!("CREATE SCHEMA many;\n{tables}"))
        .unwrap();
    let pipeline = shop
        .pipeline_of("many.*", "routes:\n  - { tables: [many.*], sinks: [feed] }")
        .replace("mode: initial", "mode: never");
    let start = |what: &str| {
        let began = Instant::now();
        let mut host = Host::run(shop.folder(), &pipeline).unwrap();
        wait_until("it streams", Duration::from_secs(300), || {
            host.must_run()?;
            let slots = shop.source("SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'")?;
            Ok((slots == "1").then_some(()))
        })
        .unwrap();
        let took = began.elapsed();
        let status = std::fs::read_to_string(format!("/proc/{}/status", host.pid())).unwrap();
        let memory = status
            .lines()
            .find(|line| line.starts_with("VmHWM"))
            .unwrap_or_default()
            .to_owned();
        println!("{what} with {TABLES} tables: {took:?}, {memory}");
        host.terminate().unwrap();
        took
    };
    // The first makes publication and slot.
    start("a first start");
    let took = start("a start");
    assert!(took < UP * UNOPTIMISED, "{took:?}");
}
