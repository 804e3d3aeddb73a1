//! A copy that was cut off goes on after a restart: what it reads goes through the version that counts now, though what is
//! streamed again meets the one before.

use rowmill_tests::{Host, Shop, tag, tagger, wait_until};

const ABI: i32 = 0x1_0000;
const TAG: u8 = 3;
const TABLES: &str = "CREATE TABLE events (id bigint PRIMARY KEY, txn bigint, n int, tag text);";
const REST: &str = "plugins:
  tagger: { module: tagger.wasm }
routes:
  - { tables: [public.events], plugins: [tagger], sinks: [warehouse] }";
/// There at the first start.
const COPIED: u64 = 200_000;
/// Written while the host is down, in transactions of a few rows: between any two of them a copied unit could go out.
const STREAMED: u64 = 200_000;

#[test]
fn a_copy_goes_on_after_a_restart_with_the_new_version() {
    let shop = Shop::with(TABLES).unwrap();
    let insert = |rows: &str| format!("INSERT INTO events SELECT n, 1, 0, 'raw' FROM generate_series({rows}) n");
    shop.source(&insert(&format!("1, {COPIED}"))).unwrap();
    let module = shop.folder().join("tagger.wasm");
    std::fs::write(&module, tagger(1, TAG, ABI).unwrap()).unwrap();
    let pipeline = shop.pipeline_of("public.events", REST);
    let mut host = Host::run(shop.folder(), &pipeline).unwrap();
    let count = |filter: &str| -> u64 {
        let query = format!("SELECT count(*) FROM events WHERE {filter}");
        shop.target(&query).unwrap().parse().unwrap()
    };
    wait_until("the copy has begun", rowmill_tests::LONG, || {
        host.must_run()?;
        Ok((count("tag = 'v00001'") > 0).then_some(()))
    })
    .unwrap();
    host.kill().unwrap();
    let before = count("true");
    assert!(before < COPIED, "the copy had ended before the kill");

    std::fs::write(&module, tagger(2, TAG, ABI).unwrap()).unwrap();
    let many = insert("1000000 + 20 * i, 1000019 + 20 * i");
    let last = STREAMED / 20 - 1;
    shop.source(&format!(
        "DO $$ BEGIN FOR i IN 0..{last} LOOP {many}; COMMIT; END LOOP; END $$"
    ))
    .unwrap();
    let mut host = Host::run(shop.folder(), &pipeline).unwrap();
    let rows = (COPIED + STREAMED).to_string();
    shop.wait_target(&mut host, "SELECT count(*) FROM events", &rows)
        .unwrap();
    // What counted stays as it is; all else has the new form.
    let old = count(&format!("id <= {COPIED} AND tag = '{}'", tag(1)));
    let new = count(&format!("id <= {COPIED} AND tag = '{}'", tag(2)));
    assert!(
        old <= before,
        "{old} rows have the old form, {before} had it at the kill"
    );
    assert_eq!(old + new, COPIED);
    host.terminate().unwrap();
}
