//! What a row costs natively, and that a steady state allocates nothing: `cargo run --example row_cost`.

use rowmill_plugin::guest::Plugin;
use rowmill_plugin::prelude::*;
use rowmill_plugin::row;
use rowmill_plugin::testing::{self, MockHost, Sample};
use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

const ROWS: usize = 1_024;
const BATCHES: u32 = 2_000;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

struct Counting;

// SAFETY: passes everything on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

mod narrow {
    use super::*;

    #[filter(read(status))]
    pub fn paid_only(row: &Row) -> Result<bool> {
        Ok(row.text("status")? == Some("paid"))
    }
}

mod wide {
    use super::*;

    #[filter(read(id, customer, status, email, phone, total, note))]
    pub fn dear(row: &Row) -> Result<bool> {
        Ok(row.int("total")? > Some(1_000) && row.text("status")? == Some("paid"))
    }
}

mod patching {
    use super::*;

    #[transform(read(email), write(email))]
    pub fn redact(row: &Row, patch: &mut Patch) -> Result<()> {
        if row.text("email")?.is_some() {
            patch.set("email", "***");
        }
        Ok(())
    }
}

fn samples() -> Vec<Sample> {
    (0..ROWS as i64)
        .map(|id| {
            row! {
                id: id,
                customer: id * 7,
                status: if id % 3 == 0 { "paid" } else { "open" },
                email: format!("customer{id}@example.org"),
                phone: "+49 30 1234567",
                total: id * 100,
                note: "leave it at the door, please, and ring the bell twice",
            }
        })
        .collect()
}

fn measure<P: Plugin>(name: &str, host: &mut MockHost<P>) -> Result<()> {
    let batch = host.encode(&samples())?;
    host.call(&batch);
    let allocations = ALLOCATIONS.load(Ordering::Relaxed);
    let start = Instant::now();
    for _ in 0..BATCHES {
        black_box(host.call(black_box(&batch)));
    }
    let ns = start.elapsed().as_nanos() as f64 / (f64::from(BATCHES) * ROWS as f64);
    let allocations = ALLOCATIONS.load(Ordering::Relaxed) - allocations;
    println!("{name}: {ns:.1} ns per row, {allocations} allocations in {BATCHES} batches");
    assert_eq!(allocations, 0, "a steady state allocates nothing");
    Ok(())
}

fn main() -> Result<(), String> {
    let run = || {
        measure(
            "filter, 1 of 7 columns shipped",
            &mut testing::filter::<narrow::paid_only>(),
        )?;
        measure(
            "filter, 7 columns shipped, 2 read",
            &mut testing::filter::<wide::dear>(),
        )?;
        measure(
            "transform, 1 column shipped and set",
            &mut testing::transform::<patching::redact>(),
        )
    };
    run().map_err(|error: Error| error.to_string())
}
