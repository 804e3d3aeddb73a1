//! Versions that break after they took over: no row is lost, the version before comes back and stays, and people are
//! told why.

use rowmill_tests::{Host, Shop, free_port, tag, tagger, trapping_tagger};

const ABI: i32 = 0x1_0000;
const TAG: u8 = 3;
/// Rows in a batch on which the bad version breaks.
const TOO_MANY: u32 = 2;
const TABLES: &str = "CREATE TABLE events (id bigint PRIMARY KEY, txn bigint, n int, tag text);";

fn pipeline(shop: &Shop, port: u16) -> String {
    let rest = "reload: { settle: 0ms, interval: 0ms, probation: 300s }
plugins:
  tagger: { module: tagger.wasm }
routes:
  - { tables: [public.events], plugins: [tagger], sinks: [warehouse] }";
    shop.pipeline_of("public.events", rest)
        .replace("console: off", &format!("console: 127.0.0.1:{port}"))
}

fn install(shop: &Shop, module: &[u8]) {
    let new = shop.folder().join("tagger.wasm.new");
    std::fs::write(&new, module).unwrap();
    std::fs::rename(&new, shop.folder().join("tagger.wasm")).unwrap();
}

fn insert(shop: &Shop, from: u64, rows: u64) {
    let sql =
        format!("INSERT INTO events SELECT n, {from}, 0, 'raw' FROM generate_series({from}, {from} + {rows} - 1) n");
    shop.source(&sql).unwrap();
}

fn wait_tag(shop: &Shop, host: &mut Host, id: u64, number: u64) {
    let query = format!("SELECT tag FROM events WHERE id = {id}");
    shop.wait_target(host, &query, &tag(number)).unwrap();
}

fn wait_log(shop: &Shop, host: &mut Host, words: &str, times: usize) {
    let path = shop.folder().join("log");
    shop.wait_for(host, words, || {
        Ok(std::fs::read_to_string(&path)?.matches(words).count() >= times)
    })
    .unwrap();
}

#[test]
fn a_version_that_breaks_on_a_later_row_is_rolled_back_and_stays_away() {
    let shop = Shop::with(TABLES).unwrap();
    let port = free_port().unwrap();
    let pipeline = pipeline(&shop, port);
    install(&shop, &tagger(1, TAG, ABI).unwrap());
    let mut host = Host::run(shop.folder(), &pipeline).unwrap();
    // One by one, behind the copy: what the rehearsal sees has one row each.
    wait_log(&shop, &mut host, "\"streaming\"", 1);
    for id in 1..=5 {
        insert(&shop, id, 1);
        wait_tag(&shop, &mut host, id, 1);
    }

    // Small transactions go well, in the rehearsal too.
    install(&shop, &trapping_tagger(2, TAG, TOO_MANY).unwrap());
    wait_log(&shop, &mut host, "a new version of the route's plugins counts", 1);
    insert(&shop, 10, 1);
    wait_tag(&shop, &mut host, 10, 2);

    // The first one of two rows doesn't: it has the version before, and so has what follows.
    insert(&shop, 1_000, 2);
    insert(&shop, 2_000, 2_000);
    let count = "SELECT count(*), count(*) FILTER (WHERE tag = 'v00001') FROM events WHERE id >= 1000";
    shop.wait_target(&mut host, count, "2002|2002").unwrap();
    wait_log(&shop, &mut host, "the new version broke on its probation", 1);
    let log = host.log();
    assert!(log.contains("an order without tax id"), "{log}");
    assert!(log.contains("src/lib.rs:42:9"), "{log}");
    let console = format!("127.0.0.1:{port}");
    let list = || {
        Host::command(shop.folder(), &["plugin", "list", "--console", &console], 0)
            .unwrap()
            .0
    };
    let listed = list();
    assert!(
        listed.contains("running since") && listed.contains("refused"),
        "{listed}"
    );
    assert!(listed.contains("an order without tax id"), "{listed}");

    // A restart finds the bad file and leaves it alone.
    host.kill().unwrap();
    let mut host = Host::run(shop.folder(), &pipeline).unwrap();
    insert(&shop, 50_000, 1);
    wait_tag(&shop, &mut host, 50_000, 1);
    wait_log(&shop, &mut host, "still holds the version that was set aside", 1);

    // Another file is another version.
    install(&shop, &tagger(3, TAG, ABI).unwrap());
    wait_log(&shop, &mut host, "a new version of the route's plugins counts", 2);
    insert(&shop, 50_001, 1_000);
    wait_tag(&shop, &mut host, 50_001, 3);
    assert!(list().contains("on probation"), "{}", list());

    // And somebody may go back from it.
    let (told, _) = Host::command(
        shop.folder(),
        &["plugin", "rollback", "tagger", "--console", &console],
        0,
    )
    .unwrap();
    assert!(told.contains("again"), "{told}");
    insert(&shop, 60_000, 1);
    wait_tag(&shop, &mut host, 60_000, 1);

    // Nothing was lost, and no transaction met two versions.
    let rows = "SELECT count(*) FROM events";
    let expected = shop.source(rows).unwrap();
    shop.wait_target(&mut host, rows, &expected).unwrap();
    let mixed = "SELECT count(*) FROM (SELECT txn FROM events GROUP BY txn HAVING count(DISTINCT tag) <> 1) t";
    assert_eq!(shop.target(mixed).unwrap(), "0");
    host.terminate().unwrap();
}
