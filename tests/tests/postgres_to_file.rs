//! Snapshot, then stream, into a file: whoever applies its lines in order gets the source's tables.

use anyhow::{Result, ensure};
use rowmill_tests::{Host, LONG, Lines, Random, Shop, Writers, wait_until};
use serde_json::Value;
use std::path::PathBuf;
use std::time::Duration;

const ROUTES: &str = "routes:
  - { tables: [public.orders, public.customers], sinks: [feed] }";

fn pipeline(shop: &Shop) -> String {
    shop.pipeline_of("public.orders, public.customers", ROUTES)
}

fn feed(shop: &Shop) -> PathBuf {
    shop.folder().join("out/feed.jsonl")
}

/// The source's rows as the lines tell them: a numeric is a text.
fn source_rows(shop: &Shop, table: &str) -> Result<Vec<Value>> {
    let columns = match table {
        "orders" => {
            "'id', id, 'customer', customer, 'status', status, 'email', email, 'total', total::text, 'big', big"
        }
        _ => "'id', id, 'email', email, 'phone', phone, 'note', note",
    };
    let rows = shop.source(&format!(
        "SELECT jsonb_build_object({columns}) FROM {table} ORDER BY id"
    ))?;
    Ok(rows.lines().map(serde_json::from_str).collect::<Result<_, _>>()?)
}

/// Waits until the replayed lines are the source's rows, one by one.
fn wait_replayed(shop: &Shop, host: &mut Host) -> Result<()> {
    let expected = [source_rows(shop, "orders")?, source_rows(shop, "customers")?];
    shop.wait_for(host, "the lines give the source", || {
        let mut tables = Lines::read(&feed(shop))?.replay()?;
        for (name, expected) in ["orders", "customers"].into_iter().zip(&expected) {
            let found = tables.remove(name).unwrap_or_default();
            ensure!(
                found.len() == expected.len(),
                "{name}: {} of {} rows",
                found.len(),
                expected.len()
            );
            for (found, expected) in found.into_values().zip(expected) {
                let found = Value::Object(found);
                ensure!(found == *expected, "{name}\nsource {expected}\nlines  {found}");
            }
        }
        Ok(true)
    })
}

#[test]
fn snapshot_then_stream_to_a_file() {
    let shop = Shop::new().unwrap();
    shop.fill(20_000).unwrap();
    let writers = Writers::start(&shop.cluster, "source", 3, 1).unwrap();
    let mut host = Host::run(shop.folder(), &pipeline(&shop)).unwrap();
    shop.wait_for(&mut host, "the copy is there", || {
        let lines = Lines::read(&feed(&shop))?;
        Ok(lines.rows.iter().filter(|row| row["op"] == "read").count() >= 20_000)
    })
    .unwrap();
    for round in 0..3 {
        let before = writers.transactions();
        wait_until("more writes", LONG, || {
            Ok((writers.transactions() > before + 200).then_some(()))
        })
        .unwrap();
        if round == 1 {
            shop.source("TRUNCATE customers").unwrap();
        }
        host.terminate().unwrap();
        host = Host::run(shop.folder(), &pipeline(&shop)).unwrap();
    }
    writers.stop().unwrap();
    wait_replayed(&shop, &mut host).unwrap();
    host.terminate().unwrap();
    let lines = Lines::read(&feed(&shop)).unwrap();
    lines.streamed_once().unwrap();
    let truncates = lines.rows.iter().filter(|row| row["op"] == "truncate");
    assert_eq!(truncates.count(), 1);
}

/// Killed from its start-up through the copy into the stream; after every kill the manifest holds what it says.
#[test]
fn killed_while_writing_a_file() {
    let shop = Shop::new().unwrap();
    shop.fill(20_000).unwrap();
    let writers = Writers::start(&shop.cluster, "source", 2, 2).unwrap();
    let mut random = Random::new(std::process::id().into());
    for _ in 0..10 {
        let host = Host::run(shop.folder(), &pipeline(&shop)).unwrap();
        // A moment, not a condition: this is when it happens to be killed.
        std::thread::sleep(Duration::from_millis(random.below(1500)));
        host.kill().unwrap();
        if feed(&shop).exists() {
            Lines::read(&feed(&shop)).unwrap().streamed_once().unwrap();
        }
    }
    let mut host = Host::run(shop.folder(), &pipeline(&shop)).unwrap();
    writers.stop().unwrap();
    wait_replayed(&shop, &mut host).unwrap();
    host.terminate().unwrap();
    Lines::read(&feed(&shop)).unwrap().streamed_once().unwrap();
}
