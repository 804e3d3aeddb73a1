//! A target that isn't what the source was: what happens, and the ways out.

use rowmill_tests::{Host, Shop, free_port, get};

/// The shop with a row at the target that the source doesn't have, and the position at which both have one.
fn conflict(settings: &str) -> (Shop, String, i32) {
    let shop = Shop::new().unwrap();
    shop.fill(10).unwrap();
    let target = format!("warehouse: {{ postgres: {{ url: {} ", shop.cluster.url("target"));
    let pipeline = shop.pipeline();
    let pipeline = pipeline.replace(
        &format!("{target}}} }}"),
        &format!("{target}, flush_interval: 50ms {settings} }} }}"),
    );
    assert!(pipeline.contains("50ms"), "{pipeline}");
    Host::verb(shop.folder(), &pipeline, &["run", "--once"], 0).unwrap();
    shop.target("INSERT INTO orders (id, status, email) VALUES (5, 'theirs', 'somebody@example.com')")
        .unwrap();
    shop.source("INSERT INTO orders (id, status) VALUES (4, 'before')")
        .unwrap();
    let conflicting = "BEGIN; INSERT INTO customers (id) VALUES (4);
        INSERT INTO orders (id, status, email) VALUES (5, 'ours', 'secret@example.com');
        INSERT INTO customers (id) VALUES (5); COMMIT";
    shop.cluster.script("source", conflicting).unwrap();
    shop.source("INSERT INTO orders (id, status) VALUES (6, 'behind')")
        .unwrap();
    let code = if settings.is_empty() { 6 } else { 0 };
    (shop, pipeline, code)
}

fn found(shop: &Shop) -> String {
    shop.target(
        "SELECT string_agg(id || ' ' || status, ', ' ORDER BY id) || '; ' || (SELECT count(*) FROM customers WHERE id < 9)
         FROM orders WHERE id < 9",
    )
    .unwrap()
}

#[test]
fn k5_by_default_the_sink_stops_and_the_transaction_can_be_skipped() {
    let (shop, pipeline, code) = conflict("");
    // As often as it is tried: nothing loops in silence.
    let (_, first) = Host::verb(shop.folder(), &pipeline, &["run", "--once"], code).unwrap();
    let (_, again) = Host::verb(shop.folder(), &pipeline, &["run", "--once"], code).unwrap();
    for text in [&first, &again] {
        assert!(text.contains("E0414") && text.contains("orders_pkey"), "{text}");
        assert!(!text.contains("secret") && !text.contains("somebody"), "{text}");
    }
    // Nothing of the transaction is there, and what came before it is.
    assert_eq!(found(&shop), "4 before, 5 theirs; 0");

    let (_, behind) = first.split_once("rowmill skip warehouse --to ").unwrap();
    let position: String = behind
        .chars()
        .take_while(|letter| !matches!(letter, '`' | ' '))
        .collect();
    let skip = |to: &str, code| Host::verb_of(shop.folder(), &["skip", "warehouse", "--to", to], code).unwrap();
    assert!(skip("FFFF/0", 2).1.contains("E0415"));
    assert!(skip(&position, 0).0.contains("won't be applied"));
    assert!(skip(&position, 2).1.contains("E0415"));
    Host::verb(shop.folder(), &pipeline, &["run", "--once"], 0).unwrap();
    assert_eq!(found(&shop), "4 before, 5 theirs, 6 behind; 0");
}

/// Of a transaction everything else is there, and the row itself once the target takes it.
#[test]
fn a_row_that_the_sink_cannot_take_is_set_aside_alone() {
    let (shop, pipeline, code) = conflict("");
    let once = |code| Host::verb(shop.folder(), &pipeline, &["run", "--once"], code).unwrap();
    let verb = |arguments: &[&str], code| Host::verb_of(shop.folder(), arguments, code).unwrap();
    let (_, told) = once(code);
    let (_, behind) = told.split_once("rowmill dead-letter add warehouse ").unwrap();
    let id = behind.split('`').next().unwrap();
    let add = ["dead-letter", "add", "warehouse", id];
    let strange = id.replacen(|digit| digit != '0', "0", 1);
    for (sink, row) in [("warehouse", strange.as_str()), ("elsewhere", id)] {
        let (_, told) = verb(&["dead-letter", "add", sink, row], 2);
        assert!(told.contains("E0806"), "{row}: {told}");
    }
    assert!(verb(&add, 0).0.contains("is set aside when it comes again"));
    assert!(
        verb(&["dead-letter", "list"], 0)
            .0
            .contains("sink warehouse can't take it")
    );
    once(0);
    assert_eq!(found(&shop), "4 before, 5 theirs, 6 behind; 2");

    // Its letter is there, and later changes of its key wait.
    let (listed, _) = verb(&["dead-letter", "list"], 0);
    assert!(
        listed.contains("refused: sink warehouse can't take it") && listed.contains("1 dead letter"),
        "{listed}"
    );
    assert!(verb(&add, 2).1.contains("E0806"));
    shop.source("UPDATE orders SET status = 'later' WHERE id = 5").unwrap();
    shop.source("UPDATE orders SET status = 'changed' WHERE id = 6")
        .unwrap();
    once(0);
    assert_eq!(found(&shop), "4 before, 5 theirs, 6 changed; 2");

    shop.target("DELETE FROM orders WHERE id = 5").unwrap();
    verb(&["dead-letter", "replay", "--all"], 0);
    once(0);
    assert_eq!(found(&shop), "4 before, 5 later, 6 changed; 2");
    assert!(verb(&["dead-letter", "list"], 0).0.contains("no dead letters"));
}

/// Sent again too early it stops the sink once, and not at each start.
#[test]
fn a_letter_that_the_sink_still_refuses_is_called_off() {
    let shop = Shop::new().unwrap();
    shop.fill(10).unwrap();
    let pipeline = shop.pipeline();
    let once = |code| Host::verb(shop.folder(), &pipeline, &["run", "--once"], code).unwrap();
    let verb = |arguments: &[&str]| Host::verb_of(shop.folder(), arguments, 0).unwrap();
    once(0);
    shop.target("ALTER TABLE orders ADD CONSTRAINT good CHECK (status <> 'bad')")
        .unwrap();
    shop.source("INSERT INTO orders (id, status) VALUES (4, 'bad'), (5, 'fine')")
        .unwrap();
    let (_, told) = once(6);
    assert!(told.contains("E0410"), "{told}");
    let (_, behind) = told.split_once("rowmill dead-letter add warehouse ").unwrap();
    verb(&["dead-letter", "add", "warehouse", behind.split('`').next().unwrap()]);
    once(0);
    assert_eq!(found(&shop), "5 fine; 0");

    verb(&["dead-letter", "replay", "--all"]);
    let (_, told) = once(6);
    assert!(
        told.contains("E0410") && told.contains("the next start doesn't send them"),
        "{told}"
    );
    once(0);
    assert_eq!(found(&shop), "5 fine; 0");
    shop.target("ALTER TABLE orders DROP CONSTRAINT good").unwrap();
    verb(&["dead-letter", "replay", "--all"]);
    once(0);
    assert_eq!(found(&shop), "4 bad, 5 fine; 0");
}

#[test]
fn skipped_changes_leave_the_rest_of_their_transaction() {
    let (shop, pipeline, code) = conflict(", conflict: skip");
    Host::verb(shop.folder(), &pipeline, &["run", "--once"], code).unwrap();
    assert_eq!(found(&shop), "4 before, 5 theirs, 6 behind; 2");
}

#[test]
fn overwritten_rows_are_the_sources() {
    let (shop, pipeline, code) = conflict(", conflict: overwrite");
    Host::verb(shop.folder(), &pipeline, &["run", "--once"], code).unwrap();
    assert_eq!(found(&shop), "4 before, 5 ours, 6 behind; 2");
}

#[test]
fn k6_an_upserting_sink_writes_rows_whether_they_are_there_or_not() {
    let (shop, pipeline, code) = conflict(", mode: upsert");
    shop.target("DELETE FROM orders WHERE id = 10000003").unwrap();
    shop.source("UPDATE orders SET status = 'changed' WHERE id = 10000003")
        .unwrap();
    Host::verb(shop.folder(), &pipeline, &["run", "--once"], code).unwrap();
    assert_eq!(found(&shop), "4 before, 5 ours, 6 behind; 2");
    assert_eq!(shop.digest("source").unwrap(), shop.digest("target").unwrap());
}

/// The console tells how much was passed over.
#[test]
fn what_is_passed_over_is_counted() {
    let (shop, pipeline, _) = conflict(", conflict: skip");
    let port = free_port().unwrap();
    let pipeline = pipeline.replace("console: off", &format!("console: {{ listen: 127.0.0.1:{port} }}"));
    let mut host = Host::run(shop.folder(), &pipeline).unwrap();
    shop.target("DELETE FROM orders WHERE id > 10000000").unwrap();
    shop.source("UPDATE orders SET status = 'gone' WHERE id BETWEEN 10000001 AND 10000003")
        .unwrap();
    let counted = |metrics: &str| {
        let has = |name: &str, count: u32| {
            metrics
                .lines()
                .any(|line| line.starts_with(name) && line.ends_with(&format!(" {count}")))
        };
        has("rowmill_sink_rows_missing_total", 3) && has("rowmill_sink_conflicts_total", 1)
    };
    shop.wait_for(&mut host, "counters", || Ok(counted(&get(port, "/metrics")?.1)))
        .unwrap();
    host.terminate().unwrap();
}
