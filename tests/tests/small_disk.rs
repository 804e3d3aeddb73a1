//! H7, H8, S46: disks without room, ours and the server's, and one that fails, on real ones.

use rowmill_tests::{
    Cluster, ClusterOptions, Host, Injection, LONG, Lines, SHOP, Shop, SmallDisk, Writers, free_port, get, wait_until,
};

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
    shop.wait_said(&mut host, "no room to store the position", 1).unwrap();
    shop.source("SELECT pg_terminate_backend(pid) FROM pg_stat_replication")
        .unwrap();
    shop.wait_said(&mut host, "the session ended and is begun again", 1)
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
    let Some(injection) = Injection::attach(host.pid(), "fsync,fdatasync:error=EIO", None, &trace).unwrap() else {
        return println!("skipped: no strace, or this user may not trace");
    };
    shop.source("INSERT INTO customers VALUES (2, 'a', 'b', 'c')").unwrap();
    let status = host.wait(LONG).unwrap();
    let calls = injection.ended().unwrap();
    assert_eq!(status.code(), Some(2), "{}", host.log());
    assert!(host.log().contains("error[E0507]"), "{}", host.log());
    let syncs = calls.iter().filter(|call| call.contains("state.redb>"));
    assert_eq!(syncs.count(), 1, "{calls:?}");
    let mut host = Host::run(shop.folder(), &shop.pipeline()).unwrap();
    shop.wait_equal(&mut host).unwrap();
    host.terminate().unwrap();
}

/// H7: calls of the system that say that there is no room, for the state alone, whatever room there is. The old position
/// stays, and it goes on once they don't.
#[test]
fn h7_calls_that_find_no_room_for_the_state_are_tried_again() {
    let shop = Shop::new().unwrap();
    // Nothing is left to be copied: a copy that can't be entered in the ledger has the session begin again.
    Host::verb(shop.folder(), &shop.pipeline(), &["run", "--once"], 0).unwrap();
    let mut host = Host::run(shop.folder(), &shop.pipeline()).unwrap();
    let insert = |id: u32| {
        shop.source(&format!("INSERT INTO customers VALUES ({id}, 'a', 'b', 'c')"))
            .unwrap()
    };
    insert(1);
    shop.wait_equal(&mut host).unwrap();
    let acknowledged = || {
        shop.source("SELECT confirmed_flush_lsn FROM pg_replication_slots")
            .unwrap()
    };
    let state = shop.folder().join(".rowmill/shop/state.redb");
    let calls = "pwrite64,write,fdatasync,fsync:error=ENOSPC";
    let Some(injection) = Injection::attach(host.pid(), calls, Some(&state), &shop.folder().join("trace")).unwrap()
    else {
        return println!("skipped: no strace, or this user may not trace");
    };
    let before = acknowledged();
    insert(2);
    shop.wait_said(&mut host, "no room to store the position", 1).unwrap();
    // Rows go on meanwhile.
    shop.wait_equal(&mut host).unwrap();
    assert!(injection.injected() > 0, "{:?}", injection.calls());
    assert_eq!(acknowledged(), before);
    drop(injection);
    shop.wait_for(&mut host, "the position goes on", || Ok(acknowledged() != before))
        .unwrap();
    insert(3);
    shop.wait_equal(&mut host).unwrap();
    host.terminate().unwrap();
}

/// K8: the same for the file that lines go to. No line is torn, and none is there twice.
#[test]
fn k8_calls_that_find_no_room_for_a_file_are_tried_again() {
    let shop = Shop::new().unwrap();
    let routes = "routes:\n  - { tables: [public.orders, public.customers], sinks: [feed] }";
    let pipeline = shop.pipeline_of("public.orders, public.customers", routes);
    let mut host = Host::run(shop.folder(), &pipeline).unwrap();
    let feed = shop.folder().join("out/feed.jsonl");
    let insert = |id: u32| {
        shop.source(&format!("INSERT INTO customers VALUES ({id}, 'a', 'b', 'c')"))
            .unwrap()
    };
    let has = |host: &mut Host, count: usize| {
        shop.wait_for(host, "the lines are there", || {
            Ok(Lines::read(&feed)?.rows.len() == count)
        })
        .unwrap();
    };
    insert(1);
    has(&mut host, 1);
    let calls = "write,pwrite64,writev:error=ENOSPC";
    let Some(injection) = Injection::attach(host.pid(), calls, Some(&feed), &shop.folder().join("trace")).unwrap()
    else {
        return println!("skipped: no strace, or this user may not trace");
    };
    insert(2);
    shop.wait_said(&mut host, "the sink failed and is opened again", 1)
        .unwrap();
    assert!(injection.injected() > 0, "{:?}", injection.calls());
    drop(injection);
    insert(3);
    has(&mut host, 3);
    host.terminate().unwrap();
    Lines::read(&feed).unwrap().streamed_once().unwrap();
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
    let pipeline = Shop::with_console(&shop.at(&source, &shop.pipeline()), port);
    let mut host = Host::run(shop.folder(), &pipeline).unwrap();
    let insert = |id: u32| source.sql("source", &format!("INSERT INTO customers VALUES ({id}, 'a', 'b', 'c')"));
    let arrived = |host: &mut Host, ids: &str| {
        let there = "SELECT string_agg(id::text, ' ' ORDER BY id) FROM customers";
        shop.wait_target(host, there, ids).unwrap();
    };
    insert(1).unwrap();
    arrived(&mut host, "1");

    let held = shop.cluster.hold("target", "LOCK TABLE customers").unwrap();
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
    shop.wait_said(&mut host, "the session ended and is begun again", 1)
        .unwrap();
    held.release().unwrap();
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
