//! What the host itself costs per row. Not a benchmark: a figure to look at while working on this folder.
//! `cargo test --release -p rowmill -- --ignored --nocapture plugin::tests::speed`

use super::*;
use std::time::Instant;

const ROWS: usize = 1_000;
const ROUNDS: usize = 2_000;

#[test]
#[ignore = "a measurement"]
fn filter_and_patch() {
    let columns: Vec<(String, u32, bool)> = (0..7)
        .map(|at| (format!("c{at}"), if at == 0 { INT4 } else { TEXT }, at == 0))
        .collect();
    let columns: Vec<_> = columns
        .iter()
        .map(|(name, oid, key)| (name.as_str(), *oid, *key))
        .collect();
    let relation = table(&columns);
    let verdict = arr(&[i(0), bin(&[0xff; ROWS / 8]), nil()]);
    let patches: Vec<_> = (0..ROWS as i64)
        .map(|image| patch(image, 2, s("a***@example.org")))
        .collect();
    let versions = [
        filter(wishes(&[1], &[], None), verdict).version("filter").unwrap(),
        transform(wishes(&[2], &[2], None), actions(&patches))
            .version("mask")
            .unwrap(),
    ];
    let mut chain = Chain::new(&ENGINE, &versions, FilterMode::Membership, Mode::Live).unwrap();
    let mut batch = batch(&relation);
    let values: &[&str] = &[
        "12345",
        "paid",
        "alice@example.org",
        "2024-01-01",
        "12.50",
        "x",
        "some longer text",
    ];
    let all: Vec<Row> = (0..ROWS)
        .map(|_| row(&mut batch, Op::Insert, None, Some(values)))
        .collect();
    let (cells, arena) = (batch.cells.len(), batch.arena.len());
    let mut rows = Vec::new();
    let mut least = u128::MAX;
    for _ in 0..ROUNDS {
        batch.cells.truncate(cells);
        batch.arena.truncate(arena);
        rows.clear();
        rows.extend_from_slice(&all);
        let started = Instant::now();
        chain.process(&mut batch, &mut rows, &mut Processed::default()).unwrap();
        least = least.min(started.elapsed().as_nanos());
        assert_eq!(rows.len(), ROWS);
    }
    // The best round, since the others say more of the machine's load.
    println!(
        "filter and mask, host alone: {:.1} ns per row",
        least as f64 / ROWS as f64
    );
}
