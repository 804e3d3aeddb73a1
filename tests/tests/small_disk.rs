//! H7, H8, S46: disks without room, ours and the server's, and one that fails, on real ones.

use rowmill_tests::{Cluster, ClusterOptions, Host, LONG, SHOP, Shop, SmallDisk, Writers, free_port, get, wait_until};
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

/// S46: the target takes nothing, so that the slot holds WAL until the server's disk is full and the server goes down.
/// The metrics tell who holds it; once there is room and the target takes rows, all of it arrives.
#[test]
#[ignore = "takes a minute"]
fn s46_the_servers_disk_is_full_of_what_our_slot_holds() {
    const DISK_BYTES: u64 = 192 << 20;
    const SEGMENT_BYTES: f64 = (16 << 20) as f64;
    let settings = ["min_wal_size=32MB", "max_wal_size=32MB"].map(str::to_owned).to_vec();
    let options = ClusterOptions {
        settings,
        ..ClusterOptions::default()
    };
    let source = match Cluster::start_on_disk(&options, DISK_BYTES) {
        Ok(source) => source,
        Err(error) => return println!("skipped, only root mounts disks: {error:#}"),
    };
    source.sql("postgres", "CREATE DATABASE source").unwrap();
    source.script("source", SHOP).unwrap();
    let shop = Shop::new().unwrap();
    let port = free_port().unwrap();
    let pipeline = shop
        .pipeline()
        .replace(&shop.cluster.url("source"), &source.url("source"))
        .replace("console: off", &format!("console: 127.0.0.1:{port}"));
    let mut host = Host::run(shop.folder(), &pipeline).unwrap();
    let insert = |id: u32| source.sql("source", &format!("INSERT INTO customers VALUES ({id}, 'a', 'b', 'c')"));
    let arrived = |host: &mut Host, ids: &str| {
        let there = "SELECT string_agg(id::text, ' ' ORDER BY id) FROM customers";
        shop.wait_target(host, there, ids).unwrap();
    };
    insert(1).unwrap();
    arrived(&mut host, "1");

    std::thread::scope(|scope| {
        scope.spawn(|| shop.target("BEGIN; LOCK TABLE customers; SELECT pg_sleep(300)"));
        let locked =
            "SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND relation = 'customers'::regclass";
        shop.wait_target(&mut host, locked, "1").unwrap();
        insert(2).unwrap();
        let switch = || {
            source.sql(
                "source",
                "INSERT INTO orders (id) VALUES (0); DELETE FROM orders; SELECT pg_switch_wal()",
            )
        };
        for _ in 0..4 {
            switch().unwrap();
        }
        shop.wait_for(&mut host, "the metrics show who holds the WAL", || {
            let (_, text) = get(port, "/metrics")?;
            let of = |line: &str| {
                line.strip_prefix("rowmill_slot_retained_bytes")?
                    .rsplit(' ')
                    .next()?
                    .parse::<f64>()
                    .ok()
            };
            Ok(text
                .lines()
                .find_map(of)
                .is_some_and(|bytes| bytes > 3.0 * SEGMENT_BYTES))
        })
        .unwrap();
        let full = (0..40).find(|_| switch().is_err());
        assert!(full.is_some(), "the server still has room");
        let says = |word: &str| source.log().contains(word);
        wait_until("the server says why", LONG, || {
            Ok(says("No space left on device").then_some(()))
        })
        .unwrap();
        // It tries to recover, and fails for want of room.
        wait_until("the server has gone", LONG, || {
            Ok(source.sql("source", "SELECT 1").is_err().then_some(()))
        })
        .unwrap();
        let told = || std::fs::read_to_string(shop.folder().join("log"));
        shop.wait_for(&mut host, "it is told", || {
            Ok(told()?.contains("the session ended and is begun again"))
        })
        .unwrap();
        shop.target("SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(300)'")
            .unwrap();
    });
    source.disk().unwrap().resize(4 * DISK_BYTES).unwrap();
    wait_until("the server is back", LONG, || match source.sql("source", "SELECT 1") {
        Ok(_) => Ok(Some(())),
        Err(_) => source.start_server().map(Some),
    })
    .unwrap();
    insert(3).unwrap();
    arrived(&mut host, "1 2 3");
    shop.wait_for(&mut host, "the server lets go of the WAL", || {
        let held = "SELECT pg_current_wal_lsn() - restart_lsn < 48 * 1048576 FROM pg_replication_slots";
        source.sql("source", "CHECKPOINT")?;
        Ok(source.sql("source", held)? == "t")
    })
    .unwrap();
    host.terminate().unwrap();
}
