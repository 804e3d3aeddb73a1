//! Dead letters of plugins that keep something: whatever is set aside, sent again and killed in between, each change
//! counts once in the end.

use rowmill_tests::{Columns, Host, Keeps, LONG, Load, POISON, Random, Shop, free_port, totals_breaking};
use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

const COLUMNS: Columns = Columns {
    customer: 1,
    amount: 2,
    total: 3,
};
const CUSTOMERS: u64 = 16;
/// `log` has an entry for each change of an amount. It isn't published.
const TABLES: &str = "
    CREATE TABLE purchases (id bigint PRIMARY KEY, customer bigint, amount bigint, total bigint);
    CREATE TABLE log (customer bigint, amount bigint);
";
/// What a row of no amount shows of each customer.
const TOTALS: &str = "SELECT string_agg(customer || '=' || total, ' ' ORDER BY customer) FROM purchases WHERE id < 0";
const EXPECTED: &str = "SELECT string_agg(customer || '=' || amount, ' ' ORDER BY customer)
    FROM (SELECT customer, sum(amount) AS amount FROM log GROUP BY customer) t";
const ROWS: &str = "SELECT count(*), md5(string_agg((id, customer, amount)::text, '|' ORDER BY id)) FROM purchases";

/// Puts a plugin into place that breaks on this amount.
fn install(shop: &Shop, poison: i64) {
    let module = totals_breaking(Keeps::EachInOne, COLUMNS, 1, poison).unwrap();
    shop.install("totals", &module).unwrap();
}

fn pipeline(shop: &Shop, lanes: u32) -> String {
    let rest = "reload: { settle: 20ms, interval: 50ms, probation: 0s }
plugins:
  totals: { module: totals.wasm, max_faults: 100000 }
routes:
  - { tables: [public.purchases], plugins: [totals], sinks: [warehouse] }";
    let pipeline = Shop::with_console(&shop.pipeline_of("public.purchases", rest), free_port().unwrap());
    pipeline.replace("lanes: 2", &format!("lanes: {lanes}"))
}

/// New purchases and changes of those made last, some of which are poison.
fn load(shop: &Shop) -> Load {
    shop.source("INSERT INTO log SELECT customer, 0 FROM generate_series(0, 15) customer")
        .unwrap();
    Load::of(&shop.cluster, |writer| {
        let mut random = Random::new(writer);
        let mut id = writer * 1_000_000_000;
        move || {
            let mut sql = String::from("BEGIN;");
            for _ in 0..=random.below(5) {
                let amount = match random.below(12) {
                    0 => POISON as u64,
                    _ => random.below(600),
                };
                sql.push_str(&match random.below(3) {
                    0 => {
                        id += 1;
                        let customer = random.below(CUSTOMERS);
                        format!(
                            "INSERT INTO purchases VALUES ({id}, {customer}, {amount}, 0);
                             INSERT INTO log VALUES ({customer}, {amount});"
                        )
                    }
                    _ => {
                        let changed = id - random.below(4).min(id % 1_000_000_000);
                        format!(
                            "WITH changed AS (UPDATE purchases SET amount = {amount} WHERE id = {changed} RETURNING customer)
                             INSERT INTO log SELECT customer, {amount} FROM changed;"
                        )
                    }
                });
            }
            sql.push_str("COMMIT");
            sql
        }
    })
}

/// With a plugin that breaks on nothing, everything has arrived and each change was counted once. There may be much to be
/// caught up with: it is waited for as long as rows come.
fn wait_right(shop: &Shop, host: &mut Host) {
    let rows = shop.source(ROWS).unwrap();
    loop {
        let before = shop.target(ROWS).unwrap();
        let waited = shop.wait_for(host, "all rows and no letter", || {
            let left = shop.letters()?.len();
            if left > 0 {
                shop.replay_all()?;
            }
            Ok(left == 0 && shop.target(ROWS)? == rows)
        });
        if waited.is_ok() || host.ended().unwrap().is_some() || shop.target(ROWS).unwrap() == before {
            waited.unwrap();
            break;
        }
    }
    shop.source("INSERT INTO purchases SELECT -1 - customer, customer, 0, 0 FROM generate_series(0, 15) customer")
        .unwrap();
    shop.wait_target(host, TOTALS, &shop.source(EXPECTED).unwrap()).unwrap();
}

fn has_letter(shop: &Shop, host: &mut Host) {
    shop.wait_for(host, "a letter", || Ok(!shop.letters()?.is_empty()))
        .unwrap();
}

#[test]
fn each_change_counts_once_whatever_is_set_aside_sent_again_and_killed() {
    for lanes in [1, 3] {
        let shop = Shop::with(TABLES).unwrap();
        install(&shop, POISON);
        let pipeline = pipeline(&shop, lanes);
        Host::verb(shop.folder(), &pipeline, &["run", "--once"], 0).unwrap();
        let load = load(&shop);
        let mut random = Random::new(u64::from(lanes));
        let mut set_aside = 0;
        for turn in 0..10 {
            let mut host = Host::run(shop.folder(), &pipeline).unwrap();
            // Turns in which the plugin breaks: these kills meet letters, whatever the time that follows.
            if turn == 0 || turn == 6 {
                has_letter(&shop, &mut host);
            }
            // Long enough to come to the stream at times, short enough not to at others.
            std::thread::sleep(Duration::from_millis(300 + random.below(900)));
            host.kill().unwrap();
            set_aside += shop.letters().unwrap().len();
            if turn % 2 == 0 {
                // Some are sent again while the plugin breaks on them, others when it doesn't.
                install(&shop, if turn % 4 == 0 { 1_000_000 } else { POISON });
                shop.replay_all().unwrap();
            } else {
                install(&shop, POISON);
            }
        }
        assert!(set_aside > 0);
        load.stop();
        install(&shop, 1_000_000);
        let mut host = Host::run(shop.folder(), &pipeline).unwrap();
        wait_right(&shop, &mut host);
        host.terminate().unwrap();
    }
}

/// The letters have a file of their own: the host ends behind each of the first stored positions, among them the one that
/// is stored with what the letters have made of the state.
#[test]
fn a_letter_counts_once_where_the_host_ends_before_its_file_knows() {
    let shop = Shop::with(TABLES).unwrap();
    install(&shop, POISON);
    let pipeline = pipeline(&shop, 1);
    Host::verb(shop.folder(), &pipeline, &["run", "--once"], 0).unwrap();
    let load = load(&shop);
    for hit in 1..=6 {
        install(&shop, POISON);
        let sessions = shop.said("\"streaming\"");
        let mut host = Host::run(shop.folder(), &pipeline).unwrap();
        // One that has only just been started doesn't know yet how to end in order.
        shop.wait_streaming(&mut host, sessions + 1).unwrap();
        has_letter(&shop, &mut host);
        // All that was in front of the letters is at the target.
        host.terminate().unwrap();
        install(&shop, 1_000_000);
        shop.replay_all().unwrap();
        let mut host = Host::run_to(shop.folder(), &pipeline, "after_checkpoint", hit).unwrap();
        let status = host.wait(LONG).unwrap();
        assert_eq!(status.signal(), Some(libc::SIGABRT), "{hit}: {status}\n{}", host.log());
    }
    load.stop();
    let mut host = Host::run(shop.folder(), &pipeline).unwrap();
    wait_right(&shop, &mut host);
    host.terminate().unwrap();
}
