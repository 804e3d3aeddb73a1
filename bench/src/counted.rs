//! One part run a few times between two marks that a profiler can see: `cargo xtask gate` counts the instructions.

use crate::parts;
use anyhow::Result;

/// Rounds that count. Several, so that what is done once in a while weighs little.
pub const ROUNDS: u64 = 4;

/// The profiler collects between this function's entry and its end.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn rowmill_counted(round: &mut Box<dyn FnMut()>) {
    for _ in 0..ROUNDS {
        round();
    }
}

pub fn run(name: &str) -> Result<()> {
    let (rows, mut round) = parts::make(name)?;
    round();
    rowmill_counted(&mut round);
    println!("{}", rows * ROUNDS);
    Ok(())
}

pub fn names() {
    for part in &parts::PARTS {
        println!("{}", part.name);
    }
}
