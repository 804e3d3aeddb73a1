//! S21, S22, S41, S42: servers that have other positions than ours, each made with real servers.

use rowmill_tests::{Cluster, Host, Shop};

const TABLES: &str = "CREATE TABLE orders (id int PRIMARY KEY, note text)";
const ROWS: &str = "SELECT string_agg(id::text, ',' ORDER BY id) FROM orders";

fn pipeline(shop: &Shop) -> String {
    let routes = "routes:\n  - { tables: [public.orders], sinks: [warehouse] }";
    shop.pipeline_of("public.orders", routes)
}

/// The pipeline with its source at another server.
fn at(shop: &Shop, server: &Cluster) -> String {
    shop.at(server, &pipeline(shop))
}

fn refused(shop: &Shop, server: &Cluster, texts: &[&str]) {
    let (out, errors) = Host::verb(shop.folder(), &at(shop, server), &["check"], 4).unwrap();
    let said = shop.once(&at(shop, server), 4).unwrap();
    for text in texts {
        assert!(said.contains(text), "{text} isn't in: {said}");
    }
    assert!(out.contains(texts[0]) || errors.contains(texts[0]), "{out}{errors}");
}

fn replayed(server: &Cluster, id: i32) {
    let there = format!("SELECT count(*) FROM orders WHERE id = {id}");
    server.wait_sql("source", &there, "1").unwrap();
}

/// S21: the slot was moved on by hand while nobody streamed from it.
#[test]
fn s21_a_slot_that_was_advanced_is_a_gap() {
    let shop = Shop::with(TABLES).unwrap();
    shop.once(&pipeline(&shop), 0).unwrap();
    shop.source("INSERT INTO orders VALUES (1)").unwrap();
    shop.source("SELECT pg_replication_slot_advance('rowmill_shop', pg_current_wal_lsn())")
        .unwrap();
    shop.source("INSERT INTO orders VALUES (2)").unwrap();
    for _ in 0..2 {
        refused(&shop, &shop.cluster, &["E0510", "gap from"]);
    }
    assert_eq!(shop.target(ROWS).unwrap(), "");
}

/// S22, S41, S42: a backup that is older than what we have; a standby that was promoted without the slot; one that has the
/// slot and lagged behind; and one that had all, which is followed.
#[test]
#[ignore = "makes four servers"]
fn s22_s41_s42_a_standby_is_followed_where_it_had_all() {
    let shop = Shop::with(TABLES).unwrap();
    shop.source("INSERT INTO orders VALUES (1)").unwrap();
    shop.once(&pipeline(&shop), 0).unwrap();
    let primary = &shop.cluster;
    // As a synchronised slot, this one is on the copies, too.
    primary.stop_server("fast").unwrap();
    let backup = primary.copied(&[], &[]).unwrap();
    let lagging = primary.standby().unwrap();
    let synced = primary.standby().unwrap();
    let bare = primary.copied(&[], &["standby.signal"]).unwrap();
    std::fs::remove_dir_all(bare.data().join("pg_replslot/rowmill_shop")).unwrap();
    primary.start_server().unwrap();
    lagging.start_server().unwrap();
    synced.start_server().unwrap();
    shop.source("INSERT INTO orders VALUES (2)").unwrap();
    replayed(&lagging, 2);
    lagging.stop_server("fast").unwrap();
    shop.source("INSERT INTO orders VALUES (3)").unwrap();
    shop.once(&pipeline(&shop), 0).unwrap();
    assert_eq!(shop.target(ROWS).unwrap(), "1,2,3");

    backup.start_server().unwrap();
    refused(&shop, &backup, &["E0512", "beyond the server's WAL"]);

    bare.start_server().unwrap();
    bare.promote().unwrap();
    // Nor has it the slot: to go on without that would be accepted, had it not lagged.
    refused(&shop, &bare, &["E0517", "the timelines part at"]);
    let said = shop.once(&at(&shop, &bare), 4).unwrap();
    let from = said
        .split("our position is ")
        .nth(1)
        .and_then(|rest| rest.split(',').next());
    let accepting = ["run", "--once", "--accept-gap", from.unwrap()];
    let (_, said) = Host::verb(shop.folder(), &at(&shop, &bare), &accepting, 4).unwrap();
    assert!(said.contains("E0517"), "{said}");

    // It never had row 3, and by now its WAL is beyond where ours ends.
    lagging.start_promoted().unwrap();
    let much = "INSERT INTO orders SELECT n, repeat('x', 100) FROM generate_series(100, 20000) n";
    lagging.sql("source", much).unwrap();
    refused(&shop, &lagging, &["E0517", "the timelines part at"]);
    assert_eq!(shop.target(ROWS).unwrap(), "1,2,3");

    shop.source("INSERT INTO orders VALUES (4)").unwrap();
    replayed(&synced, 4);
    synced.stop_server("fast").unwrap();
    synced.start_promoted().unwrap();
    synced.sql("source", "INSERT INTO orders VALUES (5)").unwrap();
    let said = shop.once(&at(&shop, &synced), 0).unwrap();
    assert!(said.contains("the server was promoted"), "{said}");
    assert_eq!(shop.target(ROWS).unwrap(), "1,2,3,4,5");
}

/// S22, S42: a copy of the server's folder with its slot, of the same timeline, which was written to until it was beyond our
/// position. Nothing but its transactions tells it from the server that it was made of.
#[test]
fn s22_s42_a_copy_of_the_server_that_went_on_by_itself_is_refused() {
    let shop = Shop::with(TABLES).unwrap();
    shop.source("CREATE TABLE unpublished (note text)").unwrap();
    shop.source("INSERT INTO orders VALUES (1)").unwrap();
    shop.once(&pipeline(&shop), 0).unwrap();
    shop.source("INSERT INTO orders VALUES (2)").unwrap();
    shop.once(&pipeline(&shop), 0).unwrap();
    let primary = &shop.cluster;
    let copy = || {
        primary.stop_server("fast").unwrap();
        let copy = primary.copied(&[], &[]).unwrap();
        primary.start_server().unwrap();
        copy
    };
    let much = "INSERT INTO unpublished SELECT repeat('x', 100) FROM generate_series(1, 20000) n";
    let went_on = |copy: &Cluster| {
        copy.start_server().unwrap();
        copy.sql("source", "INSERT INTO orders VALUES (100)").unwrap();
        for _ in 0..2 {
            copy.sql("source", much).unwrap();
        }
        refused(&shop, copy, &["E0518", "another history"]);
        copy.stop_server("fast").unwrap();
    };

    // The server that it was made of wrote, too.
    let cloned = copy();
    shop.source("INSERT INTO orders VALUES (3)").unwrap();
    shop.once(&pipeline(&shop), 0).unwrap();
    went_on(&cloned);

    // The server that it was made of wrote nothing that we have.
    let cloned = copy();
    for _ in 0..2 {
        shop.source(much).unwrap();
        shop.once(&pipeline(&shop), 0).unwrap();
    }
    cloned.start_server().unwrap();
    cloned.sql("source", much).unwrap();
    cloned.stop_server("fast").unwrap();
    went_on(&cloned);

    // A crash puts the slot back on the server itself, and it goes on.
    shop.source("INSERT INTO orders VALUES (4)").unwrap();
    shop.once(&pipeline(&shop), 0).unwrap();
    primary.stop_server("immediate").unwrap();
    primary.start_server().unwrap();
    shop.source("INSERT INTO orders VALUES (5)").unwrap();
    shop.once(&pipeline(&shop), 0).unwrap();
    assert_eq!(shop.target(ROWS).unwrap(), "1,2,3,4,5");
}

/// The same where transactions are streamed as they are prepared: their rows came before, and their commits tell who it is.
#[test]
fn s22_s42_a_copy_of_a_server_with_prepared_transactions_is_refused() {
    let shop = Shop::with(TABLES).unwrap();
    let version: u32 = shop.source("SHOW server_version_num").unwrap().parse().unwrap();
    if version < 150_000 {
        return;
    }
    let primary = &shop.cluster;
    primary.set(&["max_prepared_transactions=10".into()]).unwrap();
    primary.stop_server("fast").unwrap();
    primary.start_server().unwrap();
    shop.source("CREATE TABLE unpublished (note text)").unwrap();
    let two_phase = |pipeline: String| pipeline.replace("    snapshot:", "    two_phase: true\n    snapshot:");
    let once = |server: &Cluster, code| shop.once(&two_phase(at(&shop, server)), code).unwrap();
    shop.source("INSERT INTO orders VALUES (1)").unwrap();
    once(primary, 0);
    let prepare = "BEGIN; INSERT INTO orders VALUES (2); PREPARE TRANSACTION 'ours'";
    primary.script("source", prepare).unwrap();
    once(primary, 0);
    primary.stop_server("fast").unwrap();
    let cloned = primary.copied(&[], &[]).unwrap();
    primary.start_server().unwrap();

    // Also of one that was prepared before and had nothing for us.
    let bare = "BEGIN; INSERT INTO unpublished VALUES ('x'); PREPARE TRANSACTION 'bare'; COMMIT PREPARED 'bare'";
    primary.script("source", "COMMIT PREPARED 'ours'").unwrap();
    primary.script("source", bare).unwrap();
    once(primary, 0);
    assert_eq!(shop.target(ROWS).unwrap(), "1,2");
    // A crash puts the slot back on the server itself, and it goes on.
    for id in [3, 4] {
        primary.stop_server("immediate").unwrap();
        primary.start_server().unwrap();
        shop.source(&format!("INSERT INTO orders VALUES ({id})")).unwrap();
        let said = once(primary, 0);
        assert!(!said.contains("can't be told"), "{said}");
    }
    assert_eq!(shop.target(ROWS).unwrap(), "1,2,3,4");

    cloned.start_server().unwrap();
    cloned.script("source", "ROLLBACK PREPARED 'ours'").unwrap();
    cloned.sql("source", "INSERT INTO orders VALUES (100)").unwrap();
    for _ in 0..2 {
        let much = "INSERT INTO unpublished SELECT repeat('x', 100) FROM generate_series(1, 20000) n";
        cloned.sql("source", much).unwrap();
    }
    for _ in 0..2 {
        let said = once(&cloned, 4);
        assert!(said.contains("E0518") && said.contains("another history"), "{said}");
    }
    assert_eq!(shop.target(ROWS).unwrap(), "1,2,3,4");
}

/// As much WAL as isn't decoded once more at a start: then it is said that nothing was compared.
#[test]
#[ignore = "writes more than 2 GiB of WAL"]
fn s22_s42_what_cant_be_compared_is_told() {
    let shop = Shop::with(TABLES).unwrap();
    let primary = &shop.cluster;
    shop.source("INSERT INTO orders VALUES (1)").unwrap();
    shop.once(&pipeline(&shop), 0).unwrap();
    primary.stop_server("fast").unwrap();
    let cloned = primary.copied(&[], &[]).unwrap();
    primary.start_server().unwrap();
    let far = |server: &Cluster, segments: u32| {
        for _ in 0..segments {
            let next = "SELECT pg_logical_emit_message(false, 'of', 'any'); SELECT pg_switch_wal()";
            server.sql("source", next).unwrap();
        }
    };
    far(primary, 66);
    shop.source("INSERT INTO orders VALUES (2)").unwrap();
    shop.once(&pipeline(&shop), 0).unwrap();
    cloned.start_server().unwrap();
    far(&cloned, 70);
    let said = shop.once(&at(&shop, &cloned), 0).unwrap();
    let told = "whether the server's history is ours can't be told";
    assert!(
        said.contains(told) && said.contains("would have to be decoded"),
        "{said}"
    );
}

/// S41: a slot that the standby keeps, from version 17 on, is there when the standby is promoted: the stream goes on with what
/// hadn't left yet. Older servers have no such slots, and say so where one is asked for.
#[test]
fn s41_a_failover_slot_is_followed_to_the_standby() {
    let shop = Shop::with(TABLES).unwrap();
    let version: u32 = shop.source("SHOW server_version_num").unwrap().parse().unwrap();
    if version < 170_000 {
        let asking = pipeline(&shop).replace("    snapshot:", "    failover_slot: true\n    snapshot:");
        let (out, errors) = Host::verb(shop.folder(), &asking, &["check"], 3).unwrap();
        assert!(format!("{out}{errors}").contains("E0225"), "{out}{errors}");
        return;
    }
    let primary = &shop.cluster;
    shop.source("SELECT pg_create_physical_replication_slot('standby', true)")
        .unwrap();
    primary.stop_server("fast").unwrap();
    let conninfo = format!("host=127.0.0.1 port={} user=postgres dbname=source", primary.port());
    let follows = [
        format!("primary_conninfo='{conninfo}'"),
        "primary_slot_name=standby".into(),
        "hot_standby_feedback=on".into(),
        "sync_replication_slots=on".into(),
    ];
    let standby = primary.copied(&follows, &["standby.signal"]).unwrap();
    std::fs::remove_dir_all(standby.data().join("pg_replslot/standby")).unwrap();
    primary.start_server().unwrap();
    standby.start_server().unwrap();

    let mut host = Host::run(shop.folder(), &pipeline(&shop)).unwrap();
    let is_failover = "SELECT failover FROM pg_replication_slots WHERE slot_name = 'rowmill_shop'";
    shop.wait_for(&mut host, "a failover slot is made", || {
        Ok(shop.source(is_failover)? == "t")
    })
    .unwrap();
    let checked = Host::verb(shop.folder(), &pipeline(&shop), &["check"], 0).unwrap();
    assert!(format!("{checked:?}").contains("E0227"), "{checked:?}");
    let synced =
        "SELECT count(*) FROM pg_replication_slots WHERE slot_name = 'rowmill_shop' AND synced AND NOT temporary";
    let mut id = 0;
    shop.wait_for(&mut host, "the standby keeps the slot", || {
        id += 1;
        shop.source(&format!(
            "INSERT INTO orders VALUES ({id}); SELECT pg_log_standby_snapshot()"
        ))?;
        std::thread::sleep(std::time::Duration::from_millis(200));
        Ok(standby.sql("source", synced)? == "1")
    })
    .unwrap();
    shop.wait_target(&mut host, "SELECT count(*) FROM orders", &id.to_string())
        .unwrap();
    host.terminate().unwrap();
    shop.source("INSERT INTO orders VALUES (100001)").unwrap();
    replayed(&standby, 100_001);
    standby.promote().unwrap();
    standby.sql("source", "INSERT INTO orders VALUES (100002)").unwrap();
    shop.once(&at(&shop, &standby), 0).unwrap();
    let there = "SELECT count(*) || ' ' || max(id) FROM orders";
    assert_eq!(shop.target(there).unwrap(), format!("{} 100002", id + 2));
}
