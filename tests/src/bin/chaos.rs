//! `cargo xtask chaos`: the seed, the minutes, and `json` where the report is for a program. It ends with 1 on a
//! violation.

use anyhow::{Context, Result};
use std::process::ExitCode;
use std::time::Duration;

fn main() -> Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [seed, minutes, output] = &arguments[..] else {
        anyhow::bail!("chaos SEED MINUTES human|json: run it by `cargo xtask chaos`");
    };
    let seed = seed.parse().context("the seed is a number")?;
    let minutes: f64 = minutes.parse().context("the minutes are a number")?;
    // Standard output is the report's alone.
    let mut say = |line: &str| eprintln!("{line}");
    let report = rowmill_tests::chaos::run(seed, Duration::from_secs_f64(minutes * 60.0), &mut say)?;
    if output == "json" {
        println!("{}", serde_json::to_string_pretty(&report.to_json())?);
    } else {
        println!("{}", report.to_text());
    }
    let is_clean = report.violations.is_empty();
    Ok(if is_clean { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
