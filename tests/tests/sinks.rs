//! K1 to K17: what becomes of targets, of the way to them, and of the disk that files are on.

use anyhow::Result;
use rowmill_tests::{
    Cluster, Fault, Host, LONG, Lines, Proxy, Random, SHOP, Shop, SmallDisk, WATCH, WATCHED, Writers, wait_until,
};

/// Where the source is now.
fn position(shop: &Shop) -> String {
    shop.source("SELECT pg_current_wal_lsn()").unwrap()
}

/// Whether everything before this position is acknowledged.
fn is_acknowledged(shop: &Shop, position: &str) -> Result<bool> {
    Ok(shop.source(&format!(
        "SELECT confirmed_flush_lsn >= '{position}' FROM pg_replication_slots"
    ))? == "t")
}

/// K1: a target that is down at the start is waited for. The stream is open meanwhile, and nothing is acknowledged.
#[test]
fn k1_a_target_that_is_down_at_the_start() {
    let shop = Shop::new().unwrap();
    shop.fill(100).unwrap();
    Host::verb(shop.folder(), &shop.pipeline(), &["run", "--once"], 0).unwrap();
    shop.source("INSERT INTO customers VALUES (1, 'a', 'b', 'c')").unwrap();
    let behind_it = position(&shop);
    let proxy = Proxy::before_all(shop.cluster.port()).unwrap();
    proxy.set(Fault::Refuse);
    let mut host = Host::run(shop.folder(), &shop.target_behind(&proxy, &shop.pipeline())).unwrap();
    shop.wait_said(&mut host, "the sink failed and is opened again", 1)
        .unwrap();
    shop.wait_for(&mut host, "the stream is open", || {
        Ok(shop.source("SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'")? == "1")
    })
    .unwrap();
    assert!(!is_acknowledged(&shop, &behind_it).unwrap());
    proxy.set(Fault::Pass);
    shop.wait_equal(&mut host).unwrap();
    shop.wait_for(&mut host, "it is acknowledged", || is_acknowledged(&shop, &behind_it))
        .unwrap();
    host.terminate().unwrap();
}

/// K2, K3: connections to the target are cut in the midst of batches, and behind commits whose answers are lost. What was
/// applied isn't applied twice, which triggers at both sides tell.
#[test]
fn k2_k3_cut_in_batches_and_behind_commits() {
    let shop = Shop::with(SHOP).unwrap();
    shop.cluster.script("source", WATCH).unwrap();
    let target = Cluster::start().unwrap();
    target.script("postgres", SHOP).unwrap();
    target.script("postgres", WATCH).unwrap();
    let proxy = Proxy::before_all(target.port()).unwrap();
    let of_target = target
        .url("postgres")
        .replace(&target.port().to_string(), &proxy.port().to_string());
    let pipeline = shop.pipeline().replace(&shop.cluster.url("target"), &of_target);
    Host::verb(shop.folder(), &pipeline, &["run", "--once"], 0).unwrap();

    let writers = Writers::start(&shop.cluster, "source", 2, 5).unwrap();
    let mut host = Host::run(shop.folder(), &pipeline).unwrap();
    let seed = std::process::id().into();
    let mut random = Random::new(seed);
    for cut in 0..16 {
        let fault = match cut % 2 {
            0 => Fault::LoseReply,
            _ => Fault::CutAfter(1 + random.below(2_000)),
        };
        proxy.set(fault);
        shop.wait_for(&mut host, "the way is cut", || Ok(proxy.cuts() > cut))
            .unwrap();
    }
    writers.stop().unwrap();
    let source = shop.source(WATCHED).unwrap();
    shop.wait_for(&mut host, "target equals source", || {
        let found = target.sql("postgres", WATCHED)?;
        anyhow::ensure!(found == source, "seed {seed}\nsource\n{source}\ntarget\n{found}");
        Ok(true)
    })
    .unwrap();
    host.terminate().unwrap();
}

/// K4: while a target stands still the walsender is answered, for four times as long as it waits; nothing is acknowledged
/// meanwhile, and memory doesn't grow with what waits.
#[test]
fn k4_a_target_that_stands_still() {
    let shop = Shop::new().unwrap();
    shop.source("ALTER SYSTEM SET wal_sender_timeout = '2s'").unwrap();
    shop.source("SELECT pg_reload_conf()").unwrap();
    let proxy = Proxy::before_all(shop.cluster.port()).unwrap();
    let mut host = Host::run(shop.folder(), &shop.target_behind(&proxy, &shop.pipeline())).unwrap();
    shop.source("INSERT INTO customers VALUES (1, 'a', 'b', 'c')").unwrap();
    shop.wait_equal(&mut host).unwrap();
    let walsender = || shop.source("SELECT string_agg(pid::text, ' ') FROM pg_stat_replication");
    let one = walsender().unwrap();
    proxy.set(Fault::Swallow);
    shop.source("INSERT INTO customers VALUES (2, 'a', 'b', 'c')").unwrap();
    let behind_it = position(&shop);
    let writers = Writers::start(&shop.cluster, "source", 1, 20).unwrap();
    let since = shop.source("SELECT now()").unwrap();
    shop.wait_for(&mut host, "the walsender is answered", || {
        let late = format!("SELECT reply_time > '{since}'::timestamptz + interval '8 s' FROM pg_stat_replication");
        Ok(shop.source(&late)? == "t")
    })
    .unwrap();
    assert_eq!(walsender().unwrap(), one);
    assert!(!is_acknowledged(&shop, &behind_it).unwrap());
    writers.stop().unwrap();
    proxy.set(Fault::Pass);
    shop.wait_equal(&mut host).unwrap();
    assert_eq!(walsender().unwrap(), one);
    host.terminate().unwrap();
}

/// K7: a target whose table isn't what it was stops the sink, with table, position and reason, and without a value. Once the
/// table is mended, nothing is missing.
#[test]
fn k7_a_target_whose_table_is_another() {
    let shop = Shop::new().unwrap();
    Host::verb(shop.folder(), &shop.pipeline(), &["run", "--once"], 0).unwrap();
    let changes = [
        ("ADD more int NOT NULL", "DROP more", "E0410"),
        ("ALTER status TYPE varchar(3)", "ALTER status TYPE text", "E0410"),
        ("RENAME email TO mail", "RENAME mail TO email", "E04"),
        (
            "ALTER total TYPE numeric(3,2)",
            "ALTER total TYPE numeric(12,2)",
            "E0410",
        ),
        (
            "ADD CONSTRAINT small CHECK (total < 10)",
            "DROP CONSTRAINT small",
            "E0410",
        ),
    ];
    for (row, (broken, mended, code)) in changes.into_iter().enumerate() {
        shop.target(&format!("ALTER TABLE orders {broken}")).unwrap();
        shop.source(&format!(
            "INSERT INTO orders VALUES ({row}, 1, 'secret-status', 'secret@example.com', 987654.32)"
        ))
        .unwrap();
        let (_, told) = Host::verb(shop.folder(), &shop.pipeline(), &["run", "--once"], 6).unwrap();
        assert!(told.contains(code) && told.contains("orders"), "{broken}: {told}");
        assert!(!told.contains("secret") && !told.contains("987654"), "{broken}: {told}");
        shop.target(&format!("ALTER TABLE orders {mended}")).unwrap();
        Host::verb(shop.folder(), &shop.pipeline(), &["run", "--once"], 0).unwrap();
        assert_eq!(
            shop.digest("source").unwrap(),
            shop.digest("target").unwrap(),
            "{broken}"
        );
        // The next change of the table finds it empty.
        shop.source("DELETE FROM orders").unwrap();
        Host::verb(shop.folder(), &shop.pipeline(), &["run", "--once"], 0).unwrap();
    }
}

/// K8: a file on a disk that is full waits for room; a line that was begun isn't left.
#[test]
fn k8_a_file_on_a_full_disk() {
    let shop = Shop::new().unwrap();
    let disk = match SmallDisk::mount(&shop.folder().join("out"), 8 << 20) {
        Ok(disk) => disk,
        Err(error) => return println!("skipped, only root mounts disks: {error:#}"),
    };
    let pipeline = shop.pipeline_of(
        "public.orders, public.customers",
        "routes:
  - { tables: [public.orders, public.customers], sinks: [feed] }",
    );
    // The copies, of nothing: what is written beside them may come by both ways.
    Host::verb(shop.folder(), &pipeline, &["run", "--once"], 0).unwrap();
    let mut host = Host::run(shop.folder(), &pipeline).unwrap();
    let feed = shop.folder().join("out/feed.jsonl");
    let has = |id: i64| Ok(Lines::read(&feed).is_ok_and(|lines| lines.rows.iter().any(|row| row["new"]["id"] == id)));
    shop.source("INSERT INTO customers VALUES (1, 'a', 'b', 'c')").unwrap();
    shop.wait_for(&mut host, "the first line", || has(1)).unwrap();
    disk.fill().unwrap();
    shop.source("INSERT INTO customers SELECT n, 'a', 'b', repeat('c', 100) FROM generate_series(2, 1000) n")
        .unwrap();
    let behind_it = position(&shop);
    shop.wait_said(&mut host, "the sink failed and is opened again", 1)
        .unwrap();
    assert!(!is_acknowledged(&shop, &behind_it).unwrap());
    disk.free().unwrap();
    shop.wait_for(&mut host, "all lines", || has(1000)).unwrap();
    host.terminate().unwrap();
    let lines = Lines::read(&feed).unwrap();
    lines.streamed_once().unwrap();
    let of_file = std::fs::read(&feed).unwrap();
    assert!(of_file.ends_with(b"\n"));
    assert_eq!(lines.rows.len(), 1000);
}

/// K14: of two sinks one is down: the other goes on, and only what both have is acknowledged.
#[test]
fn k14_one_of_two_sinks_is_down() {
    let shop = Shop::new().unwrap();
    let proxy = Proxy::before_all(shop.cluster.port()).unwrap();
    let pipeline = shop.pipeline_of(
        "public.orders, public.customers",
        "routes:
  - { tables: [public.orders, public.customers], sinks: [warehouse, feed] }",
    );
    let mut host = Host::run(shop.folder(), &shop.target_behind(&proxy, &pipeline)).unwrap();
    let feed = shop.folder().join("out/feed.jsonl");
    shop.source("INSERT INTO customers VALUES (1, 'a', 'b', 'c')").unwrap();
    shop.wait_equal(&mut host).unwrap();
    proxy.set(Fault::Refuse);
    shop.source("INSERT INTO customers VALUES (2, 'a', 'b', 'c')").unwrap();
    let behind_it = position(&shop);
    shop.wait_for(&mut host, "the file goes on", || {
        Ok(Lines::read(&feed)?.rows.iter().any(|row| row["new"]["id"] == 2))
    })
    .unwrap();
    shop.wait_said(&mut host, "the sink failed and is opened again", 1)
        .unwrap();
    assert!(!is_acknowledged(&shop, &behind_it).unwrap());
    proxy.set(Fault::Pass);
    shop.wait_equal(&mut host).unwrap();
    shop.wait_for(&mut host, "both have it", || is_acknowledged(&shop, &behind_it))
        .unwrap();
    host.terminate().unwrap();
    Lines::read(&feed).unwrap().streamed_once().unwrap();
}

/// K16: a transaction that the target gives up for the sake of another (40001, 40P01) is applied again, as a whole.
#[test]
fn k16_the_target_gives_transactions_up() {
    let shop = Shop::new().unwrap();
    // A sequence isn't rolled back: it counts the tries.
    shop.cluster
        .script(
            "target",
            "CREATE SEQUENCE tries;
             CREATE FUNCTION give_up() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                 CASE nextval('public.tries')
                     WHEN 1 THEN RAISE EXCEPTION 'could not serialize access' USING ERRCODE = '40001';
                     WHEN 2 THEN RAISE EXCEPTION 'deadlock detected' USING ERRCODE = '40P01';
                     ELSE RETURN NEW;
                 END CASE; END $$;
             CREATE TRIGGER give_up BEFORE INSERT ON customers FOR EACH ROW EXECUTE FUNCTION give_up();
             ALTER TABLE customers ENABLE ALWAYS TRIGGER give_up;",
        )
        .unwrap();
    let mut host = Host::run(shop.folder(), &shop.pipeline()).unwrap();
    shop.source("BEGIN; INSERT INTO orders VALUES (1, 1); INSERT INTO customers VALUES (1, 'a', 'b', 'c'); COMMIT")
        .unwrap();
    shop.wait_equal(&mut host).unwrap();
    host.terminate().unwrap();
    assert!(shop.said("40001") > 0 && shop.said("40P01") > 0, "{}", shop.log());
}

/// K17: a target that shows times and numbers in its own way gets the values that the source has.
#[test]
fn k17_a_target_with_settings_of_its_own() {
    let shop = Shop::with(
        "CREATE TABLE times (id int PRIMARY KEY, at timestamptz, here timestamp, day date, long interval, size float8, bytes bytea)",
    )
    .unwrap();
    for setting in [
        "timezone = 'Asia/Kathmandu'",
        "datestyle = 'SQL, DMY'",
        "intervalstyle = 'sql_standard'",
        "extra_float_digits = -3",
        "bytea_output = 'escape'",
    ] {
        shop.target(&format!("ALTER DATABASE target SET {setting}")).unwrap();
    }
    let rows = |from: u32| {
        format!(
            "INSERT INTO times SELECT {from} + n, '2024-03-31 00:30:00+00'::timestamptz + n * interval '7 h', '2024-02-29 13:00:00',
             '2024-04-05', '-1 year +2 mons -3 days +04:05:06.7', 0.1::float8 / (n + 3), '\\x00ff10'
             FROM generate_series(1, 50) n"
        )
    };
    shop.source(&rows(0)).unwrap();
    let pipeline = shop.pipeline_of(
        "public.times",
        "routes:\n  - { tables: [public.times], sinks: [warehouse] }",
    );
    let mut host = Host::run(shop.folder(), &pipeline).unwrap();
    shop.source(&rows(100)).unwrap();
    let all = "SET timezone = 'UTC'; SET datestyle = 'ISO'; SET intervalstyle = 'iso_8601'; SET extra_float_digits = 3;
               SET bytea_output = 'hex'; SELECT string_agg(t::text, '|' ORDER BY id) FROM times t";
    let source = shop.source(all).unwrap();
    wait_until("target equals source", LONG, || {
        host.must_run()?;
        Ok((shop.target(all)? == source).then_some(()))
    })
    .map_err(|error| error.context(shop.target(all).unwrap_or_default()))
    .unwrap();
    host.terminate().unwrap();
}

/// A slow way to the target slows everything down, and nothing else.
#[test]
fn k4_a_way_that_is_slow() {
    let shop = Shop::new().unwrap();
    let proxy = Proxy::before_all(shop.cluster.port()).unwrap();
    let mut host = Host::run(shop.folder(), &shop.target_behind(&proxy, &shop.pipeline())).unwrap();
    shop.source("INSERT INTO customers VALUES (1, 'a', 'b', 'c')").unwrap();
    shop.wait_equal(&mut host).unwrap();
    proxy.set(Fault::Bandwidth(2_000));
    let writers = Writers::start(&shop.cluster, "source", 2, 5).unwrap();
    wait_until("writes", LONG, || Ok((writers.transactions() > 200).then_some(()))).unwrap();
    writers.stop().unwrap();
    proxy.set(Fault::Pass);
    shop.wait_equal(&mut host).unwrap();
    host.terminate().unwrap();
}
