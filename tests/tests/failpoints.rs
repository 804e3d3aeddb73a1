//! The host ends at each step of the flow, each n-th time that it comes there: nothing is lost, nothing twice.

use rowmill_tests::{Host, LONG, Lines, POINTS, Shop, Writers};
use std::os::unix::process::ExitStatusExt;

/// Which times: `ROWMILL_HITS=20` for the first twenty, else few enough for every day.
fn hits() -> Vec<u64> {
    let all = std::env::var("ROWMILL_HITS").ok().and_then(|text| text.parse().ok());
    all.map_or_else(|| vec![1, 3, 8], |last| (1..=last).collect())
}

/// H1: through the copy and the stream, into a target that stores its position and a file that has a manifest.
#[test]
fn h1_killed_at_each_point() {
    let shop = Shop::new().unwrap();
    shop.fill(5_000).unwrap();
    let pipeline = shop.pipeline_of(
        "public.orders, public.customers",
        "routes:
  - { tables: [public.orders, public.customers], sinks: [warehouse, feed] }",
    );
    let writers = Writers::start(&shop.cluster, "source", 2, 2).unwrap();
    let mut ends = 0;
    for point in POINTS {
        for hit in hits() {
            let mut host = Host::run_to(shop.folder(), &pipeline, point, hit).unwrap();
            let status = host
                .wait(LONG)
                .map_err(|error| error.context(format!("{point}:{hit}")))
                .unwrap();
            // SIGABRT, not an end of its own. Only builds with debug assertions have these points.
            assert_eq!(
                status.signal(),
                Some(libc::SIGABRT),
                "{point}:{hit}: {status}\n{}",
                host.log()
            );
            ends += 1;
        }
    }
    let mut host = Host::run(shop.folder(), &pipeline).unwrap();
    writers.stop().unwrap();
    shop.wait_equal(&mut host).unwrap();
    host.terminate().unwrap();
    let lines = Lines::read(&shop.folder().join("out/feed.jsonl")).unwrap();
    lines.streamed_once().unwrap();
    assert!(lines.rows.len() > 1_000, "{} lines only", lines.rows.len());
    println!("{ends} ends, {} lines", lines.rows.len());
}
