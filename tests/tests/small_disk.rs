//! H7 and H8: a disk without room, and one that fails, on real ones.

use rowmill_tests::chaos::SmallDisk;
use rowmill_tests::{Host, LONG, Shop, Writers, wait_until};
use std::path::Path;
use std::process::{Child, Command, Stdio};

const BYTES: u64 = 32 << 20;

/// H7: a session that begins while the state can't be written is tried again, until there is room. Found by chaos: the
/// process ended.
#[test]
#[ignore = "the state's file may have room of its own for as long as the test waits: nightly"]
fn h7_a_session_that_begins_on_a_full_disk_waits_for_room() {
    let shop = Shop::new().unwrap();
    let disk = match SmallDisk::mount(&shop.folder().join("state"), BYTES) {
        Ok(disk) => disk,
        Err(error) => return println!("skipped, only root mounts disks: {error:#}"),
    };
    let pipeline = shop.pipeline().replace("lanes: 2", "lanes: 2\nstate_dir: state");
    let mut host = Host::run(shop.folder(), &pipeline).unwrap();
    shop.source("INSERT INTO customers VALUES (1, 'a', 'b', 'c')").unwrap();
    shop.wait_equal(&mut host).unwrap();
    disk.fill().unwrap();
    let writers = Writers::start(&shop.cluster, "source", 1, 5).unwrap();
    let says = |word: &str| {
        let log = std::fs::read_to_string(shop.folder().join("log"));
        log.is_ok_and(|log| log.contains(word))
    };
    shop.wait_for(&mut host, "it is told", || Ok(says("no room to store the position")))
        .unwrap();
    shop.source("SELECT pg_terminate_backend(pid) FROM pg_stat_replication")
        .unwrap();
    shop.wait_for(&mut host, "the session is tried again", || {
        Ok(says("the session ended and is begun again"))
    })
    .unwrap();
    // Not a condition: this is how long the disk happens to be full.
    std::thread::sleep(std::time::Duration::from_secs(2));
    host.must_run().unwrap();
    disk.free().unwrap();
    writers.stop().unwrap();
    shop.wait_equal(&mut host).unwrap();
    host.terminate().unwrap();
}

/// H8: what a failed fsync was to keep may be gone from the page cache though the next one succeeds. So the process
/// ends at the first, never syncs that file again, and acknowledges nothing; the next start goes on from what was stored.
#[test]
fn h8_a_failed_fsync_of_the_state_ends_the_process() {
    let shop = Shop::new().unwrap();
    let mut host = Host::run(shop.folder(), &shop.pipeline()).unwrap();
    shop.source("INSERT INTO customers VALUES (1, 'a', 'b', 'c')").unwrap();
    shop.wait_equal(&mut host).unwrap();
    let trace = shop.folder().join("trace");
    let Some(mut strace) = inject(host.pid(), "fsync,fdatasync:error=EIO", &trace) else {
        return println!("skipped: no strace, or this user may not trace");
    };
    shop.source("INSERT INTO customers VALUES (2, 'a', 'b', 'c')").unwrap();
    let status = host.wait(LONG).unwrap();
    strace.wait().unwrap();
    assert_eq!(status.code(), Some(2), "{}", host.log());
    assert!(host.log().contains("error[E0507]"), "{}", host.log());
    let trace = std::fs::read_to_string(trace).unwrap();
    let syncs = trace.lines().filter(|line| line.contains("state.redb>"));
    assert_eq!(syncs.count(), 1, "{trace}");
    let mut host = Host::run(shop.folder(), &shop.pipeline()).unwrap();
    shop.wait_equal(&mut host).unwrap();
    host.terminate().unwrap();
}

/// Attaches strace, which has calls fail. Returns once it is there; `None` where it can't be.
fn inject(pid: u32, what: &str, trace: &Path) -> Option<Child> {
    let calls = what.split(':').next()?;
    let mut strace = Command::new("strace")
        .args(["-f", "-y", "-p", &pid.to_string(), "-e", &format!("trace={calls}")])
        .args(["-e", &format!("inject={what}"), "-o"])
        .arg(trace)
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let traced = || -> anyhow::Result<Option<()>> {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        Ok((!status.contains("TracerPid:\t0\n")).then_some(()))
    };
    let there = wait_until("it is traced", LONG, || match strace.try_wait()? {
        Some(_) => anyhow::Ok(Some(false)),
        None => Ok(traced()?.map(|()| true)),
    });
    there.unwrap().then_some(strace)
}
