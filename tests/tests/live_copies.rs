//! Copies that begin while the stream runs: it goes on for all other tables, on the connection that it had.

use anyhow::{Context, Result, ensure};
use rowmill_tests::{BEAT, Beat, Host, LONG, Lines, Load, Random, Shop, free_port, is_copied};
use std::collections::HashMap;
use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

/// A table beside the one that beats, one without a key, and one that nobody streams yet.
fn tables() -> String {
    let table = |name: &str| {
        format!(
            "CREATE TABLE {name} (id bigint PRIMARY KEY, version bigint, big text);
             ALTER TABLE {name} ALTER big SET STORAGE EXTERNAL;"
        )
    };
    let keyless = "CREATE TABLE notes (n bigint, v text); ALTER TABLE notes REPLICA IDENTITY FULL;";
    let versions = "CREATE SEQUENCE versions;";
    format!("{versions}{BEAT}{keyless}{}{}", table("shelf"), table("later"))
}

const ROUTES: &str = "routes:\n  - { tables: ['public.*'], sinks: [warehouse, feed] }";

/// Whatever an adopted publication of all but `later` has goes everywhere.
fn pipeline(shop: &Shop, port: u16) -> String {
    shop.source("CREATE PUBLICATION mine FOR TABLE beat, shelf, notes")
        .unwrap();
    let pipeline = shop.pipeline_of("public.beat", ROUTES);
    Shop::with_console(
        &pipeline.replace("tables: [public.beat]\n", "publication: mine\n"),
        port,
    )
}

fn fill(shop: &Shop, table: &str, rows: u32) -> Result<()> {
    let big = "CASE WHEN n % 10 = 0 THEN repeat('x', 3000) ELSE 'small' END";
    shop.source(&format!(
        "INSERT INTO {table} SELECT n, 0, {big} FROM generate_series(1, {rows}) n"
    ))?;
    Ok(())
}

fn wait_equal(shop: &Shop, host: &mut Host, table: &str) {
    let digest = format!("SELECT count(*), md5(string_agg(t::text, '|' ORDER BY t::text)) FROM {table} t");
    shop.wait_target(host, &digest, &shop.source(&digest).unwrap()).unwrap();
}

fn resync(shop: &Shop, table: &str) {
    Host::verb_of(shop.folder(), &["resync", table], 0).unwrap();
}

/// The server's process that streams to the host.
fn walsender(shop: &Shop) -> Result<String> {
    let pid = shop.source("SELECT active_pid FROM pg_replication_slots WHERE slot_name LIKE 'rowmill%'")?;
    ensure!(!pid.is_empty(), "nobody streams");
    Ok(pid)
}

/// Rows of the table that beats come, so many more.
fn goes_on(shop: &Shop, host: &mut Host, beat: &Beat, more: usize) {
    let before = beat.count();
    shop.wait_for(host, "the others go on", || Ok(beat.count() >= before + more))
        .unwrap();
}

#[test]
fn the_stream_of_the_others_never_stops() {
    let shop = Shop::with(&tables()).unwrap();
    for table in ["shelf", "later"] {
        fill(&shop, table, 5000).unwrap();
    }
    shop.source("INSERT INTO notes SELECT n % 50, 'twice' FROM generate_series(1, 100) n")
        .unwrap();
    let mut host = Host::run(shop.folder(), &pipeline(&shop, free_port().unwrap())).unwrap();
    wait_equal(&shop, &mut host, "shelf");
    wait_equal(&shop, &mut host, "notes");
    let beat = Beat::start(&shop);
    goes_on(&shop, &mut host, &beat, 1);
    let connection = walsender(&shop).unwrap();

    // The copy is held up, and nothing else is.
    for table in ["shelf", "notes"] {
        let meddled = match table {
            "shelf" => "DELETE FROM shelf WHERE id % 2 = 0; INSERT INTO shelf VALUES (-1, -1, 'never there')",
            _ => "INSERT INTO notes VALUES (-1, 'never there')",
        };
        shop.target(meddled).unwrap();
        Host::verb_of(shop.folder(), &["copy", "pause"], 0).unwrap();
        resync(&shop, &format!("public.{table}"));
        shop.wait_target(&mut host, &format!("SELECT count(*) FROM {table}"), "0")
            .unwrap();
        goes_on(&shop, &mut host, &beat, 20);
        assert_eq!(shop.target(&format!("SELECT count(*) FROM {table}")).unwrap(), "0");
        Host::verb_of(shop.folder(), &["copy", "resume"], 0).unwrap();
        wait_equal(&shop, &mut host, table);
    }

    // One that has come waits for who has changed it unseen by the stream, and what came without all of its values
    // meanwhile waits with it.
    let unseen = "UPDATE later SET version = 1 WHERE id = 1";
    let held = shop.cluster.hold("source", unseen).unwrap();
    shop.source("ALTER PUBLICATION mine ADD TABLE later").unwrap();
    shop.wait_said(&mut host, "copied beside the running stream", 3)
        .unwrap();
    shop.source("UPDATE later SET id = -id, version = 2 WHERE id = 10")
        .unwrap();
    goes_on(&shop, &mut host, &beat, 20);
    held.commit().unwrap();
    wait_equal(&shop, &mut host, "later");
    shop.source("UPDATE later SET version = 3 WHERE id < 100; DELETE FROM later WHERE id = 7")
        .unwrap();
    wait_equal(&shop, &mut host, "later");
    // Asked for again while it is being copied: the last one counts.
    Host::verb_of(shop.folder(), &["copy", "pause"], 0).unwrap();
    for _ in 0..2 {
        shop.target(
            "INSERT INTO shelf VALUES (-1, -1, 'never there'); INSERT INTO later VALUES (-1, -1, 'never there')",
        )
        .unwrap();
        resync(&shop, "public.shelf");
        resync(&shop, "public.later");
        let rows = "SELECT (SELECT count(*) FROM shelf) + (SELECT count(*) FROM later)";
        shop.wait_target(&mut host, rows, "0").unwrap();
    }
    goes_on(&shop, &mut host, &beat, 20);
    Host::verb_of(shop.folder(), &["copy", "resume"], 0).unwrap();
    wait_equal(&shop, &mut host, "shelf");
    wait_equal(&shop, &mut host, "later");

    assert_eq!(walsender(&shop).unwrap(), connection, "{}", host.log());
    assert_eq!(host.log().matches("\"streaming\"").count(), 1, "{}", host.log());
    drop(beat);
    host.terminate().unwrap();
    Lines::read(&shop.folder().join("out/feed.jsonl"))
        .unwrap()
        .streamed_once()
        .unwrap();
}

/// A table without a key is in the publication some seconds before a session knows of it: what the stream brings of it
/// meanwhile is delivered, and comes with its copy as well. It is there once all the same, though the host is killed before.
#[test]
fn what_was_streamed_of_a_keyless_table_before_its_copy_is_there_once() {
    let shop = Shop::with(&tables()).unwrap();
    let came = ["diary", "ledger"];
    for table in came {
        for database in ["source", "target"] {
            let table = format!("CREATE TABLE {table} (n bigint, v text); ALTER TABLE {table} REPLICA IDENTITY FULL");
            shop.cluster.sql(database, &table).unwrap();
        }
    }
    let pipeline = pipeline(&shop, free_port().unwrap());
    let mut host = Host::run(shop.folder(), &pipeline).unwrap();
    wait_equal(&shop, &mut host, "notes");
    let insert = |table: &str, v: &str| {
        let rows = format!("INSERT INTO {table} SELECT n % 20, '{v}' FROM generate_series(1, 40) n");
        shop.source(&rows).unwrap();
    };
    for table in came {
        insert(table, "before");
        shop.source(&format!("ALTER PUBLICATION mine ADD TABLE {table}"))
            .unwrap();
        insert(table, "behind");
        // Streamed, unless the session has looked in between.
        let at_least = format!("SELECT count(*) >= 40 FROM {table} WHERE v = 'behind'");
        shop.wait_target(&mut host, &at_least, "t").unwrap();
        if table == "ledger" {
            host.kill().unwrap();
            host = Host::run(shop.folder(), &pipeline).unwrap();
        }
        let both = format!("SELECT count(*) >= 80 FROM {table}");
        shop.wait_target(&mut host, &both, "t").unwrap();
        wait_equal(&shop, &mut host, table);
        insert(table, "later");
        wait_equal(&shop, &mut host, table);
    }
    host.terminate().unwrap();
}

#[test]
fn a_table_that_the_file_names_later_joins_where_a_route_takes_it() {
    let shop = Shop::with(&tables()).unwrap();
    fill(&shop, "later", 3000).unwrap();
    // By its primary key its rows are known, though all columns identify them: the decoder learns that with the table.
    shop.source("ALTER TABLE later REPLICA IDENTITY FULL").unwrap();
    let pipeline = shop.pipeline_of("public.beat", ROUTES);
    let pipeline = Shop::with_console(&pipeline, free_port().unwrap());
    let mut host = Host::run(shop.folder(), &pipeline).unwrap();
    let beat = Beat::start(&shop);
    goes_on(&shop, &mut host, &beat, 1);
    let connection = walsender(&shop).unwrap();
    let more = pipeline.replace("tables: [public.beat]", "tables: [public.beat, public.later]");
    assert_ne!(more, pipeline);
    shop.reload(&more).unwrap();
    wait_equal(&shop, &mut host, "later");
    shop.source("UPDATE later SET version = 3 WHERE id < 100; DELETE FROM later WHERE id = 7")
        .unwrap();
    wait_equal(&shop, &mut host, "later");
    assert_eq!(walsender(&shop).unwrap(), connection, "{}", host.log());
    // It can be copied again as any other.
    shop.target("DELETE FROM later").unwrap();
    resync(&shop, "public.later");
    wait_equal(&shop, &mut host, "later");
    assert_eq!(walsender(&shop).unwrap(), connection, "{}", host.log());
    drop(beat);
    host.terminate().unwrap();
}

/// One writer's transaction: keys come, change, change their place and go, with large values that updates leave alone.
/// The version is drawn while the key is locked, so that for each key it only grows, in the order of commits.
fn transaction(random: &mut Random, keys: u64) -> String {
    let mut sql = String::from("BEGIN;");
    for _ in 0..=random.below(4) {
        let (id, to) = (random.below(keys) + 1, random.below(keys) + 1);
        let lock = |id: u64| format!("SELECT pg_advisory_xact_lock({id});");
        let version = "nextval('versions')";
        sql += &lock(id.min(to));
        sql += &lock(id.max(to));
        sql += &match random.below(10) {
            0..=2 => format!(
                "INSERT INTO shelf VALUES ({id}, {version}, repeat('y', {})) ON CONFLICT DO NOTHING;",
                random.below(2) * 3000
            ),
            3..=6 => format!("UPDATE shelf SET version = {version} WHERE id = {id};"),
            7 | 8 => format!(
                "UPDATE shelf SET id = {to}, version = {version} WHERE id = {id}
                 AND NOT EXISTS (SELECT FROM shelf WHERE id = {to});"
            ),
            _ => format!("DELETE FROM shelf WHERE id = {id};"),
        };
    }
    sql + if random.below(10) == 0 { "ROLLBACK" } else { "COMMIT" }
}

/// Fails where a key shows an older value behind a newer one; what empties a table begins it anew.
fn never_goes_back(lines: &Lines) -> Result<()> {
    let mut newest: HashMap<i64, i64> = HashMap::new();
    for row in &lines.rows {
        if row["op"] == "truncate" {
            newest.clear();
        }
        if row["table"] != "shelf" {
            continue;
        }
        let Some(id) = row["new"]["id"].as_i64() else { continue };
        let version = row["new"]["version"].as_i64().context("a version")?;
        let last = newest.entry(id).or_default();
        ensure!(version >= *last, "behind version {last}: {row}");
        *last = version;
    }
    Ok(())
}

fn killed(kills: u32) {
    let keys = 4000;
    let shop = Shop::with(&tables()).unwrap();
    fill(&shop, "shelf", keys).unwrap();
    let pipeline = pipeline(&shop, free_port().unwrap()).replace("unit_rows: 2000", "unit_rows: 200");
    let mut host = Host::run(shop.folder(), &pipeline).unwrap();
    wait_equal(&shop, &mut host, "shelf");
    let of_writer = |first: u64| {
        let mut random = Random::new(first);
        move || transaction(&mut random, u64::from(keys) * 2)
    };
    // Two writers each: eight.
    let loads = (0..4_u64).map(|at| Load::of(&shop.cluster, move |number| of_writer(at * 2 + number)));
    let loads: Vec<Load> = loads.collect();
    let mut random = Random::new(std::process::id().into());
    for round in 0..kills {
        shop.target("INSERT INTO shelf VALUES (-1, -1, 'never there') ON CONFLICT DO NOTHING")
            .unwrap();
        shop.wait_for(&mut host, "the host answers", || {
            Ok(Host::verb_of(shop.folder(), &["resync", "public.shelf"], 0).is_ok())
        })
        .unwrap();
        // A moment, not a condition: this is when it happens to be killed.
        std::thread::sleep(Duration::from_millis(random.below(1500)));
        host.kill().unwrap();
        if round % 4 == 1 {
            shop.source("TRUNCATE shelf").unwrap();
        }
        host = Host::run(shop.folder(), &pipeline).unwrap();
    }
    // And once without.
    shop.wait_for(&mut host, "the host answers", || {
        Ok(Host::verb_of(shop.folder(), &["resync", "public.shelf"], 0).is_ok())
    })
    .unwrap();
    loads.into_iter().for_each(Load::stop);
    wait_equal(&shop, &mut host, "shelf");
    host.terminate().unwrap();
    let lines = Lines::read(&shop.folder().join("out/feed.jsonl")).unwrap();
    lines.streamed_once().unwrap();
    never_goes_back(&lines).unwrap();
}

#[test]
fn copied_again_under_eight_writers_the_target_ends_as_the_source_though_the_host_is_killed() {
    killed(3);
}

/// `ROWMILL_KILLS` says how often; 20 unless given.
#[test]
#[ignore = "a minute: `cargo xtask nightly` runs it"]
fn the_same_with_many_kills() {
    let kills = std::env::var("ROWMILL_KILLS").ok();
    killed(kills.map_or(20, |kills| kills.parse().expect("ROWMILL_KILLS is a number")));
}

#[test]
fn killed_between_ledger_and_stream_the_copy_is_made_good() {
    let shop = Shop::with(&tables()).unwrap();
    fill(&shop, "shelf", 3000).unwrap();
    let pipeline = pipeline(&shop, free_port().unwrap());
    for point in ["after_copy_planned", "after_copy_joined"] {
        let mut host = Host::run_to(shop.folder(), &pipeline, point, 1).unwrap();
        wait_equal(&shop, &mut host, "shelf");
        shop.target("DELETE FROM shelf WHERE id % 2 = 0; INSERT INTO shelf VALUES (-1, -1, 'never there')")
            .unwrap();
        resync(&shop, "public.shelf");
        let status = host.wait(LONG).unwrap();
        assert_eq!(
            status.signal(),
            Some(libc::SIGABRT),
            "{point}: {status}\n{}",
            host.log()
        );
        shop.source("UPDATE shelf SET version = version + 1 WHERE id % 5 = 0")
            .unwrap();
        let mut host = Host::run(shop.folder(), &pipeline).unwrap();
        wait_equal(&shop, &mut host, "shelf");
        host.terminate().unwrap();
    }
}

/// Prints how long the stream of another table pauses.
#[test]
#[ignore = "a measurement, for a machine that does nothing else"]
fn how_long_the_others_wait() {
    let shop = Shop::with(&tables()).unwrap();
    fill(&shop, "shelf", 200_000).unwrap();
    fill(&shop, "later", 200_000).unwrap();
    let port = free_port().unwrap();
    let mut host = Host::run(shop.folder(), &pipeline(&shop, port)).unwrap();
    wait_equal(&shop, &mut host, "shelf");
    let beat = Beat::start(&shop);
    let around = |what: &str, host: &mut Host, act: &dyn Fn(&Shop)| {
        goes_on(&shop, host, &beat, 200);
        let (begun, before) = (Instant::now(), walsender(&shop).unwrap());
        act(&shop);
        goes_on(&shop, host, &beat, 800);
        let kept = match walsender(&shop).unwrap() == before {
            true => "the same",
            false => "another",
        };
        println!("{what}: longest gap {:?}, {kept} connection", beat.longest_gap(begun));
    };
    around("nothing", &mut host, &|_| {});
    around("resync", &mut host, &|shop| {
        shop.target("UPDATE shelf SET version = -1 WHERE id % 2 = 0").unwrap();
        resync(shop, "public.shelf");
    });
    around("ADD TABLE", &mut host, &|shop| {
        shop.source("ALTER PUBLICATION mine ADD TABLE later").unwrap();
    });
    wait_equal(&shop, &mut host, "shelf");
    wait_equal(&shop, &mut host, "later");
    around("config", &mut host, &|shop| {
        let text = std::fs::read_to_string(shop.folder().join("pipeline.yaml")).unwrap();
        shop.reload(&text.replace("1MiB", "2MiB")).unwrap();
    });
    host.terminate().unwrap();
}

/// A target takes its time to be emptied, and before it says so the table is truncated at the source: it isn't copied once
/// more at each start from then on.
#[test]
fn a_truncate_behind_the_emptying_leaves_the_copy_recorded() {
    let shop = Shop::new().unwrap();
    shop.fill(100).unwrap();
    let port = free_port().unwrap();
    let pipeline = Shop::with_console(&shop.pipeline(), port);
    let mut host = Host::run(shop.folder(), &pipeline).unwrap();
    shop.wait_equal(&mut host).unwrap();
    let held = shop.cluster.hold("target", "LOCK TABLE orders").unwrap();
    Host::verb_of(shop.folder(), &["copy", "pause"], 0).unwrap();
    resync(&shop, "public.orders");
    shop.wait_target(
        &mut host,
        "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'orders'::regclass",
        "1",
    )
    .unwrap();
    shop.source("TRUNCATE orders; INSERT INTO orders (id, status) VALUES (1, 'new'), (2, 'new')")
        .unwrap();
    shop.wait_said(&mut host, "truncated while it was copied", 1).unwrap();
    Host::verb_of(shop.folder(), &["copy", "resume"], 0).unwrap();
    held.release().unwrap();
    shop.wait_equal(&mut host).unwrap();
    shop.wait_for(&mut host, "the copy is through", || is_copied(port))
        .unwrap();
    host.terminate().unwrap();
    shop.target("UPDATE orders SET status = 'of the target'").unwrap();
    shop.source("INSERT INTO customers (id) VALUES (7)").unwrap();
    Host::verb(shop.folder(), &pipeline, &["run", "--once"], 0).unwrap();
    let found = "SELECT count(*) FROM orders WHERE status = 'of the target'";
    assert_eq!(shop.target(found).unwrap(), "2", "it was copied once more");
}

/// A table gets a name that another route takes as well, and a session comes by that because another table is copied again. The
/// sink of that route gets the rows, and the one that had them gets none of them once more.
#[test]
fn a_table_that_is_renamed_into_a_route_comes_to_its_sink_alone() {
    let shop = Shop::with(&tables()).unwrap();
    fill(&shop, "shelf", 500).unwrap();
    fill(&shop, "later", 50).unwrap();
    shop.target("ALTER TABLE shelf RENAME TO archive").unwrap();
    let routes = "routes:
  - { tables: ['public.*'], sinks: [feed] }
  - { tables: [public.beat, 'public.archive*'], sinks: [warehouse] }";
    let port = free_port().unwrap();
    let pipeline = Shop::with_console(&shop.pipeline_of("'public.*'", routes), port);
    let mut host = Host::run(shop.folder(), &pipeline).unwrap();
    let is_through = |what: &str, host: &mut Host, reads: usize| {
        let waited = shop.wait_for(host, what, || {
            let metrics = rowmill_tests::get(port, "/metrics")?.1;
            let copying = metrics.lines().find(|line| line.starts_with("rowmill_copying"));
            let feed = Lines::read(&shop.folder().join("out/feed.jsonl"))?;
            let rows = feed.rows.iter().filter(|row| row["op"] == "read").count();
            Ok(copying.is_some_and(|line| line.ends_with(" 0")) && rows >= reads)
        });
        waited.unwrap();
    };
    is_through("the first copy", &mut host, 550);
    shop.source("ALTER TABLE shelf RENAME TO archive").unwrap();
    shop.source("INSERT INTO archive VALUES (0, 0, 'behind')").unwrap();
    shop.wait_target(
        &mut host,
        "SELECT string_agg(big, ' ') FROM archive WHERE id = 0",
        "behind",
    )
    .unwrap();
    resync(&shop, "public.later");
    wait_equal(&shop, &mut host, "archive");
    is_through("the other table", &mut host, 600);
    let log = host.log();
    host.terminate().unwrap();
    let feed = Lines::read(&shop.folder().join("out/feed.jsonl")).unwrap();
    let of_shelf =
        |row: &&serde_json::Value| row["op"] == "read" && (row["table"] == "shelf" || row["table"] == "archive");
    assert_eq!(feed.rows.iter().filter(of_shelf).count(), 500, "{log}");
}
