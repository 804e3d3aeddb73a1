//! Host and target are killed in the midst of a copy into tables that were made without their keys.

use rowmill_tests::{Cluster, Host, LONG, Load, Random, Shop, wait_until};
use std::time::Duration;

/// Random keys; the second table changes while it is copied.
const TABLES: &str = "
    CREATE TABLE quiet (id uuid PRIMARY KEY, n int, what text NOT NULL);
    CREATE TABLE busy (id bigint PRIMARY KEY, n int, what text NOT NULL);
    INSERT INTO quiet SELECT gen_random_uuid(), n, 'a row' FROM generate_series(1, 30000) n;
    INSERT INTO busy SELECT n, n, 'a row' FROM generate_series(1, 30000) n;";

/// What the tables hold, and whether they have their keys.
const DIGEST: &str = "
    SELECT 'quiet', count(*), md5(string_agg(t::text, '|' ORDER BY t.id)) FROM quiet t
    UNION ALL SELECT 'busy', count(*), md5(string_agg(t::text, '|' ORDER BY t.id)) FROM busy t
    UNION ALL SELECT 'keys', count(*), '' FROM pg_index
        WHERE indisprimary AND indrelid IN ('quiet'::regclass, 'busy'::regclass)";

fn changes(writer: u64) -> impl FnMut() -> String + Send {
    let mut at = 0;
    move || {
        at += 1;
        // Each writer has keys of its own.
        let (id, new) = (15_000 * (writer - 1) + at * 7919 % 14_990, 100_000 * writer + at);
        format!(
            "UPDATE busy SET n = n + 1 WHERE id BETWEEN {id} AND {id} + 5; DELETE FROM busy WHERE id = {id};
             INSERT INTO busy VALUES ({new}, 0, 'new') ON CONFLICT (id) DO UPDATE SET n = busy.n + 1;
             SELECT pg_sleep(0.02)"
        )
    }
}

#[test]
fn a_copy_without_keys_is_killed_and_goes_on() {
    let shop = Shop::with("SELECT 1").unwrap();
    shop.cluster.script("source", TABLES).unwrap();
    let target = Cluster::start().unwrap();
    let mut random = Random::new(std::process::id().into());
    for round in 0..4 {
        let name = format!("round{round}");
        target.sql("postgres", &format!("CREATE DATABASE {name}")).unwrap();
        let pipeline = format!(
            "name: {name}
console: off
source:
  postgres:
    url: {}
    tables: [public.quiet, public.busy]
    snapshot: {{ mode: initial, connections: 2, unit_rows: 2000, rows_per_second: 20000 }}
routes: [{{ tables: [public.quiet, public.busy], sinks: [warehouse] }}]
sinks: {{ warehouse: {{ postgres: {{ url: {}, create_tables: true }} }} }}
",
            shop.cluster.url("source"),
            target.url(&name)
        );
        let load = Load::of(&shop.cluster, changes);
        let mut host = Host::run(shop.folder(), &pipeline).unwrap();
        wait_until("a table without its key", LONG, || {
            host.must_run()?;
            let due = "SELECT count(*) FROM rowmill.keys_due WHERE table_name LIKE '%quiet%'";
            Ok(matches!(target.sql(&name, due), Ok(count) if count == "1").then_some(()))
        })
        .map_err(|error| error.context(host.log()))
        .unwrap();
        // A moment, not a condition: this is when it happens to be killed.
        std::thread::sleep(Duration::from_millis(random.below(400)));
        if round % 2 == 0 {
            host.kill().unwrap();
            host = Host::run(shop.folder(), &pipeline).unwrap();
        } else {
            target.kill().unwrap();
            wait_until("the target is back", LONG, || target.start_server().map(Some)).unwrap();
        }
        load.stop();
        let source = shop.source(DIGEST).unwrap();
        wait_until("target equals source", 2 * LONG, || {
            host.must_run()?;
            let found = target.sql(&name, DIGEST)?;
            anyhow::ensure!(found == source, "source\n{source}\ntarget\n{found}");
            Ok(Some(()))
        })
        .map_err(|error| error.context(host.log()))
        .unwrap();
        host.terminate().unwrap();
        let due = target.sql(&name, "SELECT count(*) FROM rowmill.keys_due").unwrap();
        assert_eq!(due, "0");
    }
}
