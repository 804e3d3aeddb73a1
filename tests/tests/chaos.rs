//! A few rounds of chaos for every day; `cargo xtask chaos` goes on for as long as one likes.

use std::time::Duration;

/// A seed whose first rounds have cuts, kills, a stop and a restart.
const SEED: u64 = 1;
const TIME: Duration = Duration::from_secs(15);

#[test]
fn a_few_rounds_break_no_rule() {
    let report = rowmill_tests::chaos::run(SEED, TIME, &mut |line| println!("{line}")).unwrap();
    println!("{}", report.to_text());
    assert_eq!(report.violations, [""; 0], "seed {SEED}");
    assert!(report.samples > 10, "{} samples of positions", report.samples);
    assert!(report.arrivals > 4_000, "{} arrivals", report.arrivals);
}
