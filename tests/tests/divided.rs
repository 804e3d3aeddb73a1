//! A plugin that keeps something of each key, on several lanes: every total is right at both sinks, after kill -9 at any
//! moment and with another number of lanes at each start.

use anyhow::{Result, ensure};
use rowmill_tests::{Columns, Host, Keeps, LONG, Lines, Load, Random, Shop, totals, wait_until};
use std::time::Duration;

/// Each start has another number of lanes than the one before.
const LANES: [usize; 5] = [4, 1, 3, 2, 4];
const COLUMNS: Columns = Columns {
    customer: 0,
    amount: 2,
    total: 4,
};
/// `sum` is what `total` has to be.
const TABLES: &str = "
    CREATE TABLE accounts (id bigint PRIMARY KEY, n bigint, amount bigint, sum bigint, total bigint);
";

fn pipeline(shop: &Shop, lanes: usize) -> String {
    let rest = "plugins:
  each: { module: each.wasm }
routes:
  - { tables: [public.accounts], plugins: [each], sinks: [warehouse, feed] }";
    let pipeline = shop.pipeline_of("public.accounts", rest);
    assert!(pipeline.contains("lanes: 2"), "{pipeline}");
    pipeline.replace("lanes: 2", &format!("lanes: {lanes}"))
}

/// Eight accounts of each writer; some of their transactions roll back.
fn update(writer: u64, random: &mut Random) -> String {
    let first = (writer - 1) * 8;
    let mut sql = String::from("BEGIN;");
    for _ in 0..=random.below(6) {
        let (id, amount) = (first + random.below(8), random.below(600));
        sql.push_str(&format!(
            "UPDATE accounts SET n = n + 1, amount = {amount}, sum = sum + {amount} WHERE id = {id};"
        ));
    }
    sql.push_str(if random.below(10) == 0 { "ROLLBACK" } else { "COMMIT" });
    sql
}

fn wait_right(shop: &Shop, host: &mut Host) -> Result<()> {
    let digest = "SELECT count(*), sum(n), md5(string_agg((id, n, amount, sum)::text, '|' ORDER BY id)) FROM accounts";
    shop.wait_target(host, digest, &shop.source(digest)?)?;
    let wrong = "SELECT count(*) FROM accounts WHERE total <> sum";
    ensure!(shop.target(wrong)? == "0", "{}", shop.target("TABLE accounts")?);
    let changes: usize = shop.source("SELECT count(*) + sum(n) FROM accounts")?.parse()?;
    wait_until("the file has each change", LONG, || {
        let lines = Lines::read(&shop.folder().join("out/feed.jsonl"))?;
        for row in &lines.rows {
            ensure!(row["new"]["total"] == row["new"]["sum"], "{row}");
        }
        lines.streamed_once()?;
        Ok((lines.rows.len() >= changes).then_some(()))
    })
}

#[test]
fn totals_by_key_are_right_after_kills_and_with_any_number_of_lanes() {
    let shop = Shop::with(TABLES).unwrap();
    std::fs::write(
        shop.folder().join("each.wasm"),
        totals(Keeps::Each, COLUMNS, 1).unwrap(),
    )
    .unwrap();
    // Once on the empty table, so that nothing is left to be copied.
    Host::verb(shop.folder(), &pipeline(&shop, 1), &["run", "--once"], 0).unwrap();
    shop.source("INSERT INTO accounts SELECT id, 0, id, id, 0 FROM generate_series(0, 15) id")
        .unwrap();
    let load = Load::of(&shop.cluster, |writer| {
        let mut random = Random::new(writer);
        move || update(writer, &mut random)
    });
    let mut random = Random::new(5);
    for lanes in LANES {
        let host = Host::run(shop.folder(), &pipeline(&shop, lanes)).unwrap();
        std::thread::sleep(Duration::from_millis(300 + random.below(1000)));
        host.kill().unwrap();
    }
    load.stop();
    // Batches that are worth several threads, too.
    shop.source(
        "DO $$ BEGIN FOR at IN 1..300 LOOP
             UPDATE accounts SET n = n + 1, amount = at, sum = sum + at;
         END LOOP; END $$",
    )
    .unwrap();
    let mut host = Host::run(shop.folder(), &pipeline(&shop, 3)).unwrap();
    wait_right(&shop, &mut host).unwrap();
    host.terminate().unwrap();
}
