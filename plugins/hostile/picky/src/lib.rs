//! For tests: adds one to `n`, and breaks on the rows whose `kind` says how.

use rowmill_plugin::prelude::*;
use std::hint::black_box;

#[transform(read(kind, n), write(n))]
fn picky(row: &Row, patch: &mut Patch) -> Result<()> {
    match row.text("kind")? {
        Some("panic") => panic!("no price list has an entry for this row"),
        Some("loop") => loop {
            black_box(());
        },
        Some("memory") => {
            let mut hoard: Vec<Vec<u8>> = Vec::new();
            loop {
                hoard.push(black_box(vec![1; 1 << 20]));
            }
        }
        Some("overflow") => {
            black_box(deeper(1));
        }
        Some("bounds") => {
            let prices = black_box([1u64; 4]);
            black_box(prices[black_box(4)]);
        }
        Some("reject") => return Err(Error::new("rows of this kind are not sold")),
        _ => {}
    }
    if let Some(n) = row.int("n")? {
        patch.set("n", n + 1);
    }
    Ok(())
}

#[expect(unconditional_recursion, reason = "that is the fault")]
fn deeper(depth: u64) -> u64 {
    black_box(depth) + deeper(black_box(depth + 1))
}
